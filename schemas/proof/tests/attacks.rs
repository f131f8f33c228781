//! The verifier against an honest certificate and against everybody who would like to have one.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, missing_docs)]

mod common;

use common::{Story, build, keys, policy, restriction, story};
use lethe_proof::*;
use lethe_terms::{Independence, Observed, Outcome, Right, StepState, Timestamp};

fn verdict(bundle: &Bundle) -> Report {
    verify(&bundle.to_bytes().unwrap(), Some(&policy(&keys(1))))
}

fn after(change: impl FnOnce(&mut Story)) -> Report {
    let mut story = story();
    change(&mut story);
    verdict(&build(story, &keys(1)))
}

fn refuses(check: &str, change: impl FnOnce(&mut Story)) {
    let report = after(change);
    assert_eq!(report.status, Status::Invalid, "{report:?}");
    assert_eq!(report.checks.last().unwrap().name, check, "{report:?}");
    assert!(
        report.systems.is_empty(),
        "an invalid certificate's rows are not repeated"
    );
}

#[test]
fn an_honest_certificate_is_complete() {
    let report = after(|_| {});
    assert_eq!(report.status, Status::Complete, "{report:?}");
    assert_eq!(report.systems.len(), 2);
    assert!(report.systems.iter().all(|row| row.outcome == "verified"));
    assert!(!report.not_checked.is_empty());
}

#[test]
fn without_a_policy_nothing_can_be_told() {
    let file = build(story(), &keys(1)).to_bytes().unwrap();
    assert_eq!(verify(&file, None).status, Status::Pending);
}

#[test]
fn another_installations_policy_refuses_it() {
    let file = build(story(), &keys(1)).to_bytes().unwrap();
    assert_eq!(verify(&file, Some(&policy(&keys(2)))).status, Status::Invalid);
}

#[test]
fn no_flipped_bit_survives() {
    let file = build(story(), &keys(1)).to_bytes().unwrap();
    let policy = policy(&keys(1));
    let survivors: Vec<_> = std::thread::scope(|scope| {
        let halves = [0, 1].map(|half| {
            let (file, policy) = (&file, &policy);
            scope.spawn(move || {
                let bits = (0..file.len() * 8).filter(|bit| bit % 2 == half);
                bits.filter(|bit| {
                    let mut flipped = file.clone();
                    flipped[bit / 8] ^= 1 << (bit % 8);
                    !matches!(
                        verify(&flipped, Some(policy)).status,
                        Status::Invalid | Status::Malformed
                    )
                })
                .collect::<Vec<_>>()
            })
        });
        halves.into_iter().flat_map(|half| half.join().unwrap()).collect()
    });
    assert!(survivors.is_empty(), "bits {survivors:?}");
}

#[test]
fn a_cut_or_longer_file_is_malformed() {
    let file = build(story(), &keys(1)).to_bytes().unwrap();
    let policy = policy(&keys(1));
    for length in 0..file.len() {
        assert_eq!(verify(&file[..length], Some(&policy)).status, Status::Malformed);
    }
    for more in [&b"\n"[..], b" ", b"{}"] {
        let longer = [&file[..], more].concat();
        assert_eq!(verify(&longer, Some(&policy)).status, Status::Malformed);
    }
}

#[test]
fn a_duplicate_key_is_malformed() {
    let text = String::from_utf8(build(story(), &keys(1)).to_bytes().unwrap()).unwrap();
    let twice = text.replacen("\"checkpoint\":", "\"checkpoint\":\"\",\"checkpoint\":", 1);
    assert_eq!(
        verify(twice.as_bytes(), Some(&policy(&keys(1)))).status,
        Status::Malformed
    );
}

#[test]
fn a_system_left_out_of_the_rows_is_noticed() {
    refuses("completeness", |story| {
        story.completion.rows.pop();
        story.receipts.pop();
        story.observations.pop();
    });
}

#[test]
fn a_row_that_the_plan_does_not_have_is_noticed() {
    refuses("completeness", |story| {
        story.plan.steps.pop();
    });
}

#[test]
fn a_plan_logged_after_the_work_is_noticed() {
    refuses("plan", |story| {
        story.order = vec!["receipts", "observations", "plan", "statement"]
    });
}

#[test]
fn what_was_remarked_on_the_plan_is_told() {
    let report = after(|story| {
        story.plan.remarks = vec![PlanRemark {
            code: "field_not_erasable".into(),
            system: Some("shop".parse().unwrap()),
            dataset: Some("orders".parse().unwrap()),
            detail: vec!["orders.total".into()],
        }];
    });
    assert_eq!(report.status, Status::Complete, "{report:?}");
    assert_eq!(report.remarks, ["shop orders: leaves in place: orders.total"]);
}

#[test]
fn a_strong_identifier_that_was_not_followed_is_an_exception() {
    let not_followed = |code: &str| {
        after(|story| {
            story.plan.remarks = vec![PlanRemark {
                code: code.into(),
                system: Some("shop".parse().unwrap()),
                dataset: Some("orders".parse().unwrap()),
                detail: vec!["email".into(), "6".into()],
            }];
        })
    };
    let report = not_followed("identifier_not_followed");
    assert_eq!(report.status, Status::CompleteWithExceptions, "{report:?}");
    assert_eq!(report.status.exit_code(), 1);
    assert!(
        report.remarks[0].contains("what hangs on it is not covered"),
        "{report:?}"
    );
    let weak = not_followed("suspicious_fan_out");
    assert_eq!(
        weak.status,
        Status::Complete,
        "a cookie of two people is left alone by rule"
    );
    assert_eq!(weak.remarks, report.remarks);
    for code in ["identifier_not_searchable", "quarantine_not_searchable"] {
        assert_eq!(not_followed(code).status, Status::CompleteWithExceptions);
    }
}

#[test]
fn earlier_plans_are_told_of_and_stand_before_the_plan() {
    let earlier = |index| PlanReference {
        digest: format!("sha256:{}", "0".repeat(64)),
        index,
    };
    let report = after(|story| story.completion.earlier = vec![earlier(1), earlier(2)]);
    assert_eq!(report.status, Status::Complete);
    let told = |remark: &&String| remark.contains("earlier plan");
    assert_eq!(report.remarks.iter().filter(told).count(), 2);
    refuses("plan", |story| {
        story.completion.earlier = vec![earlier(2), earlier(1)]
    });
    refuses("plan", |story| story.completion.earlier = vec![earlier(3)]);
}

#[test]
fn an_observation_logged_before_its_receipt_is_noticed() {
    refuses("completeness", |story| {
        story.order = vec!["plan", "observations", "receipts", "statement"]
    });
}

#[test]
fn a_receipt_of_another_case_is_noticed() {
    refuses("completeness", |story| {
        story.receipts[0].request_id = lethe_terms::CaseId::from_bytes([9; 8])
    });
}

#[test]
fn a_receipt_of_another_plan_is_noticed() {
    refuses("completeness", |story| {
        story.receipts[0].plan_digest = digest_of(b"another plan")
    });
}

#[test]
fn an_observation_of_another_receipt_is_noticed() {
    refuses("completeness", |story| {
        story.observations[0].receipt = Some(digest_of(b"another receipt"))
    });
}

#[test]
fn an_observation_that_saw_data_verifies_nothing() {
    refuses("completeness", |story| {
        story.observations[0].observed = Observed::Present
    });
    refuses("completeness", |story| {
        story.observations[0].observed = Observed::CannotTell
    });
}

#[test]
fn a_claim_of_completion_with_an_open_row_is_noticed() {
    refuses("conclusion", |story| {
        story.completion.rows[0].state = StepState::Reported;
        story.completion.rows[0].independence = None;
        story.observations.remove(0);
        story.completion.rows[1].observation = None;
        story.completion.rows.swap(0, 1);
        story.receipts.swap(0, 1);
    });
}

#[test]
fn what_is_retained_needs_a_norm_and_an_end_date() {
    let retain = |story: &mut Story| {
        story.completion.rows.swap(0, 1);
        story.receipts.swap(0, 1);
        story.observations.swap(0, 1);
        story.completion.rows[1].state = StepState::Reported;
        story.completion.rows[1].reported = Some(Outcome::Retained);
        story.completion.rows[1].independence = None;
        story.receipts[1].outcome = Outcome::Retained;
        story.observations.pop();
    };
    refuses("conclusion", retain);
    let report = after(|story| {
        retain(story);
        let exception = ExceptionRow {
            system: "shop".parse().unwrap(),
            dataset: "account".parse().unwrap(),
            norm: "17-3-b".into(),
            until: Timestamp::MAX,
        };
        story.plan.exceptions.push(exception.clone());
        story.completion.exceptions.push(exception);
    });
    assert_eq!(report.status, Status::CompleteWithExceptions, "{report:?}");
    assert!(report.systems.iter().any(|row| row.outcome == "retained"));
}

#[test]
fn the_key_that_performs_cannot_observe() {
    let mut swapped = keys(1);
    swapped.observes = swapped.performs.clone();
    let report = verdict(&build(story(), &swapped));
    assert_eq!(report.status, Status::Invalid);
    assert_eq!(report.checks.last().unwrap().name, "receipts and observations");
}

#[test]
fn a_self_made_key_signs_nothing() {
    for forge in [0_u8, 1, 2, 3, 4] {
        let mut forged = keys(1);
        let other = keys(3);
        match forge {
            0 => forged.log = other.log,
            1 => forged.plan = other.plan,
            2 => forged.statement = other.statement,
            3 => forged.performs = other.performs,
            _ => forged.observes = other.observes,
        }
        assert_eq!(
            verdict(&build(story(), &forged)).status,
            Status::Invalid,
            "{forge}"
        );
    }
}

#[test]
fn backdated_work_is_noticed() {
    refuses("completeness", |story| {
        story.receipts[0].started_at = common::time(-4_000)
    });
    refuses("completeness", |story| {
        story.observations[0].at = common::time(-4_000)
    });
}

#[test]
fn an_extra_hash_in_a_path_is_noticed() {
    let mut bundle = build(story(), &keys(1));
    let extra = bundle.plan.proof.hashes[0].clone();
    bundle.plan.proof.hashes.push(extra);
    assert_eq!(verdict(&bundle).status, Status::Invalid);
}

#[test]
fn a_receipt_that_no_row_needs_is_refused() {
    let mut bundle = build(story(), &keys(1));
    let again = bundle.receipts[0].clone();
    bundle.receipts.push(again);
    assert_eq!(verdict(&bundle).status, Status::Malformed);
    let mut bundle = build(story(), &keys(1));
    bundle.receipts.swap(0, 1);
    assert_eq!(
        verdict(&bundle).status,
        Status::Invalid,
        "one statement has one file"
    );
}

#[test]
fn weak_independence_shows_in_the_report() {
    let report = after(|story| {
        story.observations[0].independence = Independence::SamePath;
        story.completion.rows[0].independence = Some(Independence::SamePath);
    });
    assert_eq!(report.status, Status::Complete);
    assert!(
        report
            .systems
            .iter()
            .any(|row| row.independence == Some(Independence::SamePath))
    );
    assert!(
        report
            .remarks
            .iter()
            .any(|remark| remark.contains("hardly independent")),
        "{report:?}"
    );
}

#[test]
fn a_stronger_independence_than_was_observed_is_noticed() {
    refuses("completeness", |story| {
        story.completion.rows[0].independence = Some(Independence::SeparateCredential);
    });
}

#[test]
fn a_case_that_was_not_completed_says_which_system_and_why() {
    let report = after(|story| {
        story.completion.conclusion = Conclusion::NotCompleted;
        story.completion.reasons = vec!["contradicted".into()];
        story.observations[1].observed = Observed::Present;
        story.completion.rows[1].state = StepState::Failed;
        story.completion.rows[1].reason = Some("casework-contradicted".into());
    });
    assert_eq!(report.status, Status::NotCompleted, "{report:?}");
    let website = report
        .systems
        .iter()
        .find(|row| row.system.as_str() == "website")
        .unwrap();
    assert_eq!(website.reason.as_deref(), Some("casework-contradicted"));
}

#[test]
fn the_subject_opens_the_commitment_and_nobody_else_guesses_it() {
    let commitment = commit(&[5; 32], "acme", "email", "a@b.example");
    assert!(check_commitment(
        &commitment,
        &[5; 32],
        "acme",
        "email",
        "a@b.example"
    ));
    assert!(!check_commitment(
        &commitment,
        &[6; 32],
        "acme",
        "email",
        "a@b.example"
    ));
    assert!(!check_commitment(
        &commitment,
        &[5; 32],
        "acme",
        "emaila",
        "@b.example"
    ));
}

#[test]
fn what_was_to_be_restricted_and_is_gone_was_lost() {
    assert_eq!(after(restriction).status, Status::Complete);
    refuses("completeness", |story| {
        restriction(story);
        story.observations[0].observed = Observed::Absent;
    });
    refuses("completeness", |story| {
        restriction(story);
        story.observations[0].observed = Observed::Present;
    });
    let report = after(|story| {
        restriction(story);
        story.observations[0].observed = Observed::Absent;
        story.receipts[0].outcome = Outcome::NotFound;
        story.completion.rows[0].reported = Some(Outcome::NotFound);
    });
    assert_eq!(
        report.status,
        Status::Complete,
        "what was never there is not in use"
    );
}

#[test]
fn a_restriction_cannot_pass_for_an_erasure() {
    refuses("plan", |story| {
        restriction(story);
        story.completion.kind = Kind::Erasure;
    });
    refuses("plan", |story| story.plan.right = Right::Restriction);
    refuses("completeness", |story| {
        story.receipts[0].outcome = Outcome::Restricted;
        story.completion.rows[0].reported = Some(Outcome::Restricted);
    });
}

#[test]
fn a_destroyed_key_is_never_called_erased() {
    let report = after(|story| {
        story.receipts[0].outcome = Outcome::CryptoShredded;
        story.completion.rows[0].reported = Some(Outcome::CryptoShredded);
    });
    assert_eq!(report.systems[0].reported, Some(Outcome::CryptoShredded));
    assert!(
        report.remarks.iter().any(|remark| remark.contains("ciphertext")),
        "{report:?}"
    );
}

#[test]
fn what_a_system_only_says_is_shown_as_reported_and_not_as_erased() {
    let report = after(|story| {
        story.completion.conclusion = Conclusion::NotCompleted;
        story.completion.reasons = vec!["system_unreachable".into()];
        story.completion.rows[1].state = StepState::Reported;
        story.completion.rows[1].independence = None;
        story.observations.pop();
    });
    assert_eq!(report.status, Status::NotCompleted, "{report:?}");
    assert_eq!(report.systems[1].outcome, "reported");
}

#[test]
fn a_case_that_was_not_completed_has_to_say_why() {
    refuses("conclusion", |story| {
        story.completion.conclusion = Conclusion::NotCompleted
    });
    refuses("conclusion", |story| {
        story.completion.conclusion = Conclusion::NotCompleted;
        story.completion.reasons = vec!["contradicted".into()];
        story.observations[1].observed = Observed::Present;
        story.completion.rows[1].state = StepState::Failed;
    });
}

#[test]
fn free_text_and_guessable_nonces_are_malformed() {
    let wrong: [fn(&mut Story); 7] = [
        |story| story.plan.nonce = "00".into(),
        |story| story.receipts[0].nonce = String::new(),
        |story| story.receipts[0].records = "4".into(),
        |story| story.observations[0].schema = "lethe-observation/v2".into(),
        |story| story.completion.reasons = vec!["ada@example.org asked".into()],
        |story| story.completion.limits = vec!["L9".into()],
        |story| story.completion.request.ground = "because Ada asked".into(),
    ];
    for (number, change) in wrong.into_iter().enumerate() {
        assert_eq!(after(change).status, Status::Malformed, "{number}");
    }
}

#[test]
fn an_exception_that_had_ended_keeps_nothing() {
    refuses("conclusion", |story| {
        let exception = ExceptionRow {
            system: "shop".parse().unwrap(),
            dataset: "orders".parse().unwrap(),
            norm: "17-3-b".into(),
            until: common::time(29),
        };
        story.plan.exceptions.push(exception.clone());
        story.completion.exceptions.push(exception);
    });
}

#[test]
fn an_exception_that_the_plan_does_not_have_is_noticed() {
    refuses("plan", |story| {
        story.completion.exceptions.push(ExceptionRow {
            system: "shop".parse().unwrap(),
            dataset: "orders".parse().unwrap(),
            norm: "17-3-b".into(),
            until: Timestamp::MAX,
        });
    });
}

#[test]
fn a_receipt_of_one_system_cannot_stand_for_another() {
    refuses("completeness", |story| {
        story.receipts.swap(0, 1);
        story.observations.swap(0, 1);
    });
}

#[test]
fn a_stale_generation_is_noticed() {
    refuses("completeness", |story| {
        story.receipts[0].generation.plan_index = 2
    });
    refuses("plan", |story| story.completion.plan.index = 2);
}

#[test]
fn a_policy_with_one_key_in_two_roles_or_one_system_twice_is_malformed() {
    let file = build(story(), &keys(1)).to_bytes().unwrap();
    for role in 0..4 {
        let mut mixed = keys(1);
        match role {
            0 => mixed.observes = mixed.performs.clone(),
            1 => mixed.plan = mixed.statement.clone(),
            2 => mixed.log = mixed.plan.clone(),
            _ => mixed.performs = mixed.statement.clone(),
        }
        assert_eq!(
            verify(&file, Some(&policy(&mixed))).status,
            Status::Malformed,
            "{role}"
        );
    }
    let text = String::from_utf8(policy(&keys(1))).unwrap();
    let twice = text.replace("\"website\"", "\"shop\"");
    assert_eq!(verify(&file, Some(twice.as_bytes())).status, Status::Malformed);
}

#[test]
fn a_system_that_the_policy_does_not_know_is_invalid() {
    let file = build(story(), &keys(1)).to_bytes().unwrap();
    let mut fewer = Policy::from_bytes(&policy(&keys(1))).unwrap();
    fewer.systems.retain(|name, _| name.as_str() == "shop");
    assert_eq!(
        verify(&file, Some(&serde_json::to_vec(&fewer).unwrap())).status,
        Status::Invalid
    );
}

proptest::proptest! {
    #[test]
    fn garbage_is_malformed_and_never_panics(file in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..2_000)) {
        let report = verify(&file, Some(&policy(&keys(1))));
        proptest::prop_assert_eq!(report.status, Status::Malformed);
        let report = verify(&build(story(), &keys(1)).to_bytes().unwrap(), Some(&file));
        proptest::prop_assert_eq!(report.status, Status::Malformed);
    }
}
