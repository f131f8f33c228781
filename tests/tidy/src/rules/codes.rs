//! Every stable error code has a page in ops/errors, and every page a code.

use std::collections::{BTreeMap, BTreeSet};

use crate::Violation;
use crate::source::Source;

/// Lines of text that a page has at least: what happened, what is safe, what to do.
const PAGE_LINES_MIN: usize = 3;

/// A code as it stands in the source.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// The code, such as `log-not-stored`.
    pub code: String,
    /// File that it stands in.
    pub file: String,
    /// Line that it stands at.
    pub line: usize,
}

/// Codes of a source file: string literals that a `fn code` returns and those that a field `code` is given, outside tests.
pub fn in_source(file: &str, source: &Source) -> Vec<Code> {
    let tests = source.test_regions();
    let within: Vec<(usize, usize)> = source
        .functions()
        .into_iter()
        .filter(|f| f.name == "code")
        .map(|f| f.body)
        .collect();
    let mut out = Vec::new();
    for (at, text) in &source.strings {
        let returned = within.iter().any(|(from, to)| (*from..*to).contains(at));
        let before = source.code[..*at].trim_end();
        let given = before.ends_with(" code:") || before.ends_with("{code:");
        let in_test = tests.iter().any(|(from, to)| (*from..*to).contains(at));
        if (returned || given) && !in_test && is_code(text) {
            out.push(Code {
                code: text.clone(),
                file: file.to_owned(),
                line: source.line(*at),
            });
        }
    }
    out
}

/// Lower-case words with dashes, beginning with a letter.
fn is_code(text: &str) -> bool {
    let mut words = text.split('-');
    let lower =
        |word: &str| !word.is_empty() && word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    text.starts_with(|c: char| c.is_ascii_lowercase()) && text.contains('-') && words.all(lower)
}

/// Codes without a page, pages that nothing in the source names, pages that say too little.
/// `literals` are all string literals of the product: a code may be returned by way of a constant.
pub fn check(
    codes: &[Code],
    literals: &BTreeSet<String>,
    pages: &BTreeMap<String, String>,
) -> Vec<Violation> {
    let mut out = Vec::new();
    let mut seen = BTreeSet::new();
    for code in codes {
        if !pages.contains_key(&code.code) && seen.insert(&code.code) {
            let what = format!(
                "`{0}` has no page: write ops/errors/{0}.md (what happened, what is safe, what to do)",
                code.code
            );
            out.push(Violation::new(&code.file, code.line, "error-codes", what));
        }
    }
    for (page, text) in pages {
        let file = format!("ops/errors/{page}.md");
        if !literals.contains(page) {
            out.push(Violation::new(
                &file,
                0,
                "error-codes",
                "no source file has this code: remove the page or name it right",
            ));
        }
        let lines = text
            .lines()
            .filter(|line| !line.trim().is_empty() && !line.starts_with('#'))
            .count();
        if lines < PAGE_LINES_MIN {
            out.push(Violation::new(
                &file,
                0,
                "error-codes",
                "it says too little: what happened, what is safe, what to do",
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLANTED: &str = "impl Error { pub const fn code(&self) -> &'static str { match self { Self::A => \"log-lost\", _ => \"plain\" } } }\n\
        fn f() -> Rejected { Rejected { position, code: \"weblog-no-format\" } }\n\
        #[cfg(test)]\nmod t { fn g() { Rejected { code: \"test-only\" }; } }\n";

    #[test]
    fn codes_are_found_where_they_are_returned_or_given() {
        let found = in_source("x.rs", &Source::new(PLANTED));
        assert_eq!(
            found
                .iter()
                .map(|c| (c.code.as_str(), c.line))
                .collect::<Vec<_>>(),
            [("log-lost", 1), ("weblog-no-format", 2)]
        );
    }

    #[test]
    fn a_missing_an_orphaned_and_an_empty_page_are_found() {
        let codes = in_source("x.rs", &Source::new(PLANTED));
        let literals: BTreeSet<String> = codes.iter().map(|c| c.code.clone()).collect();
        let pages = [
            ("log-lost", "# log-lost\n\nA.\n"),
            ("log-gone", "One.\nTwo.\nThree.\n"),
        ];
        let pages: BTreeMap<String, String> = pages.map(|(n, t)| (n.to_owned(), t.to_owned())).into();
        let found: Vec<String> = check(&codes, &literals, &pages)
            .iter()
            .map(ToString::to_string)
            .collect();
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[0].starts_with("x.rs:2: error-codes: `weblog-no-format` has no page"));
        assert!(found[1].contains("log-gone.md") && found[2].contains("log-lost.md"));
    }
}
