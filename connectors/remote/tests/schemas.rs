//! `schemas/json` says what is asked of a remote connector and what it answers. `UPDATE_SCHEMAS=1 cargo test -p lethe-remote --test schemas` writes it.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use lethe_remote::asyncapi;
use lethe_remote::message::{AnswerMessage, RequestMessage};
use schemars::schema_for;
use serde_json::Value;

fn current(name: &str, document: &Value) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../../schemas/json")
        .join(name);
    let text = format!("{document:#}\n");
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "schemas/json/{name} is not current; UPDATE_SCHEMAS=1 writes it"
    );
}

#[test]
fn the_committed_documents_are_current() {
    current("asyncapi.json", &asyncapi());
    current("remote-request.json", &schema_for!(RequestMessage).to_value());
    current("remote-answer.json", &schema_for!(AnswerMessage).to_value());
}

/// Targets of every reference below a value.
fn references<'v>(value: &'v Value, found: &mut BTreeSet<&'v str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("$ref").and_then(Value::as_str));
            map.values().for_each(|value| references(value, found));
        }
        Value::Array(values) => values.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

#[test]
fn every_reference_of_the_asyncapi_document_leads_somewhere() {
    let document = asyncapi();
    let mut targets = BTreeSet::new();
    references(&document, &mut targets);
    assert!(targets.len() > 40, "{targets:?}");
    for target in targets {
        let place = target.strip_prefix('#').unwrap();
        assert!(document.pointer(place).is_some(), "{target} leads nowhere");
    }
}

/// The names of the variants that a schema knows.
fn variants(document: &Value, name: &str) -> BTreeSet<String> {
    let one_of = document["components"]["schemas"][name]["oneOf"]
        .as_array()
        .unwrap();
    let names = one_of
        .iter()
        .map(|variant| variant["required"][0].as_str().unwrap().to_owned());
    names.collect()
}

#[test]
fn the_asyncapi_document_has_every_call_and_every_answer() {
    let document = asyncapi();
    let mut operations: BTreeSet<String> = document["operations"]
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    assert!(operations.remove("callback"));
    let calls = variants(&document, "Call");
    let over_kafka = calls.iter().map(|call| format!("{call}_over_kafka"));
    let both_ways: BTreeSet<String> = calls.iter().cloned().chain(over_kafka).collect();
    assert_eq!(operations, both_ways);
    let answers: BTreeSet<String> = document["channels"]["answers"]["messages"]
        .as_object()
        .unwrap()
        .keys()
        .map(|name| name.trim_end_matches("_answer").to_owned())
        .collect();
    assert_eq!(answers, variants(&document, "Answer"));
}
