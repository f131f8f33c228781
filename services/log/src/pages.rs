//! Reading a partition to its head.

use lethe_journal::{Place, Position, StreamKind};

use crate::{Error, EventLog, PAGE_ENTRIES_MAX, Page};

/// The pages of a partition from a position to its head, each read when it is asked for.
pub struct Pages<'a> {
    log: &'a dyn EventLog,
    at: &'a Place,
    next: Position,
    is_at_head: bool,
}

impl<'a> Pages<'a> {
    /// What stands from `from` on.
    pub const fn new(log: &'a dyn EventLog, at: &'a Place, from: Position) -> Self {
        Self {
            log,
            at,
            next: from,
            is_at_head: false,
        }
    }

    /// The next page, which may be empty; nothing once the head is reached.
    ///
    /// Where a page says `fell_behind`, entries before it are missing. In a table that means a beginning from 0: the page is the first of
    /// a whole reading, and a fold starts from nothing with it.
    ///
    /// Errors: as [`EventLog::read`].
    pub async fn next(&mut self) -> Result<Option<Page>, Error> {
        if self.is_at_head {
            return Ok(None);
        }
        let mut page = self.log.read(self.at, self.next, PAGE_ENTRIES_MAX).await?;
        if page.fell_behind && self.at.stream.kind() == StreamKind::Table {
            page = self.log.read(self.at, 0, PAGE_ENTRIES_MAX).await?;
            page.fell_behind = true;
        }
        self.next = page.next;
        self.is_at_head = page.next >= page.head;
        Ok(Some(page))
    }

    /// Where to read on.
    pub const fn position(&self) -> Position {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lethe_journal::{Entry, Stream};
    use lethe_terms::EntryId;

    use super::*;
    use crate::MemoryLog;

    fn entry(number: usize, value: Option<&[u8]>) -> Entry {
        Entry {
            id: EntryId::from_bytes([0; 16]),
            key: number.to_string().into_bytes(),
            value: value.map(<[u8]>::to_vec),
        }
    }

    /// How many entries each page holds, and which of them said that entries before it are missing.
    async fn read(log: &MemoryLog, at: &Place, from: Position) -> (Vec<(usize, bool)>, Position) {
        let mut pages = Pages::new(log, at, from);
        let mut read = Vec::new();
        while let Some(page) = pages.next().await.unwrap() {
            read.push((page.entries.len(), page.fell_behind));
        }
        (read, pages.position())
    }

    #[tokio::test]
    async fn every_page_to_the_head_comes_once() {
        let log = MemoryLog::new();
        let at = Place::new(Stream::Commands, 0);
        assert_eq!(read(&log, &at, 0).await, (vec![(0, false)], 0));
        for _ in 0..2 {
            let entries = (0..PAGE_ENTRIES_MAX).map(|number| entry(number, None)).collect();
            log.append(&at, None, entries).await.unwrap();
        }
        log.append(&at, None, vec![entry(0, None)]).await.unwrap();
        let whole = vec![(PAGE_ENTRIES_MAX, false), (PAGE_ENTRIES_MAX, false), (1, false)];
        let head = log.head(&at).await.unwrap();
        assert_eq!(read(&log, &at, 0).await, (whole, head));
        assert_eq!(read(&log, &at, head - 1).await, (vec![(1, false)], head));
    }

    #[tokio::test]
    async fn a_table_of_which_a_tombstone_was_missed_is_read_from_its_beginning_and_a_queue_goes_on() {
        let log = MemoryLog::new();
        let (table, queue) = (Place::new(Stream::Erased, 0), Place::new(Stream::Commands, 0));
        for at in [&table, &queue] {
            let entries = vec![entry(1, Some(b"x")), entry(2, Some(b"y")), entry(1, None)];
            log.append(at, None, entries).await.unwrap();
        }
        log.compact(&Stream::Erased, &BTreeMap::from([(0, 3)]))
            .await
            .unwrap();
        log.expire(&Stream::Commands, &BTreeMap::from([(0, 2)]))
            .await
            .unwrap();
        assert_eq!(
            read(&log, &table, 1).await,
            (vec![(1, true)], 3),
            "the whole table"
        );
        assert_eq!(read(&log, &queue, 1).await, (vec![(1, true)], 3), "what is left");
    }
}
