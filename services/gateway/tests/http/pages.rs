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
    let restriction = format!("{case}/certificates/cert-case-5a140704c0ffee04");
    assert!(server.send("GET", case, "", "").contains(&restriction));
    assert_eq!(status(&server.send("GET", &restriction, "", "")), "200");
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
async fn the_form_opens_a_case_with_all_that_the_api_takes_and_checks_it_alike() {
    let server = started(false).await;
    let page = server.send("GET", "/", "", "");
    for field in ["name=\"received_at\"", "name=\"supersedes\"", "in UTC"] {
        assert!(page.contains(field), "the form has no {field}: {page}");
    }
    let open = |rest: &str| {
        let body = format!("key=1&right=erasure&kind=email&value=ada%40example.org&{rest}");
        server.form("/cases", &body)
    };
    let restriction = "case-5a1b0a0ac0ffee0a";
    let day = now().day();
    let opened = open(&format!("received_at={day}T00:00&supersedes={restriction}"));
    assert_eq!(status(&opened), "303", "{opened}");
    let place = opened
        .lines()
        .find_map(|line| line.strip_prefix("location: /cases/"))
        .unwrap();
    let case = server.client().case(place.trim().parse().unwrap()).await.unwrap();
    assert_eq!(case.supersedes.unwrap().to_string(), restriction);
    assert_eq!(case.received_at.to_string(), format!("{day}T00:00:00.000Z"));
    for (rest, place) in [
        ("received_at=yesterday", "form: received_at"),
        ("received_at=1970-01-01T00:00", "body: received_at"),
        ("supersedes=that+one", "form: supersedes"),
    ] {
        let refused = open(rest);
        assert!(
            status(&refused) == "400" && refused.contains(place),
            "{rest}: {refused}"
        );
    }
    let other =
        format!("key=2&right=restriction&kind=email&value=ada%40example.org&supersedes={restriction}");
    let refused = server.form("/cases", &other);
    assert!(
        status(&refused) == "400" && refused.contains("supersedes"),
        "{refused}"
    );
    assert_eq!(server.backend.executed(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_case_is_called_so_on_the_first_page_in_the_list_and_on_its_own() {
    let server = started(false).await;
    let first = server.send("GET", "/", "", "");
    for part in [
        "Answers overdue</dt><dd>1</dd>",
        "id=\"overdue\"",
        "overdue by 2 days",
    ] {
        assert!(first.contains(part), "the first page has no {part}: {first}");
    }
    let (_, table) = first.split_once("Seen to be done").unwrap();
    assert!(table.contains("overdue by 2 days"), "{table}");
    let (_, next) = first.split_once("Next answer due").unwrap();
    let (next, _) = next.split_once("</dd>").unwrap();
    assert!(next.contains(">in ") && !next.contains("ago"), "{next}");
    let own = server.send("GET", "/cases/case-5a170707c0ffee07", "", "");
    assert!(own.contains("overdue by 2 days"), "{own}");
    let query = CaseQuery {
        overdue: true,
        ..CaseQuery::default()
    };
    let late = server.client().cases(&query).await.unwrap().cases;
    assert_eq!(late.len(), 1);
    assert_eq!(late[0].state, CaseState::NeedsAttention);
    for query in ["overdue=perhaps", "waiting=perhaps"] {
        let path = format!("/v1/cases?{query}");
        assert_eq!(status(&server.send("GET", &path, "", "")), "400");
    }
    let query = CaseQuery {
        waiting: true,
        ..CaseQuery::default()
    };
    let waiting = server.client().cases(&query).await.unwrap().cases;
    assert!(!waiting.is_empty() && waiting.iter().all(|case| case.state.waits_for_person()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_picture_says_that_it_goes_on_sideways_and_takes_the_keyboard() {
    let server = started(false).await;
    let case = server.send("GET", "/cases/case-5a150705c0ffee05", "", "");
    let lineage = server.form("/lineage", "kind=email&value=ada%40example.org");
    for (page, pictures) in [(case, 2), (lineage, 1)] {
        let frames = page
            .matches("class=\"frame\" tabindex=\"0\" role=\"group\"")
            .count();
        assert_eq!(frames, pictures, "{page}");
        assert_eq!(page.matches("The picture goes on sideways").count(), pictures);
    }
    let style = server.send("GET", "/assets/lethe.css", "", "");
    let (_, frame) = style.split_once("\n.frame {").unwrap();
    let (frame, _) = frame.split_once('}').unwrap();
    assert!(
        frame.contains("overflow-x: auto") && frame.contains("var(--edge)"),
        "a cut picture has no sign at its edge: {frame}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_waits_for_rotation_says_so_and_when_its_system_is_asked_again() {
    let server = started(false).await;
    let page = server.send("GET", "/cases/case-5a150705c0ffee05", "", "");
    assert!(
        page.contains("waits until the log is rotated that a program still writes to; asked again"),
        "{page}"
    );
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

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_was_answered_counts_down_to_nothing() {
    let server = started(false).await;
    let page = server.send("GET", "/cases/case-5a180708c0ffee08", "", "");
    assert!(
        page.contains("answered 25 days ago") && page.contains("in time"),
        "{page}"
    );
    for left in ["answer due", "class=\"deadline"] {
        assert!(!page.contains(left), "{left} is left: {page}");
    }
    let withdrawn = server.send("GET", "/cases/case-5a1c070cc0ffee0c", "", "");
    assert!(
        withdrawn.contains("no answer is due any more") && !withdrawn.contains("answer due"),
        "{withdrawn}"
    );
    let open = server.send("GET", "/cases/case-5a140704c0ffee04", "", "");
    assert!(
        open.contains("answer due") && open.contains("class=\"deadline"),
        "{open}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plan_that_changes_nothing_is_told_in_words_and_not_by_an_empty_picture() {
    let server = started(false).await;
    let page = server.send("GET", "/cases/case-5a1c070cc0ffee0c", "", "");
    assert!(page.contains("It changes nothing in any system"), "{page}");
    assert!(
        !page.contains("class=\"picture\"") && !page.contains("Why these records"),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_card_says_whose_case_it_is_and_what_it_waits_for() {
    let server = started(false).await;
    let first = server.send("GET", "/", "", "");
    let (_, waiting) = first.split_once("id=\"overdue\"").unwrap();
    let (waiting, _) = waiting.split_once("id=\"cases\"").unwrap();
    let received = format!("received {}", now().plus_millis(-13 * 86_400_000).day());
    for part in [
        "Art. 18(1)(a)",
        received.as_str(),
        "waits for your approval of a plan with 7 steps",
        "waits until the person has proven who they are",
        "an observation contradicts what the system says it did",
        "no answer came in time <code>kit-timeout</code>",
    ] {
        assert!(waiting.contains(part), "no {part}: {waiting}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_nobody_asked_for_is_ended_and_not_withdrawn() {
    let server = started(false).await;
    let followed = "/cases/case-5a130703c0ffee03";
    let page = server.send("GET", followed, "", "");
    assert!(page.contains("Nobody asked for this case"), "{page}");
    assert!(
        page.contains("End without erasing") && !page.contains("Withdraw"),
        "{page}"
    );
    let answer = server.form(&format!("{followed}/withdraw"), "revision=5");
    assert_eq!(status(&answer), "303", "{answer}");
    let page = server.send("GET", followed, "", "");
    assert!(
        page.contains("ended without erasing") && !page.contains("withdrawn"),
        "{page}"
    );
    let asked = server.send("GET", "/cases/case-5a140704c0ffee04", "", "");
    assert!(asked.contains("Withdraw the case"), "{asked}");
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_and_plan_count_records_and_the_page_says_what_one_is() {
    let server = started(false).await;
    let lineage = server.form("/lineage", "kind=email&value=ada%40example.org");
    for part in [
        "9 records, 276 rows or lines in them",
        "2 records",
        "214 rows or lines",
        words::RECORD,
    ] {
        assert!(lineage.contains(part), "no {part}: {lineage}");
    }
    let case = server.send("GET", "/cases/case-5a150705c0ffee05", "", "");
    assert!(
        case.contains(words::RECORD) && !case.contains("rows or lines"),
        "{case}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_of_which_an_earlier_plan_has_acted_is_not_offered_to_be_taken_back() {
    let server = started(false).await;
    let case = "/cases/case-5a170707c0ffee07";
    assert_eq!(
        status(&server.form(&format!("{case}/replan"), "revision=5")),
        "303"
    );
    let page = server.send("GET", case, "", "");
    assert!(page.contains("Approve this plan"), "{page}");
    assert!(
        !page.contains("Nothing has been erased") && !page.contains("Withdraw"),
        "{page}"
    );
    assert!(
        page.contains("An earlier plan has acted: shop / payments restricted, seen to be"),
        "{page}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_was_closed_alarms_nobody_and_names_its_statement_by_what_it_did() {
    let server = started(false).await;
    let case = "/cases/case-5a170707c0ffee07";
    let closing = server.form(&format!("{case}/close"), "revision=5&reason=contradicted");
    assert_eq!(status(&closing), "303", "{closing}");
    let page = server.send("GET", case, "", "");
    assert!(!page.contains("A person has to look at this"), "{page}");
    for part in [
        "What fell short",
        "casework-contradicted",
        "statement that the restriction was not completed",
    ] {
        assert!(page.contains(part), "no {part}: {page}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_from_the_log_says_for_how_long_cases_are_not_known() {
    let server = started(false).await;
    let client = server.client();
    client.cases(&CaseQuery::default()).await.unwrap();
    assert_eq!(client.cases_age(), Duration::ZERO);
    let (home, case) = ("/", "/cases/case-5a140704c0ffee04");
    let words = "shown as they were";
    assert!(!server.send("GET", home, "", "").contains(words));

    server.backend.cut_off(Duration::from_secs(3 * 60));
    client.cases(&CaseQuery::default()).await.unwrap();
    assert_eq!(client.cases_age().as_secs() / 60, 3);
    for page in [home, case] {
        let page = server.send("GET", page, "", "");
        assert!(page.contains(&format!("{words} 3 minutes")), "{page}");
    }
}
