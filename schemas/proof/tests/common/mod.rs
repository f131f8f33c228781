//! A small log with one case in it, built as the ledger builds it, with a hook for whoever wants to lie.
#![allow(dead_code, unreachable_pub)]

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use lethe_proof::merkle::{self, Hash};
use lethe_proof::*;
use lethe_terms::*;

/// Everybody's keys.
pub struct Keys {
    pub log: SigningKey,
    pub plan: SigningKey,
    pub statement: SigningKey,
    pub performs: SigningKey,
    pub observes: SigningKey,
}

pub const ORIGIN: &str = "acme/lethe";

pub fn keys(seed: u8) -> Keys {
    let key = |n: u8| SigningKey::from_bytes(&[seed.wrapping_mul(16).wrapping_add(n); 32]);
    Keys {
        log: key(1),
        plan: key(2),
        statement: key(3),
        performs: key(4),
        observes: key(5),
    }
}

pub fn policy(keys: &Keys) -> Vec<u8> {
    let log = NoteKey {
        name: ORIGIN.into(),
        key: keys.log.verifying_key(),
    };
    let pair = || (keys.performs.verifying_key(), keys.observes.verifying_key());
    let systems = BTreeMap::from([
        ("shop".parse().unwrap(), pair()),
        ("website".parse().unwrap(), pair()),
    ]);
    let policy = Policy::new(
        "acme",
        &log,
        &keys.plan.verifying_key(),
        &keys.statement.verifying_key(),
        systems,
    );
    serde_json::to_vec_pretty(&policy).unwrap()
}

pub fn time(seconds: i64) -> Timestamp {
    Timestamp::from_millis(1_795_000_000_000 + seconds * 1_000)
}

pub fn step(number: u32, system: &str, dataset: &str) -> PlanStep {
    PlanStep {
        step: number,
        system: system.parse().unwrap(),
        dataset: dataset.parse().unwrap(),
        verb: Verb::Erase,
    }
}

/// Everything that goes into a bundle, before it is signed.
pub struct Story {
    pub plan: PlanStatement,
    pub receipts: Vec<ReceiptStatement>,
    pub observations: Vec<ObservationStatement>,
    pub completion: Completion,
    /// Order in which the envelopes are logged.
    pub order: Vec<&'static str>,
    pub filler: u64,
}

// tidy: long because it is one bundle written out, and the tests change single fields of it
pub fn story() -> Story {
    let case = CaseId::from_bytes([1; 8]);
    let steps = vec![step(0, "shop", "account"), step(1, "website", "access")];
    let nonce = |n: u8| hex::encode([n; 16]);
    let plan = PlanStatement {
        schema: "lethe-plan/v1".into(),
        request_id: case,
        nonce: nonce(1),
        right: Right::Erasure,
        controller: "acme".into(),
        plan_digest: digest_of(b"plan"),
        inventory_digest: digest_of(b"inventory"),
        frozen_at: time(0),
        steps: steps.clone(),
        exceptions: vec![],
        remarks: vec![],
    };
    let receipts = steps
        .iter()
        .map(|step| ReceiptStatement {
            schema: "lethe-receipt/v1".into(),
            request_id: case,
            plan_digest: plan.plan_digest.clone(),
            step: step.clone(),
            instruction: InstructionId::from_bytes([step.step as u8; 16]),
            generation: Generation {
                plan_index: 3,
                step: step.step,
            },
            outcome: Outcome::Erased,
            records: bucket(4),
            connector: Connector {
                name: "test".into(),
                version: "1".into(),
            },
            started_at: time(10),
            finished_at: time(11),
            nonce: nonce(10 + step.step as u8),
        })
        .collect();
    let observations = steps
        .iter()
        .map(|step| ObservationStatement {
            schema: "lethe-observation/v1".into(),
            request_id: case,
            plan_digest: plan.plan_digest.clone(),
            step: step.clone(),
            instruction: InstructionId::from_bytes([100 + step.step as u8; 16]),
            observed: Observed::Absent,
            independence: Independence::SeparateConnection,
            at: time(20),
            receipt: None,
            nonce: nonce(20 + step.step as u8),
        })
        .collect();
    let rows = steps
        .iter()
        .map(|step| Row {
            step: step.clone(),
            state: StepState::Verified,
            reported: Some(Outcome::Erased),
            independence: Some(Independence::SeparateConnection),
            receipt: None,
            observation: None,
            reason: None,
        })
        .collect();
    let completion = Completion {
        schema: "lethe-completion/v1".into(),
        certificate_id: nonce(42),
        kind: Kind::Erasure,
        conclusion: Conclusion::Completed,
        controller: Party {
            id: "acme".into(),
            name: "Acme GmbH".into(),
        },
        software: Software {
            name: "lethe".into(),
            version: "0.1.0".into(),
        },
        request: RequestReference {
            request_id: case,
            received_at: time(-100),
            due_at: time(9_000),
            ground: "17-1-a".into(),
        },
        subject: Subject {
            scheme: SUBJECT_SCHEME.into(),
            commitment: commit(&[5; 32], "acme", "email", "a@b.example"),
        },
        plan: PlanReference {
            digest: plan.plan_digest.clone(),
            index: 3,
        },
        earlier: vec![],
        rows,
        exceptions: vec![],
        copies: vec![],
        limits: vec!["L1".into()],
        reasons: vec![],
        issued_at: time(30),
        nonce: nonce(43),
    };
    Story {
        plan,
        receipts,
        observations,
        completion,
        order: vec!["plan", "receipts", "observations", "statement"],
        filler: 3,
    }
}

fn filler(number: u64, key: &SigningKey) -> Leaf {
    Leaf::of(LeafKind::Plan, &Envelope::sign("other", &number, key).unwrap()).unwrap()
}

/// Signs and logs a story. Digests that the story leaves empty are filled in as an honest ledger would.
pub fn build(mut story: Story, keys: &Keys) -> Bundle {
    let plan = Envelope::sign(PlanStatement::PAYLOAD_TYPE, &story.plan, &keys.plan).unwrap();
    let receipts: Vec<_> = story
        .receipts
        .iter()
        .map(|receipt| Envelope::sign(ReceiptStatement::PAYLOAD_TYPE, receipt, &keys.performs).unwrap())
        .collect();
    for (observation, receipt) in story.observations.iter_mut().zip(&receipts) {
        if observation.receipt.is_none() {
            observation.receipt = Some(receipt.digest().unwrap());
        }
    }
    let observations: Vec<_> = story
        .observations
        .iter()
        .map(|seen| Envelope::sign(ObservationStatement::PAYLOAD_TYPE, seen, &keys.observes).unwrap())
        .collect();
    for (index, row) in story.completion.rows.iter_mut().enumerate() {
        if row.reported.is_some() && row.receipt.is_none() {
            row.receipt = receipts.get(index).map(|receipt| receipt.digest().unwrap());
        }
        if row.independence.is_some() && row.observation.is_none() {
            row.observation = observations.get(index).map(|seen| seen.digest().unwrap());
        }
    }
    let statement = Envelope::sign(Completion::PAYLOAD_TYPE, &story.completion, &keys.statement).unwrap();
    log(&story, keys, plan, receipts, observations, statement)
}

fn log(
    story: &Story,
    keys: &Keys,
    plan: Envelope,
    receipts: Vec<Envelope>,
    observations: Vec<Envelope>,
    statement: Envelope,
) -> Bundle {
    let mut leaves: Vec<Leaf> = (0..story.filler)
        .map(|number| filler(number, &keys.plan))
        .collect();
    let mut index = BTreeMap::new();
    for what in &story.order {
        let (kind, envelopes): (_, Vec<&Envelope>) = match *what {
            "plan" => (LeafKind::Plan, vec![&plan]),
            "receipts" => (LeafKind::Receipt, receipts.iter().collect()),
            "observations" => (LeafKind::Observation, observations.iter().collect()),
            _ => (LeafKind::Statement, vec![&statement]),
        };
        for envelope in envelopes {
            index.insert(envelope.digest().unwrap(), leaves.len() as u64);
            leaves.push(Leaf::of(kind, envelope).unwrap());
        }
    }
    let hashes: Vec<Hash> = leaves.iter().map(Leaf::hash).collect();
    let size = hashes.len() as u64;
    let checkpoint = Checkpoint {
        origin: ORIGIN.into(),
        size,
        root: merkle::root(hashes.as_slice(), size).unwrap(),
    };
    let note = sign_checkpoint(&checkpoint, &keys.log);
    let logged = |envelope: Envelope| {
        let at = index[&envelope.digest().unwrap()];
        let path = merkle::inclusion(hashes.as_slice(), at, size).unwrap();
        Logged {
            envelope,
            proof: Proof::new(at, &path),
        }
    };
    Bundle::new(
        logged(statement),
        logged(plan),
        receipts.into_iter().map(logged).collect(),
        observations.into_iter().map(logged).collect(),
        note,
    )
}

/// The same story about a restriction.
pub fn restriction(story: &mut Story) {
    story.plan.right = Right::Restriction;
    story.completion.kind = Kind::Restriction;
    story
        .plan
        .steps
        .iter_mut()
        .for_each(|step| step.verb = Verb::Restrict);
    story.receipts.iter_mut().for_each(|receipt| {
        receipt.step.verb = Verb::Restrict;
        receipt.outcome = Outcome::Restricted;
    });
    story.observations.iter_mut().for_each(|seen| {
        seen.step.verb = Verb::Restrict;
        seen.observed = Observed::Restricted;
    });
    story.completion.rows.iter_mut().for_each(|row| {
        row.step.verb = Verb::Restrict;
        row.reported = Some(Outcome::Restricted);
    });
}
