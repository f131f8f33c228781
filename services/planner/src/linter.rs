//! Checks a finished plan, independently of how it was made.

use std::collections::BTreeSet;

use lethe_journal::{DatasetRef, Inventory, Plan, Remark, RemarkCode, Step};
use lethe_terms::{RecordToken, Timestamp, Verb};

use crate::Holding;

/// What is to be said about a plan before somebody approves it.
pub fn lint(plan: &Plan, holdings: &[Holding], inventory: &Inventory, due: Timestamp) -> Vec<Remark> {
    let mut remarks = holdings_without_step(plan, holdings, inventory);
    for step in plan.acting() {
        remarks.extend(field_not_erasable(step, inventory));
        remarks.extend(lead_time_breaks_deadline(step, plan.frozen_at, due));
    }
    remarks.extend(copies_refilled(plan, holdings, inventory));
    remarks.extend(quarantine_may_hide(inventory));
    remarks
}

fn remark(code: RemarkCode, place: &DatasetRef, detail: Vec<String>) -> Remark {
    Remark {
        code,
        system: Some(place.system.clone()),
        dataset: Some(place.dataset.clone()),
        detail,
    }
}

fn holdings_without_step(plan: &Plan, holdings: &[Holding], inventory: &Inventory) -> Vec<Remark> {
    // What no connector answers for any more is not done by a step that stands from an earlier plan.
    let known = |step: &&Step| inventory.dataset(&step.place()).is_some();
    let planned: BTreeSet<RecordToken> = plan
        .steps
        .iter()
        .filter(known)
        .flat_map(|step| step.records.iter().map(|holding| holding.record))
        .collect();
    let missing: BTreeSet<DatasetRef> = holdings
        .iter()
        .filter(|holding| !planned.contains(&holding.record))
        .map(Holding::place)
        .collect();
    missing
        .iter()
        .map(|place| remark(RemarkCode::HoldingWithoutStep, place, Vec::new()))
        .collect()
}

fn field_not_erasable(step: &Step, inventory: &Inventory) -> Option<Remark> {
    let place = step.place();
    let Some(known) = inventory.dataset(&place) else {
        let gone = vec!["the dataset is not in the inventory any more".into()];
        return Some(remark(RemarkCode::FieldNotErasable, &place, gone));
    };
    if !known.verbs.contains(&step.verb) {
        return Some(remark(
            RemarkCode::FieldNotErasable,
            &place,
            vec![format!("{} is not supported", step.verb)],
        ));
    }
    (step.verb == Verb::Erase && !known.keeps.is_empty())
        .then(|| remark(RemarkCode::FieldNotErasable, &place, known.keeps.clone()))
}

fn lead_time_breaks_deadline(step: &Step, now: Timestamp, due: Timestamp) -> Option<Remark> {
    let lead = i64::try_from(step.lead_ms.saturating_add(step.settle_ms)).unwrap_or(i64::MAX);
    (now.plus_millis(lead) > due).then(|| {
        let latest_safe_dispatch = due.plus_millis(lead.saturating_neg());
        remark(
            RemarkCode::LeadTimeBreaksDeadline,
            &step.place(),
            vec![latest_safe_dispatch.to_string()],
        )
    })
}

/// A copy whose source holds data of the person and is left alone comes back.
fn copies_refilled(plan: &Plan, holdings: &[Holding], inventory: &Inventory) -> Vec<Remark> {
    let acted: BTreeSet<DatasetRef> = plan.acting().map(Step::place).collect();
    let held: BTreeSet<DatasetRef> = holdings.iter().map(Holding::place).collect();
    inventory
        .flows
        .iter()
        .filter(|(source, copy)| acted.contains(copy) && !acted.contains(source) && held.contains(source))
        .map(|(source, copy)| {
            remark(
                RemarkCode::CopyWillBeRefilled,
                copy,
                vec![format!("{}.{}", source.system, source.dataset)],
            )
        })
        .collect()
}

fn quarantine_may_hide(inventory: &Inventory) -> Vec<Remark> {
    inventory
        .systems
        .iter()
        .filter(|system| system.quarantined > 0)
        .map(|system| Remark {
            code: if system.locates {
                RemarkCode::QuarantineMayHide
            } else {
                RemarkCode::QuarantineNotSearchable
            },
            system: Some(system.name.clone()),
            dataset: None,
            detail: vec![system.quarantined.to_string()],
        })
        .collect()
}
