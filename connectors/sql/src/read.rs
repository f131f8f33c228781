//! Records as they are now: found by identifiers, read whole, handed out.

use std::collections::{BTreeMap, BTreeSet};

use lethe_kit::{Error as Failure, Located, Observation, Page, Selector};
use lethe_terms::{Identifier, IdentifierKind, IssuedKind, Strength};
use serde_json::{Value, json};

use crate::catalog::Column;
use crate::connector::SqlConnector;
use crate::db::{Begin, Tx};
use crate::error::{Stage, failure};
use crate::key::{handle, keys_argument};
use crate::mail;
use crate::model::{Key, Unit};
use crate::sought::Sought;
use crate::statement::Statements;

/// Records in one page of an answer: small enough to hold, large enough that most people fit in one.
const PAGE_RECORDS: usize = 200;

fn before(error: sqlx::Error) -> Failure {
    failure(&error, Stage::Before)
}

/// One record while its rows come in.
#[derive(Default)]
struct Gathered {
    rows: u64,
    identifiers: BTreeSet<Identifier>,
}

/// Hands over each row of these records, the root's and those below it: its table by number, the record's key, and what stands in its columns of
/// identifiers that are not empty.
pub(crate) async fn each_row<'u>(
    tx: &mut Tx,
    statements: Statements<'u>,
    keys: &[Key],
    mut visit: impl FnMut(usize, Key, Vec<(&'u Column, &'u IssuedKind, String)>) + Send,
) -> Result<(), sqlx::Error> {
    let (unit, argument) = (statements.unit, keys_argument(keys));
    for (index, table) in unit.tables.iter().enumerate() {
        let mut take = |row: crate::db::Row| {
            let mut columns = row.into_iter();
            let key: Key = columns
                .by_ref()
                .take(unit.key.len())
                .map(Option::unwrap_or_default)
                .collect();
            let named = columns.zip(&table.identifiers);
            let named = named.filter_map(|(value, (column, kind))| Some((column, kind, value?)));
            let held = named.filter(|(_, _, value)| !value.trim().is_empty());
            visit(index, key, held.collect());
        };
        tx.each(&statements.rows_of(index), &[&argument], &mut take)
            .await?;
    }
    Ok(())
}

/// Reads records whole: every identifier of the root and its children.
pub(crate) async fn records(
    tx: &mut Tx,
    statements: Statements<'_>,
    keys: &[Key],
) -> Result<Vec<Observation>, sqlx::Error> {
    let unit = statements.unit;
    if keys.is_empty() {
        return Ok(Vec::new());
    }
    let mut gathered: BTreeMap<Key, Gathered> = BTreeMap::new();
    each_row(tx, statements, keys, |table, key, held| {
        let record = gathered.entry(key).or_default();
        record.rows += u64::from(!unit.tables[table].is_lookup());
        for (_, kind, value) in held {
            if kind.kind() == IdentifierKind::Email {
                record.identifiers.extend(mail::identifiers(&value));
            } else {
                record.identifiers.insert(kind.with(value));
            }
        }
    })
    .await?;
    let observation = |(key, record): (Key, Gathered)| {
        let key = handle(&key);
        let identifiers: Vec<Identifier> = record.identifiers.into_iter().collect();
        let gone = identifiers.is_empty();
        Observation {
            dataset: unit.name.clone(),
            handle: key.clone(),
            key,
            unit: None,
            count: record.rows,
            identifiers,
            gone,
        }
    };
    // Rows that were left behind by their root are the person's as well; what only lends its identifiers is not.
    Ok(gathered
        .into_iter()
        .filter(|(_, record)| record.rows > 0)
        .map(observation)
        .collect())
}

/// Keys of the unit's records that hold one of the identifiers. Shared kinds are left out: they name several people.
async fn holders(
    tx: &mut Tx,
    statements: Statements<'_>,
    identifiers: &[Identifier],
) -> Result<BTreeSet<Key>, sqlx::Error> {
    let mut keys = BTreeSet::new();
    for (index, table) in statements.unit.tables.iter().enumerate() {
        for (column, kind) in table
            .identifiers
            .iter()
            .filter(|(_, kind)| kind.kind().strength() != Strength::Shared)
        {
            if let Some(values) = Statements::values(column, kind, identifiers) {
                let sql = statements.holders(index, column, kind);
                for row in tx.rows(&sql, &[&values]).await? {
                    keys.extend(row.into_iter().collect::<Option<Key>>());
                }
            }
            let Some(sought) = Sought::of(column, kind.kind(), identifiers, statements.phone_country) else {
                continue;
            };
            let mut take = |mut row: crate::db::Row| {
                if row.pop().flatten().is_some_and(|value| sought.stands_in(&value)) {
                    keys.extend(row.into_iter().collect::<Option<Key>>());
                }
            };
            let sql = statements.sought_holders(index, column, kind.kind());
            tx.each(&sql, &[&sought.argument], &mut take).await?;
        }
    }
    Ok(keys)
}

impl SqlConnector {
    pub(crate) async fn locate_by(&self, selector: &Selector, page: &Page) -> Result<Located, Failure> {
        let mut tx = self.work.begin(Begin::Read).await.map_err(before)?;
        let (found, next) = self.page_of(&mut tx, selector, page).await?;
        let mut observations = Vec::new();
        for (unit, keys) in found {
            observations.extend(
                records(&mut tx, self.statements(unit), &keys)
                    .await
                    .map_err(before)?,
            );
        }
        tx.rollback().await.map_err(before)?;
        Ok(Located { observations, next })
    }

    /// A page of the person's records, by unit. The mark counts records, so that no key stands in it.
    async fn page_of(
        &self,
        tx: &mut Tx,
        selector: &Selector,
        page: &Page,
    ) -> Result<(Vec<(&Unit, Vec<Key>)>, Option<String>), Failure> {
        let skip: usize = match &page.0 {
            None => 0,
            Some(mark) => mark.parse().map_err(|_| Failure::Permanent {
                code: "sql-cursor",
                reason: "the page mark is not one of this connector's: expected a number".to_owned(),
            })?,
        };
        let mut found = Vec::new();
        let (mut seen, mut taken) = (0, 0);
        for unit in &self.units {
            let keys = holders(tx, self.statements(unit), &selector.identifiers)
                .await
                .map_err(before)?;
            let from = skip.saturating_sub(seen);
            seen += keys.len();
            let here: Vec<Key> = keys.into_iter().skip(from).take(PAGE_RECORDS - taken).collect();
            taken += here.len();
            if !here.is_empty() {
                found.push((unit, here));
            }
        }
        let next = (skip + taken < seen).then(|| (skip + taken).to_string());
        Ok((found, next))
    }

    pub(crate) async fn export_by(
        &self,
        selector: &Selector,
        page: &Page,
    ) -> Result<(Vec<Value>, Page), Failure> {
        let mut tx = self.work.begin(Begin::Read).await.map_err(before)?;
        let (found, next) = self.page_of(&mut tx, selector, page).await?;
        let mut values = Vec::new();
        for (unit, keys) in found {
            values.extend(self.export_unit(&mut tx, unit, &keys).await.map_err(before)?);
        }
        tx.rollback().await.map_err(before)?;
        Ok((values, Page(next)))
    }

    async fn export_unit(&self, tx: &mut Tx, unit: &Unit, keys: &[Key]) -> Result<Vec<Value>, sqlx::Error> {
        let statements = self.statements(unit);
        let argument = keys_argument(keys);
        let mut tables: BTreeMap<Key, BTreeMap<&str, Vec<Value>>> = BTreeMap::new();
        for (index, table) in unit.tables.iter().enumerate().filter(|(_, t)| !t.is_lookup()) {
            let mut gather = |row: crate::db::Row| {
                let mut columns = row.into_iter();
                let key: Key = columns
                    .by_ref()
                    .take(unit.key.len())
                    .map(Option::unwrap_or_default)
                    .collect();
                let value = columns
                    .next()
                    .flatten()
                    .and_then(|text| serde_json::from_str(&text).ok())
                    .unwrap_or(Value::Null);
                tables
                    .entry(key)
                    .or_default()
                    .entry(table.name.as_str())
                    .or_default()
                    .push(value);
            };
            tx.each(&statements.export_of(index), &[&argument], &mut gather)
                .await?;
        }
        Ok(tables
            .into_values()
            .map(|tables| json!({ "dataset": unit.name, "tables": tables }))
            .collect())
    }
}
