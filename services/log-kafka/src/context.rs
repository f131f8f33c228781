//! What librdkafka tells and asks: its log lines, its errors, and tokens.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use rdkafka::client::{Client, ClientContext, OAuthToken};
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};

use crate::Error;
use crate::bootstrap::WayBack;
use crate::settings::KafkaSettings;

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
#[derive(Debug, Clone)]
pub(crate) struct Talk {
    /// Where the current token stands.
    pub(crate) token_file: Option<PathBuf>,
    /// Why a broker was last found to be away: an operation that waits for one ends with no more than that its time is over.
    why_away: Arc<Mutex<Option<String>>>,
    /// For the client whose context this is.
    way_back: WayBack,
}

impl Talk {
    pub(crate) fn new(settings: &KafkaSettings) -> Result<Self, Error> {
        Ok(Self {
            token_file: settings.oauthbearer_token_file.clone(),
            why_away: Arc::default(),
            way_back: WayBack::new(&settings.bootstrap)?,
        })
    }

    /// The context of another client, which is not made yet.
    pub(crate) fn of_another(&self) -> Self {
        Self {
            way_back: self.way_back.of_another(),
            ..self.clone()
        }
    }

    /// Says whose context this is.
    pub(crate) fn of<C: ClientContext>(&self, client: &Client<C>) {
        self.way_back.of(client);
    }

    /// Adds to an error of an operation why its brokers are away, where a client was told.
    pub(crate) fn because(&self, error: Error) -> Error {
        let why_away = self.why_away.lock().unwrap_or_else(PoisonError::into_inner);
        match (error, &*why_away) {
            (Error::Unreachable(what), Some(why)) => Error::Unreachable(format!("{what}: {why}")),
            (error, _) => error,
        }
    }

    fn note(&self, error: &KafkaError, reason: &str) {
        let why = match error.rdkafka_error_code() {
            // It says only that the others failed.
            Some(RDKafkaErrorCode::AllBrokersDown) => return,
            Some(RDKafkaErrorCode::SSL) => format!("TLS failed: {reason}"),
            // A broker that refuses our certificate says so after the handshake, and only OpenSSL calls that TLS.
            _ if reason.contains("SSL routines") => format!("TLS failed: {reason}"),
            _ => reason.to_owned(),
        };
        *self.why_away.lock().unwrap_or_else(PoisonError::into_inner) = Some(why);
    }
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
        self.note(&error, reason);
        if is_broker_away(&error) {
            tracing::debug!(target: "librdkafka", error = crate::told(&error), "{reason}");
            return;
        }
        // What an operation comes to is told by the operation; this is what happens beside them.
        tracing::warn!(target: "librdkafka", error = crate::told(&error), "{reason}");
    }

    fn stats_raw(&self, statistics: &[u8]) {
        self.way_back.look(statistics);
    }

    fn generate_oauth_token(&self, _config: Option<&str>) -> Result<OAuthToken, Box<dyn std::error::Error>> {
        let Some(file) = &self.token_file else {
            return Err("oauthbearer_token_file is not set".into());
        };
        Ok(crate::token::read(file)?)
    }
}

impl ConsumerContext for Talk {}
