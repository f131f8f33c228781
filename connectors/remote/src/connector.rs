//! The connector: one call is one message to the program.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use lethe_kit::{
    Ask, Connector, Error as Failure, FeedPage, Finding, Located, Manifest, Observed, Page, Performed,
    Selector,
};
use lethe_terms::{DatasetName, FailureClass, ShardName, SystemName};

use crate::answers;
use crate::config::{Config, Way};
use crate::error::{Effect, Error, manifest_changed, wrong_answer};
use crate::manifest;
use crate::message::{
    Answer, AnswerMessage, Call, GenerationMessage, ManifestMessage, RequestMessage, SelectorMessage, VERSION,
};
use crate::pages::Asked;
use crate::sealed::{Carrier, SealedTopics};
use crate::wire::{SignedHttp, Wire};
use crate::words::{self, Private};

/// A program elsewhere, as a connector.
pub struct RemoteConnector {
    manifest: Manifest,
    /// What the program declared when it was taken into service.
    declared: ManifestMessage,
    revision: String,
    line: Line,
}

impl fmt::Debug for RemoteConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "RemoteConnector({})", self.manifest.system)
    }
}

/// Asks the program what it declares, by HTTP, and takes it into service.
///
/// # Errors
/// Where settings or manifest cannot serve, or the program cannot be asked.
pub async fn connect(system: SystemName, config: Config) -> Result<RemoteConnector, Error> {
    let opened = config.open()?;
    let Way::Http(called) = opened.way else {
        return Err(wrong_way("kafka only where the log is on Kafka"));
    };
    let wire = SignedHttp::new(called, opened.keys, opened.time)?;
    take_on(system, &config, Box::new(wire)).await
}

/// As [`connect`], over topics.
///
/// # Errors
/// As [`connect`].
pub async fn connect_over(
    system: SystemName,
    config: Config,
    carrier: Arc<dyn Carrier>,
) -> Result<RemoteConnector, Error> {
    let opened = config.open()?;
    let Way::Kafka(sealing) = opened.way else {
        return Err(wrong_way("kafka"));
    };
    let wire = SealedTopics::new(system.clone(), sealing, carrier, opened.time);
    take_on(system, &config, Box::new(wire)).await
}

fn wrong_way(expected: &str) -> Error {
    Error::Config {
        what: "over",
        expected: expected.to_owned(),
    }
}

async fn take_on(system: SystemName, config: &Config, wire: Box<dyn Wire>) -> Result<RemoteConnector, Error> {
    let line = Line::new(system.clone(), wire)?;
    let (revision, declared) = line.manifest().await.map_err(Error::Call)?;
    if !words::is_revision(&revision) {
        let what = "revision: expected at most 63 of a-z, A-Z, 0-9, '-', '_' and '.'";
        return Err(Error::Manifest(what.to_owned()));
    }
    Ok(RemoteConnector {
        manifest: manifest::checked(&system, config, &declared)?,
        declared,
        revision,
        line,
    })
}

/// The program's end of a conversation.
struct Line {
    system: SystemName,
    wire: Box<dyn Wire>,
    /// Makes the ids of messages this connector's own.
    prefix: [u8; 16],
    sent: AtomicU64,
}

impl Line {
    fn new(system: SystemName, wire: Box<dyn Wire>) -> Result<Self, Error> {
        let mut prefix = [0; 16];
        getrandom::fill(&mut prefix).map_err(|_| Error::Config {
            what: "operating system",
            expected: "one that gives random bytes".to_owned(),
        })?;
        Ok(Self {
            system,
            wire,
            prefix,
            sent: AtomicU64::new(0),
        })
    }

    /// An id that no other message has: the answer must name it, so that no older one can be played back.
    fn next_id(&self) -> String {
        let number = self.sent.fetch_add(1, Ordering::Relaxed);
        format!("msg-{}-{number}", hex::encode(self.prefix))
    }

    async fn manifest(&self) -> Result<(String, ManifestMessage), Failure> {
        let answered = self
            .exchange(&self.next_id(), None, Call::Manifest {}, Effect::Reads)
            .await?;
        match answered.answer {
            Answer::Manifest(message) => Ok((answered.manifest, message)),
            other => Err(answers::failure(&other, Effect::Reads, &Private::default())),
        }
    }

    async fn exchange(
        &self,
        id: &str,
        manifest: Option<&str>,
        call: Call,
        effect: Effect,
    ) -> Result<AnswerMessage, Failure> {
        let message = RequestMessage {
            version: VERSION,
            system: self.system.clone(),
            manifest: manifest.map(str::to_owned),
            call,
        };
        // Its parts are texts, numbers and lists, which JSON can always hold.
        let body = serde_json::to_vec(&message).unwrap_or_default();
        let answer = self
            .wire
            .exchange(id, body)
            .await
            .map_err(|lost| lost.failure(effect))?;
        self.read(&answer, effect)
    }

    /// The parser's own text is not passed on: it may quote values. Its place in the answer is.
    fn read(&self, answer: &[u8], effect: Effect) -> Result<AnswerMessage, Failure> {
        let answered: AnswerMessage = serde_json::from_slice(answer).map_err(|error| {
            let reason = format!(
                "the answer differs from schemas/json/remote-answer.json at line {}, column {}",
                error.line(),
                error.column()
            );
            wrong_answer(effect, reason)
        })?;
        if answered.version != VERSION {
            let reason = format!("the answer has version {}: expected {VERSION}", answered.version);
            return Err(wrong_answer(effect, reason));
        }
        if answered.system != self.system {
            return Err(wrong_answer(effect, "the answer is another system's"));
        }
        Ok(answered)
    }
}

impl RemoteConnector {
    async fn ask(&self, call: Call) -> Result<Answer, Failure> {
        self.ask_as(&self.line.next_id(), call, Effect::Reads).await
    }

    async fn ask_as(&self, id: &str, call: Call, effect: Effect) -> Result<Answer, Failure> {
        let answered = self.line.exchange(id, Some(&self.revision), call, effect).await?;
        if answered.manifest == self.revision {
            return Ok(answered.answer);
        }
        // Where the program refuses as it must, it did nothing.
        let refused = matches!(
            answered.answer,
            Answer::Refused { .. }
                | Answer::Failed {
                    class: FailureClass::Final,
                    ..
                }
        );
        let is_certain = refused && effect == Effect::Acts;
        Err(manifest_changed(if is_certain { Effect::Reads } else { effect }))
    }

    /// Whether the program declares what it declared when it was taken into service.
    async fn manifest_finding(&self) -> Result<Finding, Failure> {
        let (revision, declared) = self.line.manifest().await?;
        let ok = revision == self.revision && declared == self.declared;
        let detail = if ok {
            format!("revision {revision}, as when the server started")
        } else {
            "not as when the server started: expected the same, or another start of the server".to_owned()
        };
        Ok(Finding {
            what: "manifest".to_owned(),
            ok,
            detail,
        })
    }
}

#[async_trait]
impl Connector for RemoteConnector {
    fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    async fn check(&self) -> Result<Vec<Finding>, Failure> {
        let manifest = self.manifest_finding().await?;
        if !manifest.ok {
            return Ok(vec![manifest]);
        }
        let answer = self.ask(Call::Check {}).await?;
        let Answer::Checked { findings } = answer else {
            return Err(answers::failure(&answer, Effect::Reads, &Private::default()));
        };
        let mut all = vec![manifest];
        all.extend(answers::findings(findings)?);
        Ok(all)
    }

    async fn feed(&self, shard: &ShardName, cursor: Option<&str>, limit: usize) -> Result<FeedPage, Failure> {
        let private = Private::of(cursor.into_iter());
        let call = Call::Feed {
            shard: shard.clone(),
            cursor: cursor.map(str::to_owned),
            limit: limit as u64,
        };
        let answer = self.ask(call).await?;
        answers::feed_page(&self.manifest, cursor, answer, &private)
    }

    async fn locate(&self, selector: &Selector, page: Page) -> Result<Located, Failure> {
        let asked = Asked::parse(&page)?;
        let private = private(selector, asked.mark.as_deref());
        let call = Call::Locate {
            selector: message(selector),
            page: asked.mark.clone(),
        };
        let answer = self.ask(call).await?;
        answers::located(&self.manifest, &asked, answer, &private)
    }

    async fn perform(&self, ask: &Ask) -> Result<Performed, Failure> {
        let call = Call::Perform {
            instruction: ask.id,
            generation: GenerationMessage {
                plan: ask.generation.0,
                step: ask.generation.1,
            },
            dataset: ask.dataset.clone(),
            verb: ask.verb,
            selector: message(&ask.selector),
        };
        let answer = self.ask_as(&ask.id.to_string(), call, Effect::Acts).await?;
        answers::performed(ask, Effect::Acts, answer, &private(&ask.selector, None))
    }

    async fn poll(&self, ask: &Ask, ticket: &str) -> Result<Performed, Failure> {
        let call = Call::Poll {
            instruction: ask.id,
            ticket: ticket.to_owned(),
        };
        let answer = self.ask_as(&self.line.next_id(), call, Effect::Asks).await?;
        answers::performed(ask, Effect::Asks, answer, &private(&ask.selector, None))
    }

    async fn observe(&self, dataset: &DatasetName, selector: &Selector) -> Result<Observed, Failure> {
        let call = Call::Observe {
            dataset: dataset.clone(),
            selector: message(selector),
        };
        let answer = self.ask(call).await?;
        answers::observed(&self.manifest, dataset, answer, &private(selector, None))
    }

    async fn export(
        &self,
        selector: &Selector,
        page: Page,
    ) -> Result<(Vec<serde_json::Value>, Page), Failure> {
        let asked = Asked::parse(&page)?;
        let private = private(selector, asked.mark.as_deref());
        let call = Call::Export {
            selector: message(selector),
            page: asked.mark.clone(),
        };
        let answer = self.ask(call).await?;
        answers::exported(&asked, answer, &private)
    }
}

fn message(selector: &Selector) -> SelectorMessage {
    SelectorMessage {
        records: selector
            .records
            .iter()
            .map(|record| record.handle.clone())
            .collect(),
        identifiers: selector.identifiers.clone(),
    }
}

fn private(selector: &Selector, page: Option<&str>) -> Private {
    let handles = selector.records.iter().map(|record| record.handle.as_str());
    let values = selector
        .identifiers
        .iter()
        .map(|identifier| identifier.value.as_str());
    Private::of(handles.chain(values).chain(page))
}
