//! From a system's settings to its connector: the kinds of connectors that a server knows.

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;

use lethe_kit::Connector;
use lethe_terms::SystemName;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::settings::SystemSettings;

/// What opening a connector comes to; the error says what was expected and where.
type Opened = Result<Arc<dyn Connector>, String>;

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
                Ok(Arc::new(connected.map_err(|error| chain(&error))?) as _)
            })
            .with("weblog", |name, settings| async move {
                let opened = lethe_weblog::open(name, own(settings)?);
                Ok(Arc::new(opened.map_err(|error| chain(&error))?) as _)
            })
    }

    /// One kind more, or another one under a known name. `open` is given the system's name and every setting of the system beside
    /// `name` and `kind`; its error is shown to whoever starts the server.
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

    /// Opens the connector of a system.
    pub(crate) async fn connector(&self, system: &SystemSettings) -> Result<Arc<dyn Connector>, Error> {
        let refused = |message: String| Error::Connector {
            system: system.name.to_string(),
            message,
        };
        let Some(open) = self.0.get(system.kind.as_str()) else {
            let known: Vec<&str> = self.0.keys().copied().collect();
            return Err(refused(format!(
                "unknown kind {}: expected one of {}",
                system.kind,
                known.join(", ")
            )));
        };
        let settings = serde_json::Value::Object(system.connector.clone().into_iter().collect());
        open(system.name.clone(), settings).await.map_err(refused)
    }
}

/// The connector's own settings.
fn own<T: DeserializeOwned>(settings: serde_json::Value) -> Result<T, String> {
    serde_json::from_value(settings).map_err(|error| crate::settings::with_nearest(&error.to_string()))
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
