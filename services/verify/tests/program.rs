//! The real program on real files.
#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "../../../schemas/proof/tests/common/mod.rs"]
mod common;

use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use common::{build, keys, policy, restriction, story};
use lethe_proof::{Conclusion, SubjectOpening};
use lethe_terms::{IdentifierKind, Independence, Observed, StepState};

fn run(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_lethe-verify"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn code(arguments: &[&str], folder: &Path) -> i32 {
    run(arguments, folder).status.code().unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, bytes: &[u8]| std::fs::write(folder.path().join(name), bytes).unwrap();
    let certificate = build(story(), &keys(1)).to_bytes().unwrap();
    write("certificate", &certificate);
    write("policy", &policy(&keys(1)));
    write("other-policy", &policy(&keys(2)));
    let opening = SubjectOpening::new(&[5; 32], "acme", IdentifierKind::Email);
    write("opening", &opening.to_bytes().unwrap());
    write("given", b"# of the request\nuser_id=17\nemail=A@b.example\n");
    write("cut", &certificate[..certificate.len() - 1]);
    let mut short = story();
    short.completion.conclusion = Conclusion::NotCompleted;
    short.completion.reasons = vec!["contradicted".into()];
    short.observations[1].observed = Observed::Present;
    short.observations[1].independence = Independence::SamePath;
    short.completion.rows[1].independence = Some(Independence::SamePath);
    short.completion.rows[1].state = StepState::Failed;
    short.completion.rows[1].reason = Some("casework-contradicted".into());
    write("short", &build(short, &keys(1)).to_bytes().unwrap());
    folder
}

#[test]
fn each_exit_code_says_what_it_should() {
    let folder = folder();
    let at = folder.path();
    assert_eq!(code(&["certificate", "--policy", "policy"], at), 0);
    assert_eq!(code(&["--policy=policy", "--", "certificate"], at), 0);
    assert_eq!(code(&["certificate"], at), 2);
    assert_eq!(code(&["certificate", "--policy", "other-policy"], at), 3);
    assert_eq!(code(&["cut", "--policy", "policy"], at), 4);
    assert_eq!(code(&["certificate", "--policy", "cut"], at), 4);
    assert_eq!(code(&["missing", "--policy", "policy"], at), 4);
    assert_eq!(code(&["certificate", "--policy", "missing"], at), 4);
    assert_eq!(code(&[".", "--policy", "policy"], at), 4);
    assert_eq!(code(&["short", "--policy", "policy"], at), 5);
}

#[test]
fn a_certificate_about_somebody_else_is_invalid_for_whoever_asks_with_its_opening() {
    let folder = folder();
    let asked = |subject: &str, opening: &str| {
        let named = [
            "certificate",
            "--policy",
            "policy",
            "--subject",
            subject,
            "--opening",
            opening,
        ];
        let out = run(&named, folder.path());
        let said = [out.stdout, out.stderr].concat();
        (out.status.code().unwrap(), String::from_utf8(said).unwrap())
    };
    for subject in ["email=a@b.example", "email= A@B.example ", "@given"] {
        let (code, said) = asked(subject, "opening");
        assert!(code == 0 && said.contains("subject"), "{subject}: {said}");
        assert!(!said.contains("needs the opening"), "{said}");
    }
    let (code, said) = asked("email=b@b.example", "opening");
    assert!(code == 3 && said.contains("about somebody else"), "{said}");
    assert!(!said.contains("b@b") && !said.contains("shop"), "{said}");
    for (subject, opening, expected) in [
        ("email=a@b.example", "cut", 4),
        ("email=a@b.example", "missing", 4),
        ("@missing", "opening", 4),
        ("user_id=17", "opening", 64),
        ("a@b.example", "opening", 64),
    ] {
        let (code, said) = asked(subject, opening);
        assert_eq!(code, expected, "{subject} {opening}: {said}");
        assert!(!said.contains("a@b"), "{said}");
    }
}

#[test]
fn wrong_usage_is_64_and_talks_to_stderr_only() {
    let folder = folder();
    for wrong in [
        &[][..],
        &["certificate", "policy"],
        &["certificate", "--polcy", "policy"],
        &["certificate", "--policy"],
        &["certificate", "--policy", "policy", "--policy", "policy"],
        &["certificate", "--policy="],
        &[
            "certificate",
            "--policy",
            "policy",
            "--subject",
            "email=a@b.example",
        ],
        &["certificate", "--policy", "policy", "--opening", "opening"],
    ] {
        let out = run(wrong, folder.path());
        assert_eq!(out.status.code(), Some(64), "{wrong:?}");
        assert!(out.stdout.is_empty() && !out.stderr.is_empty(), "{wrong:?}");
    }
}

#[test]
fn the_help_fits_a_screen() {
    let folder = folder();
    let out = run(&["-h"], folder.path());
    let help = String::from_utf8(out.stdout).unwrap();
    assert_eq!(out.status.code(), Some(0));
    assert!(
        help.lines().count() <= 30 && help.lines().all(|line| line.len() <= 80),
        "{help}"
    );
}

#[test]
fn the_json_report_has_its_shape_with_and_without_a_policy() {
    let folder = folder();
    let json = |arguments: &[&str]| -> serde_json::Value {
        serde_json::from_slice(&run(arguments, folder.path()).stdout).unwrap()
    };
    let report = json(&["certificate", "--policy", "policy", "--json"]);
    assert_eq!(report["status"], "complete");
    assert!(
        report["checks"]
            .as_array()
            .unwrap()
            .iter()
            .all(|check| check["ok"] == true && check["name"].is_string())
    );
    assert_eq!(report["about"]["controller"]["id"], "acme");
    assert_eq!(report["about"]["kind"], "erasure");
    assert_eq!(report["about"]["case"], "case-0101010101010101");
    assert_eq!(report["systems"][0]["system"], "shop");
    assert_eq!(report["systems"][0]["dataset"], "account");
    assert_eq!(report["systems"][0]["outcome"], "verified");
    assert_eq!(report["systems"][0]["independence"], "separate_connection");
    assert!(!report["not_checked"].as_array().unwrap().is_empty());

    let report = json(&["certificate", "--json"]);
    assert_eq!(report["status"], "pending");
    assert_eq!(report["systems"], serde_json::json!([]));
    assert!(report.get("about").is_none(), "unsigned for all that is known");
    assert_eq!(json(&["missing", "--json"])["status"], "malformed");
}

#[test]
fn the_page_names_the_system_that_fell_short_and_how_weak_the_look_was() {
    let folder = folder();
    let page = String::from_utf8(run(&["short", "--policy", "policy"], folder.path()).stdout).unwrap();
    assert!(page.starts_with("NOT COMPLETED"), "{page}");
    let head = page.lines().nth(1).unwrap();
    assert!(
        head.starts_with("Acme GmbH (acme): erasure, Art. 17(1)")
            && head.contains(", case-0101010101010101; received 2026-"),
        "{head}"
    );
    assert!(
        head.ends_with(" UTC") && head.contains(", issued 2026-"),
        "{head}"
    );
    let line = page.lines().find(|line| line.contains("website")).unwrap();
    assert!(
        line.contains("failed") && line.contains("same path") && line.contains("casework-contradicted"),
        "{line}"
    );
    assert!(
        page.contains("hardly independent") && page.contains("Not checked"),
        "{page}"
    );
}

#[test]
fn a_file_above_the_limit_is_not_read_whole() {
    let folder = folder();
    let large = std::fs::File::create(folder.path().join("large")).unwrap();
    large.set_len(1 << 40).unwrap();
    assert_eq!(code(&["large", "--policy", "policy"], folder.path()), 4);
    assert_eq!(code(&["certificate", "--policy", "large"], folder.path()), 4);
    assert_eq!(code(&["/dev/zero", "--policy", "policy"], folder.path()), 4);
}

#[test]
fn what_is_no_regular_file_is_refused_and_never_waited_for() {
    let folder = folder();
    let pipe = folder.path().join("pipe");
    let made = Command::new("mkfifo").arg(&pipe).status().unwrap();
    assert!(made.success());
    for arguments in [
        ["pipe", "--policy", "policy"],
        ["certificate", "--policy", "pipe"],
        ["/dev/tty", "--policy", "policy"],
        ["certificate", "--policy", "/dev/zero"],
    ] {
        let mut child = Command::new(env!("CARGO_BIN_EXE_lethe-verify"))
            .args(arguments)
            .current_dir(folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let patience = Instant::now() + Duration::from_secs(10);
        while child.try_wait().unwrap().is_none() {
            if Instant::now() > patience {
                child.kill().unwrap();
                panic!("{arguments:?} is waited for");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        let out = child.wait_with_output().unwrap();
        let page = String::from_utf8(out.stdout).unwrap();
        assert_eq!(out.status.code(), Some(4), "{arguments:?}: {page}");
        assert!(page.contains("is no regular file"), "{arguments:?}: {page}");
    }
}

#[test]
fn a_report_that_was_not_written_does_not_end_well() {
    let folder = folder();
    for arguments in [
        &["certificate", "--policy", "policy"][..],
        &["certificate", "--policy", "policy", "--json"],
        &["short", "--policy", "policy"],
        &["--help"],
    ] {
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let out = Command::new(env!("CARGO_BIN_EXE_lethe-verify"))
            .args(arguments)
            .current_dir(folder.path())
            .stdout(full)
            .output()
            .unwrap();
        assert_eq!(out.status.code(), Some(2), "{arguments:?}");
        let said = String::from_utf8(out.stderr).unwrap();
        assert!(said.contains("cannot write the report"), "{said}");
    }
}

#[test]
fn copies_that_end_later_stand_on_the_page_and_in_the_report() {
    let folder = folder();
    let mut kept = story();
    kept.completion.copies = [
        ("backups of shop", "30 days"),
        ("records", "600 s after a record ended"),
    ]
    .map(|(place, gone_by)| lethe_proof::Copy {
        place: place.into(),
        gone_by: gone_by.into(),
    })
    .to_vec();
    let bytes = build(kept, &keys(1)).to_bytes().unwrap();
    std::fs::write(folder.path().join("kept"), bytes).unwrap();
    let text = |arguments: &[&str]| String::from_utf8(run(arguments, folder.path()).stdout).unwrap();

    let page = text(&["kept", "--policy", "policy"]);
    assert!(
        page.contains("Copies that end later, and when\n  - backups of shop: 30 days\n  - records: 600 s"),
        "{page}"
    );
    let report: serde_json::Value =
        serde_json::from_str(&text(&["kept", "--policy", "policy", "--json"])).unwrap();
    assert_eq!(
        report["copies"],
        serde_json::json!([
            { "place": "backups of shop", "gone_by": "30 days" },
            { "place": "records", "gone_by": "600 s after a record ended" },
        ])
    );
    for arguments in [
        &["kept", "--json"][..],
        &["kept", "--policy", "other-policy", "--json"],
    ] {
        let report: serde_json::Value = serde_json::from_str(&text(arguments)).unwrap();
        assert_eq!(
            report["copies"],
            serde_json::json!([]),
            "nothing unproven is repeated"
        );
    }
}

#[test]
fn a_restriction_does_not_say_that_copies_end() {
    let folder = folder();
    let mut kept = story();
    restriction(&mut kept);
    kept.completion.copies = vec![lethe_proof::Copy {
        place: "backups of shop".into(),
        gone_by: "30 days".into(),
    }];
    let bytes = build(kept, &keys(1)).to_bytes().unwrap();
    std::fs::write(folder.path().join("kept"), bytes).unwrap();
    let page = String::from_utf8(run(&["kept", "--policy", "policy"], folder.path()).stdout).unwrap();
    assert!(page.contains("(acme): restriction, "), "{page}");
    assert!(
        page.contains("how long they are kept\n  - backups of shop: 30 days") && !page.contains("end later"),
        "{page}"
    );
}
