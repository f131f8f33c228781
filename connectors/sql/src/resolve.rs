//! Matches the mapping's names with the live catalogue and collects everything that does not fit.

use std::collections::BTreeMap;

use lethe_terms::IssuedKind;

use crate::catalog::{Catalog, Class, Column, TableKind};
use crate::config::{ChildConfig, Config, EraseRow, RestrictConfig, UnitConfig};
use crate::db::Dialect;
use crate::error::Problem;
use crate::model::{Mark, Table, TableVerb, Unit};
use crate::rules;

/// Names further apart than this are no misspelling of each other.
const DISTANCE_MAX: usize = 4;

/// Collects what is wrong, so that everything is told at once.
pub(crate) struct Problems(pub(crate) Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, code: &'static str, place: impl Into<String>, expected: impl Into<String>) {
        self.0.push(Problem {
            code,
            place: place.into(),
            expected: expected.into(),
        });
    }
}

/// What every step of the matching needs.
pub(crate) struct Context<'a> {
    pub(crate) catalog: &'a Catalog,
    pub(crate) dialect: Dialect,
    pub(crate) schema: Option<&'a str>,
    /// Name of the unit that is being matched, for messages.
    pub(crate) unit: &'a str,
}

/// The units, as far as they fit.
pub(crate) fn units(
    config: &Config,
    catalog: &Catalog,
    dialect: Dialect,
    problems: &mut Problems,
) -> Vec<Unit> {
    if config.units.is_empty() {
        problems.add("sql-config", "units", "expected at least one [[units]]");
    }
    let mut units = Vec::new();
    for unit in &config.units {
        let schema = config.schema.as_deref();
        let context = Context {
            catalog,
            dialect,
            schema,
            unit: unit.name.as_str(),
        };
        if config
            .units
            .iter()
            .filter(|other| other.name == unit.name)
            .count()
            > 1
        {
            problems.add(
                "sql-config",
                context.place(""),
                "the name is given twice: expected one unit a name",
            );
        }
        for after in &unit.after {
            if *after == unit.name || !config.units.iter().any(|other| other.name == *after) {
                problems.add(
                    "sql-config",
                    context.place("after"),
                    format!("no other unit is named {after}"),
                );
            }
        }
        units.extend(context.unit(unit, problems));
    }
    rules::foreign_keys(config, catalog, &units, problems);
    units
}

/// The nearest known name, as a hint.
fn nearest<'n>(name: &str, known: impl Iterator<Item = &'n str>) -> String {
    let lower = name.to_lowercase();
    let best = known
        .map(|k| (strsim::damerau_levenshtein(&lower, &k.to_lowercase()), k))
        .min();
    match best {
        Some((distance, known)) if distance <= DISTANCE_MAX => format!("; the nearest is {known}"),
        _ => String::new(),
    }
}

impl Context<'_> {
    pub(crate) fn place(&self, what: &str) -> String {
        if what.is_empty() {
            format!("unit {}", self.unit)
        } else {
            format!("unit {}: {what}", self.unit)
        }
    }

    fn unit(&self, config: &UnitConfig, problems: &mut Problems) -> Option<Unit> {
        let id = self.table(config.schema.as_deref(), &config.table, problems)?;
        let live = &self.catalog.tables[id];
        if live.kind != TableKind::Plain {
            let expected =
                "is partitioned, WITHOUT ROWID or a view: expected a plain table as the root of a unit";
            problems.add("sql-root-not-a-table", self.place(&config.table), expected);
        }
        let names = if config.key.is_empty() {
            &live.primary
        } else {
            &config.key
        };
        if names.is_empty() {
            problems.add(
                "sql-key",
                self.place(&config.table),
                "has no primary key: expected `key = [columns]`",
            );
        }
        let key = self.columns(id, names, problems);
        self.check_key(id, &key, config, problems);
        let root = Table {
            id,
            name: config.table.clone(),
            sql: live.sql(),
            parent: None,
            link: Vec::new(),
            identifiers: self.identifiers(id, &config.identifiers, problems),
            verb: self.verb(id, config.erase, &config.columns, &config.table, problems),
            updated_at: self.updated_at(id, config.updated_at.as_deref(), problems),
            columns: live.columns.iter().map(|c| c.name.clone()).collect(),
        };
        let mut unit = Unit {
            name: config.name.clone(),
            tables: vec![root],
            key,
            order: Vec::new(),
            mark: None,
            cascades: Vec::new(),
        };
        for child in &config.children {
            if let Some(table) = self.child(child, &unit, problems) {
                unit.tables.push(table);
            }
        }
        if unit.tables.iter().all(|t| t.identifiers.is_empty()) {
            problems.add(
                "sql-config",
                self.place(""),
                "names no identifiers: expected at least one column by which a person is found",
            );
        }
        unit.mark = config
            .restrict
            .as_ref()
            .and_then(|r| self.mark(id, r, &unit.key, problems));
        rules::verbs(self, &unit, problems);
        rules::links(self, &unit, problems);
        unit.order = rules::order(self, &unit, problems);
        unit.cascades = rules::cascades(self.catalog, &unit);
        Some(unit)
    }

    fn table(&self, schema: Option<&str>, name: &str, problems: &mut Problems) -> Option<usize> {
        let schema = schema.or(self.schema);
        let found = self.catalog.find(schema, name);
        if found.is_none() {
            let within = schema.map(|s| format!(" in schema {s}")).unwrap_or_default();
            let known = self.catalog.tables.iter().map(|t| t.name.as_str());
            let hint = nearest(name, known);
            problems.add(
                "sql-unknown-table",
                self.place(name),
                format!("there is no such table{within}{hint}"),
            );
        }
        found
    }

    pub(crate) fn column(&self, table: usize, name: &str, problems: &mut Problems) -> Option<Column> {
        let live = &self.catalog.tables[table];
        let found = live.column(name).cloned();
        if found.is_none() {
            let hint = nearest(name, live.columns.iter().map(|c| c.name.as_str()));
            let place = self.place(&format!("{}.{name}", live.name));
            problems.add(
                "sql-unknown-column",
                place,
                format!("there is no such column{hint}"),
            );
        }
        found
    }

    fn columns(&self, table: usize, names: &[String], problems: &mut Problems) -> Vec<Column> {
        names
            .iter()
            .filter_map(|name| self.column(table, name, problems))
            .collect()
    }

    /// A key names exactly one row and has a text that names it exactly.
    fn check_key(&self, id: usize, key: &[Column], config: &UnitConfig, problems: &mut Problems) {
        let live = &self.catalog.tables[id];
        for column in key {
            let place = self.place(&format!("{}.{}", live.name, column.name));
            if matches!(column.class, Class::Inexact | Class::Inet) {
                problems.add(
                    "sql-key",
                    place,
                    format!(
                        "type {} cannot be a key: expected a number, text, uuid or time",
                        column.cast
                    ),
                );
            } else if column.nullable {
                problems.add(
                    "sql-key",
                    place,
                    "may be null, in SQLite in a primary key too: expected a key column that is NOT NULL",
                );
            }
        }
        let is_key = |unique: &Vec<String>| {
            !unique.is_empty() && unique.iter().all(|c| key.iter().any(|k| k.name == *c))
        };
        if !config.key.is_empty() && key.len() == config.key.len() && !live.unique.iter().any(is_key) {
            let place = self.place(&format!("{}: key", live.name));
            problems.add(
                "sql-key",
                place,
                "no primary key or unique index over these columns: expected a key that names one row",
            );
        }
    }

    fn identifiers(
        &self,
        table: usize,
        names: &BTreeMap<String, IssuedKind>,
        problems: &mut Problems,
    ) -> Vec<(Column, IssuedKind)> {
        names
            .iter()
            .filter_map(|(name, kind)| Some((self.column(table, name, problems)?, kind.clone())))
            .collect()
    }

    fn updated_at(&self, table: usize, name: Option<&str>, problems: &mut Problems) -> Option<Column> {
        let column = self.column(table, name?, problems)?;
        let fits =
            column.class == Class::Time || (self.dialect == Dialect::Sqlite && column.class == Class::Text);
        if !fits {
            let place = self.place(&format!("{}.{}", self.catalog.tables[table].name, column.name));
            problems.add(
                "sql-updated-at",
                place,
                format!("type {}: expected a time", column.cast),
            );
        }
        let placeless =
            self.dialect == Dialect::Sqlite && self.catalog.tables[table].kind == TableKind::Spread;
        if placeless {
            let place = self.place(&format!("{}.{}", self.catalog.tables[table].name, column.name));
            problems.add(
                "sql-updated-at",
                place,
                "the table is WITHOUT ROWID and cannot be followed: expected no updated_at here",
            );
        }
        (fits && !placeless).then_some(column)
    }

    fn verb(
        &self,
        id: usize,
        erase: Option<EraseRow>,
        columns: &BTreeMap<String, String>,
        name: &str,
        problems: &mut Problems,
    ) -> TableVerb {
        if erase.is_some() != columns.is_empty() {
            let expected = "expected either erase = \"row\" or columns = { … }, and not both";
            problems.add("sql-config", self.place(name), expected);
        }
        if columns.is_empty() {
            return TableVerb::Row;
        }
        TableVerb::Columns(rules::column_verbs(self, id, columns, problems))
    }

    fn child(&self, config: &ChildConfig, unit: &Unit, problems: &mut Problems) -> Option<Table> {
        let id = self.table(config.schema.as_deref(), &config.table, problems)?;
        let live = &self.catalog.tables[id];
        if live.kind == TableKind::Other && !config.lookup {
            problems.add(
                "sql-root-not-a-table",
                self.place(&config.table),
                "is a view: expected a table whose rows can be erased",
            );
        }
        let parent_name = config.parent.as_deref().unwrap_or(&unit.root().name);
        let Some(parent) = unit.tables.iter().position(|t| t.name == parent_name) else {
            let expected = format!("parent {parent_name} is not a table of this unit that stands before it");
            problems.add("sql-config", self.place(&config.table), expected);
            return None;
        };
        if config.link.is_empty() {
            problems.add(
                "sql-config",
                self.place(&config.table),
                "expected link = { own_column = \"column of the parent\" }",
            );
        }
        let parent_id = unit.tables[parent].id;
        let pair = |(own, other): (&String, &String), problems: &mut Problems| {
            let own = self.column(id, own, problems);
            Some((own?, self.column(parent_id, other, problems)?))
        };
        let link: Vec<_> = config
            .link
            .iter()
            .filter_map(|columns| pair(columns, problems))
            .collect();
        if link.len() < config.link.len() {
            return None;
        }
        let verb = if config.lookup {
            TableVerb::Lookup
        } else {
            self.verb(id, config.erase, &config.columns, &config.table, problems)
        };
        Some(Table {
            id,
            name: config.table.clone(),
            sql: live.sql(),
            parent: Some(parent),
            link,
            identifiers: self.identifiers(id, &config.identifiers, problems),
            verb,
            updated_at: self.updated_at(id, config.updated_at.as_deref(), problems),
            columns: live.columns.iter().map(|c| c.name.clone()).collect(),
        })
    }

    fn mark(
        &self,
        root: usize,
        config: &RestrictConfig,
        key: &[Column],
        problems: &mut Problems,
    ) -> Option<Mark> {
        match (&config.column, &config.shadow) {
            (Some(name), None) => {
                let column = self.column(root, name, problems)?;
                let place = self.place(&format!("{}.{name}", self.catalog.tables[root].name));
                let fits = match column.class {
                    Class::Time | Class::Text | Class::Int => column.nullable,
                    Class::Bool => true,
                    _ => false,
                };
                if !fits || column.generated {
                    let expected = "cannot hold the mark: expected a boolean, or a time, text or number that may be null";
                    problems.add("sql-restrict-column", place, expected);
                }
                Some(Mark::Column(column))
            }
            (None, Some(name)) => {
                let shadow = self.table(None, name, problems)?;
                for column in key {
                    self.column(shadow, &column.name, problems);
                }
                Some(Mark::Shadow {
                    id: shadow,
                    sql: self.catalog.tables[shadow].sql(),
                })
            }
            _ => {
                let expected =
                    "expected restrict = { column = … } or restrict = { shadow = … }, and not both";
                problems.add("sql-config", self.place("restrict"), expected);
                None
            }
        }
    }
}
