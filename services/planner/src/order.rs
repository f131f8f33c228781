//! The order of steps, from the order of work in the company: a source before the copies that it would refill, children before parents,
//! identity sources last.

use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{DatasetRef, Inventory, Plan, Step};
use lethe_lineage::{layers, must_precede};

/// Numbers the steps in an order that fits their dependencies, and names those that each has to wait for. Datasets that feed each other in a
/// circle have no order among themselves.
pub(crate) fn ordered(
    mut steps: Vec<Step>,
    inventory: &Inventory,
    identity_sources: &BTreeSet<DatasetRef>,
) -> Vec<Step> {
    let rank: BTreeMap<DatasetRef, usize> = layers(inventory, identity_sources)
        .into_iter()
        .enumerate()
        .flat_map(|(rank, layer)| layer.into_iter().map(move |place| (place, rank)))
        .collect();
    steps.sort_by_cached_key(|step| {
        let place = step.place();
        (rank.get(&place).copied(), place)
    });
    let number: BTreeMap<DatasetRef, u32> = steps.iter().map(Step::place).zip(0..).collect();
    let mut after: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for (first, second) in must_precede(inventory, identity_sources) {
        if let (Some(first), Some(second)) = (number.get(&first), number.get(&second)) {
            after.entry(*second).or_default().push(*first);
        }
    }
    for (number, step) in (0..).zip(&mut steps) {
        step.step = number;
        step.after = after.remove(&number).unwrap_or_default();
        step.after.sort_unstable();
    }
    steps
}

/// Datasets that an earlier plan left for the end, as far as the inventory does not say why: its identity sources. A later walk starts at
/// what they had given away and does not learn of them again.
pub(crate) fn left_for_the_end(earlier: &Plan, inventory: &Inventory) -> BTreeSet<DatasetRef> {
    let explained: BTreeSet<_> = must_precede(inventory, &BTreeSet::new()).into_iter().collect();
    let waits = |step: &&Step| {
        let mut before = earlier
            .steps
            .iter()
            .filter(|other| step.after.contains(&other.step));
        before.any(|other| !explained.contains(&(other.place(), step.place())))
    };
    earlier.acting().filter(waits).map(Step::place).collect()
}
