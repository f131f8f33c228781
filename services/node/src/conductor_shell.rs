//! The shell of the conductor: reads commands and answers, carries effects out.
//!
//! A round takes everything that waits, hands it to the conductor, and carries the effects out in waves: marks of erased persons first;
//! then histories, one append a partition; then instructions, one append a system; then walks and what else there is. So cases run side
//! by side and share their fsyncs, and nothing goes out before it is journaled. A mark is the exception: what asks for it again is the walk
//! before the statement, which is not taken any more once the statement is on the log.

mod effects;
mod others;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use lethe_conductor::{Conductor, Config, Effect, Input, WalkOutcome, WalkPurpose};
use lethe_intake::Intake;
use lethe_journal::{
    Answer, Command, CommandEvent, Epoch, Event, Inventory, KeyWrapped, Kind, Place, Position, Sealed,
    Stream, Token, partition_of,
};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX, Pages};
use lethe_log_kafka::Pulse;
use lethe_terms::CaseId;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use self::others::Others;
use crate::board::Board;
use crate::carrying::{self, Share, Worked};
use crate::case_keys::CaseKeys;
use crate::cases::CommandRefused;
use crate::cases::{self, Cases, Fold, IDLE};
use crate::cluster::Cluster;
use crate::lag::Stands;
use crate::patience::{Answering, Pauses};
use crate::rounds::Round;
use crate::walker::Walker;
use crate::{Error, poison, shell};

/// How often the positions of commands and answers are written down: repeats are harmless, so rarely.
const POSITIONS_EVERY: Duration = Duration::from_millis(500);

/// How often the conductor says that it is not stuck: several times before others take over.
const PULSE_EVERY: Duration = Duration::from_secs(5);

/// Results of walks that may wait for the conductor; each belongs to one case.
const WALKS_MAX: usize = 1_024;

type Walked = (CaseId, WalkPurpose, WalkOutcome);

/// The running shell.
pub(crate) struct ConductorShell {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) keys: CaseKeys,
    pub(crate) walker: Arc<Walker>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) share: Share,
    pub(crate) config: Config,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) answering: Arc<Answering>,
    pub(crate) cases: Cases,
    pub(crate) board: Arc<Board>,
    pub(crate) inventory: watch::Receiver<Inventory>,
    /// Walks under way: they end with the shell.
    pub(crate) walks: Mutex<JoinSet<()>>,
    /// Where it stands in the histories of others, for whoever wants to know.
    pub(crate) stands: Stands,
}

/// Where the shell reads and writes.
struct Standing {
    epochs: BTreeMap<u16, Epoch>,
    /// Of the partitions that are carried here.
    worked: BTreeMap<u16, Worked>,
    /// Of the histories that other conductors write.
    followed: BTreeMap<u16, Position>,
    commands: Position,
    answers: Position,
    written: BTreeMap<u16, Worked>,
    written_at: Instant,
}

impl Standing {
    /// How far the partition of a case is, where it is carried here.
    fn worked(&self, case: CaseId) -> Option<Worked> {
        self.worked.get(&partition_of_case(case)).copied()
    }

    /// Where it stands in the histories of others.
    fn following(&self) -> Vec<(Place, Position)> {
        let followed = self.followed.iter();
        followed
            .map(|(partition, from)| (Place::new(Stream::Cases, *partition), *from))
            .collect()
    }

    /// Where each part of the reading stands.
    fn places(&self) -> Vec<(Place, Position)> {
        let mut places = self.following();
        places.extend([
            (Place::new(Stream::Commands, 0), self.commands),
            (Place::new(Stream::Answers, 0), self.answers),
        ]);
        places
    }
}

fn partition_of_case(case: CaseId) -> u16 {
    partition_of(case.as_bytes(), Stream::Cases.partitions())
}

/// Works, and says now and then that it is not stuck: both are one task, so where one does not come round, such as on a disk that does not
/// answer, the other does not either. Whatever is waited for elsewhere holds up nothing here.
async fn beating<T>(pulse: Option<&Pulse>, work: impl Future<Output = T>) -> T {
    let mut work = std::pin::pin!(work);
    let mut beats = tokio::time::interval(PULSE_EVERY);
    loop {
        tokio::select! {
            done = &mut work => return done,
            _ = beats.tick() => pulse.into_iter().for_each(Pulse::beat),
        }
    }
}

/// Why a conductor that did not fail came to an end.
#[derive(PartialEq, Eq)]
enum Ended {
    /// It was told to stop.
    Stopped,
    /// It carries other partitions now, and begins with them from the log.
    OtherShare,
}

impl ConductorShell {
    /// Conducts until `stop`. Where an append failed, what is stored is unknown: then it becomes the writer again and begins from the log, as at
    /// a start; and so it does where it carries other partitions than before, or finds that another conductor has taken over what it carried.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let mut pauses = Pauses::new();
        loop {
            let pulse = self.share.pulse();
            match beating(pulse.as_ref(), self.conduct(&mut stop)).await {
                Ok(Ended::OtherShare) => pauses = Pauses::new(),
                Err(error) if self.goes_on_after(&error) && !*stop.borrow() => {
                    tracing::warn!(
                        code = error.code(),
                        error = &error as &dyn std::error::Error,
                        "the conductor begins again from the log"
                    );
                    pauses.rest(&mut stop).await;
                }
                ended => {
                    self.share.end().await?;
                    return ended.map(drop);
                }
            }
        }
    }

    fn goes_on_after(&self, error: &Error) -> bool {
        let is_fenced = matches!(error, Error::Fenced { .. });
        self.answering.passes(error) || is_fenced && self.share.is_shared()
    }

    /// Replays all histories, goes on with every case that is carried here, and conducts until `stop` or until other partitions are to be carried.
    async fn conduct(&mut self, stop: &mut watch::Receiver<bool>) -> Result<Ended, Error> {
        *self.walks.lock().unwrap_or_else(PoisonError::into_inner) = JoinSet::new();
        // Where an append failed, what is to be carried may have changed meanwhile.
        self.change_share()?;
        let beginning = self.cases.rounds().begin();
        let mut standing = self.take_over().await?;
        self.cases.rounds().end(beginning);
        let (send, mut walks) = mpsc::channel(WALKS_MAX);
        let effects = self.with_conductor(|conductor| conductor.recover(shell::moment()));
        self.carry_out(effects, &mut standing, &send).await?;
        self.cases.tell();
        while !*stop.borrow() {
            if self.share.is_to_change() {
                self.write_positions(&mut standing)?;
                if self.change_share()? {
                    return Ok(Ended::OtherShare);
                }
            }
            let round = self.cases.rounds().begin();
            let inputs = self.gather(&mut standing, &mut walks).await?;
            let moved = self.others(&mut standing).follow().await?;
            self.cases.rounds().end(round);
            let idle = inputs.is_empty() && !moved && !self.is_due();
            if idle {
                self.write_positions(&mut standing)?;
                self.wait(&standing, round, (&mut walks, &send), stop).await?;
                continue;
            }
            let effects = self.with_conductor(|conductor| {
                for input in inputs {
                    conductor.handle(input, shell::moment());
                }
                conductor.handle(Input::Tick, shell::moment());
            });
            self.carry_out(effects, &mut standing, &send).await?;
            self.cases.tell();
            if standing.written_at.elapsed() > POSITIONS_EVERY {
                self.write_positions(&mut standing)?;
            }
        }
        self.write_positions(&mut standing)?;
        Ok(Ended::Stopped)
    }

    /// Gives up what another process is to carry, as it stands on the log, and believes nothing of it here any more; takes what is free.
    fn change_share(&mut self) -> Result<bool, Error> {
        let leaving = self.share.leaving()?;
        self.cases.look().leave(&leaving);
        self.share.change()
    }

    fn with_conductor(&self, act: impl FnOnce(&mut Conductor)) -> Vec<Effect> {
        let mut conductor = self.cases.look();
        let before: BTreeSet<CaseId> = conductor.damaged().map(lethe_conductor::Error::case).collect();
        conductor.know_copies(self.cluster.copies());
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

    /// Becomes the writer of the histories that are carried here, then reads all: nobody else can add to those any more. Meanwhile others see what
    /// was known before.
    async fn take_over(&mut self) -> Result<Standing, Error> {
        let mut epochs = BTreeMap::new();
        for partition in self.share.carried() {
            let at = Place::new(Stream::Cases, partition);
            epochs.insert(partition, self.log.acquire(&at).await?);
        }
        let worked = self.share.begin(&epochs)?;
        let inventory = self.inventory.borrow_and_update().clone();
        let carried = worked.keys().copied().collect();
        let anew = Cases::of(Conductor::new(self.config.clone(), inventory).carrying(carried));
        let mut followed = BTreeMap::new();
        for at in Place::all(&Stream::Cases) {
            let is_carried = worked.contains_key(&at.partition);
            let position = self.replay(&at, &anew, is_carried).await?;
            if !is_carried {
                followed.insert(at.partition, position);
            }
        }
        self.cases.replace(&anew);
        // Whoever carries nothing hears only what is refused from now on.
        let commands = match worked.values().map(|worked| worked.commands).min() {
            Some(commands) => commands,
            None => self.log.head(&Place::new(Stream::Commands, 0)).await?,
        };
        let answers = match worked.values().map(|worked| worked.answers).min() {
            Some(answers) => answers,
            None => self.log.head(&Place::new(Stream::Answers, 0)).await?,
        };
        Ok(Standing {
            epochs,
            written: worked.clone(),
            worked,
            followed,
            commands,
            answers,
            written_at: Instant::now(),
        })
    }

    /// Reads a history; who carries it puts away what stands there and was not appended.
    async fn replay(&self, at: &Place, cases: &Cases, is_carried: bool) -> Result<Position, Error> {
        let mut pages = Pages::new(&*self.log, at, 0);
        while let Some(mut page) = pages.next().await? {
            if is_carried {
                let strays = std::mem::take(&mut page.strays);
                let strays: Vec<_> = strays.into_iter().map(poison::of_stray).collect();
                self.intake.put_away(at, &strays).await?;
            }
            for stored in &page.entries {
                cases::fold(&self.keys, cases, stored, Fold::Beginning).await?;
            }
        }
        Ok(pages.position())
    }

    fn others<'a>(&'a self, standing: &'a mut Standing) -> Others<'a> {
        Others {
            log: &*self.log,
            keys: &self.keys,
            cases: &self.cases,
            followed: &mut standing.followed,
        }
    }

    async fn gather(
        &mut self,
        standing: &mut Standing,
        walks: &mut mpsc::Receiver<Walked>,
    ) -> Result<Vec<Input>, Error> {
        let mut walked = Vec::new();
        while let Ok((case, purpose, outcome)) = walks.try_recv() {
            walked.push(Input::Walked {
                case,
                purpose,
                outcome,
            });
        }
        // Looked at after the walks and told before them: each is judged by an inventory that is not older.
        let mut inputs = Vec::new();
        if self.inventory.has_changed().unwrap_or(false) {
            inputs.push(Input::InventoryChanged(
                self.inventory.borrow_and_update().clone(),
            ));
        }
        inputs.extend(walked);
        let (events, next) = self.read::<Command>(&Stream::Commands, standing).await?;
        standing.commands = next;
        for (position, event) in events {
            let worked = standing.worked(event.data.case());
            if worked.is_some_and(|worked| worked.commands <= position) {
                inputs.extend(self.command(event).await?);
            }
        }
        let (events, next) = self.read::<Answer>(&Stream::Answers, standing).await?;
        standing.answers = next;
        for (position, event) in events {
            match standing.worked(event.data.case()) {
                Some(worked) if worked.answers <= position => inputs.push(Input::Answer(event.data)),
                Some(_) => {}
                None => self.cases.hear(event.data),
            }
        }
        for worked in standing.worked.values_mut() {
            worked.commands = worked.commands.max(standing.commands);
            worked.answers = worked.answers.max(standing.answers);
        }
        Ok(inputs)
    }

    /// The events of a page of a queue with their positions, and where to read on. What can be no event is put away by whoever carries the first
    /// partition of the histories: all conductors read the queues, and one is enough.
    async fn read<T: Kind>(
        &self,
        stream: &Stream,
        standing: &Standing,
    ) -> Result<(Vec<(Position, Event<T>)>, Position), Error> {
        let from = match stream {
            Stream::Commands => standing.commands,
            _ => standing.answers,
        };
        let at = Place::new(stream.clone(), 0);
        let page = self.log.read(&at, from, PAGE_ENTRIES_MAX).await?;
        // A reader without a position starts where the queue starts: what was dropped before, somebody had read. Whoever carries nothing misses
        // nothing.
        if page.fell_behind && from > 0 && !standing.worked.is_empty() {
            self.check_writer()?;
            let what = "the conductor, whose position fell off the start of a queue,";
            poison::fell_off(&self.intake, (&at, from), &page, what).await?;
        }
        let next = page.next;
        let mut sorted = poison::sorted(page)?;
        let behind = match (standing.worked.get(&0), stream) {
            (Some(worked), Stream::Commands) => worked.commands,
            (Some(worked), _) => worked.answers,
            (None, _) => next,
        };
        sorted.poison.retain(|poison| poison.position >= behind);
        self.intake.put_away(&at, &sorted.poison).await?;
        Ok((sorted.events, next))
    }

    /// Refuses to go on where another process has taken over what is carried here.
    fn check_writer(&self) -> Result<(), Error> {
        if self.share.is_overtaken()? {
            return Err(effects::fenced());
        }
        Ok(())
    }

    async fn command(&self, event: CommandEvent) -> Result<Option<Input>, Error> {
        let tokens = match &event.data {
            Command::Open {
                command,
                case,
                key,
                opening,
            } => match self.given_tokens(*case, key, &opening.given) {
                Ok(tokens) => tokens,
                // It was accepted: it is read again.
                Err(error) if error.is_no_verdict() => return Err(error),
                Err(error) => {
                    tracing::error!(code = error.code(), %case, "a command cannot be opened");
                    self.check_writer()?;
                    self.settle(*command, *case, Some(CommandRefused::unopened(&error)))
                        .await?;
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

    fn given_tokens(&self, case: CaseId, key: &KeyWrapped, given: &Sealed) -> Result<Vec<Token>, Error> {
        let selectors = self.keys.open_given(case, key, given)?;
        self.walker.tokens(&selectors.identifiers)
    }

    async fn wait(
        &mut self,
        standing: &Standing,
        round: Round,
        (walks, send): (&mut mpsc::Receiver<Walked>, &mpsc::Sender<Walked>),
        stop: &mut watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let now = shell::now();
        let due = self.cases.look().next_wakeup();
        let until = due.map_or(IDLE, |at| {
            Duration::from_millis(u64::try_from(at.since(now)).unwrap_or(0)).min(IDLE)
        });
        let until = if self.share.is_to_change() {
            until.min(carrying::LOOK_EVERY)
        } else {
            until
        };
        let places = standing.places();
        let (log, share, inventory) = (&self.log, &mut self.share, &mut self.inventory);
        let grown = places.iter().map(|(at, from)| log.wait(at, *from, until));
        tokio::select! {
            (woken, _, _) = futures::future::select_all(grown) => woken?,
            walked = walks.recv() => {
                // Handed back to the queue that `gather` drains; it has just made room for one.
                if let Some(walked) = walked {
                    let _ = send.try_send(walked);
                }
            }
            () = share.changed() => {}
            _ = inventory.changed() => inventory.mark_changed(),
            () = self.cases.rounds().another_is_wanted(round) => {}
            _ = stop.changed() => {}
        }
        Ok(())
    }

    fn write_positions(&self, standing: &mut Standing) -> Result<(), Error> {
        if standing.worked != standing.written {
            self.share.write(&standing.worked)?;
            standing.written = standing.worked.clone();
        }
        *self.stands.lock().unwrap_or_else(PoisonError::into_inner) = standing.following();
        standing.written_at = Instant::now();
        Ok(())
    }
}

#[cfg(test)]
mod tests;
