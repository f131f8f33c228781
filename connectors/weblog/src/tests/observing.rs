//! Whatever a search finds, an observation sees.

use lethe_kit::Host;
use lethe_terms::IssuedKind;

use super::*;

const CONFIG: &str = r#","query_identifiers":{"email":"email","uid":"user_id","tel":"phone"},
    "path_identifiers":["/f/{user_id}","/forum/{user_id@forum}"]"#;

fn selector(kind: &str, value: &str) -> Selector {
    Selector {
        records: Vec::new(),
        identifiers: vec![kind.parse::<IssuedKind>().unwrap().with(value)],
    }
}

async fn looked(content: &str, selector: &Selector) -> (usize, lethe_terms::Observed) {
    let bench = Bench::new(CONFIG);
    bench.write("access.log", content.as_bytes());
    let host = Host::new(std::sync::Arc::new(bench.open()));
    let found = host.locate(selector, Page(None)).await.unwrap();
    let seen = host.observe(&"access".parse().unwrap(), selector).await.unwrap();
    (found.observations.len(), seen.observed)
}

#[tokio::test]
async fn what_a_search_finds_is_observed_wherever_in_a_line_it_stands() {
    for (kind, value, spellings) in [
        (
            "email",
            "ada@example.org",
            &["ada@example.org", "ADA%2540example.org"][..],
        ),
        ("user_id", "42", &["42"]),
        ("user_id", "ada1234", &["ada1234"]),
        ("user_id@forum", "42", &["42"]),
        ("user_id@forum", "ada1234", &["ada1234"]),
        (
            "phone",
            "+49301234567",
            &["%2B49+30+1234567", "+49-30-1234567", "%2B49301234567"],
        ),
    ] {
        let mut found_once = false;
        for spelling in spellings {
            let parameter = match kind {
                "email" => "email",
                "phone" => "tel",
                _ => "uid",
            };
            let targets = [
                format!("/?{parameter}={spelling}"),
                format!("/f/{spelling}"),
                format!("/forum/{spelling}/posts?page=2"),
                format!("/go?to=%2Flogin%3F{parameter}%3D{spelling}"),
            ];
            let lines = targets
                .iter()
                .map(|target| line(1, "-", target))
                .chain([line(1, spelling, "/")]);
            for one in lines {
                let (found, seen) = looked(&one, &selector(kind, value)).await;
                found_once |= found > 0;
                if found > 0 {
                    assert_eq!(seen, lethe_terms::Observed::Present, "{kind}={value} in {one}");
                }
            }
        }
        assert!(found_once, "{kind}={value} is found nowhere: nothing is shown");
    }
}

#[tokio::test]
async fn a_path_in_a_line_that_is_read_in_pieces_is_observed() {
    let long = line(1, "-", &format!("/f/ada1234?x={}", "y".repeat(2 << 20)));
    let (found, seen) = looked(&long, &selector("user_id", "ada1234")).await;
    assert_eq!((found, seen), (1, lethe_terms::Observed::Present));
}
