//! Damaged files: a flipped bit, a cut end, a missing file. Never a panic, and never fewer entries than were acknowledged without
//! an error.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail by a panic"
)]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use lethe_conformance::event_log::{Random, Subject, entry, read_from, stored, streams};
use lethe_journal::{Place, Stored, Stream};
use lethe_log::{EmbeddedLog, Error, EventLog, OpenOptions};

/// Damages that are tried on each kind of folder, unless the environment variable says how many.
const DAMAGES: u64 = 150;
const DAMAGES_VARIABLE: &str = "LETHE_LOG_DAMAGES";

type Contents = BTreeMap<Place, Vec<Stored>>;

fn open(folder: &Path, verify: bool) -> Result<EmbeddedLog, Error> {
    EmbeddedLog::open(
        folder,
        &streams(),
        OpenOptions {
            verify,
            ..OpenOptions::default()
        },
    )
}

fn places() -> [Place; 4] {
    [
        Place::new(Stream::Records, 0),
        Place::new(Stream::Records, 11),
        Place::new(Stream::Cases, 2),
        Place::new(Stream::Commands, 0),
    ]
}

/// Fills a log, compacted in between, so that old pages, free pages and several commits lie in the files.
async fn fill(log: &EmbeddedLog) -> Contents {
    for round in 0..6 {
        for at in places() {
            let batch = (0..25)
                .map(|n| {
                    entry(
                        round * 100 + n,
                        &format!("key {}", n % 9),
                        Some(&format!("value {round} {n}").repeat(9)),
                    )
                })
                .collect();
            stored(log, &at, batch).await;
        }
        if round == 2 {
            log.compact(&Stream::Records, &BTreeMap::new()).await.unwrap();
        }
    }
    contents(log).await
}

async fn contents(log: &dyn Subject) -> Contents {
    let mut contents = BTreeMap::new();
    for at in places() {
        contents.insert(at.clone(), read_from(log, &at, 0).await);
    }
    contents
}

fn copy(from: &Path, to: &Path) {
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

fn damage(folder: &Path, random: &mut Random) -> String {
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().path())
        .collect();
    files.retain(|path| path.metadata().unwrap().len() > 0);
    files.sort();
    let path = &files[random.below(files.len() as u64) as usize];
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    let mut bytes = std::fs::read(path).unwrap();
    let length = bytes.len() as u64;
    let what = match random.below(10) {
        0 => {
            let kept = random.below(length);
            bytes.truncate(kept as usize);
            format!("{name} cut to {kept} of {length} bytes")
        }
        1 => {
            let start = (random.below(length) / 4096 * 4096) as usize;
            let end = bytes.len().min(start + 4096);
            bytes[start..end].fill(0);
            format!("{name} zeroed from {start} to {end}")
        }
        kind => {
            // The header is small and matters most: every other flip goes there.
            let range = if kind < 6 { length.min(512) } else { length };
            let offset = random.below(range) as usize;
            let bit = random.below(8);
            bytes[offset] ^= 1 << bit;
            format!("{name}: bit {bit} of byte {offset} flipped")
        }
    };
    std::fs::write(path, bytes).unwrap();
    what
}

/// Opens a damaged folder, reads all of it, writes to it and reads again.
async fn use_it(folder: &Path, verify: bool, expected: &Contents) -> Result<(), Error> {
    let log = open(folder, verify)?;
    for pass in 0..2_u64 {
        for (at, expected) in expected {
            let mut found = Vec::new();
            let mut from = 0;
            loop {
                let page = log.read(at, from, 40).await?;
                found.extend(page.entries);
                from = page.next;
                if from >= page.head {
                    break;
                }
            }
            assert!(
                found.len() >= expected.len(),
                "{at} lost entries in silence: {} of {}",
                found.len(),
                expected.len()
            );
            assert_eq!(
                found[..expected.len()],
                expected[..],
                "{at} came back with other entries"
            );
            log.append(at, None, vec![entry(10_000 + pass, "new", Some("value"))])
                .await?;
        }
    }
    log.check().await
}

async fn survives_damage(is_killed: bool, verify: bool) {
    let source = tempfile::tempdir().unwrap();
    let image = tempfile::tempdir().unwrap();
    let log = open(source.path(), false).unwrap();
    let expected = fill(&log).await;
    if is_killed {
        // What a killed process leaves behind is what its files hold while they are open.
        copy(source.path(), image.path());
        drop(log);
    } else {
        drop(log);
        copy(source.path(), image.path());
    }
    let damages = std::env::var(DAMAGES_VARIABLE)
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(DAMAGES);
    let (mut noticed, expected) = (0, Arc::new(expected));
    for seed in 0..damages {
        let folder = tempfile::tempdir().unwrap();
        copy(image.path(), folder.path());
        let what = damage(folder.path(), &mut Random::new(seed));
        let path = folder.path().to_path_buf();
        let expected = Arc::clone(&expected);
        let outcome = tokio::spawn(async move { use_it(&path, verify, &expected).await }).await;
        match outcome {
            Ok(Ok(())) => {}
            Ok(Err(Error::Corrupt(why))) => {
                noticed += 1;
                assert!(
                    why.contains("restore"),
                    "seed {seed}, {what}: does not say what to do: {why}"
                );
            }
            // A stream may also stop when it first writes.
            Ok(Err(Error::NotStored(_) | Error::Unknown(_))) => noticed += 1,
            Ok(Err(error @ Error::NotAsDeclared(_))) => panic!("seed {seed}, {what}: {error}"),
            Err(panicked) => panic!("seed {seed}, {what}: {panicked}"),
        }
    }
    assert!(
        noticed > damages / 5,
        "only {noticed} of {damages} damages were noticed: do they hit anything?"
    );
}

#[tokio::test]
async fn damage_to_a_closed_log_is_said() {
    survives_damage(false, false).await;
}

#[tokio::test]
async fn damage_to_a_killed_log_is_said() {
    survives_damage(true, false).await;
}

#[tokio::test]
async fn damage_to_a_closed_log_is_said_when_every_page_is_verified() {
    survives_damage(false, true).await;
}

#[tokio::test]
async fn a_missing_empty_or_foreign_file_is_named() {
    for name in ["records.1.redb", "manifest"] {
        for content in [None, Some(&b""[..]), Some(b"something else")] {
            let folder = tempfile::tempdir().unwrap();
            let log = open(folder.path(), false).unwrap();
            stored(
                &log,
                &Place::new(Stream::Records, 0),
                vec![entry(1, "a", Some("x"))],
            )
            .await;
            drop(log);
            let path = folder.path().join(name);
            match content {
                None => std::fs::remove_file(&path).unwrap(),
                Some(bytes) => std::fs::write(&path, bytes).unwrap(),
            }
            let refused = open(folder.path(), false).expect_err("a damaged folder does not open");
            let text = refused.to_string();
            assert!(matches!(refused, Error::Corrupt(_)), "{name}: {text}");
            assert!(text.contains(name) && text.contains("restore"), "{name}: {text}");
            assert_eq!(
                path.exists(),
                content.is_some(),
                "nothing is made in place of what is missing"
            );
            assert!(
                name == "records.1.redb" || folder.path().join("records.1.redb").exists(),
                "no file is removed"
            );
        }
    }
}

/// redb keeps the commit before the last one; a header that points there again must not bring it back.
#[tokio::test]
async fn a_log_that_ends_before_what_was_acknowledged_does_not_open() {
    let folder = tempfile::tempdir().unwrap();
    let at = Place::new(Stream::Records, 0);
    let log = open(folder.path(), false).unwrap();
    stored(&log, &at, vec![entry(1, "a", Some("x"))]).await;
    drop(log);
    let older = std::fs::read(folder.path().join("records.1.redb")).unwrap();
    let log = open(folder.path(), false).unwrap();
    stored(&log, &at, vec![entry(2, "b", Some("y"))]).await;
    drop(log);
    std::fs::write(folder.path().join("records.1.redb"), older).unwrap();
    let refused = open(folder.path(), false)
        .expect_err("an older file does not open")
        .to_string();
    assert!(
        refused.contains("records.1.redb ends before what was acknowledged"),
        "{refused}"
    );
}
