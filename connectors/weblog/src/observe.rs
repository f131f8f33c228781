//! Looking again at what is there, by code of its own: a plain search for the identifiers as they may be written, beside the reader of lines that
//! finding and erasing use. What either of them sees is there: nothing that a search finds is overlooked, and what the two see differently becomes
//! visible here instead of being missed twice.

use std::borrow::Cow;
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use lethe_kit::{Observed, Selector};
use lethe_terms::{DatasetName, Identifier, IdentifierKind, Independence, IssuedKind, Strength};
use memchr::memmem;

use crate::error::Error;
use crate::identify::Rules;
use crate::line;
use crate::log::Log;
use crate::matcher::{Matcher, Sight};
use crate::record::Record;

/// How often an escaped line is unescaped: more often than anybody but an attacker escapes.
const ROUNDS_MAX: usize = 64;
/// How far before a value its parameter's name, or the client whose user it is, is looked for: a client must not make a long line cost its length for each hit in it.
const PARAMETER_BYTES_MAX: usize = 1_024;
/// Longest e-mail address (RFC 5321).
const MAIL_BYTES_MAX: usize = 254;
/// Shortest text that is looked for anywhere in a line.
const ANYWHERE_BYTES_MIN: usize = 6;

/// A text to look for, and where it counts.
struct Needle {
    text: memmem::Finder<'static>,
    place: Place,
}

enum Place {
    /// An address of its own, in any case.
    Mail,
    /// A word of its own, anywhere.
    Word,
    /// The remote user, or the value of a parameter of this kind.
    Field(IssuedKind),
}

impl Log {
    /// What is there now of a selection.
    pub(crate) fn observe(
        &mut self,
        selector: &Selector,
        parameters: &BTreeMap<String, IssuedKind>,
        user_kind: &IssuedKind,
    ) -> Result<Observed, Error> {
        let matcher = Matcher::new(selector, &self.config.name)?;
        let finder = Finder::new(selector, &self.rules, parameters, user_kind);
        let (selected, named) = (matcher.records_only(), matcher.identifiers_only());
        let (rules, name) = (self.rules.clone(), self.config.name.clone());
        let (mut here, mut aside) = (BTreeSet::new(), BTreeSet::new());
        let mut still: BTreeSet<Record> = BTreeSet::new();
        let look = selected.look(&rules, &name);
        let reader = named.look(&rules, &name);
        let mut see = |records: Vec<Record>, whole: Vec<Record>, restricted| {
            let place = if restricted { &mut aside } else { &mut here };
            still.extend(records.clone());
            place.extend(if records.is_empty() { whole } else { records });
        };
        // Of an overlong line: what was seen, whether it is restricted, and whether the person stands in it.
        let (mut sight, mut read) = (Sight::default(), Sight::default());
        let (mut restricted, mut found) = (false, false);
        let looked = self.every_line(&mut |part| match part {
            Some(part) if part.piece => {
                look.add(part.text, &mut sight);
                reader.add(part.text, &mut read);
                restricted = part.restricted;
                found = found || finder.finds(part.text);
            }
            Some(part) => {
                let records = look.at(part.text);
                let found = || finder.finds(part.text) || !reader.at(part.text).is_empty();
                if !records.is_empty() || found() {
                    see(records, rules.read(part.text).records(&name), part.restricted);
                }
            }
            None => {
                let (sight, read) = (std::mem::take(&mut sight), std::mem::take(&mut read));
                let found = std::mem::take(&mut found) || !reader.decide(&read).is_empty();
                let records = look.decide(&sight);
                if let Some(reading) = sight.reading().filter(|_| found || !records.is_empty()) {
                    see(records, reading.records(&name), restricted);
                }
            }
        });
        match looked {
            Ok(()) => {}
            // The person may stand in what could not be read, but does where it could.
            Err(Error::File { .. }) if !here.is_empty() => {
                let records = here.len() + aside.len();
                return Ok(seen(lethe_terms::Observed::Present, records, Vec::new()));
            }
            Err(Error::File { .. }) => return Ok(seen(lethe_terms::Observed::CannotTell, 0, Vec::new())),
            Err(e) => return Err(e),
        }
        let gone = matcher
            .records()
            .difference(&still)
            .map(|r| (r.log.clone(), r.handle()))
            .collect();
        let (observed, records) = match (here.len(), aside.len()) {
            (0, 0) => (lethe_terms::Observed::Absent, 0),
            (0, aside) => (lethe_terms::Observed::Restricted, aside),
            (here, aside) => (lethe_terms::Observed::Present, here + aside),
        };
        Ok(seen(observed, records, gone))
    }
}

const fn seen(observed: lethe_terms::Observed, records: usize, gone: Vec<(DatasetName, String)>) -> Observed {
    Observed {
        observed,
        records: records as u64,
        independence: Independence::SeparateConnection,
        gone,
    }
}

fn needles(selector: &Selector, rules: &Rules) -> Vec<Needle> {
    let personal = selector
        .identifiers
        .iter()
        .filter(|i| i.kind.strength() == Strength::Strong);
    personal
        .map(|one| needle(one, rules.has_several_issuers(one.kind)))
        .collect()
}

fn needle(one: &Identifier, in_fields: bool) -> Needle {
    let text = one.value.trim();
    if one.kind == IdentifierKind::Email {
        return Needle {
            text: memmem::Finder::new(text.to_lowercase().as_bytes()).into_owned(),
            place: Place::Mail,
        };
    }
    let bytes = text.as_bytes();
    let word = !in_fields
        && bytes.len() >= ANYWHERE_BYTES_MIN
        && bytes.iter().all(|b| word_byte(*b))
        && bytes.iter().any(u8::is_ascii_digit)
        && bytes.iter().any(u8::is_ascii_alphabetic);
    Needle {
        text: memmem::Finder::new(bytes).into_owned(),
        place: if word {
            Place::Word
        } else {
            Place::Field(one.issued_kind())
        },
    }
}

const fn word_byte(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b == b'_' || b == b'-'
}

/// The search for a person's texts in a line.
pub(crate) struct Finder {
    needles: Vec<Needle>,
    parameters: BTreeMap<String, IssuedKind>,
    user_kind: IssuedKind,
}

impl Finder {
    pub(crate) fn new(
        selector: &Selector,
        rules: &Rules,
        parameters: &BTreeMap<String, IssuedKind>,
        user_kind: &IssuedKind,
    ) -> Self {
        Self {
            needles: needles(selector, rules),
            parameters: parameters.clone(),
            user_kind: user_kind.clone(),
        }
    }

    /// Whether one of them stands where it counts.
    pub(crate) fn finds(&self, line: &[u8]) -> bool {
        let mut text = plain(line);
        // Without fields of a format there is only running text.
        let running = LazyCell::new(|| line::parse(line).is_none());
        let whole = LazyCell::new(|| self.whole_mails(line));
        for round in 0..=ROUNDS_MAX {
            let lower = LazyCell::new(|| lowered(&text));
            if self
                .needles
                .iter()
                .any(|needle| self.finds_one(needle, &text, &lower, &whole, &running, round == 0))
            {
                return true;
            }
            drop(lower);
            match unpercent(&text) {
                Some(next) => text = Cow::Owned(next),
                None => return false,
            }
        }
        false
    }

    fn finds_one<F: FnOnce() -> Vec<u8>, W: FnOnce() -> BTreeSet<Vec<u8>>, R: FnOnce() -> bool>(
        &self,
        needle: &Needle,
        text: &[u8],
        lower: &LazyCell<Vec<u8>, F>,
        whole: &LazyCell<BTreeSet<Vec<u8>>, W>,
        running: &LazyCell<bool, R>,
        raw: bool,
    ) -> bool {
        let len = needle.text.needle().len();
        match &needle.place {
            Place::Mail => hits(lower, &needle.text)
                .any(|at| self.is_mail(lower, at, len, raw) && !ends_another(lower, at, len, whole)),
            Place::Word => hits(text, &needle.text).any(|at| {
                let before = at.checked_sub(1).is_none_or(|n| !word_byte(text[n]));
                before && text.get(at + len).is_none_or(|b| !word_byte(*b))
            }),
            Place::Field(kind) => hits(text, &needle.text).any(|at| {
                let of_user = raw && *kind == self.user_kind;
                of_user && is_user(&text[..at], &text[at + len..])
                    || self.is_field(kind, text, lower, &(at..at + len), **running)
            }),
        }
    }

    /// Whether nothing before or behind makes it another address. A bare plus before it is a space, but in a mail parameter.
    fn is_mail(&self, text: &[u8], at: usize, len: usize, raw: bool) -> bool {
        let part_of_name =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'\'') || b >= 0x80;
        let before = match at.checked_sub(1).map(|n| text[n]) {
            None => true,
            // The end of a line or a tabulator, as JSON writes it.
            Some(b'n' | b'r' | b't' | b'b' | b'f' | b'v') if text[..at - 1].ends_with(b"\\") => true,
            Some(b'+') => raw && !self.in_mail_parameter(text, at),
            Some(b) => !part_of_name(b),
        };
        let rest = &text[at + len..];
        let goes_on = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_alphanumeric() || *b >= 0x80);
        let behind = match rest.first() {
            Some(b'.') => !goes_on(rest.get(1)),
            Some(b'-') => false,
            first => !goes_on(first),
        };
        before && behind
    }

    /// Values of mail parameters that are one address each, whatever it is made of.
    fn whole_mails(&self, line: &[u8]) -> BTreeSet<Vec<u8>> {
        let (mut whole, mut text) = (BTreeSet::new(), lowered(&plain(line)));
        for _ in 0..=ROUNDS_MAX {
            for part in text.split(|b| matches!(b, b'?' | b'&' | b';' | b'#' | b' ' | b'"')) {
                let Some(equals) = part.iter().position(|b| *b == b'=') else {
                    continue;
                };
                let value = unwrapped(&part[equals + 1..]);
                let kind = String::from_utf8(unwrapped(&part[..equals]))
                    .ok()
                    .and_then(|name| self.parameters.get(&name));
                if kind.is_some_and(|kind| kind.kind() == IdentifierKind::Email) && is_one_address(&value) {
                    whole.insert(value);
                }
            }
            let Some(next) = unpercent(&text) else { break };
            text = lowered(&next);
        }
        whole
    }

    fn is_field(
        &self,
        kind: &IssuedKind,
        text: &[u8],
        lower: &[u8],
        value: &Range<usize>,
        running: bool,
    ) -> bool {
        let (before, mut rest) = (&lower[..value.start], &text[value.end..]);
        if !running {
            return rest.first().is_none_or(ends_in_field) && self.named_before(before, false) == Some(kind);
        }
        while let [
            b')' | b']' | b'}' | b'>' | b'\'' | b'`' | b':' | b'!' | b'.',
            more @ ..,
        ] = rest
        {
            rest = more;
        }
        if !rest.first().is_none_or(ends_in_text) {
            return false;
        }
        let dressed = before.iter().rev().take_while(|b| opens_in_text(b)).count();
        let bare = &before[..before.len() - dressed];
        [before, bare]
            .iter()
            .any(|before| self.named_before(before, true) == Some(kind))
    }

    /// Kind of the parameter whose value begins behind a text.
    fn named_before(&self, lower: &[u8], running: bool) -> Option<&IssuedKind> {
        let text = lower.strip_suffix(b"=")?;
        let near = &text[text.len().saturating_sub(PARAMETER_BYTES_MAX)..];
        let ends = if running { ends_in_text } else { ends_in_field };
        let mut name = near.rsplit(ends).next()?;
        if running {
            // What stands behind an equals sign is a value.
            name = name
                .rsplit(opens_in_text)
                .next()
                .filter(|_| !name.contains(&b'='))?;
        }
        self.parameters.get(std::str::from_utf8(name).ok()?)
    }

    fn in_mail_parameter(&self, lower: &[u8], at: usize) -> bool {
        self.parameter(lower, at)
            .is_some_and(|kind| kind.kind() == IdentifierKind::Email)
    }

    /// Kind of the parameter whose value a byte stands in.
    fn parameter(&self, lower: &[u8], at: usize) -> Option<&IssuedKind> {
        let near = at.saturating_sub(PARAMETER_BYTES_MAX);
        let part = lower[near..at].rsplit(ends_in_field).next()?;
        let name = &part[..part.iter().position(|b| *b == b'=')?];
        self.parameters.get(std::str::from_utf8(name).ok()?)
    }
}

/// Whether what stands between these is the remote user: behind the client and what its machine calls its user, and before a time.
fn is_user(before: &[u8], behind: &[u8]) -> bool {
    const MONTHS: &[u8] = b"janfebmaraprmayjunjulaugsepoctnovdec";
    let is_time = |time: &[u8]| {
        let month = time.get(5..8).unwrap_or_default().to_ascii_lowercase();
        let digits = |range: Range<usize>| time[range].iter().all(u8::is_ascii_digit);
        (time[0], time[1], time[4], time[8], time[13]) == (b' ', b'[', b'/', b'/', b':')
            && (time[22], time[28]) == (b' ', b']')
            && digits(2..4)
            && digits(9..13)
            && digits(14..16)
            && MONTHS.chunks(3).any(|one| one == month)
    };
    if before.len() > PARAMETER_BYTES_MAX || !behind.get(..29).is_some_and(is_time) {
        return false;
    }
    let words: Vec<&[u8]> = before.split(|b| *b == b' ').take(5).collect();
    let is_named = |host: &[u8]| line::ip_of(host).is_none();
    let is_behind = match words.as_slice() {
        [host, client, _, b""] if is_named(host) && !is_named(client) => true,
        [host, client, b""] => !is_named(host) || is_named(client),
        _ => false,
    };
    let one_by_one = !words.iter().rev().skip(1).any(|word| word.is_empty());
    is_behind && one_by_one && !before.contains(&b'"')
}

/// What ends a parameter in a field of a line.
fn ends_in_field(b: &u8) -> bool {
    b"?&;# \"".contains(b)
}

/// What ends a word, or a parameter in it, in a line that fits no format.
fn ends_in_text(b: &u8) -> bool {
    b.is_ascii_whitespace() || b"\x0b\"\\,|?&;#".contains(b)
}

/// What may stand before a name or a value there.
fn opens_in_text(b: &u8) -> bool {
    b"([{<'`:!".contains(b)
}

/// Whether a hit is only the end of an address that a parameter holds whole.
fn ends_another<W: FnOnce() -> BTreeSet<Vec<u8>>>(
    text: &[u8],
    at: usize,
    len: usize,
    whole: &LazyCell<BTreeSet<Vec<u8>>, W>,
) -> bool {
    let before = text[..at].iter().rev().take(MAIL_BYTES_MAX);
    let longer = before.take_while(|b| of_local(**b)).count();
    longer > 0 && !whole.is_empty() && (1..=longer).any(|n| whole.contains(&text[at - n..at + len]))
}

/// What the part of an address before the @ may be made of (RFC 5322, 3.2.3).
fn of_local(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b".!#$%&'*+-/=?^_`{|}~".contains(&b) || b >= 0x80
}

fn is_one_address(value: &[u8]) -> bool {
    let Some(at) = value.iter().rposition(|b| *b == b'@') else {
        return false;
    };
    let of_domain = |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-') || *b >= 0x80;
    let (local, domain) = (&value[..at], &value[at + 1..]);
    at > 0 && !domain.is_empty() && local.iter().all(|b| of_local(*b)) && domain.iter().all(of_domain)
}

/// Percent-decoded until nothing changes, as often as a line is.
fn unwrapped(text: &[u8]) -> Vec<u8> {
    let mut text = text.to_vec();
    for _ in 0..ROUNDS_MAX {
        let Some(next) = unpercent(&text) else { break };
        text = next;
    }
    text
}

fn lowered(text: &[u8]) -> Vec<u8> {
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    match std::str::from_utf8(text).map(str::to_lowercase) {
        // Not every letter keeps its length: positions must hold in both.
        Ok(lower) if lower.len() == text.len() => lower.into_bytes(),
        _ => text.to_ascii_lowercase(),
    }
}

/// Every place where a needle stands, also where two overlap.
fn hits<'a>(text: &'a [u8], needle: &'a memmem::Finder<'_>) -> impl Iterator<Item = usize> + 'a {
    let mut from = 0;
    std::iter::from_fn(move || {
        let at = from + needle.find(text.get(from..)?)?;
        from = at + 1;
        Some(at)
    })
}

/// The line with the servers' `\xhh` taken back.
fn plain(line: &[u8]) -> Cow<'_, [u8]> {
    replace(line, b"\\x").map_or(Cow::Borrowed(line), Cow::Owned)
}

/// One round of decoding, of percent signs and of JSON; `None` where there is nothing to decode.
fn unpercent(text: &[u8]) -> Option<Vec<u8>> {
    match (replace(text, b"%"), memmem::find(text, b"\\u00")) {
        (Some(next), Some(_)) => replace(&next, b"\\u00").or(Some(next)),
        (next, None) => next,
        (None, Some(_)) => replace(text, b"\\u00"),
    }
}

/// Each `mark` with two hexadecimal digits behind it becomes its byte; `None` where there is none.
fn replace(text: &[u8], mark: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut from, mut at) = (Vec::new(), 0, 0);
    while let Some(n) = memmem::find(&text[at..], mark) {
        let digits = at + n + mark.len();
        at += n + 1;
        if let Some(byte) = text.get(digits..digits + 2).and_then(byte_of) {
            out.extend_from_slice(&text[from..at - 1]);
            out.push(byte);
            (from, at) = (digits + 2, digits + 2);
        }
    }
    if from == 0 {
        return None;
    }
    out.extend_from_slice(&text[from..]);
    Some(out)
}

fn byte_of(digits: &[u8]) -> Option<u8> {
    let digits = std::str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?;
    u8::from_str_radix(digits, 16).ok()
}
