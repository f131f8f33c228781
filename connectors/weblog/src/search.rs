//! Finding a person's records, and handing out their lines.

use std::collections::BTreeMap;

use lethe_kit::{Located, Page, Selector};
use serde_json::{Value, json};

use crate::error::Error;
use crate::feed::observation;
use crate::files::{self, LINE_BYTES_MAX, Lines};
use crate::line;
use crate::log::Log;
use crate::matcher::{Matcher, Sight};
use crate::record::Record;

/// Lines in one page of an export.
const EXPORT_LINES_MAX: usize = 1_000;

/// A line (without its end), or a piece of one that is too long to hold.
pub(crate) struct Part<'a> {
    /// Its bytes, as a line that can be read.
    pub(crate) text: &'a [u8],
    /// Whether it is restricted.
    pub(crate) restricted: bool,
    /// Whether it is a piece.
    pub(crate) piece: bool,
}

impl<'a> Part<'a> {
    const fn new(text: &'a [u8], restricted: bool, piece: bool) -> Self {
        Self {
            text,
            restricted,
            piece,
        }
    }
}

impl Log {
    /// Calls `each` with every line of every file, whether rotated, live, late or restricted, oldest file first; and with nothing behind the pieces
    /// of each overlong one. Fails after all where a file could not be read.
    pub(crate) fn every_line(&mut self, each: &mut dyn FnMut(Option<Part<'_>>)) -> Result<(), Error> {
        self.settle_names()?;
        let (files, unread) = self.with_live()?;
        let mut places: Vec<_> = files.into_iter().map(|f| (f, 0)).collect();
        places.extend(self.undrained());
        let mut line = Vec::new();
        for (file, from) in places {
            let failed = |e| Error::file(&file.path, "reading", e);
            let mut lines = match Lines::open(&file.path, file.gz, from) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            while lines.at() < file.end() {
                let Some(mut place) = lines.next(&mut line).map_err(failed)? else {
                    break;
                };
                if place.long {
                    lines
                        .pieces(&mut line, &mut place, &mut |text| {
                            each(Some(Part::new(text, false, true)));
                        })
                        .map_err(failed)?;
                    each(None);
                } else {
                    each(Some(Part::new(files::text(&line), false, false)));
                }
            }
        }
        for line in self.side()?.lines {
            if line.text().len() > LINE_BYTES_MAX {
                files::pieces_of(line.text(), &mut |text| each(Some(Part::new(text, true, true))));
                each(None);
            } else {
                each(Some(Part::new(line.text(), true, false)));
            }
        }
        unread.map_or(Ok(()), Err)
    }

    /// Finds the records of a person: whole, with counts, in one pass.
    pub(crate) fn search(&mut self, selector: &Selector, found: &mut Located) -> Result<(), Error> {
        let matcher = Matcher::for_search(selector)?;
        if matcher.is_empty() {
            return Ok(());
        }
        let (rules, name) = (self.rules.clone(), self.config.name.clone());
        let look = matcher.look(&rules, &name);
        let mut records: BTreeMap<Record, u64> = BTreeMap::new();
        let mut sight = Sight::default();
        self.every_line(&mut |part| {
            for record in look.part(part.as_ref(), &mut sight) {
                *records.entry(record).or_default() += 1;
            }
        })?;
        found
            .observations
            .extend(records.iter().map(|(record, count)| observation(record, *count)));
        Ok(())
    }

    /// Lines of a person from number `skip` on, as JSON, and whether there are more.
    pub(crate) fn hand_out(&mut self, selector: &Selector, skip: usize) -> Result<(Vec<Value>, bool), Error> {
        let matcher = Matcher::new(selector, &self.config.name)?;
        let (rules, name) = (self.rules.clone(), self.config.name.clone());
        let look = matcher.look(&rules, &name);
        let (mut seen, mut values) = (0, Vec::new());
        let (mut sight, mut begin) = (Sight::default(), None);
        self.every_line(&mut |part| {
            if let Some(piece) = part.as_ref().filter(|p| p.piece && begin.is_none()) {
                begin = Some((piece.text.to_vec(), piece.restricted));
            }
            let is_theirs = !look.part(part.as_ref(), &mut sight).is_empty();
            // Of an overlong line its beginning goes out.
            let ended = if part.is_none() { begin.take() } else { None };
            if !is_theirs {
                return;
            }
            if seen >= skip && values.len() < EXPORT_LINES_MAX {
                let shown = part.map(|p| (p.text, p.restricted)).or(ended
                    .as_ref()
                    .map(|(text, restricted)| (text.as_slice(), *restricted)));
                values.extend(shown.map(|(text, restricted)| value(name.as_str(), text, restricted)));
            }
            seen += 1;
        })?;
        let more = seen > skip + values.len();
        Ok((values, more))
    }
}

fn value(log: &str, text: &[u8], restricted: bool) -> Value {
    let shown =
        |range: std::ops::Range<usize>| String::from_utf8_lossy(&line::unescape(&text[range])).into_owned();
    let mut value = json!({ "log": log, "restricted": restricted, "line": String::from_utf8_lossy(text) });
    if let (Some(parsed), Some(fields)) = (line::parse(text), value.as_object_mut()) {
        let named = [
            ("address", Some(parsed.client)),
            ("user", Some(parsed.user)),
            ("time", Some(parsed.time)),
            ("request", Some(parsed.request)),
            ("status", Some(parsed.status)),
            ("referrer", parsed.referrer),
            ("agent", parsed.agent),
        ];
        for (name, range) in named {
            if let Some(range) = range {
                fields.insert(name.to_owned(), Value::String(shown(range)));
            }
        }
    }
    value
}

/// Number of lines that a page mark stands for.
pub(crate) fn lines_of(page: &Page) -> Result<(usize, usize), Error> {
    let Some(mark) = &page.0 else { return Ok((0, 0)) };
    let (log, lines) = mark.split_once(':').ok_or(Error::Mark)?;
    Ok((
        log.parse().map_err(|_| Error::Mark)?,
        lines.parse().map_err(|_| Error::Mark)?,
    ))
}
