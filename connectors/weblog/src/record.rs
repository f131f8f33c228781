//! Which record a line belongs to.

use std::collections::BTreeSet;

use lethe_terms::{DatasetName, Identifier};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::line::Parsed;

/// Most identifiers of one record: intake keeps 256 of one, and of a whole address its network, too. A line with more belongs to several.
const PART_IDENTIFIERS_MAX: usize = 128;
/// Most bytes of one record's identifiers, so that its handle stays a name.
const PART_BYTES_MAX: usize = 32 << 10;
/// Most bytes of an identifier in a handle beside its value.
const NAME_BYTES: usize = 128;
/// Most bytes that one of a value becomes in JSON: `\u0000`.
const ESCAPED_BYTES_MAX: usize = 6;
/// Most identifiers that the later pieces of an overlong line add to those of its first: bounds memory.
const IDENTIFIERS_MAX: usize = 10_000;
/// Period of lines without a readable time.
const UNDATED: &str = "undated";

/// A record of a log: lines of one calendar day with one set of identifiers. Rotation moves and compresses lines, but never changes their day: so
/// the record stays the same through every rename. Where the set is a crowd's, each part of it makes a record of the same lines.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Record {
    /// The log.
    pub(crate) log: DatasetName,
    /// Day as `2026-11-24`, or `undated`.
    pub(crate) period: String,
    /// The identifiers; of a crowd's set, a part.
    pub(crate) identifiers: BTreeSet<Identifier>,
    /// The digest of the whole set, where it is a crowd's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) crowd: Option<String>,
}

impl Record {
    /// Key and handle: what finds the record again. Personal.
    pub(crate) fn handle(&self) -> String {
        // A record is made of texts: it always becomes JSON.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Whether it is one of several records of the same lines.
    pub(crate) const fn is_part(&self) -> bool {
        self.crowd.is_some()
    }

    /// What its lines are known by, whichever of their records is meant.
    pub(crate) fn unit(&self) -> Self {
        let mut unit = self.clone();
        if self.is_part() {
            unit.identifiers.clear();
        }
        unit
    }

    /// Reads a handle.
    pub(crate) fn from_handle(handle: &str) -> Option<Self> {
        serde_json::from_str(handle).ok()
    }
}

/// A line, read.
pub(crate) struct Reading {
    /// Its fields, where it fits a format.
    pub(crate) parsed: Option<Parsed>,
    /// Every identifier in it.
    pub(crate) identifiers: BTreeSet<Identifier>,
}

impl Reading {
    /// The period of the line's record.
    pub(crate) fn period(&self) -> &str {
        self.parsed.as_ref().map_or(UNDATED, |p| &p.day)
    }

    /// Adds what was read in the next piece of the same line.
    pub(crate) fn join(&mut self, piece: Self) {
        for one in piece.identifiers {
            if self.identifiers.len() >= IDENTIFIERS_MAX {
                break;
            }
            self.identifiers.insert(one);
        }
    }

    /// The records of the line: one, unless its identifiers are a crowd's.
    pub(crate) fn records(&self, log: &DatasetName) -> Vec<Record> {
        let parts = self.parts();
        let crowd = (parts.len() > 1).then(|| self.digest());
        parts
            .into_iter()
            .map(|identifiers| self.record(log, identifiers, crowd.clone()))
            .collect()
    }

    /// Those of the line's records that hold something of this. What none of them holds, since the line has too many identifiers or names it
    /// otherwise, is a part of its own.
    pub(crate) fn records_of(&self, log: &DatasetName, sought: &BTreeSet<&Identifier>) -> Vec<Record> {
        let mut records = self.records(log);
        if let [record] = records.as_mut_slice() {
            record.identifiers.extend(sought.iter().map(|one| (*one).clone()));
            return records;
        }
        let crowd = records.first().and_then(|record| record.crowd.clone());
        records.retain(|record| sought.iter().any(|one| record.identifiers.contains(*one)));
        let rest = sought.iter().filter(|one| !self.identifiers.contains(**one));
        let rest: BTreeSet<Identifier> = rest.map(|one| (*one).clone()).collect();
        if !rest.is_empty() {
            records.push(self.record(log, rest, crowd));
        }
        records
    }

    /// The digest of the identifiers, where they are a crowd's.
    pub(crate) fn crowd(&self) -> Option<String> {
        (self.parts().len() > 1).then(|| self.digest())
    }

    fn record(&self, log: &DatasetName, identifiers: BTreeSet<Identifier>, crowd: Option<String>) -> Record {
        Record {
            log: log.clone(),
            period: self.period().to_owned(),
            identifiers,
            crowd,
        }
    }

    /// The identifiers in their order, cut where a part is full.
    fn parts(&self) -> Vec<BTreeSet<Identifier>> {
        let (mut parts, mut bytes) = (vec![BTreeSet::new()], 0);
        for one in &self.identifiers {
            let more = NAME_BYTES + ESCAPED_BYTES_MAX * one.value.len();
            let is_full = parts.last().is_some_and(|part| {
                part.len() >= PART_IDENTIFIERS_MAX || !part.is_empty() && bytes + more > PART_BYTES_MAX
            });
            if is_full {
                parts.push(BTreeSet::new());
                bytes = 0;
            }
            bytes += more;
            if let Some(part) = parts.last_mut() {
                part.insert(one.clone());
            }
        }
        parts
    }

    fn digest(&self) -> String {
        let mut digest = Sha256::new();
        for one in &self.identifiers {
            let kind = one.name();
            for part in [kind.as_str(), one.value.as_str()] {
                digest.update((part.len() as u64).to_be_bytes());
                digest.update(part);
            }
        }
        hex::encode(digest.finalize())
    }
}

#[cfg(test)]
mod tests {
    use lethe_terms::IdentifierKind;

    use super::*;

    fn reading(values: impl IntoIterator<Item = String>) -> Reading {
        let named = |value| Identifier::new(IdentifierKind::UserId, value);
        Reading {
            parsed: None,
            identifiers: values.into_iter().map(named).collect(),
        }
    }

    #[test]
    fn a_handle_reads_back() {
        let log = "access".parse().unwrap();
        for values in [1, 1_000] {
            for record in reading((0..values).map(|n| format!("u-{n}"))).records(&log) {
                assert!(Record::from_handle(&record.handle()) == Some(record));
            }
        }
        assert!(Record::from_handle("{}").is_none());
    }

    #[test]
    fn the_records_of_a_crowd_hold_all_of_it_and_each_is_small() {
        let log = "access".parse().unwrap();
        for value in ["u-", &"\u{1}".repeat(250)] {
            let crowd = reading((0..2_000).map(|n| format!("{value}{n}")));
            let records = crowd.records(&log);
            let all: BTreeSet<Identifier> = records.iter().flat_map(|r| r.identifiers.clone()).collect();
            assert!(all == crowd.identifiers);
            let most = records.iter().map(|record| record.handle().len()).max();
            assert!(most.is_some_and(|bytes| bytes < 64 << 10), "{most:?}");
            assert!(records.iter().all(|record| record.identifiers.len() <= 128));
            let others = reading((0..2_001).map(|n| format!("{value}{n}"))).records(&log);
            assert!(others.iter().all(|record| !records.contains(record)));
        }
    }
}
