//! What dashboard and command line say alike.

use lethe_gateway::views::{CaseView, StepView};
use serde_json::json;

use super::*;

fn restricted(changed: serde_json::Value) -> CaseView {
    let mut case = json!({
        "id": "case-0101010101010101", "right": "restriction", "state": "completed",
        "due": "2026-12-20T00:00:00.000Z", "received_at": "2026-11-20T00:00:00.000Z", "steps": [],
        "flags": [], "attention": [], "remarks": [], "revision": 9,
    });
    for (field, value) in changed.as_object().unwrap() {
        case[field] = value.clone();
    }
    serde_json::from_value(case).unwrap()
}

#[test]
fn a_restriction_names_the_erasure_that_took_its_place() {
    let erasure = |done: bool| json!({ "case": "case-0202020202020202", "done": done });
    let said = |case: &CaseView| {
        let (what, erasure, rest) = words::given_up(case).unwrap();
        format!("{what}{erasure}{rest}")
    };
    let gone = restricted(json!({ "superseded_by": erasure(true) }));
    assert_eq!(words::standing(&gone), "given up for an erasure");
    assert!(said(&gone).contains("erasure case-0202020202020202, which is done"));
    let rest = restricted(json!({ "superseded_by": erasure(true), "flags": ["restricted"] }));
    assert_eq!(words::standing(&rest), "completed, in force");
    assert!(said(&rest).ends_with("what it left is restricted still"));
    let open = restricted(json!({ "superseded_by": erasure(false), "flags": ["restricted"] }));
    assert_eq!(words::standing(&open), "completed, in force");
    assert_eq!(
        said(&open),
        "superseded by the erasure case-0202020202020202, once that is done"
    );
}

#[test]
fn rows_that_stay_without_the_person_are_not_called_absent() {
    let step = |outcome: &str| -> StepView {
        let step = json!({
            "step": 0, "system": "shop", "dataset": "orders", "verb": "erase", "state": "verified",
            "outcome": outcome, "records": 1, "observed": "absent",
        });
        serde_json::from_value(step).unwrap()
    };
    assert_eq!(
        words::observed(&step("anonymised")).unwrap(),
        "nothing of the person"
    );
    assert_eq!(words::observed(&step("erased")).unwrap(), "absent");
}
