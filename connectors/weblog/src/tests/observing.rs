//! Whatever a search finds, an observation sees.

use lethe_kit::Host;
use lethe_terms::IssuedKind;

use super::*;
use crate::Config;
use crate::identify::Rules;
use crate::observe::Finder;

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

/// Lines that fit no format and name user 42.
const NAMED: [&str; 39] = [
    "app login user_id=42 ok",
    "\"GET /x?uid=42\" broken",
    "GET /x?uid=42, host: a",
    r#"{"uri":"/x?uid=42"}"#,
    r#"{\"uri\":\"/x?uid=42\"}"#,
    r#"{\\\"uri\\\":\\\"/x?uid=42\\\"}"#,
    r#"{"uri":"/x?a=1\u0026uid=42\u0026b=2"}"#,
    "'GET /x?uid=42'",
    "(/x?uid=42)",
    "GET /x?a=1&uid=42\tfoo",
    "uid=42",
    "?uid=42",
    "&uid=42&c=3",
    "POST /x body:uid=42",
    "user=ada|a=b,uid=42,c=d",
    "(uid=42) [uid=7]",
    "uid='42'",
    "UID=42;",
    "/x#uid=42",
    "x;uid=42 /",
    "http://h/x?u=http://k/?uid=42",
    "GET%20/x?uid=42%20HTTP",
    "%2528uid%253D42%2529",
    "/x?uid=42.",
    r"/x?uid=42\x20y",
    r"/x?uid=42\x2C y",
    r"/x?uid=42\n at",
    r"/x?uid=42\\n at",
    r"/x?a\\x26uid=42",
    r"/x?a\\\\x26uid=42",
    "203.0.113.9 - 42 [26/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 5x",
    "h.example:80 203.0.113.9 - 42 [26/Nov/2026:10:00:00 +0000]",
    "/u/42",
    "/u/42,",
    "GET /u/42?x",
    "\"/u/42\"",
    "[/u/42]",
    "<https://h.example/u/42>.",
    "%2Fu%2F42%20x",
];

/// Lines that fit no format and name others, or nobody.
const OTHERS: [&str; 20] = [
    "uid=142 uid=420 uid=4.2 uid=42x uid=x42 uid=42-1 uid=42=1 uid=1=42",
    "xuid=42 uid_42 uid:42 uid 42 my-uid=42",
    "uid=a:42 uid=a'42 a=(uid=7) uid=42@h.example",
    "a=b=uid=42",
    "a=(uid=42)",
    "worker 42 [notice] 42#42: *42 open() failed (42: No such thing)",
    "203.0.113.9 - ada 42 [26/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 5x",
    "203.0.113.9 - %34%32 [26/Nov/2026:10:00:00 +0000] \"GET / HTTP/1.1\" 200 5x",
    "h.example 203.0.113.9 42 [26/Nov/2026:10:00:00 +0000]",
    "203.0.113.9 - 42 [26/Foo/2026:10:00:00 +0000]",
    "[42/Nov/2026:10:00:42 +0000] text/42 Gecko/42 4/2 42/u/42",
    "u/42",
    "x/u/42",
    "/v/42",
    "/u/421",
    "/u/x/42",
    "/u/?42",
    "uid=%2542 uid=42%",
    "",
    "42",
];

fn rules() -> (Config, Rules) {
    let text = r#"{"logs":[{"name":"access","path":"/l/access.log"}],"state_dir":"/s","path_identifiers":["/u/{user_id}"]}"#;
    let config: Config = serde_json::from_str(text).unwrap();
    let rules = Rules::new(&config).unwrap();
    (config, rules)
}

#[test]
fn a_search_and_an_observation_read_running_text_alike() {
    let (config, rules) = rules();
    let ada = selector("user_id", "42");
    let mut wrong = Vec::new();
    let finder = Finder::new(&ada, &rules, &config.query_identifiers, &config.user_kind);
    for (lines, named) in [(&NAMED[..], true), (&OTHERS[..], false)] {
        for text in lines {
            for line in [(*text).to_owned(), format!("BROKEN {text}"), format!("{text}\r")] {
                if line.starts_with("BROKEN 203") || line.starts_with("BROKEN h.") {
                    continue;
                }
                let read = rules.read(line.as_bytes());
                assert!(read.parsed.is_none(), "{line}");
                let is_read = read.identifiers.contains(&ada.identifiers[0]);
                if is_read != named {
                    wrong.push(format!("read {is_read}: {line}"));
                }
                // Paths are read by the reader alone, which an observation asks as well.
                let by_path = line.contains("/u/") || line.contains("%2Fu%2F");
                let found = finder.finds(line.as_bytes());
                if found != (named && !by_path) {
                    wrong.push(format!("observed {found}: {line}"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[tokio::test]
async fn running_text_that_names_a_person_is_erased_and_then_absent() {
    let bench = Bench::new(r#","path_identifiers":["/u/{user_id}"]"#);
    let lines = |lines: &[&str]| -> String { lines.iter().map(|line| format!("{line}\n")).collect() };
    let (theirs, others) = (lines(&NAMED), lines(&OTHERS) + &line(1, "-", "/a?uid=7"));
    bench.write("access.log.1", (theirs + &others).as_bytes());
    bench.write("access.log", b"");
    let connector = bench.open();
    let ada = selector("user_id", "42");
    assert_eq!(
        observed(&connector, &ada).await.observed,
        lethe_terms::Observed::Present
    );
    done(&connector, &ask(1, Verb::Erase, &ada)).await;
    assert_eq!(
        observed(&connector, &ada).await.observed,
        lethe_terms::Observed::Absent
    );
    assert_eq!(String::from_utf8(bench.content("access.log.1")).unwrap(), others);
}

#[tokio::test]
async fn a_word_with_a_slash_is_nobodys_path() {
    let bench = Bench::new(r#","path_identifiers":["/{user_id}"]"#);
    let bob = "203.0.113.9 - - [26/Nov/2026:10:00:00 +0000] \"GET /bob HTTP/1.1\" 200 5x \"-\" \"Mozilla/5.0 Gecko/20100101 accept text/html\"\n";
    bench.write("access.log.1", (line(1, "-", "/html") + bob).as_bytes());
    bench.write("access.log", b"");
    let connector = bench.open();
    for (n, user) in ["html", "Nov", "20100101"].into_iter().enumerate() {
        done(
            &connector,
            &ask(
                u8::try_from(n).unwrap() + 1,
                Verb::Erase,
                &selector("user_id", user),
            ),
        )
        .await;
    }
    assert_eq!(String::from_utf8(bench.content("access.log.1")).unwrap(), bob);
    assert_eq!(located(&connector, &selector("user_id", "bob")).await.len(), 1);
}

#[tokio::test]
async fn a_parameter_in_a_later_piece_of_running_text_is_read() {
    let one = 1 << 20;
    for text in [
        format!("BROKEN GET /x?a=1{}&uid=42&c=3\n", "&b=2".repeat(one / 4 + 1_000)),
        format!("BROKEN GET /x?a={}&uid=42\n", "y".repeat(one)),
    ] {
        let (found, seen) = looked(&text, &selector("user_id", "42")).await;
        assert_eq!((found, seen), (1, lethe_terms::Observed::Present));
    }
}

#[test]
fn a_search_and_an_observation_find_parameters_in_the_same_fields() {
    let (config, rules) = rules();
    let ada = selector("user_id", "42");
    let finder = Finder::new(&ada, &rules, &config.query_identifiers, &config.user_kind);
    let fields = |request: &str, agent: &str, further: &str| {
        format!(
            "203.0.113.9 - - [26/Nov/2026:10:00:00 +0000] \"{request}\" 200 5 \"-\" \"{agent}\" {further}"
        )
    };
    for (line, named) in [
        (fields("GET /x;uid=42 HTTP/1.1", "-", "-"), true),
        (fields("GET /x?q=a uid=42 HTTP/1.1", "-", "-"), true),
        (fields("GET /x?q=a%20uid=42 HTTP/1.1", "-", "-"), true),
        (fields(r"GET /x?q=\x22uid=42\x22 HTTP/1.1", "-", "-"), true),
        (fields(r"GET /x?a=1\x5Cu0026uid=42 HTTP/1.1", "-", "-"), true),
        (fields("uid=42", "-", "-"), true),
        (fields("-", "app uid=42", "-"), true),
        (fields("-", "-", "rt=0.1 uid=42"), true),
        (fields("-", "-", "\"uid=42; session=7\""), true),
        (fields("GET /x?uid=x=42 HTTP/1.1", "uid=421", "uid=(42)"), false),
        (fields("GET /x?uid=42-1 HTTP/1.1", "xuid=42", "uid:42"), false),
    ] {
        assert_eq!(
            rules
                .read(line.as_bytes())
                .identifiers
                .contains(&ada.identifiers[0]),
            named,
            "read: {line}"
        );
        assert_eq!(finder.finds(line.as_bytes()), named, "observed: {line}");
    }
}
