//! Columns whose values hold an e-mail address among other things: `Ada <ada@example.org>`, `mailto:ada@example.org`, several addresses in a row.
//!
//! The database only finds which values are no plain address and hold a stretch of what is sought; what a value names is read here, so that `bada@…` is
//! never taken for `ada@…` and blanks, quotes and cases of other letters do not hide anybody.

use std::collections::BTreeSet;

use lethe_terms::{Identifier, IdentifierKind};
use unicode_normalization::UnicodeNormalization as _;

use crate::db::Dialect;

/// What a plain address is made of, as a set of GLOB and of regular expressions. README.md names it for an index.
const PLAIN: &str = "!#$%&*+./0-9=?@A-Z^_`a-z{|}~-";

/// Stands for what could not be read as text.
const UNREADABLE: char = char::REPLACEMENT_CHARACTER;

/// Whether a value must be taken apart: it holds more than an address is made of, or more than one.
fn is_composed(value: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "!#$%&*+./=?@^_`{|}~-".contains(c);
    !value.chars().all(plain) || value.matches('@').count() > 1
}

/// The identifiers that a value of an e-mail column holds: each address, and the value itself where it is none or holds more than could be read.
pub(crate) fn identifiers(value: &str) -> Vec<Identifier> {
    let (mut addresses, unread) = addresses(value);
    if unread || addresses.is_empty() {
        // Intake takes every letter beyond ASCII, and so this one too.
        addresses.push(value.replace(UNREADABLE, "\\ufffd"));
    }
    let mail = |address: String| Identifier::new(IdentifierKind::Email, address);
    addresses.into_iter().map(mail).collect()
}

/// The addresses in a value, and whether there may be one that could not be read.
fn addresses(value: &str) -> (Vec<String>, bool) {
    let value: String = value.chars().filter(|c| !is_invisible(*c)).collect();
    if !is_composed(value.trim()) {
        return (vec![value.trim().to_owned()], false);
    }
    let (value, is_unsure) = unescaped(&value);
    let (mut found, mut unread) = (Vec::new(), is_unsure || value.contains("%40"));
    for word in value.split(ends_word) {
        unread |= !addresses_in(word.trim_matches(['\'', '`']), &mut found);
    }
    (found, unread)
}

/// Takes back the escapes of JSON, and those of bytes that are no text: their letters are none of what stands behind them. Also whether a letter may
/// be one or the other, as in `line\\nina@example.org`: only where the value is JSON by its looks it is the escape's.
fn unescaped(value: &str) -> (String, bool) {
    let is_json = value.contains(['"', '{', '[']);
    let mut pieces = value.split('\\');
    let mut text = pieces.next().unwrap_or_default().to_owned();
    let mut is_unsure = false;
    for piece in pieces {
        let code = |from: usize, to: usize| {
            let hex = piece
                .get(from..to)
                .filter(|hex| hex.bytes().all(|b| b.is_ascii_hexdigit()));
            hex.and_then(|hex| u32::from_str_radix(hex, 16).ok())
        };
        let (read, length) = match (piece.chars().next(), code(1, 5), code(1, 3)) {
            // Half of a pair is no letter, and both together are none of an address.
            (Some('u'), Some(code), _) => (char::from_u32(code).unwrap_or(UNREADABLE), 5),
            (Some('x'), _, Some(_)) => (UNREADABLE, 3),
            (Some('n' | 't' | 'r'), ..) if is_json => (' ', 1),
            (letter, ..) => {
                is_unsure |= matches!(letter, Some('n' | 't' | 'r'));
                ('\\', 0)
            }
        };
        text.push(read);
        text.push_str(&piece[length..]);
    }
    (text, is_unsure)
}

/// Takes the addresses out of a word; `false` where there may be one that could not be read.
fn addresses_in(word: &str, found: &mut Vec<String>) -> bool {
    if word.contains(UNREADABLE) {
        return !word.contains('@');
    }
    let (mut rest, mut is_first, mut all) = (word, true, true);
    while let Some((before, after)) = rest.split_once('@') {
        // What an address may begin with by RFC 5322 sets it off from the one that stands before it: `a@example.org|b@example.org`.
        let sets_off = |c: char| !is_of_domain(c) && c != '+';
        let local = match before.rsplit(sets_off).next() {
            Some(last) if !is_first => last,
            _ => before,
        };
        let end = after.find(|c| !is_of_domain(c)).unwrap_or(after.len());
        let domain = after[..end].trim_end_matches(['.', '-']);
        if local.is_empty() || domain.is_empty() || after[end..].starts_with('@') {
            all = false;
        } else {
            found.push(format!("{local}@{domain}"));
        }
        (rest, is_first) = (&after[end..], false);
    }
    all
}

/// Whether a domain can hold it; letters of other scripts come before IDNA has spelled them.
fn is_of_domain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || !c.is_ascii()
}

/// What no reader sees and no address holds: soft hyphens, joiners and marks of direction and byte order.
const fn is_invisible(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
}

/// What stands around addresses and in none: blanks, brackets, quotation marks and punctuation, of every typography.
fn ends_word(c: char) -> bool {
    c.is_whitespace()
        || c.is_control()
        || matches!(
            c,
            ',' | ';' | '<' | '>' | '(' | ')' | '[' | ']' | '"' | ':' | '\\'
        )
        || matches!(c, '\u{a0}'..='\u{bf}' | '\u{2000}'..='\u{206f}' | '\u{3000}'..='\u{303f}' | '\u{ff00}'..='\u{ff0f}')
}

/// Whether a value names one of the addresses, which are comparable.
pub(crate) fn names_one(value: &str, sought: &BTreeSet<String>) -> bool {
    let (addresses, _) = addresses(value);
    addresses
        .iter()
        .any(|address| sought.contains(&comparable(address)))
}

/// An address as all its spellings come to: composed, in lower case, its domain as IDNA writes it.
pub(crate) fn comparable(address: &str) -> String {
    let lower: String = address.trim().to_lowercase().nfc().collect();
    let Some((local, domain)) = lower.rsplit_once('@') else {
        return lower;
    };
    match idna::domain_to_ascii(domain) {
        Ok(domain) => format!("{local}@{domain}"),
        Err(_) => lower,
    }
}

/// Stretches of which every spelling of an address holds one. Databases differ in the case of letters beyond ASCII: the rest of an address is
/// enough to look for. Its local part alone finds it where something invisible stands in the domain.
pub(crate) fn stretches(address: &str) -> Vec<String> {
    let lower = address.to_lowercase();
    let longest = |text: &str| {
        let pieces = text.split(|c: char| !c.is_ascii_graphic());
        pieces
            .max_by_key(|piece| piece.len())
            .unwrap_or_default()
            .to_owned()
    };
    let mut found = vec![longest(&lower)];
    if let Some((local, domain)) = lower.rsplit_once('@') {
        let (shown, _) = idna::domain_to_unicode(domain);
        found.push(longest(&format!("{local}@{shown}")));
        found.push(longest(&format!("{local}@")));
    }
    found.retain(|piece| !piece.is_empty());
    found
}

/// Condition: a value is no plain address and holds one of the stretches in the first argument.
pub(crate) fn composed(dialect: Dialect, expression: &str) -> String {
    match dialect {
        Dialect::Postgres => format!(
            "{expression} ~ '[^{PLAIN}]|@.*@' AND EXISTS (SELECT 1 FROM jsonb_array_elements_text($1::text::jsonb) AS k(v)
                WHERE position(v IN lower(({expression})::text COLLATE \"C\")) > 0)"
        ),
        Dialect::Sqlite => format!(
            "({expression} GLOB '*[^{PLAIN}]*' OR {expression} GLOB '*@*@*') AND EXISTS (SELECT 1 FROM json_each(?1) AS k WHERE instr(lower({expression}), k.value) > 0)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(value: &str, expected: &[&str], all: bool) {
        let (found, unread) = addresses(value);
        let found: Vec<&str> = found.iter().map(String::as_str).collect();
        assert_eq!((found.as_slice(), !unread), (expected, all), "{value}");
    }

    #[test]
    fn addresses_are_read_out_of_whatever_is_around_them() {
        for (value, expected, all) in [
            ("Ada@Example.org", &["Ada@Example.org"][..], true),
            ("Ada L <ada@example.org>", &["ada@example.org"], true),
            ("\"Lovelace, Ada\" <ada@example.org>", &["ada@example.org"], true),
            ("mailto:ada@example.org?subject=Hi", &["ada@example.org"], true),
            ("MAILTO:ada@example.org", &["ada@example.org"], true),
            (
                "a@example.org,b@example.org",
                &["a@example.org", "b@example.org"],
                true,
            ),
            (
                "a@example.org; 'b@example.org'",
                &["a@example.org", "b@example.org"],
                true,
            ),
            ("ada@example.org (at work).", &["ada@example.org"], true),
            ("ask ada@example.org.", &["ada@example.org"], true),
            (
                "m\u{fc}ller@b\u{fc}ro.example",
                &["m\u{fc}ller@b\u{fc}ro.example"],
                true,
            ),
            ("\u{a0}ada@example.org\u{a0}", &["ada@example.org"], true),
            ("a@example.org, b@@example.org", &["a@example.org"], false),
            (
                "mailto:a@example.org?cc=b@example.org",
                &["a@example.org", "b@example.org"],
                true,
            ),
            (
                "a@example.org|b+c@example.org",
                &["a@example.org", "b+c@example.org"],
                true,
            ),
            ("a/b=c@example.org", &["a/b=c@example.org"], true),
            ("\u{201c}ada@example.org\u{201d}", &["ada@example.org"], true),
            ("\u{ab}ada@example.org\u{bb}", &["ada@example.org"], true),
            ("\u{feff}ada@exam\u{200b}ple.org", &["ada@example.org"], true),
            ("@ada", &["@ada"], true),
            ("mailto:ada%40example.org", &[], false),
            ("a@ example.org", &[], false),
            ("see profile", &[], true),
        ] {
            check(value, expected, all);
        }
        // What is not read goes out whole, so that intake can keep it.
        assert_eq!(identifiers("see profile")[0].value, "see profile");
        assert_eq!(identifiers("a@example.org, b@@example.org").len(), 2);
    }

    #[test]
    fn letters_of_an_escape_are_none_of_an_address() {
        for (value, expected, all) in [
            (
                "Hal \\u003chal@example.org\\u003e",
                &["hal@example.org"][..],
                true,
            ),
            (
                "[\"a@example.org\\nb@example.org\\tc\"]",
                &["a@example.org", "b@example.org"],
                true,
            ),
            (
                "\\u00fcmit@example.org \\ud83d\\ude00",
                &["\u{fc}mit@example.org"],
                true,
            ),
            ("CORP\\hal@example.org\\", &["hal@example.org"], true),
            ("CORP\\nina@example.org", &["nina@example.org"], false),
            ("m\\xfcller@example.org, a@example.org", &["a@example.org"], false),
            ("m\u{fffd}ller@example.org", &[], false),
            ("a@example.org \\u00\u{e9}", &["a@example.org"], true),
        ] {
            check(value, expected, all);
        }
        assert_eq!(
            identifiers("m\u{fffd}ller@example.org")[0].value,
            "m\\ufffdller@example.org"
        );
    }

    #[test]
    fn the_set_for_the_database_is_the_one_that_is_read_here() {
        for c in (0_u8..=127).map(char::from) {
            let stands = PLAIN.contains(c) || c.is_ascii_alphanumeric();
            assert_eq!(!is_composed(&c.to_string()), stands, "{c:?}");
        }
        // An index helps only where it is spelled as the statements are.
        let readme = include_str!("../README.md");
        for index in [
            format!("where email ~ '[^{PLAIN}]|@.*@';"),
            format!("where email glob '*[^{PLAIN}]*' or email glob '*@*@*';"),
        ] {
            assert!(readme.contains(&index), "{index}");
        }
    }
}
