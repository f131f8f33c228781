//! What a comparison by the database does not find: a person's addresses and numbers in values that are spelled otherwise.
//!
//! The database only finds which values may hold one; what a value names is read here.

use std::collections::BTreeSet;

use lethe_terms::{Identifier, IdentifierKind};

use crate::catalog::{Class, Column, as_text};
use crate::db::quoted;
use crate::mail;
use crate::phone::{self, Spellings};
use crate::statement::Statements;

/// A person's identifiers of one kind, to be found in a column.
pub(crate) struct Sought {
    /// What the database looks for, as its first argument.
    pub(crate) argument: String,
    by: By,
}

enum By {
    /// Comparable addresses.
    Email(BTreeSet<String>),
    Phone(Spellings),
}

impl Sought {
    /// `None` where the identifiers have nothing of the kind, or the database's own comparison finds all.
    pub(crate) fn of(
        column: &Column,
        kind: IdentifierKind,
        identifiers: &[Identifier],
        phone_country: Option<&str>,
    ) -> Option<Self> {
        let given: Vec<&str> = identifiers
            .iter()
            .filter(|one| one.kind == kind)
            .map(|one| one.value.trim())
            .filter(|value| !value.is_empty() && !value.contains('\0'))
            .collect();
        let (pieces, by): (BTreeSet<String>, _) = match (column.class, kind) {
            (Class::Text, IdentifierKind::Email) => (
                given
                    .iter()
                    .flat_map(|address| mail::stretches(address))
                    .collect(),
                By::Email(given.iter().map(|address| mail::comparable(address)).collect()),
            ),
            (_, IdentifierKind::Phone) => (
                given.iter().filter_map(|number| phone::pattern(number)).collect(),
                By::Phone(Spellings::of(given.iter().copied(), phone_country)),
            ),
            _ => return None,
        };
        let argument = serde_json::to_string(&pieces).ok()?;
        (!pieces.is_empty()).then_some(Self { argument, by })
    }

    /// Whether a value names the person.
    pub(crate) fn stands_in(&self, value: &str) -> bool {
        match &self.by {
            By::Email(addresses) => mail::names_one(value, addresses),
            By::Phone(spellings) => spellings.hold(value),
        }
    }
}

impl Statements<'_> {
    /// Condition: a value may hold what is sought.
    fn may_hold(&self, name: &str, column: &Column, kind: IdentifierKind) -> String {
        match kind {
            IdentifierKind::Phone => {
                phone::may_hold(self.dialect, &as_text(self.dialect, name, column.class))
            }
            _ => mail::composed(self.dialect, name),
        }
    }

    /// Values of a column that may name the person, each with its root's key.
    pub(crate) fn sought_holders(&self, table: usize, column: &Column, kind: IdentifierKind) -> String {
        let chain = self.chain(table, "JOIN");
        let name = format!("t{table}.{}", quoted(&column.name));
        format!(
            "SELECT {}, {} FROM {} WHERE {}",
            self.key_texts(&chain.key).join(", "),
            as_text(self.dialect, &name, column.class),
            chain.from,
            self.may_hold(&name, column, kind)
        )
    }

    /// The same wherever the rows hang, for looking again: key, whether the root is marked, value.
    pub(crate) fn sought_seen(&self, table: usize, column: &Column, kind: IdentifierKind) -> String {
        let chain = self.chain(table, "LEFT JOIN");
        let marked = if chain.joins_root {
            self.marked("t0.")
        } else {
            self.marked_by(&chain.key)
        };
        let name = format!("t{table}.{}", quoted(&column.name));
        format!(
            "SELECT {}, CASE WHEN {marked} THEN '1' ELSE '0' END, {} FROM {} WHERE {}",
            self.key_texts(&chain.key).join(", "),
            as_text(self.dialect, &name, column.class),
            chain.from,
            self.may_hold(&name, column, kind)
        )
    }
}
