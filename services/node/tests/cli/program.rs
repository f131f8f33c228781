//! The program itself.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// How long a server may take to start or to end.
const PATIENCE: Duration = Duration::from_secs(60);

fn program(words: &[&str]) -> (i32, String, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_lethe"))
        .args(words)
        .stdin(Stdio::null())
        .output()
        .unwrap();
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    (
        output.status.code().unwrap(),
        text(&output.stdout),
        text(&output.stderr),
    )
}

#[test]
fn help_of_every_command_fits_a_screen_and_the_long_one_has_an_example() {
    let mut commands: Vec<Vec<&str>> = vec![vec![]];
    for command in [
        "serve",
        "lineage",
        "verify",
        "policy",
        "replay",
        "doctor",
        "case",
        "system",
        "connector",
    ] {
        commands.push(vec![command]);
    }
    for verb in [
        "open",
        "list",
        "show",
        "plan",
        "approve",
        "withdraw",
        "lift",
        "replan",
        "close",
        "certificate",
        "opening",
    ] {
        commands.push(vec!["case", verb]);
    }
    for verb in ["list", "check", "scan"] {
        commands.push(vec!["system", verb]);
    }
    commands.push(vec!["connector", "check"]);
    for command in commands {
        let (code, short, err) = program(&[command.as_slice(), &["-h"]].concat());
        assert!(code == 0 && err.is_empty(), "{command:?}: {err}");
        assert!(
            short.lines().count() <= 50,
            "{command:?} -h has {} lines",
            short.lines().count()
        );
        let (code, long, _) = program(&[command.as_slice(), &["--help"]].concat());
        assert_eq!(code, 0);
        let is_group = matches!(command.as_slice(), ["case" | "system" | "connector"]);
        assert!(
            is_group || long.contains("xample"),
            "{command:?} --help has no example"
        );
    }
}

#[test]
fn the_program_ends_with_the_documented_codes() {
    assert_eq!(program(&["--version"]).0, 0);
    assert_eq!(program(&["verify", "--no-such-flag"]).0, 64);
    assert_eq!(
        program(&["verify", "certificate", "--subject", "email=ada@example.org"]).0,
        64
    );
    let (code, _, err) = program(&[
        "case",
        "open",
        "--right",
        "erasur",
        "--identifier",
        "email=a@b.example",
    ]);
    assert!(code == 64 && err.contains("erasure"), "{err}");
    assert_eq!(program(&["case", "list", "--server", "http://127.0.0.1:9"]).0, 2);
}

#[test]
fn a_process_that_is_to_host_a_system_nobody_configured_is_refused_with_the_known_ones() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("lethe.toml");
    let data = folder.path().join("data");
    let text = format!(
        "data_dir = \"{}\"\n[controller]\nid = \"acme\"\nname = \"Acme GmbH\"\n[kafka]\nbootstrap = \"127.0.0.1:9\"\n\
         [[systems]]\nname = \"crm\"\nkind = \"sql\"\n[[systems]]\nname = \"site\"\nkind = \"weblog\"\n",
        data.display()
    );
    std::fs::write(&config, text).unwrap();
    let config = config.to_str().unwrap();
    let (code, _, err) = program(&[
        "serve",
        "--config",
        config,
        "--role",
        "connectors",
        "--system",
        "nix",
    ]);
    assert!(
        code == 64 && err.contains("--system nix: ") && err.contains("one of crm, site"),
        "{err}"
    );
    assert!(!data.exists());
}

/// Whether the server on this port takes work.
fn is_ready(port: u16) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else {
        return false;
    };
    let mut answer = String::new();
    let asked = stream.write_all(b"GET /readyz HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n");
    asked.and_then(|()| stream.read_to_string(&mut answer)).is_ok() && answer.starts_with("HTTP/1.1 200")
}

/// A server without systems, ended with the test.
struct Running(Child);

impl Running {
    fn started(config: &str, port: u16) -> Self {
        let child = Command::new(env!("CARGO_BIN_EXE_lethe"))
            .args(["serve", "--config", config])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let running = Self(child);
        let patience = Instant::now() + PATIENCE;
        while !is_ready(port) {
            assert!(Instant::now() < patience, "the server does not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        running
    }

    /// Tells it to stop, as a service manager does.
    fn stopped(mut self) {
        let told = Command::new("kill")
            .args(["-TERM", &self.0.id().to_string()])
            .status();
        assert!(told.unwrap().success());
        let patience = Instant::now() + PATIENCE;
        while self.0.try_wait().unwrap().is_none() {
            assert!(Instant::now() < patience, "the server does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn configured(folder: &Path, port: u16) -> String {
    let config = folder.join("lethe.toml");
    let text = format!(
        "data_dir = {:?}\nlisten = \"127.0.0.1:{port}\"\n[controller]\nid = \"acme\"\nname = \"Acme GmbH\"\n",
        folder.join("data")
    );
    std::fs::write(&config, text).unwrap();
    config.to_str().unwrap().to_owned()
}

fn doctor(config: &str) -> (i32, Value) {
    let (code, out, err) = program(&["doctor", "--config", config, "--json"]);
    let found = serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}"));
    (code, found)
}

fn of<'a>(found: &'a Value, what: &str) -> &'a Value {
    let rows = found.as_array().unwrap();
    rows.iter()
        .find(|row| row["what"] == what)
        .unwrap_or(&Value::Null)
}

/// Whether ops/cli.md has these fields in the row of a command, and the object has them.
fn documented(command: &str, object: &Value, fields: &[&str]) {
    let page = include_str!("../../../../ops/cli.md");
    let row = format!("| `{command}` | ");
    let row = page.lines().find(|line| line.starts_with(&row)).unwrap();
    for field in fields {
        assert!(object.get(field).is_some(), "{command} has no {field}: {object}");
        assert!(
            row.contains(&format!("\"{field}\"")),
            "ops/cli.md has no {field}: {row}"
        );
    }
    assert_eq!(object.as_object().unwrap().len(), fields.len(), "{object}");
}

#[test]
fn the_doctor_cannot_tell_on_a_running_server_and_can_on_a_stopped_one() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = configured(folder.path(), port);
    let server = Running::started(&config, port);
    let (code, found) = doctor(&config);
    assert_eq!(code, 2, "{found}");
    for what in ["vault", "log", "ledger"] {
        assert_eq!(of(&found, what)["ok"], Value::Null, "{found}");
    }
    assert_eq!(of(&found, "vault")["code"], "vault-in-use");
    assert_eq!(program(&["doctor", "--config", &config]).0, 2);
    server.stopped();

    let (code, page, err) = program(&["doctor", "--config", &config]);
    assert!(code == 0 && err.is_empty(), "{page}{err}");
    let vault = page.lines().find(|line| line.contains("vault")).unwrap();
    assert!(
        vault.starts_with("ok   vault: a vault of kind file with root key number 1 and 0 bucket keys;")
            && !vault.contains('{'),
        "{vault}"
    );
    let (_, found) = doctor(&config);
    for row in found.as_array().unwrap() {
        documented("doctor", row, &["what", "ok", "detail", "code"]);
    }
    let into = folder.path().join("rebuilt");
    let (code, out, _) = program(&[
        "replay",
        "--config",
        &config,
        "--json",
        "--into",
        into.to_str().unwrap(),
    ]);
    let replayed: Value = serde_json::from_str(&out).unwrap();
    documented("replay", &replayed, &["state_hash"]);
    let hash = replayed["state_hash"].as_str().unwrap();
    assert_eq!(code, 0);
    assert_eq!(of(&found, "lineage")["detail"], format!("state hash {hash}"));

    std::fs::remove_dir_all(folder.path().join("data/vault")).unwrap();
    let (code, page, _) = program(&["doctor", "--config", &config]);
    assert!(
        code == 1 && page.contains("FAIL vault") && page.contains("(vault-no-vault)"),
        "{page}"
    );
}

#[test]
fn a_damaged_log_is_the_doctors_answer_with_its_whole_path_and_nothing_goes_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let port = free_port();
    let config = configured(folder.path(), port);
    Running::started(&config, port).stopped();
    let log = folder.path().join("data/log");
    // The page after the header, where the library that reads it panics.
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(log.join("systems.1.redb"))
        .unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[0xa5; 4096], 4096).unwrap();
    let (code, page, err) = program(&["doctor", "--config", &config]);
    assert!(code == 1 && err.is_empty(), "{page}{err}");
    let said = page.lines().find(|line| line.starts_with("FAIL log")).unwrap();
    assert!(
        said.contains("systems.1.redb is damaged") && said.contains(log.to_str().unwrap()),
        "{said}"
    );
}

#[test]
fn a_wrong_number_of_a_system_is_refused_with_file_table_key_and_unit() {
    let web = "kind = \"weblog\"\nstate_dir = \"/nowhere\"\n[[systems.logs]]\nname = \"l\"\npath = \"/l\"\n";
    let remote =
        "kind = \"remote\"\nsecret_file = \"/nowhere\"\ndatasets = [\"d\"]\nurl = \"http://127.0.0.1/\"\n";
    for (number, rest, key, unit) in [
        ("backup_days = 4000", remote, "unknown key backup_days", ""),
        (
            "timeout_ms = 1",
            remote,
            "timeout_ms: expected 100",
            "of milliseconds",
        ),
        (
            "timeout_ms = \"30s\"",
            remote,
            "timeout_ms: invalid",
            "of milliseconds",
        ),
        ("backup_days = 4500", web, "backup_days: expected 0", "of days"),
        ("remember_days = -1", web, "remember_days: invalid", "of days"),
    ] {
        let folder = tempfile::tempdir().unwrap();
        let config = configured(folder.path(), free_port());
        let mut text = std::fs::read_to_string(&config).unwrap();
        text.push_str(&format!("[[systems]]\nname = \"crm\"\n{number}\n{rest}"));
        std::fs::write(&config, text).unwrap();
        let (code, _, err) = program(&["serve", "--config", &config]);
        assert_eq!(code, 2, "{number}: {err}");
        for part in [config.as_str(), "system crm, in [[systems]]", key, unit] {
            assert!(err.contains(part), "{number} has no {part}: {err}");
        }
    }
}

#[test]
fn the_doctor_makes_nothing_where_no_server_ever_was() {
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), 0);
    let (code, found) = doctor(&config);
    assert_eq!(code, 1, "{found}");
    for (what, place) in [
        ("vault", "data/vault"),
        ("log", "data/log"),
        ("ledger", "data/ledger"),
    ] {
        assert_eq!(of(&found, what)["ok"], false, "{found}");
        let place = folder.path().join(place);
        let said = of(&found, what)["detail"].as_str().unwrap();
        assert!(said.contains(place.to_str().unwrap()), "{said}");
    }
    assert!(!folder.path().join("data").exists(), "{found}");
}

#[test]
fn what_verify_says_as_json_has_the_documented_shape() {
    let (code, out, _) = program(&["verify", "/nowhere/certificate", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap();
    assert_eq!((code, report["status"].as_str()), (4, Some("malformed")));
    let fields = [
        "status",
        "checks",
        "systems",
        "copies",
        "not_checked",
        "limits",
        "remarks",
    ];
    documented("verify", &report, &fields);
    let (code, page, _) = program(&["verify", "/dev/zero"]);
    assert!(code == 4 && page.contains("is no regular file"), "{page}");
}

#[test]
fn a_result_that_was_not_written_does_not_end_well() {
    for words in [
        &["verify", "/nowhere/certificate"][..],
        &["doctor", "--config", "lethe.toml"],
    ] {
        let folder = tempfile::tempdir().unwrap();
        configured(folder.path(), 0);
        let full = std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_lethe"))
            .args(words)
            .current_dir(folder.path())
            .stdout(full)
            .output()
            .unwrap();
        let err = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{words:?}: {err}");
        assert!(err.contains("cannot write"), "{words:?}: {err}");
    }
}

#[test]
fn commands_without_a_server_show_no_option_of_one_and_take_them() {
    for command in ["serve", "verify", "replay", "doctor"] {
        let (_, help, _) = program(&[command, "-h"]);
        for option in ["--server", "--key-file", "--ca-file"] {
            assert!(!help.contains(option), "{command} shows {option}: {help}");
        }
        assert!(help.contains("--json"), "{help}");
    }
    assert!(program(&["policy", "-h"]).1.contains("--server"));
    let (code, _, err) = program(&["verify", "/nowhere", "--server", "http://127.0.0.1:9"]);
    assert_eq!(code, 4, "{err}");
}

#[test]
fn the_doctor_answers_for_a_configuration_that_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), 0);
    std::fs::write(&config, "data_dri = \"d\"\n").unwrap();
    let (code, found) = doctor(&config);
    assert_eq!(code, 1, "{found}");
    assert_eq!(found.as_array().unwrap().len(), 1, "{found}");
    let row = of(&found, "configuration");
    assert_eq!(
        (&row["ok"], &row["code"]),
        (&Value::Bool(false), &Value::from("node-settings"))
    );
    assert!(row["detail"].as_str().unwrap().contains(&config), "{found}");
}

#[test]
fn a_file_of_the_command_line_that_is_not_there_is_named_whichever_it_is() {
    for option in ["--key-file", "--ca-file"] {
        let (code, _, err) = program(&["policy", option, "/nowhere/file"]);
        assert!(
            code == 2 && err.contains("/nowhere/file"),
            "{option}: {code} {err}"
        );
        assert!(err.contains("cli-unreadable-file"), "{option}: {err}");
    }
}

#[test]
fn a_replay_into_a_folder_that_holds_something_is_wrong_usage_and_no_matter_of_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let config = configured(folder.path(), 0);
    let into = folder.path().to_str().unwrap();
    let (code, _, err) = program(&["replay", "--config", &config, "--into", into]);
    assert!(
        code == 64 && err.contains("node-occupied") && err.contains(into),
        "{code} {err}"
    );
}

#[test]
fn a_refused_setting_is_named_with_its_table_and_where_it_came_from() {
    let refused = |wrong: &str, variable: Option<(&str, &str)>| {
        let folder = tempfile::tempdir().unwrap();
        let config = configured(folder.path(), 0);
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, text + wrong).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_lethe"))
            .args(["doctor", "--config", &config])
            .envs(variable)
            .output()
            .unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let of_file = said.contains(&config);
        (said, of_file)
    };
    let (said, of_file) = refused("nmae = \"a\"", None);
    assert!(
        of_file && said.contains("unknown key controller.nmae: did you mean name?"),
        "{said}"
    );
    let (said, of_file) = refused("", Some(("LETHE_FEED_EVRY_MS", "9")));
    assert!(
        !of_file && said.contains("variable LETHE_FEED_EVRY_MS of the environment: unknown key feed_evry_ms"),
        "{said}"
    );
    let (said, of_file) = refused("", Some(("LETHE_LISTEN", "here")));
    assert!(
        !of_file
            && said.contains("variable LETHE_LISTEN")
            && said.contains("expected an IP address with a port"),
        "{said}"
    );
    let (said, _) = refused("", Some(("LETHE_FEED_EVERY_MS", "1")));
    assert!(
        said.contains("variable LETHE_FEED_EVERY_MS") && said.contains("expected 10"),
        "{said}"
    );
    let (said, of_file) = refused("[[systems]]\nkind = \"x\"\n", None);
    assert!(of_file && said.contains("systems[0].name"), "{said}");
}
