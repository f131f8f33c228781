//! Where nothing was found, it is looked whether nothing is there.

use lethe_terms::{CaseState, Observed, Right, Verb};

use crate::world::{Whim, World, case, name};

fn places(world: &World) -> Vec<(String, Verb, bool)> {
    let present = world.conductor.case(case(1)).unwrap().plan().unwrap();
    let steps = present.plan.steps.iter().zip(&present.steps);
    steps
        .map(|(step, progress)| (step.system.to_string(), step.verb, progress.is_verified(step)))
        .collect()
}

/// A person whom the shop holds, and the chat too, where no search finds them.
fn overlooked(right: Right) -> World {
    let mut world = World::new(&["chat", "shop"], &[1], true);
    world.overlooked.insert((1, name("chat")));
    world.open(1, 1, right, None);
    world
}

#[test]
fn a_system_that_holds_nothing_is_looked_at_once_the_rest_is_done() {
    for (right, verb) in [
        (Right::Erasure, Verb::Erase),
        (Right::Restriction, Verb::Restrict),
    ] {
        let mut world = overlooked(right);
        world.held.insert((1, name("chat")), Observed::Absent);
        world.run();
        assert_eq!(world.state(1), CaseState::Completed);
        assert_eq!(
            places(&world),
            [("shop".into(), verb, true), ("chat".into(), Verb::Observe, true)]
        );
        let sent: Vec<_> = world
            .sent
            .iter()
            .map(|sent| (sent.verb, sent.system.as_str()))
            .collect();
        assert_eq!(
            sent[2..],
            [(verb, "shop"), (Verb::Observe, "shop"), (Verb::Observe, "chat")]
        );
        let rows = &world.statement(1)["rows"];
        assert_eq!(
            (&rows[1]["step"]["verb"], &rows[1]["state"]),
            (&"observe".into(), &"verified".into())
        );
        assert!(
            rows[1]["receipt"].is_null() && rows[1]["observation"].is_string(),
            "{rows}"
        );
    }
}

#[test]
fn a_person_who_is_nowhere_is_looked_for_everywhere() {
    let mut world = World::new(&["chat", "shop"], &[2], true);
    world.open(1, 1, Right::Erasure, None);
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    assert_eq!(
        places(&world),
        [
            ("chat".into(), Verb::Observe, true),
            ("shop".into(), Verb::Observe, true)
        ]
    );
    assert_eq!(world.statement(1)["kind"], "erasure");
}

#[test]
fn what_appeared_after_the_search_is_found_by_another() {
    let mut world = overlooked(Right::Erasure);
    world
        .system("chat")
        .locating
        .extend([Whim::CountNone, Whim::Find]);
    world.run();
    assert_eq!(world.state(1), CaseState::Completed);
    assert!(world.held.values().all(|state| *state == Observed::Absent));
    assert!(places(&world).contains(&("chat".into(), Verb::Erase, true)));
    world.assert_once();
}

#[test]
fn what_searches_overlook_again_and_again_a_person_has_to_look_at() {
    let mut world = overlooked(Right::Erasure);
    world.run();
    assert_eq!(world.state(1), CaseState::NeedsAttention);
    let attention = world.conductor.case(case(1)).unwrap().attention();
    let named: Vec<_> = attention
        .iter()
        .map(|attention| {
            (
                attention.system.as_ref().unwrap().as_str(),
                attention.code.as_str(),
            )
        })
        .collect();
    assert_eq!(named, [("chat", "casework-overlooked")]);
    let searches = world
        .sent
        .iter()
        .filter(|sent| sent.verb == Verb::Locate && sent.system == name("chat"));
    assert_eq!(searches.count(), 2);
}

#[test]
fn a_look_that_a_crash_cut_off_is_taken_again() {
    for at in 1.. {
        let mut world = overlooked(Right::Erasure);
        world.held.insert((1, name("chat")), Observed::Absent);
        world.cut = Some((at, at % 2 == 0));
        world.run();
        assert_eq!(world.state(1), CaseState::Completed, "cut off at effect {at}");
        if world.cut.is_some() {
            break;
        }
    }
}
