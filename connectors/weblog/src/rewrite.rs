//! Replacing a file under the hands of its writer, without losing a line.
//!
//! 1. **Copy.** Everything up to the last whole line, without the lines in question, goes into a hidden file beside it: mode, owner and access list of
//!    the original, fsync. What the copy changes (numbers only), the side file as it will be, and then the journal entry *prepared* become durable.
//! 2. **Exchange.** One system call gives each file the other's name: at no moment is the name without a file. Where the file system
//!    cannot, a link and a rename do it. Whatever was swapped out is compared with what was copied; a rotation that came in between is put back.
//! 3. **Drain** (`drain.rs`). Writers still append to the old file through their descriptors.
//!
//! After a crash the inode under the hidden name says whether the exchange took place.

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use lethe_terms::Verb;
use rustix::fs::{CWD, RenameFlags, renameat_with};

use crate::config::EraseMode;
use crate::copy::{has_room, spare_of, write_copy};
use crate::error::Error;
use crate::feed::Recount;
use crate::files::{self, Found, LineAt, Lines};
use crate::log::{Log, Stops};
use crate::matcher::Look;
use crate::side::{Edit, Shift, Side, SideLine};
use crate::state::{Active, Rewrite, Stage, sync_dir};

/// How many rewrites back a cursor is still understood; an older one starts over, which repeats and loses nothing.
pub(crate) const SHIFTS_MAX: u64 = 1024;
/// Longest line that is restricted: the side file is held in memory.
const RESTRICTED_BYTES_MAX: u64 = 64 << 20;
/// What is to change in a file.
#[derive(Default)]
pub(crate) struct Changes {
    /// In order: what goes and what comes.
    pub(crate) edits: Vec<(Edit, Vec<u8>)>,
    /// Lines that go to the side file, with the byte where they stand.
    pub(crate) aside: Vec<SideLine>,
    /// Digests of the records that are touched.
    pub(crate) touched: BTreeSet<String>,
    /// Lines that are touched.
    pub(crate) lines: u64,
    /// Lines of them that stay without their fields.
    pub(crate) cleared: u64,
    /// Where the copy ends in the old file.
    pub(crate) upto: u64,
    /// How the counts of the feed change, where it has any.
    pub(crate) recount: Option<Recount>,
}

/// What becomes of one line.
pub(crate) enum Fate {
    /// It stays as it is.
    Stays,
    /// It goes.
    Goes,
    /// It stays, without what points to a person.
    Cleared(Vec<u8>),
}

impl Changes {
    fn counting(counted: Option<u64>) -> Self {
        Self {
            recount: counted.map(|_| Recount::default()),
            ..Self::default()
        }
    }

    /// Notes what becomes of a line.
    fn note(&mut self, LineAt { at, len, .. }: LineAt, fate: Fate) {
        match fate {
            Fate::Stays => return,
            Fate::Goes => self.edits.push((Edit { at, old: len, new: 0 }, Vec::new())),
            Fate::Cleared(new) => {
                self.cleared += 1;
                self.edits.push((
                    Edit {
                        at,
                        old: len,
                        new: new.len() as u64,
                    },
                    new,
                ));
            }
        }
        self.lines += 1;
    }
}

impl Log {
    /// What becomes of a line (without its end) of this record under an erasure or restriction. One that is too long to hold goes whole.
    pub(crate) fn fate(&self, look: &Look<'_>, verb: Verb, line: Option<&[u8]>) -> Fate {
        match line {
            Some(line) if verb == Verb::Erase && self.erase == EraseMode::Fields => {
                look.without_fields(line).map_or(Fate::Goes, Fate::Cleared)
            }
            _ => Fate::Goes,
        }
    }

    /// Looks through a file for what an erasure or restriction changes. A last line without an end counts where nobody writes any more. `counted` says
    /// how far the feed has counted the file, where it has.
    pub(crate) fn changes(
        &self,
        file: &Found,
        active: &Active,
        idle: bool,
        counted: Option<u64>,
    ) -> Result<Changes, Error> {
        let failed = |e| Error::file(&file.path, "reading", e);
        let mut lines = Lines::open(&file.path, file.gz, 0).map_err(failed)?;
        let look = active.matcher.look(&self.rules, &self.config.name);
        let (mut changes, mut line) = (Changes::counting(counted), Vec::new());
        while lines.at() < file.end()
            && let Some(mut place) = lines.next(&mut line).map_err(failed)?
        {
            let seen = look.at_next(&mut lines, &mut line, &mut place).map_err(failed)?;
            if !place.ended && !idle && !file.gz {
                break;
            }
            changes.upto = lines.at();
            let Some(hit) = seen else { continue };
            changes.touched.extend(self.digests_of_hit(&hit));
            if counted.is_some_and(|counted| place.at < counted)
                && let Some(recount) = &mut changes.recount
            {
                recount.add(&self.dir, &hit.own, -1);
            }
            let text = Some(files::text(&line)).filter(|_| !place.long);
            let mut fate = self.fate(&look, active.verb, text);
            if let (Fate::Cleared(new), Some(text)) = (&mut fate, text) {
                new.extend_from_slice(&line[text.len()..]);
            }
            if active.verb == Verb::Restrict {
                let whole = if place.long {
                    range(file, place.at, place.len).map_err(failed)?
                } else {
                    line.clone()
                };
                changes.aside.push(SideLine {
                    file: file.id,
                    at: place.at,
                    line: whole,
                    claims: BTreeSet::from([self.claim_of(&hit)]),
                });
            }
            changes.note(place, fate);
        }
        // What the feed counted beyond the copy may go as a late line.
        changes.recount = changes
            .recount
            .filter(|_| counted.is_none_or(|counted| counted <= changes.upto || counted == u64::MAX));
        Ok(changes)
    }

    /// What a lift puts back into a file.
    pub(crate) fn changes_of_lift(
        &self,
        file: &Found,
        active: &Active,
        idle: bool,
        counted: Option<u64>,
        side: &mut Side,
    ) -> Result<Changes, Error> {
        let look = active.matcher.look(&self.rules, &self.config.name);
        let digests = self.digests_of(&active.matcher);
        let mut changes = Changes::counting(counted);
        let touched = &mut changes.touched;
        let back = side.give_back(file.id, |line| {
            line.is_released_by(&digests) && !look.at(line.text()).is_empty()
        });
        for line in back {
            let Some(hit) = look.hit_at(line.text()) else {
                continue;
            };
            touched.extend(self.digests_of_hit(&hit));
            if counted.is_some_and(|counted| line.at < counted)
                && let Some(recount) = &mut changes.recount
            {
                recount.add(&self.dir, &hit.own, 1);
            }
            changes.lines += 1;
            changes.edits.push((
                Edit {
                    at: line.at,
                    old: 0,
                    new: line.line.len() as u64,
                },
                line.line,
            ));
        }
        if !changes.edits.is_empty() {
            changes.upto = self.whole_lines(file, idle)?;
        }
        Ok(changes)
    }

    fn whole_lines(&self, file: &Found, idle: bool) -> Result<u64, Error> {
        let failed = |e| Error::file(&file.path, "reading", e);
        let mut lines = Lines::open(&file.path, file.gz, 0).map_err(failed)?;
        let (mut line, mut upto) = (Vec::new(), 0);
        while lines.at() < file.end()
            && let Some(mut place) = lines.next(&mut line).map_err(failed)?
        {
            lines.pass_over(&mut line, &mut place).map_err(failed)?;
            if place.ended || idle || file.gz {
                upto = lines.at();
            }
        }
        Ok(upto)
    }

    /// Stage 1: the copy and its journal entry. Where it fails nothing of the copy stays: nobody would look for a person in it.
    pub(crate) fn prepare(
        &mut self,
        file: &Found,
        instruction: &str,
        changes: Changes,
        side: Side,
        idle: bool,
    ) -> Result<(), Error> {
        let folder = file.path.parent().unwrap_or(Path::new("/"));
        let name = file.path.file_name().unwrap_or_default().to_string_lossy();
        let aside = folder.join(format!(".{name}.lethe-{}", self.state.rewrites + 1));
        self.drop_strays(folder)?;
        let prepared = self.prepare_at(&aside, file, instruction, changes, side, idle);
        // Tests stop it as a crash would, which takes nothing away.
        if !matches!(prepared, Ok(()) | Err(Error::Stopped)) {
            self.state.rewrite = None;
            remove(&aside).map_err(|e| Error::file(&file.path, "removing a replacement beside it", e))?;
        }
        prepared
    }

    fn prepare_at(
        &mut self,
        aside: &Path,
        file: &Found,
        instruction: &str,
        changes: Changes,
        mut side: Side,
        idle: bool,
    ) -> Result<(), Error> {
        let folder = aside.parent().unwrap_or(Path::new("/"));
        let failed = |e| Error::file(&file.path, "writing a replacement beside it", e);
        self.stops.stage()?;
        has_room(folder, file, &changes).map_err(failed)?;
        write_copy(file, aside, &changes, idle).map_err(failed)?;
        self.stops.stage()?;
        let copy = fs::metadata(aside).map_err(failed)?;
        sync_dir(folder).map_err(failed)?;
        let edits: Vec<Edit> = changes.edits.iter().map(|(edit, _)| *edit).collect();
        let had_side = self.state.side_version.is_some();
        for line in changes.aside {
            side.take_in(line);
        }
        // What a lift puts back was accounted for when the lines were taken out of the list.
        if edits.iter().any(|e| e.old > 0) {
            side.shift(file.id, &edits);
        }
        let side_version = if had_side || !side.lines.is_empty() {
            Some(self.save_side(&side)?)
        } else {
            None
        };
        self.stops.stage()?;
        self.dir.save(
            &self.shift_name(self.state.rewrites + 1),
            &Shift { file: file.id, edits },
        )?;
        let first = files::first_line(aside, file.gz).map_err(failed)?;
        let new_print = files::print_of(&self.dir, &first, file.gz);
        self.feed.recount = changes.recount.map(|recount| (aside.to_owned(), recount));
        self.state.rewrite = Some(Rewrite {
            instruction: instruction.to_owned(),
            stage: Stage::Prepared,
            file: file.id,
            path: file.path.clone(),
            aside: aside.to_owned(),
            gz: file.gz,
            old_ino: file.ino,
            new_ino: copy.ino(),
            new_len: copy.len(),
            new_print,
            taken: changes.upto,
            appending: None,
            side_version,
            touched: changes.touched,
            lines: changes.lines,
            cleared: changes.cleared,
        });
        self.save()
    }

    /// Name of the journal's entry about what a rewrite moved.
    pub(crate) fn shift_name(&self, rewrite: u64) -> String {
        format!("{}.shift.{rewrite}", self.config.name)
    }

    /// Stage 2, also after a crash: brings a prepared rewrite to its end or gives it up, so that every name stands for what the state says.
    pub(crate) fn settle_names(&mut self) -> Result<(), Error> {
        let Some(rewrite) = self.state.rewrite.clone().filter(|r| r.stage == Stage::Prepared) else {
            return Ok(());
        };
        let failed = |e| Error::file(&rewrite.path, "exchanging it for its replacement", e);
        if exchange(&rewrite, &self.stops)? {
            sync_dir(rewrite.path.parent().unwrap_or(Path::new("/"))).map_err(failed)?;
            self.stops.stage()?;
            self.exchanged(rewrite)
        } else {
            remove(&rewrite.aside).map_err(failed)?;
            self.state.rewrite = None;
            self.save()
        }
    }

    fn exchanged(&mut self, mut rewrite: Rewrite) -> Result<(), Error> {
        self.state.rewrites += 1;
        self.feed.rewritten(&rewrite.aside);
        if let Some(known) = self.state.files.iter_mut().find(|k| k.id == rewrite.file) {
            known.ino = rewrite.new_ino;
            known.print = rewrite.new_print.clone();
        }
        if let Some(active) = self.state.active.get_mut(&rewrite.instruction) {
            active.touched.append(&mut rewrite.touched);
            active.lines += rewrite.lines;
            active.cleared += rewrite.cleared;
            if let Some(waiting) = &mut active.waiting {
                waiting.remove(&rewrite.file);
            }
        }
        let side = rewrite.side_version.take();
        rewrite.stage = Stage::Draining;
        self.state.rewrite = Some(rewrite);
        self.use_side(side)?;
        match self.state.rewrites.checked_sub(SHIFTS_MAX) {
            Some(old) => self.dir.drop_file(&self.shift_name(old)),
            None => Ok(()),
        }
    }
}

/// Bytes of a file, unpacked.
fn range(file: &Found, at: u64, len: u64) -> io::Result<Vec<u8>> {
    if len > RESTRICTED_BYTES_MAX {
        let why = "a line of the person is too long to be restricted: expected at most 64 MiB";
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    let mut bytes = Vec::new();
    files::content(&file.path, file.gz, at)?
        .take(len)
        .read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Takes a name away where it is there.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(e),
        _ => Ok(()),
    }
}

fn inode(path: &Path) -> io::Result<Option<u64>> {
    match fs::symlink_metadata(path) {
        Ok(meta) => Ok(Some(meta.ino())),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(e),
    }
}

/// Gives each file the other's name. `false` where the file is not the one that was copied any more: then nothing changed.
fn exchange(rewrite: &Rewrite, stops: &Stops) -> Result<bool, Error> {
    let failed = |e| Error::file(&rewrite.path, "exchanging it for its replacement", e);
    let spare = spare_of(&rewrite.aside);
    match inode(&rewrite.aside).map_err(failed)? {
        Some(ino) if ino == rewrite.old_ino => return Ok(true),
        Some(_) => {}
        // The link and rename of file systems without an exchange, cut in between.
        None if inode(&spare).map_err(failed)? == Some(rewrite.old_ino) => {
            fs::rename(&spare, &rewrite.aside).map_err(failed)?;
            return Ok(true);
        }
        None => return Ok(false),
    }
    remove(&spare).map_err(failed)?;
    let now = match fs::symlink_metadata(&rewrite.path) {
        Ok(meta) => meta,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(e) => return Err(failed(e)),
    };
    if now.ino() != rewrite.old_ino || (!rewrite.gz && now.len() < rewrite.taken) {
        return Ok(false);
    }
    stops.stage()?;
    match renameat_with(CWD, &rewrite.aside, CWD, &rewrite.path, RenameFlags::EXCHANGE) {
        Ok(()) => {}
        Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS | rustix::io::Errno::NOTSUP) => {
            fs::hard_link(&rewrite.path, &spare).map_err(failed)?;
            fs::rename(&rewrite.aside, &rewrite.path).map_err(failed)?;
            fs::rename(&spare, &rewrite.aside).map_err(failed)?;
        }
        Err(e) => return Err(failed(e.into())),
    }
    if inode(&rewrite.aside).map_err(failed)? == Some(rewrite.old_ino) {
        return Ok(true);
    }
    give_way(rewrite).map_err(failed)?;
    Ok(false)
}

/// A rotation put a fresh file under the name in the very moment of the exchange: it gets its name back, with the lines that came meanwhile.
fn give_way(rewrite: &Rewrite) -> io::Result<()> {
    renameat_with(CWD, &rewrite.aside, CWD, &rewrite.path, RenameFlags::EXCHANGE)?;
    let mut late = Vec::new();
    files::content(&rewrite.aside, false, rewrite.new_len)?.read_to_end(&mut late)?;
    let mut fresh = OpenOptions::new().append(true).open(&rewrite.path)?;
    fresh.write_all(&late)?;
    fresh.sync_all()
}
