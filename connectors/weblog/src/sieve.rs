//! Whether a line can be about a person at all, by a search for bytes: most lines are somebody else's, and taking each apart is what costs.
//!
//! It never says no where the reader says yes. Whatever the reader finds stands in the line after some rounds of taking escapes back; only letters
//! may change their case, and an open plus may become a blank. So each identifier is looked for by the longest stretch of its value that none of this
//! touches, in every round. Where bytes cannot tell, every line passes.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use lethe_terms::{Identifier, IdentifierKind};
use memchr::memmem::{Finder, find};

use crate::identify::{DECODE_ROUNDS_MAX, Rules};
use crate::line;
use crate::record::Record;

/// How often percent signs are taken back: the reader unwraps an address, and then each value in it.
const ROUNDS_MAX: usize = 2 * DECODE_ROUNDS_MAX;
/// Shortest stretch that is preferred to the client's address: a shorter one stands in too many lines.
const STRETCH_BYTES_GOOD: usize = 4;
/// Most stretches that are looked for one after the other: with more, reading every line costs no more than the search.
const STRETCHES_MAX: usize = 64;
/// The letters beyond ASCII that have an ASCII letter in their lower case: the Kelvin sign and the I with a dot.
const FOLDED: [&[u8]; 2] = ["\u{212a}".as_bytes(), "\u{130}".as_bytes()];

/// What every line with an identifier must hold.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Sign {
    /// These bytes, in any case.
    Stretch(Vec<u8>),
    /// This client.
    Client(IpAddr),
    /// These digits, whatever stands between them.
    Digits(Vec<u8>),
    /// Nothing that bytes could tell.
    Open,
}

/// Passes lines that may be about a person.
pub(crate) struct Sieve {
    open: bool,
    stretches: Vec<Finder<'static>>,
    digits: Vec<Finder<'static>>,
    clients: BTreeSet<IpAddr>,
    mails: bool,
}

impl Sieve {
    /// For lines with one of the needles, or with all identifiers of one of the records.
    pub(crate) fn new(needles: &BTreeSet<Identifier>, records: &BTreeSet<Record>, rules: &Rules) -> Self {
        let mut sought: BTreeSet<Sign> = needles.iter().filter_map(|one| sign(one, rules)).collect();
        let mut counts: BTreeMap<&Identifier, usize> = BTreeMap::new();
        for one in records.iter().flat_map(|record| &record.identifiers) {
            *counts.entry(one).or_default() += 1;
        }
        for record in records.iter().filter(|record| !record.identifiers.is_empty()) {
            let signs: Option<Vec<(usize, Sign)>> = record
                .identifiers
                .iter()
                .map(|one| Some((counts[one], sign(one, rules)?)))
                .collect();
            // One that never stands in a line makes the record that of no line.
            let best = signs
                .into_iter()
                .flatten()
                .min_by_key(|(count, sign)| cost(sign, *count, &sought));
            sought.extend(best.map(|(_, sign)| sign));
        }
        let mails = needles
            .iter()
            .chain(counts.into_keys())
            .any(|one| one.kind == IdentifierKind::Email);
        Self::of(sought, mails)
    }

    fn of(sought: BTreeSet<Sign>, mails: bool) -> Self {
        let mut sieve = Self {
            open: false,
            stretches: Vec::new(),
            digits: Vec::new(),
            clients: BTreeSet::new(),
            mails,
        };
        for sign in sought {
            match sign {
                Sign::Stretch(bytes) => sieve.stretches.push(Finder::new(&bytes).into_owned()),
                Sign::Digits(bytes) => sieve.digits.push(Finder::new(&bytes).into_owned()),
                Sign::Client(ip) => {
                    sieve.clients.insert(ip);
                }
                Sign::Open => sieve.open = true,
            }
        }
        sieve.open |= sieve.stretches.len() + sieve.digits.len() > STRETCHES_MAX;
        sieve
    }

    /// Whether the line (without its end) may be about the person. `false` is certain.
    pub(crate) fn passes(&self, line: &[u8]) -> bool {
        if self.open || self.is_client(line) || self.holds(line) {
            return true;
        }
        let mut text = Cow::Borrowed(line);
        if memchr::memchr(b'\\', line).is_some() {
            text = Cow::Owned(line::unescape(line));
            if self.holds(&text) {
                return true;
            }
        }
        let base = text.clone();
        for _ in 0..ROUNDS_MAX {
            match line::percent_decoded(&text) {
                Some(next) if self.holds(&next) => return true,
                Some(next) => text = Cow::Owned(next),
                None => break,
            }
        }
        // What is left are deeper ones, and backslashes of JSON between them. A plain line has none, and no zero byte either.
        let escaped = memchr::memchr3(b'%', b'\\', 0, &text).is_some();
        let holds =
            |letters| self.holds(&line::flat(&base, letters)) || self.holds(&line::flat(&text, letters));
        escaped && (holds(false) || holds(true))
    }

    /// The client is the first word, or the second behind a virtual host.
    fn is_client(&self, line: &[u8]) -> bool {
        !self.clients.is_empty()
            && line
                .splitn(3, |b| *b == b' ')
                .take(2)
                .filter_map(line::ip_of)
                .any(|ip| self.clients.contains(&ip))
    }

    fn holds(&self, text: &[u8]) -> bool {
        if self.mails && !text.is_ascii() && FOLDED.iter().any(|letter| find(text, letter).is_some()) {
            return true;
        }
        if !self.stretches.is_empty() {
            let lower = text.to_ascii_lowercase();
            if self.stretches.iter().any(|s| s.find(&lower).is_some()) {
                return true;
            }
        }
        if self.digits.is_empty() {
            return false;
        }
        let digits: Vec<u8> = text.iter().copied().filter(u8::is_ascii_digit).collect();
        self.digits.iter().any(|d| d.find(&digits).is_some())
    }
}

/// What a line with this identifier must hold; `None` where no line can have it.
fn sign(one: &Identifier, rules: &Rules) -> Option<Sign> {
    let read = rules.yields(one);
    match one.kind {
        IdentifierKind::Email => Some(stretch(&one.value)),
        IdentifierKind::Ip | IdentifierKind::IpAbbreviated if read => Some(Sign::Open),
        IdentifierKind::Ip | IdentifierKind::IpAbbreviated => {
            line::ip_of(one.value.as_bytes()).map(Sign::Client)
        }
        _ if rules.is_word(one) => Some(stretch(&one.value)),
        _ if !read => None,
        IdentifierKind::Phone => {
            let digits: Vec<u8> = one.value.bytes().filter(u8::is_ascii_digit).collect();
            Some(if digits.is_empty() {
                Sign::Open
            } else {
                Sign::Digits(digits)
            })
        }
        _ => Some(stretch(&one.value)),
    }
}

/// The longest stretch that is the same in the line, but for the case of letters.
fn stretch(value: &str) -> Sign {
    value
        .as_bytes()
        .split(|b| !b.is_ascii_graphic() || matches!(b, b'%' | b'\\' | b'+'))
        .max_by_key(|bytes| bytes.len())
        .filter(|bytes| !bytes.is_empty())
        .map_or(Sign::Open, |bytes| Sign::Stretch(bytes.to_ascii_lowercase()))
}

/// The order in which a record's signs are preferred: what is sought anyway, then what stands in few other lines and in most of the records.
fn cost(sign: &Sign, count: usize, sought: &BTreeSet<Sign>) -> (u8, Reverse<usize>, Reverse<usize>) {
    let (rank, len) = match sign {
        _ if sought.contains(sign) => (0, 0),
        Sign::Stretch(bytes) if bytes.len() >= STRETCH_BYTES_GOOD => (1, bytes.len()),
        Sign::Client(_) => (2, 0),
        Sign::Stretch(bytes) => (3, bytes.len()),
        Sign::Digits(bytes) => (4, bytes.len()),
        Sign::Open => (5, 0),
    };
    (rank, Reverse(count), Reverse(len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_other_letter_beyond_ascii_becomes_an_ascii_letter() {
        let folded: Vec<char> = ('\u{80}'..=char::MAX)
            .filter(|c| c.to_lowercase().any(|l| l.is_ascii()))
            .collect();
        let known: Vec<&[u8]> = FOLDED.to_vec();
        assert_eq!(folded.len(), known.len());
        for letter in folded {
            assert!(known.contains(&letter.to_string().as_bytes()), "{letter:?}");
        }
    }
}
