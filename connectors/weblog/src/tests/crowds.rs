//! Lines that name more people than one record does.

use lethe_terms::{Observed, Outcome};

use super::*;

/// A line with so many addresses, the person's in the place where it stands among them.
fn crowd(addresses: usize, person: &str) -> String {
    let mut names: Vec<String> = (0..addresses).map(|n| format!("p{n:05}@crowd.example")).collect();
    names.push(person.to_owned());
    names.sort();
    line(1, "-", &format!("/share?to={}", names.join(",")))
}

#[tokio::test]
async fn whoever_stands_in_a_crowd_of_any_size_is_found_by_feed_and_search_and_erased_with_the_line() {
    for (address, addresses) in [
        ("ada@example.org", 1_999),
        ("zoe@example.org", 1_999),
        ("zoe@example.org", 60_000),
    ] {
        let bench = Bench::new("");
        let (theirs, other) = (crowd(addresses, address), crowd(addresses, "bob@example.org"));
        bench.write("access.log", [theirs.as_str(), &other].concat().as_bytes());
        let connector = bench.open();
        let whom = person("usr_none000", address);
        let found = located(&connector, &whom).await;
        assert_eq!(found.len(), 1);
        assert!(found[0].identifiers.len() <= 128 && found[0].key.len() < 64 << 10);
        let sought = Identifier::new(IdentifierKind::Email, address);
        assert!(found[0].identifiers.contains(&sought));
        let shard = "access".parse().unwrap();
        let mut page = connector.feed(&shard, None, 100).await.unwrap();
        page.observations.retain(|one| one.identifiers.contains(&sought));
        let is_cut_short = addresses > 10_000;
        assert!(
            is_cut_short || page.observations == found,
            "feed and search name one record"
        );

        let selected = by_handle(&found);
        assert_eq!(observed(&connector, &selected).await.observed, Observed::Present);
        let receipt = done(&connector, &ask(1, Verb::Erase, &selected)).await;
        let told = (receipt.outcome, receipt.records, receipt.details["lines"]);
        assert_eq!(told, (Outcome::Erased, 1, 1));
        assert!(bench.content("access.log") == other.as_bytes());
        for selector in [&selected, &whom] {
            assert_eq!(observed(&connector, selector).await.observed, Observed::Absent);
        }
    }
}

#[tokio::test]
async fn a_line_is_observed_to_be_there_for_each_of_its_records() {
    let bench = Bench::new("");
    bench.write("access.log", crowd(1_999, "zoe@example.org").as_bytes());
    let connector = bench.open();
    let page = connector
        .feed(&"access".parse().unwrap(), None, 100)
        .await
        .unwrap();
    assert!(page.observations.len() > 1);
    let selected = by_handle(&page.observations);
    let seen = observed(&connector, &selected).await;
    assert_eq!(
        (seen.records, seen.gone.len()),
        (page.observations.len() as u64, 0)
    );
    done(&connector, &ask(1, Verb::Restrict, &selected)).await;
    assert_eq!(
        observed(&connector, &selected).await.observed,
        Observed::Restricted
    );
    done(&connector, &ask(2, Verb::Lift, &selected)).await;
    assert_eq!(observed(&connector, &selected).await.observed, Observed::Present);
}

#[tokio::test]
async fn what_is_done_to_a_line_by_one_of_its_records_holds_for_the_others() {
    let bench = Bench::new("");
    bench.write("access.log", crowd(399, "zoe@example.org").as_bytes());
    let connector = bench.open();
    let page = connector
        .feed(&"access".parse().unwrap(), None, 100)
        .await
        .unwrap();
    let [first, .., last] = page.observations.as_slice() else {
        panic!("one record")
    };
    assert!(first.unit.is_some() && first.unit == last.unit && first.key != last.key);
    let [first, last] = [first, last].map(|one| by_handle(std::slice::from_ref(one)));
    done(&connector, &ask(2, Verb::Restrict, &first)).await;
    let stale = connector.perform(&ask(1, Verb::Erase, &last)).await.unwrap();
    assert!(
        matches!(
            stale,
            Performed::Refused {
                code: "weblog-stale-generation",
                ..
            }
        ),
        "{stale:?}"
    );
    done(&connector, &ask(3, Verb::Restrict, &last)).await;
    done(&connector, &ask(4, Verb::Lift, &first)).await;
    for selected in [&first, &last] {
        assert_eq!(observed(&connector, selected).await.observed, Observed::Present);
    }
}
