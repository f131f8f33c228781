//! All cases as others in the process may see them, and the reader that keeps them where the conductor is another process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lethe_casework::Refusal;
use lethe_conductor::{Conductor, Refused};
use lethe_gateway::BackendError;
use lethe_journal::{Answer, CaseEntry, Event, FailureCode, Place, Position, RefusedAs, Stored, Stream};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use lethe_terms::{CaseId, CommandId};
use tokio::sync::watch;

use crate::case_keys::CaseKeys;
use crate::lag::Stands;
use crate::patience::{Answering, Pauses};
use crate::recent::Recent;
use crate::rounds::Rounds;
use crate::{Error, poison};

/// Settled commands that are remembered for those who wait for them.
const SETTLED_MAX: usize = 10_000;

/// Longest wait before the histories are looked at without anybody having been woken: up to when they were read is known as exactly.
pub(crate) const IDLE: Duration = Duration::from_secs(5);

/// Why a command was refused, as whoever waits for it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct CommandRefused {
    kind: RefusedAs,
    code: String,
    message: String,
}

impl From<&Refused> for CommandRefused {
    fn from(refused: &Refused) -> Self {
        let kind = match refused {
            Refused::NoSuchCase => RefusedAs::NoSuchCase,
            Refused::ByCase(Refusal::KeyReused) => RefusedAs::Invalid,
            _ => RefusedAs::Conflict,
        };
        Self {
            kind,
            code: refused.code().to_owned(),
            message: refused.to_string(),
        }
    }
}

impl CommandRefused {
    /// Of what came with a key that does not open it.
    pub(crate) fn unopened(error: &Error) -> Self {
        Self {
            kind: RefusedAs::Conflict,
            code: error.code().to_owned(),
            message: error.to_string(),
        }
    }

    /// As it travels to another process.
    pub(crate) fn answer(&self, command: CommandId, case: CaseId) -> Answer {
        Answer::Refused {
            case,
            command,
            kind: self.kind,
            code: FailureCode(self.code.clone()),
            message: self.message.clone(),
        }
    }
}

impl From<CommandRefused> for BackendError {
    fn from(refused: CommandRefused) -> Self {
        let CommandRefused { kind, code, message } = refused;
        match kind {
            RefusedAs::NoSuchCase => Self::NotFound { what: "case" },
            RefusedAs::Invalid => Self::Invalid {
                code,
                message,
                expected: "one key for one command".into(),
            },
            RefusedAs::Conflict => Self::Conflict { code, message },
        }
    }
}

/// For how long after it had read everything a conductor carries what it carried: it comes round every 5 s, and nobody takes anything over within
/// 25 s from one that hangs or is cut off from the log.
const CURRENT_MAX: Duration = Duration::from_secs(15);

/// All cases, and what became of commands.
#[derive(Clone)]
pub(crate) struct Cases {
    conductor: Arc<Mutex<Conductor>>,
    settled: Arc<Mutex<Recent<CommandId, Option<CommandRefused>, SETTLED_MAX>>>,
    changed: watch::Sender<u64>,
    rounds: Arc<Rounds>,
    /// Cases that this process had opened, and whose opening nobody had worked off in time.
    unsettled: Arc<Mutex<Recent<CaseId, (), SETTLED_MAX>>>,
}

impl Cases {
    /// Those that the conductor carries are decided on in this process, and the others are read back from the log.
    pub(crate) fn of(conductor: Conductor) -> Self {
        Self {
            conductor: Arc::new(Mutex::new(conductor)),
            settled: Arc::default(),
            changed: watch::Sender::new(0),
            rounds: Arc::new(Rounds::new()),
            unsettled: Arc::default(),
        }
    }

    /// Goes on with what was read anew from the log, in place of what was known.
    pub(crate) fn replace(&self, anew: &Self) {
        std::mem::swap(&mut *self.look(), &mut *anew.look());
    }

    /// Looks at all cases; short, since the conductor waits meanwhile.
    pub(crate) fn look(&self) -> MutexGuard<'_, Conductor> {
        self.conductor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether what is carried here is so still: a conductor that hangs or is cut off may have lost it to another process without having noticed.
    pub(crate) fn are_current(&self) -> bool {
        self.rounds.age() < CURRENT_MAX
    }

    /// Up to when the histories were read, by whoever follows or carries them here.
    pub(crate) fn rounds(&self) -> &Rounds {
        &self.rounds
    }

    /// Remembers that a command opens this case, and waits on the log.
    pub(crate) fn waits_to_be_opened(&self, case: CaseId) {
        self.unsettled().insert(case, ());
    }

    /// Whether there is a case, as the log says by now; nothing where that cannot be told within `patience`, and where a command waits that opens it.
    pub(crate) async fn is_known(&self, case: CaseId, patience: Duration) -> Option<bool> {
        let is_here = || self.look().case(case).is_some();
        let is_decided_here = || self.are_current() && self.look().carries(case);
        if is_here() {
            return Some(true);
        }
        if self.look().stopped(case).is_some() {
            return None;
        }
        let is_told = is_decided_here() || self.rounds.catch_up(patience).await;
        if is_here() {
            return Some(true);
        }
        (is_told && self.unsettled().get(&case).is_none()).then_some(false)
    }

    fn unsettled(&self) -> MutexGuard<'_, Recent<CaseId, (), SETTLED_MAX>> {
        self.unsettled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hears of every round that changed something.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Tells that something may have changed.
    pub(crate) fn tell(&self) {
        self.changed.send_modify(|round| *round += 1);
    }

    /// What became of a command, once it was carried out and stands in the case's history, or was refused.
    pub(crate) fn settled(&self, case: CaseId, command: CommandId) -> Option<Option<CommandRefused>> {
        let settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        let known = settled.get(&command).cloned();
        drop(settled);
        let conductor = self.look();
        // Who carries a case decides before it writes: there only what it settled stands on the log.
        if known.is_some() || conductor.carries(case) {
            return known;
        }
        let case = conductor.case(case)?;
        case.commands.contains(&command).then_some(None)
    }

    pub(crate) fn settle(&self, case: CaseId, command: CommandId, refused: Option<CommandRefused>) {
        self.unsettled().remove(&case);
        let mut settled = self.settled.lock().unwrap_or_else(PoisonError::into_inner);
        settled.insert(command, refused);
    }

    /// Hears of a command that another conductor refused.
    pub(crate) fn hear(&self, answer: Answer) {
        if let Answer::Refused {
            case,
            command,
            kind,
            code,
            message,
        } = answer
        {
            let code = code.0;
            self.settle(case, command, Some(CommandRefused { kind, code, message }));
        }
    }
}

/// What an entry of a history is folded for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fold {
    /// Before a conductor begins: it works out all claims at once, when every history is read.
    Beginning,
    /// Beside whoever carries the case.
    Following,
}

/// Folds one entry of a history. What cannot be read or opened, or does not fit, stops its own case and no other.
pub(crate) async fn fold(keys: &CaseKeys, cases: &Cases, stored: &Stored, how: Fold) -> Result<(), Error> {
    let Some(value) = &stored.entry.value else {
        return Ok(());
    };
    let event = match Event::<CaseEntry>::decode(value) {
        Err(error) if error.is_of_nobody() => {
            unread(cases, stored, &error);
            return Ok(());
        }
        event => event?,
    };
    let (case, number) = (event.data.case, event.data.number);
    match keys.open_event(&event.data).await {
        Ok(opened) => {
            let mut conductor = cases.look();
            let folded = match how {
                Fold::Beginning => conductor.replay(case, number, &opened, event.time),
                Fold::Following => conductor.follow(case, number, &opened, event.time),
            };
            if let Err(error) = folded {
                tracing::error!(code = error.code(), %case, "a case history does not fit together");
            }
        }
        Err(error) if error.is_no_verdict() => return Err(error),
        Err(error) => {
            tracing::error!(code = error.code(), %case, "a case history cannot be opened");
            cases.look().unreadable(case);
        }
    }
    Ok(())
}

/// What can be no entry stops the case by whose key it stands; by the key of none it is nobody's.
fn unread(cases: &Cases, stored: &Stored, error: &lethe_journal::Error) {
    let (code, position) = (error.code(), stored.position);
    let id = <[u8; 8]>::try_from(stored.entry.key.as_slice()).ok();
    let mut conductor = cases.look();
    match id
        .map(CaseId::from_bytes)
        .filter(|case| conductor.case(*case).is_some())
    {
        Some(case) => {
            tracing::error!(code, %case, position, "a case history has what can be no entry");
            conductor.unreadable(case);
        }
        None => tracing::error!(
            code,
            position,
            "what is no case's stands among the case histories"
        ),
    }
}

/// Follows the histories and the refusals that another process writes.
pub(crate) struct CaseReader {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) keys: CaseKeys,
    pub(crate) cases: Cases,
    pub(crate) answering: Arc<Answering>,
    /// Where it stands, for whoever wants to know.
    pub(crate) stands: Stands,
}

/// What came of reading on.
struct ReadOn {
    /// Whether there was anything.
    moved: bool,
    /// Whether nothing more is there.
    is_whole: bool,
}

impl CaseReader {
    /// Reads until `stop`. The first round is told once every history was read to where it ended at the start.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let answers = Place::new(Stream::Answers, 0);
        let mut positions: Vec<(Place, Position)> = Place::all(&Stream::Cases).map(|at| (at, 0)).collect();
        // Whoever waits for a command sent it after this start.
        positions.push((answers.clone(), self.log.head(&answers).await?));
        let mut pauses = Pauses::new();
        while !*stop.borrow() {
            let round = self.cases.rounds().begin();
            let (mut moved, mut is_whole) = (false, true);
            for (at, from) in &mut positions {
                match self.read(at, from).await {
                    Ok(read) => {
                        moved |= read.moved;
                        is_whole &= read.is_whole;
                    }
                    // Folding an entry again changes nothing.
                    Err(error) if self.answering.passes(&error) => {
                        is_whole = false;
                        pauses.rest(&mut stop).await;
                    }
                    Err(error) => return Err(error),
                }
            }
            if is_whole {
                self.cases.rounds().end(round);
            }
            self.stands
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone_from(&positions);
            if moved {
                continue;
            }
            self.cases.tell();
            let waits = positions
                .iter()
                .map(|(at, from)| Box::pin(self.log.wait(at, *from, IDLE)));
            tokio::select! {
                (woken, _, _) = futures::future::select_all(waits) => woken?,
                () = self.cases.rounds().another_is_wanted(round) => {}
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }

    /// Reads a page.
    async fn read(&self, at: &Place, from: &mut Position) -> Result<ReadOn, Error> {
        let page = self.log.read(at, *from, PAGE_ENTRIES_MAX).await?;
        if page.fell_behind && at.stream == Stream::Answers {
            // The conductor drops answers that it has read. Whoever misses a refusal is told that the outcome is unknown.
            tracing::warn!("answers were dropped before they were read here");
        }
        for stored in &page.entries {
            if at.stream == Stream::Answers {
                self.heard(stored)?;
            } else {
                fold(&self.keys, &self.cases, stored, Fold::Following).await?;
            }
        }
        let moved = page.next != *from;
        *from = page.next;
        Ok(ReadOn {
            moved,
            is_whole: page.next >= page.head,
        })
    }

    fn heard(&self, stored: &Stored) -> Result<(), Error> {
        if let Some(event) = poison::event_of(&Stream::Answers, stored)? {
            self.cases.hear(event.data);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use lethe_journal::Inventory;

    use super::*;
    use crate::test_world::config;

    const PATIENCE: Duration = Duration::from_secs(5);

    fn cases() -> Cases {
        let inventory = Inventory {
            systems: Vec::new(),
            flows: Vec::new(),
        };
        Cases::of(Conductor::new(config(), inventory).carrying(BTreeSet::new()))
    }

    #[test]
    fn what_was_settled_last_is_known_to_whoever_waits_however_many_were_settled_before() {
        let (cases, case) = (cases(), CaseId::from_bytes([7; 8]));
        let refused = CommandRefused {
            kind: RefusedAs::Conflict,
            code: "casework-over".into(),
            message: "the case is over".into(),
        };
        let command = |number: usize| CommandId::from_bytes((number as u128).to_be_bytes());
        // Each has a smaller id than those before.
        for number in (1..=SETTLED_MAX + 2).rev() {
            cases.settle(case, command(number), Some(refused.clone()));
        }
        let known = [1, 2, SETTLED_MAX].map(|number| cases.settled(case, command(number)));
        assert_eq!(known, [(); 3].map(|()| Some(Some(refused.clone()))));
        assert_eq!(
            cases.settled(case, command(SETTLED_MAX + 1)),
            None,
            "it is bounded"
        );
    }

    #[tokio::test]
    async fn a_case_whose_opening_waits_on_the_log_is_not_said_to_be_nowhere() {
        let cases = cases();
        let (case, command) = (CaseId::from_bytes([7; 8]), CommandId::from_bytes([7; 16]));
        let reading = async {
            loop {
                let round = cases.rounds().begin();
                cases.rounds().end(round);
                cases.rounds().another_is_wanted(round).await;
            }
        };
        let asking = async {
            assert_eq!(cases.is_known(case, PATIENCE).await, Some(false));
            cases.waits_to_be_opened(case);
            assert_eq!(cases.is_known(case, PATIENCE).await, None);
            cases.settle(case, command, None);
            assert_eq!(cases.is_known(case, PATIENCE).await, Some(false));
        };
        tokio::select! {
            () = reading => {}
            () = asking => {}
        }
    }
}
