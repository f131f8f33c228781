//! The dashboard.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn the_dashboards_buttons_do_what_they_say_once() {
    let server = started(false).await;
    let case = "/cases/case-5a140704c0ffee04";
    let page = server.send("GET", case, "", "");
    assert!(
        page.contains("Approve this plan") && page.contains("<svg"),
        "{page}"
    );
    let body = format!("revision=5&plan_digest=sha256:{}", "7".repeat(64));
    for _ in 0..2 {
        let answer = server.form(&format!("{case}/approve"), &body);
        assert!(
            status(&answer) == "303" && answer.contains(&format!("location: {case}")),
            "{answer}"
        );
    }
    assert_eq!(server.backend.executed(), 1);
    assert!(server.send("GET", case, "", "").contains("Lift the restriction"));
    assert_eq!(
        status(&server.form(&format!("{case}/lift"), "revision=6&notified_at=2026-11-24T12:00")),
        "303"
    );
    let attention = "/cases/case-5a170707c0ffee07";
    assert!(
        server
            .send("GET", attention, "", "")
            .contains("casework-contradicted")
    );
    assert_eq!(
        status(&server.form(&format!("{attention}/close"), "revision=5&reason=nonsense")),
        "400"
    );
    assert_eq!(
        status(&server.form(&format!("{attention}/replan"), "revision=5")),
        "303"
    );
    assert_eq!(
        status(&server.form(&format!("{attention}/close"), "revision=6&reason=contradicted")),
        "409"
    );
    let opened = server.form(
        "/cases",
        "key=1&right=erasure&ground=&kind=email&value=ada%40example.org&kind=ip&value=",
    );
    assert!(status(&opened) == "303" && !opened.contains("ada"), "{opened}");
    let lineage = server.form("/lineage", "kind=email&value=ada%40example.org");
    assert!(
        status(&lineage) == "200" && lineage.contains("access_log") && !lineage.contains("ada"),
        "{lineage}"
    );
    assert_eq!(status(&server.form("/lineage", "kind=email&value=")), "400");
    for path in [
        "/",
        "/lineage",
        "/assets/lethe.css",
        "/assets/live.js",
        "/assets/lethe.svg",
        "/policy",
    ] {
        assert_eq!(status(&server.send("GET", path, "", "")), "200", "{path}");
    }
    assert_eq!(
        status(&server.send("GET", "/cases/case-5a180708c0ffee08/certificate", "", "")),
        "200"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn every_answer_has_the_headers_that_keep_browsers_in_check() {
    let server = started(false).await;
    for (method, path) in [
        ("GET", "/"),
        ("GET", "/v1/cases"),
        ("GET", "/nothing"),
        ("HEAD", "/"),
        ("GET", "/assets/live.js"),
    ] {
        let answer = server.send(method, path, "", "").to_lowercase();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        for header in [
            "content-security-policy: default-src 'none'",
            "x-content-type-options: nosniff",
            "referrer-policy: same-origin",
            "cache-control:",
        ] {
            assert!(head.contains(header), "{path} has no {header}: {head}");
        }
        assert!(method != "HEAD" || body.is_empty());
        assert!(
            !body.contains(" style=\"") && !body.contains("<script>"),
            "{path} has what its own policy forbids"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_state_can_be_listed_and_shown() {
    let server = started(false).await;
    let client = server.client();
    for state in CaseState::ALL {
        let query = CaseQuery {
            state: Some(*state),
            ..CaseQuery::default()
        };
        let page = client.cases(&query).await.unwrap();
        assert_eq!(page.cases.len(), 1, "{state}");
        let shown = server.send("GET", &format!("/cases/{}", page.cases[0].id), "", "");
        assert!(
            status(&shown) == "200" && shown.contains(words::case_state(*state)),
            "{state}"
        );
    }
    let first = client
        .cases(&CaseQuery {
            limit: Some(8),
            ..CaseQuery::default()
        })
        .await
        .unwrap();
    let rest = client
        .cases(&CaseQuery {
            page: first.next,
            ..CaseQuery::default()
        })
        .await
        .unwrap();
    assert_eq!((first.cases.len(), rest.cases.len(), rest.next), (8, 5, None));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_says_which_role_nobody_has() {
    let server = started(false).await;
    let words = "nobody is ledger: core was last heard of 47 s ago";
    assert!(!server.send("GET", "/", "", "").contains(words));
    server.backend.miss(words);
    let page = server.send("GET", "/", "", "");
    assert!(page.contains(words), "{page}");
    assert_eq!(status(&server.send("GET", "/readyz", "", "")), "503");
}
