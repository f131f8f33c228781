//! Reading what others wrote: errors name the place and what was expected, never the value.

use serde::de::DeserializeOwned;
use serde_path_to_error::Segment;

/// Why something that was published is not taken. Nothing of it is content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    /// Stable code, with a page in ops/errors.
    pub code: &'static str,
    /// Where, such as `data.identifiers[0].kind`.
    pub place: String,
    /// What was expected.
    pub expected: String,
}

/// Names that may stand in a place: ours, never a publisher's.
const NAMES: [&str; 18] = [
    "specversion",
    "id",
    "source",
    "type",
    "shard",
    "sequence",
    "time",
    "datacontenttype",
    "data",
    "data_base64",
    "dataset",
    "key",
    "handle",
    "identifiers",
    "kind",
    "value",
    "count",
    "gone",
];

/// Something of another form than it should have.
pub(crate) fn malformed(place: impl Into<String>, expected: impl Into<String>) -> Refused {
    Refused {
        code: "event-malformed",
        place: place.into(),
        expected: expected.into(),
    }
}

/// Reads JSON; `below` is where it stands.
pub(crate) fn read_json<T: DeserializeOwned>(bytes: &[u8], below: &str) -> Result<T, Refused> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|error| {
        let path: String = error.path().iter().map(segment).collect();
        explain(error.inner(), format!("{below}{path}").trim_start_matches('.'))
    })?;
    reader.end().map_err(|error| explain(&error, below))?;
    Ok(value)
}

fn segment(segment: &Segment) -> String {
    match segment {
        Segment::Seq { index } => format!("[{index}]"),
        Segment::Map { key } if NAMES.contains(&key.as_str()) => format!(".{key}"),
        _ => String::new(),
    }
}

/// Of the library's text only what follows its last `expected`, which is ours, or the name of a missing field.
fn explain(error: &serde_json::Error, place: &str) -> Refused {
    let place = if place.is_empty() { "event" } else { place };
    if !error.is_data() {
        return malformed(place, "well-formed JSON");
    }
    let text = error.to_string();
    let text = text
        .rsplit_once(" at line ")
        .map_or(text.as_str(), |(text, _)| text);
    let expected = text
        .rsplit_once("expected ")
        .map(|(_, expected)| expected.to_owned());
    let missing = text
        .strip_prefix("missing field ")
        .map(|name| format!("a field {name}"));
    malformed(
        place,
        expected
            .or(missing)
            .unwrap_or_else(|| "what the schema says".to_owned()),
    )
}
