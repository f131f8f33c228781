//! Pages of a search or an export: the program's own marks, counted, so that one that pages for ever comes to an end.

use lethe_kit::{Error as Failure, Page};

use crate::error::{Effect, wrong_answer};

/// Pages of one search or export: of a page of a hundred records each, a million records of one person.
pub(crate) const PAGES_MAX: u32 = 10_000;
/// Longest mark of the program's own at which a search or an export is read on, in bytes.
const MARK_BYTES_MAX: usize = 1_024;

/// The page that is asked for: how many came before it, and the program's mark for it. As a [`Page`] it is number, colon and mark.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    before: u32,
    pub(crate) mark: Option<String>,
}

impl Asked {
    /// Reads what [`Asked::next`] gave.
    pub(crate) fn parse(page: &Page) -> Result<Self, Failure> {
        let Some(text) = &page.0 else {
            return Ok(Self {
                before: 0,
                mark: None,
            });
        };
        let counted = text.split_once(':').and_then(|(before, mark)| {
            let before = before.parse().ok()?;
            let mark = Some(mark.to_owned());
            Some(Self { before, mark })
        });
        counted.ok_or_else(|| wrong_answer(Effect::Reads, "page: expected the number of a page and its mark"))
    }

    /// The page after this one, at the program's mark; none where there is no more.
    pub(crate) fn next(&self, mark: Option<String>) -> Result<Option<String>, Failure> {
        let Some(mark) = mark else { return Ok(None) };
        if mark.len() > MARK_BYTES_MAX {
            let reason = format!("next: expected at most {MARK_BYTES_MAX} bytes");
            return Err(wrong_answer(Effect::Reads, reason));
        }
        if Some(&mark) == self.mark.as_ref() {
            let reason = "next is the page that was just read: the answer would never end";
            return Err(wrong_answer(Effect::Reads, reason));
        }
        let before = self.before.saturating_add(1);
        if before >= PAGES_MAX {
            let reason = format!("after {PAGES_MAX} pages there is more to read: expected an end before");
            return Err(wrong_answer(Effect::Reads, reason));
        }
        Ok(Some(format!("{before}:{mark}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_goes_back_and_forth_comes_to_an_end_in_words() {
        let (mut page, mut pages) = (Page(None), 0);
        let failed = loop {
            pages += 1;
            let mark = if pages % 2 == 0 { "a" } else { "b:b" };
            match Asked::parse(&page).unwrap().next(Some(mark.to_owned())) {
                Ok(next) => page = Page(next),
                Err(failed) => break failed,
            }
            assert!(pages < 2 * PAGES_MAX, "it pages for ever");
        };
        assert_eq!((pages, failed.code()), (PAGES_MAX, "remote-answer"));
        assert!(failed.to_string().contains("after 10000 pages"), "{failed}");
    }

    #[test]
    fn marks_come_back_as_the_program_gave_them() {
        let first = Asked::parse(&Page(None)).unwrap();
        assert_eq!(first.mark, None);
        let second = first.next(Some("a:b".to_owned())).unwrap();
        assert_eq!(Asked::parse(&Page(second)).unwrap().mark.as_deref(), Some("a:b"));
        assert_eq!(first.next(None).unwrap(), None);
        assert!(first.next(Some("x".repeat(1_025))).is_err());
        assert!(Asked::parse(&Page(Some("a".to_owned()))).is_err());
    }
}
