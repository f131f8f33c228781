//! The order of steps: a source before the copies that it would refill, children before parents.

use std::collections::BTreeMap;

use lethe_journal::{DatasetRef, Inventory, Step};
use petgraph::algo::{condensation, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::{Dfs, Reversed};

/// Numbers the steps in an order that fits their dependencies, and names those that each has to wait for. Datasets that feed each other in a
/// circle have no order among themselves.
pub(crate) fn ordered(mut steps: Vec<Step>, inventory: &Inventory) -> Vec<Step> {
    let graph = condensation(precedence(inventory), true);
    let component: BTreeMap<DatasetRef, NodeIndex> = graph
        .node_indices()
        .flat_map(|node| graph[node].iter().map(move |place| (place.clone(), node)))
        .collect();
    // A condensation has no cycles, so a topological order exists.
    let rank: BTreeMap<NodeIndex, usize> = toposort(&graph, None)
        .unwrap_or_default()
        .into_iter()
        .enumerate()
        .map(|(rank, node)| (node, rank))
        .collect();
    let node_of = |step: &Step| component.get(&place_of(step)).copied();
    steps.sort_by_key(|step| {
        (
            node_of(step).and_then(|node| rank.get(&node).copied()),
            step.system.clone(),
            step.dataset.clone(),
        )
    });
    let nodes: Vec<_> = steps.iter().map(node_of).collect();
    for (number, step) in steps.iter_mut().enumerate() {
        step.step = u32::try_from(number).unwrap_or(u32::MAX);
        step.after = nodes[number].map_or_else(Vec::new, |node| {
            let before = ancestors(&graph, node);
            (0_u32..)
                .zip(&nodes)
                .filter(|(_, other)| other.is_some_and(|o| before.contains(&o)))
                .map(|(n, _)| n)
                .collect()
        });
    }
    steps
}

/// Where a step acts.
pub(crate) fn place_of(step: &Step) -> DatasetRef {
    DatasetRef {
        system: step.system.clone(),
        dataset: step.dataset.clone(),
    }
}

/// One node a dataset; an edge from what is done first.
fn precedence(inventory: &Inventory) -> DiGraph<DatasetRef, ()> {
    let mut graph = DiGraph::new();
    let mut nodes = BTreeMap::new();
    for system in &inventory.systems {
        for dataset in &system.datasets {
            let place = DatasetRef {
                system: system.name.clone(),
                dataset: dataset.name.clone(),
            };
            nodes.insert(place.clone(), graph.add_node(place));
        }
    }
    for (source, copy) in &inventory.flows {
        if let (Some(source), Some(copy)) = (nodes.get(source), nodes.get(copy)) {
            graph.add_edge(*source, *copy, ());
        }
    }
    for system in &inventory.systems {
        for dataset in &system.datasets {
            let parent = DatasetRef {
                system: system.name.clone(),
                dataset: dataset.name.clone(),
            };
            for child in &dataset.after {
                let child = DatasetRef {
                    system: system.name.clone(),
                    dataset: child.clone(),
                };
                if let (Some(child), Some(parent)) = (nodes.get(&child), nodes.get(&parent)) {
                    graph.add_edge(*child, *parent, ());
                }
            }
        }
    }
    graph
}

fn ancestors(graph: &DiGraph<Vec<DatasetRef>, ()>, node: NodeIndex) -> Vec<NodeIndex> {
    let reversed = Reversed(graph);
    let mut walk = Dfs::new(reversed, node);
    let mut found = Vec::new();
    while let Some(next) = walk.next(reversed) {
        if next != node {
            found.push(next);
        }
    }
    found
}
