//! The result of a walk as a small picture: kinds and numbers, no token and no value.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use lethe_journal::{DatasetRef, Token};
use lethe_terms::IdentifierKind;
use serde::Serialize;

use crate::reached::{Reached, Standing};

/// A picture for others to draw.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Picture {
    /// Nodes; edges name them by their place here.
    pub nodes: Vec<PictureNode>,
    /// Edges.
    pub edges: Vec<PictureEdge>,
}

/// A node of the picture.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PictureNode {
    /// Names the node within this picture; means nothing outside of it.
    pub id: String,
    /// What it is.
    pub what: PictureWhat,
}

/// What a node is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub enum PictureWhat {
    /// The request.
    Request,
    /// An identifier.
    Identifier {
        /// Its kind.
        kind: IdentifierKind,
        /// Whether the request named it.
        given: bool,
        /// Whether the walk followed it.
        followed: bool,
        /// Whether a person has to look at it.
        suspicious: bool,
        /// Records behind a shared identifier that are not the person's, as far as is known.
        candidates: u64,
    },
    /// Records of one dataset that hold the same identifiers.
    Records {
        /// Where they are.
        dataset: DatasetRef,
        /// How many records.
        records: u64,
        /// How many lines or rows they stand for.
        count: u64,
    },
}

/// An edge of the picture.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PictureEdge {
    /// Place of the node that it comes from.
    pub from: usize,
    /// Place of the node that it goes to.
    pub to: usize,
    /// Whether the walk went along it.
    pub followed: bool,
}

/// Draws what a walk reached. Records that hold the same identifiers in the same dataset are one node.
pub fn picture(reached: &Reached) -> Picture {
    let mut picture = Picture::default();
    picture.nodes.push(PictureNode {
        id: "request".into(),
        what: PictureWhat::Request,
    });
    let mut identifiers = BTreeMap::new();
    let mut by_kind: BTreeMap<IdentifierKind, u32> = BTreeMap::new();
    for known in &reached.identifiers {
        let number = by_kind.entry(known.token.kind).or_default();
        *number += 1;
        let node = picture.nodes.len();
        identifiers.insert(known.token, node);
        let candidates = reached
            .candidates
            .iter()
            .find(|candidate| candidate.token == known.token);
        picture.nodes.push(PictureNode {
            id: format!("{}-{number}", known.token.kind),
            what: PictureWhat::Identifier {
                kind: known.token.kind,
                given: known.given,
                followed: known.standing == Standing::Followed,
                suspicious: known.standing.is_suspicious(),
                candidates: candidates.map_or(0, |candidate| candidate.records),
            },
        });
        if known.given {
            picture.edges.push(PictureEdge {
                from: 0,
                to: node,
                followed: true,
            });
        }
    }
    draw_records(&mut picture, reached, &identifiers);
    picture
}

fn draw_records(picture: &mut Picture, reached: &Reached, identifiers: &BTreeMap<Token, usize>) {
    let mut groups: BTreeMap<(&DatasetRef, &[Token]), (u64, u64)> = BTreeMap::new();
    for record in &reached.records {
        let group = groups.entry((&record.dataset, &record.tokens)).or_default();
        group.0 += 1;
        group.1 += record.count;
    }
    for (number, ((dataset, tokens), (records, count))) in groups.into_iter().enumerate() {
        let node = picture.nodes.len();
        let what = PictureWhat::Records {
            dataset: dataset.clone(),
            records,
            count,
        };
        picture.nodes.push(PictureNode {
            id: format!("records-{}", number + 1),
            what,
        });
        for token in tokens {
            if let Some(identifier) = identifiers.get(token) {
                let followed = reached.is_followed(*token);
                let (from, to) = if followed {
                    (*identifier, node)
                } else {
                    (node, *identifier)
                };
                picture.edges.push(PictureEdge { from, to, followed });
            }
        }
    }
}

/// The picture as DOT text for Graphviz.
pub fn dot(picture: &Picture) -> String {
    let mut text = String::from("digraph lineage {\n  rankdir=LR;\n");
    for node in &picture.nodes {
        let (label, shape) = label(&node.what);
        // Labels are made of closed words, slugs and numbers: nothing in them needs escaping.
        let _ = writeln!(text, "  \"{}\" [label=\"{label}\", shape={shape}];", node.id);
    }
    for edge in &picture.edges {
        if let (Some(from), Some(to)) = (picture.nodes.get(edge.from), picture.nodes.get(edge.to)) {
            let style = if edge.followed { "solid" } else { "dashed" };
            let _ = writeln!(text, "  \"{}\" -> \"{}\" [style={style}];", from.id, to.id);
        }
    }
    text.push_str("}\n");
    text
}

fn label(what: &PictureWhat) -> (String, &'static str) {
    match what {
        PictureWhat::Request => ("request".into(), "doublecircle"),
        PictureWhat::Identifier {
            kind,
            suspicious: true,
            ..
        } => (format!("{kind}\\nto be looked at"), "octagon"),
        PictureWhat::Identifier { kind, candidates, .. } if *candidates > 0 => {
            (format!("{kind}\\n{candidates} other records"), "ellipse")
        }
        PictureWhat::Identifier { kind, .. } => (kind.to_string(), "ellipse"),
        PictureWhat::Records {
            dataset,
            records,
            count,
        } => (
            format!(
                "{}\\n{}\\n{records} records, {count} rows or lines",
                dataset.system, dataset.dataset
            ),
            "box",
        ),
    }
}
