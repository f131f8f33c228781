//! What goes to the log, and in which order.

use std::collections::BTreeMap;

use lethe_journal::{Entry, Place, Position, Stream};
use lethe_kit::Rejected;
use lethe_log::{APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, Appended};
use lethe_terms::{RecordToken, SystemName};
use lethe_vault::DataKey;

use crate::again::PartOf;
use crate::inputs::{Beside, Origin};
use crate::intake::{Last, Published, Recent};
use crate::page::{Maker, Read, Unread};
use crate::{Error, Intake};

/// Bytes of entries that wait for an append: a page of ordinary records stays below it, and memory does not grow with what a page holds.
const OUTGOING_BYTES_MAX: usize = 16 << 20;

/// Entries by stream and partition, in order.
#[derive(Default)]
pub(crate) struct Outgoing {
    new_keys: BTreeMap<u16, Vec<Entry>>,
    quarantine: Vec<Entry>,
    records: BTreeMap<u16, Vec<Entry>>,
    gone_keys: BTreeMap<u16, Vec<Entry>>,
    /// Records that end.
    ends: Vec<RecordToken>,
    bytes: usize,
}

impl Outgoing {
    pub(crate) fn new_key(&mut self, partition: u16, entry: Entry) {
        self.bytes += bytes_of(&entry);
        self.new_keys.entry(partition).or_default().push(entry);
    }

    pub(crate) fn quarantined(&mut self, entry: Entry) {
        self.bytes += bytes_of(&entry);
        self.quarantine.push(entry);
    }

    pub(crate) fn record(&mut self, partition: u16, entry: Entry) {
        self.bytes += bytes_of(&entry);
        self.records.entry(partition).or_default().push(entry);
    }

    pub(crate) fn ended(&mut self, partition: u16, record: RecordToken, entry: Entry) {
        self.ends.push(record);
        self.record(partition, entry);
    }

    pub(crate) fn gone_key(&mut self, partition: u16, entry: Entry) {
        self.bytes += bytes_of(&entry);
        self.gone_keys.entry(partition).or_default().push(entry);
    }
}

/// What a page has become so far.
#[derive(Default)]
pub(crate) struct Batch {
    pub(crate) out: Outgoing,
    /// Records as they are once that is appended.
    pub(crate) staged: BTreeMap<RecordToken, Last>,
    pub(crate) published: Published,
}

impl Batch {
    /// Puts away an input, a part of these records where it is any's.
    pub(crate) fn refuse(
        &mut self,
        maker: &Maker<'_>,
        system: &SystemName,
        rejected: &Rejected,
        origin: Option<&Origin>,
    ) -> Result<(), Error> {
        let is_new = maker.quarantined(rejected, origin, Beside::Nothing, Some(system), &mut self.out)?;
        self.published.quarantined += usize::from(is_new);
        Ok(())
    }

    /// Puts away what could not be read of a record, beside the record and its data key.
    pub(crate) fn put_away(
        &mut self,
        maker: &Maker<'_>,
        system: &SystemName,
        (read, key, is_new): (&Read, DataKey, bool),
        unread: &[Unread],
    ) -> Result<(), Error> {
        let origin = Origin {
            records: vec![read.record],
            key,
            is_new,
        };
        for Unread { numbers, rejected } in unread {
            let part_of = PartOf {
                read,
                numbers,
                key: &origin.key,
            };
            let is_new = maker.quarantined(
                rejected,
                Some(&origin),
                Beside::Observation(part_of),
                Some(system),
                &mut self.out,
            )?;
            self.published.quarantined += usize::from(is_new);
        }
        Ok(())
    }
}

impl Intake {
    /// Appends what has come together where it is much; between two records only, so that a record and its inputs go together.
    pub(crate) async fn send_if_much(
        &self,
        system: &SystemName,
        batch: &mut Batch,
        recent: &mut Recent,
    ) -> Result<(), Error> {
        if batch.out.bytes < OUTGOING_BYTES_MAX {
            return Ok(());
        }
        self.send(system, batch, recent).await
    }

    /// Appends in the order in which a reader may need it, and notes what was appended. Until that is certain it counts as unsure, also
    /// where this call is dropped half-way. Inputs come before their records: of a record that is known as it is, no input is put away any
    /// more, and one that is put away twice does no harm. What ends with a record ends before it, since afterwards nobody would come back to it.
    pub(crate) async fn send(
        &self,
        system: &SystemName,
        batch: &mut Batch,
        recent: &mut Recent,
    ) -> Result<(), Error> {
        let (out, staged) = (std::mem::take(&mut batch.out), std::mem::take(&mut batch.staged));
        recent.unsure = true;
        if !out.ends.is_empty() {
            self.end_inputs(system, &out.ends).await?;
        }
        self.append_all(&Stream::Keys, out.new_keys).await?;
        self.append_inputs(out.quarantine).await?;
        self.append_all(&Stream::Records, out.records).await?;
        self.append_all(&Stream::Keys, out.gone_keys).await?;
        recent.unsure = false;
        recent.records.extend(staged);
        Ok(())
    }

    /// Appends inputs where they are much; they belong to no record.
    pub(crate) async fn send_inputs_if_much(&self, out: &mut Outgoing) -> Result<(), Error> {
        if out.bytes < OUTGOING_BYTES_MAX {
            return Ok(());
        }
        self.send_inputs(out).await
    }

    /// Appends inputs that belong to no record.
    pub(crate) async fn send_inputs(&self, out: &mut Outgoing) -> Result<(), Error> {
        self.append_inputs(std::mem::take(out).quarantine).await
    }

    pub(crate) async fn append_inputs(&self, entries: Vec<Entry>) -> Result<(), Error> {
        self.append(&Stream::Quarantine, 0, entries).await.map(drop)
    }

    async fn append_all(&self, stream: &Stream, partitions: BTreeMap<u16, Vec<Entry>>) -> Result<(), Error> {
        let appends = partitions
            .into_iter()
            .map(|(partition, entries)| self.append(stream, partition, entries));
        futures::future::try_join_all(appends).await.map(drop)
    }

    /// Appends entries, in as many appends as the log's limits ask for; where the next entry will stand.
    pub(crate) async fn append(
        &self,
        stream: &Stream,
        partition: u16,
        entries: Vec<Entry>,
    ) -> Result<Position, Error> {
        let at = Place::new(stream.clone(), partition);
        let mut entries = entries;
        let mut reached = 0;
        while !entries.is_empty() {
            let rest = entries.split_off(one_append(&entries));
            match self.log.append(&at, None, entries).await.map_err(Error::Log)? {
                Appended::At { next, .. } => reached = next,
                Appended::StaleEpoch { .. } => {
                    return Err(Error::Fenced {
                        stream: stream.to_string(),
                    });
                }
            }
            entries = rest;
        }
        Ok(reached)
    }
}

/// How many of the entries one append may hold; at least one, since an event is far below the limit.
fn one_append(entries: &[Entry]) -> usize {
    let mut bytes = 0;
    let fitting = entries.iter().take(APPEND_ENTRIES_MAX).take_while(|entry| {
        bytes += bytes_of(entry);
        bytes <= APPEND_BYTES_MAX
    });
    fitting.count().max(1)
}

fn bytes_of(entry: &Entry) -> usize {
    entry.key.len() + entry.value.as_ref().map_or(0, Vec::len)
}

#[cfg(test)]
mod tests {
    use lethe_terms::EntryId;

    use super::*;

    fn entries(count: usize, bytes: usize) -> Vec<Entry> {
        let entry = Entry {
            id: EntryId::from_bytes([7; 16]),
            key: b"shop".to_vec(),
            value: Some(vec![0; bytes - 4]),
        };
        vec![entry; count]
    }

    #[test]
    fn an_append_holds_no_more_than_the_log_takes() {
        for (count, bytes, fitting) in [
            (3, 100, 3),
            (APPEND_ENTRIES_MAX + 1, 4, APPEND_ENTRIES_MAX),
            (17, 4 << 20, APPEND_BYTES_MAX / (4 << 20)),
            (17, (4 << 20) + 1, APPEND_BYTES_MAX / (4 << 20) - 1),
        ] {
            assert_eq!(
                one_append(&entries(count, bytes)),
                fitting,
                "{count} of {bytes} bytes"
            );
        }
    }
}
