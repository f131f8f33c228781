//! A person's lineage as a picture: what was given, what it led to, and why. Kinds and names, never values.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use lethe_terms::Strength;

use super::{Edge, Node, Picture, draw};
use crate::views::{LineageEdge, LineageHow, LineageNode, LineageRecord, LineageView, LineageWhat, PlanView};
use crate::words;

/// Most boxes in one layer: more cannot be read at a glance, and the list beside the picture has them all.
const LAYER_BOXES_MAX: usize = 24;

/// What the numbers of a lineage's nodes count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counted {
    /// Rows or lines: each node is one record.
    Rows,
    /// Records: each node stands for all that were reached in one way.
    Records,
}

/// The lineage as an SVG image that stands alone: readable in light and dark.
pub fn lineage_svg(view: &LineageView) -> String {
    format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n{}\n",
        draw(&lineage_picture(view, Counted::Rows), true).into_string()
    )
}

/// The lineage in the language of Graphviz.
pub fn lineage_dot(view: &LineageView) -> String {
    let quoted = |text: &str| text.replace('\\', "\\\\").replace('"', "\\\"");
    let mut dot = String::from("graph lineage {\n  rankdir=LR;\n  node [fontname=\"sans-serif\"];\n");
    for node in &view.nodes {
        let (label, look) = match &node.what {
            LineageWhat::Identifier {
                kind,
                strength,
                given,
            } => (
                words::identifier_kind(*kind).to_owned(),
                match (given, strength) {
                    (true, _) => "shape=ellipse, style=bold",
                    (false, Strength::Shared) => "shape=ellipse, style=dashed",
                    (false, _) => "shape=ellipse",
                },
            ),
            LineageWhat::Record {
                system,
                dataset,
                count,
            } => (
                format!("{system} / {dataset}\\n{}", words::rows(*count)),
                "shape=box",
            ),
        };
        let label = label.split("\\n").map(quoted).collect::<Vec<_>>().join("\\n");
        let _ = writeln!(dot, "  \"{}\" [label=\"{label}\", {look}];", quoted(&node.id));
    }
    for edge in &view.edges {
        let look = if edge.how == LineageHow::Identifies {
            ""
        } else {
            " [style=dashed, dir=forward]"
        };
        let _ = writeln!(
            dot,
            "  \"{}\" -- \"{}\"{look};",
            quoted(&edge.from),
            quoted(&edge.to)
        );
    }
    dot.push_str("}\n");
    dot
}

/// A person's lineage as far as a plan holds it: kinds of the ways, and how many records each reached.
pub(crate) fn lineage_of_plan(plan: &PlanView) -> LineageView {
    let mut view = LineageView {
        complete: true,
        ..LineageView::default()
    };
    let mut ids: BTreeMap<String, ()> = BTreeMap::new();
    let mut links: BTreeSet<(String, String)> = BTreeSet::new();
    for step in &plan.steps {
        for (number, way) in step.reached.iter().enumerate() {
            let mut before: Option<String> = None;
            for (depth, kind) in way.path.iter().enumerate() {
                let prefix: Vec<&str> = way.path.iter().take(depth + 1).map(|kind| kind.code()).collect();
                let id = prefix.join(">");
                if ids.insert(id.clone(), ()).is_none() {
                    let what = LineageWhat::Identifier {
                        kind: *kind,
                        strength: kind.strength(),
                        given: depth == 0,
                    };
                    view.nodes.push(LineageNode { id: id.clone(), what });
                }
                if let Some(before) = before {
                    links.insert((before, id.clone()));
                }
                before = Some(id);
            }
            let id = format!("step {} way {number}", step.step);
            let (system, dataset, count) = (step.system.clone(), step.dataset.clone(), way.records);
            view.records.push(LineageRecord {
                system: system.clone(),
                dataset: dataset.clone(),
                count,
                path: way.path.clone(),
                link: None,
            });
            view.nodes.push(LineageNode {
                id: id.clone(),
                what: LineageWhat::Record {
                    system,
                    dataset,
                    count,
                },
            });
            if let Some(before) = before {
                links.insert((before, id));
            }
        }
    }
    view.edges = links
        .into_iter()
        .map(|(from, to)| LineageEdge {
            from,
            to,
            how: LineageHow::Identifies,
        })
        .collect();
    view
}

/// Boxes that look alike and hang on the same others, as one.
struct Group {
    layer: usize,
    what: LineageWhat,
    members: u64,
    count: u64,
}

/// Draws a lineage.
pub(crate) fn lineage_picture(view: &LineageView, counted: Counted) -> Picture {
    let index: BTreeMap<&str, usize> = view
        .nodes
        .iter()
        .enumerate()
        .map(|(i, node)| (node.id.as_str(), i))
        .collect();
    let links: Vec<(usize, usize, LineageHow)> = view
        .edges
        .iter()
        .filter_map(|edge| {
            Some((
                *index.get(edge.from.as_str())?,
                *index.get(edge.to.as_str())?,
                edge.how,
            ))
        })
        .filter(|(from, to, _)| from != to)
        .collect();
    let layers = layers(view, &links);
    let (groups, of_node) = groups(view, &links, &layers);
    let (kept, mut nodes) = boxes(&groups, counted);
    let mut lines: BTreeMap<(usize, usize), LineageHow> = BTreeMap::new();
    for (from, to, how) in &links {
        let at = |node: &usize| of_node.get(*node).and_then(|group| kept.get(*group)).copied();
        if let (Some(from), Some(to)) = (at(from), at(to))
            && from != to
        {
            lines.entry((from, to)).or_insert(*how);
        }
    }
    let edges = lines
        .into_iter()
        .map(|((from, to), how)| line(&nodes, from, to, how))
        .collect();
    for node in &mut nodes {
        node.lines.retain(|line| !line.is_empty());
    }
    Picture {
        title: "Lineage".to_owned(),
        description: description(view, counted),
        heads: heads(&groups),
        nodes,
        edges,
    }
}

fn line(nodes: &[Node], from: usize, to: usize, how: LineageHow) -> Edge {
    let shared = [from, to]
        .iter()
        .any(|index| nodes.get(*index).is_some_and(|node| node.class == "shared"));
    match how {
        LineageHow::Identifies if shared => Edge {
            from,
            to,
            class: "faint",
            arrow: false,
        },
        LineageHow::Identifies => Edge {
            from,
            to,
            class: "",
            arrow: false,
        },
        LineageHow::CopiedTo | LineageHow::DerivedFrom | LineageHow::DisclosedTo => Edge {
            from,
            to,
            class: "copy",
            arrow: true,
        },
    }
}

fn description(view: &LineageView, counted: Counted) -> String {
    let systems: BTreeSet<&str> = view.records.iter().map(|record| record.system.as_str()).collect();
    let count: u64 = view.records.iter().map(|record| record.count).sum();
    format!(
        "{} in {}: {}",
        amounts(view.records.len() as u64, count, counted).join(", "),
        words::counted(systems.len() as u64, "system"),
        systems.into_iter().collect::<Vec<_>>().join(", ")
    )
}

/// Distance of each node from what was given. A shared identifier is reached and not followed.
fn layers(view: &LineageView, links: &[(usize, usize, LineageHow)]) -> Vec<usize> {
    let mut near: Vec<Vec<usize>> = vec![Vec::new(); view.nodes.len()];
    for (from, to, _) in links {
        for (a, b) in [(from, to), (to, from)] {
            if let Some(near) = near.get_mut(*a) {
                near.push(*b);
            }
        }
    }
    let given = |node: &LineageNode| matches!(node.what, LineageWhat::Identifier { given: true, .. });
    let stops = |node: &LineageNode| {
        matches!(
            node.what,
            LineageWhat::Identifier {
                strength: Strength::Shared,
                given: false,
                ..
            }
        )
    };
    let mut layers: Vec<Option<usize>> = view.nodes.iter().map(|node| given(node).then_some(0)).collect();
    let mut queue: VecDeque<usize> = (0..view.nodes.len())
        .filter(|i| layers.get(*i) == Some(&Some(0)))
        .collect();
    for start in 0..view.nodes.len() {
        while let Some(here) = queue.pop_front() {
            let layer = layers.get(here).copied().flatten().unwrap_or(0);
            if view.nodes.get(here).is_some_and(stops) {
                continue;
            }
            for next in near.get(here).into_iter().flatten() {
                if let Some(slot @ None) = layers.get_mut(*next) {
                    *slot = Some(layer + 1);
                    queue.push_back(*next);
                }
            }
        }
        // What nothing leads to starts a picture of its own, rather than being left out.
        if let Some(slot @ None) = layers.get_mut(start) {
            *slot = Some(usize::from(matches!(
                view.nodes.get(start).map(|node| &node.what),
                Some(LineageWhat::Record { .. })
            )));
            queue.push_back(start);
        }
    }
    layers.into_iter().map(|layer| layer.unwrap_or(0)).collect()
}

/// What is around a node, for telling whether two hang on the same others.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Around {
    /// Of an identifier: layers and looks of its records.
    Looks(BTreeSet<(usize, LineageWhat)>),
    /// Of a record: the groups of its identifiers.
    Groups(BTreeSet<usize>),
}

/// Layer, look and what is around: nodes of one key are one box.
type Key = (usize, LineageWhat, Around);

/// Puts identifiers together that lead from and to the same datasets, then records that hang on the same identifiers.
fn groups(
    view: &LineageView,
    links: &[(usize, usize, LineageHow)],
    layers: &[usize],
) -> (Vec<Group>, Vec<usize>) {
    let mut near: Vec<Vec<usize>> = vec![Vec::new(); view.nodes.len()];
    for (from, to, _) in links {
        for (a, b) in [(*from, *to), (*to, *from)] {
            if let Some(near) = near.get_mut(a) {
                near.push(b);
            }
        }
    }
    let mut of_key: BTreeMap<Key, usize> = BTreeMap::new();
    let mut groups: Vec<Group> = Vec::new();
    let mut of_node = vec![usize::MAX; view.nodes.len()];
    for records in [false, true] {
        for (index, node) in view.nodes.iter().enumerate() {
            if matches!(node.what, LineageWhat::Record { .. }) != records {
                continue;
            }
            let layer = layers.get(index).copied().unwrap_or(0);
            let near = near.get(index).into_iter().flatten();
            let around = if records {
                Around::Groups(
                    near.map(|other| of_node.get(*other).copied().unwrap_or(usize::MAX))
                        .collect(),
                )
            } else {
                let looks = |other: &usize| view.nodes.get(*other).map(|node| without_count(&node.what));
                Around::Looks(
                    near.filter_map(|other| Some((layers.get(*other).copied()?, looks(other)?)))
                        .collect(),
                )
            };
            let count = if let LineageWhat::Record { count, .. } = &node.what {
                *count
            } else {
                0
            };
            let key = (layer, without_count(&node.what), around);
            let group = *of_key.entry(key).or_insert_with(|| {
                groups.push(Group {
                    layer,
                    what: without_count(&node.what),
                    members: 0,
                    count: 0,
                });
                groups.len() - 1
            });
            if let Some(group) = groups.get_mut(group) {
                group.members += 1;
                group.count += count;
            }
            if let Some(slot) = of_node.get_mut(index) {
                *slot = group;
            }
        }
    }
    (groups, of_node)
}

fn without_count(what: &LineageWhat) -> LineageWhat {
    match what {
        LineageWhat::Record { system, dataset, .. } => LineageWhat::Record {
            system: system.clone(),
            dataset: dataset.clone(),
            count: 0,
        },
        other => other.clone(),
    }
}

/// A box for each group, and one for the rest of a layer that has too many. Returns the box of each group, and the boxes.
fn boxes(groups: &[Group], counted: Counted) -> (Vec<usize>, Vec<Node>) {
    let mut kept = vec![usize::MAX; groups.len()];
    let mut nodes = Vec::new();
    let layers = groups.iter().map(|group| group.layer + 1).max().unwrap_or(0);
    for layer in 0..layers {
        let mut here: Vec<usize> = (0..groups.len())
            .filter(|i| groups.get(*i).is_some_and(|g| g.layer == layer))
            .collect();
        here.sort_by_key(|i| groups.get(*i).map_or(0, |group| u64::MAX - group.count));
        let rest = if here.len() > LAYER_BOXES_MAX {
            here.split_off(LAYER_BOXES_MAX - 1)
        } else {
            Vec::new()
        };
        for index in here {
            let Some(group) = groups.get(index) else { continue };
            if let Some(slot) = kept.get_mut(index) {
                *slot = nodes.len();
            }
            nodes.push(boxed(group, counted));
        }
        if rest.is_empty() {
            continue;
        }
        for index in &rest {
            if let Some(slot) = kept.get_mut(*index) {
                *slot = nodes.len();
            }
        }
        nodes.push(Node {
            layer,
            lines: vec![format!("and {} more", rest.len()), "see the list".to_owned()],
            class: "shared",
            mark: None,
        });
    }
    (kept, nodes)
}

/// So many records, and the rows or lines in them where these are known and more.
fn amounts(nodes: u64, count: u64, counted: Counted) -> Vec<String> {
    match counted {
        Counted::Records => vec![words::counted(count, "record")],
        Counted::Rows if nodes == count => vec![words::counted(nodes, "record")],
        Counted::Rows => vec![words::counted(nodes, "record"), words::rows(count)],
    }
}

fn boxed(group: &Group, counted: Counted) -> Node {
    let (lines, class) = match &group.what {
        LineageWhat::Identifier {
            kind,
            strength,
            given,
        } => {
            let name = words::identifier_kind(*kind);
            let name = if group.members > 1 {
                format!("{name} ×{}", group.members)
            } else {
                name.to_owned()
            };
            match (given, strength) {
                (true, _) => (vec![name, "given".to_owned()], "given"),
                (false, Strength::Strong) => (vec![name, "strong: followed".to_owned()], "identifier"),
                (false, Strength::Weak) => (vec![name, "weak: followed a little".to_owned()], "identifier"),
                (false, Strength::Shared) => (vec![name, "shared: not followed".to_owned()], "shared"),
            }
        }
        LineageWhat::Record { system, dataset, .. } => {
            let mut lines = vec![dataset.clone(), format!("in {system}")];
            lines.extend(amounts(group.members, group.count, counted));
            (lines, "record")
        }
    };
    Node {
        layer: group.layer,
        lines,
        class,
        mark: None,
    }
}

fn heads(groups: &[Group]) -> Vec<String> {
    let layers = groups.iter().map(|group| group.layer + 1).max().unwrap_or(0);
    (0..layers)
        .map(|layer| {
            let here = || groups.iter().filter(move |group| group.layer == layer);
            let records = here()
                .filter(|group| matches!(group.what, LineageWhat::Record { .. }))
                .count();
            let head = match (layer, records, here().count()) {
                (0, _, _) => "given by the person",
                (_, 0, _) => "which also name",
                (_, records, all) if records == all => "named in",
                _ => "leads to",
            };
            head.to_owned()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use lethe_terms::IdentifierKind;

    use super::*;

    fn view(records: usize) -> LineageView {
        let mut view = LineageView {
            complete: true,
            ..LineageView::default()
        };
        let identifier = |id: &str, kind: IdentifierKind, given| LineageNode {
            id: id.to_owned(),
            what: LineageWhat::Identifier {
                kind,
                strength: kind.strength(),
                given,
            },
        };
        view.nodes = vec![
            identifier("e", IdentifierKind::Email, true),
            identifier("i", IdentifierKind::Ip, false),
        ];
        for number in 0..records {
            let id = format!("r{number}");
            let what = LineageWhat::Record {
                system: "shop<&>\"'".to_owned(),
                dataset: format!("d{}", number % 2),
                count: 2,
            };
            view.records.push(LineageRecord {
                system: "shop<&>\"'".to_owned(),
                dataset: format!("d{}", number % 2),
                count: 2,
                path: vec![IdentifierKind::Email],
                link: None,
            });
            view.nodes.push(LineageNode { id: id.clone(), what });
            for end in ["e", "i"] {
                let edge = LineageEdge {
                    from: end.to_owned(),
                    to: id.clone(),
                    how: LineageHow::Identifies,
                };
                view.edges.push(edge);
            }
        }
        view
    }

    #[test]
    fn many_alike_records_are_one_box_with_their_sum() {
        let picture = lineage_picture(&view(300), Counted::Rows);
        assert_eq!(picture.nodes.len(), 4, "{:?}", picture.nodes);
        let sums = ["150 records".to_owned(), "300 rows or lines".to_owned()];
        assert!(picture.nodes.iter().any(|node| node.lines.ends_with(&sums)));
        assert!(
            picture
                .description
                .starts_with("300 records, 600 rows or lines in 1 system")
        );
        assert_eq!(picture.edges.len(), 4);
    }

    #[test]
    fn the_image_is_escaped_and_stands_alone() {
        let svg = lineage_svg(&view(3));
        assert!(
            svg.contains("shop&lt;&amp;&gt;") && !svg.contains("shop<"),
            "{svg}"
        );
        assert!(svg.contains("prefers-color-scheme"));
        assert!(lineage_dot(&view(3)).contains("\\\""));
    }

    #[test]
    fn an_empty_or_broken_view_gives_a_picture_too() {
        assert!(lineage_svg(&LineageView::default()).contains("<svg"));
        let mut broken = view(2);
        broken.edges.push(LineageEdge {
            from: "x".to_owned(),
            to: "e".to_owned(),
            how: LineageHow::CopiedTo,
        });
        broken.edges.push(LineageEdge {
            from: "r0".to_owned(),
            to: "r1".to_owned(),
            how: LineageHow::CopiedTo,
        });
        broken.edges.push(LineageEdge {
            from: "r0".to_owned(),
            to: "r0".to_owned(),
            how: LineageHow::CopiedTo,
        });
        assert!(lineage_svg(&broken).contains("<svg"));
    }
}
