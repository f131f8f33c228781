//! Batches of events: how they are packed and cut, what their sender may do, and what is answered for each.

use std::io::Write as _;

use flate2::Compression;
use flate2::write::GzEncoder;
use lethe_gateway::limits::{EVENTS_BYTES_MAX, EVENTS_MAX};

use super::*;

impl Server {
    /// Posts a batch; the status, and the results without more than their names.
    fn batch(&self, headers: &str, body: &[u8]) -> (String, Vec<String>) {
        let secret = self
            .secret
            .as_ref()
            .map(|secret| format!("authorization: Bearer {secret}\r\n"));
        let head = format!(
            "POST /v1/events HTTP/1.1\r\nhost: {}\r\nconnection: close\r\ncontent-length: {}\r\n{}{headers}\r\n",
            self.address,
            body.len(),
            secret.unwrap_or_default()
        );
        let answer = self.raw(&[head.as_bytes(), body].concat());
        let json = answer.rsplit_once("\r\n\r\n").map_or("", |(_, body)| body);
        let json: serde_json::Value = serde_json::from_str(json).unwrap();
        let results = json["results"].as_array().into_iter().flatten();
        let names = results.map(|result| result["result"].as_str().unwrap().to_owned());
        (status(&answer).to_owned(), names.collect())
    }
}

const JSON: &str = "content-type: application/json\r\n";
const LINES: &str = "content-type: application/x-ndjson\r\n";

fn zipped(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn each_event_of_a_batch_has_its_result_however_it_was_sent() {
    let server = started(true).await;
    let batch = br#"[{"n":1},{"n":2},{"n":1}]"#;
    assert_eq!(server.batch(JSON, batch).1, ["accepted", "accepted", "repeated"]);
    assert_eq!(
        server
            .batch(
                "content-type: application/cloudevents-batch+json; charset=utf-8\r\n",
                batch
            )
            .1,
        ["repeated"; 3]
    );
    let lines = b"{\"n\":1}\n\n{\"n\":3}\nno json\n";
    assert_eq!(server.batch(LINES, lines).1, ["repeated", "accepted", "accepted"]);
    let zip = format!("{LINES}content-encoding: gzip\r\n");
    assert_eq!(server.batch(&zip, &zipped(lines)).1, ["repeated"; 3]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_batch_is_refused_whole() {
    let server = started(true).await;
    let zip = format!("{JSON}content-encoding: gzip\r\n");
    let bomb = zipped(&vec![b' '; EVENTS_BYTES_MAX + 1]);
    let too_many = format!("[{}1]", "1,".repeat(EVENTS_MAX));
    for (headers, body, expected) in [
        (JSON, b"[]".as_slice(), "400"),
        (JSON, b"{}", "400"),
        (JSON, b"[1", "400"),
        (JSON, too_many.as_bytes(), "400"),
        ("content-type: text/plain\r\n", b"[1]", "415"),
        ("", b"[1]", "415"),
        (
            "content-type: application/json\r\ncontent-encoding: br\r\n",
            b"[1]",
            "415",
        ),
        (&zip, b"[1]", "400"),
        (&zip, &bomb, "413"),
    ] {
        assert_eq!(server.batch(headers, body).0, expected, "{headers}");
    }
    assert_eq!(
        server.batch(JSON, b"[1]").1,
        ["accepted"],
        "nothing of them was taken"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_publishers_key_publishes_and_does_nothing_else() {
    let options = Options {
        publishers: ["office".to_owned()].into(),
        ..Options::default()
    };
    let server = started_with(true, options).await;
    assert_eq!(server.batch(JSON, b"[1]").1, ["accepted"]);
    let client = server.client();
    assert_eq!(client.intake_keys().await.unwrap().keys.len(), 1);
    for refused in [
        client.renew_intake_key().await.map(drop),
        client.cases(&CaseQuery::default()).await.map(drop),
        client
            .open_case(&ask(Right::Erasure, "ada@example.org"))
            .await
            .map(drop),
    ] {
        let error = refused.unwrap_err();
        assert_eq!(error.code(), "gateway-publisher-only");
    }
    let office = started(true).await.client();
    assert_eq!(office.renew_intake_key().await.unwrap().keys.len(), 2);
    let strangers = server.send("POST", "/v1/events", JSON, "[1]");
    assert_eq!(status(&strangers), "401");
}
