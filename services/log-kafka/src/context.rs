//! What librdkafka tells and asks: its log lines, its errors, and tokens.

use std::path::PathBuf;

use rdkafka::client::{ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::statistics::Statistics;

/// Whether an error only says that a broker is away. Each client says so each time that it tries one; whoever reads or appends says it once.
pub(crate) fn is_broker_away(error: &KafkaError) -> bool {
    matches!(
        error.rdkafka_error_code(),
        Some(
            RDKafkaErrorCode::AllBrokersDown
                | RDKafkaErrorCode::BrokerTransportFailure
                | RDKafkaErrorCode::OperationTimedOut
        )
    )
}

/// The context of every client of the log.
#[derive(Debug, Clone, Default)]
pub(crate) struct Talk {
    /// Where the current token stands.
    pub(crate) token_file: Option<PathBuf>,
}

impl ClientContext for Talk {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn log(&self, level: RDKafkaLogLevel, facility: &str, line: &str) {
        match level {
            RDKafkaLogLevel::Emerg
            | RDKafkaLogLevel::Alert
            | RDKafkaLogLevel::Critical
            | RDKafkaLogLevel::Error => tracing::error!(target: "librdkafka", facility, "{line}"),
            RDKafkaLogLevel::Warning => tracing::warn!(target: "librdkafka", facility, "{line}"),
            RDKafkaLogLevel::Notice | RDKafkaLogLevel::Info => {
                tracing::info!(target: "librdkafka", facility, "{line}")
            }
            RDKafkaLogLevel::Debug => tracing::debug!(target: "librdkafka", facility, "{line}"),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        // The end of a partition is asked for, and is how a page ends.
        if matches!(error, KafkaError::Global(RDKafkaErrorCode::PartitionEOF)) {
            return;
        }
        if is_broker_away(&error) {
            tracing::debug!(target: "librdkafka", error = crate::told(&error), "{reason}");
            return;
        }
        // What an operation comes to is told by the operation; this is what happens beside them.
        tracing::warn!(target: "librdkafka", error = crate::told(&error), "{reason}");
    }

    fn stats(&self, _statistics: Statistics) {}

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let Some(file) = &self.token_file else {
            return Err("oauthbearer_token_file is not set".into());
        };
        Ok(crate::token::read(file)?)
    }
}

impl ConsumerContext for Talk {}
