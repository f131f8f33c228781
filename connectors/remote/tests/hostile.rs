//! What becomes of answers that are late, lost, forged, huge or false: the class that the contract asks for, a code with a page, and no word
//! of what was asked or answered.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use common::meddler::{Meddler, Meddling};
use common::{Program, config, python};
use lethe_kit::{Ask, Connector, Error as Failure, Page, Performed, Selected, Selector};
use lethe_remote::{Config, RemoteConnector, connect};
use lethe_terms::{Identifier, IdentifierKind, InstructionId, Verb};

/// Stands in what is asked and in what wrong answers say.
const CANARY: &str = "canary.person@lethe-check.example";

struct Way {
    folder: tempfile::TempDir,
    program: Program,
    meddler: Meddler,
    connector: RemoteConnector,
}

impl Way {
    async fn open() -> Option<Self> {
        let python = python()?;
        let folder = tempfile::tempdir().unwrap();
        let program = Program::start(&python, folder.path(), &[]);
        let meddler = Meddler::before(program.port).await;
        let config = Config {
            timeout_ms: 2_000,
            ..config(folder.path(), meddler.port)
        };
        let connector = connect("crm".parse().unwrap(), config).await.unwrap();
        Some(Self {
            folder,
            program,
            meddler,
            connector,
        })
    }

    /// How a call that reads fails, one that acts, and one that asks about an accepted instruction.
    async fn failures(&self, meddling: Meddling) -> [String; 3] {
        self.meddler.set(meddling);
        let dataset = "contacts".parse().unwrap();
        let read = self.connector.observe(&dataset, &selector()).await;
        let acted = self.connector.perform(&erase(1)).await;
        let asked = self.connector.poll(&erase(1), "t").await;
        [said(read.err()), said(acted.err()), said(asked.err())]
    }
}

fn selector() -> Selector {
    Selector {
        records: vec![Selected {
            handle: CANARY.to_owned(),
        }],
        identifiers: vec![Identifier::new(IdentifierKind::Email, CANARY)],
    }
}

fn erase(number: u8) -> Ask {
    Ask {
        id: InstructionId::from_bytes([number; 16]),
        generation: (1, u32::from(number)),
        dataset: "contacts".parse().unwrap(),
        verb: Verb::Erase,
        selector: selector(),
    }
}

/// Class and code, once it is sure that the message is clean.
fn said(failure: Option<Failure>) -> String {
    let Some(failure) = failure else {
        return "no failure".to_owned();
    };
    let text = format!("{failure} {failure:?}");
    assert!(!text.contains("canary"), "{text}");
    let class = match failure {
        Failure::Transient { .. } => "transient",
        Failure::Permanent { .. } => "permanent",
        Failure::Unknown { .. } => "unknown",
    };
    format!("{class} {}", failure.code())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_prove_to_be_the_programs_answer_says_nothing_of_what_it_did() {
    let Some(way) = Way::open().await else { return };
    use Meddling::*;
    let wrong = [
        (
            "permanent",
            "remote-signature",
            vec![BadSignature, NoSignature, TwoIds, WrongId, Stale],
        ),
        ("permanent", "remote-signature", vec![Status(404), Status(307)]),
        ("transient", "remote-signature", vec![Status(503)]),
        ("transient", "remote-no-answer", vec![HangsUp, Waits, CutsAnswers]),
        ("permanent", "remote-too-large", vec![Huge]),
        ("permanent", "remote-answer", vec![Echoes, Deep, OtherSystem]),
        ("permanent", "remote-manifest-changed", vec![OtherRevision]),
    ];
    let honest = ["no failure", "no failure", "unknown remote-cannot-tell"];
    assert_eq!(way.failures(None).await, honest);
    for (read, code, meddlings) in wrong {
        for meddling in meddlings {
            let asked = if read == "transient" { read } else { "unknown" };
            let expected = [
                format!("{read} {code}"),
                format!("unknown {code}"),
                format!("{asked} {code}"),
            ];
            assert_eq!(way.failures(meddling).await, expected, "{meddling:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signed_answers_that_cannot_be_true_are_refused() {
    let Some(way) = Way::open().await else { return };
    let false_answers = [
        // Of another call, of no call, of another type.
        r#"{"checked":{"findings":[]}}"#,
        r#"{"canary.person@lethe-check.example":{}}"#,
        r#""canary.person@lethe-check.example""#,
        r#"{"done":{"instruction":"ins-01010101010101010101010101010101","outcome":"erased","records":"canary.person@lethe-check.example"}}"#,
        r#"{"done":{"instruction":"ins-01010101010101010101010101010101","outcome":"erased","records":-1}}"#,
        // About another instruction, or none.
        r#"{"done":{"instruction":"ins-02020202020202020202020202020202","outcome":"erased","records":1}}"#,
        r#"{"accepted":{"instruction":"ins-02020202020202020202020202020202","ticket":"t","ask_after_ms":1}}"#,
        r#"{"refused":{"instruction":"ins-02020202020202020202020202020202","code":"busy"}}"#,
        r#"{"done":{"outcome":"erased","records":1}}"#,
        // Contradictions.
        r#"{"observed":{"observed":"absent","records":2,"independence":"same_path"}}"#,
        r#"{"observed":{"observed":"present","records":0,"independence":"same_path"}}"#,
        r#"{"done":{"instruction":"ins-01010101010101010101010101010101","outcome":"lifted","records":1}}"#,
        r#"{"done":{"instruction":"ins-01010101010101010101010101010101","outcome":"not_found","records":1}}"#,
        r#"{"accepted":{"instruction":"ins-01010101010101010101010101010101","ticket":"canary.person@lethe-check.example","ask_after_ms":1}}"#,
    ];
    let refused = [
        "permanent remote-answer",
        "unknown remote-answer",
        "unknown remote-answer",
    ];
    for answer in false_answers {
        assert_eq!(way.failures(Meddling::Answers(answer)).await, refused, "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_program_says_of_a_failure_is_believed_and_its_words_are_not_passed_on() {
    let Some(way) = Way::open().await else { return };
    for (class, read, acted) in [
        (
            "retryable",
            "transient remote-not-now",
            "transient remote-not-now",
        ),
        ("final", "permanent remote-cannot", "permanent remote-cannot"),
        (
            "unknown",
            "transient remote-not-now",
            "unknown remote-cannot-tell",
        ),
    ] {
        for code in ["busy", CANARY] {
            let answer = format!(r#"{{"failed":{{"class":"{class}","code":"{code}"}}}}"#);
            let failures = way.failures(Meddling::Answers(answer.leak())).await;
            assert_eq!(failures, [read, acted, acted], "{class} {code}");
        }
    }
    way.meddler.set(Meddling::Answers(
        r#"{"refused":{"instruction":"ins-02020202020202020202020202020202","code":"canary.person@lethe-check.example"}}"#,
    ));
    let Ok(Performed::Refused { code, reason }) = way.connector.perform(&erase(2)).await else {
        panic!("a refusal is none");
    };
    assert_eq!(code, "remote-refused");
    assert!(!reason.contains("canary"), "{reason}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_and_pages_that_would_lead_astray_are_refused() {
    let Some(way) = Way::open().await else { return };
    let shard = "contacts".parse().unwrap();
    let page = |observation: &str, cursor: &str| {
        let text =
            format!(r#"{{"page":{{"observations":[{observation}],"cursor":"{cursor}","more":true}}}}"#);
        Meddling::Answers(text.leak())
    };
    for (meddling, expected) in [
        (page("", "6"), "no failure"),
        // The same cursor again, for ever.
        (page("", "5"), "permanent remote-answer"),
        (
            page(r#"{"dataset":"orders","key":"1"}"#, "6"),
            "permanent remote-answer",
        ),
        (
            page(r#"{"dataset":"contacts","key":""}"#, "6"),
            "permanent remote-answer",
        ),
        (
            page(
                r#"{"dataset":"contacts","key":"1","gone":true,"identifiers":[{"kind":"email","value":"a@b"}]}"#,
                "6",
            ),
            "permanent remote-answer",
        ),
        (
            page(r#"{"dataset":"contacts","key":"1","kind":"x"}"#, "6"),
            "permanent remote-answer",
        ),
    ] {
        way.meddler.set(meddling);
        let read = way.connector.feed(&shard, Some("5"), 50).await;
        assert_eq!(said(read.err()), expected, "{meddling:?}");
    }
    let next = r#"{"located":{"observations":[],"next":"canary.person@lethe-check.example"}}"#;
    way.meddler.set(Meddling::Answers(next));
    let located = way
        .connector
        .locate(&selector(), Page(Some(format!("1:{CANARY}"))))
        .await;
    assert_eq!(said(located.err()), "permanent remote-answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_anything_was_sent_nothing_happened() {
    let Some(mut way) = Way::open().await else { return };
    let straight = connect(
        "crm".parse().unwrap(),
        config(way.folder.path(), way.program.port),
    )
    .await;
    way.program.kill();
    let failed = straight.unwrap().perform(&erase(3)).await;
    assert_eq!(said(failed.err()), "transient remote-unreachable");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_program_that_does_not_fit_its_settings_is_refused_in_words() {
    let Some(way) = Way::open().await else { return };
    let refused = async |change: fn(&mut Config)| {
        way.meddler.set(Meddling::None);
        let mut config = config(way.folder.path(), way.meddler.port);
        change(&mut config);
        let error = connect("crm".parse().unwrap(), config).await.unwrap_err();
        format!("{}: {error}", error.code())
    };
    let missing = refused(|config| config.datasets.push("orders".parse().unwrap())).await;
    assert!(
        missing.starts_with("remote-manifest: ") && missing.contains("declares no dataset orders"),
        "{missing}"
    );
    let unknown = refused(|config| config.datasets = vec!["people".parse().unwrap()]).await;
    assert!(unknown.contains("declares no dataset people"), "{unknown}");
    let other = refused(|config| config.timeout_ms = 1).await;
    assert_eq!(other, "remote-config: timeout_ms: expected 100 to 600000, not 1");
    let system = connect(
        "shop".parse().unwrap(),
        config(way.folder.path(), way.meddler.port),
    )
    .await;
    assert_eq!(
        system.unwrap_err().code(),
        "remote-answer",
        "the program is another system's"
    );
}
