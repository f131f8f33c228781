//! The plan as a picture: the systems, and the steps in the order in which they can be done.

use std::collections::BTreeMap;

use super::{Edge, Mark, Node, Picture};
use crate::views::{CaseView, PlanView, StepView};
use crate::words;

/// Draws a plan with how far it is.
pub(crate) fn plan_picture(case: &CaseView, plan: &PlanView) -> Picture {
    let told = |step: &StepView| {
        let mark = Mark::of(words::step_tone(step.state));
        (words::step_state(step, case.state), mark)
    };
    let done: BTreeMap<u32, (String, Mark)> = case.steps.iter().map(|step| (step.step, told(step))).collect();
    let mut picture = Picture {
        title: format!("Plan of {}", case.id),
        description: format!(
            "{} in {}",
            words::counted(plan.acting().count() as u64, "step"),
            systems(plan)
        ),
        heads: vec!["systems".to_owned()],
        ..Picture::default()
    };
    let mut of_system = BTreeMap::new();
    let names = plan
        .acting()
        .map(|step| &step.system)
        .chain(plan.exceptions.iter().map(|kept| &kept.system));
    for name in names {
        if of_system.contains_key(name) {
            continue;
        }
        of_system.insert(name.clone(), picture.nodes.len());
        let records: u64 = plan
            .acting()
            .filter(|step| step.system == *name)
            .map(|step| step.records)
            .sum();
        picture.nodes.push(Node {
            layer: 0,
            lines: vec![name.clone(), words::counted(records, "record")],
            class: "system",
            mark: None,
        });
    }
    steps(&mut picture, plan, &done, &of_system);
    for kept in &plan.exceptions {
        let index = picture.nodes.len();
        if let Some(system) = of_system.get(&kept.system) {
            picture.edges.push(Edge {
                from: *system,
                to: index,
                class: "faint",
                arrow: false,
            });
        }
        picture.nodes.push(Node {
            layer: 1,
            lines: vec![
                kept.dataset.clone(),
                format!("kept until {}", kept.until.day()),
                words::norm(&kept.norm),
            ],
            class: "kept",
            mark: Some(Mark::Bar),
        });
    }
    let layers = picture.nodes.iter().map(|node| node.layer).max().unwrap_or(0);
    let last = ["steps", "then", "then", "then"];
    picture
        .heads
        .extend((1..=layers).map(|layer| last.get(layer - 1).copied().unwrap_or("then").to_owned()));
    picture
}

fn systems(plan: &PlanView) -> String {
    let mut names: Vec<&str> = plan.acting().map(|step| step.system.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
}

fn steps(
    picture: &mut Picture,
    plan: &PlanView,
    done: &BTreeMap<u32, (String, Mark)>,
    of_system: &BTreeMap<String, usize>,
) {
    // Steps stand in an order that fits their dependencies, so one pass finds the depth of each.
    let mut of_step: BTreeMap<u32, usize> = BTreeMap::new();
    for step in plan.acting() {
        let before: Vec<usize> = step
            .after
            .iter()
            .filter_map(|before| of_step.get(before).copied())
            .collect();
        let depth = before
            .iter()
            .filter_map(|index| picture.nodes.get(*index))
            .map(|node| node.layer + 1)
            .max();
        let index = picture.nodes.len();
        of_step.insert(step.step, index);
        let told = done.get(&step.step).cloned();
        let (state, mark) = told.unwrap_or_else(|| ("planned".to_owned(), Mark::Open));
        picture.nodes.push(Node {
            layer: depth.unwrap_or(1),
            lines: vec![
                step.dataset.clone(),
                format!(
                    "{} {}",
                    words::verb(step.verb),
                    words::counted(step.records, "record")
                ),
                state,
            ],
            class: "step",
            mark: Some(mark),
        });
        for before in &before {
            picture.edges.push(Edge {
                from: *before,
                to: index,
                class: "then",
                arrow: true,
            });
        }
        let within = step
            .after
            .iter()
            .filter_map(|before| plan.steps.get(*before as usize))
            .any(|b| b.system == step.system);
        if !within && let Some(system) = of_system.get(&step.system) {
            picture.edges.push(Edge {
                from: *system,
                to: index,
                class: "",
                arrow: false,
            });
        }
    }
}
