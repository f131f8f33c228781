//! Moments. The core is handed them; it never asks a clock.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::ids::NameError;

/// A moment: milliseconds since 1970-01-01T00:00:00Z. On the wire an RFC 3339 string in UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

impl Timestamp {
    /// Latest moment that is represented: the end of the year 9999, so that RFC 3339 can write it.
    pub const MAX: Self = Self(253_402_207_200_000);

    /// The moment so many milliseconds after the epoch, held within what RFC 3339 can write.
    pub const fn from_millis(millis: i64) -> Self {
        if millis > Self::MAX.0 {
            Self::MAX
        } else if millis < 0 {
            Self(0)
        } else {
            Self(millis)
        }
    }

    /// Milliseconds since the epoch.
    pub const fn millis(self) -> i64 {
        self.0
    }

    /// The moment so many milliseconds later.
    pub const fn plus_millis(self, millis: i64) -> Self {
        Self::from_millis(self.0.saturating_add(millis))
    }

    /// Milliseconds from `earlier` to this moment; negative where it is later.
    pub const fn since(self, earlier: Self) -> i64 {
        self.0 - earlier.0
    }

    /// The day, such as `2026-11-24`, in UTC.
    pub fn day(self) -> String {
        self.to_string().chars().take(10).collect()
    }

    /// The day and minute, such as `2026-11-24 12:30 UTC`.
    pub fn minute(self) -> String {
        let text = self.to_string();
        format!("{} {} UTC", self.day(), text.get(11..16).unwrap_or_default())
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match jiff::Timestamp::from_millisecond(self.0) {
            Ok(moment) => write!(f, "{moment:.3}"),
            Err(_) => f.write_str("out of range"),
        }
    }
}

impl fmt::Debug for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Timestamp {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let wrong = NameError {
            what: "time",
            expected: "RFC 3339, such as 2026-11-24T12:00:00Z",
        };
        let moment: jiff::Timestamp = text.parse().map_err(|_| wrong.clone())?;
        let millis = moment.as_millisecond();
        if (0..=Self::MAX.0).contains(&millis) {
            Ok(Self(millis))
        } else {
            Err(wrong)
        }
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <std::borrow::Cow<'de, str>>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_reads_back_what_it_prints() {
        let moment = Timestamp::from_millis(1_795_000_000_123);
        assert_eq!(moment.to_string().parse::<Timestamp>(), Ok(moment));
        assert!(moment.to_string().ends_with(".123Z"), "{moment}");
        assert_eq!(
            Timestamp::MAX.to_string().parse::<Timestamp>(),
            Ok(Timestamp::MAX)
        );
    }
}
