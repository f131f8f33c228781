//! One writer a partition, also where Kafka's own fencing is not there to help.

use std::time::{Duration, Instant};

use lethe_conformance::event_log::{entry, read_from};
use lethe_journal::{Place, Stream};
use lethe_log::{Appended, Error, EventLog};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::FutureRecord;

use crate::broker::{OnKafka, appended, bootstrap, open, raw_producer, settings};

fn cases() -> Place {
    Place::new(Stream::Cases, 1)
}

#[tokio::test]
async fn a_zombie_writer_of_another_process_is_refused() {
    let Some(bootstrap) = bootstrap() else { return };
    let settings = settings(&bootstrap);
    let (zombie, successor) = (OnKafka(open(&settings).await), OnKafka(open(&settings).await));
    let old = zombie.acquire(&cases()).await.unwrap();
    let first = zombie
        .append(&cases(), Some(old), vec![entry(1, "a", Some("x"))])
        .await
        .unwrap();
    assert!(matches!(first, Appended::At { .. }));

    let new = successor.acquire(&cases()).await.unwrap();
    assert!(new > old);
    let stale = zombie
        .append(&cases(), Some(old), vec![entry(2, "a", Some("stale")); 3])
        .await
        .unwrap();
    assert_eq!(stale, Appended::StaleEpoch { current: new });
    let again = zombie
        .append(&cases(), Some(old), vec![entry(3, "a", Some("stale"))])
        .await
        .unwrap();
    assert_eq!(again, Appended::StaleEpoch { current: new });
    let others = zombie
        .append(&cases(), Some(new), vec![entry(4, "a", Some("not its epoch"))])
        .await;
    assert!(matches!(others, Err(Error::NotStored(_))), "{others:?}");
    let by_new = successor
        .append(&cases(), Some(new), vec![entry(5, "a", Some("y"))])
        .await
        .unwrap();
    assert!(matches!(by_new, Appended::At { .. }));

    for log in [&zombie, &successor] {
        let read = read_from(log, &cases(), 0).await;
        let ids: Vec<_> = read.iter().map(|stored| stored.entry.id).collect();
        assert_eq!(ids, [entry(1, "", None).id, entry(5, "", None).id]);
    }
}

/// What a fenced writer would leave if Kafka's transactions failed to stop it is put there by hand.
#[tokio::test]
async fn what_a_fenced_writer_wrote_all_the_same_is_left_out() {
    let Some(bootstrap) = bootstrap() else { return };
    let settings = settings(&bootstrap);
    let log = OnKafka(open(&settings).await);
    let old = log.acquire(&cases()).await.unwrap();
    let by_old = log
        .append(&cases(), Some(old), vec![entry(1, "a", Some("x"))])
        .await
        .unwrap();
    assert!(matches!(by_old, Appended::At { .. }));
    let new = log.acquire(&cases()).await.unwrap();
    let raw = raw_producer(&bootstrap);
    let topic = format!("{}cases", settings.topic_prefix);
    for (number, epoch) in [(2, old), (3, new)] {
        let headers = OwnedHeaders::new()
            .insert(Header {
                key: "epoch",
                value: Some(&epoch.to_be_bytes()),
            })
            .insert(Header {
                key: "id",
                value: Some(entry(number, "", None).id.as_bytes()),
            });
        let record = FutureRecord::<[u8], [u8]>::to(&topic)
            .partition(1)
            .key(b"a")
            .payload(b"v")
            .headers(headers);
        raw.send(record, Duration::from_secs(10)).await.unwrap();
    }
    let expected = [entry(1, "", None).id, entry(3, "", None).id];
    // Also for a reader who has not seen the fence, and a log that was opened just now.
    let reopened = OnKafka(open(&settings).await);
    let zombie_at = read_from(&reopened, &cases(), 0).await.last().unwrap().position - 1;
    for log in [&log, &reopened, &OnKafka(open(&settings).await)] {
        let page = log.read(&cases(), zombie_at, 10).await.unwrap();
        let ids: Vec<_> = page.entries.iter().map(|stored| stored.entry.id).collect();
        assert_eq!(ids, expected[1..], "read from the zombie's entry on");
        let ids: Vec<_> = read_from(log, &cases(), 0)
            .await
            .iter()
            .map(|stored| stored.entry.id)
            .collect();
        assert_eq!(ids, expected);
    }
    assert!(
        reopened.acquire(&cases()).await.unwrap() > new,
        "an epoch is never given twice"
    );
}

/// The fence of a newer writer whose coming Kafka did not tell the older one is put there by hand.
#[tokio::test]
async fn a_writer_is_not_told_that_stands_what_readers_leave_out() {
    let Some(bootstrap) = bootstrap() else { return };
    let settings = settings(&bootstrap);
    let log = OnKafka(open(&settings).await);
    let old = log.acquire(&cases()).await.unwrap();
    let append = async |number| {
        let entries = vec![entry(number, "a", Some("x"))];
        log.append(&cases(), Some(old), entries).await.unwrap()
    };
    for number in [1, 2] {
        assert!(matches!(append(number).await, Appended::At { .. }));
    }
    let new = (old + 1).to_be_bytes();
    let raw = raw_producer(&bootstrap);
    let header = |key, value| Header {
        key,
        value: Some(value),
    };
    let headers = OwnedHeaders::new()
        .insert(header("epoch", new.as_slice()))
        .insert(header("own", b"fence".as_slice()));
    let topic = format!("{}cases", settings.topic_prefix);
    let key = [b"\0lethe.fence.".as_slice(), &new].concat();
    let fence = FutureRecord::<[u8], [u8]>::to(&topic)
        .partition(1)
        .key(&key)
        .payload(b"")
        .headers(headers);
    raw.send(fence, Duration::from_secs(10)).await.unwrap();
    for number in [3, 4] {
        assert_eq!(append(number).await, Appended::StaleEpoch { current: old + 1 });
    }
    let read = read_from(&log, &cases(), 0).await;
    let ids: Vec<_> = read.iter().map(|stored| stored.entry.id).collect();
    assert_eq!(ids, [entry(1, "", None).id, entry(2, "", None).id]);
}

#[tokio::test]
async fn a_key_of_the_log_itself_is_refused() {
    let Some(bootstrap) = bootstrap() else { return };
    let log = OnKafka(open(&settings(&bootstrap)).await);
    let refused = log
        .append(&cases(), None, vec![entry(1, "\0lethe.heartbeat.", Some("x"))])
        .await;
    assert!(matches!(refused, Err(Error::NotStored(_))), "{refused:?}");
}

#[tokio::test]
async fn a_waiter_is_woken_by_an_append_of_another_process() {
    let Some(bootstrap) = bootstrap() else { return };
    let settings = settings(&bootstrap);
    let (waiting, other) = (open(&settings).await, OnKafka(open(&settings).await));
    let began = Instant::now();
    let waiter = tokio::spawn(async move {
        waiting.wait(&cases(), 0, Duration::from_secs(60)).await.unwrap();
        waiting.head(&cases()).await.unwrap()
    });
    appended(&other, &cases(), vec![entry(1, "a", Some("x"))]).await;
    assert!(waiter.await.unwrap() > 0);
    assert!(
        began.elapsed() < Duration::from_secs(30),
        "the waiter ran out of patience"
    );
}

/// A tail that holds no entry, only fences and their control records, leads to the head.
#[tokio::test]
async fn a_reader_reaches_the_head_over_gaps() {
    let Some(bootstrap) = bootstrap() else { return };
    let log = OnKafka(open(&settings(&bootstrap)).await);
    for _ in 0..3 {
        log.acquire(&cases()).await.unwrap();
    }
    let head = log.head(&cases()).await.unwrap();
    assert!(head > 0, "fences have positions");
    let page = log.read(&cases(), 0, 10).await.unwrap();
    assert!(
        page.entries.is_empty() && page.next == head && page.head == head,
        "{page:?}"
    );
    assert!(read_from(&log, &cases(), head - 1).await.is_empty());
}

#[tokio::test]
async fn how_far_readers_are_is_shown_to_kafkas_tools() {
    let Some(bootstrap) = bootstrap() else { return };
    let mut settings = settings(&bootstrap);
    settings.instance = Some("core".to_owned());
    let log = OnKafka(open(&settings).await);
    let at = Place::new(Stream::Commands, 0);
    appended(&log, &at, vec![entry(1, "a", Some("x"))]).await;
    let group = format!("{}core", settings.topic_prefix);
    let tool: rdkafka::consumer::BaseConsumer = rdkafka::config::ClientConfig::new()
        .set("bootstrap.servers", &bootstrap)
        .set("group.id", &group)
        .create()
        .unwrap();
    let topic = format!("{}commands", settings.topic_prefix);
    let shown = || {
        let mut asked = rdkafka::TopicPartitionList::new();
        asked.add_partition(&topic, 0);
        let known =
            rdkafka::consumer::Consumer::committed_offsets(&tool, asked, Duration::from_secs(20)).unwrap();
        known.elements()[0].offset()
    };
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while shown() != rdkafka::Offset::Offset(1) {
        assert!(
            std::time::Instant::now() < until,
            "nothing is shown: {:?}",
            shown()
        );
        log.0
            .show_positions(&std::collections::BTreeMap::from([(at.clone(), 1)]));
        log.0.wait(&at, 1, Duration::from_millis(100)).await.unwrap();
    }
}
