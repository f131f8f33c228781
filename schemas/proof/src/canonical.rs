//! Canonical JSON (RFC 8785): one value, one encoding.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::Error;

/// The canonical bytes of a value.
///
/// # Errors
/// Where the value has no JSON form.
pub fn to_canonical<T: Serialize>(what: &'static str, value: &T) -> Result<Vec<u8>, Error> {
    serde_json_canonicalizer::to_vec(value).map_err(|_| Error::malformed(what, "has no canonical JSON form"))
}

/// Reads a value whose bytes must be the canonical ones: so there are no duplicate keys, no other spelling of a number or a string, nothing before and
/// nothing behind it.
///
/// # Errors
/// Where the bytes are not JSON, not of this type, or not canonical.
pub fn parse_canonical<T: DeserializeOwned + Serialize>(
    what: &'static str,
    bytes: &[u8],
) -> Result<T, Error> {
    let value: T = serde_json::from_slice(bytes).map_err(|error| {
        let kind = match error.classify() {
            serde_json::error::Category::Data => "a field is missing, unknown or of another type",
            serde_json::error::Category::Eof => "cut off",
            _ => "not JSON",
        };
        Error::malformed(
            what,
            format!("{kind} at line {} column {}", error.line(), error.column()),
        )
    })?;
    if to_canonical(what, &value)? == bytes {
        Ok(value)
    } else {
        Err(Error::malformed(what, "not in canonical form (RFC 8785)"))
    }
}
