//! The result of a walk as a graph.

use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{DatasetRef, Token};
use lethe_terms::{RecordToken, SystemName};
use petgraph::algo::dominators::simple_fast;
use petgraph::graph::{DiGraph, NodeIndex, UnGraph};

use crate::reached::{Link, Reached, ReachedRecord, Standing};

/// A node of a person's lineage.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineageNode {
    /// The request.
    Request,
    /// An identifier, and what the walk made of it.
    Identifier(Token, Standing),
    /// A record.
    Record(RecordToken),
    /// A dataset.
    Dataset(DatasetRef),
    /// A system.
    System(SystemName),
}

/// An edge of a person's lineage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LineageEdge {
    /// The request names the identifier.
    Names,
    /// The identifier led to the record.
    Identifies,
    /// The record holds the identifier, which was not followed from elsewhere to it.
    Holds,
    /// The record is in the dataset, or the dataset in the system.
    In,
}

/// Everything that a walk came across, and how it hangs together. The order of nodes is the same for the same result.
pub fn lineage_graph(reached: &Reached) -> DiGraph<LineageNode, LineageEdge> {
    let mut graph = DiGraph::new();
    let request = graph.add_node(LineageNode::Request);
    let mut identifiers = BTreeMap::new();
    for known in &reached.identifiers {
        let node = graph.add_node(LineageNode::Identifier(known.token, known.standing));
        identifiers.insert(known.token, node);
        if known.given {
            graph.add_edge(request, node, LineageEdge::Names);
        }
    }
    let mut places = BTreeMap::new();
    let mut systems = BTreeMap::new();
    for record in &reached.records {
        let node = graph.add_node(LineageNode::Record(record.record));
        for token in &record.tokens {
            let Some(identifier) = identifiers.get(token) else {
                continue;
            };
            let first_here = reached
                .identifiers
                .binary_search_by_key(token, |known| known.token)
                .is_ok_and(|at| reached.identifiers[at].found_in == Some(record.record));
            if reached.is_followed(*token) && !first_here {
                graph.add_edge(*identifier, node, LineageEdge::Identifies);
            } else {
                graph.add_edge(node, *identifier, LineageEdge::Holds);
            }
        }
        let place = *places.entry(record.dataset.clone()).or_insert_with(|| {
            let place = graph.add_node(LineageNode::Dataset(record.dataset.clone()));
            let name = &record.dataset.system;
            let system = *systems
                .entry(name.clone())
                .or_insert_with(|| graph.add_node(LineageNode::System(name.clone())));
            graph.add_edge(place, system, LineageEdge::In);
            place
        });
        graph.add_edge(node, place, LineageEdge::In);
    }
    graph
}

/// For each record the nearest link that it hangs on alone: its dominators as seen from the request, where each link is a node of its own. What the
/// request names and several people seem to stand behind is no node: it leads to its records and nowhere from there, so that a record hangs on
/// such a link alone, or on no single one.
pub(crate) fn cuts_of(reached: &Reached) -> BTreeMap<RecordToken, Link> {
    let mut graph: UnGraph<Option<Link>, ()> = UnGraph::new_undirected();
    let request = graph.add_node(None);
    let mut identifiers = BTreeMap::new();
    for known in reached
        .identifiers
        .iter()
        .filter(|known| known.standing == Standing::Followed)
    {
        let node = graph.add_node(None);
        identifiers.insert(known.token, node);
        if known.given {
            graph.add_edge(request, node, ());
        }
    }
    let mut records: Vec<(&ReachedRecord, NodeIndex)> = Vec::new();
    for record in &reached.records {
        let node = graph.add_node(None);
        records.push((record, node));
        for token in &record.tokens {
            if let Some(identifier) = identifiers.get(token) {
                let link = graph.add_node(Some(Link {
                    token: token.token,
                    record: record.record,
                }));
                graph.add_edge(*identifier, link, ());
                graph.add_edge(link, node, ());
            }
        }
    }
    let dominators = simple_fast(&graph, request);
    let named: BTreeSet<Token> = reached
        .identifiers
        .iter()
        .filter(|known| known.given && known.standing.is_of_several())
        .map(|known| known.token)
        .collect();
    let cut = |record: &ReachedRecord, node| {
        let mut by_name = record.tokens.iter().filter(|token| named.contains(token));
        let Some(token) = by_name.next() else {
            let mut above = dominators.strict_dominators(node)?;
            return above.find_map(|dominator| graph[dominator]);
        };
        let is_led_to = record.tokens.iter().any(|token| identifiers.contains_key(token));
        (by_name.next().is_none() && !is_led_to).then_some(Link {
            token: token.token,
            record: record.record,
        })
    };
    records
        .into_iter()
        .filter_map(|(record, node)| Some((record.record, cut(record, node)?)))
        .collect()
}
