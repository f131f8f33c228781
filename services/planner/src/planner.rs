//! Making the plan.

use std::collections::{BTreeMap, BTreeSet};

use lethe_casework::{Case, PlanProgress};
use lethe_journal::{
    DatasetRef, Held, HoldingRef, Inventory, Person, Plan, Position, Remark, RemarkCode, Sealed, Step,
};
use lethe_terms::{
    CaseId, DatasetName, IdentifierKind, IssuedKind, RecordToken, Right, Strength, SystemName, Timestamp,
    UnitToken, Verb,
};
use sha2::{Digest, Sha256};

use crate::{lint, order};

/// What a plan is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// The case.
    pub case: CaseId,
    /// The right.
    pub right: Right,
    /// The verb of its steps.
    pub verb: Verb,
    /// Number of the plan within the case, from 1.
    pub number: u32,
    /// 128 random bits, drawn by the shell.
    pub nonce: [u8; 16],
    /// Now.
    pub now: Timestamp,
    /// When the case is due.
    pub due: Timestamp,
    /// What earlier steps of the case left restricted.
    pub held: BTreeMap<DatasetRef, Held>,
}

/// One record that the walk reached.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Holding {
    /// The record.
    pub record: RecordToken,
    /// The system.
    pub system: SystemName,
    /// The dataset.
    pub dataset: DatasetName,
    /// Kinds of the identifiers along the path, nearest last.
    pub via: Vec<IdentifierKind>,
}

impl Holding {
    /// Where it is.
    pub fn place(&self) -> DatasetRef {
        DatasetRef {
            system: self.system.clone(),
            dataset: self.dataset.clone(),
        }
    }
}

/// What a plan is made from: the result of a walk, with what opens each dataset sealed by the shell.
#[derive(Debug, Clone, Default)]
pub struct Basis {
    /// The records.
    pub holdings: Vec<Holding>,
    /// Selectors by dataset, sealed under the case's key: of the records here, and of those that the present plan's unseen steps hold.
    pub selectors: BTreeMap<DatasetRef, Sealed>,
    /// Datasets in which the walk found identifiers that led it into others: they come last, since without them what hangs on them
    /// could not be found any more.
    pub identity_sources: BTreeSet<DatasetRef>,
    /// Log positions up to which lineage had read, by partition of `records`.
    pub read_up_to: Vec<Position>,
    /// Identifiers behind which several people seem to stand: the walk did not go on from there.
    pub suspicious: Vec<Suspicion>,
    /// Records that an id alone joins with the others, although they name somebody: perhaps somebody else.
    pub doubtful: BTreeSet<Doubt>,
    /// Kinds of the request's identifiers that no record reached holds.
    pub fruitless: BTreeSet<IssuedKind>,
}

/// Records that an id alone joins with the others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Doubt {
    /// Where they are.
    pub place: DatasetRef,
    /// Kind of the id.
    pub id: IdentifierKind,
    /// Kind of what they name and nothing else of the person's does.
    pub names: IdentifierKind,
}

/// An identifier behind which several people seem to stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suspicion {
    /// A dataset in which it stands.
    pub place: DatasetRef,
    /// Its kind.
    pub kind: IdentifierKind,
    /// How many records or people there seem to be.
    pub found: u64,
}

/// The plan for what the walk reached. It never shrinks against an earlier one, since an erased link cuts a walk short: a record of `earlier`
/// that was not seen absent stays in the step of its dataset, whose selectors hold it ([`Basis::selectors`]), and a step of a dataset in which
/// nothing is reached any more stands again, so that the plan is whole by itself. Acting twice with effect once is what every connector promises.
///
/// Where nothing of `person` was found, it is observed that nothing is there once everything else is done: a search that overlooks a dataset would
/// otherwise end in a certificate that is silent about it.
pub fn plan(
    request: &Request,
    basis: &Basis,
    person: &Person,
    inventory: &Inventory,
    earlier: Option<&PlanProgress>,
) -> Plan {
    let mut steps = fresh_steps(request, basis, inventory, earlier);
    let mut last = basis.identity_sources.clone();
    if let Some(earlier) = earlier {
        // One step a place: a certificate that names one twice is refused.
        let places: BTreeSet<_> = steps.iter().map(Step::place).collect();
        let left = earlier
            .plan
            .steps
            .iter()
            .filter(|step| step.verb == request.verb && !places.contains(&step.place()));
        steps.extend(left.cloned());
        last.extend(order::left_for_the_end(&earlier.plan, inventory));
    }
    tell_held(&mut steps, request);
    let mut steps = order::ordered(steps, inventory, &last);
    steps.extend(observing_steps(&steps, person, inventory));
    let mut plan = Plan {
        case: request.case,
        right: request.right,
        number: request.number,
        nonce: hex::encode(request.nonce),
        frozen_at: request.now,
        inventory: inventory_digest(inventory),
        read_up_to: basis.read_up_to.clone(),
        steps,
        exceptions: Vec::new(),
        remarks: Vec::new(),
    };
    plan.remarks = lint(&plan, &basis.holdings, inventory, request.due);
    plan.remarks
        .extend(basis.suspicious.iter().map(|suspicion| Remark {
            code: match suspicion.kind.strength() {
                Strength::Strong => RemarkCode::IdentifierNotFollowed,
                Strength::Weak | Strength::Shared => RemarkCode::SuspiciousFanOut,
            },
            system: Some(suspicion.place.system.clone()),
            dataset: Some(suspicion.place.dataset.clone()),
            detail: vec![suspicion.kind.code().to_owned(), suspicion.found.to_string()],
        }));
    plan.remarks.extend(still_not_followed(&plan, earlier));
    plan.remarks.extend(basis.doubtful.iter().map(|doubt| Remark {
        code: RemarkCode::ReachedByIdAlone,
        system: Some(doubt.place.system.clone()),
        dataset: Some(doubt.place.dataset.clone()),
        detail: vec![doubt.id.code().to_owned(), doubt.names.code().to_owned()],
    }));
    plan.remarks.extend(not_searchable(basis, inventory, earlier));
    plan
}

/// What an `earlier` plan that acted remarks of identifiers behind which several people stood: no later walk judges them anew.
fn still_not_followed(plan: &Plan, earlier: Option<&PlanProgress>) -> Vec<Remark> {
    let remarks = earlier.into_iter().flat_map(|earlier| &earlier.plan.remarks);
    let stand = remarks.filter(|remark| remark.code.is_of_several_people() && !plan.remarks.contains(remark));
    stand.cloned().collect()
}

/// Identifiers of the request by which nothing was looked for. What led to a record when an `earlier` plan acted may lead to none now, because that
/// plan erased it.
fn not_searchable(basis: &Basis, inventory: &Inventory, earlier: Option<&PlanProgress>) -> Vec<Remark> {
    let kinds = basis.fruitless.iter();
    let remarks = kinds
        .filter(|kind| !inventory.is_searchable_by(kind))
        .map(|kind| Remark {
            code: RemarkCode::IdentifierNotSearchable,
            system: None,
            dataset: None,
            detail: vec![kind.to_string()],
        });
    let was_so = |remark: &Remark| earlier.is_none_or(|earlier| earlier.plan.remarks.contains(remark));
    remarks.filter(was_so).collect()
}

/// The plan that lifts what a case has restricted, by whatever plan: the same records, in the same places, without a walk, since restricted
/// data is out of ordinary reach. Without those that were `erased` since, which no system can release any more.
pub fn plan_lift(
    request: &Request,
    case: &Case,
    erased: &BTreeSet<UnitToken>,
    inventory: &Inventory,
) -> Plan {
    let restricting = case.restricting().into_values();
    let mut steps: Vec<Step> = restricting
        .map(|step| Step {
            verb: Verb::Lift,
            records: without(&step.records, erased),
            ..step.clone()
        })
        .filter(|step| !step.records.is_empty())
        .collect();
    tell_held(&mut steps, request);
    let mut plan = Plan {
        case: request.case,
        right: request.right,
        number: request.number,
        nonce: hex::encode(request.nonce),
        frozen_at: request.now,
        inventory: inventory_digest(inventory),
        read_up_to: case
            .plan()
            .map_or_else(Vec::new, |present| present.plan.read_up_to.clone()),
        // A lift takes nothing away by which something else is found.
        steps: order::ordered(steps, inventory, &BTreeSet::new()),
        exceptions: Vec::new(),
        remarks: Vec::new(),
    };
    plan.remarks = lint(&plan, &[], inventory, request.due);
    plan
}

fn without(records: &[HoldingRef], erased: &BTreeSet<UnitToken>) -> Vec<HoldingRef> {
    let left = records.iter().filter(|holding| !erased.contains(&holding.unit()));
    left.cloned().collect()
}

fn tell_held(steps: &mut [Step], request: &Request) {
    for step in steps {
        step.held = request.held.get(&step.place()).copied().unwrap_or_default();
    }
}

fn fresh_steps(
    request: &Request,
    basis: &Basis,
    inventory: &Inventory,
    earlier: Option<&PlanProgress>,
) -> Vec<Step> {
    let mut by_dataset: BTreeMap<DatasetRef, Vec<HoldingRef>> = BTreeMap::new();
    for holding in &basis.holdings {
        by_dataset.entry(holding.place()).or_default().push(HoldingRef {
            record: holding.record,
            via: holding.via.clone(),
        });
    }
    let unseen = earlier.into_iter().flat_map(PlanProgress::unseen);
    for step in unseen.filter(|step| step.verb == request.verb) {
        let records = by_dataset.entry(step.place()).or_default();
        let reached: BTreeSet<_> = records.iter().map(|holding| holding.record).collect();
        let cut_off = step
            .records
            .iter()
            .filter(|holding| !reached.contains(&holding.record));
        records.extend(cut_off.cloned());
    }
    by_dataset
        .into_iter()
        .filter_map(|(place, mut records)| {
            let known = inventory.dataset(&place)?;
            let selectors = basis.selectors.get(&place)?.clone();
            records.sort_by_key(|holding| holding.record);
            Some(Step {
                step: 0,
                system: place.system,
                dataset: place.dataset,
                verb: request.verb,
                records,
                selectors,
                after: Vec::new(),
                categories: known.categories.clone(),
                settle_ms: known.settle_ms,
                lead_ms: known.lead_ms,
                held: Held::default(),
            })
        })
        .collect()
}

/// The steps that look whether nothing is there, in the datasets of which the plan has no other step.
fn observing_steps(acting: &[Step], person: &Person, inventory: &Inventory) -> Vec<Step> {
    let covered: BTreeSet<_> = acting.iter().map(Step::place).collect();
    let after: Vec<u32> = acting.iter().map(|step| step.step).collect();
    let looks: BTreeMap<_, _> = inventory
        .datasets()
        .filter(|(place, dataset)| dataset.verbs.contains(&Verb::Observe) && !covered.contains(place))
        .collect();
    let first = u32::try_from(acting.len()).unwrap_or(u32::MAX);
    (first..)
        .zip(looks)
        .map(|(number, (place, known))| Step {
            step: number,
            system: place.system,
            dataset: place.dataset,
            verb: Verb::Observe,
            records: Vec::new(),
            selectors: person.identifiers.clone(),
            after: after.clone(),
            categories: known.categories.clone(),
            settle_ms: 0,
            lead_ms: 0,
            held: Held::default(),
        })
        .collect()
}

/// Digest of a plan, `sha256:<hex>`: over its JSON, whose field order is that of the type.
pub fn digest(plan: &Plan) -> String {
    sha256_of(plan)
}

/// Digest of an inventory, `sha256:<hex>`.
pub fn inventory_digest(inventory: &Inventory) -> String {
    sha256_of(inventory)
}

fn sha256_of<T: serde::Serialize>(value: &T) -> String {
    // These types hold only strings, numbers and lists of them: serialising cannot fail.
    let bytes = serde_json::to_vec(value).unwrap_or_default();
    format!("sha256:{}", hex::encode(Sha256::digest(bytes)))
}
