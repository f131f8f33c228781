//! Where boxes and lines go.

use super::{BOX_GAP, BOX_WIDTH, HEAD, LAYER_GAP, MARGIN, Picture, box_height};

/// Height of a waypoint: a line and the room beside it.
const WAYPOINT: f64 = 6.0;

/// Passes that order the boxes of each layer: measured, nothing changes after the sixth on pictures of 200 boxes.
const PASSES: usize = 8;

/// A picture that is laid out.
pub(super) struct Placed {
    /// Upper left corner of each box.
    pub(super) corners: Vec<(f64, f64)>,
    /// Points of each line.
    pub(super) lines: Vec<Vec<(f64, f64)>>,
    /// Width of the whole.
    pub(super) width: f64,
    /// Height of the whole.
    pub(super) height: f64,
}

impl Placed {
    /// Left side of a layer.
    pub(super) fn layer_x(&self, layer: usize) -> f64 {
        layer_x(layer)
    }
}

fn layer_x(layer: usize) -> f64 {
    MARGIN + layer as f64 * (BOX_WIDTH + LAYER_GAP)
}

/// A box or a waypoint.
struct Item {
    layer: usize,
    height: f64,
    /// Middle, from the top.
    y: f64,
    left: Vec<usize>,
    right: Vec<usize>,
}

/// Lays a picture out.
pub(super) fn place(picture: &Picture) -> Placed {
    let (mut items, ways) = items(picture);
    let layers = items.iter().map(|item| item.layer + 1).max().unwrap_or(1);
    let mut order: Vec<Vec<usize>> = vec![Vec::new(); layers];
    for (index, item) in items.iter().enumerate() {
        if let Some(layer) = order.get_mut(item.layer) {
            layer.push(index);
        }
    }
    for (layer, leftwards) in sweeps(layers) {
        stack(&mut items, &order);
        sort(&items, &mut order, layer, leftwards);
    }
    stack(&mut items, &order);
    for (layer, leftwards) in sweeps(layers) {
        settle(&mut items, &order, layer, leftwards);
    }
    finish(picture, &items, &ways, layers)
}

/// Every layer in every pass, with whether the pass goes leftwards: one pass there, the next one back.
fn sweeps(layers: usize) -> impl Iterator<Item = (usize, bool)> {
    (0..PASSES).flat_map(move |pass| {
        let leftwards = pass % 2 == 1;
        (0..layers).map(move |step| (if leftwards { layers - 1 - step } else { step }, leftwards))
    })
}

/// Boxes, then waypoints; and for each line the items that it passes.
fn items(picture: &Picture) -> (Vec<Item>, Vec<Vec<usize>>) {
    let mut items: Vec<Item> = picture
        .nodes
        .iter()
        .map(|node| Item {
            layer: node.layer,
            height: box_height(node.lines.len()),
            y: 0.0,
            left: Vec::new(),
            right: Vec::new(),
        })
        .collect();
    let mut ways = Vec::new();
    for edge in &picture.edges {
        let layer_of = |index: usize| picture.nodes.get(index).map_or(0, |node| node.layer);
        let (from, to) = (layer_of(edge.from), layer_of(edge.to));
        let mut way = vec![edge.from];
        let between: Vec<usize> = if from <= to {
            (from + 1..to).collect()
        } else {
            (to + 1..from).rev().collect()
        };
        for layer in between {
            way.push(items.len());
            items.push(Item {
                layer,
                height: WAYPOINT,
                y: 0.0,
                left: Vec::new(),
                right: Vec::new(),
            });
        }
        way.push(edge.to);
        for pair in way.windows(2) {
            let (a, b) = (pair[0], pair[1]);
            let (layer_a, layer_b) = (
                items.get(a).map_or(0, |item| item.layer),
                items.get(b).map_or(0, |item| item.layer),
            );
            let (left, right) = if layer_a <= layer_b { (a, b) } else { (b, a) };
            if layer_a == layer_b {
                continue;
            }
            if let Some(item) = items.get_mut(left) {
                item.right.push(right);
            }
            if let Some(item) = items.get_mut(right) {
                item.left.push(left);
            }
        }
        ways.push(way);
    }
    (items, ways)
}

/// Puts the items of each layer below each other, around one middle line.
fn stack(items: &mut [Item], order: &[Vec<usize>]) {
    for layer in order {
        let total: f64 = layer
            .iter()
            .filter_map(|index| items.get(*index))
            .map(|item| item.height + BOX_GAP)
            .sum();
        let mut y = -total / 2.0;
        for index in layer {
            if let Some(item) = items.get_mut(*index) {
                item.y = y + item.height / 2.0;
                y += item.height + BOX_GAP;
            }
        }
    }
}

fn wanted(items: &[Item], index: usize, leftwards: bool) -> Option<f64> {
    let item = items.get(index)?;
    let neighbours = if leftwards { &item.right } else { &item.left };
    let neighbours = if neighbours.is_empty() {
        if leftwards { &item.left } else { &item.right }
    } else {
        neighbours
    };
    if neighbours.is_empty() {
        return None;
    }
    let sum: f64 = neighbours
        .iter()
        .filter_map(|index| items.get(*index))
        .map(|item| item.y)
        .sum();
    Some(sum / neighbours.len() as f64)
}

/// Orders a layer by the middles of its neighbours; equal ones keep their order.
fn sort(items: &[Item], order: &mut [Vec<usize>], layer: usize, leftwards: bool) {
    let Some(layer) = order.get_mut(layer) else { return };
    let mut keyed: Vec<(f64, usize)> = layer
        .iter()
        .map(|index| {
            let here = items.get(*index).map_or(0.0, |item| item.y);
            (wanted(items, *index, leftwards).unwrap_or(here), *index)
        })
        .collect();
    keyed.sort_by(|a, b| a.0.total_cmp(&b.0));
    *layer = keyed.into_iter().map(|(_, index)| index).collect();
}

/// Moves the items of a layer as close to where they want to be as order and distances allow: least squares under an order is
/// solved exactly by pooling neighbours that violate it.
fn settle(items: &mut [Item], order: &[Vec<usize>], layer: usize, leftwards: bool) {
    let Some(layer) = order.get(layer) else { return };
    // Each pool: sum of wanted places less their offset, how many, first of them.
    let mut offsets = Vec::with_capacity(layer.len());
    let (mut offset, mut before) = (0.0, None::<f64>);
    for index in layer {
        let height = items.get(*index).map_or(0.0, |item| item.height);
        if let Some(before) = before {
            offset += before / 2.0 + BOX_GAP + height / 2.0;
        }
        before = Some(height);
        offsets.push(offset);
    }
    let mut pools: Vec<(f64, f64)> = Vec::new();
    for (index, offset) in layer.iter().zip(&offsets) {
        let here = items.get(*index).map_or(0.0, |item| item.y);
        let mut pool = (wanted(items, *index, leftwards).unwrap_or(here) - offset, 1.0);
        while let Some(last) = pools.last().copied() {
            if last.0 / last.1 <= pool.0 / pool.1 {
                break;
            }
            pools.pop();
            pool = (pool.0 + last.0, pool.1 + last.1);
        }
        pools.push(pool);
    }
    let places = pools
        .iter()
        .flat_map(|(sum, count)| std::iter::repeat_n(sum / count, *count as usize));
    let places: Vec<f64> = places.collect();
    for ((index, offset), place) in layer.iter().zip(&offsets).zip(places) {
        if let Some(item) = items.get_mut(*index) {
            item.y = place + offset;
        }
    }
}

fn finish(picture: &Picture, items: &[Item], ways: &[Vec<usize>], layers: usize) -> Placed {
    let top = items
        .iter()
        .map(|item| item.y - item.height / 2.0)
        .fold(f64::INFINITY, f64::min);
    let bottom = items
        .iter()
        .map(|item| item.y + item.height / 2.0)
        .fold(f64::NEG_INFINITY, f64::max);
    let head = if picture.heads.is_empty() { 0.0 } else { HEAD };
    let (top, bottom) = if items.is_empty() {
        (0.0, 0.0)
    } else {
        (top, bottom)
    };
    let shift = MARGIN + head - top;
    let corners = items
        .iter()
        .take(picture.nodes.len())
        .map(|item| (layer_x(item.layer), item.y - item.height / 2.0 + shift))
        .collect();
    let mut bows = false;
    let lines = ways
        .iter()
        .map(|way| {
            let mut points = Vec::new();
            for (number, pair) in way.windows(2).enumerate() {
                let (Some(a), Some(b)) = (items.get(pair[0]), items.get(pair[1])) else {
                    continue;
                };
                let right = |item: &Item| (layer_x(item.layer) + BOX_WIDTH, item.y + shift);
                let left = |item: &Item| (layer_x(item.layer), item.y + shift);
                bows |= a.layer == b.layer && a.layer + 1 == layers;
                let (from, to) = match a.layer.cmp(&b.layer) {
                    std::cmp::Ordering::Less => (right(a), left(b)),
                    std::cmp::Ordering::Equal => (right(a), right(b)),
                    std::cmp::Ordering::Greater => (left(a), right(b)),
                };
                let last: Option<&(f64, f64)> = points.last();
                if number == 0 || last != Some(&from) {
                    points.push(from);
                }
                points.push(to);
            }
            points
        })
        .collect();
    let side = if bows { LAYER_GAP * 0.6 } else { 0.0 };
    Placed {
        corners,
        lines,
        width: layer_x(layers.saturating_sub(1)) + BOX_WIDTH + MARGIN + side,
        height: bottom - top + 2.0 * MARGIN + head,
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Edge, Node};
    use super::*;

    fn picture(seed: u64, boxes: usize, layers: usize) -> Picture {
        let mut state = seed;
        let mut next = move |below: usize| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        };
        let nodes: Vec<Node> = (0..boxes)
            .map(|_| Node {
                layer: next(layers),
                lines: vec![String::new(); 1 + next(3)],
                class: "",
                mark: None,
            })
            .collect();
        let edges = (0..boxes * 2)
            .map(|_| Edge {
                from: next(boxes),
                to: next(boxes),
                class: "",
                arrow: false,
            })
            .filter(|edge| edge.from != edge.to)
            .collect();
        Picture {
            nodes,
            edges,
            ..Picture::default()
        }
    }

    #[test]
    fn no_two_boxes_overlap_and_all_are_within_the_picture() {
        for seed in 1..60 {
            let picture = picture(seed, 2 + seed as usize % 40, 1 + seed as usize % 6);
            let placed = place(&picture);
            let boxes: Vec<(f64, f64, f64)> = picture
                .nodes
                .iter()
                .zip(&placed.corners)
                .map(|(node, (x, y))| (*x, *y, box_height(node.lines.len())))
                .collect();
            for (index, a) in boxes.iter().enumerate() {
                assert!(
                    a.0 >= 0.0 && a.1 >= 0.0 && a.0 + BOX_WIDTH <= placed.width && a.1 + a.2 <= placed.height,
                    "{seed}"
                );
                for b in &boxes[index + 1..] {
                    let apart =
                        (a.0 - b.0).abs() >= BOX_WIDTH || a.1 + a.2 <= b.1 + 0.01 || b.1 + b.2 <= a.1 + 0.01;
                    assert!(apart, "seed {seed}: {a:?} {b:?}");
                }
            }
        }
    }

    #[test]
    fn a_simple_chain_is_straight() {
        let node = |layer| Node {
            layer,
            lines: vec![String::new()],
            class: "",
            mark: None,
        };
        let edge = |from, to| Edge {
            from,
            to,
            class: "",
            arrow: false,
        };
        let picture = Picture {
            nodes: vec![node(0), node(1), node(2)],
            edges: vec![edge(0, 1), edge(1, 2)],
            ..Picture::default()
        };
        let placed = place(&picture);
        assert!(
            placed.corners.iter().all(|(_, y)| (*y - MARGIN).abs() < 0.01),
            "{:?}",
            placed.corners
        );
    }
}
