//! The live catalogue: what tables, columns, keys and rules the database really has.

use crate::db::{Dialect, Row, Tx, quoted};

/// What a type allows, as far as verbs and comparisons care.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    Int,
    Uuid,
    Text,
    Inet,
    Time,
    Bool,
    /// Cannot be a key: its text does not name it exactly.
    Inexact,
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Column {
    pub(crate) name: String,
    /// The type as a cast takes it, without length.
    pub(crate) cast: String,
    pub(crate) class: Class,
    pub(crate) nullable: bool,
    pub(crate) generated: bool,
    pub(crate) chars_max: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TableKind {
    Plain,
    /// Rows have no place of their own (partitioned, or SQLite's WITHOUT ROWID): good as a child only.
    Spread,
    /// A view or a foreign table.
    Other,
}

#[derive(Debug, Clone)]
pub(crate) struct Check {
    pub(crate) name: String,
    pub(crate) expression: String,
    pub(crate) columns: Vec<String>,
}

#[derive(Debug, Clone)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) kind: TableKind,
    /// Whether its name alone finds it.
    pub(crate) visible: bool,
    pub(crate) columns: Vec<Column>,
    pub(crate) primary: Vec<String>,
    /// Columns of each unique index, the primary key among them.
    pub(crate) unique: Vec<Vec<String>>,
    pub(crate) checks: Vec<Check>,
}

impl Table {
    pub(crate) fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|c| c.name == name)
    }
    /// The name as a statement takes it.
    pub(crate) fn sql(&self) -> String {
        format!("{}.{}", quoted(&self.schema), quoted(&self.name))
    }
}

/// What the database does with a row that points to a removed one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OnRemoval {
    Refuse,
    Cascade,
    SetNull,
}

#[derive(Debug, Clone)]
pub(crate) struct ForeignKey {
    pub(crate) name: String,
    /// Index of the table that points.
    pub(crate) from: usize,
    pub(crate) from_columns: Vec<String>,
    /// Index of the table that is pointed to.
    pub(crate) to: usize,
    pub(crate) to_columns: Vec<String>,
    pub(crate) on_removal: OnRemoval,
}

#[derive(Debug, Clone, Default)]
pub(crate) struct Catalog {
    pub(crate) tables: Vec<Table>,
    pub(crate) keys: Vec<ForeignKey>,
}

impl Catalog {
    pub(crate) async fn read(tx: &mut Tx) -> Result<Self, sqlx::Error> {
        match tx {
            Tx::Postgres(_) => postgres(tx).await,
            Tx::Sqlite(_) => sqlite(tx).await,
        }
    }

    /// The table of that name: in the schema, or wherever the name alone finds it.
    pub(crate) fn find(&self, schema: Option<&str>, name: &str) -> Option<usize> {
        self.tables
            .iter()
            .position(|t| t.name == name && schema.map_or(t.visible, |s| t.schema == s))
    }
}

fn text(row: &mut Row, n: usize) -> String {
    row.get_mut(n).and_then(Option::take).unwrap_or_default()
}

fn names(json: &str) -> Vec<String> {
    serde_json::from_str(json).unwrap_or_default()
}

const PG_TABLES: &str =
    "SELECT c.oid::text, n.nspname::text, c.relname::text, c.relkind::text, pg_table_is_visible(c.oid)::text
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
        AND n.nspname !~ '^pg_(toast|temp)' ORDER BY c.oid";
const PG_COLUMNS: &str = "SELECT a.attrelid::text, a.attname::text, format_type(a.atttypid, NULL), (NOT a.attnotnull)::text,
        (a.attgenerated <> '' OR a.attidentity = 'a')::text,
        CASE WHEN a.atttypid IN ('varchar'::regtype, 'bpchar'::regtype) AND a.atttypmod > 4 THEN (a.atttypmod - 4)::text END,
        t.typcategory::text, t.typname::text
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid JOIN pg_class c ON c.oid = a.attrelid
    JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f')
        AND n.nspname NOT IN ('pg_catalog', 'information_schema') ORDER BY a.attrelid, a.attnum";
const PG_UNIQUE: &str = "SELECT i.indrelid::text, i.indisprimary::text,
        (SELECT json_agg(a.attname ORDER BY k.n) FROM unnest(i.indkey) WITH ORDINALITY k(num, n)
            JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.num)::text
    FROM pg_index i WHERE i.indisunique AND i.indexprs IS NULL AND i.indpred IS NULL";
const PG_KEYS: &str = "SELECT k.conname::text, k.conrelid::text, k.confrelid::text, k.confdeltype::text,
        (SELECT json_agg(a.attname ORDER BY u.n) FROM unnest(k.conkey) WITH ORDINALITY u(num, n)
            JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num)::text,
        (SELECT json_agg(a.attname ORDER BY u.n) FROM unnest(k.confkey) WITH ORDINALITY u(num, n)
            JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num)::text
    FROM pg_constraint k WHERE k.contype = 'f' AND k.conparentid = 0 ORDER BY k.oid";
const PG_CHECKS: &str = "SELECT k.conrelid::text, k.conname::text, pg_get_expr(k.conbin, k.conrelid),
        (SELECT json_agg(a.attname) FROM unnest(k.conkey) num JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = num)::text
    FROM pg_constraint k WHERE k.contype = 'c' AND k.conrelid <> 0";

fn pg_class(category: &str, name: &str) -> Class {
    match (category, name) {
        (_, "int2" | "int4" | "int8") => Class::Int,
        (_, "uuid") => Class::Uuid,
        (_, "inet" | "cidr") => Class::Inet,
        (_, "float4" | "float8" | "json" | "jsonb" | "xml") => Class::Inexact,
        ("S", _) | (_, "citext") => Class::Text,
        ("D", _) => Class::Time,
        ("B", _) => Class::Bool,
        _ => Class::Other,
    }
}

async fn postgres(tx: &mut Tx) -> Result<Catalog, sqlx::Error> {
    let mut catalog = Catalog::default();
    let mut oids: Vec<String> = Vec::new();
    for mut row in tx.rows(PG_TABLES, &[]).await? {
        oids.push(text(&mut row, 0));
        let kind = match text(&mut row, 3).as_str() {
            "r" => TableKind::Plain,
            "p" => TableKind::Spread,
            _ => TableKind::Other,
        };
        catalog.tables.push(Table {
            schema: text(&mut row, 1),
            name: text(&mut row, 2),
            kind,
            visible: text(&mut row, 4) == "true",
            columns: Vec::new(),
            primary: Vec::new(),
            unique: Vec::new(),
            checks: Vec::new(),
        });
    }
    let place = |oid: &str| oids.iter().position(|o| o == oid);
    for mut row in tx.rows(PG_COLUMNS, &[]).await? {
        let Some(table) = place(&text(&mut row, 0)) else {
            continue;
        };
        let class = pg_class(&text(&mut row, 6), &text(&mut row, 7));
        // A number that is too large for a column must not be an error where it is only looked for.
        let cast = if class == Class::Int {
            "int8".to_owned()
        } else {
            text(&mut row, 2)
        };
        catalog.tables[table].columns.push(Column {
            name: text(&mut row, 1),
            cast,
            nullable: text(&mut row, 3) == "true",
            generated: text(&mut row, 4) == "true",
            chars_max: text(&mut row, 5).parse().ok(),
            class,
        });
    }
    postgres_rules(tx, &mut catalog, &oids).await?;
    Ok(catalog)
}

/// Unique indexes, foreign keys and CHECK rules.
async fn postgres_rules(tx: &mut Tx, catalog: &mut Catalog, oids: &[String]) -> Result<(), sqlx::Error> {
    let place = |oid: &str| oids.iter().position(|o| o == oid);
    for mut row in tx.rows(PG_UNIQUE, &[]).await? {
        let Some(table) = place(&text(&mut row, 0)) else {
            continue;
        };
        let primary = text(&mut row, 1) == "true";
        let columns = names(&text(&mut row, 2));
        if primary {
            catalog.tables[table].primary.clone_from(&columns);
        }
        catalog.tables[table].unique.push(columns);
    }
    for mut row in tx.rows(PG_KEYS, &[]).await? {
        let (Some(from), Some(to)) = (place(&text(&mut row, 1)), place(&text(&mut row, 2))) else {
            continue;
        };
        let on_removal = match text(&mut row, 3).as_str() {
            "c" => OnRemoval::Cascade,
            "n" => OnRemoval::SetNull,
            _ => OnRemoval::Refuse,
        };
        let (from_columns, to_columns) = (names(&text(&mut row, 4)), names(&text(&mut row, 5)));
        catalog.keys.push(ForeignKey {
            name: text(&mut row, 0),
            from,
            from_columns,
            to,
            to_columns,
            on_removal,
        });
    }
    for mut row in tx.rows(PG_CHECKS, &[]).await? {
        let Some(table) = place(&text(&mut row, 0)) else {
            continue;
        };
        let check = Check {
            name: text(&mut row, 1),
            expression: text(&mut row, 2),
            columns: names(&text(&mut row, 3)),
        };
        catalog.tables[table].checks.push(check);
    }
    Ok(())
}

/// Affinity by declared type, as SQLite's own rules say (section 3.1 of "Datatypes in SQLite"), and the classes that verbs care about.
fn sqlite_class(declared: &str) -> (Class, &'static str) {
    let declared = declared.to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|w| declared.contains(w));
    if has(&["INT"]) {
        (Class::Int, "INTEGER")
    } else if has(&["CHAR", "CLOB", "TEXT"]) {
        (Class::Text, "TEXT")
    } else if declared.is_empty() || has(&["BLOB"]) {
        (Class::Inexact, "BLOB")
    } else if has(&["REAL", "FLOA", "DOUB"]) {
        (Class::Inexact, "REAL")
    } else if has(&["BOOL"]) {
        (Class::Bool, "NUMERIC")
    } else if has(&["DATE", "TIME"]) {
        (Class::Time, "TEXT")
    } else {
        (Class::Other, "NUMERIC")
    }
}

async fn sqlite(tx: &mut Tx) -> Result<Catalog, sqlx::Error> {
    let mut catalog = Catalog::default();
    let tables = "SELECT name, type, CAST(wr AS TEXT) FROM pragma_table_list WHERE schema = 'main' AND name NOT LIKE 'sqlite_%' ORDER BY name";
    for mut row in tx.rows(tables, &[]).await? {
        let kind = match (text(&mut row, 1).as_str(), text(&mut row, 2).as_str()) {
            ("table", "0") => TableKind::Plain,
            ("table", _) => TableKind::Spread,
            _ => TableKind::Other,
        };
        let name = text(&mut row, 0);
        let table = sqlite_table(tx, name, kind).await?;
        catalog.tables.push(table);
    }
    for from in 0..catalog.tables.len() {
        for key in sqlite_keys(tx, &catalog, from).await? {
            catalog.keys.push(key);
        }
    }
    Ok(catalog)
}

async fn sqlite_table(tx: &mut Tx, name: String, kind: TableKind) -> Result<Table, sqlx::Error> {
    let mut columns = Vec::new();
    let mut primary: Vec<(u32, String)> = Vec::new();
    let info = "SELECT name, type, CAST(\"notnull\" AS TEXT), CAST(pk AS TEXT), CAST(hidden AS TEXT) FROM pragma_table_xinfo(?1)";
    for mut row in tx.rows(info, &[&name]).await? {
        let (column, declared) = (text(&mut row, 0), text(&mut row, 1));
        let place: u32 = text(&mut row, 3).parse().unwrap_or(0);
        let (class, cast) = sqlite_class(&declared);
        if place > 0 {
            primary.push((place, column.clone()));
        }
        let nullable = text(&mut row, 2) == "0";
        let generated = text(&mut row, 4) != "0";
        columns.push(Column {
            name: column,
            cast: cast.to_owned(),
            class,
            nullable,
            generated,
            chars_max: None,
        });
    }
    primary.sort();
    let primary: Vec<String> = primary.into_iter().map(|(_, name)| name).collect();
    let mut unique = vec![primary.clone()];
    let mut is_indexed = false;
    let indexes = "SELECT name, origin FROM pragma_index_list(?1) WHERE \"unique\" = 1 AND partial = 0";
    for mut row in tx.rows(indexes, &[&name]).await? {
        let index = text(&mut row, 0);
        is_indexed |= text(&mut row, 1) == "pk";
        let columns = tx
            .rows("SELECT name FROM pragma_index_info(?1) ORDER BY seqno", &[&index])
            .await?;
        unique.push(columns.into_iter().map(|mut row| text(&mut row, 0)).collect());
    }
    // A primary key takes NULL in SQLite, unless it is the row's number, which needs no index, or the table has none.
    if !is_indexed || kind == TableKind::Spread {
        for column in columns.iter_mut().filter(|column| primary.contains(&column.name)) {
            column.nullable = false;
        }
    }
    Ok(Table {
        schema: "main".to_owned(),
        name,
        kind,
        visible: true,
        columns,
        primary,
        unique,
        checks: Vec::new(),
    })
}

async fn sqlite_keys(tx: &mut Tx, catalog: &Catalog, from: usize) -> Result<Vec<ForeignKey>, sqlx::Error> {
    let mut keys: Vec<(String, ForeignKey)> = Vec::new();
    let list = "SELECT CAST(id AS TEXT), \"table\", \"from\", \"to\", on_delete FROM pragma_foreign_key_list(?1) ORDER BY id, seq";
    for mut row in tx.rows(list, &[&catalog.tables[from].name]).await? {
        let (id, target) = (text(&mut row, 0), text(&mut row, 1));
        let (from_column, to_column) = (text(&mut row, 2), row.get_mut(3).and_then(Option::take));
        let on_removal = match text(&mut row, 4).as_str() {
            "CASCADE" => OnRemoval::Cascade,
            "SET NULL" => OnRemoval::SetNull,
            _ => OnRemoval::Refuse,
        };
        let Some(to) = catalog
            .tables
            .iter()
            .position(|t| t.name.eq_ignore_ascii_case(&target))
        else {
            continue;
        };
        if keys.last().is_none_or(|(last, _)| *last != id) {
            let name = format!("foreign key {id} of {}", catalog.tables[from].name);
            let (from_columns, to_columns) = (Vec::new(), Vec::new());
            keys.push((
                id,
                ForeignKey {
                    name,
                    from,
                    from_columns,
                    to,
                    to_columns,
                    on_removal,
                },
            ));
        }
        if let Some((_, key)) = keys.last_mut() {
            let to_column =
                to_column.or_else(|| catalog.tables[to].primary.get(key.from_columns.len()).cloned());
            key.from_columns.push(from_column);
            key.to_columns.push(to_column.unwrap_or_default());
        }
    }
    Ok(keys.into_iter().map(|(_, key)| key).collect())
}

/// A value of a column as text.
pub(crate) fn as_text(dialect: Dialect, expression: &str, class: Class) -> String {
    match (dialect, class) {
        // A cast would append the mask.
        (Dialect::Postgres, Class::Inet) => format!("host({expression})"),
        (Dialect::Postgres, _) => format!("{expression}::text"),
        (Dialect::Sqlite, _) => format!("CAST({expression} AS TEXT)"),
    }
}

/// A text expression as a value of a column's type.
pub(crate) fn from_text(dialect: Dialect, expression: &str, column: &Column) -> String {
    match dialect {
        Dialect::Postgres => format!("({expression})::{}", column.cast),
        Dialect::Sqlite => format!("CAST({expression} AS {})", column.cast),
    }
}
