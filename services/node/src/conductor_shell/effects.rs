//! Carrying out what the conductor wants of a round.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lethe_conductor::{Effect, WalkOutcome, WalkPurpose};
use lethe_journal::{CaseEvent, Entry, Epoch, Event, Instruction, Place, Stream};
use lethe_log::{Appended, EventLog};
use lethe_terms::{CaseId, CommandId, Timestamp};
use tokio::sync::mpsc;

use super::{ConductorShell, Standing, Walked, partition_of_case};
use crate::board::Board;
use crate::cases::CommandRefused;
use crate::{Error, publish, shell};

/// How long feeds may take before the first instruction of a case: what they miss, the last walk finds.
const DISPATCH_PATIENCE: Duration = Duration::from_secs(3);

/// How long feeds may take before the statement of a case, until the walk counts as unknown and is asked for again.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(30);

impl ConductorShell {
    pub(super) async fn carry_out(
        &self,
        effects: Vec<Effect>,
        standing: &mut Standing,
        send: &mpsc::Sender<Walked>,
    ) -> Result<(), Error> {
        // A mark and a refusal go out although no history says whether it has a newer writer, and what a process that hung for a while makes of
        // what it knew before is old news.
        if !effects.is_empty() {
            self.check_writer()?;
        }
        for (wave, effects) in in_waves(effects) {
            match wave {
                Wave::Histories => self.journal(effects, &standing.epochs).await?,
                Wave::Instructions => {
                    let effects = self.others(standing).allow(effects).await?;
                    self.instruct(effects).await?;
                }
                Wave::Keys | Wave::Marks | Wave::Others => {
                    for effect in effects {
                        self.carry_out_one(effect, send).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn journal(&self, effects: Vec<Effect>, epochs: &BTreeMap<u16, Epoch>) -> Result<(), Error> {
        let mut histories: BTreeMap<u16, Vec<Entry>> = BTreeMap::new();
        for effect in effects {
            if let Effect::Journal {
                case,
                number,
                at,
                event,
            } = effect
            {
                histories
                    .entry(partition_of_case(case))
                    .or_default()
                    .push(self.history_entry(case, number, at, &event).await?);
            }
        }
        self.append_histories(histories, epochs).await
    }

    async fn instruct(&self, effects: Vec<Effect>) -> Result<(), Error> {
        let mut instructions: BTreeMap<Stream, Vec<Entry>> = BTreeMap::new();
        for effect in effects {
            if let Effect::Send(instruction) = effect {
                let stream = Stream::Instructions(instruction.system.clone());
                instructions.entry(stream).or_default().push(order(instruction)?);
            }
        }
        let appends = instructions
            .into_iter()
            .map(|(stream, entries)| self.append(stream, entries));
        futures::future::try_join_all(appends).await.map(drop)
    }

    async fn history_entry(
        &self,
        case: CaseId,
        number: u64,
        at: Timestamp,
        event: &CaseEvent,
    ) -> Result<Entry, Error> {
        let sealed = self.keys.seal_event(case, number, event).await?;
        let id = shell::entry_id();
        let event = Event {
            id,
            source: "/lethe/conductor",
            time: at,
            data: sealed,
        };
        Ok(Entry {
            id,
            key: case.as_bytes().to_vec(),
            value: Some(event.encode()?),
        })
    }

    async fn append_histories(
        &self,
        histories: BTreeMap<u16, Vec<Entry>>,
        epochs: &BTreeMap<u16, Epoch>,
    ) -> Result<(), Error> {
        let appends = histories.into_iter().map(|(partition, entries)| async move {
            let at = Place::new(Stream::Cases, partition);
            let epoch = epochs.get(&partition).copied().ok_or_else(fenced)?;
            match self.log.append(&at, Some(epoch), entries).await? {
                Appended::At { .. } => Ok(()),
                Appended::StaleEpoch { .. } => Err(fenced()),
            }
        });
        futures::future::try_join_all(appends).await.map(drop)
    }

    async fn append(&self, stream: Stream, entries: Vec<Entry>) -> Result<(), Error> {
        publish::append(&*self.log, &Place::new(stream, 0), entries, "instructions").await
    }

    async fn carry_out_one(&self, effect: Effect, send: &mpsc::Sender<Walked>) -> Result<(), Error> {
        match effect {
            Effect::Walk {
                case,
                start,
                known,
                kept,
                purpose,
            } => {
                let (walker, keys, send) = (Arc::clone(&self.walker), self.keys.clone(), send.clone());
                let (board, log) = (Arc::clone(&self.board), Arc::clone(&self.log));
                let mut under_way = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
                while under_way.try_join_next().is_some() {}
                under_way.spawn(async move {
                    if !are_feeds_read(&board, &*log, purpose).await {
                        let _ = send.send((case, purpose, WalkOutcome::Unknown)).await;
                        return;
                    }
                    let outcome = walker
                        .walk_for_case(&keys, case, start, known, kept)
                        .await
                        .unwrap_or_else(|error| {
                            tracing::warn!(code = error.code(), %error, %case, "a walk could not be finished");
                            WalkOutcome::Unknown
                        });
                    // The conductor has stopped: the walk is taken again when it starts.
                    let _ = send.send((case, purpose, outcome)).await;
                });
            }
            Effect::MarkErased {
                case,
                identifiers,
                until,
            } => {
                let selectors = self.keys.open_selectors(case, &identifiers).await?;
                self.intake
                    .mark_erased(case, &selectors.identifiers, until)
                    .await?;
            }
            Effect::Settled {
                command,
                case,
                refused,
            } => {
                let refused = refused.as_ref().map(CommandRefused::from);
                self.settle(command, case, refused).await?;
            }
            Effect::KeepKey { case, key } => self.keys.keep(case, key).await?,
            Effect::Journal { .. } | Effect::Send(_) => {}
        }
        Ok(())
    }
}

/// What of a round is carried out together; the waves follow one another in this order, and one that fails keeps back those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wave {
    /// Keys of cases that open: durable before anything that they open.
    Keys,
    /// Marks of erased persons. Before the histories: the statement that follows a mark says that what comes back is caught, and where it
    /// stands on the log nothing asks for the mark again. To mark twice changes nothing.
    Marks,
    /// Events of cases.
    Histories,
    /// Instructions to systems.
    Instructions,
    /// Walks, and what became of commands.
    Others,
}

const fn wave_of(effect: &Effect) -> Wave {
    match effect {
        Effect::KeepKey { .. } => Wave::Keys,
        Effect::MarkErased { .. } => Wave::Marks,
        Effect::Journal { .. } => Wave::Histories,
        Effect::Send(_) => Wave::Instructions,
        Effect::Walk { .. } | Effect::Settled { .. } => Wave::Others,
    }
}

/// The effects of a round by wave, in the order in which the waves are carried out.
fn in_waves(effects: Vec<Effect>) -> BTreeMap<Wave, Vec<Effect>> {
    let mut waves: BTreeMap<Wave, Vec<Effect>> = BTreeMap::new();
    for effect in effects {
        waves.entry(wave_of(&effect)).or_default().push(effect);
    }
    waves
}

impl ConductorShell {
    /// Tells whoever waits for a command what became of it: here, and where the gateway is another process. There what was accepted shows in the
    /// case's history.
    pub(super) async fn settle(
        &self,
        command: CommandId,
        case: CaseId,
        refused: Option<CommandRefused>,
    ) -> Result<(), Error> {
        if let Some(refused) = &refused {
            let answer = refused.answer(command, case);
            publish::answers(&*self.log, "/lethe/conductor", vec![answer]).await?;
        }
        self.cases.settle(case, command, refused);
        Ok(())
    }
}

/// Whether the walk can be taken: the last one before a statement only on feeds that were read since. Before the first instruction a system that
/// is down holds up no other.
async fn are_feeds_read(board: &Board, log: &dyn EventLog, purpose: WalkPurpose) -> bool {
    match purpose {
        WalkPurpose::Locate | WalkPurpose::Plan => true,
        WalkPurpose::Dispatch => {
            board.read_anew(log, DISPATCH_PATIENCE).await;
            true
        }
        WalkPurpose::Confirm => board.read_anew(log, CONFIRM_PATIENCE).await,
    }
}

/// The error of a history that has a newer writer.
pub(super) const fn fenced() -> Error {
    Error::Fenced {
        what: "case histories",
    }
}

fn order(instruction: Instruction) -> Result<Entry, Error> {
    let id = shell::entry_id();
    let key = instruction.id.as_bytes().to_vec();
    let event = Event {
        id,
        source: "/lethe/conductor",
        time: shell::now(),
        data: instruction,
    };
    Ok(Entry {
        id,
        key,
        value: Some(event.encode()?),
    })
}

#[cfg(test)]
mod tests {
    use lethe_journal::Sealed;

    use super::*;

    #[test]
    fn a_person_is_marked_as_erased_before_the_statement_that_says_so_is_on_the_log() {
        let case = CaseId::from_bytes([1; 8]);
        let statement = Effect::Journal {
            case,
            number: 7,
            at: Timestamp::MAX,
            event: CaseEvent::StatementAsked {
                statement: String::new(),
            },
        };
        let settled = Effect::Settled {
            command: CommandId::from_bytes([1; 16]),
            case,
            refused: None,
        };
        let mark = Effect::MarkErased {
            case,
            identifiers: Sealed::from_bytes(vec![1]),
            until: Timestamp::MAX,
        };
        let round = vec![settled.clone(), statement.clone(), mark.clone()];
        let carried_out: Vec<_> = in_waves(round).into_values().flatten().collect();
        assert_eq!(carried_out, [mark, statement, settled]);
    }
}
