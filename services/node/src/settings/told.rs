//! What is said of a configuration that is refused: where, which key, and what was expected.

use std::path::Path;

use super::LISTEN;
use crate::Error;

/// Units of numbers by the end of their key, as people read them.
const UNITS: [(&str, &str); 3] = [("_ms", "milliseconds"), ("_s", "seconds"), ("_days", "days")];

/// The whole path of a file or folder: a name alone says nothing of where to look.
pub(crate) fn whole(path: &Path) -> String {
    let absolute = std::path::absolute(path);
    absolute.as_deref().unwrap_or(path).display().to_string()
}

/// An error that names the file, and the nearest known key where a key is unknown.
pub(crate) fn refused(file: &Path, message: &str) -> Error {
    Error::Settings {
        file: whole(file),
        message: with_unit(&with_nearest(message)),
    }
}

/// Says the unit of the key that a message is about, where its end tells one: a number alone could be of any.
pub(crate) fn with_unit(message: &str) -> String {
    let quoted = message.split_once("for key `").map(|(_, rest)| rest);
    let leading = message.split(": ");
    let keys = quoted
        .into_iter()
        .chain(leading)
        .filter_map(|part| part.split([' ', '`']).next()?.rsplit('.').next());
    let unit_of = |key: &str| UNITS.iter().find(|(end, _)| key.ends_with(end));
    let known = keys
        .filter_map(|key| Some((key, unit_of(key)?)))
        .map(|(key, (_, unit))| format!("{message} ({key} is a whole number of {unit})"))
        .next();
    known.unwrap_or_else(|| message.to_owned())
}

/// Adds the nearest known key to serde's message on an unknown field, which names the table that the field stands in, if any.
pub(crate) fn with_nearest(message: &str) -> String {
    let message = dotted(message);
    let (said, table) = match message.split_once(" for key `") {
        Some((said, rest)) => (said, rest.split('`').next()),
        None => (message.as_str(), None),
    };
    let mut quoted = said.split('`').skip(1).step_by(2);
    let Some(unknown) = quoted.next().filter(|_| said.contains("unknown field")) else {
        return with_address(message);
    };
    let nearest =
        quoted.max_by(|a, b| strsim::jaro_winkler(unknown, a).total_cmp(&strsim::jaro_winkler(unknown, b)));
    let Some(known) = nearest else {
        return message;
    };
    let place = table.map_or_else(String::new, |table| format!("{table}."));
    format!("unknown key {place}{unknown}: did you mean {known}?")
}

/// What the parser of addresses does not say.
fn with_address(message: String) -> String {
    if message.contains("invalid socket address syntax") {
        format!("{message}: expected an IP address with a port, such as {LISTEN}")
    } else {
        message
    }
}

/// `systems[0]name` as people write it: with a dot.
fn dotted(message: &str) -> String {
    let mut parts = message.split(']');
    let mut text = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let is_index = text
            .rsplit_once('[')
            .is_some_and(|(_, index)| !index.is_empty() && index.bytes().all(|digit| digit.is_ascii_digit()));
        let goes_on = part.starts_with(|next: char| next.is_ascii_alphabetic() || next == '_');
        text.push_str(if is_index && goes_on { "]." } else { "]" });
        text.push_str(part);
    }
    text
}
