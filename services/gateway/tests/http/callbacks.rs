//! Callbacks: without a key of the API, with a signature that the backend looks at.

use super::{started, status};

const INSTRUCTION: &str = "ins-000102030405060708090a0b0c0d0e0f";

#[tokio::test(flavor = "multi_thread")]
async fn a_callback_needs_a_signature_and_no_key() {
    let server = started(true).await;
    let signed = "webhook-id: x\r\nwebhook-timestamp: 1\r\nwebhook-signature: v1,AAAA\r\n";
    let post = |path: &str, headers: &str| server.send("POST", path, headers, "{}");
    let path = format!("/v1/callbacks/crm/{INSTRUCTION}");
    let answer = post(&path, signed);
    assert_eq!(status(&answer), "202", "{answer}");
    assert!(answer.ends_with("{\"asks\":true}"), "{answer}");

    let twice = format!("{signed}webhook-id: y\r\n");
    for (path, headers, expected, place) in [
        (path.as_str(), "", "400", "header webhook-id"),
        (path.as_str(), twice.as_str(), "400", "header webhook-id"),
        ("/v1/callbacks/crm/ins-1", signed, "400", "path"),
        (&format!("/v1/callbacks/CRM/{INSTRUCTION}"), signed, "400", "path"),
        (
            &format!("/v1/callbacks/shop/{INSTRUCTION}"),
            signed,
            "404",
            "no such remote system",
        ),
    ] {
        let answer = post(path, headers);
        assert!(status(&answer) == expected && answer.contains(place), "{answer}");
    }
    let other = server.send("GET", "/v1/callbacks/../cases", "", "");
    assert_ne!(status(&other), "200", "{other}");
}
