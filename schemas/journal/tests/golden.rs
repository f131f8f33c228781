//! What once was written to a log is read for ever: golden entries decode and encode to the same bytes, and an older version is read by upcasting.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

use std::collections::BTreeSet;
use std::path::PathBuf;

use lethe_journal::{
    Answer, CaseEntry, CaseEvent, Command, CursorAdvanced, ErasedMark, Error, Event, InputDropped,
    InputEnded, InputRetried, InputRetryAsked, Instruction, KeyWrapped, Kind, LookAsked, PartitionOwned,
    PlaceCleared, ProcessTold, Quarantined, RecordObserved, RecordSecret, ScanAsked, SelectorsWire,
    SystemTold,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// The golden files whose name is this one or starts with it and a dash, without the line break at their end.
fn golden(name: &str) -> Vec<(String, String)> {
    let mut files: Vec<_> = std::fs::read_dir(folder())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let stem = path.file_stem()?.to_str()?.to_owned();
            let ours = stem == name || stem.strip_prefix(name)?.starts_with('-');
            ours.then(|| {
                (
                    stem,
                    std::fs::read_to_string(&path).unwrap().trim_end().to_owned(),
                )
            })
        })
        .collect();
    files.sort();
    assert!(!files.is_empty(), "no golden file of {name}");
    files
}

fn event_stays<T: Kind>(name: &str) -> usize {
    let files = golden(name);
    for (file, text) in &files {
        let event = Event::<T>::decode(text.as_bytes()).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(
            String::from_utf8(event.encode().unwrap()).unwrap(),
            *text,
            "{file}"
        );
    }
    files.len()
}

fn data_stays<T: Serialize + DeserializeOwned>(name: &str) -> usize {
    let files = golden(name);
    for (file, text) in &files {
        let data: T = serde_json::from_str(text).unwrap_or_else(|error| panic!("{file}: {error}"));
        assert_eq!(serde_json::to_string(&data).unwrap(), *text, "{file}");
    }
    files.len()
}

#[test]
fn every_golden_entry_decodes_and_encodes_to_the_same_bytes() {
    let read = [
        event_stays::<RecordObserved>("record-observed"),
        event_stays::<KeyWrapped>("key-wrapped"),
        event_stays::<CursorAdvanced>("cursor-advanced"),
        event_stays::<ErasedMark>("erased-marked"),
        event_stays::<Quarantined>("input-quarantined"),
        event_stays::<InputDropped>("input-dropped"),
        event_stays::<InputEnded>("input-ended"),
        event_stays::<InputRetryAsked>("input-retry-asked"),
        event_stays::<InputRetried>("input-retried"),
        event_stays::<PlaceCleared>("place-cleared"),
        event_stays::<CaseEntry>("case-entry"),
        event_stays::<Command>("command"),
        event_stays::<Instruction>("instruction"),
        event_stays::<Answer>("answer"),
        event_stays::<SystemTold>("system-told"),
        event_stays::<ScanAsked>("scan-asked"),
        event_stays::<LookAsked>("look-asked"),
        event_stays::<PartitionOwned>("partition-owned"),
        event_stays::<ProcessTold>("process-told"),
        data_stays::<CaseEvent>("case-event"),
        data_stays::<RecordSecret>("record-secret"),
        data_stays::<SelectorsWire>("selectors"),
    ];
    let files = std::fs::read_dir(folder()).unwrap().count();
    assert_eq!(
        read.iter().sum::<usize>(),
        files,
        "a golden file that no kind reads"
    );
}

/// Names of the variants, as the schema has them.
fn variants<T: schemars::JsonSchema>() -> BTreeSet<String> {
    let schema = schemars::schema_for!(T).to_value();
    let variants = schema["oneOf"].as_array().unwrap();
    variants
        .iter()
        .map(|variant| {
            variant["properties"]
                .as_object()
                .unwrap()
                .keys()
                .next()
                .unwrap()
                .clone()
        })
        .collect()
}

fn every_variant<T: schemars::JsonSchema>(name: &str) {
    let prefix = format!("{name}-");
    let found: BTreeSet<String> = golden(name)
        .into_iter()
        .map(|(file, _)| file.strip_prefix(&prefix).unwrap().replace('-', "_"))
        .collect();
    assert_eq!(found, variants::<T>());
}

#[test]
fn every_command_answer_and_case_event_has_a_golden_file() {
    every_variant::<Command>("command");
    every_variant::<Answer>("answer");
    every_variant::<CaseEvent>("case-event");
}

/// Version 1 had one `name`; version 2 has `names`.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Renamed {
    names: Vec<String>,
}

impl Kind for Renamed {
    const NAME: &'static str = "renamed";
    const VERSION: u32 = 2;

    fn upcast(version: u32, mut data: serde_json::Value) -> serde_json::Value {
        if version == 1
            && let Some(name) = data.as_object_mut().and_then(|fields| fields.remove("name"))
        {
            data["names"] = serde_json::json!([name]);
        }
        data
    }
}

fn renamed(kind: &str, data: &str) -> Result<Event<Renamed>, Error> {
    let text = format!(
        r#"{{"specversion":"1.0","id":"{}","source":"/lethe/intake","type":"org.lethe.{kind}","time":"2026-03-01T09:30:00.000Z","datacontenttype":"application/json","data":{data}}}"#,
        "6f".repeat(16)
    );
    Event::decode(text.as_bytes())
}

#[test]
fn an_older_version_is_read_as_the_present_one_and_written_as_it() {
    let old = renamed("renamed.v1", r#"{"name":"a"}"#).unwrap();
    let new = renamed("renamed.v2", r#"{"names":["a"]}"#).unwrap();
    assert_eq!(old, new);
    let written = String::from_utf8(old.encode().unwrap()).unwrap();
    assert!(written.contains(r#""type":"org.lethe.renamed.v2""#) && written.contains(r#"{"names":["a"]}"#));
}

#[test]
fn a_newer_version_another_type_and_data_of_the_wrong_version_are_refused() {
    let newer = Error::NewerVersion {
        expected: "renamed",
        newest: 2,
    };
    assert_eq!(renamed("renamed.v3", r#"{"names":[]}"#), Err(newer.clone()));
    assert_eq!(renamed("renamed.v0", r#"{"names":[]}"#), Err(newer.clone()));
    // A field that came without another version.
    assert_eq!(
        renamed("renamed.v2", r#"{"names":[],"more":1}"#),
        Err(newer.clone())
    );
    assert_eq!(renamed("thought.up.later.v1", "{}"), Err(newer.clone()));
    let later = |known: &str, word: &str| {
        let text = String::from_utf8(
            renamed("renamed.v2", r#"{"names":[]}"#)
                .unwrap()
                .encode()
                .unwrap(),
        )
        .unwrap();
        Event::<Renamed>::decode(text.replace(known, word).as_bytes())
    };
    assert_eq!(later("/lethe/intake", "/lethe/later"), Err(newer.clone()));
    assert_eq!(later(r#""specversion""#, r#""more":1,"specversion""#), Err(newer));
    assert_eq!(
        later("/lethe/intake", "/other").unwrap_err().code(),
        "journal-malformed"
    );
    for nobodys in [
        r#"{"x":1}"#,
        r#"{"specversion":"1.0","type":"com.example.order","x":1}"#,
    ] {
        let error = Event::<Renamed>::decode(nobodys.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "journal-malformed", "{nobodys}");
    }
    let other = Error::UnexpectedType { expected: "renamed" };
    assert_eq!(renamed("record.observed.v1", "{}"), Err(other.clone()));
    assert_eq!(renamed("renamed.v", "{}"), Err(other));
    for (kind, data) in [
        ("renamed.v2", r#"{"names":"a"}"#),
        ("renamed.v1", r#"{"other":"a"}"#),
    ] {
        assert_eq!(
            renamed(kind, data).unwrap_err().code(),
            "journal-malformed",
            "{kind}"
        );
    }
}
