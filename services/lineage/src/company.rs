//! The company graph: datasets, and what has to be done before what.

use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{DatasetRef, Inventory};
use petgraph::algo::{condensation, toposort};
use petgraph::graph::{DiGraph, NodeIndex};
use petgraph::visit::Dfs;

/// Why one dataset is done before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Dependency {
    /// The first is copied to the second and would refill it.
    Refills,
    /// The first is a child of the second within a database.
    ChildOf,
    /// The second is where identities live: without it the first could not be found any more.
    IdentityLast,
}

/// Every dataset of the inventory; an edge leads from what is done first. Identity sources come after everything that does not have to
/// follow one of them. Flows and dependencies that name an unknown dataset are left out.
pub fn company_graph(
    inventory: &Inventory,
    identity_sources: &BTreeSet<DatasetRef>,
) -> DiGraph<DatasetRef, Dependency> {
    let mut graph = DiGraph::new();
    let mut nodes: BTreeMap<DatasetRef, NodeIndex> = BTreeMap::new();
    for (place, _) in inventory.datasets() {
        nodes
            .entry(place.clone())
            .or_insert_with(|| graph.add_node(place));
    }
    for (source, copy) in &inventory.flows {
        if let (Some(source), Some(copy)) = (nodes.get(source), nodes.get(copy)) {
            graph.update_edge(*source, *copy, Dependency::Refills);
        }
    }
    for (place, dataset) in inventory.datasets() {
        for child in &dataset.after {
            let child = DatasetRef {
                system: place.system.clone(),
                dataset: child.clone(),
            };
            if let (Some(child), Some(parent)) = (nodes.get(&child), nodes.get(&place)) {
                graph.update_edge(*child, *parent, Dependency::ChildOf);
            }
        }
    }
    put_identity_last(&mut graph, &nodes, identity_sources);
    graph
}

fn put_identity_last(
    graph: &mut DiGraph<DatasetRef, Dependency>,
    nodes: &BTreeMap<DatasetRef, NodeIndex>,
    identity_sources: &BTreeSet<DatasetRef>,
) {
    let identities: Vec<NodeIndex> = identity_sources
        .iter()
        .filter_map(|source| nodes.get(source).copied())
        .collect();
    // What follows one identity source is put before none: two of them would else wait for each other's copies in a circle.
    let follow: BTreeSet<NodeIndex> = identities
        .iter()
        .flat_map(|source| reachable(graph, *source))
        .collect();
    for source in &identities {
        for node in nodes.values() {
            if !follow.contains(node) && graph.find_edge(*node, *source).is_none() {
                graph.add_edge(*node, *source, Dependency::IdentityLast);
            }
        }
    }
}

fn reachable(graph: &DiGraph<DatasetRef, Dependency>, from: NodeIndex) -> BTreeSet<NodeIndex> {
    let mut found = BTreeSet::new();
    let mut walk = Dfs::new(graph, from);
    while let Some(node) = walk.next(graph) {
        found.insert(node);
    }
    found
}

/// The datasets in layers: what stands in one layer waits for layers before it only. Datasets that depend on each other in a circle have no
/// order among themselves and share a layer.
pub fn layers(inventory: &Inventory, identity_sources: &BTreeSet<DatasetRef>) -> Vec<Vec<DatasetRef>> {
    let graph = condensation(company_graph(inventory, identity_sources), true);
    // A condensation has no cycles, so a topological order exists.
    let order = toposort(&graph, None).unwrap_or_default();
    let mut depths: BTreeMap<NodeIndex, usize> = BTreeMap::new();
    let mut layers: BTreeMap<usize, Vec<DatasetRef>> = BTreeMap::new();
    for node in order {
        let before = graph.neighbors_directed(node, petgraph::Direction::Incoming);
        let depth = before
            .filter_map(|earlier| depths.get(&earlier))
            .max()
            .map_or(0, |deepest| deepest + 1);
        depths.insert(node, depth);
        layers
            .entry(depth)
            .or_default()
            .extend(graph[node].iter().cloned());
    }
    layers
        .into_values()
        .map(|mut layer| {
            layer.sort();
            layer
        })
        .collect()
}

/// Every pair of which the first must be done before the second, directly or along others; sorted.
pub fn must_precede(
    inventory: &Inventory,
    identity_sources: &BTreeSet<DatasetRef>,
) -> Vec<(DatasetRef, DatasetRef)> {
    let graph = condensation(company_graph(inventory, identity_sources), true);
    let mut pairs = BTreeSet::new();
    for node in graph.node_indices() {
        let mut walk = Dfs::new(&graph, node);
        while let Some(later) = walk.next(&graph) {
            if later == node {
                continue;
            }
            for first in &graph[node] {
                pairs.extend(graph[later].iter().map(|second| (first.clone(), second.clone())));
            }
        }
    }
    pairs.into_iter().collect()
}
