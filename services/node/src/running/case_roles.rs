//! Starts what writes the histories of cases or follows them: the ledger, the conductor, and the reader of a gateway.

use std::sync::{Arc, Mutex, PoisonError};

use lethe_journal::{Inventory, Stream};
use tokio::sync::watch;

use super::{Starting, conductor_config};
use crate::Error;
use crate::board::Board;
use crate::carrying::Share;
use crate::cases::{CaseReader, Cases};
use crate::conductor_shell::ConductorShell;
use crate::lag::Stands;
use crate::ledger_shell::Candidate;
use crate::log::Log;
use crate::roles::Role;
use crate::server::{origin, positions};

/// Among whom the partitions of the histories are shared out. No process has a name with a colon, and each has a group of its name.
const CONDUCTORS_GROUP: &str = "conductors:cases";

impl Starting<'_> {
    /// Whatever writes the histories of cases, or follows them.
    pub(super) async fn case_roles(
        &mut self,
        cases: &Cases,
        board: &Arc<Board>,
        inventory: watch::Receiver<Inventory>,
    ) -> Result<(), Error> {
        let roles = &self.parts.roles;
        if roles.has(Role::Ledger) {
            self.ledger().await?;
        }
        if roles.has(Role::Conductor) {
            self.conductor(cases, board, inventory)?;
        } else if roles.has(Role::Gateway) {
            self.case_reader(cases);
        }
        Ok(())
    }

    async fn ledger(&mut self) -> Result<(), Error> {
        let parts = self.parts;
        let stands = self.stands_of("ledger");
        let oneself = parts.oneself.as_ref();
        let is_writer = oneself.map_or_else(Arc::default, |oneself| Arc::clone(&oneself.is_writer));
        let candidate = Candidate {
            log: parts.log.clone(),
            port: Arc::clone(&parts.port),
            answering: Arc::clone(&parts.answering),
            keys: parts.keys.clone(),
            evidence: Arc::clone(&parts.evidence),
            signing: Arc::clone(&parts.signing),
            stands,
            folders: parts.folders.clone(),
            origin: origin(&parts.settings),
            stands_by: !parts.roles.is_all(),
            is_writer,
        };
        self.waits
            .now("the leaves of the log are compared with the ledger");
        match candidate.open(parts.log.start().await?)? {
            Some(mut shell) => {
                // A process whose ledger cannot sign does not come up: it would look well between one start and the next.
                shell.follow_leaves().await?;
                self.tasks.spawn(shell.run(self.stopped.clone()))
            }
            None => self.tasks.spawn(candidate.stand_by(self.stopped.clone())),
        };
        Ok(())
    }

    fn conductor(
        &mut self,
        cases: &Cases,
        board: &Arc<Board>,
        inventory: watch::Receiver<Inventory>,
    ) -> Result<(), Error> {
        let parts = self.parts;
        let share = self.share()?;
        for stream in [Stream::Commands, Stream::Answers] {
            self.lags.add("conductor", share.stands(stream.clone()));
            self.queues.push((stream.clone(), share.passed(stream)));
        }
        let stands = self.stands_of("conductor");
        let shell = ConductorShell {
            log: Arc::clone(&parts.port),
            keys: parts.keys.clone(),
            walker: Arc::clone(&parts.walker),
            intake: Arc::clone(&parts.intake),
            share,
            config: conductor_config(parts),
            cluster: Arc::clone(&parts.cluster),
            answering: Arc::clone(&parts.answering),
            cases: cases.clone(),
            board: Arc::clone(board),
            inventory,
            walks: Mutex::default(),
            stands,
        };
        self.tasks.spawn(shell.run(self.stopped.clone()));
        Ok(())
    }

    /// The partitions of the histories that this process carries: all, or what the group of conductors gives it. On Kafka a process with all roles is
    /// a group of one: when it becomes several, they go on where it was.
    fn share(&self) -> Result<Share, Error> {
        let parts = self.parts;
        match &parts.log {
            Log::Kafka(kafka) => {
                let membership = kafka.join(CONDUCTORS_GROUP, &Stream::Cases)?;
                Share::of_group(membership, &parts.folders.carried())
            }
            Log::Embedded(_) => Ok(Share::All(positions(&parts.folders, "conductor")?)),
        }
    }

    /// Adds a reader that notes by itself where it stands.
    fn stands_of(&mut self, reader: &'static str) -> Stands {
        let stands = Stands::default();
        let known = Arc::clone(&stands);
        self.lags.add(reader, move || {
            known.lock().unwrap_or_else(PoisonError::into_inner).clone()
        });
        stands
    }

    fn case_reader(&mut self, cases: &Cases) {
        let stands = self.stands_of("gateway");
        let reader = CaseReader {
            log: Arc::clone(&self.parts.port),
            keys: self.parts.keys.clone(),
            cases: cases.clone(),
            answering: Arc::clone(&self.parts.answering),
            stands,
        };
        self.tasks.spawn(reader.run(self.stopped.clone()));
    }
}

#[cfg(test)]
mod tests {
    use lethe_terms::SystemName;

    use super::*;
    use crate::server::OWNERS_GROUP;

    #[test]
    fn no_process_shows_its_positions_in_a_group_that_shares_partitions_out() {
        for group in [OWNERS_GROUP, CONDUCTORS_GROUP] {
            assert!(
                group.parse::<SystemName>().is_err(),
                "{group} may be a process's name"
            );
        }
    }
}
