//! What a connector host signs: receipts with one key, observations with another.

use std::sync::Arc;

use ed25519_dalek::SigningKey;
use lethe_journal::{EnvelopeBytes, Instruction, Planned};
use lethe_kit::{Host, Observed, Receipt};
use lethe_ledger::{KeyFile, Keys};
use lethe_proof::{
    Connector, Envelope, Generation, ObservationStatement, PlanStep, ReceiptStatement, bucket,
};
use lethe_terms::{SystemName, Timestamp};

use crate::{Error, shell};

/// Signs for the host of one system, with its two keys.
pub(crate) struct Signers {
    pub(crate) keys: Arc<Keys>,
    pub(crate) system: SystemName,
}

fn step(instruction: &Instruction, planned: &Planned) -> PlanStep {
    PlanStep {
        step: planned.generation.step,
        system: instruction.system.clone(),
        dataset: planned.dataset.clone(),
        verb: planned.step_verb,
    }
}

/// Nothing is dated before what led to it: a verifier takes that for a forgery, and the clock may have been set back.
fn dated(planned: &Planned, at: Timestamp) -> Timestamp {
    planned.not_before.map_or(at, |not_before| at.max(not_before))
}

impl Signers {
    fn key<'a>(
        &'a self,
        of: impl Fn(&'a Keys, &SystemName) -> Option<&'a KeyFile>,
    ) -> Result<&'a SigningKey, Error> {
        of(&self.keys, &self.system)
            .map(KeyFile::key)
            .ok_or(Error::Stopped {
                what: "a host without keys",
            })
    }

    /// A signed receipt.
    pub(crate) fn receipt(
        &self,
        host: &Host,
        instruction: &Instruction,
        planned: &Planned,
        receipt: &Receipt,
        started_at: Timestamp,
        finished_at: Timestamp,
    ) -> Result<EnvelopeBytes, Error> {
        let manifest = host.manifest();
        let statement = ReceiptStatement {
            schema: "lethe-receipt/v1".into(),
            request_id: instruction.case,
            plan_digest: planned.digest.clone(),
            step: step(instruction, planned),
            instruction: instruction.id,
            generation: Generation {
                plan_index: planned.generation.plan_index,
                step: planned.generation.step,
            },
            outcome: receipt.outcome,
            records: bucket(receipt.records),
            connector: Connector {
                name: manifest.kind.to_owned(),
                version: manifest.version.to_owned(),
            },
            started_at: dated(planned, started_at),
            finished_at: dated(planned, finished_at),
            nonce: hex::encode(shell::random::<16>()),
        };
        let envelope = Envelope::sign_statement(&statement, self.key(Keys::performs)?)?;
        Ok(EnvelopeBytes(envelope.to_text()?))
    }

    /// A signed observation.
    pub(crate) fn observation(
        &self,
        instruction: &Instruction,
        planned: &Planned,
        seen: &Observed,
        at: Timestamp,
    ) -> Result<EnvelopeBytes, Error> {
        let statement = ObservationStatement {
            schema: "lethe-observation/v1".into(),
            request_id: instruction.case,
            plan_digest: planned.digest.clone(),
            step: step(instruction, planned),
            instruction: instruction.id,
            observed: seen.observed,
            independence: seen.independence,
            at: dated(planned, at),
            receipt: planned.receipt.clone(),
            nonce: hex::encode(shell::random::<16>()),
        };
        let envelope = Envelope::sign_statement(&statement, self.key(Keys::observes)?)?;
        Ok(EnvelopeBytes(envelope.to_text()?))
    }
}
