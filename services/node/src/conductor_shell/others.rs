//! What other conductors journal, followed by this one.

use std::collections::BTreeMap;

use lethe_conductor::Effect;
use lethe_journal::{Place, Position, Stream};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};

use crate::case_keys::CaseKeys;
use crate::cases::{self, Cases, Fold};
use crate::{Error, shell};

/// The histories that other conductors write.
pub(super) struct Others<'a> {
    pub(super) log: &'a dyn EventLog,
    pub(super) keys: &'a CaseKeys,
    pub(super) cases: &'a Cases,
    /// Where each is followed, by partition.
    pub(super) followed: &'a mut BTreeMap<u16, Position>,
}

impl Others<'_> {
    /// Reads all that other conductors have journaled by now; whether there was anything. What was journaled before this call is known after it.
    pub(super) async fn follow(&mut self) -> Result<bool, Error> {
        let log = self.log;
        let heads = self.followed.iter().map(|(partition, from)| async move {
            let at = Place::new(Stream::Cases, *partition);
            let head = log.head(&at).await?;
            Ok::<_, Error>((head > *from).then_some((at, *from, head)))
        });
        let grown = futures::future::try_join_all(heads).await?;
        let mut moved = false;
        for (at, mut from, head) in grown.into_iter().flatten() {
            while from < head {
                let page = self.log.read(&at, from, PAGE_ENTRIES_MAX).await?;
                for stored in &page.entries {
                    cases::fold(self.keys, self.cases, stored, Fold::Following).await?;
                }
                if page.next <= from {
                    return Err(Error::Lagging);
                }
                from = page.next;
                self.followed.insert(at.partition, from);
                moved = true;
            }
        }
        Ok(moved)
    }

    /// The effects without those instructions that must not go out beside what other conductors have journaled. All are journaled by now: of two
    /// that cross, at least one is seen by the conductor of the other.
    pub(super) async fn allow(&mut self, mut effects: Vec<Effect>) -> Result<Vec<Effect>, Error> {
        if self.followed.is_empty() {
            return Ok(effects);
        }
        self.follow().await?;
        let (mut conductor, moment) = (self.cases.look(), shell::moment());
        effects.retain(|effect| match effect {
            Effect::Send(instruction) if conductor.keeps_back(instruction, moment) => {
                tracing::info!(case = %instruction.case, "an instruction waits for a case of another conductor");
                false
            }
            _ => true,
        });
        Ok(effects)
    }
}

#[cfg(test)]
#[path = "others_tests.rs"]
mod tests;
