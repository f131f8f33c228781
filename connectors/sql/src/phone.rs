//! Telephone numbers as people type them, compared with one as intake spells it (E.164).

use std::collections::BTreeSet;

use crate::db::Dialect;

/// Digits of a country calling code at most (ITU-T E.164).
const COUNTRY_DIGITS_MAX: usize = 3;
/// Digits of a telephone number at least, as intake reads them.
const NUMBER_DIGITS_MIN: usize = 7;

/// Last digits that the database looks for: together they are rare enough, and no spelling puts a trunk prefix among them.
const TAIL_DIGITS_MAX: usize = 7;
/// Longest value that intake reads as a number.
const VALUE_CHARS_MAX: usize = 64;

/// What every spelling of a number is LIKE: its last digits, with anything between them. `None` where it has too few.
pub(crate) fn pattern(number: &str) -> Option<String> {
    let number = typed(number);
    let count = number
        .len()
        .saturating_sub(COUNTRY_DIGITS_MAX)
        .min(TAIL_DIGITS_MAX);
    let tail = &number[number.len() - count..];
    (count > 0).then(|| {
        tail.chars()
            .fold("%".to_owned(), |pattern, digit| pattern + &format!("{digit}%"))
    })
}

/// Condition: a text is LIKE one of the patterns in the first argument.
pub(crate) fn may_hold(dialect: Dialect, text: &str) -> String {
    let among = match dialect {
        Dialect::Postgres => {
            format!("jsonb_array_elements_text($1::text::jsonb) AS k(v) WHERE {text} LIKE k.v")
        }
        Dialect::Sqlite => format!("json_each(?1) AS k WHERE {text} LIKE k.value"),
    };
    format!("length({text}) <= {VALUE_CHARS_MAX} AND EXISTS (SELECT 1 FROM {among})")
}

/// Whether a value may be a number at all.
pub(crate) fn is_number(value: &str) -> bool {
    typed(value).len() >= NUMBER_DIGITS_MIN
}

/// The digits of a number as it was typed, without what stands around it and without an extension: who shares a number shares it with the
/// extension as well.
pub(crate) fn typed(value: &str) -> String {
    let from = value.find(|c: char| c.is_ascii_digit()).unwrap_or(value.len());
    value[from..]
        .chars()
        .take_while(|c| !c.is_alphabetic() && !matches!(c, '#' | ';' | ',' | '~'))
        .filter(char::is_ascii_digit)
        .collect()
}

/// Digits in which numbers may be typed so that they are one of these.
#[derive(Default)]
pub(crate) struct Spellings(BTreeSet<String>);

impl Spellings {
    /// Of numbers in E.164; `country` is the calling code of numbers that are stored without one.
    pub(crate) fn of<'n>(numbers: impl Iterator<Item = &'n str>, country: Option<&str>) -> Self {
        let mut spellings = BTreeSet::new();
        for number in numbers {
            let number = typed(number);
            for digits in (1..=COUNTRY_DIGITS_MAX).filter(|digits| number.len() > *digits) {
                let (code, rest) = number.split_at(digits);
                // `+49 30`, `0049 30`, `+49 (0)30`
                for head in ["", "00"] {
                    spellings.insert(format!("{head}{code}{rest}"));
                    spellings.insert(format!("{head}{code}0{rest}"));
                }
                // `030`, `30`
                if country.is_some_and(|country| country == code) {
                    spellings.insert(rest.to_owned());
                    spellings.insert(format!("0{rest}"));
                }
            }
        }
        Self(spellings)
    }

    pub(crate) fn hold(&self, value: &str) -> bool {
        self.0.contains(&typed(value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_is_one_however_it_is_typed() {
        let spellings = Spellings::of(["+4930901820"].into_iter(), Some("49"));
        for typed in [
            "+4930901820",
            "+49 (0)30 901820",
            "0049 (30) 90 18-20",
            "030 901820 ext. 5",
            "tel:+49-30-901820;ext=5",
            "030/90 18 20 #5",
            "+49\u{a0}30\u{2011}901820",
            "Tel. 030.901820",
        ] {
            assert!(spellings.hold(typed), "{typed}");
        }
        for other in [
            "+49 30 9018201",
            "+43 30 901820",
            "901820",
            "40 30 901820",
            "",
            "n/a",
        ] {
            assert!(!spellings.hold(other), "{other}");
        }
        // A national number is nobody's where no country is given.
        assert!(!Spellings::of(["+4930901820"].into_iter(), None).hold("030 901820"));
        assert_eq!(pattern("+4930901820").unwrap(), "%0%9%0%1%8%2%0%");
        assert_eq!(
            (pattern("+4930123").unwrap(), pattern("123")),
            ("%0%1%2%3%".to_owned(), None)
        );
        assert!(is_number("030 901820") && !is_number("unknown 12"));
    }
}
