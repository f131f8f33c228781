//! Following a log: what appeared since the cursor, in pages.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use lethe_kit::{FeedPage, Observation, RecordName, Rejected};

use crate::error::Error;
use crate::files::{self, Found, LineAt, Lines};
use crate::log::Log;
use crate::record::{self, Record};
use crate::side::{Shift, moved};
use crate::state::StateDir;
use crate::writers::{Writers, writers};

/// Version of the cursor's form.
const CURSOR_VERSION: &str = "1";
/// Files that a cursor names: those before them are read, those behind them are not. More than one, because a server may still write to a rotated file.
const CURSOR_FILES: usize = 4;
/// Bytes of lines in one page: a page stays small whatever the lines are.
const PAGE_BYTES_MAX: u64 = 8 << 20;
/// Bytes of a rejected line that go out; the line itself stays whole in its file.
const REJECTED_BYTES_MAX: usize = 1 << 16;
/// Days of which counts are kept: lines of an older day do not come any more.
const DAYS_MAX: usize = 3;
/// Place of an archive that cannot be read any further.
const GIVEN_UP: u64 = u64::MAX >> 1;

/// What the feed remembers between two pages; all of it can be made again from the files.
pub(crate) struct FeedState {
    /// Lines by day and record.
    pub(crate) counts: BTreeMap<String, BTreeMap<[u8; 16], u64>>,
    /// The cursor up to which `counts` goes.
    pub(crate) counted_at: Option<String>,
    /// An open archive: file, inode and reader.
    pub(crate) reader: Option<(u64, u64, Lines)>,
    /// How the counts change once the file under this hidden name is exchanged.
    pub(crate) recount: Option<(PathBuf, Recount)>,
}

/// Lines that a rewrite takes out or puts back, by day and record.
#[derive(Default)]
pub(crate) struct Recount(BTreeMap<String, BTreeMap<[u8; 16], i64>>);

impl Recount {
    /// Adds so many lines of a record.
    pub(crate) fn add(&mut self, dir: &StateDir, records: &[Record], lines: i64) {
        for record in records.iter().filter(|record| !record.identifiers.is_empty()) {
            let day = self.0.entry(record.period.clone()).or_default();
            *day.entry(counted_as(dir, record)).or_default() += lines;
        }
    }
}

/// What a record is counted under.
fn counted_as(dir: &StateDir, record: &Record) -> [u8; 16] {
    dir.short_digest(&[record.handle().as_bytes()])
}

impl FeedState {
    /// Forgets everything: files have changed.
    pub(crate) fn forget(&mut self) {
        self.counts.clear();
        self.counted_at = None;
        self.reader = None;
        self.recount = None;
    }

    /// Brings the counts to where the exchanged file is, or forgets them where that cannot be told.
    pub(crate) fn rewritten(&mut self, aside: &Path) {
        self.reader = None;
        let recount = self.recount.take().filter(|(path, _)| path == aside);
        if recount.is_none_or(|(_, recount)| self.count_with(recount).is_none()) {
            self.forget();
        }
    }

    fn count_with(&mut self, recount: Recount) -> Option<()> {
        for (day, changes) in recount.0 {
            let past =
                self.counts.len() >= DAYS_MAX && self.counts.keys().next().is_some_and(|first| day < *first);
            let Some(counts) = self.counts.get_mut(&day) else {
                // An older day is not counted any more; another one must be counted whole.
                if past {
                    continue;
                }
                return None;
            };
            for (record, lines) in changes {
                let left = counts
                    .get(&record)
                    .copied()
                    .unwrap_or(0)
                    .checked_add_signed(lines)?;
                if left == 0 {
                    counts.remove(&record);
                } else {
                    counts.insert(record, left);
                }
            }
            // An older day may take its place.
            if counts.is_empty() {
                return None;
            }
        }
        Some(())
    }
}

/// Where a shard was read up to: bytes by file id, and after which rewrite that was true. No personal data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Cursor {
    rewrites: u64,
    files: Vec<(u64, u64)>,
}

impl Cursor {
    fn parse(text: &str) -> Result<Self, Error> {
        let mut parts = text.split(';');
        if parts.next() != Some(CURSOR_VERSION) {
            return Err(Error::Mark);
        }
        let number = |text: &str| text.parse::<u64>().map_err(|_| Error::Mark);
        let rewrites = number(parts.next().ok_or(Error::Mark)?)?;
        let files = parts
            .map(|part| {
                let (id, at) = part.split_once(':').ok_or(Error::Mark)?;
                Ok((number(id)?, number(at)?))
            })
            .collect::<Result<_, Error>>()?;
        Ok(Self { rewrites, files })
    }

    fn show(&self) -> String {
        let mut text = format!("{CURSOR_VERSION};{}", self.rewrites);
        for (id, at) in &self.files {
            // Writing to a text does not fail.
            let _ = write!(text, ";{id}:{at}");
        }
        text
    }
}

/// A page in the making.
#[derive(Default)]
struct Reading {
    page: FeedPage,
    found: BTreeMap<Record, u64>,
    lines: usize,
    bytes: u64,
    limit: usize,
    /// Whether observations go out, or are only counted again.
    counting: bool,
}

impl Reading {
    fn is_full(&self) -> bool {
        !self.counting && (self.lines >= self.limit || self.bytes >= PAGE_BYTES_MAX)
    }
}

impl Log {
    /// Reads a page.
    pub(crate) fn page(&mut self, cursor: Option<&str>, limit: usize) -> Result<FeedPage, Error> {
        let given = cursor.map(Cursor::parse).transpose()?;
        // The feed is read all the time: what is to end ends, whether instructions come or not.
        self.end_old()?;
        self.settle_names()?;
        // What an interrupted rewrite left behind is brought in as soon as its writer has let go.
        self.drain(false)?;
        let files = self.whole()?;
        let mut places = match given {
            Some(given) => self.places(given)?,
            None => BTreeMap::new(),
        };
        self.count_again(&files, &places, cursor)?;
        let mut reading = Reading {
            limit: limit.max(1),
            ..Reading::default()
        };
        let first = files.iter().position(|f| places.contains_key(&f.id)).unwrap_or(0);
        for file in &files[first..] {
            if reading.is_full() {
                reading.page.more = true;
                break;
            }
            let from = places.get(&file.id).copied().unwrap_or(0);
            let (place, more) = self.read(file, from, None, &mut reading)?;
            places.insert(file.id, place);
            reading.page.more |= more;
            if more {
                break;
            }
        }
        // Up to the last file that was read at all: an earlier one may have grown after that.
        let named = &files[..files
            .iter()
            .rposition(|f| places.contains_key(&f.id))
            .map_or(0, |n| n + 1)];
        let named = named.iter().skip(named.len().saturating_sub(CURSOR_FILES));
        let files_named = named.filter_map(|f| Some((f.id, *places.get(&f.id)?))).collect();
        let cursor = Cursor {
            rewrites: self.state.rewrites,
            files: files_named,
        }
        .show();
        let mut page = reading.page;
        page.progress = Some(progress(&files, &places, first));
        page.observations = reading
            .found
            .into_iter()
            .map(|(record, count)| observation(&record, count))
            .collect();
        page.cursor = cursor.clone();
        self.feed.counted_at = Some(cursor);
        Ok(page)
    }

    /// Up to which byte of a file the lines are counted; `None` where nothing is.
    pub(crate) fn counted_upto(&mut self, file: u64) -> Result<Option<u64>, Error> {
        let Some(at) = self.feed.counted_at.clone() else {
            return Ok(None);
        };
        let places = self.places(Cursor::parse(&at)?)?;
        let files = self.files()?;
        let place = |id| files.iter().position(|f| f.id == id);
        let first = files.iter().position(|f| places.contains_key(&f.id));
        Ok(match (places.get(&file), first, place(file)) {
            (Some(upto), ..) => Some(*upto),
            (None, Some(first), Some(here)) if here < first => Some(u64::MAX),
            (None, Some(_), Some(_)) => Some(0),
            _ => None,
        })
    }

    /// Where a cursor stands after all rewrites since it was given. One that is too old starts over: that repeats and loses nothing.
    fn places(&self, cursor: Cursor) -> Result<BTreeMap<u64, u64>, Error> {
        let mut places: BTreeMap<u64, u64> = cursor.files.into_iter().collect();
        if cursor.rewrites > self.state.rewrites {
            return Ok(BTreeMap::new());
        }
        for rewrite in cursor.rewrites + 1..=self.state.rewrites {
            let Some(shift) = self.dir.load::<Shift>(&self.shift_name(rewrite))? else {
                return Ok(BTreeMap::new());
            };
            if let Some(place) = places.get_mut(&shift.file).filter(|place| **place < GIVEN_UP) {
                *place = moved(&shift.edits, *place);
            }
        }
        Ok(places)
    }

    /// Counts of the days that may still grow, where this process did not read up to the cursor itself.
    fn count_again(
        &mut self,
        files: &[Found],
        places: &BTreeMap<u64, u64>,
        cursor: Option<&str>,
    ) -> Result<(), Error> {
        if cursor.is_some() && self.feed.counted_at.as_deref() == cursor {
            return Ok(());
        }
        self.feed.forget();
        let Some(first) = files.iter().position(|f| places.contains_key(&f.id)) else {
            return Ok(());
        };
        let mut reading = Reading {
            counting: true,
            ..Reading::default()
        };
        for (n, file) in files.iter().enumerate() {
            let upto = places.get(&file.id).copied().or((n < first).then_some(u64::MAX));
            if let Some(upto) = upto {
                self.read(file, 0, Some(upto), &mut reading)?;
            }
        }
        Ok(())
    }

    /// Reads a file from a byte on. Returns where it stopped, and whether there is more right now.
    fn read(
        &mut self,
        file: &Found,
        from: u64,
        upto: Option<u64>,
        reading: &mut Reading,
    ) -> Result<(u64, bool), Error> {
        if from >= GIVEN_UP {
            return Ok((from, false));
        }
        // A file that shrank was emptied in place: it begins anew.
        let from = if !file.gz && from > file.size { 0 } else { from };
        let failed = |e| Error::file(&file.path, "reading", e);
        let opened = match self.feed.reader.take() {
            Some((id, ino, lines)) if (id, ino, lines.at()) == (file.id, file.ino, from) => Ok(lines),
            _ => Lines::open(&file.path, file.gz, from),
        };
        let mut lines = match opened {
            Ok(lines) => lines,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok((from, false)),
            Err(_) if file.gz => return Ok((reading.give_up(&self.config.name, file, from), false)),
            Err(e) => return Err(failed(e)),
        };
        let mut line = Vec::new();
        loop {
            let at = lines.at();
            if upto.is_some_and(|upto| at >= upto) {
                return Ok((at, false));
            }
            if reading.is_full() {
                if file.gz {
                    self.feed.reader = Some((file.id, file.ino, lines));
                }
                return Ok((at, true));
            }
            let place = match lines.next(&mut line) {
                Ok(Some(place)) => place,
                Ok(None) => return Ok((at, false)),
                Err(_) if file.gz => return Ok((reading.give_up(&self.config.name, file, at), false)),
                Err(e) => return Err(failed(e)),
            };
            let mut place = place;
            let seen = match self.read_line(&mut lines, &mut line, &mut place) {
                Ok(seen) => seen,
                Err(_) if file.gz => return Ok((reading.give_up(&self.config.name, file, at), false)),
                Err(e) => return Err(failed(e)),
            };
            // The end of a line may still come.
            if !place.ended && !file.gz && (file.live || writers(file.dev, file.ino) != Writers::None) {
                return Ok((at, false));
            }
            reading.lines += 1;
            reading.bytes += place.len;
            let records = seen.records(&self.config.name);
            if seen.parsed.is_none() && !files::text(&line).is_empty() && !reading.counting {
                let of = records.iter().filter(|record| !record.identifiers.is_empty());
                let of = of.map(|record| observation(record, 1).name()).collect();
                reading.reject(position(&self.config.name, file, at), files::text(&line), of);
            }
            for record in records {
                self.count(record, reading);
            }
        }
    }

    /// Takes a line in; a long one piece by piece, its first in the buffer.
    fn read_line(
        &self,
        lines: &mut Lines,
        line: &mut Vec<u8>,
        place: &mut LineAt,
    ) -> std::io::Result<record::Reading> {
        if !place.long {
            return Ok(self.rules.read(files::text(line)));
        }
        let begin = line[..REJECTED_BYTES_MAX].to_vec();
        let mut whole: Option<record::Reading> = None;
        lines.pieces(line, place, &mut |piece| {
            let read = self.rules.read(piece);
            match &mut whole {
                Some(whole) => whole.join(read),
                None => whole = Some(read),
            }
        })?;
        *line = begin;
        Ok(whole.unwrap_or_else(|| self.rules.read(line)))
    }

    fn count(&mut self, record: Record, reading: &mut Reading) {
        if record.identifiers.is_empty() {
            return;
        }
        let days = &mut self.feed.counts;
        let count = days
            .entry(record.period.clone())
            .or_default()
            .entry(counted_as(&self.dir, &record))
            .and_modify(|n| *n += 1)
            .or_insert(1);
        let count = *count;
        while days.len() > DAYS_MAX {
            days.pop_first();
        }
        if !reading.counting {
            reading.found.insert(record, count);
        }
    }
}

impl Reading {
    fn reject(&mut self, position: String, text: &[u8], of: Vec<RecordName>) {
        let kept = &text[..text.len().min(REJECTED_BYTES_MAX)];
        self.page.rejected.push(Rejected {
            position,
            code: "weblog-line",
            expected: "a line in the common, combined or vhost_combined format".to_owned(),
            input: kept.to_vec(),
            of,
        });
    }

    /// An archive that cannot be read further is said once and left behind.
    fn give_up(&mut self, log: &lethe_terms::DatasetName, file: &Found, at: u64) -> u64 {
        if !self.counting {
            self.page.rejected.push(Rejected {
                position: position(log, file, at),
                code: "weblog-archive",
                expected: "a whole gzip file".to_owned(),
                input: Vec::new(),
                of: Vec::new(),
            });
        }
        GIVEN_UP
    }
}

fn position(log: &lethe_terms::DatasetName, file: &Found, at: u64) -> String {
    let kind = match (file.live, file.gz) {
        (true, _) => "live",
        (false, true) => "archive",
        (false, false) => "rotated",
    };
    format!("{log} file {} ({kind}) byte {at}", file.id)
}

/// An observation of a record that is there.
pub(crate) fn observation(record: &Record, count: u64) -> Observation {
    Observation {
        dataset: record.log.clone(),
        key: record.handle(),
        unit: record.is_part().then(|| record.unit().handle()),
        handle: record.handle(),
        identifiers: record.identifiers.iter().cloned().collect(),
        count,
        gone: false,
    }
}

/// Bytes on disk that are read, of all; an archive counts once it is read to its end.
fn progress(files: &[Found], places: &BTreeMap<u64, u64>, first: usize) -> (u64, u64) {
    let known: BTreeSet<usize> = (0..first).collect();
    let last = files
        .iter()
        .rposition(|f| places.contains_key(&f.id))
        .unwrap_or(0);
    let mut read = 0;
    for (n, file) in files.iter().enumerate() {
        read += match places.get(&file.id) {
            _ if known.contains(&n) => file.size,
            Some(_) if file.gz && n < last => file.size,
            Some(place) if !file.gz => (*place).min(file.size),
            _ => 0,
        };
    }
    (read, files.iter().map(|f| f.size).sum())
}
