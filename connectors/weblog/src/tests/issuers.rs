//! Ids that other issuers give than the company itself: the same value is somebody else's.

use lethe_kit::Host;
use lethe_terms::{IssuedKind, Outcome};

use super::*;

fn id(kind: &str, value: &str) -> Selector {
    Selector {
        records: Vec::new(),
        identifiers: vec![kind.parse::<IssuedKind>().unwrap().with(value)],
    }
}

#[tokio::test]
async fn an_id_finds_and_erases_the_lines_of_its_own_issuer_only() {
    for value in ["1", "user01"] {
        let bench = Bench::new(r#","path_identifiers":["/forum/{user_id@forum}"]"#);
        let (own, forum) = (
            line(1, value, "/"),
            line(2, "-", &format!("/forum/{value}/posts")),
        );
        let content = [&own, &forum].map(String::as_str).concat();
        bench.write("access.log", content.as_bytes());
        let host = Host::new(std::sync::Arc::new(bench.open()));
        let shard = "access".parse().unwrap();
        let page = host.feed(&shard, None, 100).await.unwrap();
        let mut names: Vec<String> = page
            .observations
            .iter()
            .flat_map(|one| &one.identifiers)
            .filter(|one| one.kind == IdentifierKind::UserId)
            .map(Identifier::name)
            .collect();
        names.sort();
        assert_eq!(names, ["user_id", "user_id@forum"]);
        for (kind, lines) in [("user_id", 1), ("user_id@forum", 1), ("user_id@chat", 0)] {
            let found = host.locate(&id(kind, value), Page(None)).await.unwrap();
            assert_eq!(found.observations.len(), lines, "{kind}");
        }
        let selector = id("user_id", value);
        let erase = ask(1, Verb::Erase, &selector);
        let Performed::Done(receipt) = host.perform(&erase).await.unwrap() else {
            panic!("not done");
        };
        assert_eq!((receipt.outcome, receipt.details["lines"]), (Outcome::Erased, 1));
        assert!(bench.content("access.log") == forum.as_bytes());
        let seen = host.observe(&erase.dataset, &selector).await.unwrap();
        assert_eq!(seen.observed, lethe_terms::Observed::Absent, "{value}");
    }
}

#[tokio::test]
async fn a_log_of_another_issuers_ids_is_never_searched_for_the_companys_own() {
    let bench = Bench::new(r#","user_kind":"user_id@forum","query_identifiers":{}"#);
    bench.write("access.log", line(1, "user01", "/").as_bytes());
    let host = Host::new(std::sync::Arc::new(bench.open()));
    for (kind, lines) in [("user_id", 0), ("user_id@forum", 1), ("contact_id", 1)] {
        let found = host.locate(&id(kind, "user01"), Page(None)).await.unwrap();
        assert_eq!(found.observations.len(), lines, "{kind}");
    }
}
