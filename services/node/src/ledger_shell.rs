//! The shell of the ledger: reads case histories, signs and sequences what they ask for, and answers.
//!
//! A leaf is appended to the `leaves` stream, read back, put into the tree, and only then covered by a signed head. Repeating an entry finds its leaf
//! in the tree and answers again, which changes nothing. Each start compares the whole stream with the tree, and whatever is read later is compared too: nothing is
//! signed that the log does not have.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use lethe_journal::{
    Answer, CaseEntry, CaseEvent, Entry, Epoch, Event, LeafKind as Asked, Place, Position, Stored, Stream,
    partition_of,
};
use lethe_ledger::{Keys, Ledger, Start};
use lethe_log::{Appended, EventLog, PAGE_ENTRIES_MAX, Page, Pages};
use lethe_proof::{
    Bundle, Completion, Envelope, Leaf, LeafKind, Logged, PlanStatement, Statement, open_checkpoint,
    parse_canonical,
};
use lethe_store::{Batch, Store};
use lethe_terms::{CaseId, Timestamp};
use tokio::sync::watch;

use crate::case_keys::CaseKeys;
use crate::evidence::{Evidence, Kept};
use crate::lag::Stands;
use crate::log::Log;
use crate::patience::{Answering, Pauses};
use crate::server::{Folders, positions};
use crate::{Error, publish, shell};

/// Longest wait before the ledger looks around without having been woken.
const IDLE: Duration = Duration::from_secs(30);

/// How often a process that stands by looks whether the ledger is free.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The ledger of this process.
pub(crate) struct LedgerShell {
    log: Arc<dyn EventLog>,
    answering: Arc<Answering>,
    keys: CaseKeys,
    evidence: Arc<Evidence>,
    ledger: Ledger,
    signing: Arc<Keys>,
    /// How far each history is worked off: beside the ledger, so that whoever takes it over goes on there.
    store: Arc<dyn Store>,
    /// The same for whoever watches over readers.
    stands: Stands,
    compared: Compared,
}

/// How far the `leaves` stream was compared with the tree since this process took the ledger.
#[derive(Debug, Default, Clone, Copy)]
struct Compared {
    /// Where the stream goes on.
    next: Position,
    /// Leaves of the tree that the stream has before that.
    alike: u64,
}

/// A process that may write the ledger, and does as soon as nobody else does.
pub(crate) struct Candidate {
    pub(crate) log: Log,
    /// The log as the roles see it.
    pub(crate) port: Arc<dyn EventLog>,
    pub(crate) answering: Arc<Answering>,
    pub(crate) keys: CaseKeys,
    pub(crate) evidence: Arc<Evidence>,
    pub(crate) signing: Arc<Keys>,
    /// Where the ledger stands in the histories while this process writes it: who stands by reads nothing, and is not behind.
    pub(crate) stands: Stands,
    pub(crate) folders: Folders,
    /// Name of the log in checkpoints.
    pub(crate) origin: String,
    /// Whether it may stand by while another process writes the ledger.
    pub(crate) stands_by: bool,
    /// Whether it writes the ledger; until then it reads nothing of it.
    pub(crate) is_writer: Arc<AtomicBool>,
}

impl Candidate {
    /// Opens the ledger; nothing where another process has it.
    ///
    /// # Errors
    /// Where the ledger cannot be opened, or is in use and nobody stands by.
    pub(crate) fn open(&self, start: Start) -> Result<Option<LedgerShell>, Error> {
        let opened = Ledger::open(
            &self.folders.tree(),
            &self.folders.head(),
            &self.origin,
            self.signing.checkpoint().key(),
            start,
        );
        let ledger = match opened {
            Err(lethe_ledger::Error::InUse { .. }) if self.stands_by => return Ok(None),
            opened => opened?,
        };
        let store = positions(&self.folders, "ledger")?;
        self.is_writer.store(true, Ordering::Relaxed);
        let shell = LedgerShell {
            log: Arc::clone(&self.port),
            answering: Arc::clone(&self.answering),
            keys: self.keys.clone(),
            evidence: Arc::clone(&self.evidence),
            ledger,
            signing: Arc::clone(&self.signing),
            store,
            stands: Arc::clone(&self.stands),
            compared: Compared::default(),
        };
        shell.note_stands()?;
        Ok(Some(shell))
    }

    /// Looks whether the ledger is free. Once it holds a leaf it does not begin any more, and nothing has to be read for that.
    async fn open_again(&self, start: &mut Start) -> Result<Option<LedgerShell>, Error> {
        if *start == Start::First {
            *start = self.log.start().await?;
        }
        self.open(*start)
    }

    /// Waits for the ledger and writes it until `stop`. What was signed is remembered with the ledger and not here, so who takes over signs
    /// nothing shorter or different.
    pub(crate) async fn stand_by(self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        tracing::info!("another process writes the ledger: this one stands by");
        let mut start = Start::First;
        while !*stop.borrow() {
            match self.open_again(&mut start).await {
                Ok(Some(shell)) => {
                    tracing::info!("the ledger is free: this process writes it from now on");
                    return shell.run(stop).await;
                }
                Err(error) if !self.answering.passes(&error) => return Err(error),
                Ok(None) | Err(_) => {}
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = stop.changed() => {}
            }
        }
        Ok(())
    }
}

/// Something of a case to be sequenced.
struct Pending {
    case: CaseId,
    asked_at: Timestamp,
    /// Whether it was in the tree before: whoever has lost the positions reads all histories once more.
    was_sequenced: bool,
    envelope: Envelope,
    leaf: Leaf,
    what: What,
}

impl Pending {
    /// From when on the days count for which it is kept.
    const fn kept(&self) -> Kept {
        if self.was_sequenced {
            Kept::Since(self.asked_at)
        } else {
            Kept::FromNow
        }
    }
}

enum What {
    Plan { digest: String },
    Evidence,
    Statement(Box<Completion>),
}

impl LedgerShell {
    /// Signs and sequences until `stop`. Where an append failed, what is stored is unknown: then it becomes the writer again and reads the
    /// leaves back before it goes on.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) -> Result<(), Error> {
        let mut pauses = Pauses::new();
        loop {
            match self.keep_up(&mut stop).await {
                Err(error) if self.answering.passes(&error) && !*stop.borrow() => {
                    tracing::warn!(
                        code = error.code(),
                        error = &error as &dyn std::error::Error,
                        "the ledger begins again from the leaves"
                    );
                    pauses.rest(&mut stop).await;
                }
                ended => return ended,
            }
        }
    }

    async fn keep_up(&mut self, stop: &mut watch::Receiver<bool>) -> Result<(), Error> {
        let epoch = self.log.acquire(&leaves()).await?;
        self.follow_leaves().await?;
        while !*stop.borrow() {
            if !self.step(epoch).await? {
                self.wait(stop).await?;
            }
        }
        Ok(())
    }

    async fn wait(&self, stop: &mut watch::Receiver<bool>) -> Result<(), Error> {
        let places: Vec<_> = Place::all(&Stream::Cases).collect();
        let mut waits = Vec::new();
        for (number, at) in places.iter().enumerate() {
            let position = self.store.position(&position_of(number))?;
            waits.push(Box::pin(self.log.wait(at, position, IDLE)));
        }
        tokio::select! {
            (woken, _, _) = futures::future::select_all(waits) => woken?,
            _ = stop.changed() => {}
        }
        Ok(())
    }

    /// Reads the `leaves` stream into the tree, and compares it with what the tree has already. Where they differ the stream counts, as long as
    /// it continues what was signed: a log that lost a signed leaf stops the ledger, for what it would sign is another history.
    pub(crate) async fn follow_leaves(&mut self) -> Result<(), Error> {
        let (log, at) = (Arc::clone(&self.log), leaves());
        if log.head(&at).await? < self.compared.next {
            self.compared = Compared::default();
        }
        let Compared { next, mut alike } = self.compared;
        let mut pages = Pages::new(&*log, &at, next);
        while let Some(page) = pages.next().await? {
            let mut new = Vec::new();
            for leaf in leaves_of(&page) {
                match self.ledger.index_of(&leaf) {
                    Some(index) if index == alike => alike += 1,
                    // A leaf that comes again keeps its place.
                    Some(index) if index < alike => {}
                    None if alike == self.ledger.size() => new.push(leaf),
                    _ => return self.make_tree_anew().await,
                }
            }
            if !new.is_empty() {
                self.ledger.append(&new)?;
                alike = self.ledger.size();
            }
        }
        if alike < self.ledger.size() {
            return self.make_tree_anew().await;
        }
        self.ledger.check()?;
        self.compared = Compared {
            next: pages.position(),
            alike,
        };
        Ok(())
    }

    /// Puts what the `leaves` stream says in the place of a tree that is another, unless that breaks with what was signed.
    async fn make_tree_anew(&mut self) -> Result<(), Error> {
        let before = self.ledger.size();
        self.compared = Compared::default();
        self.ledger.rebuild(all_leaves(&*self.log).await?)?;
        tracing::warn!(
            before,
            leaves = self.ledger.size(),
            "the tree was not what the stream of leaves says, and was made anew"
        );
        Ok(())
    }

    /// Takes what waits in all histories; whether there was anything.
    async fn step(&mut self, epoch: Epoch) -> Result<bool, Error> {
        let mut pending = Vec::new();
        let mut reached: Vec<(usize, Position, Position)> = Vec::new();
        for (number, at) in Place::all(&Stream::Cases).enumerate() {
            let from = self.store.position(&position_of(number))?;
            let page = self.log.read(&at, from, PAGE_ENTRIES_MAX).await?;
            for stored in &page.entries {
                if let Some(value) = &stored.entry.value {
                    pending.extend(self.contained(value).await?);
                }
            }
            if page.next != from {
                reached.push((number, from, page.next));
            }
        }
        if reached.is_empty() {
            return Ok(false);
        }
        if !pending.is_empty() {
            let answers = self.sequence(pending, epoch).await?;
            self.answer(answers).await?;
        }
        for (number, from, to) in reached {
            self.store
                .commit(&position_of(number), from, to, &Batch::default())?;
        }
        self.note_stands()?;
        Ok(true)
    }

    fn note_stands(&self) -> Result<(), Error> {
        let mut stands = Vec::new();
        for (number, at) in Place::all(&Stream::Cases).enumerate() {
            stands.push((at, self.store.position(&position_of(number))?));
        }
        *self.stands.lock().unwrap_or_else(PoisonError::into_inner) = stands;
        Ok(())
    }

    /// What an entry asks for. A statement that cannot be read stops its own case and no other, and so does what can be no entry.
    async fn contained(&self, value: &[u8]) -> Result<Option<Pending>, Error> {
        use lethe_vault::Error::{CannotOpen, UnknownBucket};
        match self.pending(value).await {
            Err(Error::Journal(error)) if !error.is_of_nobody() => Err(Error::Journal(error)),
            Err(
                error @ (Error::Proof(_)
                | Error::NoCaseKey { .. }
                | Error::Journal(_)
                | Error::Vault(CannotOpen { .. } | UnknownBucket { .. })),
            ) => {
                tracing::error!(
                    code = error.code(),
                    error = &error as &dyn std::error::Error,
                    "a case asks for what cannot be signed"
                );
                Ok(None)
            }
            other => other,
        }
    }

    async fn pending(&self, value: &[u8]) -> Result<Option<Pending>, Error> {
        let Event {
            time, data: entry, ..
        } = Event::<CaseEntry>::decode(value)?;
        let Some(asked) = entry.leaf else { return Ok(None) };
        let event = self.keys.open_event(&entry).await?;
        let (envelope, what) = match event {
            CaseEvent::PlanFrozen {
                statement, digest, ..
            } => {
                let envelope = Envelope::sign_text::<PlanStatement>(&statement, self.signing.plan().key())?;
                (envelope, What::Plan { digest })
            }
            CaseEvent::Reported { receipt, .. } => (Envelope::from_text(&receipt.0)?, What::Evidence),
            CaseEvent::Observed { observation, .. } => (Envelope::from_text(&observation.0)?, What::Evidence),
            CaseEvent::StatementAsked { statement } => {
                let completion = parse_canonical(Completion::WHAT, statement.as_bytes())?;
                let envelope = Envelope::sign_text::<Completion>(&statement, self.signing.statement().key())?;
                (envelope, What::Statement(Box::new(completion)))
            }
            _ => return Ok(None),
        };
        let leaf = Leaf::of(kind_of(asked), &envelope)?;
        Ok(Some(Pending {
            case: entry.case,
            asked_at: time,
            was_sequenced: self.ledger.index_of(&leaf).is_some(),
            envelope,
            leaf,
            what,
        }))
    }

    async fn sequence(&mut self, pending: Vec<Pending>, epoch: Epoch) -> Result<Vec<Answer>, Error> {
        let mut new = BTreeMap::new();
        let mut entries = Vec::new();
        for one in &pending {
            self.keep(one, one.kept())?;
            let leaf = one.leaf.as_bytes().to_vec();
            if !one.was_sequenced && new.insert(leaf.clone(), ()).is_none() {
                entries.push(Entry {
                    id: shell::entry_id(),
                    key: Vec::new(),
                    value: Some(leaf),
                });
            }
        }
        if !entries.is_empty() {
            match self.log.append(&leaves(), Some(epoch), entries).await? {
                Appended::At { .. } => {}
                Appended::StaleEpoch { .. } => return Err(Error::Fenced { what: "the leaves" }),
            }
            self.follow_leaves().await?;
        }
        let head = self.ledger.sign_head()?;
        let mut answers = Vec::new();
        for one in pending {
            let mut answer = self.answer_of(&one, &head);
            if matches!(answer, Err(Error::NoEvidence)) {
                self.gather_again(one.case, one.kept()).await?;
                answer = self.answer_of(&one, &head);
            }
            match answer {
                Err(error @ Error::NoEvidence) => {
                    tracing::error!(code = error.code(), case = %one.case, "a statement cannot be put together");
                }
                answer => answers.extend(answer?),
            }
        }
        Ok(answers)
    }

    fn keep(&self, one: &Pending, kept: Kept) -> Result<(), Error> {
        self.evidence.keep(&one.envelope, kept)?;
        if let What::Plan { digest } = &one.what {
            self.evidence.keep_plan(digest, &one.envelope, kept)?;
        }
        Ok(())
    }

    /// Puts the evidence of a case back from the case's own history, which holds all of it, for as long as the certificate that it is for.
    async fn gather_again(&self, case: CaseId, kept: Kept) -> Result<(), Error> {
        let partition = partition_of(case.as_bytes(), Stream::Cases.partitions());
        let at = Place::new(Stream::Cases, partition);
        let mut pages = Pages::new(&*self.log, &at, 0);
        while let Some(page) = pages.next().await? {
            let own = page
                .entries
                .iter()
                .filter(|stored| stored.entry.key == case.as_bytes());
            for value in own.filter_map(|stored| stored.entry.value.as_ref()) {
                if let Some(one) = self.contained(value).await? {
                    self.keep(&one, kept)?;
                }
            }
        }
        Ok(())
    }

    fn answer_of(&self, one: &Pending, head: &str) -> Result<Option<Answer>, Error> {
        let index = self.ledger.index_of(&one.leaf).ok_or(Error::Stopped {
            what: "the ledger, whose leaf is missing,",
        })?;
        match &one.what {
            What::Plan { digest } => Ok(Some(Answer::PlanSequenced {
                case: one.case,
                digest: digest.clone(),
                index,
                head: head.to_owned(),
            })),
            What::Evidence => Ok(None),
            What::Statement(completion) => {
                let id = &completion.certificate_id;
                let kept = one.kept();
                if !self.evidence.has_had_certificate(id, kept)? {
                    let bundle = self.bundle(&one.envelope, completion, head)?;
                    self.evidence
                        .keep_opening(one.case, &completion.subject.commitment, kept)?;
                    self.evidence.keep_certificate(id, &bundle, kept)?;
                }
                Ok(Some(Answer::StatementIssued {
                    case: one.case,
                    certificate: completion.certificate_id.clone(),
                    index,
                }))
            }
        }
    }

    fn bundle(&self, statement: &Envelope, completion: &Completion, head: &str) -> Result<Bundle, Error> {
        let plan = self.plan_envelope(completion)?;
        let mut receipts = Vec::new();
        let mut observations = Vec::new();
        for row in &completion.rows {
            if let Some(digest) = &row.receipt {
                receipts.push(self.logged(LeafKind::Receipt, self.kept(digest)?, head)?);
            }
            if let Some(digest) = &row.observation {
                observations.push(self.logged(LeafKind::Observation, self.kept(digest)?, head)?);
            }
        }
        let plan = self.logged(LeafKind::Plan, plan, head)?;
        let statement = self.logged(LeafKind::Statement, statement.clone(), head)?;
        Ok(Bundle::new(
            statement,
            plan,
            receipts,
            observations,
            head.to_owned(),
        ))
    }

    fn kept(&self, digest: &str) -> Result<Envelope, Error> {
        self.evidence.envelope(digest)?.ok_or(Error::NoEvidence)
    }

    /// The plan that a statement is about: kept under its leaf's digest, found by the plan's digest.
    fn plan_envelope(&self, completion: &Completion) -> Result<Envelope, Error> {
        let name = self.evidence.plan_name(&completion.plan.digest)?;
        self.kept(&name.ok_or(Error::NoEvidence)?)
    }

    fn logged(&self, kind: LeafKind, envelope: Envelope, head: &str) -> Result<Logged, Error> {
        let size = open_checkpoint(head, &self.ledger.note_key())?.size;
        let leaf = Leaf::of(kind, &envelope)?;
        let index = self.ledger.index_of(&leaf).ok_or(Error::Stopped {
            what: "the ledger, whose leaf is missing,",
        })?;
        Ok(Logged {
            envelope,
            proof: self.ledger.inclusion(index, size)?,
        })
    }

    async fn answer(&self, answers: Vec<Answer>) -> Result<(), Error> {
        if answers.is_empty() {
            return Ok(());
        }
        publish::answers(&*self.log, "/lethe/ledger", answers).await
    }
}

fn leaves() -> Place {
    Place::new(Stream::Leaves, 0)
}

/// The leaves of a page of their stream; fences and heartbeats are none, nor is what has not the form of a leaf.
fn leaves_of(page: &Page) -> Vec<Leaf> {
    let leaf_of = |stored: &Stored| {
        let value = stored.entry.value.as_ref().filter(|value| !value.is_empty())?;
        let leaf = Leaf::from_bytes(value);
        if let Err(error) = &leaf {
            let (code, position) = (error.code(), stored.position);
            tracing::error!(
                code,
                position,
                "what is no leaf stands among the leaves and is passed by"
            );
        }
        leaf.ok()
    };
    page.entries.iter().filter_map(leaf_of).collect()
}

/// Every leaf of the stream, in its order.
pub(crate) async fn all_leaves(log: &dyn EventLog) -> Result<Vec<Leaf>, Error> {
    let (at, mut all) = (leaves(), Vec::new());
    let mut pages = Pages::new(log, &at, 0);
    while let Some(page) = pages.next().await? {
        all.extend(leaves_of(&page));
    }
    Ok(all)
}

/// The store keeps one position a stream, and the ledger reads several partitions of one: each has a name of its own here.
fn position_of(partition: usize) -> Stream {
    let name = format!("cases-{partition}");
    name.parse().map_or(Stream::Cases, Stream::Instructions)
}

const fn kind_of(asked: Asked) -> LeafKind {
    match asked {
        Asked::Plan => LeafKind::Plan,
        Asked::Receipt => LeafKind::Receipt,
        Asked::Observation => LeafKind::Observation,
        Asked::Statement => LeafKind::Statement,
    }
}

#[cfg(test)]
mod tests;
