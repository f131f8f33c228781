//! A Kafka of its own, which a test may break.

use std::path::{Path, PathBuf};
use std::process::Command;

pub(crate) struct Cluster {
    folder: tempfile::TempDir,
    brokers: u16,
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../ops/kafka")
}

impl Cluster {
    pub(crate) fn of(brokers: u16) -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            brokers,
        }
    }

    fn run(&self, words: &[&str]) -> String {
        let out = Command::new(script())
            .args(words)
            .arg(self.folder.path())
            .output()
            .unwrap();
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).unwrap().trim().to_owned()
    }

    /// Starts the brokers that do not run; their addresses.
    pub(crate) fn start(&self) -> String {
        self.run(&["start", "--brokers", &self.brokers.to_string()])
    }

    /// `kill -9` of one broker.
    pub(crate) fn kill(&self, broker: u16) {
        self.run(&["stop", "--kill", "--broker", &broker.to_string()]);
    }

    /// A signal to the first broker.
    pub(crate) fn signal(&self, signal: &str) {
        let id = std::fs::read_to_string(self.folder.path().join("broker-1/pid")).unwrap();
        let done = Command::new("kill").args([signal, id.trim()]).status().unwrap();
        assert!(done.success(), "{signal}");
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // A test that failed before leaves its cluster to nobody else.
        let _ = Command::new(script())
            .args(["stop", "--kill"])
            .arg(self.folder.path())
            .status();
    }
}
