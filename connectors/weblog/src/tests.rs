//! The connector on files in a folder of its own: what an operator, a server and a person would notice.

mod contract;
mod crash;
mod crowds;
mod erasing;
mod following;
mod issuers;
mod long;
mod observing;
mod restricting;
mod sieving;

use std::fs;
use std::io::Write;
use std::path::PathBuf;

use lethe_kit::{Ask, Connector, Observation, Observed, Page, Performed, Receipt, Selected, Selector};
use lethe_terms::{Identifier, IdentifierKind, InstructionId, Verb};

use crate::{WeblogConnector, open};

/// A folder with a log and a state folder.
pub(super) struct Bench {
    folder: tempfile::TempDir,
    extra: String,
}

pub(super) fn line(n: usize, user: &str, target: &str) -> String {
    format!(
        "203.0.113.{} - {user} [{:02}/Nov/2026:11:40:00 +0000] \"GET {target}{}n={n} HTTP/1.1\" 200 5 \"-\" \"Mozilla/5.0\"\n",
        n % 200 + 1,
        10 + n % 3,
        if target.contains('?') { '&' } else { '?' }
    )
}

impl Bench {
    pub(super) fn new(extra: &str) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            extra: extra.to_owned(),
        }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn write(&self, name: &str, content: &[u8]) {
        fs::write(self.path(name), content).unwrap();
    }

    pub(super) fn pack(&self, name: &str, content: &[u8]) {
        let file = fs::File::create(self.path(name)).unwrap();
        let mut packed = flate2::write::GzEncoder::new(file, flate2::Compression::default());
        packed.write_all(content).unwrap();
        packed.finish().unwrap();
    }

    pub(super) fn content(&self, name: &str) -> Vec<u8> {
        let mut bytes = Vec::new();
        std::io::copy(
            &mut crate::files::content(&self.path(name), name.ends_with(".gz"), 0).unwrap(),
            &mut bytes,
        )
        .unwrap();
        bytes
    }

    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.folder.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.retain(|n| n != "state");
        names.sort();
        names
    }

    pub(super) fn open(&self) -> WeblogConnector {
        let text = format!(
            r#"{{"logs":[{{"name":"access","path":{:?}}}],"state_dir":{:?}{}}}"#,
            self.path("access.log"),
            self.path("state"),
            self.extra
        );
        open("web".parse().unwrap(), serde_json::from_str(&text).unwrap()).unwrap()
    }
}

pub(super) fn person(user: &str, email: &str) -> Selector {
    Selector {
        records: Vec::new(),
        identifiers: vec![
            Identifier::new(IdentifierKind::UserId, user),
            Identifier::new(IdentifierKind::Email, email),
        ],
    }
}

pub(super) fn ask(id: u8, verb: Verb, selector: &Selector) -> Ask {
    Ask {
        id: InstructionId::from_bytes([id; 16]),
        generation: (u64::from(id), 0),
        dataset: "access".parse().unwrap(),
        verb,
        selector: selector.clone(),
    }
}

pub(super) async fn done(connector: &WeblogConnector, ask: &Ask) -> Receipt {
    for _ in 0..100 {
        match connector.perform(ask).await.unwrap() {
            Performed::Done(receipt) => return receipt,
            Performed::Accepted { .. } => {}
            Performed::Refused { code, reason } => panic!("{code}: {reason}"),
        }
    }
    panic!("never done");
}

pub(super) async fn observed(connector: &WeblogConnector, selector: &Selector) -> Observed {
    connector
        .observe(&"access".parse().unwrap(), selector)
        .await
        .unwrap()
}

pub(super) async fn located(connector: &WeblogConnector, selector: &Selector) -> Vec<Observation> {
    connector.locate(selector, Page(None)).await.unwrap().observations
}

pub(super) fn by_handle(observations: &[Observation]) -> Selector {
    let records = observations
        .iter()
        .map(|o| Selected {
            handle: o.handle.clone(),
        })
        .collect();
    Selector {
        records,
        identifiers: Vec::new(),
    }
}

pub(super) fn lines_without(content: &[u8], words: &[&str]) -> Vec<u8> {
    let holds = |line: &[u8], word: &str| {
        line.windows(word.len())
            .any(|w| w.eq_ignore_ascii_case(word.as_bytes()))
    };
    content
        .split_inclusive(|b| *b == b'\n')
        .filter(|l| !words.iter().any(|w| holds(l, w)))
        .flatten()
        .copied()
        .collect()
}

/// A log of many people, with odd lines in between, in three files.
pub(super) fn history(from: usize, to: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    for n in from..to {
        match n % 10 {
            0 => bytes.extend(line(n, "usr_ada001", "/app").bytes()),
            1 => bytes.extend(line(n, "-", "/login?email=ADA%40example.org").bytes()),
            2 => bytes.extend(line(n, "-", "/api/people/usr_ada001/items").bytes()),
            3 => bytes.extend(line(n, "usr_bob002", "/login?email=bada@example.org").bytes()),
            4 => bytes.extend(format!("\u{0}\u{1} torn {n} M\r\n").bytes()),
            5 => bytes.extend([b"M\xfcller B\xfcro ".as_slice(), format!("{n}\n").as_bytes()].concat()),
            6 => bytes.extend(b"\n"),
            7 => bytes.extend(format!("2026/11/24 [warn] from <ada@example.org>, {n}\n").bytes()),
            _ => bytes.extend(line(n, "-", "/").bytes()),
        }
    }
    bytes
}

pub(super) const ADA: [&str; 3] = ["usr_ada001", "=ada%40example.org", "<ada@example.org"];
