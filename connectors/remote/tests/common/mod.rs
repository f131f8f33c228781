//! The example program, the way to it on which a test can meddle, and its file looked at past it.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::expect_used
)]

pub mod meddler;

use std::io::{BufRead, BufReader};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use lethe_remote::{Config, Over};

/// A secret of the tests.
pub const SECRET: &str = "whsec_bGV0aGUtdGVzdHMtb25seS1sZXRoZS10ZXN0cw==";

/// The interpreter: `LETHE_TEST_PYTHON`, or `python3` of the machine. Without one the test says that it was skipped.
pub fn python() -> Option<String> {
    let python = std::env::var("LETHE_TEST_PYTHON").unwrap_or_else(|_| "python3".to_owned());
    let runs = Command::new(&python)
        .args(["-c", "import sqlite3, sys; sys.exit(sys.version_info < (3, 9))"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !runs {
        println!(
            "SKIPPED: remote connector in Python: no python3 of at least 3.9; install the package python3"
        );
    }
    runs.then_some(python)
}

/// An interpreter that can talk to Kafka as well. Without one the test says that it was skipped.
pub fn python_with_kafka() -> Option<String> {
    let python = python()?;
    let runs = Command::new(&python)
        .args(["-c", "import confluent_kafka, cryptography"])
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success());
    if !runs {
        println!(
            "SKIPPED: remote connector over Kafka: expected LETHE_TEST_PYTHON with the packages of ops/examples/requirements.txt"
        );
    }
    runs.then_some(python)
}

/// The running example.
pub struct Program {
    child: Child,
    pub port: u16,
}

impl Program {
    pub fn start(python: &str, folder: &Path, more: &[&str]) -> Self {
        let more = [&["--listen", "127.0.0.1:0"], more].concat();
        let (child, said) = begin(python, "remote_connector.py", folder, &more);
        let port = said.trim().rsplit(':').next().and_then(|port| port.parse().ok());
        Self {
            child,
            port: port.unwrap_or_else(|| panic!("the program says {said:?}")),
        }
    }

    /// The example that reads from Kafka; it listens nowhere.
    pub fn over_kafka(python: &str, folder: &Path, more: &[&str]) -> Self {
        let (child, said) = begin(python, "remote_connector_kafka.py", folder, more);
        assert!(said.starts_with("reading "), "the program says {said:?}");
        Self { child, port: 0 }
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        // Where it has ended already there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Starts one of the examples, and waits for its first line.
fn begin(python: &str, script: &str, folder: &Path, more: &[&str]) -> (Child, String) {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/examples");
    let mut child = Command::new(python)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .arg(examples.join(script))
        .args(["--system", "crm", "--database"])
        .arg(database(folder))
        .arg("--secret-file")
        .arg(secret_file(folder))
        .args(more)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut said)
        .unwrap();
    (child, said)
}

impl Drop for Program {
    fn drop(&mut self) {
        self.kill();
    }
}

pub fn database(folder: &Path) -> PathBuf {
    folder.join("contacts.db")
}

/// The file with the secret, which only its owner may read.
pub fn secret_file(folder: &Path) -> PathBuf {
    let path = folder.join("crm.secret");
    if !path.exists() {
        std::fs::write(&path, format!("{SECRET}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    }
    path
}

pub fn config(folder: &Path, port: u16) -> Config {
    Config {
        over: Over::Http,
        url: Some(format!("http://127.0.0.1:{port}/")),
        secret_file: secret_file(folder),
        datasets: vec!["contacts".parse().unwrap()],
        ca_file: None,
        timeout_ms: 10_000,
    }
}
