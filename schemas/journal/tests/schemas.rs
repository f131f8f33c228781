//! `schemas/json` says what stands on the log and in the proof. `UPDATE_SCHEMAS=1 cargo test -p lethe-journal --test schemas` writes it.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeSet;
use std::path::PathBuf;

use lethe_journal::{
    Answer, CaseEntry, CaseEvent, Command, CursorAdvanced, ErasedMark, InputDropped, InputEnded,
    InputRetried, InputRetryAsked, Instruction, Inventory, KeyWrapped, LookAsked, PartitionOwned,
    PlaceCleared, Plan, ProcessTold, Quarantined, RecordObserved, ScanAsked, SystemTold,
};
use schemars::{Schema, schema_for};

/// Written and compared by the tests of other crates: the gateway's, those of what is exchanged with programs outside, and of remote connectors.
const OTHERS: [&str; 7] = [
    "openapi.json",
    "published-event.json",
    "published-record.json",
    "vectors.json",
    "asyncapi.json",
    "remote-request.json",
    "remote-answer.json",
];

#[test]
fn the_schemas_of_events_and_of_the_proof_are_current() {
    let mut schemas: Vec<(String, Schema)> = [
        ("record-observed", schema_for!(RecordObserved)),
        ("key-wrapped", schema_for!(KeyWrapped)),
        ("cursor-advanced", schema_for!(CursorAdvanced)),
        ("erased-marked", schema_for!(ErasedMark)),
        ("input-quarantined", schema_for!(Quarantined)),
        ("input-dropped", schema_for!(InputDropped)),
        ("input-ended", schema_for!(InputEnded)),
        ("input-retry-asked", schema_for!(InputRetryAsked)),
        ("input-retried", schema_for!(InputRetried)),
        ("place-cleared", schema_for!(PlaceCleared)),
        ("case-entry", schema_for!(CaseEntry)),
        ("case-event", schema_for!(CaseEvent)),
        ("command", schema_for!(Command)),
        ("instruction", schema_for!(Instruction)),
        ("answer", schema_for!(Answer)),
        ("plan", schema_for!(Plan)),
        ("inventory", schema_for!(Inventory)),
        ("system-told", schema_for!(SystemTold)),
        ("scan-asked", schema_for!(ScanAsked)),
        ("look-asked", schema_for!(LookAsked)),
        ("partition-owned", schema_for!(PartitionOwned)),
        ("process-told", schema_for!(ProcessTold)),
    ]
    .into_iter()
    .map(|(name, schema)| (format!("{name}.json"), schema))
    .collect();
    schemas.extend(
        lethe_proof::schemas()
            .into_iter()
            .map(|(name, schema)| (name.to_owned(), schema)),
    );
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../json");
    let mut known: BTreeSet<String> = schemas.iter().map(|(name, _)| name.clone()).collect();
    known.extend(OTHERS.map(str::to_owned));
    for (name, schema) in schemas {
        let path = folder.join(&name);
        let text = format!("{}\n", serde_json::to_string_pretty(&schema).unwrap());
        if std::env::var_os("UPDATE_SCHEMAS").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            committed == text,
            "schemas/json/{name} is not current; UPDATE_SCHEMAS=1 writes it"
        );
    }
    for entry in std::fs::read_dir(&folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(
            known.contains(&name),
            "schemas/json/{name} belongs to nothing any more"
        );
    }
}
