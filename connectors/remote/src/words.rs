//! What of the program's own words may be shown: nothing that could be a person's.
//!
//! The program is trusted with personal data and not trusted to keep it out of its messages. So its free text is not passed on: only marks
//! of a narrow form are, and not those that stand in what it was asked.

/// Longest line of words, in bytes.
const LINE_BYTES_MAX: usize = 200;
/// Longest mark: a code, a ticket, a revision.
const MARK_BYTES_MAX: usize = 127;
/// Longest key or handle of a record, in bytes: it is sealed into every entry about the record.
const KEY_BYTES_MAX: usize = 1_024;
/// Longest revision.
const REVISION_BYTES_MAX: usize = 63;
/// Words of a position.
const POSITION_WORDS: [&str; 11] = [
    "file", "page", "part", "line", "row", "column", "record", "entry", "message", "offset", "byte",
];
/// Shorter numbers are nobody's: telephone numbers and numbers of customers are longer.
const PERSONAL_DIGITS_MIN: usize = 6;
/// Shorter values, such as small numbers, stand in any text by chance.
const TELLING_CHARS_MIN: usize = 4;

/// Personal values of a request, by which a mark that quotes one is noticed.
#[derive(Default)]
pub(crate) struct Private(Vec<String>);

impl Private {
    pub(crate) fn of<'v>(values: impl Iterator<Item = &'v str>) -> Self {
        let telling = values.filter(|value| value.chars().count() >= TELLING_CHARS_MIN);
        Self(telling.map(str::to_lowercase).collect())
    }

    /// Whether a text quotes what was asked.
    pub(crate) fn is_in(&self, text: &str) -> bool {
        let text = text.to_lowercase();
        self.0.iter().any(|value| text.contains(value.as_str()))
    }
}

/// The program's code for a failure or refusal as it may be shown: lower-case words with dashes.
pub(crate) fn shown_code<'c>(code: &'c str, private: &Private) -> &'c str {
    let mut words = code.split('-');
    let is_code = code.len() <= MARK_BYTES_MAX
        && words.all(|word| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase()));
    if is_code && !private.is_in(code) {
        code
    } else {
        "a code that is not shown: expected lower-case words with dashes"
    }
}

/// Whether a ticket may travel on the log.
pub(crate) fn is_ticket(ticket: &str, private: &Private) -> bool {
    is_mark(ticket, MARK_BYTES_MAX) && !private.is_in(ticket)
}

/// Whether a text can be the revision of a manifest.
pub(crate) fn is_revision(revision: &str) -> bool {
    is_mark(revision, REVISION_BYTES_MAX)
}

/// Whether a name of a detail may be shown.
pub(crate) fn is_detail(name: &str, private: &Private) -> bool {
    is_mark(name, MARK_BYTES_MAX) && !private.is_in(name)
}

/// Whether a text is one line of words.
pub(crate) fn is_line(text: &str) -> bool {
    (1..=LINE_BYTES_MAX).contains(&text.len()) && !text.chars().any(char::is_control)
}

/// Whether a text can be the key or the handle of a record.
pub(crate) fn is_key(text: &str) -> bool {
    (1..=KEY_BYTES_MAX).contains(&text.len())
}

/// Where rejected input stands, as it may be shown on the log in the clear: known words and numbers, and of the numbers none that could be
/// somebody's because it stands in the input.
pub(crate) fn shown_position(position: &str, input: &[u8]) -> String {
    let quotes = |number: &str| {
        number.len() >= PERSONAL_DIGITS_MIN
            && input
                .windows(number.len())
                .any(|window| window == number.as_bytes())
    };
    let is_number = |word: &str| word.bytes().all(|b| b.is_ascii_digit()) && !quotes(word);
    let is_shown = |word: &str| POSITION_WORDS.contains(&word) || is_number(word);
    if (1..=MARK_BYTES_MAX).contains(&position.len()) && position.split(' ').all(is_shown) {
        position.to_owned()
    } else {
        "a position that is not shown".to_owned()
    }
}

fn is_mark(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len())
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_that_could_be_somebodys_is_not_shown() {
        let ada = Private::of(["ada@example.org", "Lovelace", "7"].into_iter());
        for fine in ["stale-generation", "busy"] {
            assert_eq!(shown_code(fine, &ada), fine);
        }
        for wrong in [
            "ada@example.org",
            "lovelace-not-found",
            "no 7",
            "Stale",
            "a--b",
            "",
        ] {
            assert!(
                shown_code(wrong, &ada).starts_with("a code that is not shown"),
                "{wrong}"
            );
        }
        assert!(is_ticket("t-7", &ada) && !is_ticket("t-lovelace", &ada) && !is_ticket("", &ada));
        assert!(is_detail("contacts", &ada) && !is_detail("ada@example.org", &ada));
    }

    #[test]
    fn of_a_position_known_words_and_numbers_are_shown() {
        let input = b"ada,0891234567";
        for fine in ["line 7", "file 3 line 1024", "offset 8589934592", "row 089"] {
            assert_eq!(shown_position(fine, input), fine);
        }
        for wrong in [
            "ada",
            "import.csv line 7",
            "row of Ada",
            "row 0891234567",
            "line  7 ada",
            "",
            "Line 7",
        ] {
            assert_eq!(
                shown_position(wrong, input),
                "a position that is not shown",
                "{wrong}"
            );
        }
    }
}
