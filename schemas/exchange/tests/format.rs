//! The format of published events: what reads back, what is refused and how, the schemas, and the test vectors that programs in other
//! languages are held against. `UPDATE_SCHEMAS=1 cargo test -p lethe-exchange --test format` writes schemas and vectors.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_exchange::{
    EventData, EventName, EventWire, INTAKE_INFO, KEY_BYTES, Opener, PrivateKey, PublishedEvent,
    PublishedRecord, Publisher, SealedMessage, Sequence,
};
use lethe_terms::{Identifier, IdentifierKind};
use schemars::schema_for;
use serde_json::{Value, json};
use zeroize::Zeroizing;

fn bits(seed: u8) -> Zeroizing<[u8; KEY_BYTES]> {
    Zeroizing::new([seed; KEY_BYTES])
}

fn name(sequence: u64) -> EventName {
    EventName {
        system: "crm".parse().unwrap(),
        shard: "contacts".parse().unwrap(),
        sequence: Sequence(sequence),
    }
}

fn ada() -> PublishedRecord {
    PublishedRecord {
        dataset: "contacts".parse().unwrap(),
        key: "17".to_owned(),
        handle: None,
        identifiers: vec![
            Identifier::new(IdentifierKind::Email, "ada@example.org"),
            Identifier::new(IdentifierKind::ContactId, "C-17"),
        ],
        count: 1,
        gone: false,
    }
}

fn gone() -> PublishedRecord {
    PublishedRecord {
        identifiers: Vec::new(),
        gone: true,
        ..ada()
    }
}

fn current(file: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../json")
        .join(file);
    if std::env::var_os("UPDATE_SCHEMAS").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == text,
        "schemas/json/{file} is not current; UPDATE_SCHEMAS=1 writes it"
    );
}

fn pretty(value: impl serde::Serialize) -> String {
    format!("{}\n", serde_json::to_string_pretty(&value).unwrap())
}

#[test]
fn the_schemas_of_published_events_are_current() {
    current("published-event.json", &pretty(schema_for!(EventWire)));
    current("published-record.json", &pretty(schema_for!(PublishedRecord)));
}

#[test]
fn the_test_vectors_follow_from_their_keys() {
    let (intake, sender) = (PrivateKey::derive(&bits(1)), PrivateKey::derive(&bits(2)));
    let ephemeral = bits(3);
    let mut publisher = Publisher::new(intake.public(), &sender, &ephemeral).unwrap();
    let mut opener = Opener::new(INTAKE_INFO);
    let mut events = Vec::new();
    for (number, record) in [ada(), gone()].iter().enumerate() {
        let event = publisher.event(name(40 + number as u64), record).unwrap();
        let EventData::Sealed(sealed) = &event.data else {
            unreachable!("a publisher seals")
        };
        let message = SealedMessage::parse(sealed).unwrap();
        let context = event.name.context();
        let plain = opener
            .open(&intake, Some(sender.public()), &message, &context)
            .unwrap();
        assert_eq!(PublishedRecord::read(&plain).unwrap(), *record);
        events.push(json!({
            "number": number,
            "context": String::from_utf8(context).unwrap(),
            "plain": String::from_utf8(plain.to_vec()).unwrap(),
            "event": serde_json::from_slice::<Value>(&event.write().unwrap()).unwrap(),
        }));
    }
    let base64 = |bytes: &[u8]| STANDARD.encode(bytes);
    let vectors = json!({
        "about": "One session of mode auth. Keys are base64 of 32 bytes; ephemeral is the ikm of RFC 9180, 7.1.3, from which the session's own key pair follows.",
        "info": String::from_utf8(INTAKE_INFO.to_vec()).unwrap(),
        "intake": { "id": intake.public().id(), "private": base64(&*intake.to_bytes()), "public": intake.public() },
        "sender": { "id": sender.public().id(), "private": base64(&*sender.to_bytes()), "public": sender.public() },
        "ephemeral": base64(&*ephemeral),
        "events": events,
    });
    current("vectors.json", &pretty(vectors));
}

fn clear() -> Value {
    let event = PublishedEvent {
        name: name(40),
        data: EventData::Clear(ada()),
    };
    serde_json::from_slice(&event.write().unwrap()).unwrap()
}

#[test]
fn an_event_reads_back() {
    let read = PublishedEvent::read(clear().to_string().as_bytes()).unwrap();
    assert_eq!(read.name, name(40));
    assert_eq!(read.data, EventData::Clear(ada()));
    let mut timed = clear();
    timed["time"] = json!("2026-11-26T17:00:00.123456+01:00");
    assert!(PublishedEvent::read(timed.to_string().as_bytes()).is_ok());
}

#[test]
fn what_is_malformed_is_refused_with_its_place_and_without_its_value() {
    let planted = "ada@example.org";
    for (pointer, value, place) in [
        ("/specversion", json!("0.3"), "specversion"),
        ("/type", json!("org.lethe.record.published"), "type"),
        ("/source", json!(planted), "source"),
        ("/id", json!(planted), "id"),
        ("/shard", json!(planted), "shard"),
        ("/sequence", json!("40"), "sequence"),
        ("/sequence", json!("09223372036854775808"), "sequence"),
        ("/sequence", json!(40), "sequence"),
        ("/time", json!(planted), "time"),
        ("/datacontenttype", json!("text/plain"), "datacontenttype"),
        ("/data", json!(planted), "data"),
        ("/data/dataset", json!(planted), "data.dataset"),
        ("/data/key", json!(""), "data.key"),
        ("/data/handle", json!("x".repeat(5_000)), "data.handle"),
        ("/data/count", json!(-1), "data.count"),
        ("/data/identifiers", json!([]), "data.identifiers"),
        (
            "/data/identifiers/0/kind",
            json!(planted),
            "data.identifiers[0].kind",
        ),
        (
            "/data/identifiers/1/value",
            json!("x".repeat(1_025)),
            "data.identifiers[1].value",
        ),
    ] {
        let mut event = clear();
        *event.pointer_mut(pointer).unwrap_or(&mut Value::Null) = value.clone();
        if event.pointer(pointer).is_none() {
            let (parent, field) = pointer.rsplit_once('/').unwrap();
            event.pointer_mut(parent).unwrap()[field] = value;
        }
        let refused = PublishedEvent::read(event.to_string().as_bytes()).unwrap_err();
        assert_eq!(
            (refused.code, refused.place.as_str()),
            ("event-malformed", place),
            "{refused:?}"
        );
        assert!(!format!("{refused:?}").contains(planted), "{refused:?}");
    }
    for (text, code) in [
        (format!("[{planted}"), "event-malformed"),
        (
            clear().to_string().replace("\"data\"", &format!("\"{planted}\"")),
            "event-malformed",
        ),
        (
            clear().to_string().replace(".v1\"", ".v2\""),
            "event-newer-version",
        ),
        ("x".repeat(600 << 10), "event-oversize"),
    ] {
        let refused = PublishedEvent::read(text.as_bytes()).unwrap_err();
        assert_eq!(refused.code, code);
        assert!(!format!("{refused:?}").contains(planted), "{refused:?}");
    }
}

#[test]
fn debug_shows_nobody() {
    let event = PublishedEvent {
        name: name(1),
        data: EventData::Clear(ada()),
    };
    assert!(!format!("{event:?}").contains("ada"));
}
