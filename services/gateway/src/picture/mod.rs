//! Pictures: boxes in layers with lines between them, as SVG that reads in light and dark.
//!
//! A picture is laid out in three passes after Sugiyama: lines over several layers get a waypoint in each layer between, boxes
//! of a layer are ordered by the middle of their neighbours to save crossings, and are then moved as close to their
//! neighbours as the order and the least distance allow. No two boxes overlap, whatever comes in.

mod layout;
mod lineage;
mod plan;

use maud::{Markup, PreEscaped, html};

use self::layout::{Placed, place};
pub(crate) use self::lineage::{Counted, lineage_of_plan, lineage_picture};
pub use self::lineage::{lineage_dot, lineage_svg};
pub(crate) use self::plan::plan_picture;

use crate::words::Tone;

/// Width of a box, in pixels: `says erased, not yet seen` fits beside a mark in the widest of the fonts.
const BOX_WIDTH: f64 = 228.0;
/// Height of a box with `lines` lines of text.
const fn box_height(lines: usize) -> f64 {
    18.0 + 17.0 * lines as f64
}
/// Room between two layers for the lines.
const LAYER_GAP: f64 = 60.0;
/// Least distance between two boxes of a layer.
const BOX_GAP: f64 = 16.0;
/// Room around the picture.
const MARGIN: f64 = 16.0;
/// Height of the layers' headings.
const HEAD: f64 = 30.0;
/// Letters that fit into the first line of a box, and into the others.
const LETTERS: (usize, usize) = (22, 28);
/// Letters that a mark takes from them.
const MARK_LETTERS: (usize, usize) = (2, 3);

/// A box.
#[derive(Debug, Clone)]
pub(crate) struct Node {
    /// The layer, from 0 at the left.
    pub(crate) layer: usize,
    /// The lines of text; the first stands out.
    pub(crate) lines: Vec<String>,
    /// What it looks like: a class of the style sheet.
    pub(crate) class: &'static str,
    /// A mark before the first line.
    pub(crate) mark: Option<Mark>,
}

/// A line between two boxes.
#[derive(Debug, Clone)]
pub(crate) struct Edge {
    /// Index of the box that it leaves.
    pub(crate) from: usize,
    /// Index of the box that it enters.
    pub(crate) to: usize,
    /// What it looks like: a class of the style sheet.
    pub(crate) class: &'static str,
    /// Whether it ends in an arrow.
    pub(crate) arrow: bool,
}

/// A picture before it is laid out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Picture {
    /// What it shows, in a few words.
    pub(crate) title: String,
    /// What it shows, for those who do not see it.
    pub(crate) description: String,
    /// Headings of the layers.
    pub(crate) heads: Vec<String>,
    /// The boxes.
    pub(crate) nodes: Vec<Node>,
    /// The lines.
    pub(crate) edges: Vec<Edge>,
}

/// A mark: shape and colour together, so that neither is needed to tell states apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mark {
    /// An open circle: nothing happened yet.
    Open,
    /// A circle half full: under way.
    Half,
    /// A square with a bar: it waits.
    Bar,
    /// A full circle with a tick.
    Tick,
    /// A triangle with a stroke.
    Alarm,
}

impl Mark {
    /// The mark of a tone.
    pub(crate) const fn of(tone: Tone) -> Self {
        match tone {
            Tone::Quiet => Self::Open,
            Tone::Busy => Self::Half,
            Tone::Waiting => Self::Bar,
            Tone::Good => Self::Tick,
            Tone::Bad => Self::Alarm,
        }
    }

    const fn class(self) -> &'static str {
        match self {
            Self::Open => "mark quiet",
            Self::Half => "mark busy",
            Self::Bar => "mark waiting",
            Self::Tick => "mark good",
            Self::Alarm => "mark bad",
        }
    }

    /// The mark, 16 by 16 pixels.
    pub(crate) fn draw(self, x: f64, y: f64) -> Markup {
        html! {
            svg class=(self.class()) x=(px(x)) y=(px(y)) width="16" height="16" viewBox="0 0 16 16" aria-hidden="true" {
                @match self {
                    Self::Open => { circle class="stroke" cx="8" cy="8" r="6" {} }
                    Self::Half => { circle class="stroke" cx="8" cy="8" r="6" {} path class="full" d="M8 2a6 6 0 0 1 0 12z" {} }
                    Self::Bar => { rect class="stroke" x="2" y="2" width="12" height="12" rx="2" {} path class="stroke" d="M5 8h6" {} }
                    Self::Tick => { circle class="full" cx="8" cy="8" r="7" {} path class="cut" d="M4.6 8.3l2.3 2.3 4.4-4.7" {} }
                    Self::Alarm => { path class="full" d="M8 1.2 15.4 14.6H.6z" {} path class="cut" d="M8 6v4.2M8 12v.9" {} }
                }
            }
        }
    }
}

/// A length with at most one digit after the point.
fn px(length: f64) -> String {
    let text = format!("{length:.1}");
    text.strip_suffix(".0").map_or(text.clone(), str::to_owned)
}

/// Shortens in the middle: names differ at both ends.
fn short(text: &str, letters: usize) -> String {
    let count = text.chars().count();
    if count <= letters {
        return text.to_owned();
    }
    let tail = letters / 2 - 1;
    let head: String = text.chars().take(letters - tail - 1).collect();
    let tail: String = text.chars().skip(count - tail).collect();
    format!("{head}…{tail}")
}

/// Draws a picture. One that stands alone brings its styles along.
pub(crate) fn draw(picture: &Picture, alone: bool) -> Markup {
    let placed = place(picture);
    let (width, height) = (px(placed.width), px(placed.height));
    html! {
        svg class="picture" role="img" xmlns="http://www.w3.org/2000/svg" width=(width) height=(height)
            viewBox=(format!("0 0 {width} {height}")) {
            title { (picture.title) }
            desc { (picture.description) }
            @if alone {
                style { (PreEscaped(concat!(include_str!("../assets/theme.css"), include_str!("../assets/picture.css")))) }
                rect class="paper" width="100%" height="100%" {}
            }
            @for (layer, head) in picture.heads.iter().enumerate() {
                text class="head" x=(px(placed.layer_x(layer))) y=(px(MARGIN + 12.0)) { (head) }
            }
            @for (index, edge) in picture.edges.iter().enumerate() { (line(&placed, index, edge)) }
            @for (index, node) in picture.nodes.iter().enumerate() { (boxed(&placed, index, node)) }
        }
    }
}

fn line(placed: &Placed, index: usize, edge: &Edge) -> Markup {
    let Some(points) = placed.lines.get(index) else {
        return html! {};
    };
    let mut d = String::new();
    for (number, pair) in points.windows(2).enumerate() {
        let [(x1, y1), (x2, y2)] = [pair[0], pair[1]];
        if number == 0 {
            d = format!("M{} {}", px(x1), px(y1));
        }
        // Two ends at the same side of one layer: a bow outwards.
        let bend = if (x1 - x2).abs() < 1.0 {
            LAYER_GAP * 0.55
        } else {
            (x2 - x1) / 2.0
        };
        let back = if (x1 - x2).abs() < 1.0 { -bend } else { bend };
        d.push_str(&format!(
            "C{} {} {} {} {} {}",
            px(x1 + bend),
            px(y1),
            px(x2 - back),
            px(y2),
            px(x2),
            px(y2)
        ));
    }
    let end = points.last().copied().unwrap_or_default();
    html! {
        path class={ "line " (edge.class) } d=(d) {}
        @if edge.arrow {
            path class={ "tip " (edge.class) } d=(format!("M{} {}l-7 -4v8z", px(end.0), px(end.1))) {}
        }
    }
}

fn boxed(placed: &Placed, index: usize, node: &Node) -> Markup {
    let Some(&(x, y)) = placed.corners.get(index) else {
        return html! {};
    };
    let height = box_height(node.lines.len());
    let inset = if node.mark.is_some() { 34.0 } else { 12.0 };
    html! {
        g class={ "node " (node.class) } {
            title { (node.lines.join(" · ")) }
            rect class="box" x=(px(x)) y=(px(y)) width=(px(BOX_WIDTH)) height=(px(height)) rx="7" {}
            @if let Some(mark) = node.mark { (mark.draw(x + 10.0, y + 8.0)) }
            @for (number, text) in node.lines.iter().enumerate() {
                @let (letters, taken) = if number == 0 { (LETTERS.0, MARK_LETTERS.0) } else { (LETTERS.1, MARK_LETTERS.1) };
                @let letters = if node.mark.is_some() { letters - taken } else { letters };
                text class=(if number == 0 { "name" } else { "more" }) x=(px(x + inset)) y=(px(y + 21.0 + 17.0 * number as f64)) {
                    (short(text, letters))
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_keep_both_ends() {
        assert_eq!(short("short", 24), "short");
        let text = short("registration_database_addresses_old", 24);
        assert_eq!(text.chars().count(), 24);
        assert!(
            text.starts_with("registration") && text.ends_with("resses_old"),
            "{text}"
        );
    }
}
