//! From a system's settings to its connector: the kinds of connectors that a server knows.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use lethe_kit::{Connector, Error as CallError};
use lethe_remote::Carrier;
use lethe_terms::SystemName;
use serde::de::DeserializeOwned;

use crate::published;
use crate::settings::SystemSettings;

/// The kind of a connector that is a program elsewhere.
pub(crate) const REMOTE: &str = "remote";

/// What opening a connector comes to.
type Opened = Result<Arc<dyn Connector>, Unopened>;

/// Why a connector was not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unopened {
    /// Its settings are wrong, or do not fit the system: what was expected and where. The server does not start.
    Refused(String),
    /// The system cannot be reached now. The server starts without it and goes on trying.
    Away {
        /// Stable code, with a page in ops/errors.
        code: &'static str,
        /// What is wrong and what was expected.
        reason: String,
    },
}

impl From<String> for Unopened {
    fn from(message: String) -> Self {
        Self::Refused(message)
    }
}

/// Opens a connector from its own settings.
type Open =
    Box<dyn Fn(SystemName, serde_json::Value) -> Pin<Box<dyn Future<Output = Opened> + Send>> + Send + Sync>;

/// The kinds of connectors that a server can be configured with.
pub struct Kinds(BTreeMap<&'static str, Open>);

impl Kinds {
    /// The connectors that come with Lethe.
    #[must_use]
    pub fn shipped() -> Self {
        Self(BTreeMap::new())
            .with("sql", |name, settings| async move {
                let connected = lethe_sql::connect(name, own(settings)?).await;
                Ok(Arc::new(connected.map_err(|error| unopened(&error))?) as _)
            })
            .with(published::KIND, |name, settings| async move {
                Ok(published::open(name, settings)?)
            })
            .with("weblog", |name, settings| async move {
                let opened = lethe_weblog::open(name, own(settings)?);
                Ok(Arc::new(opened.map_err(|error| chain(&error))?) as _)
            })
            .with(REMOTE, |name, settings| async move {
                let connected = lethe_remote::connect(name, own(settings)?).await;
                Ok(Arc::new(connected.map_err(|error| not_connected(&error))?) as _)
            })
    }

    /// One kind more, or another one under a known name. `open` is given the system's name and every setting of the system beside
    /// `name` and `kind`; what it says of an error is shown to whoever starts the server.
    #[must_use]
    pub fn with<F>(
        mut self,
        kind: &'static str,
        open: impl Fn(SystemName, serde_json::Value) -> F + Send + Sync + 'static,
    ) -> Self
    where
        F: Future<Output = Opened> + Send + 'static,
    {
        self.0.insert(
            kind,
            Box::new(move |name, settings| Box::pin(open(name, settings))),
        );
        self
    }

    /// Opens the connector of a system; `carrier` leads to the program of one that is reached over topics.
    pub(crate) async fn connector(
        &self,
        system: &SystemSettings,
        carrier: Option<Arc<dyn Carrier>>,
    ) -> Opened {
        let settings = serde_json::Value::Object(system.connector.clone().into_iter().collect());
        let opened = self.open_one(system, settings, carrier).await;
        opened.map_err(|unopened| match unopened {
            Unopened::Refused(message) => Unopened::Refused(crate::settings::with_unit(&message)),
            away @ Unopened::Away { .. } => away,
        })
    }

    async fn open_one(
        &self,
        system: &SystemSettings,
        settings: serde_json::Value,
        carrier: Option<Arc<dyn Carrier>>,
    ) -> Opened {
        if let Some(carrier) = carrier {
            let connected = lethe_remote::connect_over(system.name.clone(), own(settings)?, carrier).await;
            return Ok(Arc::new(connected.map_err(|error| not_connected(&error))?));
        }
        let Some(open) = self.0.get(system.kind.as_str()) else {
            let known: Vec<&str> = self.0.keys().copied().collect();
            return Err(Unopened::Refused(format!(
                "unknown kind {}: expected one of {}",
                system.kind,
                known.join(", ")
            )));
        };
        open(system.name.clone(), settings).await
    }
}

/// Whether a system's program is reached over topics of Kafka.
pub(crate) fn is_over_kafka(system: &SystemSettings) -> bool {
    system.kind == REMOTE
        && system
            .connector
            .get("over")
            .is_some_and(|over| over.as_str() == Some("kafka"))
}

/// The connector's own settings of a system.
pub(crate) fn settings_of<T: DeserializeOwned>(system: &SystemSettings) -> Result<T, String> {
    own(serde_json::Value::Object(
        system.connector.clone().into_iter().collect(),
    ))
}

/// The connector's own settings.
pub(crate) fn own<T: DeserializeOwned>(settings: serde_json::Value) -> Result<T, String> {
    serde_path_to_error::deserialize(settings).map_err(|error| {
        let (key, wrong) = (
            error.path().to_string(),
            crate::settings::with_nearest(&error.inner().to_string()),
        );
        // What the whole of the settings lacks has no key.
        if key == "." {
            wrong
        } else {
            format!("{key}: {wrong}")
        }
    })
}

fn unopened(error: &lethe_sql::Error) -> Unopened {
    match error {
        lethe_sql::Error::Database(CallError::Transient { code, reason }) => Unopened::Away {
            code,
            reason: reason.clone(),
        },
        other => Unopened::Refused(chain(other)),
    }
}

fn not_connected(error: &lethe_remote::Error) -> Unopened {
    match error {
        lethe_remote::Error::Call(CallError::Transient { code, reason }) => Unopened::Away {
            code,
            reason: reason.clone(),
        },
        other => Unopened::Refused(chain(other)),
    }
}

/// An error with everything behind it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(inner) = source {
        text = format!("{text}: {inner}");
        source = inner.source();
    }
    text
}
