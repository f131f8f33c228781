//! What is refused, and how.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn malformed_requests_get_a_place_and_an_expectation_and_change_nothing() {
    let server = started(false).await;
    let open = "/v1/cases";
    for (body, expected) in [
        (r#"{"rihgt":"erasure"}"#, "the nearest is `right`"),
        (
            r#"{"right":"erasur","identifiers":[]}"#,
            "`erasure` or `restriction`",
        ),
        (r#"{"right":"erasure","identifiers":[]}"#, "1 to 64 identifiers"),
        (
            r#"{"right":"erasure","identifiers":[{"kind":"email","value":" "}]}"#,
            "identifiers[0].value",
        ),
        (
            r#"{"right":"erasure","identifiers":[{"kind":"email","value":"ada@example.org"}],"ground":"18-1-a"}"#,
            "17-1-a",
        ),
        (
            r#"{"right":"erasure","identifiers":[{"kind":"ip","value":"203.0.113.7"},{"kind":"ip_abbreviated","value":"203.0.113.0"}]}"#,
            "at least one identifier of the kinds email, phone, user_id, contact_id, cookie_id, device_id",
        ),
        (
            r#"{"right":"erasure","identifiers":[{"kind":"email","value":"ada@example.org"}],"received_at":"1970-01-01T00:00:00Z"}"#,
            "at most 1461 days ago",
        ),
        ("[]", "expected\":\"a JSON object with `right`, `identifiers`"),
        ("null", "expected\":\"a JSON object with `right`, `identifiers`"),
        ("not json", "well-formed JSON"),
        ("\u{0}", "well-formed JSON"),
        ("", "exactly one field `right`"),
    ] {
        let answer = server.json("POST", open, body);
        assert_eq!(status(&answer), "400", "{answer}");
        assert!(
            answer.contains(expected) && answer.contains("application/problem+json"),
            "{body}: {answer}"
        );
        assert!(
            answer.contains("gateway-malformed") && !answer.contains("ada@"),
            "{answer}"
        );
    }
    for (method, path, expected) in [
        ("GET", "/v1/cases/case-1", "16 hexadecimal digits"),
        ("GET", "/v1/cases/%ff%fe", "16 hexadecimal digits"),
        ("GET", "/v1/cases?stat=acting", "the nearest is `state`"),
        ("GET", "/v1/cases?state=x", "awaiting_approval"),
        ("GET", "/v1/cases?limit=0", "1 to 500"),
        ("GET", "/v1/cases/case-5a180708c0ffee08?wait_ms=-1", "a number"),
        ("GET", "/v1/systems/A%20b/scan", "a system name"),
    ] {
        let answer = server.json(method, path, "");
        assert!(
            status(&answer) == "400" && answer.contains(expected),
            "{path}: {answer}"
        );
    }
    assert_eq!(server.backend.executed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_types_methods_addresses_and_sizes_are_refused() {
    let server = started(false).await;
    let open = "/v1/cases";
    assert_eq!(
        status(&server.send("POST", open, "content-type: text/plain\r\n", "{}")),
        "415"
    );
    assert_eq!(status(&server.json("PUT", open, "")), "405");
    assert_eq!(status(&server.json("GET", "/nothing", "")), "404");
    let page = server.send("GET", "/nothing", "accept: text/html,*/*\r\n", "");
    assert!(status(&page) == "404" && page.contains("<main"), "{page}");
    assert_eq!(
        status(&server.json("POST", open, &" ".repeat(BODY_BYTES_MAX + 1))),
        "413"
    );
    assert_eq!(server.backend.executed(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_of_last_year_with_a_shared_identifier_beside_another_is_taken() {
    let server = started(false).await;
    let mut asked = ask(Right::Erasure, "ada@example.org");
    asked.identifiers.push(IdentifierAsk {
        issuer: None,
        kind: IdentifierKind::Ip,
        value: "203.0.113.7".to_owned(),
    });
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let before = |ago: Duration| Timestamp::from_millis(i64::try_from((now - ago).as_millis()).unwrap());
    let year = Duration::from_secs(365 * 86_400);
    asked.received_at = Some(before(year));
    server.client().open_case(&asked).await.unwrap();
    asked.received_at = Some(before(5 * year));
    let refused = server.client().open_case(&asked).await.unwrap_err();
    assert!(refused.is_malformed(), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn one_key_is_one_command() {
    let server = started(false).await;
    let body = r#"{"right":"erasure","identifiers":[{"kind":"email","value":"ada@example.org"}]}"#;
    let other = body.replace("ada", "eve");
    let headers = "content-type: application/json\r\nidempotency-key: 5b2c\r\n";
    let first = server.send("POST", "/v1/cases", headers, body);
    let second = server.send("POST", "/v1/cases", headers, body);
    assert_eq!(status(&first), "202");
    assert_eq!(first.split("\r\n\r\n").nth(1), second.split("\r\n\r\n").nth(1));
    let third = server.send("POST", "/v1/cases", headers, &other);
    assert!(
        status(&third) == "422" && third.contains("casework-key-reused"),
        "{third}"
    );
    assert_eq!(server.backend.executed(), 1);
    let blank = "content-type: application/json\r\nidempotency-key: a b\r\n";
    assert_eq!(status(&server.send("POST", "/v1/cases", blank, body)), "400");
}

#[tokio::test(flavor = "multi_thread")]
async fn other_sites_and_other_names_are_refused() {
    let server = started(false).await;
    for headers in [
        "origin: https://evil.example\r\n",
        "origin: null\r\n",
        "sec-fetch-site: cross-site\r\n",
        "origin: null\r\nsec-fetch-site: cross-site\r\n",
        "origin: null\r\nsec-fetch-site: same-site\r\n",
    ] {
        let headers = format!("content-type: application/json\r\n{headers}");
        let answer = server.send("POST", "/v1/cases/case-5a140704c0ffee04/withdraw", &headers, "{}");
        assert!(
            status(&answer) == "403" && answer.contains("gateway-other-site"),
            "{answer}"
        );
    }
    let answer = server.send("POST", "/cases/case-5a140704c0ffee04/withdraw", "", "");
    assert_eq!(
        status(&answer),
        "403",
        "a form without the browser's word for its site"
    );
    let rebound = server.raw(b"GET /v1/cases HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n");
    assert!(
        status(&rebound) == "403" && rebound.contains("gateway-wrong-host"),
        "{rebound}"
    );
    assert_eq!(server.backend.executed(), 0);
    // As browsers send forms of our own pages, with and without an origin.
    let own = format!("http://{}", server.address);
    for origin in ["null", &own] {
        let headers = format!(
            "content-type: application/x-www-form-urlencoded\r\norigin: {origin}\r\nsec-fetch-site: same-origin\r\n"
        );
        let answer = server.send("POST", "/lineage", &headers, "kind=email&value=ada@example.org");
        assert_eq!(status(&answer), "200", "{origin}: {answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn garbage_and_mistakes_end_their_own_request_only() {
    let server = started(false).await;
    let mut seed = 1_u64;
    for _ in 0..300 {
        let bytes: Vec<u8> = (0..200)
            .map(|_| {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 56) as u8
            })
            .collect();
        let mut stream = TcpStream::connect(server.address).unwrap();
        let _ = stream.write_all(&bytes);
        let _ = stream.shutdown(std::net::Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
    }
    let panicking = r#"{"right":"erasure","identifiers":[{"kind":"email","value":"panic"}]}"#;
    let answer = server.json("POST", "/v1/cases", panicking);
    assert!(
        status(&answer) == "500" && answer.contains("gateway-bug") && answer.contains("unknown"),
        "{answer}"
    );
    assert_eq!(status(&server.json("GET", "/v1/cases", "")), "200");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_sends_nothing_is_let_go() {
    let server = started(false).await;
    let address = server.address;
    // Both wait side by side: one says nothing, one never ends its body.
    let silent = std::thread::spawn(move || {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /v1/cases HTT").unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    });
    let slow = server.raw(
        format!("POST /v1/cases HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{{")
            .as_bytes(),
    );
    assert!(
        status(&slow) == "408" && slow.contains("gateway-too-slow"),
        "{slow}"
    );
    let silent = silent.join().unwrap();
    assert!(silent.is_empty() || status(&silent) == "408", "{silent}");
}

#[tokio::test(flavor = "multi_thread")]
async fn elsewhere_than_on_loopback_it_needs_tls_and_keys() {
    let folder = tempfile::tempdir().unwrap();
    let tls = tls_files(&folder);
    let keys = folder.path().join("keys");
    let key = new_key("office").unwrap();
    std::fs::write(&keys, key.line).unwrap();
    let anywhere: SocketAddr = "0.0.0.0:0".parse().unwrap();
    let refused = |options: Options| async move {
        serve(anywhere, Arc::new(Fake::new()), options, std::future::pending())
            .await
            .err()
            .unwrap()
            .code()
    };
    assert_eq!(refused(Options::default()).await, "gateway-needs-tls");
    assert_eq!(
        refused(Options {
            keys: None,
            tls: Some(tls.clone()),
            ..Options::default()
        })
        .await,
        "gateway-needs-keys"
    );
    let wrong = TlsFiles {
        certificate: keys.clone(),
        key: keys.clone(),
    };
    assert_eq!(
        refused(Options {
            keys: Some(keys.clone()),
            tls: Some(wrong),
            ..Options::default()
        })
        .await,
        "gateway-unusable-tls"
    );

    let start = async |address| {
        let options = Options {
            keys: Some(keys.clone()),
            tls: Some(tls.clone()),
            ..Options::default()
        };
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let running = serve(address, Arc::new(Fake::new()), options, async move {
            let _ = stopped.await;
        });
        (stop, running.await.unwrap())
    };
    let (stop, running) = start(anywhere).await;
    let address = running.address();
    let url = format!("https://localhost:{}", address.port());
    let client = || trusting(&tls, &url, &key.secret);
    let known = client();
    assert_eq!(known.systems().await.unwrap().systems.len(), 2);
    stop.send(()).unwrap();
    running.ended().await.unwrap();
    assert!(
        matches!(client().systems().await, Err(ClientError::NoServer { .. })),
        "who never had an answer is told at once"
    );
    let asked = tokio::spawn(async move { known.systems().await });
    let (_stop, _running) = start(address).await;
    assert_eq!(
        asked.await.unwrap().unwrap().systems.len(),
        2,
        "who had one waits until the server is back"
    );
}

/// A client that trusts the server's own certificate.
fn trusting(tls: &TlsFiles, url: &str, key: &str) -> Client {
    let authorities = std::fs::read(&tls.certificate).unwrap();
    Client::new(url, Some(key.to_owned()), Some(&authorities)).unwrap()
}

fn tls_files(folder: &tempfile::TempDir) -> TlsFiles {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
    let write = |name: &str, text: String| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    TlsFiles {
        certificate: write("cert.pem", made.cert.pem()),
        key: write("key.pem", made.signing_key.serialize_pem()),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_key_is_refused_everywhere_and_the_dashboard_asks_for_one() {
    let server = started(true).await;
    for headers in [
        "",
        "authorization: Bearer lethe_00\r\n",
        "authorization: Basic YTpi\r\n",
        "cookie: lethe=00\r\n",
    ] {
        assert_eq!(
            status(&server.send("GET", "/v1/cases", headers, "")),
            "401",
            "{headers}"
        );
    }
    let page = server.send("GET", "/", "", "");
    assert!(
        status(&page) == "303" && page.contains("location: /login"),
        "{page}"
    );
    assert_eq!(status(&server.form("/login", "key=lethe_00")), "401");
    let entered = server.form("/login", &format!("key={}", server.secret.as_deref().unwrap()));
    assert_eq!(status(&entered), "303");
    let cookie = entered
        .lines()
        .find_map(|line| line.strip_prefix("set-cookie: "))
        .unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"),
        "{cookie}"
    );
    let cookie = format!("cookie: {}\r\n", cookie.split(';').next().unwrap());
    assert_eq!(status(&server.send("GET", "/", &cookie, "")), "200");
    assert_eq!(
        status(&server.send("GET", "/v1/cases", &cookie, "")),
        "401",
        "a cookie is not a key of the API"
    );
    let leave = format!("{cookie}origin: http://{}\r\n", server.address);
    assert_eq!(status(&server.send("POST", "/logout", &leave, "")), "303");
    assert_eq!(
        status(&server.send("GET", "/", &cookie, "")),
        "303",
        "the session has ended"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_client_tells_no_server_from_no() {
    let nobody = Client::new("http://127.0.0.1:9", None, None).unwrap();
    let error = nobody.systems().await.unwrap_err();
    assert!(
        matches!(error, ClientError::NoServer { .. }) && !error.is_no(),
        "{error}"
    );
    for wrong in ["", "ftp://a", "127.0.0.1:7380", "http://lethe.example"] {
        let client = Client::new(wrong, Some("key".to_owned()), None);
        assert!(matches!(client, Err(ClientError::Setup { .. })), "{wrong}");
    }
}
