//! The shell of one system's connector: follows its feed, carries its instructions out, answers.
//!
//! Instructions of a system run side by side up to the host's bound. The position in the instruction stream that is written
//! down is the lowest unanswered one, so that a crash repeats some instructions, under ids that make repeats harmless.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use lethe_intake::Intake;
use lethe_journal::{Answer, FailureCode, Found, Instruction, Place, Planned, Position, Selectors, Stream};
use lethe_kit::{Ask, Error as CallError, Host, Page, Performed, Selected, Selector};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use lethe_store::{Batch, Store};
use lethe_terms::{FailureClass, Observed, SystemName, Verb};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;

use crate::case_keys::CaseKeys;
use crate::follow_ups::FollowUps;
use crate::looks::Look;
use crate::patience::{Answering, Pauses};
use crate::poison::{PutsAway, Sorted};
use crate::receipts::Signers;
use crate::{Error, poison, publish, shell};

/// Instructions of one system that are carried out at the same time; the host has its own, lower, bound on calls.
const AT_ONCE_MAX: usize = 64;

/// Longest wait for an instruction before looking around.
const IDLE: Duration = Duration::from_secs(30);

/// The code of an instruction that would act without a logged plan.
const NOT_PLANNED: &str = "node-not-planned";

/// What is carried out for one system.
pub(crate) struct ConnectorShell {
    /// Where what can be no instruction is put.
    pub(crate) away: Arc<dyn PutsAway>,
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) answering: Arc<Answering>,
    pub(crate) keys: CaseKeys,
    pub(crate) intake: Arc<Intake>,
    pub(crate) host: Arc<Host>,
    pub(crate) signers: Arc<Signers>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) follow_ups: Arc<FollowUps>,
    pub(crate) system: SystemName,
}

fn locked(frontier: &Mutex<Frontier>) -> MutexGuard<'_, Frontier> {
    frontier.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Positions that are being worked on, and the one that is written down.
struct Frontier {
    open: BTreeSet<Position>,
    next: Position,
    written: Position,
}

impl ConnectorShell {
    /// Takes instructions until `stop`.
    pub(crate) async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let stream = Stream::Instructions(self.system.clone());
        let at = Place::new(stream.clone(), 0);
        let start = self.store.position(&stream)?;
        let frontier = Arc::new(Mutex::new(Frontier {
            open: BTreeSet::new(),
            next: start,
            written: start,
        }));
        let slots = Arc::new(Semaphore::new(AT_ONCE_MAX));
        let mut running = JoinSet::new();
        let mut from = start;
        while !*stop.borrow() {
            let page = self
                .log
                .read(&at, from, PAGE_ENTRIES_MAX.min(AT_ONCE_MAX))
                .await?;
            // A reader without a position starts where the queue starts: what was dropped before, somebody had read.
            if page.fell_behind && from > 0 {
                let what = "a connector host, whose position fell off the start of its queue,";
                poison::fell_off(&self.intake, (&at, from), &page, what).await?;
            }
            let is_void = page.entries.is_empty() && page.strays.is_empty();
            if is_void {
                // What nobody reads, such as a heartbeat, is passed all the same.
                from = page.next;
                locked(&frontier).next = from;
            }
            if is_void && page.next >= page.head {
                self.settle(&frontier)?;
                tokio::select! {
                    woken = self.log.wait(&at, from, IDLE) => woken?,
                    Some(ended) = running.join_next() => ended.map_err(|_| Error::Stopped { what: "an instruction" })??,
                    _ = stop.changed() => {}
                }
                continue;
            }
            let next = page.next;
            let Sorted { events, poison } = poison::sorted(page)?;
            // As long as the log does not take it, nothing behind it is begun.
            if !self.away.put_away(&at, &poison, &mut stop).await? {
                break;
            }
            for (position, order) in events {
                let slot = tokio::select! {
                    Ok(slot) = Arc::clone(&slots).acquire_owned() => slot,
                    // What is under way ends unanswered: the next host carries it out again, under the same ids.
                    _ = stop.wait_for(|stop| *stop) => return Ok(()),
                };
                locked(&frontier).open.insert(position);
                let (shell, frontier) = (Arc::clone(&self), Arc::clone(&frontier));
                let stop = stop.clone();
                running.spawn(async move {
                    let answered = shell.until_answered(order.data, stop).await;
                    drop(slot);
                    answered?;
                    shell.done(&frontier, position)
                });
            }
            from = next;
            locked(&frontier).next = from;
            while let Some(ended) = running.try_join_next() {
                ended.map_err(|_| Error::Stopped {
                    what: "an instruction",
                })??;
            }
        }
        Ok(())
    }

    /// Writes down where it stands once nothing is open, so that nobody takes it for behind.
    fn settle(&self, frontier: &Mutex<Frontier>) -> Result<(), Error> {
        let mut frontier = locked(frontier);
        if frontier.open.is_empty() && frontier.next > frontier.written {
            let stream = Stream::Instructions(self.system.clone());
            self.store
                .commit(&stream, frontier.written, frontier.next, &Batch::default())?;
            frontier.written = frontier.next;
        }
        Ok(())
    }

    fn done(&self, frontier: &Mutex<Frontier>, position: Position) -> Result<(), Error> {
        let mut frontier = locked(frontier);
        frontier.open.remove(&position);
        let safe = frontier.open.first().copied().unwrap_or(frontier.next);
        // Every so often, and whenever nothing is open: a repeat is harmless.
        if safe > frontier.written && (frontier.open.is_empty() || safe - frontier.written >= 64) {
            let stream = Stream::Instructions(self.system.clone());
            self.store
                .commit(&stream, frontier.written, safe, &Batch::default())?;
            frontier.written = safe;
        }
        Ok(())
    }

    /// Carries an instruction out and answers. While the log does not take the answer, the same answer is given again: what was done is not done
    /// twice.
    async fn until_answered(
        &self,
        instruction: Instruction,
        mut stop: watch::Receiver<bool>,
    ) -> Result<(), Error> {
        let (mut pauses, mut known) = (Pauses::new(), None);
        loop {
            let answered = async {
                let answer = match known.take() {
                    Some(answer) => answer,
                    None => self.carry_out(&instruction).await?,
                };
                let answer: &Answer = known.insert(answer);
                self.answer(answer.clone()).await
            };
            match answered.await {
                Err(error) if self.answering.passes(&error) && !*stop.borrow() => {
                    tracing::warn!(code = error.code(), case = %instruction.case, "an instruction is not answered yet");
                    pauses.rest(&mut stop).await;
                }
                ended => return ended,
            }
        }
    }

    async fn carry_out(&self, instruction: &Instruction) -> Result<Answer, Error> {
        let selectors = match self
            .keys
            .open_selectors(instruction.case, &instruction.selectors)
            .await
        {
            Ok(selectors) => selectors,
            Err(error) if error.is_no_verdict() => return Err(error),
            Err(error) => {
                tracing::error!(code = error.code(), case = %instruction.case, "an instruction cannot be opened");
                return Ok(failed(instruction, FailureClass::Final, error.code()));
            }
        };
        match (&instruction.planned, instruction.verb) {
            (_, Verb::Locate) => self.locate(instruction, &selectors).await,
            // Design invariant I5: nothing acts, or observes for a statement, without a plan in the ledger.
            (None, _) => Ok(failed(instruction, FailureClass::Final, NOT_PLANNED)),
            (Some(planned), Verb::Observe) => self.observe(instruction, planned, &selectors).await,
            (Some(planned), _) => self.perform(instruction, planned, &selectors).await,
        }
    }

    async fn locate(&self, instruction: &Instruction, selectors: &Selectors) -> Result<Answer, Error> {
        let selector = selector_of(selectors);
        let mut found = Found::default();
        let mut page = Page(None);
        loop {
            let located = match self.host.locate(&selector, page).await {
                Ok(located) => located,
                Err(error) => return Ok(call_failed(instruction, &error)),
            };
            let taken = match self
                .intake
                .publish_located(&self.system, &selector.identifiers, located.observations)
                .await
            {
                // A record that is there and cannot be named is none that a plan could reach.
                Err(error @ lethe_intake::Error::Oversize) => {
                    return Ok(failed(instruction, FailureClass::Final, error.code()));
                }
                taken => taken?,
            };
            // Before the answer: a search that is not answered is taken again, and finds it again.
            for finding in taken.findings {
                self.follow_ups.open(finding).await?;
            }
            let known = taken.records;
            found.records += known.len() as u64;
            found.unknown_before += known.iter().filter(|(_, was_known)| !was_known).count() as u64;
            match located.next {
                Some(next) => page = Page(Some(next)),
                None => break,
            }
        }
        let (case, id, system) = (instruction.case, instruction.id, self.system.clone());
        Ok(Answer::Located {
            case,
            instruction: id,
            system,
            found,
        })
    }

    async fn perform(
        &self,
        instruction: &Instruction,
        planned: &Planned,
        selectors: &Selectors,
    ) -> Result<Answer, Error> {
        let ask = ask_of(instruction, planned, selectors);
        let started = shell::now();
        let performed = match &instruction.ticket {
            Some(ticket) => self.host.poll(&ask, ticket).await,
            None => self.host.perform(&ask).await,
        };
        Ok(match performed {
            Ok(Performed::Done(receipt)) => {
                let signed = self.signers.receipt(
                    &self.host,
                    instruction,
                    planned,
                    &receipt,
                    started,
                    shell::now(),
                )?;
                Answer::Reported {
                    case: instruction.case,
                    instruction: instruction.id,
                    outcome: receipt.outcome,
                    records: receipt.records,
                    receipt: signed,
                }
            }
            Ok(Performed::Accepted {
                ticket,
                ask_after_ms,
                awaits,
            }) => Answer::InProgress {
                case: instruction.case,
                instruction: instruction.id,
                ticket,
                ask_after_ms,
                awaits,
            },
            Ok(Performed::Refused { code, .. }) => failed(instruction, FailureClass::Final, code),
            Err(error) => call_failed(instruction, &error),
        })
    }

    async fn observe(
        &self,
        instruction: &Instruction,
        planned: &Planned,
        selectors: &Selectors,
    ) -> Result<Answer, Error> {
        // Before the call: what is written while it is under way may have been missed.
        let looked_at = shell::now();
        let seen = match self.host.observe(&planned.dataset, &selector_of(selectors)).await {
            Ok(seen) => seen,
            Err(error) => return Ok(call_failed(instruction, &error)),
        };
        if seen.observed == Observed::Absent {
            // The connector's own feed says so, through intake, before anybody concludes anything from it.
            let records: Vec<_> = selectors.records.iter().map(|(record, _)| *record).collect();
            self.intake.gone_records(&self.system, &records).await?;
        }
        let signed = self.signers.observation(instruction, planned, &seen, looked_at)?;
        Ok(Answer::Observed {
            case: instruction.case,
            instruction: instruction.id,
            observed: seen.observed,
            records: seen.records,
            independence: seen.independence,
            observation: signed,
        })
    }

    async fn answer(&self, answer: Answer) -> Result<(), Error> {
        publish::answers(&*self.log, "/lethe/connectors", vec![answer]).await
    }
}

fn selector_of(selectors: &Selectors) -> Selector {
    Selector {
        records: selectors
            .records
            .iter()
            .map(|(_, handle)| Selected {
                handle: handle.clone(),
            })
            .collect(),
        identifiers: selectors.identifiers.clone(),
    }
}

fn ask_of(instruction: &Instruction, planned: &Planned, selectors: &Selectors) -> Ask {
    Ask {
        id: instruction.asks_about.unwrap_or(instruction.id),
        generation: (planned.generation.plan_index, planned.generation.step),
        dataset: planned.dataset.clone(),
        verb: planned.step_verb,
        selector: selector_of(selectors),
    }
}

fn failed(instruction: &Instruction, class: FailureClass, code: &str) -> Answer {
    Answer::Failed {
        case: instruction.case,
        instruction: instruction.id,
        class,
        code: FailureCode(code.to_owned()),
    }
}

fn call_failed(instruction: &Instruction, error: &CallError) -> Answer {
    let class = match error {
        CallError::Transient { .. } => FailureClass::Retryable,
        CallError::Permanent { .. } => FailureClass::Final,
        CallError::Unknown { .. } => FailureClass::Unknown,
    };
    failed(instruction, class, error.code())
}

/// How far the feed of a system is, for people and metrics.
#[derive(Default)]
pub(crate) struct FeedState {
    /// Units read and in total, over all shards.
    pub(crate) done: AtomicU64,
    pub(crate) total: AtomicU64,
    /// Records that were new or changed.
    pub(crate) records: AtomicU64,
    /// Input that is in quarantine.
    pub(crate) quarantined: AtomicU64,
    /// The last look that read every shard to its end.
    caught_up: Mutex<Option<Look>>,
    /// Before this position of `systems` every wish for a look was heard.
    wished_before: AtomicU64,
    /// Code of the last failure; nothing where the last read went well.
    pub(crate) failure: Mutex<Option<&'static str>>,
}

impl FeedState {
    pub(crate) fn failed(&self) -> Option<&'static str> {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_failure(&self, code: Option<&'static str>) {
        *self.failure.lock().unwrap_or_else(PoisonError::into_inner) = code;
    }

    pub(crate) fn took(&self, records: usize) {
        self.records
            .fetch_add(u64::try_from(records).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// Every wish for a look that stands before this position of `systems` was heard: each look that begins from now on answers it.
    pub(crate) fn hear_wishes(&self, before: Position) {
        self.wished_before.fetch_max(before, Ordering::AcqRel);
    }

    /// A look that begins now.
    pub(crate) fn look(&self) -> Look {
        Look::now(self.wished_before.load(Ordering::Acquire))
    }

    /// Every shard was read to its end by this look.
    pub(crate) fn caught_up(&self, look: Look) {
        *self.caught_up.lock().unwrap_or_else(PoisonError::into_inner) = Some(look);
        self.set_failure(None);
    }

    /// The last look that read every shard to its end.
    pub(crate) fn last_look(&self) -> Option<Look> {
        *self.caught_up.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn fell_short(&self, code: &'static str) {
        self.set_failure(Some(code));
    }
}

#[cfg(test)]
mod tests;
