//! Typed ids and names: one registry, so that a case id cannot be passed where an instruction id is meant.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::vocabulary::redacted;

/// A name or id that does not have the form that was expected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed {what}: expected {expected}")]
pub struct NameError {
    /// What was being read, such as `case id`.
    pub what: &'static str,
    /// The form that would have been right.
    pub expected: &'static str,
}

fn hex_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    // Only lower case, so that one id has one spelling.
    if text.len() != 2 * N || !text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')) {
        return None;
    }
    let mut bytes = [0; N];
    hex::decode_to_slice(text, &mut bytes).ok()?;
    Some(bytes)
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $bytes:literal, $prefix:literal, $what:literal, $expected:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $bytes]);

        impl $name {
            /// The id made of these bytes; the caller draws them at random.
            pub const fn from_bytes(bytes: [u8; $bytes]) -> Self { Self(bytes) }
            /// The bytes of the id.
            pub const fn as_bytes(&self) -> &[u8; $bytes] { &self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { fmt::Display::fmt(self, f) }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                text.strip_prefix($prefix).and_then(hex_bytes).map(Self)
                    .ok_or(NameError { what: $what, expected: $expected })
            }
        }

        text_serde!($name, $what);
    };
}

macro_rules! text_serde {
    ($name:ident, $what:literal) => {
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "description": $what })
            }
        }
    };
}

id!(
    /// One case: our handling of one rights request. Stable for life. 64 random bits.
    CaseId, 8, "case-", "case id", "case- and 16 hexadecimal digits"
);
id!(
    /// One instruction to a system. The same id twice has the same effect as once.
    InstructionId, 16, "ins-", "instruction id", "ins- and 32 hexadecimal digits"
);
id!(
    /// One command of an operator. The same id twice has the same effect as once.
    CommandId, 16, "cmd-", "command id", "cmd- and 32 hexadecimal digits"
);
impl CommandId {
    /// Whether both come of one key that a client chose: the first half of the id is that of the key, the second that of what was asked with it.
    pub fn has_key_of(self, other: Self) -> bool {
        self.as_bytes()[..8] == other.as_bytes()[..8]
    }
}

id!(
    /// One entry of the log, chosen by its writer.
    EntryId, 16, "", "entry id", "32 hexadecimal digits"
);

macro_rules! token {
    ($(#[$meta:meta])* $name:ident, $what:literal) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; 16]);

        impl $name {
            /// The token made of these bytes: only the vault computes them.
            pub const fn from_bytes(bytes: [u8; 16]) -> Self { Self(bytes) }
            /// The bytes of the token: personal data for whoever holds the token key.
            pub const fn as_bytes(&self) -> &[u8; 16] { &self.0 }
            /// The token in hexadecimal, for the wire; never for messages.
            pub fn to_hex(self) -> String { hex::encode(self.0) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { redacted(f, $what) }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                hex_bytes(text).map(Self).ok_or(NameError { what: $what, expected: "32 hexadecimal digits" })
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.to_hex())
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
                text.parse().map_err(serde::de::Error::custom)
            }
        }

        impl schemars::JsonSchema for $name {
            fn schema_name() -> std::borrow::Cow<'static, str> { stringify!($name).into() }
            fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
                schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-f]{32}$" })
            }
        }
    };
}

token!(
    /// Names a record without saying whose it is: a keyed digest of system, dataset and record key.
    RecordToken, "record token"
);
/// Bytes of a record's token that name its unit.
const UNIT_BYTES: usize = 8;

/// Names what a system acts on as one: a record, or what several records are parts of, such as a line of a log that names more people than one
/// record holds. The first half of a record's token: parts of one unit share it, and two units do not but by a chance that no company meets.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UnitToken([u8; UNIT_BYTES]);

impl fmt::Debug for UnitToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        redacted(f, "unit token")
    }
}

impl RecordToken {
    /// The unit that the record is, or is a part of.
    pub fn unit(self) -> UnitToken {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        UnitToken([a, b, c, d, e, f, g, h])
    }

    /// The token of a part of the same unit, which the second half of this digest tells from the others.
    pub fn part(self, digest: [u8; 16]) -> Self {
        let mut bytes = digest;
        bytes[..UNIT_BYTES].copy_from_slice(&self.0[..UNIT_BYTES]);
        Self(bytes)
    }
}

token!(
    /// Names an identifier without saying it: a keyed digest of kind and normalised value.
    IdentifierToken, "identifier token"
);
token!(
    /// Names an identifier of an erased person under the suppression key, which is another one.
    SuppressionToken, "suppression token"
);

macro_rules! name {
    ($(#[$meta:meta])* $name:ident, $what:literal, $max:literal, $expected:literal, $valid:expr) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// The name as text.
            pub fn as_str(&self) -> &str { &self.0 }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result { f.write_str(&self.0) }
        }

        impl FromStr for $name {
            type Err = NameError;
            fn from_str(text: &str) -> Result<Self, NameError> {
                let valid: fn(&str) -> bool = $valid;
                if text.len() <= $max && valid(text) {
                    Ok(Self(text.to_owned()))
                } else {
                    Err(NameError { what: $what, expected: $expected })
                }
            }
        }

        text_serde!($name, $what);
    };
}

fn is_slug(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text
            .bytes()
            .all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.'))
}

name!(
    /// A system that holds personal data, as the configuration names it.
    SystemName, "system name", 63,
    "at most 63 of a-z, 0-9, '-', '_' and '.', a letter first", is_slug
);
name!(
    /// A dataset within a system: what its connector's manifest declares as one unit.
    DatasetName, "dataset name", 63,
    "at most 63 of a-z, 0-9, '-', '_' and '.', a letter first", is_slug
);
name!(
    /// Who gives ids of a kind, such as a shop or a forum of its own: an id means a person only together with it. Never personal.
    IssuerName, "issuer name", 63,
    "at most 63 of a-z, 0-9, '-', '_' and '.', a letter first", is_slug
);
name!(
    /// One ordered source of observations within a system, with a cursor of its own, such as one log or one table.
    /// Never personal: shard names stand in keys of the log.
    ShardName, "shard name", 127,
    "at most 127 of a-z, 0-9, '-', '_', '.' and '/', a letter first",
    |text| {
        text.starts_with(|c: char| c.is_ascii_lowercase())
            && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'/'))
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_reads_back_what_it_prints() {
        let id = CaseId::from_bytes([0xab; 8]);
        assert_eq!(id.to_string(), "case-abababababababab");
        assert_eq!(id.to_string().parse::<CaseId>(), Ok(id));
    }

    #[test]
    fn an_id_has_one_spelling() {
        for wrong in [
            "case-ABABABABABABABAB",
            "case-abab",
            "abababababababab",
            "ins-abababababababab",
            "",
        ] {
            assert!(wrong.parse::<CaseId>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_token_shows_nothing_of_itself() {
        let token = RecordToken::from_bytes([7; 16]);
        assert_eq!(format!("{token:?}"), "record token(redacted)");
    }

    #[test]
    fn names_are_slugs() {
        assert!("shop".parse::<SystemName>().is_ok());
        for wrong in ["", "Shop", "1shop", "a b", "é"] {
            assert!(wrong.parse::<SystemName>().is_err(), "{wrong}");
        }
        assert!("website/access.log".parse::<ShardName>().is_ok());
    }
}
