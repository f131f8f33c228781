//! What an observation must show for a step to be verified: the same as a verifier of the certificate accepts.

use lethe_casework::fits;
use lethe_terms::{Observed, Outcome, Verb};

#[test]
fn a_step_is_verified_by_exactly_what_a_verifier_accepts() {
    let verified: Vec<String> = [Verb::Erase, Verb::Restrict, Verb::Lift, Verb::Notify]
        .into_iter()
        .flat_map(|verb| {
            [
                Outcome::Erased,
                Outcome::Restricted,
                Outcome::Lifted,
                Outcome::NotFound,
            ]
            .into_iter()
            .flat_map(move |said| Observed::ALL.iter().map(move |seen| (verb, said, *seen)))
        })
        .filter(|(verb, said, seen)| belongs(*verb, *said) && fits(*verb, *said, *seen))
        .map(|(verb, said, seen)| format!("{verb}: says {said}, shows {seen}"))
        .collect();
    assert_eq!(
        verified,
        [
            "erase: says erased, shows absent",
            "erase: says not_found, shows absent",
            "restrict: says restricted, shows restricted",
            "restrict: says not_found, shows absent",
            "restrict: says not_found, shows restricted",
            "lift: says lifted, shows present",
            "lift: says not_found, shows absent",
            "lift: says not_found, shows present",
        ]
    );
}

fn belongs(verb: Verb, said: Outcome) -> bool {
    match said {
        Outcome::Erased => verb == Verb::Erase,
        Outcome::Restricted => verb == Verb::Restrict,
        Outcome::Lifted => verb == Verb::Lift,
        _ => true,
    }
}
