//! What intake remembers of the tables: cursors, and the marks of erased people.

use lethe_journal::{CursorAdvanced, Entry, ErasedMark, Event, Kind, Place, Position, Stream};
use lethe_log::Pages;
use lethe_terms::SuppressionToken;

use crate::inputs::unless_of_nobody;
use crate::suppression::Suppressed;
use crate::{Error, Intake};

/// Rows of a table by key; nothing where a row was ended.
type TableRows<T> = Vec<(Vec<u8>, Option<T>)>;

/// What was read of a table.
struct TableRead<T> {
    rows: TableRows<T>,
    /// Where to read on.
    next: Position,
    /// Whether the rows are all that there are: an ended one was missed, and what was known before does not count.
    is_anew: bool,
}

impl Intake {
    /// Folds `cursors` and `erased`. What is known of records is asked for once their fold has caught up.
    ///
    /// # Errors
    /// Of the log, and where an entry cannot be read.
    pub async fn recover(&self) -> Result<(), Error> {
        self.recent.lock().await.unsure = true;
        for (key, value) in self.table::<CursorAdvanced>(&Stream::Cursors).await? {
            let name = String::from_utf8_lossy(&key).into_owned();
            let mut state = self.state();
            match value {
                Some(advanced) => drop(state.cursors.insert(name, advanced.cursor)),
                None => drop(state.cursors.remove(&name)),
            }
        }
        self.refresh().await?;
        let mut state = self.state();
        let followed = state.followed;
        state.positions.insert(Stream::Erased, followed);
        Ok(())
    }

    /// Takes in the marks of erased people that another process has written since.
    ///
    /// # Errors
    /// As [`Intake::recover`].
    pub async fn refresh(&self) -> Result<(), Error> {
        let from = self.state().followed;
        let read = self.rows::<ErasedMark>(&Stream::Erased, from).await?;
        let mut state = self.state();
        // Somebody else may have read on meanwhile: what is older does not count any more.
        if read.next < state.followed {
            return Ok(());
        }
        state.followed = read.next;
        if read.is_anew {
            state.suppressed = Suppressed::default();
        }
        for (key, value) in read.rows {
            if let Ok(token) = <[u8; 16]>::try_from(key.as_slice()) {
                state.suppressed.set(SuppressionToken::from_bytes(token), value);
            }
        }
        Ok(())
    }

    /// Up to where [`Intake::refresh`] has read.
    pub fn followed(&self) -> Position {
        self.state().followed
    }

    async fn table<T: Kind>(&self, stream: &Stream) -> Result<TableRows<T>, Error> {
        let read = self.rows(stream, 0).await?;
        self.state().positions.insert(stream.clone(), read.next);
        Ok(read.rows)
    }

    /// What a table holds from a position to its head.
    async fn rows<T: Kind>(&self, stream: &Stream, from: Position) -> Result<TableRead<T>, Error> {
        let at = Place::new(stream.clone(), 0);
        let mut pages = Pages::new(&*self.log, &at, from);
        let (mut rows, mut is_anew) = (Vec::new(), false);
        while let Some(page) = pages.next().await.map_err(Error::Log)? {
            if page.fell_behind {
                rows.clear();
                is_anew = true;
            }
            for stored in page.entries {
                let Entry { key, value, .. } = stored.entry;
                let read = value.map(|value| Event::<T>::decode(&value)).transpose();
                let read = unless_of_nobody(read, &at.stream, stored.position);
                if let Some(event) = read.map_err(Error::Journal)? {
                    rows.push((key, event.map(|event| event.data)));
                }
            }
        }
        let next = pages.position();
        Ok(TableRead { rows, next, is_anew })
    }
}
