//! Walks as transcripts: who is there, who asks, what is reached and why.
#![allow(clippy::unwrap_used, clippy::panic, reason = "test code")]

mod common;

use std::collections::BTreeMap;

use common::{record_token, token, walked, world};
use lethe_journal::{DatasetRef, Token};
use lethe_lineage::{Bound, Limits, Link, PartAnswer, Reached, Standing, Walk, dot, lineage_graph, picture};
use lethe_terms::IdentifierKind;

fn run(records: &[(&str, &str)], walk: Walk) -> Reached {
    walked(&world(records), walk, |_| {})
}

fn start(identifiers: &str) -> Vec<Token> {
    identifiers.split_whitespace().map(token).collect()
}

fn walk(identifiers: &str) -> Walk {
    Walk::new(start(identifiers), Limits::default())
}

/// Names of the reached records, with kinds along the path.
fn names(records: &[(&str, &str)], reached: &Reached) -> Vec<String> {
    let by_token: BTreeMap<_, _> = records
        .iter()
        .map(|(name, _)| (record_token(name), *name))
        .collect();
    let line = |record: &lethe_lineage::ReachedRecord| {
        let via: Vec<&str> = record.via().into_iter().map(IdentifierKind::code).collect();
        format!("{} by {}", by_token[&record.record], via.join(" > "))
    };
    let mut lines: Vec<String> = reached.records.iter().map(line).collect();
    lines.sort();
    lines
}

fn check(records: &[(&str, &str)], request: &str, expected: &[&str]) -> Reached {
    let reached = run(records, walk(request));
    assert_eq!(names(records, &reached), expected);
    assert_eq!(
        run(&records.iter().rev().copied().collect::<Vec<_>>(), walk(request)),
        reached,
        "the order does not depend on input"
    );
    reached
}

fn standing(reached: &Reached, identifier: &str) -> Standing {
    let wanted = token(identifier);
    reached
        .identifiers
        .iter()
        .find(|known| known.token == wanted)
        .map(|known| known.standing)
        .unwrap()
}

const COMPANY: &[(&str, &str)] = &[
    ("shop/accounts/ada", "email=ada@example.org user_id=17"),
    ("shop/orders/1", "user_id=17"),
    ("crm/contacts/a", "email=ada@example.org contact_id=c1 phone=+491"),
    ("chat/talks/a", "contact_id=c1"),
    ("web/log/1", "user_id=17 cookie_id=k1 ip=192.0.2.7"),
    ("web/log/2", "cookie_id=k1 ip=192.0.2.7"),
    // The namesake shares nothing but the name, which is no identifier.
    ("shop/accounts/namesake", "email=ada2@example.org user_id=18"),
    ("shop/orders/2", "user_id=18"),
    // The colleague sits behind the same office address.
    ("shop/accounts/bob", "email=bob@example.org user_id=19"),
    ("web/log/3", "user_id=19 ip=192.0.2.7"),
    ("web/log/4", "ip=192.0.2.7"),
];

#[test]
fn a_person_is_reached_everywhere_and_neither_namesake_nor_colleague() {
    let reached = check(
        COMPANY,
        "email=ada@example.org",
        &[
            "chat/talks/a by email > contact_id",
            "crm/contacts/a by email",
            "shop/accounts/ada by email",
            "shop/orders/1 by email > user_id",
            "web/log/1 by email > user_id",
            "web/log/2 by email > user_id > cookie_id",
        ],
    );
    assert_eq!(reached.bound, None);
    assert_eq!(reached.suspicious().count(), 0);
    assert_eq!(standing(&reached, "ip=192.0.2.7"), Standing::Shared);
    // Two records behind the office address are not the person's.
    assert_eq!(reached.candidates.len(), 1);
    assert_eq!(
        (reached.candidates[0].token, reached.candidates[0].records),
        (token("ip=192.0.2.7"), 2)
    );
    assert!(!reached.candidates[0].at_least);
}

#[test]
fn a_shared_identifier_alone_reaches_nobody() {
    let reached = check(COMPANY, "ip=192.0.2.7", &[]);
    assert_eq!(reached.candidates[0].records, 4);
}

#[test]
fn an_unknown_identifier_reaches_nobody_and_was_asked_for() {
    let reached = check(COMPANY, "email=nobody@example.org", &[]);
    assert_eq!(standing(&reached, "email=nobody@example.org"), Standing::Followed);
}

#[test]
fn a_cookie_of_two_people_is_not_followed_and_reported() {
    let reached = check(
        &[
            ("shop/accounts/ada", "email=ada user_id=17"),
            ("web/log/1", "user_id=17 cookie_id=family"),
            ("web/log/2", "user_id=18 cookie_id=family"),
            ("web/log/3", "cookie_id=family"),
        ],
        "email=ada",
        &["shop/accounts/ada by email", "web/log/1 by email > user_id"],
    );
    assert_eq!(
        standing(&reached, "cookie_id=family"),
        Standing::SeveralPeople {
            kind: IdentifierKind::UserId,
            found: 2
        }
    );
    assert_eq!(reached.suspicious().count(), 1);
}

#[test]
fn a_cookie_of_too_many_records_is_not_followed_and_reported() {
    let records: Vec<(String, String)> = (0..9)
        .map(|n| (format!("web/log/{n}"), "cookie_id=k".to_owned()))
        .collect();
    let mut records: Vec<(&str, &str)> = records
        .iter()
        .map(|(name, ids)| (name.as_str(), ids.as_str()))
        .collect();
    records.push(("shop/accounts/ada", "email=ada cookie_id=k"));
    let reach = |weak_records_max| {
        run(
            &records,
            Walk::new(
                start("email=ada"),
                Limits {
                    weak_records_max,
                    ..Limits::default()
                },
            ),
        )
    };
    let reached = reach(9);
    assert_eq!(
        standing(&reached, "cookie_id=k"),
        Standing::TooManyRecords { records: 10 }
    );
    assert_eq!(reached.records.len(), 1);
    assert_eq!(reach(10).records.len(), 10);
}

#[test]
fn a_mailbox_of_many_accounts_is_not_followed_and_reported() {
    let records: Vec<(String, String)> = (0..6)
        .map(|n| (format!("shop/accounts/{n}"), format!("email=info user_id={n}")))
        .collect();
    let records: Vec<(&str, &str)> = records
        .iter()
        .map(|(name, ids)| (name.as_str(), ids.as_str()))
        .collect();
    let reached = check(&records, "user_id=3", &["shop/accounts/3 by user_id"]);
    assert_eq!(
        standing(&reached, "email=info"),
        Standing::SeveralPeople {
            kind: IdentifierKind::UserId,
            found: 6
        }
    );
}

#[test]
fn records_of_a_mailbox_that_the_request_names_are_reached_and_lead_no_further() {
    let mut records: Vec<(String, String)> = (0..6)
        .map(|n| (format!("shop/accounts/{n}"), format!("email=info user_id={n}")))
        .collect();
    records.push(("web/log/1".to_owned(), "user_id=3".to_owned()));
    let records: Vec<(&str, &str)> = records
        .iter()
        .map(|(name, ids)| (name.as_str(), ids.as_str()))
        .collect();
    let reached = run(&records, Walk::new(start("email=info"), Limits::default()));
    assert_eq!(reached.records.len(), 6);
    assert_eq!(reached.suspicious().count(), 1);
}

/// Six people share an address; what else the first is known by leads on from their account.
const FAMILY: &[(&str, &str)] = &[
    ("shop/accounts/0", "email=family user_id=0 contact_id=c phone=+49"),
    ("shop/accounts/1", "email=family user_id=1"),
    ("shop/accounts/2", "email=family user_id=2"),
    ("shop/accounts/3", "email=family user_id=3"),
    ("shop/accounts/4", "email=family user_id=4"),
    ("shop/accounts/5", "email=family user_id=5"),
    ("shop/orders/5", "user_id=5"),
    ("shop/accounts/9010", "phone=+49 user_id=9010"),
    ("crm/contacts/c", "email=ada contact_id=c"),
];

#[test]
fn an_address_of_several_people_stays_one_when_the_records_of_some_are_gone() {
    let (left, family) = (&FAMILY[..3], "email=family");
    let reach = |before: &str| {
        let records: Vec<_> = [left, &FAMILY[7..]].concat();
        let walk = Walk::new(start(family), Limits::default()).not_following(start(before));
        run(&records, walk)
    };
    let anew = reach("user_id=0");
    assert_eq!(standing(&anew, family), Standing::Followed);
    let reached = reach(family);
    assert_eq!(standing(&reached, family), Standing::JudgedBefore);
    assert_eq!((reached.records.len(), anew.records.len()), (3, 5));
    assert!(!reached.is_followed(start(family)[0]));
    assert_eq!(reached.suspicious().count(), 0, "it was looked at before");
}

#[test]
fn a_record_that_a_mailbox_led_to_leads_on_where_another_identifier_leads_to_it() {
    let others = [1, 2, 3, 4, 5].map(|n| format!("shop/accounts/{n} by email"));
    let check_with = |request: &str, more: [&str; 3]| {
        let mut expected: Vec<&str> = others.iter().map(String::as_str).chain(more).collect();
        expected.sort_unstable();
        let reached = check(FAMILY, request, &expected);
        assert_eq!(
            reached.suspicious().count(),
            1,
            "the address is still to be looked at"
        );
        reached
    };
    // In the same round.
    let more = [
        "crm/contacts/c by user_id > contact_id",
        "shop/accounts/0 by email",
        "shop/accounts/9010 by user_id > phone",
    ];
    check_with("user_id=0 email=family", more);
    check_with("email=family user_id=0", more);
    // In a later one: the way to the account stays the shorter, and what lies beyond is explained by the one that leads there.
    let more = [
        "crm/contacts/c by email",
        "shop/accounts/0 by email",
        "shop/accounts/9010 by email > contact_id > phone",
    ];
    let reached = check_with("email=ada email=family", more);
    let beyond = reached
        .records
        .iter()
        .find(|record| record.record == record_token("shop/accounts/9010"))
        .unwrap();
    assert_eq!(beyond.path[0].token, token("email=ada").token);
    assert_eq!(beyond.path[1].record, record_token("shop/accounts/0"));
}

#[test]
fn it_does_not_matter_which_of_two_addresses_of_a_record_is_asked_first() {
    // One stands before the other as their tokens happen to fall.
    for n in 0..16 {
        let (shared, own) = (
            format!("email={n}@all.example"),
            format!("email={n}@first.example"),
        );
        let mut records: Vec<(String, String)> = (1..6)
            .map(|account| {
                (
                    format!("shop/accounts/{account}"),
                    format!("{shared} user_id={account}"),
                )
            })
            .collect();
        records.push(("shop/accounts/0".to_owned(), format!("{shared} {own} user_id=0")));
        records.push(("shop/orders/0".to_owned(), "user_id=0".to_owned()));
        let records: Vec<(&str, &str)> = records
            .iter()
            .map(|(name, ids)| (name.as_str(), ids.as_str()))
            .collect();
        let reached = run(&records, walk(&format!("{shared} {own}")));
        assert_eq!(reached.records.len(), 7, "six accounts and the order of one");
    }
}

#[test]
fn a_record_that_is_led_to_twice_counts_once_and_bounds_hold() {
    let reach = |rounds_max, records_max| {
        let limits = Limits {
            rounds_max,
            records_max,
            ..Limits::default()
        };
        let reached = run(FAMILY, Walk::new(start("email=ada email=family"), limits));
        (reached.records.len(), reached.bound)
    };
    assert_eq!(reach(4, 8), (8, None));
    assert_eq!(reach(4, 7), (7, Some(Bound::Records)));
    assert_eq!(reach(2, 8), (7, Some(Bound::Rounds)));
}

#[test]
fn the_link_to_a_record_of_a_mailbox_that_the_request_names_is_one_that_carries_it() {
    let cut = |request: &str, name: &str| {
        let reached = run(FAMILY, walk(request));
        let mut records = reached.records.iter();
        let found = records.find(|record| record.record == record_token(name));
        found.unwrap().cut
    };
    let link = |identifier: &str, name: &str| {
        Some(Link {
            token: token(identifier).token,
            record: record_token(name),
        })
    };
    let (request, own) = ("email=family user_id=0", "shop/accounts/0");
    assert_eq!(cut("user_id=0", own), link("user_id=0", own));
    assert_eq!(cut(request, own), None, "the request names the address, too");
    let (other, beyond) = ("shop/accounts/1", "shop/accounts/9010");
    assert_eq!(cut(request, other), link("email=family", other));
    assert_eq!(cut(request, beyond), link("phone=+49", beyond));
}

/// A line that a stranger writes must neither hide a person's records nor lead to them.
#[test]
fn a_line_with_many_names_in_it_hides_nobody_and_leads_to_nobody() {
    let records = [
        ("shop/accounts/ada", "email=ada user_id=17"),
        ("shop/notes/1", "user_id=17"),
        ("shop/accounts/eve", "email=eve user_id=18"),
        (
            "web/log/1",
            "email=ada email=m1 email=m2 email=m3 email=m4 email=m5",
        ),
        ("web/log/2", "email=ada email=eve"),
    ];
    let log = DatasetRef {
        system: "web".parse().unwrap(),
        dataset: "log".parse().unwrap(),
    };
    let names = |given: &str| {
        let walk = Walk::new(start(given), Limits::default()).unproven_in([log.clone()]);
        let reached = run(&records, walk);
        assert_eq!(reached.suspicious().count(), 0);
        reached.records.len()
    };
    assert_eq!(names("email=ada"), 4, "account, note and both lines");
    assert_eq!(
        names("email=eve"),
        2,
        "her account and the line, and nothing of Ada's"
    );
    let reached = run(&records, Walk::new(start("email=ada"), Limits::default()));
    assert_eq!(
        reached.records.len(),
        5,
        "a crowd proves nothing anywhere; of two the walk takes both for hers"
    );
}

#[test]
fn a_cut_link_stays_cut_in_both_directions() {
    let records = [
        ("shop/accounts/ada", "email=ada phone=+491"),
        ("crm/contacts/stranger", "phone=+491 email=stranger"),
        ("crm/notes/stranger", "email=stranger"),
    ];
    let all = check(
        &records,
        "email=ada",
        &[
            "crm/contacts/stranger by email > phone",
            "crm/notes/stranger by email > phone > email",
            "shop/accounts/ada by email",
        ],
    );
    let note = all
        .records
        .iter()
        .find(|record| record.record == record_token("crm/notes/stranger"))
        .unwrap();
    assert_eq!(
        note.cut,
        Some(Link {
            token: token("email=stranger").token,
            record: note.record
        })
    );
    let wrong = Link {
        token: token("phone=+491").token,
        record: record_token("crm/contacts/stranger"),
    };
    let reached = run(&records, walk("email=ada").without([wrong]));
    assert_eq!(names(&records, &reached), ["shop/accounts/ada by email"]);
    // From the other side the stranger is not led to Ada either.
    let reached = run(&records, walk("email=stranger").without([wrong]));
    assert_eq!(
        names(&records, &reached),
        ["crm/contacts/stranger by email", "crm/notes/stranger by email"]
    );
}

#[test]
fn the_link_that_can_be_cut_is_the_nearest_that_carries_the_record_alone() {
    let records = [
        ("shop/accounts/ada", "email=ada phone=+491"),
        ("crm/contacts/x", "phone=+491 contact_id=c email=x"),
        ("crm/notes/x", "contact_id=c email=x"),
        ("shop/orders/1", "email=ada phone=+491"),
    ];
    let reached = run(&records, walk("email=ada"));
    let cut = |name: &str| {
        reached
            .records
            .iter()
            .find(|record| record.record == record_token(name))
            .unwrap()
            .cut
    };
    // Two links carry the note, but both hang on the contact's one.
    assert_eq!(
        cut("crm/notes/x"),
        Some(Link {
            token: token("phone=+491").token,
            record: record_token("crm/contacts/x")
        })
    );
    // Two links carry each of these, by e-mail and by phone.
    assert_eq!(cut("shop/orders/1"), None);
    assert_eq!(cut("shop/accounts/ada"), None);
}

#[test]
fn a_walk_that_comes_to_a_bound_says_so() {
    let records: Vec<(String, String)> = (0..12)
        .map(|n| {
            (
                format!("chain/links/{n}"),
                format!("user_id={n} user_id={}", n + 1),
            )
        })
        .collect();
    let records: Vec<(&str, &str)> = records
        .iter()
        .map(|(name, ids)| (name.as_str(), ids.as_str()))
        .collect();
    let reach = |limits| run(&records, Walk::new(start("user_id=0"), limits));
    assert_eq!(
        (
            reach(Limits::default()).records.len(),
            reach(Limits::default()).bound
        ),
        (12, None)
    );
    let short = reach(Limits {
        rounds_max: 3,
        ..Limits::default()
    });
    assert_eq!((short.records.len(), short.bound), (3, Some(Bound::Rounds)));
    assert_eq!(
        short
            .identifiers
            .iter()
            .filter(|known| known.standing == Standing::NotAsked)
            .count(),
        1
    );
    let small = reach(Limits {
        records_max: 5,
        ..Limits::default()
    });
    assert_eq!((small.records.len(), small.bound), (5, Some(Bound::Records)));
}

#[test]
fn a_partition_that_does_not_answer_leaves_the_walk_unfinished() {
    let mut walk = walk("email=ada@example.org");
    let before = walk.next();
    assert_eq!(
        walk.answer(vec![PartAnswer::default(); 15]).unwrap_err().code(),
        "lineage-unexpected-answer"
    );
    assert_eq!(
        walk.answer(vec![PartAnswer::default(); 16]).unwrap_err().code(),
        "lineage-unexpected-answer"
    );
    assert_eq!(walk.next(), before);
}

#[test]
fn the_graph_holds_request_identifiers_records_datasets_and_systems() {
    let graph = lineage_graph(&run(COMPANY, walk("email=ada@example.org")));
    // Request, 6 identifiers, 6 records, 5 datasets in 4 systems.
    assert_eq!(graph.node_count(), 1 + 6 + 6 + 5 + 4);
    // Every identifier of every record, the request's one, and where records and datasets are.
    assert_eq!(graph.edge_count(), 12 + 1 + 6 + 5);
}

#[test]
fn the_picture_groups_records_and_shows_no_token() {
    let reached = run(COMPANY, walk("email=ada@example.org"));
    let drawn = dot(&picture(&reached));
    assert!(
        drawn.starts_with("digraph lineage {") && drawn.ends_with("}\n"),
        "{drawn}"
    );
    assert!(drawn.contains("2 other records"), "{drawn}");
    assert!(
        drawn.contains("\"request\" -> \"email-1\" [style=solid]"),
        "{drawn}"
    );
    for known in &reached.identifiers {
        assert!(!drawn.contains(&known.token.token.to_hex()));
    }
    let twice = [
        ("web/log/1", "email=ada"),
        ("web/log/2", "email=ada"),
        ("shop/orders/1", "email=ada"),
    ];
    // Request, e-mail, orders, and the two of the log as one.
    assert_eq!(picture(&run(&twice, walk("email=ada"))).nodes.len(), 4);
}

/// Datasets that only an id joins with the person's others.
fn doubtful(records: &[(&str, &str)], walk: Walk) -> Vec<String> {
    let alone = run(records, walk).by_id_alone;
    let line = |one: &lethe_lineage::ByIdAlone| {
        format!(
            "{}/{} by {} names {}",
            one.place.system, one.place.dataset, one.id, one.names
        )
    };
    alone.iter().map(line).collect()
}

#[test]
fn what_two_systems_count_under_one_number_and_name_otherwise_is_for_a_person_to_look_at() {
    let two_shops = [
        ("shop/accounts/1", "user_id=1 email=ada@x"),
        ("shop/orders/7", "user_id=1"),
        ("crm/contacts/9", "email=ada@x"),
        ("forum/members/1", "user_id=1 email=bob@x"),
        ("forum/posts/3", "user_id=1"),
        ("mail/lists/5", "email=bob@x"),
    ];
    let bobs = [
        "forum/members by user_id names email",
        "forum/posts by user_id names email",
        "mail/lists by user_id names email",
    ];
    for request in ["email=ada@x", "email=ada@x user_id=1"] {
        assert_eq!(doubtful(&two_shops, walk(request)), bobs);
    }
    let neither_is_known = doubtful(&two_shops, walk("user_id=1"));
    assert_eq!(neither_is_known.len(), 6, "{neither_is_known:?}");

    let one_issuer = [
        ("shop/accounts/1", "user_id=1 email=ada@x"),
        ("forum/members/1", "user_id=1 email=ada@x phone=+49"),
        ("forum/posts/3", "user_id=1"),
        ("chat/people/1", "user_id=1"),
    ];
    let one_system = [
        ("shop/accounts/1", "user_id=1 email=ada@x"),
        ("shop/orders/1", "user_id=1 email=ada@old"),
    ];
    for request in ["email=ada@x", "user_id=1"] {
        assert!(doubtful(&one_issuer, walk(request)).is_empty());
        assert!(doubtful(&one_system, walk(request)).is_empty());
    }
    // Anybody can write an address into a line of a log.
    let log = [
        ("shop/accounts/1", "user_id=1 email=ada@x"),
        ("web/access/1", "user_id=1 email=eve@x"),
    ];
    let lines = DatasetRef {
        system: "web".parse().unwrap(),
        dataset: "access".parse().unwrap(),
    };
    assert!(doubtful(&log, walk("email=ada@x").unproven_in([lines])).is_empty());
}
