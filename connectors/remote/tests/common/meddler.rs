//! Stands between Lethe and the program, knows their secret, and meddles with what passes: so every wrong program is the honest one behind it.

use std::sync::atomic::{AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{SystemTime, UNIX_EPOCH};

use lethe_remote::webhook::Keys;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What is done to messages that pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Meddling {
    /// Nothing.
    None,
    /// The next instruction takes effect and its answer does not come back.
    LosesNextPerform,
    /// The next instruction takes effect, its answer does not come back, and nothing reaches the program afterwards.
    LosesNextPerformAndHangsUp,
    /// Nothing reaches the program: connections are ended before an answer.
    HangsUp,
    /// Nothing reaches the program, and connections stay open.
    Waits,
    /// The connection ends in the middle of each answer.
    CutsAnswers,
    /// A signature of nobody.
    BadSignature,
    /// No signature.
    NoSignature,
    /// The id header is there twice.
    TwoIds,
    /// Signed, for another message.
    WrongId,
    /// Signed, an hour ago.
    Stale,
    /// Lethe's own message comes back.
    Echoes,
    /// Signed, in another system's name.
    OtherSystem,
    /// Signed, with another revision of the manifest.
    OtherRevision,
    /// Every instruction is carried out as a new one.
    ActsTwice,
    /// The answer is about another instruction.
    OtherInstruction,
    /// Every instruction is carried out as the newest.
    NeverStale,
    /// This status, unsigned, in place of an answer.
    Status(u16),
    /// Signed, and not what the schema says.
    Answers(&'static str),
    /// Signed, and larger than anything.
    Huge,
    /// Signed, and nested without end.
    Deep,
}

/// One HTTP message.
struct Message {
    start: String,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

#[derive(Clone)]
pub struct Meddler {
    pub port: u16,
    to: Arc<AtomicU16>,
    meddling: Arc<Mutex<Meddling>>,
    renamed: Arc<AtomicU64>,
}

impl Meddler {
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let meddler = Self {
            port: listener.local_addr().unwrap().port(),
            to: Arc::new(AtomicU16::new(port)),
            meddling: Arc::new(Mutex::new(Meddling::None)),
            renamed: Arc::default(),
        };
        let serving = meddler.clone();
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let serving = serving.clone();
                tokio::spawn(async move { serving.pass(client).await });
            }
        });
        meddler
    }

    /// The program listens elsewhere now.
    pub fn leads_to(&self, port: u16) {
        self.to.store(port, Ordering::SeqCst);
    }

    pub fn set(&self, meddling: Meddling) {
        *self.meddling.lock().unwrap() = meddling;
    }

    /// What is done now.
    pub fn meddling(&self) -> Meddling {
        *self.meddling.lock().unwrap()
    }

    async fn pass(&self, mut client: TcpStream) -> Option<()> {
        let mut request = read(&mut client).await?;
        let called: Value = serde_json::from_slice(&request.body).ok()?;
        let is_perform = called["call"]["perform"].is_object();
        let meddling = self.meddling();
        match meddling {
            Meddling::HangsUp => return None,
            Meddling::Waits => std::future::pending().await,
            _ => {}
        }
        let id = request.header("webhook-id").to_owned();
        let asked = request.body.clone();
        self.change_request(meddling, &mut request, called);
        let answer = self.ask(request).await?;
        match meddling {
            Meddling::LosesNextPerform if is_perform => {
                self.set(Meddling::None);
                return None;
            }
            Meddling::LosesNextPerformAndHangsUp if is_perform => {
                self.set(Meddling::HangsUp);
                return None;
            }
            _ => {}
        }
        let bytes = change_answer(meddling, &id, &asked, answer);
        let whole = if meddling == Meddling::CutsAnswers {
            bytes.len() - 1
        } else {
            bytes.len()
        };
        client.write_all(&bytes[..whole]).await.ok()
    }

    /// Gives every instruction another id, or the newest generation.
    fn change_request(&self, meddling: Meddling, request: &mut Message, mut called: Value) {
        if !called["call"]["perform"].is_object() {
            return;
        }
        let asked = &mut called["call"]["perform"];
        match meddling {
            Meddling::ActsTwice => {
                let number = self.renamed.fetch_add(1, Ordering::SeqCst);
                asked["instruction"] = format!("ins-{number:032x}").into();
            }
            Meddling::NeverStale => {
                asked["generation"]["plan"] =
                    (1_000_000 + self.renamed.fetch_add(1, Ordering::SeqCst)).into();
            }
            _ => return,
        }
        let id = asked["instruction"].as_str().unwrap().to_owned();
        request.body = called.to_string().into_bytes();
        request.sign(&id, now_s());
    }

    async fn ask(&self, request: Message) -> Option<Message> {
        let port = self.to.load(Ordering::SeqCst);
        let mut program = TcpStream::connect(("127.0.0.1", port)).await.ok()?;
        program.write_all(&request.bytes()).await.ok()?;
        read(&mut program).await
    }
}

/// The bytes that go back, signed anew for Lethe's own id where signature or id is not the very thing that is wrong.
fn change_answer(meddling: Meddling, id: &str, asked: &[u8], mut answer: Message) -> Vec<u8> {
    let mut said: Value = serde_json::from_slice(&answer.body).unwrap();
    match meddling {
        Meddling::BadSignature => answer.set(
            "webhook-signature",
            "v1,AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=",
        ),
        Meddling::NoSignature => answer.headers.retain(|(name, _)| name != "webhook-signature"),
        Meddling::TwoIds => answer.headers.push(("webhook-id".into(), id.into())),
        Meddling::WrongId => answer.sign("msg-of-somebody-else", now_s()),
        Meddling::Stale => answer.sign(id, now_s() - 3_600),
        Meddling::Echoes => asked.clone_into(&mut answer.body),
        Meddling::OtherSystem => said["system"] = "shop".into(),
        Meddling::OtherRevision => said["manifest"] = "2".into(),
        Meddling::OtherInstruction => about(&mut said, "ins-ffffffffffffffffffffffffffffffff"),
        // The program that acts twice owns up to nothing: it names the instruction that it was given.
        Meddling::ActsTwice => {
            let asked: Value = serde_json::from_slice(asked).unwrap();
            if let Some(instruction) = asked["call"]["perform"]["instruction"].as_str() {
                about(&mut said, instruction);
            }
        }
        Meddling::Answers(text) => said["answer"] = serde_json::from_str(text).unwrap(),
        Meddling::Huge => said["answer"] = json!({ "exported": { "values": ["x".repeat(17 << 20)] } }),
        Meddling::Deep => {
            let deep = "[".repeat(100_000) + &"]".repeat(100_000);
            answer.body = format!("{{\"version\":1,\"answer\":{deep}}}").into_bytes();
        }
        Meddling::Status(status) => {
            answer.start = format!("HTTP/1.1 {status} Meddled");
            answer.headers = vec![("location".into(), "http://127.0.0.1:1/".into())];
            answer.body = b"canary.person@lethe-check.example".to_vec();
        }
        _ => {}
    }
    let is_said = matches!(
        meddling,
        Meddling::OtherSystem
            | Meddling::OtherRevision
            | Meddling::OtherInstruction
            | Meddling::ActsTwice
            | Meddling::Answers(_)
            | Meddling::Huge
    );
    if is_said {
        answer.body = said.to_string().into_bytes();
    }
    let keeps = matches!(
        meddling,
        Meddling::BadSignature
            | Meddling::NoSignature
            | Meddling::TwoIds
            | Meddling::WrongId
            | Meddling::Stale
            | Meddling::Status(_)
    );
    if !keeps {
        answer.sign(id, now_s());
    }
    answer.bytes()
}

/// Makes an answer about an instruction another one's.
fn about(said: &mut Value, instruction: &str) {
    for name in ["done", "accepted", "refused"] {
        if said["answer"][name].is_object() {
            said["answer"][name]["instruction"] = instruction.into();
        }
    }
}

impl Message {
    fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value.as_str())
    }

    fn set(&mut self, name: &str, value: &str) {
        self.headers.retain(|(known, _)| known != name);
        self.headers.push((name.to_owned(), value.to_owned()));
    }

    fn sign(&mut self, id: &str, at_s: u64) {
        let signed = Keys::parse(super::SECRET).unwrap().sign(id, at_s, &self.body);
        self.set("webhook-id", &signed.id);
        self.set("webhook-timestamp", &signed.timestamp);
        self.set("webhook-signature", &signed.signature);
    }

    fn bytes(mut self) -> Vec<u8> {
        self.set("content-length", &self.body.len().to_string());
        self.set("connection", "close");
        let head: String = self
            .headers
            .iter()
            .map(|(name, value)| format!("{name}: {value}\r\n"))
            .collect();
        [format!("{}\r\n{head}\r\n", self.start).into_bytes(), self.body].concat()
    }
}

/// Reads one message with a content-length.
async fn read(stream: &mut TcpStream) -> Option<Message> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8_lossy(&bytes[..head]).into_owned();
    let mut lines = text.split("\r\n");
    let start = lines.next()?.to_owned();
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_lowercase(), value.trim().to_owned()))
        .collect();
    let mut message = Message {
        start,
        headers,
        body: bytes[head + 4..].to_vec(),
    };
    let length: usize = message.header("content-length").parse().ok()?;
    while message.body.len() < length {
        if stream.read_buf(&mut message.body).await.ok()? == 0 {
            return None;
        }
    }
    Some(message)
}

fn now_s() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}
