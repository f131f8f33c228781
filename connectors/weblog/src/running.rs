//! Identifiers in running text. In a line that fits no format nobody knows where its fields stand, so each word may be an address or a list of
//! parameters, in whatever punctuation. What several readings make of a value counts, since such a line is only ever erased whole.

use std::collections::BTreeSet;

use lethe_terms::Identifier;

use crate::identify::{DECODE_ROUNDS_MAX, Rules, ends_part};
use crate::line;

impl Rules {
    /// Adds what the words of a line name.
    pub(crate) fn running(&self, line: &[u8], found: &mut BTreeSet<Identifier>) {
        if let Some(user) = line::user_of(line) {
            self.user(&line[user], found);
        }
        for word in line.split(|b| matches!(b, b' ' | b'\t' | b'"')) {
            unescaped(word, |text| self.word(text, found));
        }
    }

    /// Adds what words of a field name as parameters, wherever in it they stand. A blank or quote that was escaped begins one, and ends none that
    /// began before: it may be part of the value.
    pub(crate) fn words(&self, field: &[u8], found: &mut BTreeSet<Identifier>) {
        let words = field.split(|b| matches!(b, b' ' | b'\t'));
        for word in words.filter(|word| word.iter().any(|b| matches!(b, b'=' | b'%' | b'\\'))) {
            unescaped(word, |text| {
                for part in text.split(ends_part) {
                    self.parameter_in(part, found);
                    for piece in part.split(ends_piece).skip(1) {
                        self.parameter_in(piece, found);
                    }
                }
            });
        }
    }

    /// A word of which the escapes were taken back: each piece of it is read as a word of its own, and with the blanks that were escaped.
    fn word(&self, text: &[u8], found: &mut BTreeSet<Identifier>) {
        for part in text.split(ends_part) {
            self.parameter_in(part, found);
        }
        for piece in text.split(|b| ends_piece(b) || *b == b'\\') {
            // Only what begins like an address is one: a slash stands in dates and versions, too.
            let address = bare(piece);
            if address.starts_with(b"/") || address.windows(3).any(|w| w == b"://") {
                self.path(piece, found);
                self.path(address, found);
            }
            for part in piece.split(|b| ends_part(b) || matches!(b, b',' | b'|')) {
                self.dressed(part, found);
            }
        }
    }

    /// A part such as `(uid='42')`.
    fn dressed(&self, part: &[u8], found: &mut BTreeSet<Identifier>) {
        let Some(equals) = part.iter().position(|b| *b == b'=') else {
            return;
        };
        let (whole, value) = (&part[..equals], &part[equals + 1..]);
        let begin = whole.iter().rposition(opens).map_or(0, |n| n + 1);
        for name in [whole, &whole[begin..]] {
            for value in [value, bare(value)] {
                self.parameter_in(&[name, b"=", value].concat(), found);
            }
        }
    }
}

/// How often backslashes are taken for escaped again: a client's chain of escapes must not cost the length of its line for each link. Deeper ones are
/// read at once.
const ESCAPED_AGAIN_MAX: usize = 4;

/// Hands over a word as it stands after each round of taking its escapes back.
fn unescaped(word: &[u8], mut each: impl FnMut(&[u8])) {
    let mut text = line::unescape(word);
    // Each program that passed it on may have escaped the backslashes again.
    for _ in 0..ESCAPED_AGAIN_MAX {
        let next = line::unescape(&text);
        if next == text {
            break;
        }
        each(&text);
        text = next;
    }
    for _ in 0..DECODE_ROUNDS_MAX {
        each(&text);
        let Some(next) = line::percent_decoded(&text) else {
            break;
        };
        text = next;
    }
    // What is deeper, and what stands between escapes of JSON.
    if text.iter().any(|b| matches!(b, b'%' | b'\\')) {
        each(&line::flat(&text, false));
    }
}

/// What ends a word beside the mark of a parameter.
const fn ends_piece(b: &u8) -> bool {
    b.is_ascii_whitespace() || matches!(b, 0x0b | b'"')
}

/// What may stand before a name, a value or an address.
const fn opens(b: &u8) -> bool {
    matches!(
        b,
        b'(' | b'[' | b'{' | b'<' | b'\'' | b'`' | b',' | b':' | b'|' | b'!'
    )
}

/// What may stand behind a value or an address.
const fn closes(b: &u8) -> bool {
    matches!(
        b,
        b')' | b']' | b'}' | b'>' | b'\'' | b'`' | b',' | b':' | b'|' | b'!' | b'.'
    )
}

/// A word without the punctuation around it.
fn bare(word: &[u8]) -> &[u8] {
    let from = word.iter().take_while(|b| opens(b)).count();
    let behind = word[from..].iter().rev().take_while(|b| closes(b)).count();
    &word[from..word.len() - behind]
}
