//! The client of the API, as the command line uses it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use lethe_terms::CaseId;
use reqwest::{Method, StatusCode, Url, header};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::asks::{Approve, CaseQuery, Close, FindLineage, Lift, Nothing, OpenCase, QuarantineQuery};
use crate::events::IntakeKeyList;
use crate::limits::{CHECK_TIME_MAX, WAIT_MAX};
use crate::problem::{Problem, STARTING};
use crate::views::{
    AcceptedView, CasePage, CaseView, CheckView, ConformanceView, LineageView, PartitionList, PlanView,
    QuarantineList, QuarantinedInput, QuarantinedView, RetriedView, ScanView, SystemList, TopicList,
};

/// Time to reach the server: on one machine it is microseconds, across the world less than a second.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);

/// How long an idle connection is kept: half of the time after which the server closes it, so that none is used that closes.
const IDLE_TIME_MAX: Duration = Duration::from_secs(crate::limits::HEAD_TIME_MAX.as_secs() / 2);

/// Time for an answer: beyond what the server gives itself, so that its own words arrive.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a server that has answered before is waited for: it, or a process behind it, starts again within seconds. One that never answered
/// is told of at once.
const RETURN_TIME_MAX: Duration = Duration::from_mins(1);

/// How often something is sent at most to a server that never answered: more would only hide that it is none.
const SENDS_MAX: u32 = 3;

/// Pause before a server that went away is asked again.
const RETURN_PAUSE: Duration = Duration::from_millis(500);

/// Why the client has no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server said no, or that it does not know.
    #[error("{}", .0.sentence())]
    Refused(Box<Problem>),
    /// Nothing was sent: there is no server at the address.
    #[error("no server answers at {server}")]
    NoServer {
        /// The address, without path.
        server: String,
    },
    /// Nothing was sent: the server's certificate is not one that is trusted here.
    #[error(
        "the certificate of {server} is not trusted: expected one of a known authority, or --ca-file with the company's own"
    )]
    Untrusted {
        /// The address, without path.
        server: String,
    },
    /// Something was sent and no answer came.
    #[error("the server at {server} did not answer: whether it happened is unknown")]
    NoAnswer {
        /// The address, without path.
        server: String,
    },
    /// What came is not what this version of the client understands.
    #[error("the answer of {server} is not one of a Lethe server of this version")]
    Malformed {
        /// The address, without path.
        server: String,
    },
    /// What was given to the client is malformed.
    #[error("malformed {what}: expected {expected}")]
    Setup {
        /// What was given.
        what: &'static str,
        /// What was expected.
        expected: &'static str,
    },
}

impl ClientError {
    /// Stable code, with a page in ops/errors.
    pub fn code(&self) -> &str {
        match self {
            Self::Refused(problem) => &problem.code,
            Self::NoServer { .. } => "cli-no-server",
            Self::Untrusted { .. } => "cli-untrusted-certificate",
            Self::NoAnswer { .. } => "cli-no-answer",
            Self::Malformed { .. } => "cli-malformed-answer",
            Self::Setup { .. } => "cli-malformed-setup",
        }
    }

    /// Whether a server was there that starts and takes nothing yet: nothing was done.
    fn is_starting(&self) -> bool {
        matches!(self, Self::Refused(problem) if problem.code == STARTING)
    }

    /// Whether the server was away, as far as that can be told: it may be back in a while.
    pub fn is_away(&self) -> bool {
        matches!(self, Self::NoServer { .. } | Self::NoAnswer { .. }) || self.is_starting()
    }

    /// Whether what was asked is malformed: nobody could have answered it.
    pub fn is_malformed(&self) -> bool {
        matches!(self, Self::Refused(problem) if matches!(problem.status, 400 | 422))
    }

    /// Whether the answer is no, rather than unknown: the server understood, knew the caller, and refused.
    pub fn is_no(&self) -> bool {
        match self {
            Self::Refused(problem) => {
                (400..500).contains(&problem.status) && !matches!(problem.status, 401 | 403 | 408 | 429)
            }
            _ => false,
        }
    }
}

/// A client of one server.
#[derive(Debug, Clone)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    key: Option<String>,
    /// Whether anything was ever answered.
    has_answered: Arc<AtomicBool>,
    /// For how many seconds what happened may be missing in the last answer about cases.
    cases_age_s: Arc<AtomicU64>,
}

impl Client {
    /// A client of the server at `server`, such as `http://127.0.0.1:7380`, with the API key and certificate authorities of
    /// the company's own, in PEM, where there are any.
    ///
    /// # Errors
    /// [`ClientError::Setup`] where the address is none, or would send the key in the clear across a network.
    pub fn new(server: &str, key: Option<String>, authorities: Option<&[u8]>) -> Result<Self, ClientError> {
        let wrong = ClientError::Setup {
            what: "server address",
            expected: "such as http://127.0.0.1:7380 or https://lethe.example",
        };
        let Ok(base) = Url::parse(server) else {
            return Err(wrong);
        };
        let is_plain = base.scheme() == "http";
        if !(is_plain || base.scheme() == "https") || base.host_str().is_none() {
            return Err(wrong);
        }
        let is_local = match base.host() {
            Some(url::Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            None => false,
        };
        if is_plain && !is_local && key.is_some() {
            return Err(ClientError::Setup {
                what: "server address",
                expected: "https, for a key must not cross a network in the clear",
            });
        }
        // The first provider of the program stays; that another part of it set one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIME_MAX)
            .pool_idle_timeout(IDLE_TIME_MAX)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("lethe/", env!("CARGO_PKG_VERSION")));
        if let Some(pem) = authorities {
            let certificates =
                reqwest::Certificate::from_pem_bundle(pem).map_err(|_| ClientError::Setup {
                    what: "file of certificate authorities",
                    expected: "readable PEM certificates",
                })?;
            builder = builder.tls_certs_merge(certificates);
        }
        let http = builder.build().map_err(|_| ClientError::Setup {
            what: "TLS of this machine",
            expected: "readable certificate authorities",
        })?;
        Ok(Self {
            http,
            base,
            key,
            has_answered: Arc::default(),
            cases_age_s: Arc::default(),
        })
    }

    /// For how long what happened may be missing in the last answer about cases: the server may be cut off from its log.
    pub fn cases_age(&self) -> Duration {
        Duration::from_secs(self.cases_age_s.load(Ordering::Relaxed))
    }

    fn server(&self) -> String {
        self.base.origin().ascii_serialization()
    }

    fn url(&self, path: &str) -> Result<Url, ClientError> {
        self.base.join(path).map_err(|_| ClientError::Setup {
            what: "server address",
            expected: "an address without a path",
        })
    }

    /// Sends what may be sent again without harm.
    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        time: Duration,
    ) -> Result<(StatusCode, Vec<u8>), ClientError> {
        self.send_until_back(request, time, true).await
    }

    /// Sends a request, and again while a server that has answered before is away; where nobody knows whether it has arrived, only if that is
    /// `harmless`.
    async fn send_until_back(
        &self,
        request: reqwest::RequestBuilder,
        time: Duration,
        harmless: bool,
    ) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let request = match &self.key {
            Some(key) => request.bearer_auth(key),
            None => request,
        };
        let end = Instant::now() + RETURN_TIME_MAX;
        let mut unanswered = 0;
        loop {
            let Some(again) = request.try_clone() else {
                return self.send_once(request, time).await;
            };
            let answer = self.send_once(again, time).await;
            let has_answered = self.has_answered.load(Ordering::Relaxed);
            let is_away = match &answer {
                Err(ClientError::NoServer { .. }) => has_answered || unanswered > 0,
                Err(error) if error.is_starting() => true,
                Err(ClientError::NoAnswer { .. }) => {
                    unanswered += 1;
                    harmless && (has_answered || unanswered < SENDS_MAX)
                }
                _ => false,
            };
            if !is_away || Instant::now() >= end {
                return match answer {
                    // An earlier one may have arrived.
                    Err(error) if unanswered > 0 && error.is_away() => Err(ClientError::NoAnswer {
                        server: self.server(),
                    }),
                    answer => answer,
                };
            }
            tokio::time::sleep(RETURN_PAUSE).await;
        }
    }

    async fn send_once(
        &self,
        request: reqwest::RequestBuilder,
        time: Duration,
    ) -> Result<(StatusCode, Vec<u8>), ClientError> {
        let failed = |error: reqwest::Error| {
            let server = self.server();
            if is_untrusted(&error) {
                ClientError::Untrusted { server }
            } else if error.is_connect() {
                ClientError::NoServer { server }
            } else {
                ClientError::NoAnswer { server }
            }
        };
        let response = request.timeout(time).send().await.map_err(failed)?;
        self.has_answered.store(true, Ordering::Relaxed);
        let status = response.status();
        let age = response
            .headers()
            .get(header::AGE)
            .and_then(|age| age.to_str().ok());
        if let Some(age_s) = age.and_then(|age| age.parse().ok()) {
            self.cases_age_s.store(age_s, Ordering::Relaxed);
        }
        let bytes = response.bytes().await.map_err(failed)?.to_vec();
        if status.is_success() {
            return Ok((status, bytes));
        }
        match serde_json::from_slice::<Problem>(&bytes) {
            Ok(problem) => Err(ClientError::Refused(Box::new(problem))),
            Err(_) => Err(ClientError::Malformed {
                server: self.server(),
            }),
        }
    }

    fn read<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T, ClientError> {
        serde_json::from_slice(bytes).map_err(|_| ClientError::Malformed {
            server: self.server(),
        })
    }

    async fn get<T: DeserializeOwned>(&self, path: &str, time: Duration) -> Result<T, ClientError> {
        let (_, bytes) = self.send(self.http.get(self.url(path)?), time).await?;
        self.read(&bytes)
    }

    async fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        time: Duration,
    ) -> Result<T, ClientError> {
        let (_, bytes) = self
            .send_until_back(self.http.post(self.url(path)?).json(body), time, false)
            .await?;
        self.read(&bytes)
    }

    /// Sends a command under one key, which makes sending it again harmless.
    async fn command<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        let mut key = [0; 16];
        getrandom::fill(&mut key).map_err(|_| ClientError::Setup {
            what: "operating system",
            expected: "one that gives random bytes",
        })?;
        let request = self
            .http
            .request(Method::POST, self.url(path)?)
            .header("idempotency-key", hex::encode(key))
            .json(body);
        let (_, bytes) = self.send(request, ANSWER_TIME_MAX).await?;
        self.read(&bytes)
    }

    /// Cases, newest first.
    ///
    /// # Errors
    /// See [`ClientError`]; so for every call.
    pub async fn cases(&self, query: &CaseQuery) -> Result<CasePage, ClientError> {
        let mut url = self.url("/v1/cases")?;
        {
            let mut pairs = url.query_pairs_mut();
            if let Some(state) = query.state {
                pairs.append_pair("state", state.code());
            }
            if let Some(right) = query.right {
                pairs.append_pair("right", right.code());
            }
            if query.overdue {
                pairs.append_pair("overdue", "true");
            }
            if query.waiting {
                pairs.append_pair("waiting", "true");
            }
            if let Some(page) = &query.page {
                pairs.append_pair("page", page);
            }
            if let Some(limit) = query.limit {
                pairs.append_pair("limit", &limit.to_string());
            }
        }
        let (_, bytes) = self.send(self.http.get(url), ANSWER_TIME_MAX).await?;
        self.read(&bytes)
    }

    /// The keys that publishers seal to, the newest first.
    pub async fn intake_keys(&self) -> Result<IntakeKeyList, ClientError> {
        self.get("/v1/intake-keys", ANSWER_TIME_MAX).await
    }

    /// Makes a new intake key.
    pub async fn renew_intake_key(&self) -> Result<IntakeKeyList, ClientError> {
        self.post("/v1/intake-keys/renew", &Nothing {}, ANSWER_TIME_MAX)
            .await
    }

    /// One case.
    pub async fn case(&self, id: CaseId) -> Result<CaseView, ClientError> {
        self.get(&format!("/v1/cases/{id}"), ANSWER_TIME_MAX).await
    }

    /// One case as soon as it has changed since revision `after` and has ended or waits for a person, at the latest when
    /// `wait` is over; waits longer than the server's are cut to its own.
    pub async fn wait_case(
        &self,
        id: CaseId,
        after: Option<u64>,
        wait: Duration,
    ) -> Result<CaseView, ClientError> {
        let wait = wait.min(WAIT_MAX);
        let after = after.map(|after| format!("&after={after}")).unwrap_or_default();
        self.get(
            &format!("/v1/cases/{id}?wait_ms={}{after}", wait.as_millis()),
            wait + ANSWER_TIME_MAX,
        )
        .await
    }

    /// The newest plan of a case.
    pub async fn plan(&self, id: CaseId) -> Result<PlanView, ClientError> {
        self.get(&format!("/v1/cases/{id}/plan"), ANSWER_TIME_MAX).await
    }

    /// Opens a case.
    pub async fn open_case(&self, ask: &OpenCase) -> Result<AcceptedView, ClientError> {
        self.command("/v1/cases", ask).await
    }

    /// Approves a plan.
    pub async fn approve(&self, id: CaseId, plan_digest: String) -> Result<AcceptedView, ClientError> {
        self.command(&format!("/v1/cases/{id}/approve"), &Approve { plan_digest })
            .await
    }

    /// The person takes the request back.
    pub async fn withdraw(&self, id: CaseId) -> Result<AcceptedView, ClientError> {
        self.command(&format!("/v1/cases/{id}/withdraw"), &Nothing {})
            .await
    }

    /// Ends a restriction.
    pub async fn lift(&self, id: CaseId, ask: Lift) -> Result<AcceptedView, ClientError> {
        self.command(&format!("/v1/cases/{id}/lift"), &ask).await
    }

    /// Makes a new plan.
    pub async fn replan(&self, id: CaseId) -> Result<AcceptedView, ClientError> {
        self.command(&format!("/v1/cases/{id}/replan"), &Nothing {}).await
    }

    /// Closes a case as not completed.
    pub async fn close(&self, id: CaseId, ask: Close) -> Result<AcceptedView, ClientError> {
        self.command(&format!("/v1/cases/{id}/close"), &ask).await
    }

    /// The certificate or statement of a case with this id, or the newest, as it is.
    pub async fn certificate(&self, id: CaseId, certificate: Option<&str>) -> Result<Vec<u8>, ClientError> {
        let mut url = self.url(&format!("/v1/cases/{id}/certificate"))?;
        if let (Some(certificate), Ok(mut path)) = (certificate, url.path_segments_mut()) {
            path.pop().push("certificates").push(certificate);
        }
        let request = self.http.get(url);
        Ok(self.send(request, ANSWER_TIME_MAX).await?.1)
    }

    /// What opens the commitment in a case's certificates, as it is.
    pub async fn opening(&self, id: CaseId) -> Result<Vec<u8>, ClientError> {
        let request = self.http.get(self.url(&format!("/v1/cases/{id}/opening"))?);
        Ok(self.send(request, ANSWER_TIME_MAX).await?.1)
    }

    /// The policy for verifiers, as it is.
    pub async fn policy(&self) -> Result<Vec<u8>, ClientError> {
        Ok(self
            .send(self.http.get(self.url("/v1/policy")?), ANSWER_TIME_MAX)
            .await?
            .1)
    }

    /// The lineage of a person.
    pub async fn lineage(&self, ask: &FindLineage) -> Result<LineageView, ClientError> {
        let request = self.http.post(self.url("/v1/lineage")?).json(ask);
        let (_, bytes) = self.send(request, ANSWER_TIME_MAX).await?;
        self.read(&bytes)
    }

    /// Who folds each partition of lineage; with `hash`, the hash of all rows, too.
    pub async fn partitions(&self, hash: bool) -> Result<PartitionList, ClientError> {
        let time = if hash { CHECK_TIME_MAX } else { ANSWER_TIME_MAX };
        self.get(&format!("/v1/partitions?hash={hash}"), time).await
    }

    /// How long what was ended may still stand in each topic of the log.
    pub async fn topics(&self) -> Result<TopicList, ClientError> {
        self.get("/v1/topics", ANSWER_TIME_MAX).await
    }

    /// All systems.
    pub async fn systems(&self) -> Result<SystemList, ClientError> {
        self.get("/v1/systems", ANSWER_TIME_MAX).await
    }

    /// Inputs that could not be read, newest first.
    pub async fn quarantine(&self, query: &QuarantineQuery) -> Result<QuarantineList, ClientError> {
        let mut pairs = url::form_urlencoded::Serializer::new(String::new());
        if let Some(system) = &query.system {
            pairs.append_pair("system", system);
        }
        if let Some(before) = query.before {
            pairs.append_pair("before", &before.to_string());
        }
        if let Some(limit) = query.limit {
            pairs.append_pair("limit", &limit.to_string());
        }
        self.get(&format!("/v1/quarantine?{}", pairs.finish()), ANSWER_TIME_MAX)
            .await
    }

    /// One of them, with what it is.
    pub async fn quarantined(&self, position: u64) -> Result<QuarantinedInput, ClientError> {
        self.get(&format!("/v1/quarantine/{position}"), ANSWER_TIME_MAX)
            .await
    }

    /// Takes one out of the count.
    pub async fn drop_quarantined(&self, position: u64) -> Result<QuarantinedView, ClientError> {
        let path = format!("/v1/quarantine/{position}/drop");
        self.post(&path, &Nothing {}, ANSWER_TIME_MAX).await
    }

    /// Has one taken in again.
    pub async fn retry_quarantined(&self, position: u64) -> Result<RetriedView, ClientError> {
        let path = format!("/v1/quarantine/{position}/retry");
        self.post(&path, &Nothing {}, ANSWER_TIME_MAX).await
    }

    /// Checks a system.
    pub async fn system_check(&self, name: &str) -> Result<CheckView, ClientError> {
        self.post(&format!("/v1/systems/{name}/check"), &Nothing {}, CHECK_TIME_MAX)
            .await
    }

    /// Starts the scan of a system.
    pub async fn start_scan(&self, name: &str) -> Result<ScanView, ClientError> {
        self.post(&format!("/v1/systems/{name}/scan"), &Nothing {}, ANSWER_TIME_MAX)
            .await
    }

    /// How far the scan of a system is.
    pub async fn scan(&self, name: &str) -> Result<ScanView, ClientError> {
        self.get(&format!("/v1/systems/{name}/scan"), ANSWER_TIME_MAX)
            .await
    }

    /// Runs the conformance suite against a live system.
    pub async fn connector_check(&self, name: &str) -> Result<ConformanceView, ClientError> {
        self.post(
            &format!("/v1/systems/{name}/conformance"),
            &Nothing {},
            CHECK_TIME_MAX,
        )
        .await
    }
}

/// Whether a connection failed for want of trust in the other side's certificate.
fn is_untrusted(error: &reqwest::Error) -> bool {
    let mut source = std::error::Error::source(error);
    while let Some(inner) = source {
        let tls = inner.downcast_ref::<rustls::Error>().or_else(|| {
            let io = inner.downcast_ref::<std::io::Error>()?;
            io.get_ref()?.downcast_ref::<rustls::Error>()
        });
        if matches!(tls, Some(rustls::Error::InvalidCertificate(_))) {
            return true;
        }
        source = inner.source();
    }
    false
}
