//! Statements: how rows of a unit are found by keys and by identifiers. Names are quoted, values are arguments.

use lethe_terms::{Identifier, IdentifierKind, IssuedKind};

use crate::catalog::{Class, Column, as_text, from_text};
use crate::db::{Dialect, arg, quoted};
use crate::key::{canonical_int, is_uuid};
use crate::mail::comparable;
use crate::model::{Cascade, ColumnVerb, Mark, TableVerb, Unit};
use crate::rules::RANDOM_PREFIX;

/// Statements of one unit.
#[derive(Clone, Copy)]
pub(crate) struct Statements<'u> {
    pub(crate) unit: &'u Unit,
    pub(crate) dialect: Dialect,
    /// Country calling code of numbers without one.
    pub(crate) phone_country: Option<&'u str>,
}

/// A FROM clause from a table up to where the root's key is known, and the key's expressions there.
pub(crate) struct Chain {
    pub(crate) from: String,
    pub(crate) key: Vec<String>,
    /// Whether the root row itself is joined.
    pub(crate) joins_root: bool,
}

impl<'u> Statements<'u> {
    fn element(&self, n: usize, column: &Column) -> String {
        match self.dialect {
            Dialect::Postgres => from_text(self.dialect, &format!("v->>{n}"), column),
            Dialect::Sqlite => {
                let text = format!("json_extract(value, '$[{n}]')");
                let cast = from_text(self.dialect, &text, column);
                // A column of numbers may hold text as well, which is compared as such.
                match column.class {
                    Class::Int => {
                        format!("CASE WHEN CAST({cast} AS TEXT) = {text} THEN {cast} ELSE {text} END")
                    }
                    _ => cast,
                }
            }
        }
    }

    /// Condition: these expressions are one of the keys in the first argument. Written so that an index on them is used.
    fn among_keys(&self, expressions: &[String]) -> String {
        let elements: Vec<String> = self
            .unit
            .key
            .iter()
            .enumerate()
            .map(|(n, c)| self.element(n, c))
            .collect();
        let source = match self.dialect {
            Dialect::Postgres => format!(
                "SELECT {} FROM jsonb_array_elements($1::text::jsonb) AS k(v)",
                elements.join(", ")
            ),
            Dialect::Sqlite => format!("SELECT {} FROM json_each(?1)", elements.join(", ")),
        };
        match (expressions, self.dialect) {
            ([one], Dialect::Postgres) => format!("{one} = ANY (ARRAY({source}))"),
            ([one], Dialect::Sqlite) => format!("{one} IN ({source})"),
            _ => format!("({}) IN ({source})", expressions.join(", ")),
        }
    }

    /// The table's own columns that hold the root's key, where its link to the root is the key.
    fn key_in_child(&self, table: usize) -> Option<Vec<&'u Column>> {
        let table = &self.unit.tables[table];
        if table.parent != Some(0) {
            return None;
        }
        let own = |key: &Column| {
            table
                .link
                .iter()
                .find(|(_, parent)| parent.name == key.name)
                .map(|(own, _)| own)
        };
        self.unit.key.iter().map(own).collect()
    }

    /// Condition on a table's own columns: its rows belong to the selected roots. For statements that change rows.
    pub(crate) fn belongs(&self, table: usize) -> String {
        let own = &self.unit.tables[table];
        let Some(parent) = own.parent else {
            return self.among_keys(&self.unit.key.iter().map(|c| quoted(&c.name)).collect::<Vec<_>>());
        };
        if let Some(columns) = self.key_in_child(table) {
            return self.among_keys(&columns.iter().map(|c| quoted(&c.name)).collect::<Vec<_>>());
        }
        let (mine, theirs): (Vec<_>, Vec<_>) = own
            .link
            .iter()
            .map(|(a, b)| (quoted(&a.name), quoted(&b.name)))
            .unzip();
        let mine = if mine.len() == 1 {
            mine.join("")
        } else {
            format!("({})", mine.join(", "))
        };
        format!(
            "{mine} IN (SELECT {} FROM {} WHERE {})",
            theirs.join(", "),
            self.unit.tables[parent].sql,
            self.belongs(parent)
        )
    }

    /// From a table up to the root's key; `join` is `JOIN`, or `LEFT JOIN` to keep rows that hang on nothing.
    pub(crate) fn chain(&self, table: usize, join: &str) -> Chain {
        let mut from = format!("{} AS t{table}", self.unit.tables[table].sql);
        let mut at = table;
        while let Some(parent) = self.unit.tables[at].parent {
            if let Some(columns) = self.key_in_child(at) {
                let key = columns
                    .iter()
                    .map(|c| format!("t{at}.{}", quoted(&c.name)))
                    .collect();
                return Chain {
                    from,
                    key,
                    joins_root: false,
                };
            }
            let on: Vec<String> = self.unit.tables[at]
                .link
                .iter()
                .map(|(own, other)| {
                    format!("t{at}.{} = t{parent}.{}", quoted(&own.name), quoted(&other.name))
                })
                .collect();
            from = format!(
                "{from} {join} {} AS t{parent} ON {}",
                self.unit.tables[parent].sql,
                on.join(" AND ")
            );
            at = parent;
        }
        let key = self
            .unit
            .key
            .iter()
            .map(|c| format!("t0.{}", quoted(&c.name)))
            .collect();
        Chain {
            from,
            key,
            joins_root: true,
        }
    }

    pub(crate) fn key_texts(&self, key: &[String]) -> Vec<String> {
        key.iter()
            .zip(&self.unit.key)
            .map(|(e, c)| as_text(self.dialect, e, c.class))
            .collect()
    }

    /// Key of the root and identifiers of each row of a table, for the selected roots.
    pub(crate) fn rows_of(&self, table: usize) -> String {
        let chain = self.chain(table, "JOIN");
        let mut columns = self.key_texts(&chain.key);
        for (column, _) in &self.unit.tables[table].identifiers {
            columns.push(as_text(
                self.dialect,
                &format!("t{table}.{}", quoted(&column.name)),
                column.class,
            ));
        }
        format!(
            "SELECT {} FROM {} WHERE {}",
            columns.join(", "),
            chain.from,
            self.among_keys(&chain.key)
        )
    }

    /// Whole rows of a table as JSON, for the selected roots: key of the root, then the row.
    pub(crate) fn export_of(&self, table: usize) -> String {
        let chain = self.chain(table, "JOIN");
        let mut columns = self.key_texts(&chain.key);
        columns.push(match self.dialect {
            Dialect::Postgres => format!("to_jsonb(t{table})::text"),
            Dialect::Sqlite => {
                let all = self.unit.tables[table].columns.iter();
                let pairs: Vec<String> = all
                    .map(|c| format!("'{}', t{table}.{}", c.replace('\'', "''"), quoted(c)))
                    .collect();
                format!("json_object({})", pairs.join(", "))
            }
        });
        format!(
            "SELECT {} FROM {} WHERE {}",
            columns.join(", "),
            chain.from,
            self.among_keys(&chain.key)
        )
    }

    /// The values of the first argument, compared with a column as its kind demands; `None` where the column cannot hold such values.
    pub(crate) fn matches(&self, expression: &str, column: &Column, kind: &IssuedKind) -> String {
        let values = match self.dialect {
            Dialect::Postgres => "SELECT v FROM jsonb_array_elements_text($1::text::jsonb) AS k(v)",
            Dialect::Sqlite => "SELECT value FROM json_each(?1)",
        };
        let among = |expression: &str, cast: &str| match self.dialect {
            Dialect::Postgres => format!("{expression} = ANY (ARRAY({values}){cast})"),
            Dialect::Sqlite => format!("{expression} IN ({values})"),
        };
        let text = || as_text(self.dialect, expression, column.class);
        match (column.class, kind.kind()) {
            (Class::Text, IdentifierKind::Email) => among(&self.email(expression), ""),
            (Class::Text, _) if self.dialect == Dialect::Sqlite => among(expression, ""),
            (Class::Text | Class::Int | Class::Uuid, _) => among(expression, &format!("::{}[]", column.cast)),
            _ => among(&text(), ""),
        }
    }

    /// An e-mail as intake spells it: without the blanks around it, in lower case.
    fn email(&self, expression: &str) -> String {
        match self.dialect {
            Dialect::Postgres => format!("lower(btrim({expression}, E' \\t\\n\\r'))"),
            Dialect::Sqlite => format!("lower(trim({expression}, char(32, 9, 10, 13)))"),
        }
    }

    /// The first argument of [`Self::matches`]: the person's values of a kind that the column can hold; `None` where there is none. Telephone numbers
    /// have too many spellings: [`crate::sought`] finds them.
    pub(crate) fn values(column: &Column, kind: &IssuedKind, identifiers: &[Identifier]) -> Option<String> {
        let fits = |value: &str| match column.class {
            Class::Int => canonical_int(value),
            Class::Uuid => is_uuid(value),
            _ => !value.is_empty() && !value.contains('\0'),
        };
        let lower = column.class == Class::Uuid;
        let values: Vec<String> = identifiers
            .iter()
            .filter(|i| kind.covers(i) && i.kind != IdentifierKind::Phone)
            .flat_map(|i| match i.kind {
                IdentifierKind::Email => vec![i.value.to_lowercase(), comparable(&i.value)],
                _ if lower => vec![i.value.to_lowercase()],
                _ => vec![i.value.clone()],
            })
            .filter(|value| fits(value))
            .collect();
        if values.is_empty() {
            None
        } else {
            serde_json::to_string(&values).ok()
        }
    }

    /// Keys of the roots whose rows in a table hold an identifier.
    pub(crate) fn holders(&self, table: usize, column: &Column, kind: &IssuedKind) -> String {
        let chain = self.chain(table, "JOIN");
        let condition = self.matches(&format!("t{table}.{}", quoted(&column.name)), column, kind);
        format!(
            "SELECT DISTINCT {} FROM {} WHERE {condition}",
            self.key_texts(&chain.key).join(", "),
            chain.from
        )
    }

    /// Locks the selected roots in a fixed order, so that two instructions never wait for each other. Key, then whether marked.
    pub(crate) fn lock(&self) -> String {
        let key: Vec<String> = self
            .unit
            .key
            .iter()
            .map(|c| format!("t0.{}", quoted(&c.name)))
            .collect();
        let lock = if self.dialect == Dialect::Postgres {
            " FOR UPDATE OF t0"
        } else {
            ""
        };
        let (texts, condition) = (self.key_texts(&key).join(", "), self.among_keys(&key));
        format!(
            "SELECT {texts} FROM {} AS t0 WHERE {condition} ORDER BY {}{lock}",
            self.unit.root().sql,
            key.join(", ")
        )
    }

    /// Erases the rows of a table that belong to the selected roots; the replacements are the arguments after the first.
    pub(crate) fn erase(&self, table: usize) -> Option<(String, Vec<&'u str>)> {
        let own = &self.unit.tables[table];
        match &own.verb {
            TableVerb::Lookup => None,
            TableVerb::Row => Some((
                format!("DELETE FROM {} WHERE {}", own.sql, self.belongs(table)),
                Vec::new(),
            )),
            TableVerb::Columns(verbs) if verbs.is_empty() => None,
            TableVerb::Columns(verbs) => {
                let mut arguments = Vec::new();
                let mut sets = Vec::new();
                for (column, verb) in verbs {
                    let value = match verb {
                        ColumnVerb::Null => "NULL".to_owned(),
                        ColumnVerb::Replace(text) => {
                            arguments.push(text.as_str());
                            from_text(self.dialect, &arg(self.dialect, arguments.len() + 1), column)
                        }
                        ColumnVerb::Random => match self.dialect {
                            Dialect::Postgres => format!("'{RANDOM_PREFIX}' || gen_random_uuid()::text"),
                            Dialect::Sqlite => format!("'{RANDOM_PREFIX}' || lower(hex(randomblob(16)))"),
                        },
                    };
                    sets.push(format!("{} = {value}", quoted(&column.name)));
                }
                Some((
                    format!(
                        "UPDATE {} SET {} WHERE {}",
                        own.sql,
                        sets.join(", "),
                        self.belongs(table)
                    ),
                    arguments,
                ))
            }
        }
    }

    /// Whether rows still point to rows that are to be erased, by a foreign key that would take them along.
    pub(crate) fn taken_along(&self, cascade: &Cascade) -> String {
        let (from, to): (Vec<_>, Vec<_>) = cascade
            .columns
            .iter()
            .map(|(from, to)| (quoted(from), quoted(to)))
            .unzip();
        format!(
            "SELECT '1' FROM {} WHERE ({}) IN (SELECT {} FROM {} WHERE {}) LIMIT 1",
            cascade.from_sql,
            from.join(", "),
            to.join(", "),
            self.unit.tables[cascade.table].sql,
            self.belongs(cascade.table)
        )
    }

    /// Whether a root row carries the mark.
    pub(crate) fn marked(&self, root: &str) -> String {
        match &self.unit.mark {
            None => "1 = 0".to_owned(),
            Some(Mark::Column(column)) => {
                let name = format!("{root}{}", quoted(&column.name));
                match column.class {
                    Class::Bool if self.dialect == Dialect::Postgres => format!("{name} IS TRUE"),
                    Class::Bool | Class::Int => format!("coalesce({name}, 0) <> 0"),
                    _ => format!("{name} IS NOT NULL"),
                }
            }
            Some(Mark::Shadow { sql: shadow, .. }) => {
                let same: Vec<String> = self
                    .unit
                    .key
                    .iter()
                    .map(|c| format!("s.{0} = {root}{0}", quoted(&c.name)))
                    .collect();
                format!(
                    "EXISTS (SELECT 1 FROM {shadow} AS s WHERE {})",
                    same.join(" AND ")
                )
            }
        }
    }

    fn returning(&self) -> String {
        let key: Vec<String> = self.unit.key.iter().map(|c| quoted(&c.name)).collect();
        self.key_texts(&key).join(", ")
    }

    /// Marks the selected roots that carry no mark; returns their keys.
    pub(crate) fn restrict(&self) -> Option<String> {
        let root = self.unit.root();
        Some(match self.unit.mark.as_ref()? {
            Mark::Column(column) => {
                let value = match (column.class, self.dialect) {
                    (Class::Bool, Dialect::Postgres) => "true",
                    (Class::Bool | Class::Int, _) => "1",
                    (Class::Time, Dialect::Postgres) => "clock_timestamp()",
                    (Class::Text, Dialect::Postgres) => "'restricted'",
                    _ => "strftime('%Y-%m-%d %H:%M:%f', 'now')",
                };
                let (set, unmarked) = (quoted(&column.name), self.marked(""));
                format!(
                    "UPDATE {} SET {set} = {value} WHERE {} AND NOT ({unmarked}) RETURNING {}",
                    root.sql,
                    self.belongs(0),
                    self.returning()
                )
            }
            Mark::Shadow { sql: shadow, .. } => {
                let key: Vec<String> = self.unit.key.iter().map(|c| quoted(&c.name)).collect();
                let (key, marked) = (key.join(", "), self.marked("t0."));
                let names: Vec<String> = self
                    .unit
                    .key
                    .iter()
                    .map(|c| format!("t0.{}", quoted(&c.name)))
                    .collect();
                let condition = self.among_keys(&names);
                format!(
                    "INSERT INTO {shadow} ({key}) SELECT {} FROM {} AS t0 WHERE {condition} AND NOT ({marked}) RETURNING {}",
                    names.join(", "),
                    root.sql,
                    self.returning()
                )
            }
        })
    }

    /// Takes the mark off the selected roots; returns their keys.
    pub(crate) fn lift(&self) -> Option<String> {
        let root = self.unit.root();
        Some(match self.unit.mark.as_ref()? {
            Mark::Column(column) => {
                let value = match (column.nullable, column.class, self.dialect) {
                    (true, ..) => "NULL",
                    (false, Class::Bool, Dialect::Postgres) => "false",
                    _ => "0",
                };
                let (set, marked) = (quoted(&column.name), self.marked(""));
                format!(
                    "UPDATE {} SET {set} = {value} WHERE {} AND {marked} RETURNING {}",
                    root.sql,
                    self.belongs(0),
                    self.returning()
                )
            }
            Mark::Shadow { sql: shadow, .. } => format!(
                "DELETE FROM {shadow} WHERE {} RETURNING {}",
                self.belongs(0),
                self.returning()
            ),
        })
    }

    /// Condition: something of a row is not as erasing leaves it. The replacements are the arguments after the first.
    pub(crate) fn not_erased(&self, table: usize) -> (String, Vec<&'u str>) {
        let TableVerb::Columns(verbs) = &self.unit.tables[table].verb else {
            return ("1 = 1".to_owned(), Vec::new());
        };
        let mut arguments = Vec::new();
        let mut differs = vec!["1 = 0".to_owned()];
        for (column, verb) in verbs {
            let name = format!("t{table}.{}", quoted(&column.name));
            differs.push(match verb {
                ColumnVerb::Null => format!("{name} IS NOT NULL"),
                ColumnVerb::Random => format!("{name} IS NULL OR {name} NOT LIKE '{RANDOM_PREFIX}%'"),
                ColumnVerb::Replace(text) => {
                    arguments.push(text.as_str());
                    let value = from_text(self.dialect, &arg(self.dialect, arguments.len() + 1), column);
                    match self.dialect {
                        Dialect::Postgres => format!("{name} IS DISTINCT FROM {value}"),
                        Dialect::Sqlite => format!("{name} IS NOT {value}"),
                    }
                }
            });
        }
        (format!("({})", differs.join(" OR ")), arguments)
    }

    /// Looks at the rows of a table by the roots' keys: key and whether the root is marked, of rows that are not as erasing leaves them.
    pub(crate) fn seen_by_key(&self, table: usize) -> (String, Vec<&'u str>) {
        let chain = self.chain(table, "JOIN");
        let (condition, arguments) = self.not_erased(table);
        let marked = if chain.joins_root {
            self.marked("t0.")
        } else {
            self.marked_by(&chain.key)
        };
        let keys = self.key_texts(&chain.key).join(", ");
        let flag = format!("CASE WHEN {marked} THEN '1' ELSE '0' END");
        let among = self.among_keys(&chain.key);
        (
            format!(
                "SELECT DISTINCT {keys}, {flag} FROM {} WHERE {among} AND {condition}",
                chain.from
            ),
            arguments,
        )
    }

    /// Looks at a table by an identifier, wherever its rows hang: key (null where they hang on nothing) and whether the root is marked.
    pub(crate) fn seen_by_identifier(&self, table: usize, column: &Column, kind: &IssuedKind) -> String {
        let chain = self.chain(table, "LEFT JOIN");
        let marked = if chain.joins_root {
            self.marked("t0.")
        } else {
            self.marked_by(&chain.key)
        };
        let condition = self.matches(&format!("t{table}.{}", quoted(&column.name)), column, kind);
        let keys = self.key_texts(&chain.key).join(", ");
        format!(
            "SELECT DISTINCT {keys}, CASE WHEN {marked} THEN '1' ELSE '0' END FROM {} WHERE {condition}",
            chain.from
        )
    }

    /// Changes of a table from a time on, oldest first: key of the root, the time, and a place that sorts rows of the same time. Arguments: the
    /// limit, the time, and with `placed` the place behind which to begin.
    pub(crate) fn changed_since(&self, table: usize, placed: bool, bucket_shift: u32) -> Option<String> {
        let column = self.unit.tables[table].updated_at.as_ref()?;
        let chain = self.chain(table, "JOIN");
        let time = format!("t{table}.{}", quoted(&column.name));
        let (keys, time_text) = (
            self.key_texts(&chain.key).join(", "),
            as_text(self.dialect, &time, column.class),
        );
        let from = from_text(self.dialect, &arg(self.dialect, 2), column);
        Some(match self.dialect {
            Dialect::Postgres => {
                let row = format!("{time}, t{table}.tableoid, t{table}.ctid");
                let begin = if placed {
                    format!(
                        "{time} >= {from} AND ({row}) > ({from}, split_part($3::text, ' ', 1)::oid, split_part($3::text, ' ', 2)::tid)"
                    )
                } else {
                    format!("{time} >= {from}")
                };
                let place = format!("t{table}.tableoid::text || ' ' || t{table}.ctid::text");
                format!(
                    "SELECT {keys}, {time_text}, {place} FROM {} WHERE {begin} ORDER BY {row} LIMIT $1::text::bigint",
                    chain.from
                )
            }
            Dialect::Sqlite => {
                let bucket = format!("(t{table}.rowid >> {bucket_shift})");
                let begin = if placed {
                    format!("{time} >= {from} AND ({time} > {from} OR {bucket} > CAST(?3 AS INTEGER))")
                } else {
                    format!("{time} >= {from}")
                };
                let rows = format!(
                    "FROM {} WHERE {begin} ORDER BY {time}, t{table}.rowid LIMIT CAST(?1 AS INTEGER)",
                    chain.from
                );
                format!("SELECT {keys}, {time_text}, CAST({bucket} AS TEXT) {rows}")
            }
        })
    }

    /// Whether the root of that key carries the mark.
    pub(crate) fn marked_by(&self, key: &[String]) -> String {
        if self.unit.mark.is_none() {
            return "1 = 0".to_owned();
        }
        let same: Vec<String> = self
            .unit
            .key
            .iter()
            .zip(key)
            .map(|(c, e)| format!("r.{} = {e}", quoted(&c.name)))
            .collect();
        format!(
            "EXISTS (SELECT 1 FROM {} AS r WHERE {} AND {})",
            self.unit.root().sql,
            same.join(" AND "),
            self.marked("r.")
        )
    }
}
