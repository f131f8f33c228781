//! Whether locked records are still the person's: a database may give the key of a row that went to the next one that comes.
//!
//! Every record of a plan holds an identifier of the person. One that now names people and not this one is somebody else's, and is left alone. One
//! that names nobody cannot be compared, such as a row that was erased before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

use lethe_terms::{DatasetName, Identifier, IdentifierKind, IssuedKind, Strength};

use crate::db::Tx;
use crate::mail;
use crate::model::{ColumnVerb, Key, Table, TableVerb, Unit};
use crate::phone::{self, Spellings};
use crate::read;
use crate::rules::RANDOM_PREFIX;
use crate::statement::Statements;

/// Records that were found to be somebody else's, for the feed: a table without a time of change would never tell that they are.
#[derive(Default)]
pub(crate) struct Strange(Mutex<BTreeSet<(DatasetName, Key)>>);

/// Records that are told again with every page: more come up only where a whole table was numbered anew.
const STRANGE_MAX: usize = 1_000;

impl Strange {
    fn known(&self) -> MutexGuard<'_, BTreeSet<(DatasetName, Key)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn add(&self, dataset: &DatasetName, keys: BTreeSet<Key>) {
        let mut known = self.known();
        let room = STRANGE_MAX.saturating_sub(known.len());
        known.extend(keys.into_iter().take(room).map(|key| (dataset.clone(), key)));
    }

    pub(crate) fn of(&self, dataset: &DatasetName) -> Vec<Key> {
        let known = self.known();
        known
            .iter()
            .filter(|(of, _)| of == dataset)
            .map(|(_, key)| key.clone())
            .collect()
    }
}

/// Whom some rows of a record name.
#[derive(Default)]
struct Named {
    /// Anybody, strongly.
    somebody: bool,
    /// The person.
    them: bool,
}

/// What is known of a record.
#[derive(Default)]
struct Record {
    /// By the root itself and what it points to.
    own: Named,
    /// By rows that point to its key, which may be older than the root.
    hanging: Named,
}

impl Record {
    const fn is_strange(&self) -> bool {
        let decides = if self.own.somebody || self.own.them {
            &self.own
        } else {
            &self.hanging
        };
        decides.somebody && !decides.them
    }
}

/// The person, for comparing.
struct Person {
    emails: BTreeSet<String>,
    phones: Spellings,
    others: BTreeSet<(IssuedKind, String)>,
}

impl Person {
    fn of(identifiers: &[Identifier], phone_country: Option<&str>) -> Self {
        let values = |kind| {
            identifiers
                .iter()
                .filter(move |one| one.kind == kind)
                .map(|one| one.value.as_str())
        };
        Self {
            emails: values(IdentifierKind::Email).map(mail::comparable).collect(),
            phones: Spellings::of(values(IdentifierKind::Phone), phone_country),
            others: identifiers
                .iter()
                .map(|one| (one.issued_kind(), one.value.trim().to_owned()))
                .collect(),
        }
    }

    fn take_in(&self, named: &mut Named, kind: &IssuedKind, value: &str) {
        let mut add = |readable: bool, theirs: bool| {
            named.somebody |= readable && kind.kind().strength() == Strength::Strong;
            named.them |= theirs;
        };
        match kind.kind() {
            IdentifierKind::Email => {
                for address in mail::identifiers(value) {
                    let is_address = address.value.matches('@').count() == 1;
                    add(
                        is_address,
                        self.emails.contains(&mail::comparable(&address.value)),
                    );
                }
            }
            IdentifierKind::Phone => add(phone::is_number(value), self.phones.hold(value)),
            _ => add(
                true,
                self.others.contains(&(kind.clone(), value.trim().to_owned())),
            ),
        }
    }
}

/// Whether the root points to these rows, and not they to its key.
fn is_pointed_to(unit: &Unit, table: usize) -> bool {
    let own = &unit.tables[table];
    let Some(parent) = own.parent else {
        return true;
    };
    let to_key = |name: &str| unit.key.iter().any(|key| key.name == name);
    own.is_lookup()
        && is_pointed_to(unit, parent)
        && (parent != 0 || !own.link.iter().all(|(_, theirs)| to_key(&theirs.name)))
}

/// Whether a value is what an erasure leaves in its column, in whichever unit.
fn is_left(units: &[Unit], table: &Table, column: &str, value: &str) -> bool {
    let same = units
        .iter()
        .flat_map(|unit| &unit.tables)
        .filter(|t| t.id == table.id);
    same.filter_map(|table| match &table.verb {
        TableVerb::Columns(verbs) => verbs.iter().find(|(changed, _)| changed.name == column),
        TableVerb::Row | TableVerb::Lookup => None,
    })
    .any(|(_, verb)| match verb {
        ColumnVerb::Replace(text) => text == value,
        ColumnVerb::Random => value.starts_with(RANDOM_PREFIX),
        ColumnVerb::Null => false,
    })
}

/// Those of the locked records that name people and not the one whom these identifiers name.
pub(crate) async fn strange(
    tx: &mut Tx,
    statements: Statements<'_>,
    units: &[Unit],
    locked: &BTreeSet<Key>,
    identifiers: &[Identifier],
) -> Result<BTreeSet<Key>, sqlx::Error> {
    let unit = statements.unit;
    let nameless = identifiers
        .iter()
        .all(|one| one.kind.strength() == Strength::Shared);
    if locked.is_empty() || nameless {
        return Ok(BTreeSet::new());
    }
    let person = Person::of(identifiers, statements.phone_country);
    let keys: Vec<Key> = locked.iter().cloned().collect();
    let tables = 0..unit.tables.len();
    let pointed_to: Vec<bool> = tables.map(|table| is_pointed_to(unit, table)).collect();
    let mut records: BTreeMap<Key, Record> = BTreeMap::new();
    read::each_row(tx, statements, &keys, |index, key, held| {
        let table = &unit.tables[index];
        let record = records.entry(key).or_default();
        let named = if pointed_to[index] {
            &mut record.own
        } else {
            &mut record.hanging
        };
        for (column, kind, value) in held {
            if kind.kind().strength() != Strength::Shared && !is_left(units, table, &column.name, &value) {
                person.take_in(named, kind, &value);
            }
        }
    })
    .await?;
    records.retain(|_, record| record.is_strange());
    Ok(records.into_keys().collect())
}
