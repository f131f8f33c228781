//! Stage 3 of a rewrite: the old file is drained until nobody writes to it any more.
//!
//! Late lines go to the end of the new file in the order in which they came. Before the server is told to reopen, nobody else writes there, so they
//! stand exactly where they belong; what is written in the moment of reopening follows within that moment, as between any two workers of a server.
//! Each block is journaled before it is appended and looked for after a crash, so that it stands there once.

use std::collections::BTreeSet;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use flate2::Compression;
use flate2::write::GzEncoder;
use lethe_terms::Verb;

use crate::error::Error;
use crate::files::{self, Found, LINE_BYTES_MAX};
use crate::log::Log;
use crate::names;
use crate::rewrite::{Fate, remove};
use crate::side::SideLine;
use crate::state::{Active, Appending, Rewrite, Stage, sync_dir};
use crate::writers::{Writers, writers};

/// How long one call waits for the server to let go of the old file; it is asked again later.
const DRAIN_MS_MAX: u64 = 3_000;
/// How often it looks meanwhile.
const LOOK_MS: u64 = 10;
/// How long the reopen command may take.
const REOPEN_MS_MAX: u64 = 10_000;
/// Late lines that are taken at a time.
const BLOCK_BYTES_MAX: u64 = 4 << 20;

/// Lines that came late.
struct Block {
    /// Where it ends in the old file.
    to: u64,
    /// What goes to the new file.
    kept: Vec<u8>,
    /// What goes to the side file, with the byte within `kept`.
    aside: Vec<SideLine>,
    touched: BTreeSet<String>,
    lines: u64,
    cleared: u64,
    /// Whether it holds a piece of a line longer than a block, which stays until the whole line can be looked at.
    unread: bool,
}

impl Log {
    /// Drains the old file of the rewrite under way. `true` once there is none any more. With `patient`, tells the server to reopen and waits a little.
    pub(crate) fn drain(&mut self, patient: bool) -> Result<bool, Error> {
        let began = Instant::now();
        let mut told = false;
        loop {
            let Some(rewrite) = self.state.rewrite.clone() else {
                return Ok(true);
            };
            if rewrite.stage != Stage::Draining {
                return Ok(false);
            }
            let meta = match fs::symlink_metadata(&rewrite.aside) {
                Ok(meta) => meta,
                Err(e) if e.kind() == io::ErrorKind::NotFound => {
                    return self.drained(&rewrite).map(|()| true);
                }
                Err(e) => return Err(Error::file(&rewrite.aside, "looking at it", e)),
            };
            // Who does not write now never will: the old file has no public name.
            let idle = writers(meta.dev(), meta.ino()) == Writers::None;
            // One block only while somebody writes: a busy server would keep this going, and never be told to reopen.
            while self.append_late(idle)? && idle {}
            if idle {
                return self.drained(&rewrite).map(|()| true);
            }
            if !patient || began.elapsed() > Duration::from_millis(DRAIN_MS_MAX) {
                return Ok(false);
            }
            if !told {
                self.stops.stage()?;
                self.tell_to_reopen()?;
                told = true;
            }
            std::thread::sleep(Duration::from_millis(LOOK_MS));
        }
    }

    fn drained(&mut self, rewrite: &Rewrite) -> Result<(), Error> {
        let failed = |e| Error::file(&rewrite.aside, "removing the old file", e);
        self.stops.stage()?;
        remove(&rewrite.aside).map_err(failed)?;
        sync_dir(rewrite.aside.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
        self.state.rewrite = None;
        self.save()
    }

    /// Appends what came late, at most a block of it. `true` where there may be more.
    fn append_late(&mut self, idle: bool) -> Result<bool, Error> {
        let Some(rewrite) = self.state.rewrite.clone().filter(|r| !r.gz) else {
            return Ok(false);
        };
        let active = self.state.active.get(&rewrite.instruction).cloned();
        let failed = |e| Error::file(&rewrite.aside, "reading late lines", e);
        let upto = rewrite.appending.map(|a| a.to);
        let Some(block) = self
            .block(&rewrite, active.as_ref(), idle, upto)
            .map_err(failed)?
        else {
            return Ok(false);
        };
        let found = self.files()?.into_iter().find(|f| f.id == rewrite.file);
        let target = found
            .as_ref()
            .map_or_else(|| names::live_path(&self.config), |f| f.path.clone());
        let gz = found.as_ref().is_some_and(|f| f.gz);
        let failed = |e| Error::file(&target, "appending late lines", e);
        let at = match rewrite.appending {
            Some(appending) => appending.at,
            None => {
                let at = fs::metadata(&target).map_or(0, |m| m.len());
                if let Some(rewrite) = self.state.rewrite.as_mut().filter(|_| !block.kept.is_empty()) {
                    rewrite.appending = Some(Appending { to: block.to, at });
                    self.save()?;
                }
                at
            }
        };
        self.stops.stage()?;
        let mut place = at;
        if !block.kept.is_empty() {
            let before = rewrite
                .appending
                .is_some()
                .then(|| find(&target, gz, at, &block.kept))
                .transpose()
                .map_err(failed)?
                .flatten();
            place = match before {
                Some(place) => place,
                None => append(&target, gz, &block.kept).map_err(failed)?,
            };
        }
        self.stops.stage()?;
        self.took(block, &rewrite, place)?;
        Ok(true)
    }

    /// Journals that a block is where it belongs.
    fn took(&mut self, block: Block, rewrite: &Rewrite, place: u64) -> Result<(), Error> {
        let mut version = None;
        if !block.aside.is_empty() {
            let mut side = self.side()?;
            for mut line in block.aside {
                line.at += place;
                side.take_in(line);
            }
            version = Some(self.save_side(&side)?);
        }
        if let Some(active) = self.state.active.get_mut(&rewrite.instruction) {
            active.touched.extend(block.touched);
            active.lines += block.lines;
            active.cleared += block.cleared;
            if let Some(waiting) = active.waiting.as_mut().filter(|_| block.unread) {
                waiting.insert(rewrite.file);
            }
        }
        if let Some(rewrite) = &mut self.state.rewrite {
            rewrite.taken = block.to;
            rewrite.appending = None;
        }
        self.use_side(version)
    }

    /// Reads the next block of late lines: whole ones, unless nobody writes any more.
    fn block(
        &self,
        rewrite: &Rewrite,
        active: Option<&Active>,
        idle: bool,
        upto: Option<u64>,
    ) -> io::Result<Option<Block>> {
        let most = upto.map_or(BLOCK_BYTES_MAX, |to| to - rewrite.taken);
        let (mut begun, mut bytes) = bytes_from(&rewrite.aside, rewrite.taken, most)?;
        let full = bytes.len() as u64 == BLOCK_BYTES_MAX;
        if upto.is_none() && (!idle || full) {
            // A line longer than a block passes through in pieces.
            let whole = bytes.iter().rposition(|b| *b == b'\n').map(|n| n + 1);
            bytes.truncate(whole.unwrap_or(if full { bytes.len() } else { 0 }));
        }
        if bytes.is_empty() {
            return Ok(None);
        }
        let to = rewrite.taken + bytes.len() as u64;
        let mut block = Block {
            to,
            kept: Vec::new(),
            aside: Vec::new(),
            touched: Default::default(),
            lines: 0,
            cleared: 0,
            unread: false,
        };
        let active = active.filter(|a| a.verb != Verb::Lift);
        let look = active.map(|a| (a.verb, a.matcher.look(&self.rules, &self.config.name)));
        for line in bytes.split_inclusive(|b| *b == b'\n') {
            let text = files::text(line);
            let cut = !line.ends_with(b"\n") && bytes.len() as u64 == BLOCK_BYTES_MAX;
            let mut claims = BTreeSet::new();
            let fate = match &look {
                Some(_) if std::mem::take(&mut begun) || cut => {
                    block.unread = true;
                    Fate::Stays
                }
                Some((verb, look)) => look.hit_at(text).map_or(Fate::Stays, |hit| {
                    block.touched.extend(self.digests_of_hit(&hit));
                    claims.insert(self.claim_of(&hit));
                    self.fate(look, *verb, Some(text).filter(|t| t.len() <= LINE_BYTES_MAX))
                }),
                None => Fate::Stays,
            };
            block.lines += u64::from(!matches!(fate, Fate::Stays));
            match fate {
                Fate::Stays => block.kept.extend_from_slice(line),
                Fate::Cleared(new) => {
                    block.cleared += 1;
                    block.kept.extend_from_slice(&new);
                    block.kept.extend_from_slice(&line[text.len()..]);
                }
                Fate::Goes if active.is_some_and(|a| a.verb == Verb::Restrict) => {
                    block.aside.push(SideLine {
                        file: rewrite.file,
                        at: block.kept.len() as u64,
                        line: line.to_vec(),
                        claims,
                    });
                }
                Fate::Goes => {}
            }
        }
        Ok(Some(block))
    }

    fn tell_to_reopen(&self) -> Result<(), Error> {
        let Some((program, args)) = self.reopen.split_first() else {
            return Ok(());
        };
        let wrong = |reason: String| Error::Reopen { reason };
        let mut child = Command::new(program)
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|e| wrong(format!("{program} cannot be started: {e}")))?;
        let began = Instant::now();
        loop {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(()),
                Ok(Some(status)) => {
                    return Err(wrong(format!("{program} ended with {status}, expected success")));
                }
                Ok(None) if began.elapsed() > Duration::from_millis(REOPEN_MS_MAX) => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return Err(wrong(format!("{program} took longer than {REOPEN_MS_MAX} ms")));
                }
                Ok(None) => std::thread::sleep(Duration::from_millis(LOOK_MS)),
                Err(e) => return Err(wrong(format!("{program} cannot be waited for: {e}"))),
            }
        }
    }

    /// Late lines that are still in the old file only: whoever looks for a person must look there, too.
    pub(crate) fn undrained(&self) -> Option<(Found, u64)> {
        let rewrite = self
            .state
            .rewrite
            .as_ref()
            .filter(|r| r.stage == Stage::Draining && !r.gz)?;
        let meta = fs::symlink_metadata(&rewrite.aside).ok()?;
        Some((Found::aside(rewrite.file, &rewrite.aside, &meta), rewrite.taken))
    }
}

/// Bytes of a file from one on, and whether that stands within a line.
fn bytes_from(path: &Path, from: u64, most: u64) -> io::Result<(bool, Vec<u8>)> {
    let mut file = File::open(path)?;
    let mut before = *b"\n";
    if let Some(last) = from.checked_sub(1) {
        file.seek(SeekFrom::Start(last))?;
        file.read_exact(&mut before)?;
    }
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    Ok((before != *b"\n", bytes))
}

/// Appends in one call, so that no other appender's line comes in between; returns where the block begins.
fn append(path: &Path, gz: bool, block: &[u8]) -> io::Result<u64> {
    let mut file = OpenOptions::new()
        .append(true)
        .create(true)
        .read(true)
        .open(path)?;
    let before = file.metadata()?;
    if gz {
        let mut member = GzEncoder::new(Vec::new(), Compression::default());
        member.write_all(block)?;
        file.write_all(&member.finish()?)?;
        file.set_modified(before.modified()?)?;
        file.sync_all()?;
        return Ok(find(path, gz, 0, block)?.unwrap_or(0));
    }
    file.write_all(block)?;
    file.sync_all()?;
    // Another appender may have been first.
    let end = file.stream_position()?;
    Ok(find(path, gz, before.len(), block)?.unwrap_or(end - block.len() as u64))
}

/// Where a block stands at or after a byte.
fn find(path: &Path, gz: bool, from: u64, block: &[u8]) -> io::Result<Option<u64>> {
    let from = if gz { 0 } else { from };
    let mut reader = match files::content(path, gz, from) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other?,
    };
    let (mut window, mut base) = (Vec::new(), from);
    loop {
        let read = (&mut reader).take(BLOCK_BYTES_MAX).read_to_end(&mut window)?;
        // A block begins where a line begins.
        let mut line = 0;
        while line + block.len() <= window.len() {
            if window[line..].starts_with(block) {
                return Ok(Some(base + line as u64));
            }
            match window[line..].iter().position(|b| *b == b'\n') {
                Some(end) => line += end + 1,
                None => break,
            }
        }
        if read == 0 {
            return Ok(None);
        }
        window.drain(..line);
        base += line as u64;
    }
}
