//! A line that the search for bytes passes over is one that the reader would not have matched, however an identifier is written in it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;
use crate::Config;
use crate::identify::Rules;
use crate::matcher::Matcher;

const CASES: u32 = 6_000;

const RULES: [&str; 4] = [
    "",
    r#","ip":"abbreviated","path_identifiers":["/api/*/people/{user_id}"]"#,
    r#","user_kind":"email","query_identifiers":{"tel":"phone","uid":"user_id","email":"email","c":"cookie_id"}"#,
    r#","query_identifiers":{"client":"ip","uid":"contact_id"},"path_identifiers":["/tel/{phone}"]"#,
];

/// Identifiers of one person, as intake and systems may spell them.
const PERSON: [(IdentifierKind, &str); 18] = [
    (IdentifierKind::UserId, "usr_ada001"),
    (IdentifierKind::UserId, "42"),
    (IdentifierKind::UserId, "a b+c%d\\e"),
    (IdentifierKind::UserId, "%+"),
    (IdentifierKind::UserId, "Zo\u{eb}-7"),
    (IdentifierKind::ContactId, "C-0042-xyz"),
    (IdentifierKind::Email, "ada@example.org"),
    (IdentifierKind::Email, "kiki+k@kino.example"),
    (IdentifierKind::Email, "m\u{fc}ller@b\u{fc}ro.example"),
    (IdentifierKind::Email, "-o'neil&co/x=y@kino.example"),
    (IdentifierKind::Email, "\"a b\"@kino.example"),
    (IdentifierKind::Phone, "+49 170 1234567"),
    (IdentifierKind::Phone, "0171 7"),
    (IdentifierKind::CookieId, "c00k1e-value"),
    (IdentifierKind::DeviceId, "device77"),
    (IdentifierKind::Ip, "203.0.113.7"),
    (IdentifierKind::Ip, "2001:db8::7"),
    (IdentifierKind::IpAbbreviated, "203.0.113.0"),
];

/// Other spellings of what stands in `PERSON`, and what is nearly it.
const SPELLINGS: [&str; 22] = [
    "-O'NEIL&CO/X=Y@kino.example",
    "n-o'neil&co/x=y@kino.example",
    "ADA@Example.ORG",
    "\u{212a}i\u{212a}i+\u{212a}@kino.example",
    "K\u{130}K\u{130}+K@kino.example",
    "M\u{dc}LLER@B\u{dc}RO.EXAMPLE",
    "bada@example.org",
    "ada@example.organic",
    "+49-(170)/123 45 67",
    "004917/01234567",
    "0171-7",
    "2001:0DB8:0:0::7",
    "::ffff:203.0.113.7",
    "::ffff:cb00:7107",
    "[2001:db8::7]",
    "203.0.113.77",
    "xusr_ada001",
    "usr_ada001x",
    "a b c%d\\e",
    "a+b+c%25d\\x5ce",
    "-",
    "1",
];

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => select(PERSON.to_vec()).prop_map(|(_, value)| value.to_owned()),
        1 => select(SPELLINGS.to_vec()).prop_map(str::to_owned),
    ]
}

/// Writes bytes as clients and servers may: escaped in part, several times over, blanks as a plus, bytes as `\xhh`, or as in JSON.
fn written(value: &str, rounds: usize, marks: &[u8], server: u8) -> Vec<u8> {
    let mut text = value.as_bytes().to_vec();
    let mut marks = marks.iter().cycle();
    for round in 0..rounds {
        let mut next = Vec::new();
        for byte in text {
            let mark = marks.next().copied().unwrap_or(0);
            match byte {
                b' ' if mark % 2 == 0 && round == 0 => next.push(b'+'),
                b'%' | b'&' | b'+' | b'"' | b'\\' | b' ' => next.extend(format!("%{byte:02X}").bytes()),
                _ if mark % 4 == 0 || byte >= 0x80 && mark % 2 == 0 => {
                    next.extend(format!("%{byte:02x}").bytes())
                }
                _ => next.push(byte),
            }
        }
        text = next;
    }
    let mut out = Vec::new();
    for byte in text {
        match byte {
            _ if server == 4 && byte.is_ascii() && marks.next().is_some_and(|m| m % 3 == 0) => {
                out.extend(format!("%5Cu{byte:04x}").bytes());
            }
            b'"' | b'\\' if server == 1 => out.extend([b'\\', byte]),
            b'"' | b'\\' if server == 2 => out.extend(format!("\\x{byte:02X}").bytes()),
            _ if byte >= 0x80 && server > 0 || server == 3 && marks.next().is_some_and(|m| m % 3 == 0) => {
                out.extend(format!("\\x{byte:02x}").bytes());
            }
            _ => out.push(byte),
        }
    }
    out
}

fn placed(place: u8, value: &[u8], other: &[u8]) -> Vec<u8> {
    const TIME: &[u8] = b" [24/Nov/2026:11:40:00 +0000] \"GET ";
    const END: &[u8] = b" HTTP/1.1\" 200 5 \"-\" \"Mozilla/5.0\"";
    let head = b"198.51.100.1 - -".as_slice();
    let parts: Vec<&[u8]> = match place {
        0 => vec![b"203.0.113.7 - ", value, TIME, b"/x?q=", other, END],
        1 => vec![value, b" - -", TIME, b"/", END],
        2 => vec![b"shop.example:443 ", value, b" - ", other, TIME, b"/", END],
        3 => vec![head, TIME, b"/a?uid=", value, b"&email=", other, END],
        4 => vec![head, TIME, b"/a?EMAIL=", value, b"&tel=", other, END],
        5 => vec![
            head,
            TIME,
            b"/a?tel=",
            value,
            b"&client=",
            other,
            b"&c=",
            other,
            END,
        ],
        6 => vec![head, TIME, b"/api/v1/people/", value, b"/x?next=", other, END],
        7 => vec![head, TIME, b"/tel/", value, END],
        8 => vec![
            head,
            TIME,
            b"/ HTTP/1.1\" 200 5 \"https://h.example/?next=%2Fa%3Fuid%3D",
            value,
            b"\" \"",
            other,
            b"\"",
        ],
        9 => vec![
            head,
            TIME,
            b"/ HTTP/1.1\" 200 5 \"https://h.example/api/v1/people/",
            value,
            b"\" \"-\" \"",
            other,
            b"\"",
        ],
        10 => vec![b"garbage ", value, b" <", other, b"> tail"],
        11 => vec![b"2001:db8::7 - ", other, TIME, b"/a?q=from+", value, END],
        12 => vec![head, TIME, b"/a?client=", value, b"&q=%3Fuid%3D", other, END],
        _ => vec![head, TIME, value, b"?", other, END],
    };
    parts.concat()
}

fn rules(extra: &str) -> Rules {
    let text = format!(r#"{{"logs":[{{"name":"access","path":"/l/access.log"}}],"state_dir":"/s"{extra}}}"#);
    let config: Config = serde_json::from_str(&text).unwrap();
    Rules::new(&config).unwrap()
}

/// The person, with the line's own record, another one's, or none.
fn selector(
    rules: &Rules,
    sought: Vec<(IdentifierKind, &str)>,
    text: &[u8],
    (place, a, b): (u8, String, String),
    way: u8,
) -> Selector {
    let other = placed(place, a.as_bytes(), b.as_bytes());
    let line = match way {
        0 => Some(text),
        1 => Some(other.as_slice()),
        _ => None,
    };
    let log = "access".parse().unwrap();
    let handle = |line| rules.read(line).records(&log)[0].handle();
    Selector {
        records: line
            .map(|line| Selected { handle: handle(line) })
            .into_iter()
            .collect(),
        identifiers: sought
            .into_iter()
            .filter(|_| way > 0)
            .map(|(kind, value)| Identifier::new(kind, value))
            .collect(),
    }
}

#[test]
fn a_line_that_is_passed_over_unread_is_none_that_the_reader_matches() {
    let (matched, passed_over) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let log = "access".parse().unwrap();
    let rules: Vec<Rules> = RULES.iter().map(|extra| rules(extra)).collect();
    let mut runner = proptest::test_runner::TestRunner::new(proptest::test_runner::Config::with_cases(CASES));
    let sought = vec(select(PERSON.to_vec()), 1..4);
    let line = (
        0_u8..14,
        value(),
        value(),
        0_usize..9,
        vec(any::<u8>(), 1..9),
        0_u8..5,
    );
    let of_record = (0_u8..14, value(), value());
    let input = (select(vec![0, 1, 2, 3]), sought, line, of_record, 0_u8..4);
    let outcome = runner.run(&input, |(at, sought, line, of_record, way)| {
        let rules = &rules[at];
        let (place, first, second, rounds, marks, server) = line;
        let text = placed(
            place,
            &written(&first, rounds, &marks, server),
            &written(&second, rounds / 2, &marks, server),
        );
        let selector = selector(rules, sought, &text, of_record, way);
        for matcher in [
            Matcher::new(&selector, &log).unwrap(),
            Matcher::for_search(&selector).unwrap(),
        ] {
            let look = matcher.look(rules, &log);
            let (quick, whole) = (look.at(&text), look.read_at(&text));
            prop_assert!(
                quick == whole,
                "{:?} {}",
                String::from_utf8_lossy(&text),
                selector.identifiers.len()
            );
            matched.fetch_add(usize::from(!whole.is_empty()), Ordering::Relaxed);
            passed_over.fetch_add(usize::from(!look.passes(&text)), Ordering::Relaxed);
        }
        Ok(())
    });
    outcome.unwrap();
    let (matched, passed_over) = (
        matched.load(Ordering::Relaxed),
        passed_over.load(Ordering::Relaxed),
    );
    assert!(
        matched > CASES as usize / 10 && passed_over > CASES as usize / 10,
        "{matched} matched, {passed_over} passed over"
    );
}

#[test]
fn most_lines_of_others_are_passed_over_unread() {
    let (rules, log) = (rules(""), "access".parse().unwrap());
    let mut selector = person("usr_ada001", "ada@example.org");
    selector
        .identifiers
        .push(Identifier::new(IdentifierKind::Phone, "+491701234567"));
    selector.records.push(Selected {
        handle: rules
            .read(
                line(7, "usr_ada001", "/login?email=ada%40example.org")
                    .trim_end()
                    .as_bytes(),
            )
            .records(&log)
            .remove(0)
            .handle(),
    });
    let matcher = Matcher::new(&selector, &log).unwrap();
    let look = matcher.look(&rules, &log);
    for target in [
        "/",
        "/login?email=bob%40example.org",
        "/a%20b?x=%2525&utm=%C3%BC",
        "/?q=\\x22a\\x22",
    ] {
        assert!(
            !look.passes(line(7, "usr_bob002", target).trim_end().as_bytes()),
            "{target}"
        );
    }
    assert!(
        look.passes(
            line(8, "-", "/login?email=%61da%2540example.org")
                .trim_end()
                .as_bytes()
        )
    );
}
