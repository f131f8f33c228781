//! The files of a log: finding them, knowing them again after renames, copies and compression, reading them line by line.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use flate2::read::MultiGzDecoder;

use crate::beginning::{PACKED, is_gzip, unreadable};
use crate::config::LogConfig;
use crate::error::Error;
use crate::long::Cutter;
use crate::names::{Named, live_path, named};
use crate::state::{KnownFile, LogState, StateDir};

/// Bytes of a line that are held at a time. A longer line is read in pieces.
pub(crate) const LINE_BYTES_MAX: usize = 1 << 20;
/// Bytes of the first line that make a file's print.
const PRINT_BYTES_MAX: usize = 4096;
/// What is read at a time: a line of the longest kind with its end.
const HELD_BYTES_MAX: usize = LINE_BYTES_MAX + 2;
/// Buffer of a reader.
const READ_BYTES: usize = 1 << 17;
/// Most files that are remembered; the oldest that are gone make room.
const KNOWN_MAX: usize = 512;
/// A file of the log as it stands now.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    /// Id in the state.
    pub(crate) id: u64,
    /// Where it is now.
    pub(crate) path: PathBuf,
    /// Device.
    pub(crate) dev: u64,
    /// Inode.
    pub(crate) ino: u64,
    /// Bytes on disk.
    pub(crate) size: u64,
    /// Whether it is compressed.
    pub(crate) gz: bool,
    /// Whether it is the live file.
    pub(crate) live: bool,
    print: Option<String>,
}

impl Found {
    /// Where a pass over the file ends: what is written meanwhile comes later, so that a busy server never keeps a pass going for ever.
    pub(crate) const fn end(&self) -> u64 {
        if self.gz { u64::MAX } else { self.size }
    }

    /// The old file of a rewrite, as one to look through.
    pub(crate) fn aside(id: u64, path: &Path, meta: &fs::Metadata) -> Self {
        Self {
            id,
            path: path.to_owned(),
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            gz: false,
            live: true,
            print: None,
        }
    }
}

/// What lies in the folder of a log.
pub(crate) struct Listed {
    /// The files, oldest first, each with its id.
    pub(crate) found: Vec<Found>,
    /// Whether the state changed and must be saved before an id goes out.
    pub(crate) changed: bool,
    /// Why one of the log's files is not among them.
    pub(crate) unread: Option<Error>,
}

/// Lists the files of a log.
pub(crate) fn list(log: &LogConfig, dir: &StateDir, state: &mut LogState) -> Result<Listed, Error> {
    let live = live_path(log);
    let (named, mut unread) = named(log)?;
    let mut found = Vec::with_capacity(named.len());
    for Named { path, meta, .. } in named {
        let is_live = path == live;
        let named = path.extension().is_some_and(|e| e == "gz");
        let (gz, first) = match beginning(&path, named, is_live) {
            Ok(read) => read,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            // A damaged or half-written archive: known by its inode until it can be read.
            Err(_) if named => (true, Vec::new()),
            Err(e) => return Err(Error::file(&path, "reading", e)),
        };
        let packed = (is_live && !gz && is_gzip(&first)).then_some(PACKED);
        if let Some(why) = packed.or(unreadable(&first)) {
            let why = io::Error::new(io::ErrorKind::Unsupported, why);
            unread = Some(Error::file(&path, "reading", why));
            continue;
        }
        let print = print_of(dir, &first, gz);
        found.push(Found {
            id: 0,
            live: is_live,
            dev: meta.dev(),
            ino: meta.ino(),
            size: meta.size(),
            gz,
            print,
            path,
        });
    }
    let changed = recognise(&mut found, state);
    Ok(Listed {
        found,
        changed,
        unread,
    })
}

/// Gives each file its id: by print and inode, then by print (renamed, copied, compressed), then by inode (no first line yet).
fn recognise(found: &mut [Found], state: &mut LogState) -> bool {
    let before = (state.files.clone(), state.next_file);
    let mut taken = BTreeSet::new();
    let mut open: Vec<usize> = (0..found.len()).collect();
    type Same = fn(&Found, &KnownFile) -> bool;
    let passes: [Same; 3] = [
        |f, k| f.print.is_some() && f.print == k.print && (f.dev, f.ino) == (k.dev, k.ino),
        |f, k| f.print.is_some() && f.print == k.print,
        |f, k| (k.print.is_none() || f.print.is_none() && f.gz) && (f.dev, f.ino) == (k.dev, k.ino),
    ];
    for same in passes {
        open.retain(|n| {
            let known = state
                .files
                .iter_mut()
                .find(|k| !taken.contains(&k.id) && same(&found[*n], k));
            let Some(known) = known else { return true };
            taken.insert(known.id);
            found[*n].id = known.id;
            let file = &found[*n];
            let print = file
                .print
                .clone()
                .or(if file.gz { known.print.clone() } else { None });
            *known = KnownFile {
                id: known.id,
                print,
                dev: file.dev,
                ino: file.ino,
            };
            false
        });
    }
    for n in open {
        let file = &mut found[n];
        state.next_file += 1;
        file.id = state.next_file;
        taken.insert(file.id);
        state.files.push(KnownFile {
            id: file.id,
            print: file.print.clone(),
            dev: file.dev,
            ino: file.ino,
        });
    }
    while state.files.len() > KNOWN_MAX.max(taken.len()) {
        let Some(gone) = state.files.iter().position(|k| !taken.contains(&k.id)) else {
            break;
        };
        state.files.remove(gone);
    }
    before != (state.files.clone(), state.next_file)
}

/// Whether a file is packed, whatever its name says, and its first line; of a live one that is packed as it is written, its first bytes.
fn beginning(path: &Path, named_gz: bool, live: bool) -> io::Result<(bool, Vec<u8>)> {
    let first = first_line(path, named_gz)?;
    if !named_gz && !live && is_gzip(&first) {
        return Ok((true, first_line(path, true)?));
    }
    Ok((named_gz, first))
}

/// A file's first line, or as much of it as makes a print.
pub(crate) fn first_line(path: &Path, gz: bool) -> io::Result<Vec<u8>> {
    let mut reader = content(path, gz, 0)?.take(PRINT_BYTES_MAX as u64);
    let mut first = Vec::new();
    reader.read_until(b'\n', &mut first)?;
    Ok(first)
}

/// Keyed digest of a file's first line; `None` while it has none.
pub(crate) fn print_of(dir: &StateDir, first: &[u8], gz: bool) -> Option<String> {
    // An archive may hold a last line without an end: its print must be that of the file it was made of, which waits for one.
    let whole = first.ends_with(b"\n") || first.len() == PRINT_BYTES_MAX || gz && !first.is_empty();
    whole.then(|| dir.digest(&[b"print", first]))
}

/// Content of a file from a byte on, unpacked.
pub(crate) fn content(path: &Path, gz: bool, from: u64) -> io::Result<Box<dyn BufRead + Send>> {
    let mut file = File::open(path)?;
    if !gz {
        file.seek(SeekFrom::Start(from))?;
        return Ok(Box::new(BufReader::with_capacity(READ_BYTES, file)));
    }
    let mut reader = BufReader::with_capacity(READ_BYTES, MultiGzDecoder::new(BufReader::new(file)));
    io::copy(&mut (&mut reader).take(from), &mut io::sink())?;
    Ok(Box::new(reader))
}

/// A line that was read into the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LineAt {
    /// First byte in the unpacked file.
    pub(crate) at: u64,
    /// Bytes with its end; of a long line those that were read so far.
    pub(crate) len: u64,
    /// Whether it has an end; of a long line whether that was read.
    pub(crate) ended: bool,
    /// Whether it is longer than [`LINE_BYTES_MAX`], so that the buffer holds its beginning only.
    pub(crate) long: bool,
}

/// Lines of a file, in bounded memory whatever their length.
pub(crate) struct Lines {
    reader: Box<dyn BufRead + Send>,
    at: u64,
    /// Whether the rest of a long line comes next.
    within: bool,
}

impl Lines {
    /// Lines from this byte on.
    pub(crate) fn open(path: &Path, gz: bool, from: u64) -> io::Result<Self> {
        Ok(Self {
            reader: content(path, gz, from)?,
            at: from,
            within: false,
        })
    }

    /// Where the next line begins, once a long one was read to its end.
    pub(crate) const fn at(&self) -> u64 {
        self.at
    }

    /// Reads the next line into `line`, with its end; of a long one the beginning. What nobody read of the one before is passed over.
    pub(crate) fn next(&mut self, line: &mut Vec<u8>) -> io::Result<Option<LineAt>> {
        while self.within {
            line.clear();
            self.fill(line)?;
        }
        line.clear();
        let at = self.at;
        let ended = self.fill(line)?;
        let long = text(line).len() > LINE_BYTES_MAX;
        Ok((!line.is_empty()).then_some(LineAt {
            at,
            len: self.at - at,
            ended,
            long,
        }))
    }

    /// Reads a long line to its end, piece by piece, each as a line of its own.
    pub(crate) fn pieces(
        &mut self,
        line: &mut Vec<u8>,
        place: &mut LineAt,
        each: &mut dyn FnMut(&[u8]),
    ) -> io::Result<()> {
        let mut cutter = Cutter::new(line);
        loop {
            let last = !self.within;
            let (piece, next) = cutter.piece(if last { text(line) } else { line }, last);
            each(&piece);
            if last {
                return Ok(());
            }
            line.drain(..next);
            place.ended = self.fill(line)?;
            place.len = self.at - place.at;
        }
    }

    /// Passes over the rest of a long line.
    pub(crate) fn pass_over(&mut self, line: &mut Vec<u8>, place: &mut LineAt) -> io::Result<()> {
        while self.within {
            line.clear();
            place.ended = self.fill(line)?;
            place.len = self.at - place.at;
        }
        Ok(())
    }

    /// Reads on until the buffer is full or the line or file ends. Says whether the line did.
    fn fill(&mut self, line: &mut Vec<u8>) -> io::Result<bool> {
        let mut ended = false;
        while !ended && line.len() < HELD_BYTES_MAX {
            let bytes = match self.reader.fill_buf() {
                Ok(bytes) => bytes,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            if bytes.is_empty() {
                break;
            }
            let room = &bytes[..bytes.len().min(HELD_BYTES_MAX - line.len())];
            let end = memchr::memchr(b'\n', room);
            let used = end.map_or(room.len(), |n| n + 1);
            line.extend_from_slice(&room[..used]);
            ended = end.is_some();
            self.reader.consume(used);
            self.at += used as u64;
        }
        self.within = !ended && line.len() >= HELD_BYTES_MAX;
        Ok(ended)
    }
}

/// The pieces of a long line (without its end) that is held whole.
pub(crate) fn pieces_of(text: &[u8], each: &mut dyn FnMut(&[u8])) {
    let (mut cutter, mut from) = (Cutter::new(&text[..text.len().min(HELD_BYTES_MAX)]), 0);
    loop {
        let rest = &text[from..];
        let last = rest.len() < HELD_BYTES_MAX;
        let (piece, next) = cutter.piece(&rest[..rest.len().min(HELD_BYTES_MAX)], last);
        each(&piece);
        if last {
            return;
        }
        from += next;
    }
}

/// A line without its end.
pub(crate) fn text(line: &[u8]) -> &[u8] {
    let line = line.strip_suffix(b"\n").unwrap_or(line);
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_very_long_line_is_read_in_bounded_pieces_or_passed_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        let mut bytes = vec![b'x'; 3 * LINE_BYTES_MAX];
        bytes.extend_from_slice(b"\nnext\r\n\nlast");
        fs::write(&path, &bytes).unwrap();
        for read in [true, false] {
            let mut lines = Lines::open(&path, false, 0).unwrap();
            let mut line = Vec::new();
            let mut long = lines.next(&mut line).unwrap().unwrap();
            assert!(long.long && !long.ended);
            if read {
                let mut largest = 0;
                let mut each = |piece: &[u8]| largest = largest.max(piece.len());
                lines.pieces(&mut line, &mut long, &mut each).unwrap();
                assert!(long.ended && long.len == 3 * LINE_BYTES_MAX as u64 + 1);
                assert!(largest < LINE_BYTES_MAX + 1024, "{largest}");
            }
            assert!(lines.next(&mut line).unwrap().unwrap().ended && text(&line) == b"next");
            assert!(lines.next(&mut line).unwrap().unwrap().ended && text(&line).is_empty());
            let last = lines.next(&mut line).unwrap().unwrap();
            assert!(!last.ended && line == b"last" && lines.at() == bytes.len() as u64);
            assert_eq!(lines.next(&mut line).unwrap(), None);
        }
    }

    #[test]
    fn a_line_is_cut_the_same_way_in_a_file_and_in_memory() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("l");
        let filler = |n: usize, byte: char| byte.to_string().repeat(n);
        let time = "[24/Nov/2026:11:40:00 +0000]";
        for len in [
            LINE_BYTES_MAX - 2,
            LINE_BYTES_MAX - 1,
            LINE_BYTES_MAX,
            LINE_BYTES_MAX + 1,
            3_000_000,
        ] {
            for (head, byte) in [
                (format!("10.0.0.1 - - {time} \"GET /"), 'x'),
                (String::new(), '&'),
            ] {
                let text = head.clone() + &filler(len - head.len().min(len), byte);
                let mut held = Vec::new();
                if text.len() > LINE_BYTES_MAX {
                    pieces_of(text.as_bytes(), &mut |piece| held.push(piece.to_vec()));
                }
                for end in ["\n", ""] {
                    fs::write(&path, text.clone() + end).unwrap();
                    let mut lines = Lines::open(&path, false, 0).unwrap();
                    let (mut line, mut pieces) = (Vec::new(), Vec::new());
                    let mut place = lines.next(&mut line).unwrap().unwrap();
                    if place.long {
                        let mut each = |piece: &[u8]| pieces.push(piece.to_vec());
                        lines.pieces(&mut line, &mut place, &mut each).unwrap();
                    }
                    assert!(pieces == held, "{len} {byte} {end:?}");
                    assert_eq!(place.len, (text.len() + end.len()) as u64);
                }
            }
        }
    }
}
