//! Finding a person's records, and handing out their lines.

use std::collections::BTreeMap;

use lethe_kit::{Located, Page, Selector};
use serde_json::{Value, json};

use crate::error::Error;
use crate::feed::observation;
use crate::files::{self, Lines};
use crate::identify::Record;
use crate::line;
use crate::log::Log;
use crate::matcher::Matcher;

/// Lines in one page of an export.
const EXPORT_LINES_MAX: usize = 1_000;

impl Log {
    /// Calls `each` with every line (without its end) of every file, whether rotated, live, late or restricted, oldest file first. Says whether
    /// the rest of an overlong line stayed unread.
    pub(crate) fn every_line(&mut self, each: &mut dyn FnMut(&[u8], bool)) -> Result<bool, Error> {
        self.settle_names()?;
        let mut cut = false;
        let mut places: Vec<_> = self.whole()?.into_iter().map(|f| (f, 0)).collect();
        places.extend(self.undrained());
        let mut line = Vec::new();
        for (file, from) in places {
            let failed = |e| Error::file(&file.path, "reading", e);
            let mut lines = match Lines::open(&file.path, file.gz, from) {
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => continue,
                other => other.map_err(failed)?,
            };
            while lines.at() < file.end() {
                let Some(at) = lines.next(&mut line).map_err(failed)? else {
                    break;
                };
                cut |= at.len > line.len() as u64;
                each(files::text(&line), false);
            }
        }
        for line in self.side()?.lines {
            each(line.text(), true);
        }
        Ok(cut)
    }

    /// Finds the records of a person: whole, with counts, in one pass.
    pub(crate) fn search(&mut self, selector: &Selector, found: &mut Located) -> Result<(), Error> {
        let matcher = Matcher::for_search(selector);
        if matcher.is_empty() {
            return Ok(());
        }
        let (rules, name) = (self.rules.clone(), self.config.name.clone());
        let look = matcher.look(&rules, &name);
        let mut records: BTreeMap<Record, u64> = BTreeMap::new();
        self.every_line(&mut |line, _| {
            if let Some(record) = look.at(line) {
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
        let matcher = Matcher::new(selector, &self.config.name);
        let (rules, name) = (self.rules.clone(), self.config.name.clone());
        let look = matcher.look(&rules, &name);
        let (mut seen, mut values) = (0, Vec::new());
        self.every_line(&mut |text, restricted| {
            if look.at(text).is_none() {
                return;
            }
            if seen >= skip && values.len() < EXPORT_LINES_MAX {
                values.push(value(name.as_str(), text, restricted));
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
