//! The mapping after it was matched with the catalogue: what the statements are made of.

use lethe_terms::{DatasetName, IssuedKind};

use crate::catalog::Column;

/// A record's root key, as text by column.
pub(crate) type Key = Vec<String>;

/// What erasing does to a column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ColumnVerb {
    Null,
    Replace(String),
    /// `erased-` and random characters: for columns that must stay unique.
    Random,
}

/// What erasing does to a table's rows.
#[derive(Debug, Clone)]
pub(crate) enum TableVerb {
    Row,
    Columns(Vec<(Column, ColumnVerb)>),
    /// Rows of another unit: read only.
    Lookup,
}

#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// Index in the catalogue.
    pub(crate) id: usize,
    /// The name in messages.
    pub(crate) name: String,
    /// The name in statements, quoted.
    pub(crate) sql: String,
    /// Index of the table that it hangs on, within the unit; `None` for the root.
    pub(crate) parent: Option<usize>,
    /// Own column and the parent's column.
    pub(crate) link: Vec<(Column, Column)>,
    pub(crate) identifiers: Vec<(Column, IssuedKind)>,
    pub(crate) verb: TableVerb,
    pub(crate) updated_at: Option<Column>,
    /// Every column, for export.
    pub(crate) columns: Vec<String>,
}

impl Table {
    pub(crate) const fn is_lookup(&self) -> bool {
        matches!(self.verb, TableVerb::Lookup)
    }
}

/// Where a restriction is marked.
#[derive(Debug, Clone)]
pub(crate) enum Mark {
    Column(Column),
    /// A table with the root's key columns.
    Shadow {
        /// Index in the catalogue.
        id: usize,
        /// The name in statements, quoted.
        sql: String,
    },
}

/// A foreign key by which the database would erase rows along with those of a table.
#[derive(Debug, Clone)]
pub(crate) struct Cascade {
    /// Index of the table that is pointed to, within the unit.
    pub(crate) table: usize,
    /// The name of the table that points, in messages.
    pub(crate) from: String,
    /// Its name in statements, quoted.
    pub(crate) from_sql: String,
    /// Its columns, and the columns that they point to.
    pub(crate) columns: Vec<(String, String)>,
}

#[derive(Debug, Clone)]
pub(crate) struct Unit {
    pub(crate) name: DatasetName,
    /// The root first.
    pub(crate) tables: Vec<Table>,
    pub(crate) key: Vec<Column>,
    /// Indexes of tables in the order in which they are erased: children before parents.
    pub(crate) order: Vec<usize>,
    pub(crate) mark: Option<Mark>,
    pub(crate) cascades: Vec<Cascade>,
}

impl Unit {
    pub(crate) fn root(&self) -> &Table {
        &self.tables[0]
    }
    pub(crate) fn keeps_root(&self) -> bool {
        !matches!(self.root().verb, TableVerb::Row)
    }
}
