//! What one partition answers.

use std::collections::BTreeMap;

use lethe_journal::{DatasetRef, KeyWrapped, RecordObserved, Token};
use lethe_terms::{IdentifierToken, RecordToken};

use crate::row::{
    RECORD_PREFIX, decode_key, decode_record, index_prefix, indexed_record, place_of, record_key,
    wrapped_key_key,
};
use crate::{Error, Rows};

/// Most rows of one scan of the index: a page that is gone through quickly.
const SCAN_ROWS_MAX: usize = 1_000;

/// What a walk asks of every partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ask {
    /// Identifiers whose records are asked for.
    pub tokens: Vec<Token>,
    /// Most records of one identifier that a partition names.
    pub records_max: usize,
    /// Identifiers whose records are only counted.
    pub counts: Vec<Token>,
    /// Up to how many a partition counts.
    pub count_max: u64,
}

/// What one partition answers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartAnswer {
    /// Records by asked token, in the order of the question.
    pub held: Vec<Held>,
    /// Numbers by counted token, in the order of the question.
    pub counts: Vec<u64>,
}

/// Records of one identifier in one partition.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Held {
    /// The records, by token.
    pub records: Vec<Seen>,
    /// Whether there are more than were asked for.
    pub more: bool,
}

/// What a walk sees of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// The record.
    pub record: RecordToken,
    /// Where it is.
    pub dataset: DatasetRef,
    /// Every identifier that it holds.
    pub tokens: Vec<Token>,
    /// How many lines or rows it stands for.
    pub count: u64,
}

impl From<RecordObserved> for Seen {
    fn from(row: RecordObserved) -> Self {
        let dataset = DatasetRef {
            system: row.system,
            dataset: row.dataset,
        };
        Self {
            record: row.record,
            dataset,
            tokens: row.tokens,
            count: row.count,
        }
    }
}

/// One record, whole, if the partition has it.
pub fn record(rows: &dyn Rows, record: RecordToken) -> Result<Option<RecordObserved>, Error> {
    rows.get(&record_key(record))?
        .map(|row| decode_record(record, &row))
        .transpose()
}

/// The digest of a record's known state: an observation with the same one is nothing new.
pub fn known_digest(rows: &dyn Rows, token: RecordToken) -> Result<Option<String>, Error> {
    Ok(record(rows, token)?.map(|row| row.digest))
}

/// The wrapped data key of a record (its token's bytes) or a case (its id's bytes).
pub fn wrapped_key(rows: &dyn Rows, id: &[u8]) -> Result<Option<KeyWrapped>, Error> {
    rows.get(&wrapped_key_key(id))?
        .map(|row| decode_key(&row))
        .transpose()
}

/// Records of identifiers in one partition, at most `limit` of each, by token.
pub fn records_of(rows: &dyn Rows, tokens: &[IdentifierToken], limit: usize) -> Result<Vec<Held>, Error> {
    tokens.iter().map(|token| held(rows, *token, limit)).collect()
}

/// How many records of each dataset the partition has.
pub fn records_by_dataset(rows: &dyn Rows) -> Result<BTreeMap<DatasetRef, u64>, Error> {
    let mut counts = BTreeMap::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = rows.scan(&RECORD_PREFIX, after.as_deref(), SCAN_ROWS_MAX)?;
        let Some((last, _)) = page.last() else {
            return Ok(counts);
        };
        after = Some(last.clone());
        for (_, row) in &page {
            *counts.entry(place_of(row)?).or_default() += 1;
        }
    }
}

/// Answers a walk from one partition.
pub fn answer(rows: &dyn Rows, ask: &Ask) -> Result<PartAnswer, Error> {
    let held = ask
        .tokens
        .iter()
        .map(|token| held(rows, token.token, ask.records_max))
        .collect::<Result<_, _>>()?;
    let counts = ask
        .counts
        .iter()
        .map(|token| count(rows, token.token, ask.count_max))
        .collect::<Result<_, _>>()?;
    Ok(PartAnswer { held, counts })
}

fn held(rows: &dyn Rows, token: IdentifierToken, limit: usize) -> Result<Held, Error> {
    let mut held = Held::default();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = rows.scan(
            &index_prefix(token),
            after.as_deref(),
            SCAN_ROWS_MAX.min(limit.saturating_add(1)),
        )?;
        let Some((last, _)) = page.last() else {
            return Ok(held);
        };
        after = Some(last.clone());
        for (key, _) in &page {
            // A part of a very large entry can stand in the index before its record does.
            let Some(row) = record(rows, indexed_record(key)?)? else {
                continue;
            };
            if !row.tokens.iter().any(|held| held.token == token) {
                continue;
            }
            if held.records.len() == limit {
                held.more = true;
                return Ok(held);
            }
            held.records.push(row.into());
        }
    }
}

fn count(rows: &dyn Rows, token: IdentifierToken, max: u64) -> Result<u64, Error> {
    let mut number = 0;
    let mut after: Option<Vec<u8>> = None;
    loop {
        let page = rows.scan(&index_prefix(token), after.as_deref(), SCAN_ROWS_MAX)?;
        let Some((last, _)) = page.last() else {
            return Ok(number);
        };
        after = Some(last.clone());
        number += page.len() as u64;
        if number >= max {
            return Ok(max);
        }
    }
}
