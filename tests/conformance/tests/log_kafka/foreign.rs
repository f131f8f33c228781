//! What programs write that are not Lethe. In a topic for them whatever stands there is an entry; in the others nothing of it is. None disturbs
//! the reader.

use std::time::Duration;

use lethe_conformance::event_log::{entry, read_from};
use lethe_journal::{Entry, Place, Stream};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use lethe_log_kafka::KafkaLog;
use rdkafka::config::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::broker::{OnKafka, appended, bootstrap, raw_producer, settings};

/// Headers as Lethe's own entries have them, and others.
fn headers(of: &[(&str, Option<&[u8]>)]) -> OwnedHeaders {
    of.iter().fold(OwnedHeaders::new(), |headers, (key, value)| {
        headers.insert(Header { key, value: *value })
    })
}

/// Key, value and headers.
type Written<'a> = (Option<&'a [u8]>, Option<&'a [u8]>, OwnedHeaders);

/// Writes messages as they are.
async fn send(raw: &FutureProducer, topic: &str, written: &[Written<'_>]) {
    for (key, value, headers) in written {
        let mut record = FutureRecord::<[u8], [u8]>::to(topic).headers(headers.clone());
        (record.key, record.payload) = (*key, *value);
        raw.send(record, Duration::from_secs(10)).await.unwrap();
    }
}

/// Messages that imitate entries of the log, and others that imitate nothing.
fn written(large: &[u8]) -> Vec<Written<'_>> {
    let newest = u64::MAX.to_be_bytes();
    vec![
        (None, Some(b"no key and no headers"), OwnedHeaders::new()),
        (None, None, OwnedHeaders::new()),
        (Some(b"\xff\xfe"), Some(large), OwnedHeaders::new()),
        (
            Some(b"\0lethe.fence."),
            Some(b""),
            headers(&[("own", Some(b"fence")), ("epoch", Some(&newest))]),
        ),
        (
            Some(b"k"),
            Some(b"an epoch of three bytes"),
            headers(&[("id", Some(b"short")), ("epoch", Some(b"abc"))]),
        ),
        (
            Some(b"k"),
            Some(b"unheard of"),
            headers(&[("own", Some(b"throne")), ("epoch", None)]),
        ),
        (
            Some(b"k"),
            Some(b"a heartbeat with content"),
            headers(&[("own", Some(b"heartbeat"))]),
        ),
    ]
}

#[tokio::test]
async fn what_others_write_is_an_entry_whatever_it_says_of_itself() {
    let Some(bootstrap) = bootstrap() else { return };
    let settings = settings(&bootstrap);
    let log = OnKafka(KafkaLog::open(settings.clone(), &[Stream::Intake]).await.unwrap());
    let at = Place::new(Stream::Intake, 0);
    let topic = format!("{}intake", settings.topic_prefix);
    let large = vec![b'x'; 900_000];
    let written = written(&large);
    for codec in ["none", "gzip", "lz4", "snappy"] {
        let raw: FutureProducer = ClientConfig::new()
            .set("bootstrap.servers", &bootstrap)
            .set("compression.type", codec)
            .create()
            .unwrap();
        send(&raw, &topic, &written).await;
    }
    log.0.heartbeat().await.unwrap();
    appended(&log, &at, vec![entry(1, "k", Some("by Lethe")); 2]).await;

    let read = read_from(&log, &at, 0).await;
    let values: Vec<_> = read.iter().map(|stored| stored.entry.value.as_deref()).collect();
    let expected: Vec<_> = written.iter().map(|(_, value, _)| *value).collect();
    let of_lethe = [Some(b"by Lethe".as_slice()); 2];
    assert!(
        values == [&expected.repeat(4), of_lethe.as_slice()].concat(),
        "{} entries",
        values.len()
    );
    assert!(
        read.windows(2)
            .all(|pair| pair[0].position < pair[1].position && pair[0].entry.id != pair[1].entry.id)
    );

    let head = log.head(&at).await.unwrap();
    let page = log.read(&at, head, PAGE_ENTRIES_MAX).await.unwrap();
    assert!(
        page.entries.is_empty() && page.next == head,
        "the reader stands at the head"
    );
    assert!(
        log.0.findings().await.unwrap().is_empty(),
        "the topic is as declared"
    );
}

#[tokio::test]
async fn what_others_write_among_entries_of_lethe_is_a_stray_and_never_an_entry() {
    let Some(bootstrap) = bootstrap() else { return };
    let settings = settings(&bootstrap);
    let log = OnKafka(
        KafkaLog::open(settings.clone(), &[Stream::Answers])
            .await
            .unwrap(),
    );
    let at = Place::new(Stream::Answers, 0);
    let topic = format!("{}answers", settings.topic_prefix);
    let large = vec![b'x'; 900_000];
    let mut written = written(&large);
    let genuine = read_back(&log, &at, "before").await;
    written.push((
        Some(&genuine.key),
        genuine.value.as_deref(),
        headers(&[("epoch", Some(&1_u64.to_be_bytes()))]),
    ));
    // It would take the place of an entry, and nobody would hear of it.
    let heartbeat = headers(&[("own", Some(b"heartbeat"))]);
    written.push((Some(&genuine.key), Some(b""), heartbeat));
    let raw = raw_producer(&bootstrap);
    send(&raw, &topic, &written).await;
    appended(&log, &at, vec![entry(2, "k", Some("behind"))]).await;

    let (mut from, mut entries, mut strays) = (0, Vec::new(), Vec::new());
    loop {
        let page = log.read(&at, from, 2).await.unwrap();
        assert!(
            page.entries.len() + page.strays.len() <= 2,
            "a page keeps its limit"
        );
        entries.extend(page.entries);
        strays.extend(page.strays);
        from = page.next;
        if from >= page.head {
            break;
        }
    }
    let values: Vec<_> = entries
        .iter()
        .map(|stored| stored.entry.value.as_deref())
        .collect();
    assert_eq!(values, [Some(b"before".as_slice()), Some(b"behind")]);
    let found: Vec<_> = strays.iter().map(|stray| stray.value.as_slice()).collect();
    let expected: Vec<_> = written
        .iter()
        .map(|(_, value, _)| value.unwrap_or_default())
        .collect();
    assert!(found == expected, "{strays:?}");
    assert!(strays.windows(2).all(|pair| pair[0].position < pair[1].position));
}

/// Appends an entry and reads it.
async fn read_back(log: &OnKafka, at: &Place, value: &str) -> Entry {
    appended(log, at, vec![entry(1, "k", Some(value))]).await;
    read_from(log, at, 0).await.remove(0).entry
}
