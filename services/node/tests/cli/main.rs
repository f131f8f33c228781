//! The command line against a made-up server over real HTTP, and the program itself.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on has failed"
)]

mod program;

use std::io::Write;
use std::sync::Arc;

use lethe_gateway::fake::Fake;
use lethe_gateway::{Options, new_key, serve};
use lethe_node::cli::{Exit, parse_from, run_to};
use lethe_terms::Timestamp;
use serde_json::Value;

struct Server {
    url: String,
    folder: tempfile::TempDir,
    backend: Arc<Fake>,
}

fn now() -> Timestamp {
    let since = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    Timestamp::from_millis(i64::try_from(since.as_millis()).unwrap())
}

async fn started() -> Server {
    let folder = tempfile::tempdir().unwrap();
    let key = new_key("office").unwrap();
    std::fs::write(folder.path().join("keys"), key.line).unwrap();
    std::fs::write(
        folder.path().join("key"),
        format!("# of the office\n{}\n", key.secret),
    )
    .unwrap();
    let options = Options {
        keys: Some(folder.path().join("keys")),
        ..Options::default()
    };
    let backend = Arc::new(Fake::with_samples(now()));
    let running = serve(
        "127.0.0.1:0".parse().unwrap(),
        Arc::clone(&backend) as _,
        options,
        std::future::pending(),
    )
    .await
    .unwrap();
    Server {
        url: running.url(),
        folder,
        backend,
    }
}

/// Exit, stdout, stderr.
type Ended = (Exit, String, String);

impl Server {
    async fn run(&self, words: &str) -> Ended {
        let key = self.folder.path().join("key");
        let mut line = vec!["lethe"];
        line.extend(words.split(' '));
        line.extend(["--server", &self.url, "--key-file", key.to_str().unwrap()]);
        run(line).await
    }

    async fn json(&self, words: &str) -> (Exit, Value) {
        let (exit, out, err) = self.run(&format!("{words} --json")).await;
        (
            exit,
            serde_json::from_str(&out).unwrap_or_else(|_| panic!("{words}: {out}{err}")),
        )
    }
}

async fn run(line: Vec<&str>) -> Ended {
    let cli = match parse_from(line) {
        Ok(cli) => cli,
        Err((exit, error)) => return (exit, String::new(), error.to_string()),
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let exit = run_to(cli, &mut out, &mut err, false).await;
    (
        exit,
        String::from_utf8(out).unwrap(),
        String::from_utf8(err).unwrap(),
    )
}

const ADA: &str = "--identifier email=ada@example.org";
const STUCK: &str = "--identifier email=stuck@example.org";

#[tokio::test(flavor = "multi_thread")]
async fn a_case_goes_its_whole_way_and_says_what_to_type_next() {
    let server = started().await;
    let (exit, case) = server
        .json(&format!("case open --right restriction {ADA} --wait"))
        .await;
    assert_eq!(
        (exit, case["state"].as_str()),
        (Exit::Yes, Some("awaiting_approval"))
    );
    let (id, digest) = (
        case["id"].as_str().unwrap(),
        case["plan_digest"].as_str().unwrap(),
    );

    let (exit, out, err) = server.run(&format!("case show {id}")).await;
    assert!(
        exit == Exit::Yes && out.contains("waits for approval") && out.contains("SYSTEM"),
        "{out}"
    );
    assert!(
        err.contains(&format!("approve with: lethe case approve {id} --plan {digest}")),
        "{err}"
    );
    let (exit, out, _) = server.run(&format!("case plan {id}")).await;
    assert!(
        exit == Exit::Yes && out.contains("e-mail, then account id"),
        "{out}"
    );

    let other = format!("sha256:{}", "0".repeat(64));
    let (exit, _, err) = server.run(&format!("case approve {id} --plan {other}")).await;
    assert!(exit == Exit::No && err.contains("fake-other-plan"), "{err}");
    let (exit, case) = server
        .json(&format!("case approve {id} --plan {digest} --wait"))
        .await;
    assert_eq!((exit, case["state"].as_str()), (Exit::Yes, Some("completed")));
    let file = server.folder.path().join("certificate.json");
    let (exit, out, err) = server
        .run(&format!("case certificate {id} --out {}", file.display()))
        .await;
    assert!(
        exit == Exit::Yes && out.is_empty() && err.contains("lethe verify"),
        "{err}"
    );
    assert!(std::fs::read_to_string(&file).unwrap().contains("cert-"));
    let lift = format!("case lift {id} --notified-at 2026-11-24T12:00:00Z --wait");
    let (exit, out, _) = server.run(&lift).await;
    let earlier = format!("earlier      cert-{id}  certificate of the restriction");
    assert!(exit == Exit::Yes && out.contains(&earlier), "{out}");
    let (exit, out, _) = server
        .run(&format!("case certificate {id} --certificate cert-{id}"))
        .await;
    assert!(exit == Exit::Yes && out.contains(&format!("cert-{id}")), "{out}");
    assert_eq!(
        server.run(&lift).await.0,
        Exit::No,
        "there is nothing left to lift"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_opening_is_written_for_one_reader_and_over_nothing() {
    let server = started().await;
    let opening = server.folder.path().join("opening.json");
    let fetch = format!("case opening case-5a180708c0ffee08 --out {}", opening.display());
    assert_eq!(server.run(&fetch).await.0, Exit::Yes);
    assert!(
        std::fs::read_to_string(&opening)
            .unwrap()
            .contains("lethe-subject/v1")
    );
    let (exit, _, err) = server.run(&fetch).await;
    assert!(
        exit == Exit::Unknown && err.contains("cli-unwritable-file"),
        "{err}"
    );
    assert!(err.contains(&opening.display().to_string()), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_hears_is_named_to_who_scans_or_waits_for_its_system() {
    let server = started().await;
    server.backend.silence("shop");
    let (exit, out, err) = server.run("system scan shop --wait 1").await;
    assert_eq!(exit, Exit::Unknown, "{out}{err}");
    assert!(out.contains("waits (node-host-silent)"), "{out}");
    assert!(
        err.contains("shop: nothing is heard of the process that hosts it") && !err.contains("system check"),
        "{err}"
    );
    let (_, _, err) = server.run("case show case-5a150705c0ffee05").await;
    assert!(
        err.contains("waits for shop: nothing is heard of the process that hosts it"),
        "{err}"
    );
    assert!(!err.contains("waits for website"), "it is heard of: {err}");
    let (_, _, err) = server.run("case show case-5a170707c0ffee07").await;
    assert!(
        !err.contains("waits for shop"),
        "the case waits for a person: {err}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_needs_attention_is_a_no_and_names_the_system() {
    let server = started().await;
    let (_, case) = server
        .json(&format!("case open --right erasure --ground 17-1-b {STUCK}"))
        .await;
    let (id, digest) = (
        case["id"].as_str().unwrap(),
        case["plan_digest"].as_str().unwrap(),
    );
    let (exit, out, err) = server
        .run(&format!("case approve {id} --plan {digest} --wait"))
        .await;
    assert!(exit == Exit::No && out.contains("needs attention"), "{out}");
    assert!(
        err.contains("look at: helpdesk") && err.contains("lethe case replan"),
        "{err}"
    );
    assert_eq!(server.run(&format!("case replan {id} --wait")).await.0, Exit::Yes);
    assert_eq!(
        server
            .run(&format!("case approve {id} --plan {digest} --wait"))
            .await
            .0,
        Exit::No
    );
    let (exit, case) = server
        .json(&format!("case close {id} --reason contradicted --wait"))
        .await;
    assert_eq!((exit, case["state"].as_str()), (Exit::No, Some("not_completed")));
    let (_, case) = server.json(&format!("case open --right erasure {ADA}")).await;
    let id = case["id"].as_str().unwrap();
    assert_eq!(
        server.run(&format!("case withdraw {id} --wait")).await.0,
        Exit::Yes,
        "that was wanted"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_waits_for_rotation_says_so_and_when_its_system_is_asked_again() {
    let server = started().await;
    let (_, out, _) = server.run("case show case-5a150705c0ffee05").await;
    assert!(
        out.contains(
            "shop / addresses: waits until the log is rotated that a program still writes to; asked again"
        ),
        "{out}"
    );
    let (_, case) = server.json("case show case-5a150705c0ffee05").await;
    assert_eq!(case["steps"][2]["in_progress"]["awaits"], "rotation", "{case:#}");
    assert_eq!(case["steps"][0]["in_progress"], Value::Null);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_overdue_case_is_called_so_in_the_list() {
    let server = started().await;
    let (_, out, err) = server.run("case list").await;
    let late = out
        .lines()
        .find(|line| line.contains("case-5a170707c0ffee07"))
        .unwrap();
    assert!(late.contains("(overdue by 2 days)"), "{out}");
    assert!(err.contains("OVERDUE: the answer of 1 case"), "{err}");
    let (_, list) = server.json("case list --overdue").await;
    assert_eq!(list["cases"].as_array().unwrap().len(), 1, "{list}");
    let (_, out, _) = server.run("case show case-5a170707c0ffee07").await;
    assert!(out.contains("overdue by 2 days"), "{out}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scan_that_does_not_go_on_is_not_waited_for_for_ever() {
    let server = started().await;
    let (exit, out, err) = server.run("system scan archive --wait 0").await;
    assert_eq!(exit, Exit::Unknown, "{out}{err}");
    assert!(
        out.contains("running") && err.contains("archive: the scan has not gone on for 0 s"),
        "{out}{err}"
    );
    let (exit, scans) = server.json("system scan --wait 1").await;
    assert_eq!(exit, Exit::Unknown, "one of several stands still: {scans}");
    let states: Vec<_> = scans["scans"]
        .as_array()
        .unwrap()
        .iter()
        .map(|scan| &scan["state"])
        .collect();
    assert_eq!(states, ["finished", "finished", "finished", "running"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn json_has_the_documented_shape() {
    let server = started().await;
    let (_, list) = server.json("case list --state completed").await;
    let case = &list["cases"][0];
    for field in [
        "id",
        "right",
        "state",
        "due",
        "plan_digest",
        "steps",
        "certificate",
        "certificates",
        "received_at",
        "flags",
    ] {
        assert!(case.get(field).is_some(), "a case has no {field}: {case}");
    }
    for field in ["attention", "remarks", "gap", "revision", "ground", "supersedes"] {
        assert!(case.get(field).is_some(), "a case has no {field}: {case}");
    }
    for field in ["system", "dataset", "verb", "state", "outcome", "records"] {
        assert!(
            case["steps"][0].get(field).is_some(),
            "a step has no {field}: {case}"
        );
    }
    assert_eq!(case["steps"][0]["outcome"], "erased");
    let (exit, lineage) = server.json(&format!("lineage {ADA}")).await;
    assert!(exit == Exit::Yes && lineage["complete"] == true && lineage["records"][0]["path"][0] == "email");
    let (_, systems) = server.json("system list").await;
    assert_eq!(systems["systems"][0]["datasets"][0]["name"], "accounts");
    let (exit, checks) = server.json("system check").await;
    assert!(
        exit == Exit::No && checks["checks"].as_array().unwrap().len() == 4,
        "one system does not answer"
    );
    assert_eq!(server.json("system check shop").await.0, Exit::Yes);
    let (exit, scans) = server.json("system scan shop").await;
    assert!(
        exit == Exit::Yes && scans["scans"][0]["state"] == "finished",
        "{scans}"
    );
    let (exit, list) = server.json("log quarantine list --system website").await;
    assert_eq!((exit, &list["total"]), (Exit::Yes, &2.into()), "{list}");
    assert_eq!(list["inputs"][0]["position"], 9, "{list}");
    let (_, input) = server.json("log quarantine show 9").await;
    assert_eq!(input["code"], "weblog-line", "{input}");
    let (exit, dropped) = server.json("log quarantine drop 9").await;
    assert_eq!((exit, &dropped["dropped"][0]["position"]), (Exit::Yes, &9.into()));
    assert_eq!(server.json("log quarantine list").await.1["total"], 1);
    assert_eq!(server.run("log quarantine show 9").await.0, Exit::No);
    let (exit, retried) = server.json("log quarantine retry 7").await;
    assert_eq!(
        (exit, &retried["retried"][0]["taken_in"]),
        (Exit::Yes, &true.into())
    );
    assert_eq!(server.json("log quarantine list").await.1["total"], 0);
    assert_eq!(server.run("log quarantine retry 7").await.0, Exit::No);
    let (exit, report) = server.json("connector check helpdesk").await;
    assert!(
        exit == Exit::No && report["musts"][1]["result"] == "broken",
        "{report}"
    );
    assert_eq!(server.json("policy").await.1["policy"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_several_inputs_it_is_told_which_were_dropped_before_one_that_is_not_there() {
    let server = started().await;
    let (exit, _, err) = server.run("log quarantine drop 9 5 7").await;
    assert!(
        exit == Exit::No && err.contains("dropped: 9; the rest was not"),
        "{err}"
    );
    assert_eq!(server.json("log quarantine list").await.1["total"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn lineage_comes_as_text_graph_and_picture() {
    let server = started().await;
    let (exit, out, err) = server.run(&format!("lineage {ADA}")).await;
    assert!(
        exit == Exit::Yes && out.contains("access_log") && err.contains("shared"),
        "{out}"
    );
    assert!(
        server
            .run(&format!("lineage {ADA} --dot"))
            .await
            .1
            .starts_with("graph lineage")
    );
    assert!(
        server
            .run(&format!("lineage {ADA} --svg -"))
            .await
            .1
            .contains("<svg")
    );
    assert_eq!(
        server.run(&format!("lineage {ADA} --svg - --json")).await.0,
        Exit::Usage
    );
    assert_eq!(
        server
            .run("lineage --identifier email=nobody@example.org")
            .await
            .0,
        Exit::No
    );
    let (exit, out, _) = server.run("case list --limit 2").await;
    assert!(exit == Exit::Yes && out.lines().count() == 3, "{out}");
    let (_, shown, _) = server.run("log quarantine show 9").await;
    assert_eq!(
        shown, "not a line\n\\u{1b}[31m\n",
        "what a stranger wrote does not speak to the terminal"
    );
    for words in [
        "system list",
        "system check",
        "log quarantine list",
        "connector check shop",
        "system scan shop",
    ] {
        assert!(!server.run(words).await.1.is_empty(), "{words}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_could_not_be_told_is_neither_yes_nor_no() {
    let (exit, out, err) = run(vec!["lethe", "case", "list", "--server", "http://127.0.0.1:9"]).await;
    assert!(
        exit == Exit::Unknown && out.is_empty() && err.contains("cli-no-server"),
        "{err}"
    );
    let server = started().await;
    let (exit, _, err) = run(vec!["lethe", "system", "list", "--server", &server.url]).await;
    assert!(
        exit == Exit::Unknown && err.contains("gateway-wrong-key"),
        "{err}"
    );
    let (exit, _, err) = server.run("case show case-0000000000000000").await;
    assert!(exit == Exit::No && err.contains("gateway-not-found"), "{err}");
    let (exit, _, err) = server
        .run("case show case-5a150705c0ffee05 --wait --timeout 0")
        .await;
    assert!(exit == Exit::Unknown && err.contains("not known yet"), "{err}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_case_that_could_lead_nowhere_or_was_asked_for_long_ago_is_not_opened() {
    let server = started().await;
    for (words, expected) in [
        (
            "case open --right erasure --identifier ip=203.0.113.7",
            "expected at least one identifier of the kinds email, phone, user_id",
        ),
        (
            "case open --right erasure --identifier email=ada@example.org --received-at 1970-01-01T00:00:00Z",
            "expected a moment at most 1461 days ago",
        ),
    ] {
        let (exit, out, err) = server.run(words).await;
        assert_eq!(exit, Exit::Usage, "{words}: {err}");
        assert!(out.is_empty() && err.contains(expected), "{words}: {err}");
        assert!(!err.contains("203.0.113.7") && !err.contains("ada@"), "{err}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_usage_names_what_would_be_right() {
    for (words, expected) in [
        (
            "case open --right erasur --identifier email=ada@example.org",
            "erasure",
        ),
        (
            "case open --right erasure --ground 18-1-a --identifier email=ada@example.org",
            "17-1-a",
        ),
        (
            "case open --right erasure --identifier emial=ada@example.org",
            "email",
        ),
        (
            "case open --right erasure --identifier ada@example.org",
            "KIND=VALUE",
        ),
        ("case show nonsense", "16 hexadecimal digits"),
        ("case lift case-0000000000000000 --notified-at today", "RFC 3339"),
        ("case close case-0000000000000000 --reason none", "contradicted"),
        ("case", "Usage"),
        ("nonsense", "Usage"),
        ("case list --server ftp://a", "http://127.0.0.1:7380"),
    ] {
        let mut line = vec!["lethe"];
        line.extend(words.split(' '));
        let (exit, out, err) = run(line).await;
        assert_eq!(exit, Exit::Usage, "{words}: {err}");
        assert!(out.is_empty() && err.contains(expected), "{words}: {err}");
        assert!(!err.contains("ada@"), "{words} repeats the identifier: {err}");
    }
}

struct Closed;

impl Write for Closed {
    fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
        Err(std::io::ErrorKind::BrokenPipe.into())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_that_has_enough_is_no_failure() {
    let server = started().await;
    let key = server.folder.path().join("key");
    let line = [
        "lethe",
        "system",
        "list",
        "--server",
        &server.url,
        "--key-file",
        key.to_str().unwrap(),
    ];
    let exit = run_to(parse_from(line).unwrap(), &mut Closed, &mut Vec::new(), false).await;
    assert_eq!(exit, Exit::Yes);
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_of_publishers_are_shown_renewed_and_made() {
    let server = started().await;
    let (exit, shown, _) = server.run("intake keys").await;
    assert_eq!(exit, Exit::Yes);
    assert!(shown.starts_with("KEY") && shown.lines().count() == 2, "{shown}");
    let (exit, renewed, _) = server.run("intake renew --json").await;
    assert_eq!(exit, Exit::Yes);
    let renewed: serde_json::Value = serde_json::from_str(&renewed).unwrap();
    assert_eq!(renewed["keys"].as_array().unwrap().len(), 2);

    let file = server.folder.path().join("crm.sender");
    let make = format!("intake sender --out {}", file.display());
    let (exit, line, _) = server.run(&make).await;
    assert_eq!(exit, Exit::Yes);
    assert!(line.starts_with("senders = [\""), "{line}");
    let made = std::fs::read_to_string(&file).unwrap();
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&file).unwrap().permissions());
    assert_eq!((made.trim_end().len(), mode & 0o777), (44, 0o600));
    let (exit, _, err) = server.run(&make).await;
    assert_eq!(exit, Exit::Unknown, "a key that is there is not written over");
    assert!(err.contains(&file.display().to_string()), "{err}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), made);
}
