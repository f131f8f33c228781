//! Evidence of this node: signed payloads, certificates, openings of commitments, and the verifier's policy.

use lethe_journal::Sealed;
use lethe_ledger::{EvidenceStore, Keys};
use lethe_proof::{Bundle, Completion, Envelope, Status, SubjectOpening, commit, verify};
use lethe_terms::{CaseId, Identifier, Timestamp};

use crate::case_keys::{CaseKeys, Drawn};
use crate::{Error, shell};

/// A day, in milliseconds.
const DAY_MS: i64 = 86_400_000;

/// From when on the days count for which something is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// From now on: it is new.
    FromNow,
    /// From then on: it was kept before. What is there stays as it is, and what has expired does not come back.
    Since(Timestamp),
}

/// Keeps evidence until it expires.
pub(crate) struct Evidence {
    pub(crate) store: EvidenceStore,
    pub(crate) controller: String,
    pub(crate) days: u32,
    pub(crate) policy: Vec<u8>,
}

impl Evidence {
    fn expires(&self, kept: Kept) -> Timestamp {
        let since = match kept {
            Kept::FromNow => shell::now(),
            Kept::Since(since) => since,
        };
        since.plus_millis(i64::from(self.days) * DAY_MS)
    }

    fn put(&self, name: &str, bytes: &[u8], kept: Kept) -> Result<(), Error> {
        let (now, expires) = (shell::now(), self.expires(kept));
        if kept != Kept::FromNow && (expires <= now || self.store.find(name, now)?.is_some()) {
            return Ok(());
        }
        Ok(self.store.put(name, bytes, expires)?)
    }

    /// The policy that verifiers need.
    pub(crate) fn policy(&self) -> Vec<u8> {
        self.policy.clone()
    }

    /// Commits to the first identifier of a person. What opens the commitment is kept apart from it, under the case's key, and under the commitment's
    /// name: a command that comes again commits anew, and only one of the two is carried out.
    pub(crate) fn commit(&self, drawn: &Drawn, identifiers: &[Identifier]) -> Result<String, Error> {
        let random: [u8; 32] = shell::random();
        let Some(first) = identifiers.first() else {
            return Ok(String::new());
        };
        let commitment = commit(&random, &self.controller, &first.name(), &first.value);
        let opening = SubjectOpening::new(&random, &self.controller, first.kind);
        let sealed = drawn.seal_opening(&commitment, &opening)?;
        let name = opening_name(drawn.case, &commitment);
        self.put(&name, sealed.as_bytes(), Kept::FromNow)?;
        Ok(commitment)
    }

    /// What opens the commitment of a case, until it expires.
    pub(crate) async fn opening(
        &self,
        keys: &CaseKeys,
        case: CaseId,
        commitment: &str,
    ) -> Result<Option<SubjectOpening>, Error> {
        match self.store.find(&opening_name(case, commitment), shell::now())? {
            Some(bytes) => {
                let sealed = Sealed::from_bytes(bytes);
                keys.open_opening(case, commitment, &sealed).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Keeps an opening for as long as the certificate that it belongs to.
    pub(crate) fn keep_opening(&self, case: CaseId, commitment: &str, kept: Kept) -> Result<(), Error> {
        let name = opening_name(case, commitment);
        if let Some(bytes) = self.store.find(&name, shell::now())? {
            self.store.put(&name, &bytes, self.expires(kept))?;
        }
        Ok(())
    }

    /// Keeps an envelope under its digest.
    pub(crate) fn keep(&self, envelope: &Envelope, kept: Kept) -> Result<(), Error> {
        let name = name_of(&envelope.digest()?);
        self.put(&name, envelope.to_text()?.as_bytes(), kept)
    }

    /// Remembers under which digest the envelope of a plan is kept.
    pub(crate) fn keep_plan(&self, plan_digest: &str, envelope: &Envelope, kept: Kept) -> Result<(), Error> {
        let name = format!("plan-{}", name_of(plan_digest));
        self.put(&name, envelope.digest()?.as_bytes(), kept)
    }

    /// The digest of a plan's envelope.
    pub(crate) fn plan_name(&self, plan_digest: &str) -> Result<Option<String>, Error> {
        let bytes = self
            .store
            .get(&format!("plan-{}", name_of(plan_digest)), shell::now())?;
        Ok(bytes.and_then(|bytes| String::from_utf8(bytes).ok()))
    }

    /// The envelope with a digest.
    pub(crate) fn envelope(&self, digest: &str) -> Result<Option<Envelope>, Error> {
        let Some(bytes) = self.store.get(&name_of(digest), shell::now())? else {
            return Ok(None);
        };
        let text = String::from_utf8(bytes).unwrap_or_default();
        Ok(Some(Envelope::from_text(&text)?))
    }

    /// Keeps a certificate file.
    pub(crate) fn keep_certificate(&self, id: &str, bundle: &Bundle, kept: Kept) -> Result<(), Error> {
        self.put(&certificate_name(id), &bundle.to_bytes()?, kept)
    }

    /// Whether nobody has to make this certificate: it is there, or has expired.
    pub(crate) fn has_had_certificate(&self, id: &str, kept: Kept) -> Result<bool, Error> {
        Ok(self.expires(kept) <= shell::now() || self.certificate(id)?.is_some())
    }

    /// A certificate file, also where the ledger is another process.
    pub(crate) fn certificate(&self, id: &str) -> Result<Option<Vec<u8>>, Error> {
        Ok(self.store.find(&certificate_name(id), shell::now())?)
    }

    /// Removes what has expired.
    pub(crate) fn sweep(&self) -> Result<usize, Error> {
        Ok(self.store.sweep(shell::now())?)
    }
}

/// Pieces of evidence, and the names of those that are not what they were: an envelope of another digest, a certificate that does not verify under
/// the keys that stand.
pub(crate) fn look(
    store: &EvidenceStore,
    policy: &[u8],
    signing: &Keys,
) -> Result<(usize, Vec<String>), Error> {
    let names: Vec<String> = store.list().into_iter().map(|(name, _)| name).collect();
    let mut damaged = Vec::new();
    for name in &names {
        // What expires meanwhile is removed by right.
        if let Some(bytes) = store.get(name, shell::now())?
            && !is_whole(name, &bytes, policy, signing)
        {
            damaged.push(name.clone());
        }
    }
    Ok((names.len(), damaged))
}

fn is_whole(name: &str, bytes: &[u8], policy: &[u8], signing: &Keys) -> bool {
    let text = || String::from_utf8_lossy(bytes);
    if name.starts_with("certificate-") {
        is_valid(bytes, policy, signing)
    } else if name.starts_with("plan-") {
        text().starts_with("sha256:")
    } else if name.starts_with("opening-") {
        // Only its case's key opens it; an empty one it never was.
        !bytes.is_empty()
    } else {
        let digest = Envelope::from_text(&text()).and_then(|envelope| envelope.digest());
        digest.is_ok_and(|digest| name_of(&digest) == *name)
    }
}

/// Whether a certificate verifies. Under the keys that stand nobody can tell it of one that speaks of a system which is configured no more.
fn is_valid(bytes: &[u8], policy: &[u8], signing: &Keys) -> bool {
    let Ok(bundle) = Bundle::from_bytes(bytes) else {
        return false;
    };
    let statement = bundle.statement.envelope;
    let Ok(said) = statement.open_statement::<Completion>(&signing.statement().public()) else {
        return false;
    };
    let is_known = |row: &lethe_proof::Row| signing.observes(&row.step.system).is_some();
    if !said.rows.iter().all(is_known) {
        return true;
    }
    let status = verify(bytes, Some(policy)).status;
    !matches!(status, Status::Invalid | Status::Malformed)
}

fn name_of(digest: &str) -> String {
    digest.replace(':', "-")
}

fn opening_name(case: CaseId, commitment: &str) -> String {
    format!("opening-{case}-{commitment}")
}

fn certificate_name(id: &str) -> String {
    format!("certificate-{id}")
}
