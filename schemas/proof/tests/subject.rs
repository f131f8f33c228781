//! Whom a certificate is about: what opens the commitment, and for whom it does not.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, missing_docs)]

mod common;

use common::{build, keys, policy, story};
use lethe_proof::*;
use lethe_terms::{Identifier, IdentifierKind};

#[test]
fn a_certificate_is_about_whom_its_opening_and_the_identifier_say_and_about_nobody_else() {
    let file = build(story(), &keys(1)).to_bytes().unwrap();
    let policy = policy(&keys(1));
    let opening =
        |random: u8, controller: &str| SubjectOpening::new(&[random; 32], controller, IdentifierKind::Email);
    let judge = |opening: &SubjectOpening, kind, value: &str| {
        verify_subject(&file, Some(&policy), opening, &[Identifier::new(kind, value)])
    };
    let report = judge(&opening(5, "acme"), IdentifierKind::Email, "a@b.example");
    assert_eq!(report.status, Status::Complete, "{report:?}");
    assert!(
        report
            .checks
            .iter()
            .any(|check| check.name == "subject" && check.ok)
    );
    assert!(report.not_checked.iter().all(|text| !text.contains("opening")));

    for (opening, kind, value) in [
        (opening(5, "acme"), IdentifierKind::Email, "b@b.example"),
        (opening(6, "acme"), IdentifierKind::Email, "a@b.example"),
        (opening(5, "other"), IdentifierKind::Email, "a@b.example"),
        (opening(5, "acme"), IdentifierKind::UserId, "a@b.example"),
    ] {
        let report = judge(&opening, kind, value);
        assert_eq!(report.status, Status::Invalid, "{report:?}");
        assert!(
            report.systems.is_empty(),
            "what is about somebody else is not repeated"
        );
        assert!(!format!("{report:?}").contains("b.example"), "{report:?}");
        let said = report
            .checks
            .last()
            .and_then(|check| check.detail.as_deref())
            .unwrap();
        assert!(said.contains("opening is that of another case"), "{said}");
    }
    let nobody = verify_subject(&file, Some(&policy), &opening(5, "acme"), &[]);
    assert_eq!(nobody.status, Status::Invalid);
}

#[test]
fn an_opening_is_read_as_it_was_written_and_nothing_else_is() {
    let opening = SubjectOpening::new(&[5; 32], "acme", IdentifierKind::Email);
    let bytes = opening.to_bytes().unwrap();
    assert_eq!(SubjectOpening::from_bytes(&bytes), Ok(opening.clone()));
    assert!(!format!("{opening:?}").contains("0505"));
    let text = String::from_utf8(bytes).unwrap();
    for wrong in [
        text.replace("v1", "v2"),
        text.replace("0505", "05"),
        text.replace("\"random\"", "\"rnadom\""),
        text.replace("email", "emial"),
        text.replace('}', ""),
        " ".repeat(OPENING_BYTES_MAX + 1),
    ] {
        let error = SubjectOpening::from_bytes(wrong.as_bytes()).unwrap_err();
        assert_eq!(error.code(), "proof-malformed", "{wrong}");
        assert!(!error.to_string().contains("0505"), "{error}");
    }
}
