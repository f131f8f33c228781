//! Looking again: other statements than the work's, on connections of their own, best with another credential.

use std::collections::{BTreeMap, BTreeSet};

use lethe_kit::{Error as Failure, Observed, Selector};
use lethe_terms::{Observed as Seen, Strength};

use crate::connector::SqlConnector;
use crate::db::{Begin, Row, Tx};
use crate::error::{Stage, failure};
use crate::key::{handle, keys_argument};
use crate::model::{Key, Unit};
use crate::sought::Sought;
use crate::statement::Statements;

fn before(error: sqlx::Error) -> Failure {
    failure(&error, Stage::Before)
}

/// What was seen so far: key of the root (`None` for a row that hangs on nothing) and whether all that was seen of it was marked.
#[derive(Default)]
struct Sight(BTreeMap<Option<Key>, bool>);

impl Sight {
    fn add(&mut self, row: Row) {
        let mut row = row;
        let marked = row.pop().flatten().is_some_and(|flag| flag == "1");
        let key: Option<Key> = row.into_iter().collect();
        let all = self.0.entry(key).or_insert(true);
        *all &= marked;
    }
}

impl SqlConnector {
    pub(crate) async fn observe_unit(&self, unit: &Unit, selector: &Selector) -> Result<Observed, Failure> {
        let keys = self.selected_keys(unit, selector).await?;
        let mut tx = self.watch.begin(Begin::Read).await.map_err(before)?;
        let sight = self.look(&mut tx, unit, &keys, selector).await.map_err(before)?;
        tx.rollback().await.map_err(before)?;
        let observed = if sight.0.is_empty() {
            Seen::Absent
        } else if sight.0.values().all(|marked| *marked) {
            Seen::Restricted
        } else {
            Seen::Present
        };
        let seen: BTreeSet<String> = sight.0.keys().flatten().map(handle).collect();
        let gone = selector
            .records
            .iter()
            .filter(|record| !seen.contains(&record.handle))
            .map(|record| (unit.name.clone(), record.handle.clone()))
            .collect();
        Ok(Observed {
            observed,
            records: sight.0.len() as u64,
            independence: self.manifest.independence,
            gone,
        })
    }

    async fn look(
        &self,
        tx: &mut Tx,
        unit: &Unit,
        keys: &[Key],
        selector: &Selector,
    ) -> Result<Sight, sqlx::Error> {
        let statements = self.statements(unit);
        let mut sight = Sight::default();
        for (index, table) in unit.tables.iter().enumerate().filter(|(_, t)| !t.is_lookup()) {
            if !keys.is_empty() {
                let argument = keys_argument(keys);
                let (sql, replacements) = statements.seen_by_key(index);
                let arguments: Vec<&str> = std::iter::once(argument.as_str()).chain(replacements).collect();
                tx.each(&sql, &arguments, &mut |row| sight.add(row)).await?;
            }
            // Only what names one person: an office's address is there for others too.
            for (column, kind) in table
                .identifiers
                .iter()
                .filter(|(_, kind)| kind.kind().strength() == Strength::Strong)
            {
                if let Some(values) = Statements::values(column, kind, &selector.identifiers) {
                    let sql = statements.seen_by_identifier(index, column, kind);
                    tx.each(&sql, &[&values], &mut |row| sight.add(row)).await?;
                }
                let country = statements.phone_country;
                let Some(sought) = Sought::of(column, kind.kind(), &selector.identifiers, country) else {
                    continue;
                };
                let mut add = |mut row: Row| {
                    if row.pop().flatten().is_some_and(|value| sought.stands_in(&value)) {
                        sight.add(row);
                    }
                };
                let sql = statements.sought_seen(index, column, kind.kind());
                tx.each(&sql, &[&sought.argument], &mut add).await?;
            }
        }
        Ok(sight)
    }
}
