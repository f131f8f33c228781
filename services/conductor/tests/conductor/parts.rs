//! What the company in memory is made of.

use lethe_casework::Land;
use lethe_conductor::Config;
use lethe_journal::{DatasetRef, EnvelopeBytes, Inventory, InventoryDataset, InventorySystem, Token};
use lethe_proof::{Envelope, Signature};
use lethe_terms::{IdentifierKind, IdentifierToken, InstructionId, RecordToken, SystemName, Verb};

use crate::world::name;

pub fn config() -> Config {
    Config {
        controller_id: "controller".into(),
        controller_name: "Beispiel GmbH".into(),
        version: "0.1.0".into(),
        land: Land::Nationwide,
        suppression_days: 100,
        copies: Vec::new(),
    }
}

pub fn inventory(systems: &[&str], locates: bool) -> Inventory {
    let dataset = InventoryDataset {
        name: "people".parse().unwrap(),
        verbs: vec![Verb::Erase, Verb::Restrict, Verb::Lift, Verb::Observe],
        categories: Vec::new(),
        keeps: Vec::new(),
        after: Vec::new(),
        unproven: false,
        settle_ms: 1_000,
        lead_ms: 1_000,
    };
    let system = |text: &&str| InventorySystem {
        name: name(text),
        locates,
        locates_by: Vec::new(),
        datasets: vec![dataset.clone()],
        quarantined: 0,
        backup_days: None,
        away: false,
    };
    Inventory {
        systems: systems.iter().map(system).collect(),
        flows: Vec::new(),
    }
}

pub fn place(system: &SystemName) -> DatasetRef {
    DatasetRef {
        system: system.clone(),
        dataset: "people".parse().unwrap(),
    }
}

pub fn token(person: u8) -> Token {
    Token {
        kind: IdentifierKind::Email,
        token: IdentifierToken::from_bytes([person; 16]),
    }
}

pub fn record(person: u8, system: &SystemName) -> RecordToken {
    let mut bytes = [person; 16];
    for (byte, letter) in bytes.iter_mut().skip(1).zip(system.as_str().bytes()) {
        *byte = letter;
    }
    RecordToken::from_bytes(bytes)
}

pub fn envelope(instruction: InstructionId) -> EnvelopeBytes {
    let payload: String = instruction.to_string().chars().skip(4).collect();
    let signature = Signature {
        keyid: "test".into(),
        sig: "AAAA".into(),
    };
    let envelope = Envelope {
        payload_type: "test".into(),
        payload,
        signatures: vec![signature],
    };
    EnvelopeBytes(envelope.to_text().unwrap())
}
