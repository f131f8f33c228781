//! From a system's settings to its connector: the one place that knows every kind.

use std::sync::Arc;

use lethe_kit::Connector;
use serde::de::DeserializeOwned;

use crate::Error;
use crate::settings::SystemSettings;

/// The kinds of connectors that exist.
const KINDS: [&str; 2] = ["sql", "weblog"];

/// Opens the connector of a system.
pub(crate) async fn connector(settings: &SystemSettings) -> Result<Arc<dyn Connector>, Error> {
    let refused = |message: String| Error::Connector {
        system: settings.name.to_string(),
        message,
    };
    let connector: Arc<dyn Connector> = match settings.kind.as_str() {
        "sql" => {
            let connected = lethe_sql::connect(settings.name.clone(), own(settings)?).await;
            Arc::new(connected.map_err(|error| refused(chain(&error)))?)
        }
        "weblog" => {
            let opened = lethe_weblog::open(settings.name.clone(), own(settings)?);
            Arc::new(opened.map_err(|error| refused(chain(&error)))?)
        }
        other => {
            return Err(refused(format!(
                "unknown kind {other}: expected one of {}",
                KINDS.join(", ")
            )));
        }
    };
    Ok(connector)
}

/// The connector's own settings.
fn own<T: DeserializeOwned>(settings: &SystemSettings) -> Result<T, Error> {
    let value = serde_json::Value::Object(settings.connector.clone().into_iter().collect());
    serde_json::from_value(value).map_err(|error| Error::Connector {
        system: settings.name.to_string(),
        message: crate::settings::with_nearest(&error.to_string()),
    })
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
