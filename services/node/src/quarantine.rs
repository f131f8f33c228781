//! What could not be read: counted from the log, shown to whoever looks into it, and taken out of the count once somebody has.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_gateway::views::{QuarantineList, QuarantinedInput, QuarantinedView};
use lethe_journal::{Event, InputDropped, Place, Position, Quarantined, Stored, Stream};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use lethe_terms::{SystemName, Timestamp};
use lethe_vault::KeyVault;
use tokio::sync::watch;

use crate::systems::System;
use crate::{Error, publish};

/// Longest wait before the count looks around without having been woken.
const IDLE: Duration = Duration::from_secs(30);

/// What an entry of the stream says.
enum Said {
    Kept(Timestamp, Quarantined),
    Dropped(InputDropped),
}

fn said(stored: &Stored) -> Result<Option<Said>, Error> {
    let Some(value) = &stored.entry.value else {
        return Ok(None);
    };
    match Event::<Quarantined>::decode(value) {
        Ok(event) => Ok(Some(Said::Kept(event.time, event.data))),
        Err(lethe_journal::Error::UnexpectedType { .. }) => {
            let event = Event::<InputDropped>::decode(value)?;
            Ok(Some(Said::Dropped(event.data)))
        }
        Err(error) => Err(error.into()),
    }
}

fn place() -> Place {
    Place::new(Stream::Quarantine, 0)
}

/// What somebody may look at.
pub(crate) struct Quarantine {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) vault: Arc<dyn KeyVault>,
}

impl Quarantine {
    /// The newest inputs that were not dropped, at most `limit`, and how many there are.
    pub(crate) async fn list(
        &self,
        system: Option<&SystemName>,
        limit: usize,
    ) -> Result<QuarantineList, Error> {
        let (mut kept, mut from) = (BTreeMap::new(), 0);
        loop {
            let page = self.log.read(&place(), from, PAGE_ENTRIES_MAX).await?;
            for stored in &page.entries {
                match said(stored)? {
                    Some(Said::Kept(at, input)) if system.is_none() || input.system.as_ref() == system => {
                        kept.insert(stored.position, view(stored.position, at, &input));
                    }
                    Some(Said::Dropped(dropped)) => {
                        kept.remove(&dropped.position);
                    }
                    _ => {}
                }
            }
            from = page.next;
            if from >= page.head {
                let total = u64::try_from(kept.len()).unwrap_or(u64::MAX);
                let inputs = kept.into_values().rev().take(limit).collect();
                return Ok(QuarantineList { inputs, total });
            }
        }
    }

    /// One input with what it is; nothing where there is none of that number.
    pub(crate) async fn show(&self, position: Position) -> Result<Option<QuarantinedInput>, Error> {
        let Some((at, input)) = self.find(position).await? else {
            return Ok(None);
        };
        let key = self.vault.unwrap(&input.key)?;
        let plain = key.open("quarantine", &input.input)?;
        Ok(Some(QuarantinedInput {
            about: view(position, at, &input),
            input: STANDARD.encode(&*plain),
        }))
    }

    /// Takes an input out of the count; nothing where there is none of that number.
    pub(crate) async fn drop_one(&self, position: Position) -> Result<Option<QuarantinedView>, Error> {
        let Some((at, input)) = self.find(position).await? else {
            return Ok(None);
        };
        let name = input.system.as_ref().map_or("", SystemName::as_str);
        let dropped = InputDropped {
            system: input.system.clone(),
            position,
        };
        let entry = publish::entry(name.as_bytes(), "/lethe/gateway", dropped)?;
        publish::append(&*self.log, &place(), vec![entry], "quarantine").await?;
        Ok(Some(view(position, at, &input)))
    }

    async fn find(&self, position: Position) -> Result<Option<(Timestamp, Quarantined)>, Error> {
        let page = self.log.read(&place(), position, 1).await?;
        let stored = page.entries.first().filter(|stored| stored.position == position);
        match stored.map(said).transpose()?.flatten() {
            Some(Said::Kept(at, input)) => Ok(Some((at, input))),
            _ => Ok(None),
        }
    }
}

fn view(position: Position, at: Timestamp, input: &Quarantined) -> QuarantinedView {
    QuarantinedView {
        position,
        at,
        system: input.system.as_ref().map(ToString::to_string),
        place: input.position.clone(),
        code: input.code.clone(),
        expected: input.expected.clone(),
    }
}

/// Counts what each system has in quarantine: a plan says so as long as it is.
pub(crate) struct Count {
    log: Arc<dyn EventLog>,
    systems: BTreeMap<SystemName, Arc<System>>,
    kept: BTreeMap<SystemName, BTreeSet<Position>>,
    from: Position,
}

impl Count {
    /// A count that has read what is there.
    pub(crate) async fn begin(
        log: Arc<dyn EventLog>,
        systems: BTreeMap<SystemName, Arc<System>>,
    ) -> Result<Self, Error> {
        let mut count = Self {
            log,
            systems,
            kept: BTreeMap::new(),
            from: 0,
        };
        while count.step().await? {}
        Ok(count)
    }

    /// Goes on counting until `stop`.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let at = place();
        while !*stop.borrow() {
            if self.step().await? {
                continue;
            }
            tokio::select! {
                woken = self.log.wait(&at, self.from, IDLE) => woken?,
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// Reads a page; whether there was one.
    async fn step(&mut self) -> Result<bool, Error> {
        let page = self.log.read(&place(), self.from, PAGE_ENTRIES_MAX).await?;
        for stored in &page.entries {
            // The key says whose it is: nothing has to be opened or kept for a count.
            let name = std::str::from_utf8(&stored.entry.key).unwrap_or_default();
            let Ok(name) = name.parse::<SystemName>() else {
                continue;
            };
            let kept = self.kept.entry(name).or_default();
            match said(stored)? {
                Some(Said::Kept(..)) => drop(kept.insert(stored.position)),
                Some(Said::Dropped(dropped)) => drop(kept.remove(&dropped.position)),
                None => {}
            }
        }
        for (name, kept) in &self.kept {
            if let Some(system) = self.systems.get(name) {
                let count = u64::try_from(kept.len()).unwrap_or(u64::MAX);
                system.feed.quarantined.store(count, Ordering::Relaxed);
            }
        }
        let moved = page.next != self.from;
        self.from = page.next;
        Ok(moved)
    }
}
