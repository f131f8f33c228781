//! Which lines an instruction is about.

use std::collections::{BTreeMap, BTreeSet};

use lethe_kit::Selector;
use lethe_terms::{DatasetName, Identifier, IdentifierKind, Strength};
use memchr::memmem::Finder;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files::{self, LineAt, Lines};
use crate::identify::{DECODE_ROUNDS_MAX, Rules, TOKEN_BYTES_MIN, is_unusual, sought, token_byte};
use crate::line;
use crate::record::{Reading, Record};
use crate::search::Part;
use crate::sieve::Sieve;

/// Whom an instruction is about: one pass over the lines, however many identifiers.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Matcher {
    /// Identifiers of which one is enough.
    needles: BTreeSet<Identifier>,
    /// Records that must fit exactly.
    records: BTreeSet<Record>,
}

/// A matcher, ready to look.
pub(crate) struct Look<'a> {
    matcher: &'a Matcher,
    rules: &'a Rules,
    log: &'a DatasetName,
    tokens: BTreeMap<&'a [u8], Vec<&'a Identifier>>,
    /// Addresses that are not found by their form.
    mails: Vec<(Finder<'a>, &'a Identifier)>,
    sieve: Sieve,
}

/// A line that is selected.
pub(crate) struct Hit<'a> {
    /// The records that are selected.
    pub(crate) records: Vec<Record>,
    /// The records that the line belongs to, whoever it is about.
    pub(crate) own: Vec<Record>,
    /// By what it is selected.
    pub(crate) by: By<'a>,
}

/// By what a line is selected.
pub(crate) enum By<'a> {
    /// Records that are named: whoever sent the instruction knows of all claims on them.
    Records(Vec<&'a Record>),
    /// Identifiers alone: nobody else knows that the line is selected.
    Identifiers(Vec<&'a Identifier>),
}

/// What was seen of a line, piece by piece where it is too long to hold.
#[derive(Default)]
pub(crate) struct Sight<'a> {
    reading: Option<Reading>,
    /// What of the person stands in it.
    hits: BTreeSet<&'a Identifier>,
}

impl Sight<'_> {
    /// What was read, whoever it is about.
    pub(crate) fn reading(&self) -> Option<&Reading> {
        self.reading.as_ref()
    }
}

impl Matcher {
    /// What an instruction selects: the records, and lines with an identifier that names this person alone. What several people may share, such as an
    /// address or a device, selects no line by itself. A handle that this connector never gave is the handle of nothing.
    pub(crate) fn new(selector: &Selector, log: &DatasetName) -> Result<Self, Error> {
        let records = selector
            .records
            .iter()
            .filter_map(|selected| Record::from_handle(&selected.handle));
        Ok(Self {
            needles: all_sought(selector, |strength| strength == Strength::Strong)?,
            records: records.filter(|record| record.log == *log).collect(),
        })
    }

    /// What a search selects: addresses only where nothing better is known, as candidates.
    pub(crate) fn for_search(selector: &Selector) -> Result<Self, Error> {
        let all = all_sought(selector, |_| true)?;
        let better: BTreeSet<Identifier> = all
            .iter()
            .filter(|i| i.kind.strength() != Strength::Shared)
            .cloned()
            .collect();
        Ok(Self {
            needles: if better.is_empty() { all } else { better },
            records: BTreeSet::new(),
        })
    }

    /// The identifiers of which one is enough.
    pub(crate) fn needles(&self) -> &BTreeSet<Identifier> {
        &self.needles
    }

    /// The records that are selected.
    pub(crate) fn records(&self) -> &BTreeSet<Record> {
        &self.records
    }

    /// The same selection without its identifiers.
    pub(crate) fn records_only(&self) -> Self {
        Self {
            needles: BTreeSet::new(),
            records: self.records.clone(),
        }
    }

    /// The same selection without its records.
    pub(crate) fn identifiers_only(&self) -> Self {
        Self {
            needles: self.needles.clone(),
            records: BTreeSet::new(),
        }
    }

    /// Whether nothing can match.
    pub(crate) fn is_empty(&self) -> bool {
        self.needles.is_empty() && self.records.is_empty()
    }

    /// Ready to look at lines of `log`.
    pub(crate) fn look<'a>(&'a self, rules: &'a Rules, log: &'a DatasetName) -> Look<'a> {
        let mut tokens: BTreeMap<&[u8], Vec<&Identifier>> = BTreeMap::new();
        let known = self.records.iter().flat_map(|r| &r.identifiers);
        let mut mails: BTreeSet<&Identifier> = BTreeSet::new();
        for one in self.needles.iter().chain(known) {
            if rules.is_word(one) {
                tokens.entry(one.value.as_bytes()).or_default().push(one);
            } else if one.kind == IdentifierKind::Email && is_unusual(&one.value) {
                mails.insert(one);
            }
        }
        Look {
            matcher: self,
            rules,
            log,
            tokens,
            mails: mails
                .into_iter()
                .map(|one| (Finder::new(one.value.as_bytes()), one))
                .collect(),
            sieve: Sieve::new(&self.needles, &self.records, rules),
        }
    }
}

/// The identifiers of these strengths; an error where one of them could not be found in any line, so that nobody is said to be absent.
fn all_sought(selector: &Selector, wanted: impl Fn(Strength) -> bool) -> Result<BTreeSet<Identifier>, Error> {
    let all = selector.identifiers.iter().filter(|i| wanted(i.kind.strength()));
    all.map(|one| sought(one).ok_or(Error::Identifier { kind: one.kind }))
        .collect()
}

impl<'a> Look<'a> {
    /// The records of this line (without its end) that the instruction is about.
    pub(crate) fn at(&self, line: &[u8]) -> Vec<Record> {
        if self.sieve.passes(line) {
            self.read_at(line)
        } else {
            Vec::new()
        }
    }

    /// Whether the line is read at all.
    #[cfg(test)]
    pub(crate) fn passes(&self, line: &[u8]) -> bool {
        self.sieve.passes(line)
    }

    /// The same, by reading the line whatever its bytes are.
    pub(crate) fn read_at(&self, line: &[u8]) -> Vec<Record> {
        self.decide(&self.sight(line))
    }

    /// The same with all that there is to know of a line that is selected.
    pub(crate) fn hit_at(&self, line: &[u8]) -> Option<Hit<'a>> {
        if self.sieve.passes(line) {
            self.hit(&self.sight(line))
        } else {
            None
        }
    }

    /// The same for a line that was just begun to be read.
    pub(crate) fn at_next(
        &self,
        lines: &mut Lines,
        line: &mut Vec<u8>,
        place: &mut LineAt,
    ) -> std::io::Result<Option<Hit<'a>>> {
        if !place.long {
            return Ok(self.hit_at(files::text(line)));
        }
        let mut sight = Sight::default();
        lines.pieces(line, place, &mut |piece| self.add(piece, &mut sight))?;
        Ok(self.hit(&sight))
    }

    fn sight(&self, line: &[u8]) -> Sight<'a> {
        let mut sight = Sight::default();
        if line.len() > files::LINE_BYTES_MAX {
            files::pieces_of(line, &mut |piece| self.add(piece, &mut sight));
        } else {
            self.add(line, &mut sight);
        }
        sight
    }

    fn hit(&self, sight: &Sight<'a>) -> Option<Hit<'a>> {
        let (records, reading) = (self.decide(sight), sight.reading.as_ref()?);
        if records.is_empty() {
            return None;
        }
        let selected = self.selected(reading, &sight.hits);
        let by = if selected.is_empty() {
            let needles = &self.matcher.needles;
            By::Identifiers(
                sight
                    .hits
                    .iter()
                    .copied()
                    .filter(|one| needles.contains(*one))
                    .collect(),
            )
        } else {
            By::Records(selected)
        };
        Some(Hit {
            records,
            own: reading.records(self.log),
            by,
        })
    }

    /// The named records that a line fits.
    fn selected(&self, reading: &Reading, hits: &BTreeSet<&Identifier>) -> Vec<&'a Record> {
        let records = self.matcher.records.iter();
        let mut of_period = records
            .filter(|record| record.period == reading.period())
            .peekable();
        if of_period.peek().is_none() {
            return Vec::new();
        }
        let crowd = reading.crowd();
        of_period
            .filter(|record| match &record.crowd {
                Some(_) => record.crowd == crowd,
                None => same(record, reading, hits),
            })
            .collect()
    }

    /// The same for a line or what there is of one, together with what was seen of it before; a line in pieces is decided at its end.
    pub(crate) fn part(&self, part: Option<&Part<'_>>, sight: &mut Sight<'a>) -> Vec<Record> {
        match part {
            Some(part) if part.piece => {
                self.add(part.text, sight);
                Vec::new()
            }
            Some(part) => self.at(part.text),
            None => self.decide(&std::mem::take(sight)),
        }
    }

    /// Adds a line, or the next piece of one, to what was seen.
    pub(crate) fn add(&self, piece: &[u8], sight: &mut Sight<'a>) {
        let reading = self.rules.read(piece);
        sight.hits.extend(self.tokens_in(piece));
        let needles = self.matcher.needles.iter();
        sight
            .hits
            .extend(needles.filter(|one| reading.identifiers.contains(*one)));
        match &mut sight.reading {
            Some(whole) => whole.join(reading),
            None => sight.reading = Some(reading),
        }
    }

    /// The records of what was seen that the instruction is about.
    pub(crate) fn decide(&self, sight: &Sight<'_>) -> Vec<Record> {
        let Some(reading) = &sight.reading else {
            return Vec::new();
        };
        if sight.hits.iter().any(|one| self.matcher.needles.contains(*one)) {
            return reading.records_of(self.log, &sight.hits);
        }
        let selected = self.selected(reading, &sight.hits);
        selected.into_iter().cloned().collect()
    }

    fn tokens_in(&self, line: &[u8]) -> BTreeSet<&'a Identifier> {
        let mut hits = BTreeSet::new();
        if self.tokens.is_empty() && self.mails.is_empty() {
            return hits;
        }
        self.tokens_of(line, &mut hits);
        let mut text = line::unescape(line);
        for _ in 0..=DECODE_ROUNDS_MAX {
            self.tokens_of(&text, &mut hits);
            let Some(next) = line::percent_decoded(&text) else {
                break;
            };
            text = next;
        }
        if text.iter().any(|b| matches!(b, b'%' | b'\\')) {
            self.tokens_of(&line::flat(&text, false), &mut hits);
            self.tokens_of(&line::flat(&text, true), &mut hits);
        }
        hits
    }

    fn tokens_of(&self, text: &[u8], hits: &mut BTreeSet<&'a Identifier>) {
        for token in text
            .split(|b| !token_byte(b))
            .filter(|t| t.len() >= TOKEN_BYTES_MIN)
        {
            hits.extend(self.tokens.get(token).into_iter().flatten().copied());
        }
        if self.mails.is_empty() {
            return;
        }
        let lower = String::from_utf8_lossy(text).to_lowercase().into_bytes();
        for (finder, one) in &self.mails {
            let mut places = finder.find_iter(&lower);
            if places.any(|at| stands_alone(&lower, at, at + one.value.len())) {
                hits.insert(one);
            }
        }
    }

    /// The line with `-` in place of everything that points to a person; `None` where something would stay: then the line must go whole.
    pub(crate) fn without_fields(&self, line: &[u8]) -> Option<Vec<u8>> {
        let parsed = line::parse(line)?;
        let target = parsed.target;
        let mut ranges = vec![parsed.client, parsed.ident, parsed.user];
        // Whatever they are made of: a page that somebody came from, a device, an address that a proxy passed on.
        ranges.extend(
            parsed
                .referrer
                .into_iter()
                .chain(parsed.agent)
                .chain(parsed.further),
        );
        let ends = |b: &u8| matches!(b, b'?' | b'&' | b';' | b'#' | b'/');
        let mut from = target.start;
        for part in line[target].split_inclusive(ends) {
            let value = part.iter().position(|b| *b == b'=').map_or(0, |n| n + 1);
            let end = part.len() - usize::from(part.last().is_some_and(ends));
            if self.points_to_somebody(&part[..end]) && value <= end {
                ranges.push(from + value..from + end);
            }
            from += part.len();
        }
        ranges.sort_by_key(|range| range.start);
        let (mut out, mut from) = (Vec::with_capacity(line.len()), 0);
        for range in ranges {
            out.extend_from_slice(&line[from..range.start]);
            out.push(b'-');
            from = range.end;
        }
        out.extend_from_slice(&line[from..]);
        let left = self.rules.read(&out);
        (left.identifiers.is_empty() && self.tokens_in(&out).is_empty()).then_some(out)
    }

    /// Whether a part of an address names somebody, as a parameter or by its form.
    fn points_to_somebody(&self, part: &[u8]) -> bool {
        let mut alone = b"- - - [01/Jan/2000:00:00:00 +0000] \"GET /?".to_vec();
        alone.extend_from_slice(part);
        alone.extend_from_slice(b" HTTP/1.1\" 200 0");
        !self.rules.read(&alone).identifiers.is_empty() || !self.tokens_in(part).is_empty()
    }
}

/// Whether nothing before or behind makes an address another one.
fn stands_alone(text: &[u8], from: usize, to: usize) -> bool {
    let of_word = |b: &u8| b.is_ascii_alphanumeric() || !b.is_ascii();
    let before = text[..from].last();
    let behind = match text.get(to) {
        Some(b'.' | b'-') => text.get(to + 1),
        other => other,
    };
    !before.is_some_and(|b| of_word(b) || matches!(b, b'.' | b'_')) && !behind.is_some_and(of_word)
}

/// Whether the line is of the selected record: what was read in it, and what of the record stands in it by chance of form.
fn same(selected: &Record, reading: &Reading, hits: &BTreeSet<&Identifier>) -> bool {
    reading.identifiers.is_subset(&selected.identifiers)
        && !selected.identifiers.is_empty()
        && selected
            .identifiers
            .iter()
            .all(|i| reading.identifiers.contains(i) || hits.contains(i))
}
