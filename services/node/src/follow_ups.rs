//! What comes back of an erased person opens a case (design invariant I10): recorded, told, and followed up.

use std::sync::Arc;

use lethe_intake::Finding;
use lethe_journal::{CaseOrigin, Command, Opening, Selectors};
use lethe_log::EventLog;
use lethe_terms::{CaseId, CommandId, ErasureGround, Right};

use crate::case_keys::CaseKeys;
use crate::cases::Cases;
use crate::evidence::Evidence;
use crate::{Error, publish, shell};

/// Opens cases for findings.
pub(crate) struct FollowUps {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) keys: CaseKeys,
    pub(crate) evidence: Arc<Evidence>,
    /// The cases, where the conductor is this process: one that is open already is not asked for again. Elsewhere the conductor sees to that.
    pub(crate) cases: Option<Cases>,
}

impl FollowUps {
    /// Opens the case of a finding. Its id follows from the record and the case that had erased it, so that finding it again opens nothing.
    pub(crate) async fn open(&self, finding: Finding) -> Result<(), Error> {
        let (case, command) = ids(&finding);
        let is_open = |cases: &Cases| cases.look().case(case).is_some();
        if self.cases.as_ref().is_some_and(is_open) {
            return Ok(());
        }
        tracing::warn!(system = %finding.system, of = %finding.of, %case, "data of an erased person came back");
        self.keys.create(case).await?;
        let commitment = self
            .evidence
            .commit(&self.keys, case, &finding.identifiers)
            .await?;
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
            given: self.keys.seal_selectors(case, selectors).await?,
            commitment,
        };
        let data = Command::Open {
            command,
            case,
            opening,
        };
        publish::command(&*self.log, "/lethe/intake", data).await
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
