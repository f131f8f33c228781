//! What comes back of an erased person opens a case (design invariant I10): recorded, told, and followed up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use lethe_casework::Case;
use lethe_intake::{Finding, Intake};
use lethe_journal::{CaseOrigin, Command, Opening, Selectors, Token};
use lethe_log::EventLog;
use lethe_terms::{CaseId, CommandId, ErasureGround, Right, SystemName};
use tokio::sync::watch;

use crate::case_keys::CaseKeys;
use crate::cases::Cases;
use crate::evidence::Evidence;
use crate::{Error, publish, shell};

/// Opens cases for findings.
pub(crate) struct FollowUps {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) keys: CaseKeys,
    pub(crate) evidence: Arc<Evidence>,
    /// The cases, where a conductor is in this process: one that it carries and that is open already is not asked for again. Of those that
    /// another carries it is not known here in time whether they will still look.
    pub(crate) cases: Option<Cases>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) asked: Asked,
    pub(crate) stopped: watch::Receiver<bool>,
}

/// What came back of whom: in a system, of a case that had erased it, with identifiers of the person.
type Returned = (SystemName, CaseId, BTreeSet<Token>);

/// Cases that were asked for and that the conductor has not opened yet.
pub(crate) type Asked = Mutex<BTreeMap<Returned, CaseId>>;

impl FollowUps {
    /// Opens the case of a finding. Its id follows from the record and the case that had erased it, so that finding it again opens nothing; and
    /// where a case is open already that will find it, there is none to open: a page of new lines would otherwise be a page of cases.
    ///
    /// # Errors
    /// [`Error::Stopped`] where the process stops meanwhile: the finding is found again.
    pub(crate) async fn open(&self, finding: Finding) -> Result<(), Error> {
        let mut stopped = self.stopped.clone();
        tokio::select! {
            biased;
            Ok(_) = stopped.wait_for(|stopped| *stopped) => Err(Error::Stopped { what: "a follow-up" }),
            opened = self.open_now(finding) => opened,
        }
    }

    async fn open_now(&self, finding: Finding) -> Result<(), Error> {
        let (case, command) = ids(&finding);
        let returned = self.returned(&finding);
        if let Some(cases) = &self.cases
            && self.is_open(cases, case, &returned)
        {
            return Ok(());
        }
        tracing::warn!(system = %finding.system, of = %finding.of, %case, "data of an erased person came back");
        let drawn = self.keys.draw(case)?;
        let commitment = self.evidence.commit(&drawn, &finding.identifiers)?;
        let selectors = Selectors {
            records: Vec::new(),
            identifiers: finding.identifiers,
        };
        let opening = Opening {
            right: Right::Erasure,
            erasure_ground: Some(ErasureGround::NotNecessary),
            restriction_ground: None,
            received_at: shell::now(),
            origin: CaseOrigin::Resurrection {
                of: finding.of,
                system: finding.system,
            },
            supersedes: None,
            given: drawn.seal_selectors(selectors)?,
            commitment,
        };
        let data = Command::Open {
            command,
            case,
            key: drawn.wrapped,
            opening,
        };
        publish::command(&*self.log, "/lethe/intake", data).await?;
        if self
            .cases
            .as_ref()
            .is_some_and(|cases| cases.look().carries(case))
        {
            self.asked
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(returned, case);
        }
        Ok(())
    }

    fn returned(&self, finding: &Finding) -> Returned {
        let tokens = finding.identifiers.iter().map(|identifier| Token {
            kind: identifier.kind,
            token: self.intake.tokens().identifier(identifier),
        });
        (finding.system.clone(), finding.of, tokens.collect())
    }

    /// Whether the finding has its case, or another is open or was asked for that looks for the same identifiers again before it ends.
    fn is_open(&self, cases: &Cases, own: CaseId, returned: &Returned) -> bool {
        let (system, of, tokens) = returned;
        let conductor = cases.look();
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        asked.retain(|_, case| conductor.carries(*case) && conductor.case(*case).is_none());
        let finds_it = |case: &Case| {
            let origin = &case.opening.origin;
            matches!(origin, CaseOrigin::Resurrection { of: known, system: place } if known == of && place == system)
                && tokens.iter().all(|token| case.tokens.contains(token))
                && conductor.carries(case.id)
                && conductor.looks_again(case)
        };
        conductor.case(own).is_some()
            || cases.are_current() && (asked.contains_key(returned) || conductor.cases().any(finds_it))
    }
}

/// Ids that follow from the finding: the record's token is keyed, so folding it with the case's id gives away nothing.
fn ids(finding: &Finding) -> (CaseId, CommandId) {
    let mut command = *finding.record.as_bytes();
    for (byte, of) in command.iter_mut().zip(finding.of.as_bytes().iter().cycle()) {
        *byte ^= of.rotate_left(3);
    }
    let mut case = [0; 8];
    for (byte, pair) in case.iter_mut().zip(command.chunks_exact(2)) {
        *byte = pair[0] ^ pair[1].rotate_left(1);
    }
    (CaseId::from_bytes(case), CommandId::from_bytes(command))
}
