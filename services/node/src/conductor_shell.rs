//! The shell of the conductor: reads commands and answers, carries effects out.
//!
//! A round takes everything that waits, hands it to the conductor, and carries the effects out in waves: marks of erased persons first;
//! then histories, one append a partition; then instructions, one append a system; then walks and what else there is. So cases run side
//! by side and share their fsyncs, and nothing goes out before it is journaled. A mark is the exception: what asks for it again is the walk
//! before the statement, which is not taken any more once the statement is on the log.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lethe_conductor::{Conductor, Config, Effect, Input, Refused, WalkOutcome, WalkPurpose};
use lethe_intake::Intake;
use lethe_journal::{
    Answer, AnswerEvent, CaseEvent, Command, CommandEvent, Entry, Epoch, Event, Instruction, Inventory, Kind,
    Place, Position, Sealed, Stream, Token, partition_of,
};
use lethe_log::{Appended, EventLog, PAGE_ENTRIES_MAX, Pages};
use lethe_store::{Batch, Store};
use lethe_terms::{CaseId, CommandId, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::board::Board;
use crate::case_keys::CaseKeys;
use crate::cases::{self, Cases, CommandRefused};
use crate::patience::{Answering, Pauses};
use crate::walker::Walker;
use crate::{Error, publish, shell};

/// Longest wait before the conductor looks around without having been woken.
const IDLE: Duration = Duration::from_secs(30);

/// How often the positions of commands and answers are written down: repeats are harmless, so rarely.
const POSITIONS_EVERY: Duration = Duration::from_millis(500);

/// How long feeds may take before the first instruction of a case: what they miss, the last walk finds.
const DISPATCH_PATIENCE: Duration = Duration::from_secs(3);

/// How long feeds may take before the statement of a case, until the walk counts as unknown and is asked for again.
const CONFIRM_PATIENCE: Duration = Duration::from_secs(30);

/// Results of walks that may wait for the conductor; each belongs to one case.
const WALKS_MAX: usize = 1_024;

type Walked = (CaseId, WalkPurpose, WalkOutcome);

/// The running shell.
pub(crate) struct ConductorShell {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) keys: CaseKeys,
    pub(crate) walker: Arc<Walker>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) config: Config,
    pub(crate) answering: Arc<Answering>,
    pub(crate) cases: Cases,
    pub(crate) board: Arc<Board>,
    pub(crate) inventory: watch::Receiver<Inventory>,
    /// Walks under way: they end with the shell.
    pub(crate) walks: Mutex<JoinSet<()>>,
}

/// Where the shell reads and writes.
struct Standing {
    epochs: Vec<Epoch>,
    commands: Position,
    answers: Position,
    written: (Position, Position),
    written_at: Instant,
}

impl ConductorShell {
    /// Conducts until `stop`. Where an append failed, what is stored is unknown: then it becomes the writer again and begins from the log, as at
    /// a start.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let mut pauses = Pauses::new();
        loop {
            match self.conduct(&mut stop).await {
                Err(error) if self.answering.passes(&error) && !*stop.borrow() => {
                    tracing::warn!(
                        code = error.code(),
                        error = &error as &dyn std::error::Error,
                        "the conductor begins again from the log"
                    );
                    *self.walks.lock().unwrap_or_else(PoisonError::into_inner) = JoinSet::new();
                    pauses.rest(&mut stop).await;
                }
                ended => return ended,
            }
        }
    }

    /// Replays all histories, goes on with every case, and conducts until `stop`.
    async fn conduct(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Error> {
        let mut standing = self.take_over().await?;
        let (send, mut walks) = mpsc::channel(WALKS_MAX);
        let effects = self.with_conductor(|conductor| conductor.recover(shell::moment()));
        self.carry_out(effects, &standing, &send).await?;
        self.cases.tell();
        while !*stop.borrow() {
            let inputs = self.gather(&mut standing, &mut walks).await?;
            let idle = inputs.is_empty() && !self.is_due();
            if idle {
                self.write_positions(&mut standing)?;
                self.wait(&standing, &mut walks, &send, stop).await?;
                continue;
            }
            let effects = self.with_conductor(|conductor| {
                for input in inputs {
                    conductor.handle(input, shell::moment());
                }
                conductor.handle(Input::Tick, shell::moment());
            });
            self.carry_out(effects, &standing, &send).await?;
            self.cases.tell();
            if standing.written_at.elapsed() > POSITIONS_EVERY {
                self.write_positions(&mut standing)?;
            }
        }
        self.write_positions(&mut standing)
    }

    fn with_conductor(&self, act: impl FnOnce(&mut Conductor)) -> Vec<Effect> {
        let mut conductor = self.cases.look();
        let before: BTreeSet<CaseId> = conductor.damaged().map(lethe_conductor::Error::case).collect();
        act(&mut conductor);
        for error in conductor
            .damaged()
            .filter(|error| !before.contains(&error.case()))
        {
            tracing::error!(code = error.code(), case = %error.case(), "a case stands still");
        }
        std::iter::from_fn(|| conductor.next_effect()).collect()
    }

    fn is_due(&self) -> bool {
        self.cases
            .look()
            .next_wakeup()
            .is_some_and(|at| at <= shell::now())
    }

    /// Becomes the writer of all histories, then reads them: nobody else can add to them any more. Meanwhile others see what was known before.
    async fn take_over(&mut self) -> Result<Standing, Error> {
        let mut epochs = Vec::new();
        for at in Place::all(&Stream::Cases) {
            epochs.push(self.log.acquire(&at).await?);
        }
        let inventory = self.inventory.borrow_and_update().clone();
        let anew = Cases::decided(Conductor::new(self.config.clone(), inventory));
        for at in Place::all(&Stream::Cases) {
            self.replay(&at, &anew).await?;
        }
        self.cases.replace(&anew);
        let commands = self.store.position(&Stream::Commands)?;
        let answers = self.store.position(&Stream::Answers)?;
        let written = (commands, answers);
        Ok(Standing {
            epochs,
            commands,
            answers,
            written,
            written_at: Instant::now(),
        })
    }

    async fn replay(&self, at: &Place, cases: &Cases) -> Result<(), Error> {
        let mut pages = Pages::new(&*self.log, at, 0);
        while let Some(page) = pages.next().await? {
            for stored in &page.entries {
                cases::fold(&self.keys, cases, stored).await?;
            }
        }
        Ok(())
    }

    async fn gather(
        &mut self,
        standing: &mut Standing,
        walks: &mut mpsc::Receiver<Walked>,
    ) -> Result<Vec<Input>, Error> {
        let mut inputs = Vec::new();
        if self.inventory.has_changed().unwrap_or(false) {
            inputs.push(Input::InventoryChanged(
                self.inventory.borrow_and_update().clone(),
            ));
        }
        while let Ok((case, purpose, outcome)) = walks.try_recv() {
            inputs.push(Input::Walked {
                case,
                purpose,
                outcome,
            });
        }
        let (events, next) = self.read::<Command>(&Stream::Commands, standing.commands).await?;
        standing.commands = next;
        for event in events {
            inputs.extend(self.command(event).await?);
        }
        let (events, next) = self.read::<Answer>(&Stream::Answers, standing.answers).await?;
        standing.answers = next;
        inputs.extend(
            events
                .into_iter()
                .map(|event: AnswerEvent| Input::Answer(event.data)),
        );
        Ok(inputs)
    }

    async fn read<T: Kind>(
        &self,
        stream: &Stream,
        from: Position,
    ) -> Result<(Vec<Event<T>>, Position), Error> {
        let page = self
            .log
            .read(&Place::new(stream.clone(), 0), from, PAGE_ENTRIES_MAX)
            .await?;
        // A reader without a position starts where the queue starts: what was dropped before, somebody had read.
        if page.fell_behind && from > 0 {
            return Err(Error::Stopped {
                what: "the conductor, whose position fell off the start of a queue,",
            });
        }
        let mut events = Vec::with_capacity(page.entries.len());
        for stored in &page.entries {
            if let Some(value) = &stored.entry.value {
                events.push(Event::<T>::decode(value)?);
            }
        }
        Ok((events, page.next))
    }

    async fn command(&self, event: CommandEvent) -> Result<Option<Input>, Error> {
        let tokens = match &event.data {
            Command::Open { case, opening, .. } => match self.given_tokens(*case, &opening.given).await {
                Ok(tokens) => tokens,
                // It was accepted: it is read again.
                Err(error) if error.is_of_the_moment() => return Err(error),
                Err(error) => {
                    tracing::error!(code = error.code(), %case, "a command cannot be opened");
                    return Ok(None);
                }
            },
            _ => Vec::new(),
        };
        Ok(Some(Input::Command {
            command: event.data,
            tokens,
        }))
    }

    async fn given_tokens(&self, case: CaseId, given: &Sealed) -> Result<Vec<Token>, Error> {
        let selectors = self.keys.open_selectors(case, given).await?;
        self.walker.tokens(&selectors.identifiers)
    }

    async fn wait(
        &mut self,
        standing: &Standing,
        walks: &mut mpsc::Receiver<Walked>,
        send: &mpsc::Sender<Walked>,
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let now = shell::now();
        let due = self.cases.look().next_wakeup();
        let until = due.map_or(IDLE, |at| {
            Duration::from_millis(u64::try_from(at.since(now)).unwrap_or(0)).min(IDLE)
        });
        let commands = Place::new(Stream::Commands, 0);
        let answers = Place::new(Stream::Answers, 0);
        tokio::select! {
            woken = self.log.wait(&commands, standing.commands, until) => woken?,
            woken = self.log.wait(&answers, standing.answers, until) => woken?,
            walked = walks.recv() => {
                // Handed back to the queue that `gather` drains; it has just made room for one.
                if let Some(walked) = walked {
                    let _ = send.try_send(walked);
                }
            }
            _ = self.inventory.changed() => self.inventory.mark_changed(),
            _ = stop.changed() => {}
        }
        Ok(())
    }

    fn write_positions(&self, standing: &mut Standing) -> Result<(), Error> {
        let nothing = Batch::default();
        if standing.commands != standing.written.0 {
            self.store
                .commit(&Stream::Commands, standing.written.0, standing.commands, &nothing)?;
        }
        if standing.answers != standing.written.1 {
            self.store
                .commit(&Stream::Answers, standing.written.1, standing.answers, &nothing)?;
        }
        standing.written = (standing.commands, standing.answers);
        standing.written_at = Instant::now();
        Ok(())
    }

    async fn carry_out(
        &self,
        effects: Vec<Effect>,
        standing: &Standing,
        send: &mpsc::Sender<Walked>,
    ) -> Result<(), Error> {
        for (wave, effects) in in_waves(effects) {
            match wave {
                Wave::Histories => self.journal(effects, &standing.epochs).await?,
                Wave::Instructions => self.instruct(effects).await?,
                Wave::Marks | Wave::Others => {
                    for effect in effects {
                        self.carry_out_one(effect, send).await?;
                    }
                }
            }
        }
        Ok(())
    }

    async fn journal(&self, effects: Vec<Effect>, epochs: &[Epoch]) -> Result<(), Error> {
        let mut histories: BTreeMap<u16, Vec<Entry>> = BTreeMap::new();
        for effect in effects {
            if let Effect::Journal {
                case,
                number,
                at,
                event,
            } = effect
            {
                let partition = partition_of(case.as_bytes(), Stream::Cases.partitions());
                histories
                    .entry(partition)
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
        epochs: &[Epoch],
    ) -> Result<(), Error> {
        let appends = histories.into_iter().map(|(partition, entries)| async move {
            let at = Place::new(Stream::Cases, partition);
            let epoch = epochs.get(usize::from(partition)).copied();
            match self.log.append(&at, epoch, entries).await? {
                Appended::At { .. } => Ok(()),
                Appended::StaleEpoch { .. } => Err(Error::Fenced {
                    what: "case histories",
                }),
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
                tokens,
                known,
                kept,
                purpose,
            } => {
                let (walker, keys, send) = (Arc::clone(&self.walker), self.keys.clone(), send.clone());
                let board = Arc::clone(&self.board);
                let mut under_way = self.walks.lock().unwrap_or_else(PoisonError::into_inner);
                while under_way.try_join_next().is_some() {}
                under_way.spawn(async move {
                    if !are_feeds_read(&board, purpose).await {
                        let _ = send.send((case, purpose, WalkOutcome::Unknown)).await;
                        return;
                    }
                    let outcome = walker
                        .walk_for_case(&keys, case, tokens, known, kept)
                        .await
                        .unwrap_or_else(|error| {
                            tracing::warn!(code = error.code(), %case, "a walk could not be finished");
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
            } => self.settle(command, case, refused.as_ref()).await?,
            Effect::Journal { .. } | Effect::Send(_) => {}
        }
        Ok(())
    }
}

/// What of a round is carried out together; the waves follow one another in this order, and one that fails keeps back those after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Wave {
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
    async fn settle(&self, command: CommandId, case: CaseId, refused: Option<&Refused>) -> Result<(), Error> {
        let refused = refused.map(CommandRefused::from);
        if let Some(refused) = &refused {
            let answer = refused.answer(command, case);
            publish::answers(&*self.log, "/lethe/conductor", vec![answer]).await?;
        }
        self.cases.settle(command, refused);
        Ok(())
    }
}

/// Whether the walk can be taken: the last one before a statement only on feeds that were read since. Before the first instruction a system that
/// is down holds up no other.
async fn are_feeds_read(board: &Board, purpose: WalkPurpose) -> bool {
    match purpose {
        WalkPurpose::Locate | WalkPurpose::Plan => true,
        WalkPurpose::Dispatch => {
            board.read_anew(DISPATCH_PATIENCE).await;
            true
        }
        WalkPurpose::Confirm => board.read_anew(CONFIRM_PATIENCE).await,
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
