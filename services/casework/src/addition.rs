//! A plan that only adds to an approved one, and so goes through without another approval.

use std::collections::BTreeSet;

use lethe_journal::{DatasetRef, Plan, RemarkCode};
use lethe_terms::{DataCategory, DatasetName, RecordToken, SystemName, Verb};

use crate::{Case, Error, PlanProgress};

/// Plans in a row that go through because they only add. Between them what was found is erased, so more than a few mean that somebody keeps
/// writing: a person sees that.
pub const ADDITIONS_MAX: u32 = 8;

impl Case {
    /// Whether the present plan goes through without another approval: it was made because a walk found more, and does nothing but what the plan
    /// before it, which was approved, already does, for further records that the same identifiers reach in the same datasets. That it says of input
    /// that nobody could read what it may hide keeps nothing waiting: it is done all the same, and the certificate says it.
    pub fn only_adds(&self) -> bool {
        let [.., earlier, present] = self.plans.as_slice() else {
            return false;
        };
        let approved = earlier.approved.is_some() && earlier.additions < ADDITIONS_MAX;
        approved && self.found_more && !self.plan_due && adds(present, earlier)
    }

    pub(crate) fn addition_approved(&mut self, digest: &str) -> Result<(), Error> {
        let event = "addition_approved";
        let before = match self.plans.as_slice() {
            [.., earlier, _] => earlier.approved.map(|command| (command, earlier.additions)),
            _ => None,
        };
        let (command, additions) = before.ok_or(Error::Impossible { event })?;
        let present = self.present(digest, event)?;
        present.approved = Some(command);
        present.additions = additions.saturating_add(1);
        Ok(())
    }
}

fn adds(present: &PlanProgress, earlier: &PlanProgress) -> bool {
    let known: BTreeSet<_> = earlier.person.tokens.iter().collect();
    let kept: BTreeSet<RecordToken> = present
        .plan
        .steps
        .iter()
        .flat_map(|step| step.records.iter().map(|holding| holding.record))
        .collect();
    let mut before = earlier.unseen().flat_map(|step| &step.records);
    present.person.tokens.iter().all(|token| known.contains(token))
        && before.all(|holding| kept.contains(&holding.record))
        && acts(&present.plan) == acts(&earlier.plan)
        && present.plan.exceptions == earlier.plan.exceptions
        && remarks(&present.plan)
            .difference(&remarks(&earlier.plan))
            .all(|(code, ..)| is_of_input(*code))
}

const fn is_of_input(code: RemarkCode) -> bool {
    matches!(
        code,
        RemarkCode::QuarantineMayHide | RemarkCode::QuarantineNotSearchable
    )
}

/// What a plan does, and where.
fn acts(plan: &Plan) -> BTreeSet<(DatasetRef, Verb, &[DataCategory])> {
    let steps = plan.steps.iter();
    steps
        .map(|step| (step.place(), step.verb, step.categories.as_slice()))
        .collect()
}

type Remarked<'a> = (
    RemarkCode,
    Option<&'a SystemName>,
    Option<&'a DatasetName>,
    Vec<&'a str>,
);

/// What is remarked on a plan, but for how many of something there are: that may grow without changing what an approver decided on.
fn remarks(plan: &Plan) -> BTreeSet<Remarked<'_>> {
    plan.remarks
        .iter()
        .map(|remark| {
            let named = remark.detail.iter().map(String::as_str);
            let named = named.filter(|detail| detail.parse::<u64>().is_err());
            (
                remark.code,
                remark.system.as_ref(),
                remark.dataset.as_ref(),
                named.collect(),
            )
        })
        .collect()
}
