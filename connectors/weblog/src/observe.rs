//! Looking again at what is there, by code of its own: a plain search for the identifiers as they may be written, beside the reader of lines that
//! finding and erasing use. What the two see differently becomes visible here instead of being missed twice.

use std::collections::{BTreeMap, BTreeSet};

use lethe_kit::{Observed, Selector};
use lethe_terms::{Identifier, IdentifierKind, Independence, Strength};

use crate::error::Error;
use crate::identify::Record;
use crate::log::Log;
use crate::matcher::Matcher;

/// How often an escaped line is unescaped.
const ROUNDS_MAX: usize = 4;
/// Shortest text that is looked for anywhere in a line.
const ANYWHERE_BYTES_MIN: usize = 6;

/// A text to look for, and where it counts.
struct Needle {
    text: Vec<u8>,
    place: Place,
}

enum Place {
    /// An address of its own, in any case.
    Mail,
    /// A word of its own, anywhere.
    Word,
    /// The remote user, or the value of a parameter of this kind.
    Field(IdentifierKind),
}

impl Log {
    /// What is there now of a selection.
    pub(crate) fn observe(
        &mut self,
        selector: &Selector,
        parameters: &BTreeMap<String, IdentifierKind>,
        user_kind: IdentifierKind,
    ) -> Result<Observed, Error> {
        let cannot_tell = Observed {
            observed: lethe_terms::Observed::CannotTell,
            records: 0,
            independence: Independence::SeparateConnection,
            gone: Vec::new(),
        };
        let matcher = Matcher::new(selector, &self.config.name);
        let finder = Finder {
            needles: needles(selector),
            parameters: parameters.clone(),
            user_kind,
        };
        let selected = matcher.records_only();
        let (rules, name) = (self.rules.clone(), self.config.name.clone());
        let (mut here, mut aside) = (BTreeSet::new(), BTreeSet::new());
        let mut still: BTreeSet<Record> = BTreeSet::new();
        let look = selected.look(&rules, &name);
        let looked = self.every_line(&mut |line, restricted| {
            let record = look.at(line);
            if record.is_none() && !finder.finds(line) {
                return;
            }
            let seen = if restricted { &mut aside } else { &mut here };
            still.extend(record.clone());
            let reading = rules.read(line);
            let whole = Record {
                log: name.clone(),
                period: reading.period().to_owned(),
                identifiers: reading.identifiers,
            };
            seen.insert(record.unwrap_or(whole));
        });
        let cut = match looked {
            Ok(cut) => cut,
            Err(Error::File { .. }) => return Ok(cannot_tell),
            Err(e) => return Err(e),
        };
        let gone = matcher
            .records()
            .difference(&still)
            .map(|r| (r.log.clone(), r.handle()))
            .collect();
        let (observed, records) = match (here.len(), aside.len()) {
            // The person may stand in what was not read.
            (0, 0) if cut => return Ok(cannot_tell),
            (0, 0) => (lethe_terms::Observed::Absent, 0),
            (0, aside) => (lethe_terms::Observed::Restricted, aside),
            (here, aside) => (lethe_terms::Observed::Present, here + aside),
        };
        Ok(Observed {
            observed,
            records: records as u64,
            gone,
            ..cannot_tell
        })
    }
}

fn needles(selector: &Selector) -> Vec<Needle> {
    let personal = selector
        .identifiers
        .iter()
        .filter(|i| i.kind.strength() == Strength::Strong);
    personal.map(needle).collect()
}

fn needle(one: &Identifier) -> Needle {
    let text = one.value.trim();
    if one.kind == IdentifierKind::Email {
        return Needle {
            text: text.to_lowercase().into_bytes(),
            place: Place::Mail,
        };
    }
    let bytes = text.as_bytes();
    let word = bytes.len() >= ANYWHERE_BYTES_MIN
        && bytes.iter().all(|b| word_byte(*b))
        && bytes.iter().any(u8::is_ascii_digit)
        && bytes.iter().any(u8::is_ascii_alphabetic);
    Needle {
        text: bytes.to_vec(),
        place: if word { Place::Word } else { Place::Field(one.kind) },
    }
}

const fn word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}

struct Finder {
    needles: Vec<Needle>,
    parameters: BTreeMap<String, IdentifierKind>,
    user_kind: IdentifierKind,
}

impl Finder {
    fn finds(&self, line: &[u8]) -> bool {
        let mut text = plain(line);
        for round in 0..=ROUNDS_MAX {
            let lower = text.to_lowercase_bytes();
            if self
                .needles
                .iter()
                .any(|needle| self.finds_one(needle, &text, &lower, round == 0))
            {
                return true;
            }
            match unpercent(&text) {
                Some(next) => text = next,
                None => return false,
            }
        }
        false
    }

    fn finds_one(&self, needle: &Needle, text: &[u8], lower: &[u8], raw: bool) -> bool {
        match needle.place {
            Place::Mail => {
                hits(lower, &needle.text).any(|at| self.is_mail(lower, at, needle.text.len(), raw))
            }
            Place::Word => hits(text, &needle.text).any(|at| {
                let before = at.checked_sub(1).is_none_or(|n| !word_byte(text[n]));
                before && text.get(at + needle.text.len()).is_none_or(|b| !word_byte(*b))
            }),
            Place::Field(kind) => {
                hits(text, &needle.text).any(|at| self.is_field(kind, text, lower, at, needle.text.len()))
            }
        }
    }

    /// Whether nothing before or behind makes it another address. A bare plus before it is a space, but in a mail parameter.
    fn is_mail(&self, text: &[u8], at: usize, len: usize, raw: bool) -> bool {
        let part_of_name =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'\'') || b >= 0x80;
        let before = match at.checked_sub(1).map(|n| text[n]) {
            None => true,
            Some(b'+') => raw && self.parameter(text, at) != Some(IdentifierKind::Email),
            Some(b) => !part_of_name(b),
        };
        let rest = &text[at + len..];
        let goes_on = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b >= 0x80);
        let behind = match rest.first() {
            Some(b'.') => !goes_on(rest.get(1)),
            Some(b'-') => false,
            first => !goes_on(first),
        };
        before && behind
    }

    fn is_field(&self, kind: IdentifierKind, text: &[u8], lower: &[u8], at: usize, len: usize) -> bool {
        let rest = &text[at + len..];
        let user = kind == self.user_kind
            && rest.starts_with(b" [")
            && text[..at].ends_with(b" ")
            && !text[..at].contains(&b'"');
        let ended = rest
            .first()
            .is_none_or(|b| matches!(b, b'&' | b';' | b'#' | b'"' | b' ' | b'?'));
        user || (ended && text[..at].ends_with(b"=") && self.parameter(lower, at) == Some(kind))
    }

    /// Kind of the parameter whose value a byte stands in.
    fn parameter(&self, lower: &[u8], at: usize) -> Option<IdentifierKind> {
        let begin = lower[..at]
            .iter()
            .rposition(|b| matches!(b, b'?' | b'&' | b';' | b'#' | b' ' | b'"'))
            .map_or(0, |n| n + 1);
        let part = &lower[begin..at];
        let name = &part[..part.iter().position(|b| *b == b'=')?];
        self.parameters.get(std::str::from_utf8(name).ok()?).copied()
    }
}

trait Lower {
    fn to_lowercase_bytes(&self) -> Vec<u8>;
}

impl Lower for Vec<u8> {
    fn to_lowercase_bytes(&self) -> Vec<u8> {
        match std::str::from_utf8(self) {
            // Not every letter keeps its length: positions must hold in both.
            Ok(text) if text.to_lowercase().len() == self.len() => text.to_lowercase().into_bytes(),
            _ => self.to_ascii_lowercase(),
        }
    }
}

fn hits<'a>(text: &'a [u8], needle: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    let last = (text.len() + 1).saturating_sub(needle.len());
    let first = needle.first().copied();
    (0..last).filter(move |at| first == text.get(*at).copied() && text[*at..].starts_with(needle))
}

/// The line with the servers' `\xhh` taken back.
fn plain(line: &[u8]) -> Vec<u8> {
    replace(line, b"\\x").unwrap_or_else(|| line.to_vec())
}

/// One round of percent-decoding; `None` where there is nothing to decode.
fn unpercent(text: &[u8]) -> Option<Vec<u8>> {
    replace(text, b"%")
}

/// Each `mark` with two hexadecimal digits behind it becomes its byte.
fn replace(text: &[u8], mark: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut at, mut changed) = (Vec::with_capacity(text.len()), 0, false);
    while at < text.len() {
        let digits = text[at..]
            .strip_prefix(mark)
            .and_then(|rest| rest.get(..2))
            .and_then(|d| std::str::from_utf8(d).ok());
        match digits
            .filter(|d| !d.starts_with('+'))
            .and_then(|d| u8::from_str_radix(d, 16).ok())
        {
            Some(byte) => {
                out.push(byte);
                at += mark.len() + 2;
                changed = true;
            }
            None => {
                out.push(text[at]);
                at += 1;
            }
        }
    }
    changed.then_some(out)
}
