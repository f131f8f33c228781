//! Data to stdout, talk to stderr, progress to a terminal only.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;

use super::exit::{Error, Exit};

/// Where a command writes.
pub(super) struct Talk<'a> {
    pub(super) out: &'a mut dyn Write,
    pub(super) err: &'a mut dyn Write,
    /// Whether data is printed as JSON.
    pub(super) json: bool,
    /// Whether progress is shown.
    pub(super) lively: bool,
}

impl Talk<'_> {
    /// Prints data for programs.
    pub(super) fn data(&mut self, value: &impl Serialize) -> Result<(), Error> {
        let failed = unwritten("result");
        let text = serde_json::to_string_pretty(value).map_err(|error| failed(error.into()))?;
        writeln!(self.out, "{text}").map_err(failed)
    }

    /// Prints data for people.
    pub(super) fn print(&mut self, text: &str) -> Result<(), Error> {
        self.out.write_all(text.as_bytes()).map_err(unwritten("result"))
    }

    /// Writes bytes to a file, or to stdout.
    pub(super) fn bytes(&mut self, bytes: &[u8], file: Option<&Path>) -> Result<(), Error> {
        match file {
            None => self.out.write_all(bytes).map_err(unwritten("result")),
            Some(path) => {
                std::fs::write(path, bytes).map_err(unwritten(whole("file", path)))?;
                self.say(&format!("written to {}", path.display()));
                Ok(())
            }
        }
    }

    /// As [`Talk::bytes`], into a new file that nobody else may read.
    pub(super) fn private(&mut self, bytes: &[u8], file: Option<&Path>) -> Result<(), Error> {
        let Some(path) = file else {
            return self.bytes(bytes, None);
        };
        let mut options = std::fs::OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options
            .open(path)
            .and_then(|mut file| file.write_all(bytes))
            .map_err(unwritten(whole("file", path)))?;
        self.say(&format!("written to {}", path.display()));
        Ok(())
    }

    /// The exit code, once all data is out.
    pub(super) fn flushed(&mut self, exit: Exit) -> Result<Exit, Error> {
        self.out.flush().map_err(unwritten("result")).map(|()| exit)
    }

    /// Says something beside the data. Nobody listening is no error.
    pub(super) fn say(&mut self, text: &str) {
        let _ = writeln!(self.err, "{text}");
    }

    /// A bar or a spinner; hidden where nobody watches.
    pub(super) fn progress(&self, total: Option<u64>) -> ProgressBar {
        if !self.lively {
            return ProgressBar::hidden();
        }
        let (bar, template) = match total {
            Some(total) => (
                ProgressBar::new(total),
                "{prefix} [{bar:30}] {human_pos} of {human_len} {msg} ({eta})",
            ),
            None => (ProgressBar::new_spinner(), "{spinner} {prefix} {msg} {elapsed}"),
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style.progress_chars("=> "));
        }
        bar
    }
}

/// What a file is for, and which it is.
pub(super) fn whole(what: &str, path: &Path) -> String {
    format!("{what} {}", crate::settings::whole(path))
}

/// The error of a write that failed, of what was to be written.
pub(super) fn unwritten(what: impl Into<String>) -> impl Fn(std::io::Error) -> Error {
    let what = what.into();
    move |source| Error::Write {
        what: what.clone(),
        source,
    }
}

/// Lines up columns. Numbers, where every cell below the head is one, go to the right.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let width = |column: usize| {
        let cells = rows
            .iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count());
        cells
            .chain(head.get(column).map(|head| head.chars().count()))
            .max()
            .unwrap_or(0)
    };
    let is_number = |column: usize| {
        let mut cells = rows.iter().filter_map(|row| row.get(column)).peekable();
        cells.peek().is_some()
            && cells.all(|cell| cell.bytes().all(|b| b.is_ascii_digit() || b == b',' || b == b'-'))
    };
    let line = |cells: &[String]| {
        let mut line = String::new();
        for (column, cell) in cells.iter().enumerate() {
            let room = width(column).saturating_sub(cell.chars().count());
            let room = " ".repeat(room);
            if is_number(column) {
                line.push_str(&room);
                line.push_str(cell);
            } else {
                line.push_str(cell);
                line.push_str(&room);
            }
            line.push_str("  ");
        }
        let line = line.trim_end();
        format!("{line}\n")
    };
    let head: Vec<String> = head.iter().map(|text| text.to_uppercase()).collect();
    let mut text = line(&head);
    for row in rows {
        text.push_str(&line(row));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_stand_at_the_right() {
        let rows = vec![
            vec!["shop".to_owned(), "9,120".to_owned()],
            vec!["website".to_owned(), "7".to_owned()],
        ];
        assert_eq!(
            table(&["system", "records"], &rows),
            "SYSTEM   RECORDS\nshop       9,120\nwebsite        7\n"
        );
    }
}
