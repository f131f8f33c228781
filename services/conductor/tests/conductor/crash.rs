//! Cut off after every single effect, carried out or not, and brought back from the journal.

use std::collections::BTreeSet;

use lethe_terms::{CaseState, InstructionId, Right, Verb};

use crate::world::World;

/// After which effect, whether it was carried out, and whether answers overtake walks.
type Cut = (Option<(usize, bool)>, bool);

fn erase(cut: Cut) -> World {
    let mut world = World::new(&["crm", "shop"], &[1], true);
    (world.cut, world.answers_first) = cut;
    world.open(1, 1, Right::Erasure, None);
    world.run();
    world
}

fn restrict_and_lift(cut: Cut) -> World {
    let mut world = World::new(&["crm", "shop"], &[1], true);
    (world.cut, world.answers_first) = cut;
    world.open(1, 1, Right::Restriction, None);
    world.open(2, 1, Right::Erasure, None);
    world.run();
    assert_eq!(
        (world.state(1), world.state(2)),
        (CaseState::Completed, CaseState::Acting)
    );
    world.lift(1, 9, 0);
    world.run();
    world
}

fn ids(world: &World) -> BTreeSet<InstructionId> {
    world
        .sent
        .iter()
        .filter(|order| order.verb != Verb::Observe)
        .map(|order| order.id)
        .collect()
}

fn check_every_cut(run: fn(Cut) -> World) {
    for answers_first in [false, true] {
        let whole = run((None, answers_first));
        assert!(whole.effects > 20);
        for at in 1..=whole.effects {
            for done in [false, true] {
                let cut = run((Some((at, done)), answers_first));
                let place = format!("effect {at}, carried out: {done}, answers first: {answers_first}");
                assert_eq!(cut.ending(), whole.ending(), "{place}");
                assert_eq!(ids(&cut), ids(&whole), "{place}");
                cut.assert_once();
            }
        }
    }
}

#[test]
fn an_erasure_that_is_cut_anywhere_ends_as_if_nothing_had_been() {
    check_every_cut(erase);
}

#[test]
fn a_restriction_with_its_lift_that_is_cut_anywhere_ends_as_if_nothing_had_been() {
    check_every_cut(restrict_and_lift);
}

#[test]
fn the_place_of_an_instruction_among_all_is_the_same_after_a_restart() {
    let mut world = World::new(&["crm", "shop"], &[1], false);
    world.system("crm").silent = true;
    world.system("shop").silent = true;
    world.open(1, 1, Right::Erasure, None);
    world.run();
    let before = std::mem::take(&mut world.sent);
    assert_eq!(before.len(), 2);
    world.crash();
    assert_eq!(world.sent, before);
}

#[test]
fn ended_cases_cost_nothing_but_their_fold_when_the_conductor_comes_back() {
    let persons: Vec<u8> = (1..=200).collect();
    let mut world = World::new(&["crm", "shop"], &persons, false);
    for person in &persons {
        world.open(*person, *person, Right::Restriction, None);
    }
    world.run();
    assert!(
        persons
            .iter()
            .all(|person| world.state(*person) == CaseState::Completed)
    );
    let (effects, sent) = (world.effects, world.sent.len());
    world.crash();
    assert_eq!(
        (world.effects, world.sent.len()),
        (effects, sent),
        "nothing is done again"
    );
}
