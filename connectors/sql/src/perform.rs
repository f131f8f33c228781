//! Erase, restrict, lift: one transaction an instruction, with the receipt inside it.

use std::collections::{BTreeMap, BTreeSet};

use lethe_kit::{Ask, Error as Failure, Performed, Receipt};
use lethe_terms::{Outcome, Verb};

use crate::connector::SqlConnector;
use crate::db::{Begin, Tx};
use crate::error::{Stage, failure};
use crate::key::keys_argument;
use crate::model::{Key, Mark, Unit};
use crate::own::{Own, Remembered};
use crate::statement::Statements;
use crate::theirs;

/// Numbers of plans stay far below what a database counts to.
const PLAN_INDEX_MAX: u64 = i64::MAX as u64;

/// What became of the work inside the transaction.
enum Worked {
    Done(Receipt),
    Refused(Performed),
}

fn refused(code: &'static str, reason: &str) -> Performed {
    Performed::Refused {
        code,
        reason: reason.to_owned(),
    }
}

fn before(error: sqlx::Error) -> Failure {
    failure(&error, Stage::Before)
}

impl SqlConnector {
    pub(crate) async fn perform_ask(&self, ask: &Ask) -> Result<Performed, Failure> {
        let Some(unit) = self.unit(&ask.dataset) else {
            return Ok(refused("sql-unknown-dataset", "the mapping names no such unit"));
        };
        let allowed = match ask.verb {
            Verb::Erase => true,
            Verb::Restrict | Verb::Lift => unit.mark.is_some(),
            _ => false,
        };
        if !allowed {
            return Ok(refused(
                "sql-verb-not-supported",
                "the unit's mapping has no such verb: expected what the manifest declares",
            ));
        }
        if ask.generation.0 > PLAN_INDEX_MAX {
            return Ok(refused(
                "sql-stale-generation",
                "the number of the plan is out of range",
            ));
        }
        let keys = self.selected_keys(unit, &ask.selector).await?;
        let mut tx = self.work.begin(Begin::Write).await.map_err(before)?;
        let worked = self.work_within(&mut tx, unit, ask, &keys).await;
        let receipt = match worked {
            // A rule of the database or of ours forbids it: nothing was done.
            Err(error) => {
                let failed = before(error);
                return match failed {
                    Failure::Permanent {
                        code: code @ ("sql-would-dangle" | "sql-rule-violated"),
                        reason,
                    } => Ok(Performed::Refused { code, reason }),
                    failed => Err(failed),
                };
            }
            Ok(Worked::Refused(answer)) => return Ok(answer),
            Ok(Worked::Done(receipt)) => receipt,
        };
        if let Some(own) = &self.own
            && !own.store(&mut tx, ask, &receipt).await.map_err(before)?
        {
            // Another call with the same id was faster: its receipt counts, this work is undone.
            tx.rollback().await.map_err(before)?;
            return self.stored_receipt(own, ask).await;
        }
        tx.commit()
            .await
            .map_err(|error| failure(&error, Stage::Commit))?;
        Ok(Performed::Done(receipt))
    }

    async fn work_within(
        &self,
        tx: &mut Tx,
        unit: &Unit,
        ask: &Ask,
        keys: &[Key],
    ) -> Result<Worked, sqlx::Error> {
        if let Some(own) = &self.own
            && let Some(stored) = own.stored(tx, &ask.id.to_string()).await?
        {
            return Ok(Worked::Refused(answer_again(stored, ask)));
        }
        let statements = self.statements(unit);
        let argument = keys_argument(keys);
        let locked: BTreeSet<Key> = if keys.is_empty() {
            BTreeSet::new()
        } else {
            key_set(tx.rows(&statements.lock(), &[&argument]).await?)
        };
        let remembered = match &self.own {
            Some(own) if !keys.is_empty() => own.remembered(tx, &unit.name, keys).await?,
            _ => BTreeMap::new(),
        };
        if remembered.values().any(|r| r.generation > ask.generation) {
            let reason =
                "a newer instruction was already carried out for a record of this one; nothing was done";
            return Ok(Worked::Refused(refused("sql-stale-generation", reason)));
        }
        let identifiers = &ask.selector.identifiers;
        let strange = theirs::strange(tx, statements, &self.units, &locked, identifiers).await?;
        if !strange.is_empty() {
            self.strange.add(&unit.name, strange);
            let reason = "a record names other people only, so its key was given to another row after the plan was made; nothing was done";
            return Ok(Worked::Refused(refused("sql-not-theirs", reason)));
        }
        let (receipt, ours) = match ask.verb {
            Verb::Erase => match erase(tx, statements, &argument, &locked).await? {
                Worked::Done(receipt) => (receipt, BTreeSet::new()),
                refused => return Ok(refused),
            },
            Verb::Restrict => restrict(tx, statements, &argument, &locked, keys, &remembered).await?,
            _ => (
                self.lift(tx, statements, &locked, keys, &remembered).await?,
                BTreeSet::new(),
            ),
        };
        if let Some(own) = &self.own
            && !keys.is_empty()
        {
            let records: Vec<(Key, bool)> =
                keys.iter().map(|key| (key.clone(), ours.contains(key))).collect();
            own.remember(tx, ask, &records).await?;
        }
        Ok(Worked::Done(receipt))
    }

    /// Takes off the marks that are Lethe's; without tables of its own it cannot tell and takes off all that were selected.
    async fn lift(
        &self,
        tx: &mut Tx,
        statements: Statements<'_>,
        locked: &BTreeSet<Key>,
        keys: &[Key],
        remembered: &BTreeMap<usize, Remembered>,
    ) -> Result<Receipt, sqlx::Error> {
        let is_ours = |place: usize| self.own.is_none() || remembered.get(&place).is_some_and(|r| r.marked);
        let ours: Vec<Key> = (0..keys.len())
            .filter(|i| is_ours(*i))
            .map(|i| keys[i].clone())
            .filter(|k| locked.contains(k))
            .collect();
        let mut lifted = 0;
        if let Some(sql) = statements.lift().filter(|_| !ours.is_empty()) {
            lifted = tx.rows(&sql, &[&keys_argument(&ours)]).await?.len() as u64;
        }
        let details = BTreeMap::from([(statements.unit.root().name.clone(), lifted)]);
        let outcome = if locked.is_empty() {
            Outcome::NotFound
        } else {
            Outcome::Lifted
        };
        Ok(Receipt {
            outcome,
            records: locked.len() as u64,
            details,
        })
    }

    pub(crate) async fn stored_receipt(&self, own: &Own, ask: &Ask) -> Result<Performed, Failure> {
        let mut tx = self.work.begin(Begin::Read).await.map_err(before)?;
        let stored = own.stored(&mut tx, &ask.id.to_string()).await.map_err(before)?;
        tx.rollback().await.map_err(before)?;
        stored
            .map(|stored| answer_again(stored, ask))
            .ok_or_else(|| Failure::Transient {
                code: "sql-not-performed",
                reason: "the database has no receipt for the instruction: it was not carried out".to_owned(),
            })
    }

    /// Whether an instruction whose answer was lost was carried out.
    pub(crate) async fn ask_again(&self, ask: &Ask) -> Result<Performed, Failure> {
        let Some(own) = &self.own else {
            let reason =
                "without tables of its own in the database Lethe cannot ask: expected own_tables".to_owned();
            return Err(Failure::Unknown {
                code: "sql-no-own-tables",
                reason,
            });
        };
        // Taking the id and giving it back waits for a transaction that is still storing it: only then is absence final.
        let mut tx = self.work.begin(Begin::Write).await.map_err(before)?;
        let placeholder = Receipt {
            outcome: Outcome::NotFound,
            records: 0,
            details: BTreeMap::new(),
        };
        own.store(&mut tx, ask, &placeholder).await.map_err(before)?;
        tx.rollback().await.map_err(before)?;
        self.stored_receipt(own, ask).await
    }
}

/// The stored receipt, unless the id was used for something else.
fn answer_again(stored: crate::own::Stored, ask: &Ask) -> Performed {
    if stored.dataset != ask.dataset.as_str() || stored.verb != ask.verb.code() {
        return refused(
            "sql-id-used",
            "the id was used for another instruction; nothing was done",
        );
    }
    Performed::Done(stored.receipt)
}

fn key_set(rows: Vec<crate::db::Row>) -> BTreeSet<Key> {
    rows.into_iter()
        .map(|row| row.into_iter().map(Option::unwrap_or_default).collect())
        .collect()
}

async fn erase(
    tx: &mut Tx,
    statements: Statements<'_>,
    argument: &str,
    locked: &BTreeSet<Key>,
) -> Result<Worked, sqlx::Error> {
    let unit = statements.unit;
    let compared = keys_argument(&locked.iter().cloned().collect::<Vec<_>>());
    let mut details = BTreeMap::new();
    let mut rows_changed = 0;
    // Also where the root is gone: children without a foreign key may have been left behind.
    for &table in unit.order.iter().filter(|_| argument != "[]") {
        // What is left names nobody, so nothing is left to restrict; and no row of the shadow may point to an erased one.
        if table == 0
            && (unit.keeps_root() || matches!(unit.mark, Some(Mark::Shadow { .. })))
            && let Some(sql) = statements.lift()
        {
            tx.rows(&sql, &[argument]).await?;
        }
        let Some((sql, replacements)) = statements.erase(table) else {
            continue;
        };
        // A root that came after the lock was compared with nobody.
        let chosen = if table == 0 { &compared } else { argument };
        if let Some(from) = takes_along(tx, statements, table, chosen).await? {
            let reason = format!(
                "table {from}: rows still point to rows that are to be erased, and would be erased along"
            );
            return Ok(Worked::Refused(refused("sql-would-dangle", &reason)));
        }
        let arguments: Vec<&str> = std::iter::once(chosen).chain(replacements).collect();
        let rows = tx.run(&sql, &arguments).await?;
        rows_changed += rows;
        *details.entry(unit.tables[table].name.clone()).or_default() += rows;
    }
    let outcome = match (rows_changed, unit.keeps_root()) {
        (0, _) => Outcome::NotFound,
        (_, true) => Outcome::Anonymised,
        (_, false) => Outcome::Erased,
    };
    Ok(Worked::Done(Receipt {
        outcome,
        records: locked.len() as u64,
        details,
    }))
}

/// The table whose rows the database would erase along with those of another, whosever they are. The unit's own went before.
async fn takes_along<'u>(
    tx: &mut Tx,
    statements: Statements<'u>,
    table: usize,
    argument: &str,
) -> Result<Option<&'u str>, sqlx::Error> {
    for cascade in statements
        .unit
        .cascades
        .iter()
        .filter(|cascade| cascade.table == table)
    {
        if !tx
            .rows(&statements.taken_along(cascade), &[argument])
            .await?
            .is_empty()
        {
            return Ok(Some(&cascade.from));
        }
    }
    Ok(None)
}

/// Marks; returns the receipt and the records whose mark is now Lethe's.
async fn restrict(
    tx: &mut Tx,
    statements: Statements<'_>,
    argument: &str,
    locked: &BTreeSet<Key>,
    keys: &[Key],
    remembered: &BTreeMap<usize, Remembered>,
) -> Result<(Receipt, BTreeSet<Key>), sqlx::Error> {
    let mut ours: BTreeSet<Key> = remembered
        .iter()
        .filter(|(_, r)| r.marked)
        .map(|(place, _)| keys[*place].clone())
        .filter(|k| locked.contains(k))
        .collect();
    let mut details = BTreeMap::new();
    if locked.is_empty() {
        return Ok((
            Receipt {
                outcome: Outcome::NotFound,
                records: 0,
                details,
            },
            ours,
        ));
    }
    if let Some(sql) = statements.restrict() {
        let newly = key_set(tx.rows(&sql, &[argument]).await?);
        details.insert(statements.unit.root().name.clone(), newly.len() as u64);
        ours.extend(newly);
    }
    Ok((
        Receipt {
            outcome: Outcome::Restricted,
            records: locked.len() as u64,
            details,
        },
        ours,
    ))
}
