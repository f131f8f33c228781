//! Keys of root rows as text: in a handle, and as an argument of a statement.

use crate::catalog::{Class, Column};
use crate::db::Dialect;
use crate::model::{Key, Unit};

/// Keys as one JSON argument.
pub(crate) fn keys_argument(keys: &[Key]) -> String {
    serde_json::to_string(keys).unwrap_or_else(|_| "[]".to_owned())
}

/// A record's handle: the JSON array of its key, as text.
pub(crate) fn handle(key: &Key) -> String {
    serde_json::to_string(key).unwrap_or_default()
}

/// Whether a text is the one spelling of a 64-bit number: `017` would name a row that `17` names.
pub(crate) fn canonical_int(text: &str) -> bool {
    text.parse::<i64>().is_ok_and(|n| n.to_string() == text)
}

/// Whether SQLite keeps a text as such in a column of numbers. It trims before it reads a number; what Rust reads beyond that, such as `inf`, is no key.
fn is_no_number(text: &str) -> bool {
    !text.contains('\0') && text.trim().parse::<f64>().is_err()
}

pub(crate) fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(n, b)| match n {
            8 | 13 | 18 | 23 => b == b'-',
            _ => matches!(b, b'0'..=b'9' | b'a'..=b'f'),
        })
}

/// Reads a handle; `None` where no record of the unit can have it. Types whose spelling only the database knows are left to it.
pub(crate) fn parse_handle(dialect: Dialect, unit: &Unit, handle: &str) -> Option<Key> {
    let key: Key = serde_json::from_str(handle).ok()?;
    let fits = |(text, column): (&String, &Column)| match column.class {
        Class::Int => canonical_int(text) || (dialect == Dialect::Sqlite && is_no_number(text)),
        Class::Uuid => is_uuid(text),
        _ => !text.contains('\0'),
    };
    (key.len() == unit.key.len() && key.iter().zip(&unit.key).all(fits)).then_some(key)
}
