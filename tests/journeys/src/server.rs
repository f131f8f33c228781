//! The real program: built once, started, killed and started again on the same folder.

use std::ffi::OsStr;
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};

/// What the server says once its API listens, or once the roles that it has without one run.
const READY: [&str; 2] = ["listening on", "running as"];

/// The program, built in the profile and target folder of this test; `LETHE_TEST_PROGRAM` names another build of it.
pub fn program() -> PathBuf {
    if let Some(program) = std::env::var_os("LETHE_TEST_PROGRAM") {
        return program.into();
    }
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().and_then(Path::parent).unwrap();
    let mut build = Command::new(env!("CARGO"));
    // What cargo says to this test of its own package: the build scripts of libraries look at it, and would have them built once more.
    let own = |name: &OsStr| {
        let name = name.to_string_lossy();
        ["CARGO_PKG_", "CARGO_MANIFEST_"]
            .iter()
            .any(|begins| name.starts_with(begins))
    };
    for (name, _) in std::env::vars_os().filter(|(name, _)| own(name)) {
        build.env_remove(name);
    }
    // Of the whole workspace, as the demo builds it: one package alone would have most libraries in another shape.
    let built = build
        .args(["build", "--quiet", "--workspace", "--bin", "lethe"])
        .arg("--target-dir")
        .arg(profile.parent().unwrap())
        .args((profile.file_name().unwrap() == "release").then_some("--release"))
        .status()
        .unwrap();
    assert!(built.success(), "the program does not build");
    profile.join("lethe")
}

/// A port that nobody listens on.
pub fn free_port() -> u16 {
    std::net::TcpListener::bind(("127.0.0.1", 0))
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

/// The setting of a log on Kafka whose topics begin with this word and nobody else uses; nothing, and said so, where no broker is there.
pub fn kafka(of: &str) -> Option<String> {
    let bootstrap = std::env::var("LETHE_TEST_KAFKA")
        .ok()
        .filter(|address| !address.is_empty());
    let Some(bootstrap) = bootstrap else {
        println!("SKIPPED: Kafka: LETHE_TEST_KAFKA is not set");
        return None;
    };
    let prefix = format!("{of}-{}.", rand::random::<u32>());
    Some(format!(
        "kafka = {{ bootstrap = \"{bootstrap}\", replication_factor = 1, topic_prefix = \"{prefix}\", instance = \"one\" }}"
    ))
}

/// Name and roles of each process of one server.
pub type Shape = &'static [(&'static str, &'static [&'static str])];

/// One process of each kind.
pub const SEVERAL: Shape = &[
    ("connectors", &["connectors", "intake", "lineage"]),
    ("core", &["conductor", "ledger"]),
    ("gateway", &["gateway"]),
];

/// Where one server lives, over all its starts.
pub struct Home {
    pub program: PathBuf,
    pub config: PathBuf,
    pub output: PathBuf,
    pub url: String,
}

/// A running server. Dropping it is the end of it as well.
pub struct Server {
    child: Child,
    ready: Option<tokio::sync::oneshot::Receiver<()>>,
    reader: Option<std::thread::JoinHandle<()>>,
}

impl Home {
    /// Starts the server; what it says is appended to the output file.
    pub fn start(&self) -> Server {
        self.start_as("", &[])
    }

    /// Starts one process of several, under the name by which the others know it.
    pub fn start_as(&self, instance: &str, roles: &[&str]) -> Server {
        self.start_hosting(instance, roles, &[])
    }

    /// As [`Self::start_as`], with these systems only.
    pub fn start_hosting(&self, instance: &str, roles: &[&str], systems: &[&str]) -> Server {
        let mut command = Command::new(&self.program);
        if !roles.is_empty() {
            command.env("LETHE_KAFKA__INSTANCE", instance);
        }
        let mut child = command
            .args(["serve", "--config"])
            .arg(&self.config)
            .args(roles.iter().flat_map(|role| ["--role", role]))
            .args(systems.iter().flat_map(|system| ["--system", system]))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stderr.take().unwrap());
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.output)
            .unwrap();
        let (tell, ready) = tokio::sync::oneshot::channel();
        let reader = std::thread::spawn(move || {
            let mut tell = Some(tell);
            for line in said.split(b'\n').map_while(Result::ok) {
                let text = String::from_utf8_lossy(&line);
                if READY.iter().any(|ready| text.contains(ready)) {
                    tell.take().map(|tell| tell.send(()));
                }
                file.write_all(&line)
                    .and_then(|()| file.write_all(b"\n"))
                    .unwrap();
            }
        });
        Server {
            child,
            ready: Some(ready),
            reader: Some(reader),
        }
    }

    /// Runs another command of the program on the stopped server's files.
    pub fn run(&self, words: &[&str]) -> Output {
        Command::new(&self.program)
            .args(words)
            .arg("--config")
            .arg(&self.config)
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What the server said last.
    pub fn last_words(&self) -> String {
        let said = std::fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<&str> = said.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Server {
    /// Waits until the API listens; false where the server ended before.
    pub async fn listens(&mut self) -> bool {
        let Some(ready) = self.ready.as_mut() else {
            return true;
        };
        let listens = ready.await.is_ok();
        self.ready = None;
        listens
    }

    /// Whether it ended by itself, which nobody asked it to.
    pub fn ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Its number among the machine's processes.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `kill -9`.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.reader.take().map(std::thread::JoinHandle::join);
    }

    /// `kill -STOP`: it hangs.
    pub fn hang(&self) {
        self.signal("-STOP");
    }

    /// `kill -CONT`: one that hung goes on.
    pub fn wake(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let id = self.child.id().to_string();
        let sent = Command::new("kill").args([signal, &id]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits until it has ended by itself, and how it did.
    pub fn end_code(mut self) -> Option<i32> {
        let status = self.child.wait().unwrap();
        self.reader.take().map(std::thread::JoinHandle::join);
        status.code()
    }

    /// Asks it to stop, and waits until it did.
    pub fn stop(mut self) -> ExitStatus {
        self.signal("-TERM");
        let status = self.child.wait().unwrap();
        self.reader.take().map(std::thread::JoinHandle::join);
        status
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Where it has ended already there is nothing to kill.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
