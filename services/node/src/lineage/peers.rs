//! Asking owners in other processes, and answering them: HTTP, where both sides show that they have the vault's own key, and mutual TLS beyond
//! loopback.

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use lethe_gateway::Bounded;
use lethe_vault::InternalKey;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::{Semaphore, watch};

use super::owners::Owners;
use super::question::{Asked, Counts, Folded, Hash, Key, Known, Question, Stand, WalkRound, Whole};
use super::shown;
use crate::settings::{ClusterSettings, ClusterTls};
use crate::{Error, shell};

/// Longest question, in bytes: the identifiers of one round of a walk or the records of one page, with room.
const QUESTION_BYTES_MAX: usize = 8 << 20;

/// Longest answer, in bytes: a walk reaches at most some ten thousand records, of some hundred bytes each.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How long an owner that lags behind lets a question wait before it says so. The asker looks anew then: the partition may have moved.
const LAG_PATIENCE: Duration = Duration::from_secs(2);

/// How long connecting may take: the processes of one installation are near each other.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(2);

/// Connections to one owner that are kept open.
const IDLE_CONNECTIONS_MAX: usize = 32;

/// How long a connection is kept that nobody uses: shorter than [`LIMITS`] lets an owner wait for another question on it.
const IDLE_TIME_MAX: Duration = Duration::from_secs(5);

/// What an owner grants whoever connects.
#[derive(Clone, Copy)]
struct Limits {
    /// Connections at the same time: with those of the API fewer than the 1,024 open files that Debian allows by default. Who finds no place asks again.
    connections: usize,
    /// Longest time for the head of a question to arrive, also of the next one on a connection: who connects and says nothing holds a place.
    head_time: Duration,
    /// Longest time for its body: processes of one installation are near each other.
    body_time: Duration,
}

const LIMITS: Limits = Limits {
    connections: 384,
    head_time: Duration::from_secs(10),
    body_time: Duration::from_secs(10),
};

/// How long running questions may take when the process stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// Why an owner elsewhere did not answer; the question may be asked again, it changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// It lags behind, is not there, or does not have the partition any more.
    NotNow,
    /// It and this process do not trust each other's certificates, or it is not asked where it says it is.
    Untrusted,
    /// It answers what cannot be read or does not show that it is of this installation, or refuses what the question shows.
    Never(StatusCode),
}

/// Asks owners elsewhere.
pub(crate) struct Peers {
    http: reqwest::Client,
    key: InternalKey,
    is_by_tls: bool,
}

impl Peers {
    /// With the key that all processes of the installation have, and their TLS.
    pub(crate) fn new(cluster: &ClusterSettings, key: InternalKey) -> Result<Self, Error> {
        // Another part of the program may have chosen it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIME_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
            .pool_idle_timeout(IDLE_TIME_MAX)
            .https_only(cluster.tls.is_some())
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none());
        if let Some(tls) = &cluster.tls {
            let mut pem = read(&tls.certificate_file)?;
            pem.extend(read(&tls.key_file)?);
            let identity =
                reqwest::Identity::from_pem(&pem).map_err(|_| unusable("certificate_file and key_file"))?;
            let known = reqwest::Certificate::from_pem_bundle(&read(&tls.ca_file)?)
                .map_err(|_| unusable("ca_file"))?;
            builder = builder.tls_certs_only(known).identity(identity);
        }
        let http = builder.build().map_err(|_| unusable("tls"))?;
        Ok(Self {
            http,
            key,
            is_by_tls: cluster.tls.is_some(),
        })
    }

    /// Asks an owner that is told to be at an address; what it answers is of this installation.
    pub(crate) async fn ask<Q: Question>(
        &self,
        address: &str,
        partition: u16,
        at_least: Folded,
        question: &Q,
    ) -> Result<Q::Answer, Unanswered> {
        if !is_askable(address, self.is_by_tls) {
            return Err(Unanswered::Untrusted);
        }
        let body = serde_json::to_vec(&AskedRef { at_least, question }).unwrap_or_default();
        let url = format!("{address}/partitions/{partition}/{}", Q::NAME);
        let shown = shown::by_question(&self.key, &url, &body, shell::now());
        let request = self
            .http
            .post(url)
            .timeout(Q::TIME_MAX)
            .header(header::AUTHORIZATION, format!("{}{shown}", shown::SCHEME))
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        let mut response = request.send().await.map_err(|error| unsent(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT => return Err(Unanswered::NotNow),
            other => return Err(Unanswered::Never(other)),
        }
        let proof = response.headers().get(shown::ANSWER).cloned();
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|_| Unanswered::NotNow)? {
            if answer.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Unanswered::Never(StatusCode::PAYLOAD_TOO_LARGE));
            }
            answer.extend_from_slice(&piece);
        }
        let is_proven =
            |proof: axum::http::HeaderValue| shown::is_answer(&self.key, &shown, &answer, proof.as_bytes());
        if !proof.is_some_and(is_proven) {
            return Err(Unanswered::Never(StatusCode::OK));
        }
        serde_json::from_slice(&answer).map_err(|_| Unanswered::Never(StatusCode::OK))
    }
}

/// Whether an owner is asked there: by TLS, and where there is none on loopback alone.
fn is_askable(address: &str, is_by_tls: bool) -> bool {
    let Ok(url) = reqwest::Url::parse(address) else {
        return false;
    };
    match url.scheme() {
        "https" => is_by_tls,
        "http" => !is_by_tls && url.host_str().is_some_and(is_loopback),
        _ => false,
    }
}

fn is_loopback(host: &str) -> bool {
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let address = bare.unwrap_or(host).parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// Why a question got no answer at all.
fn unsent(error: &reqwest::Error) -> Unanswered {
    if is_of_tls(error) {
        Unanswered::Untrusted
    } else {
        Unanswered::NotNow
    }
}

/// Whether TLS is the cause: whoever refuses a certificate says so to the other side, too. What an I/O error wraps is none of its sources.
fn is_of_tls(error: &(dyn std::error::Error + 'static)) -> bool {
    let wrapped = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    error.is::<rustls::Error>()
        || wrapped.is_some_and(|inner| is_of_tls(inner))
        || error.source().is_some_and(is_of_tls)
}

#[derive(serde::Serialize)]
struct AskedRef<'a, Q> {
    at_least: Folded,
    question: &'a Q,
}

/// What answering needs.
#[derive(Clone)]
struct Answering {
    owners: Arc<Owners>,
    key: InternalKey,
    /// Where it is asked, as the start of a URL.
    url: Arc<str>,
    body_time: Duration,
}

/// Answers other processes until `stop`. Returns where it listens, as the start of a URL, and the task that answers.
///
/// # Errors
/// Where the address is taken, is not loopback and has no TLS, or is none under which others could ask.
pub(crate) fn serve(
    cluster: &ClusterSettings,
    owners: Arc<Owners>,
    key: InternalKey,
    stop: watch::Receiver<bool>,
) -> Result<(String, impl Future<Output = Result<(), Error>> + Send + use<>), Error> {
    serve_within(LIMITS, cluster, (owners, key), stop)
}

fn serve_within(
    limits: Limits,
    cluster: &ClusterSettings,
    (owners, key): (Arc<Owners>, InternalKey),
    mut stop: watch::Receiver<bool>,
) -> Result<(String, impl Future<Output = Result<(), Error>> + Send + use<>), Error> {
    let (listener, url) = listen(cluster)?;
    let tls = cluster.tls.as_ref().map(mutual).transpose()?;
    let handle = Handle::new();
    let service = routes(Answering {
        owners,
        key,
        url: url.as_str().into(),
        body_time: limits.body_time,
    })
    .into_make_service();
    let mut server = axum_server::from_tcp(listener)
        .map_err(refused)?
        .http1_only()
        .handle(handle.clone())
        .first_request_timeout(limits.head_time);
    server
        .http_builder()
        .http1()
        .header_read_timeout(limits.head_time);
    let bounded = Bounded::new(Arc::new(Semaphore::new(limits.connections)));
    let answering = async move {
        let stopping = async {
            // Where the sender is gone, everything has stopped.
            let _ = stop.wait_for(|stop| *stop).await;
            handle.graceful_shutdown(Some(STOP_TIME_MAX));
            std::future::pending::<()>().await;
        };
        let serving = async {
            match tls {
                Some(config) => {
                    let acceptor = axum_server::tls_rustls::RustlsAcceptor::new(config).acceptor(bounded);
                    server.acceptor(acceptor).serve(service).await
                }
                None => server.acceptor(bounded).serve(service).await,
            }
        };
        tokio::select! {
            ended = serving => ended.map_err(|_| Error::Stopped { what: "the internal API" }),
            () = stopping => Ok(()),
        }
    };
    Ok((url, answering))
}

/// Listens as the settings say; and where others reach that, as the start of a URL.
fn listen(cluster: &ClusterSettings) -> Result<(TcpListener, String), Error> {
    if !cluster.listen.ip().is_loopback() && cluster.tls.is_none() {
        return Err(Error::Roles {
            reason: "cluster.listen is not loopback and cluster.tls is missing: owners of partitions answer others by mutual TLS only",
        });
    }
    if cluster.listen.ip().is_unspecified() && cluster.address.is_none() {
        return Err(Error::Roles {
            reason: "cluster.listen is every address of this machine and cluster.address is missing: expected the host:port under which the others reach it",
        });
    }
    let listener = TcpListener::bind(cluster.listen).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let url = url_of(cluster, address);
    if !is_askable(&url, cluster.tls.is_some()) {
        return Err(Error::Roles {
            reason: "cluster.address is not loopback and cluster.tls is missing, or it is no host:port: nobody asks there",
        });
    }
    Ok((listener, url))
}

fn refused(_: std::io::Error) -> Error {
    Error::Roles {
        reason: "cluster.listen is taken, or is no address of this machine",
    }
}

fn url_of(cluster: &ClusterSettings, listening: SocketAddr) -> String {
    let scheme = if cluster.tls.is_some() { "https" } else { "http" };
    match &cluster.address {
        Some(address) => format!("{scheme}://{address}"),
        None => format!("{scheme}://{listening}"),
    }
}

fn routes(answering: Answering) -> Router {
    fn route<Q: Question>(router: Router<Answering>) -> Router<Answering> {
        router.route(
            &format!("/partitions/{{partition}}/{}", Q::NAME),
            post(answer::<Q>),
        )
    }
    let router = route::<WalkRound>(Router::new());
    let router = route::<Whole>(route::<Known>(route::<Key>(router)));
    route::<Counts>(route::<Hash>(route::<Stand>(router)))
        .layer(from_fn_with_state(answering.clone(), guard))
        .with_state(answering)
}

/// Lets pass who is of the installation: of whoever else asks nothing is read but the head.
async fn guard(State(answering): State<Answering>, request: Request, next: Next) -> Response {
    let url = format!("{}{}", answering.url, request.uri().path());
    let shown = shown_by(request.headers());
    if shown.is_some_and(|shown| shown::is_asked(&answering.key, &url, shown, shell::now())) {
        next.run(request).await
    } else {
        StatusCode::UNAUTHORIZED.into_response()
    }
}

fn shown_by(headers: &HeaderMap) -> Option<&str> {
    let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    shown.strip_prefix(shown::SCHEME)
}

async fn answer<Q: Question>(
    State(answering): State<Answering>,
    Path(partition): Path<u16>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let (key, shown) = (&answering.key, shown_by(&headers).unwrap_or_default());
    let body = match tokio::time::timeout(answering.body_time, to_bytes(body, QUESTION_BYTES_MAX)).await {
        Ok(Ok(body)) if shown::is_body(key, shown, &body) => body,
        Ok(Ok(_)) => return StatusCode::UNAUTHORIZED.into_response(),
        Ok(Err(_)) => return StatusCode::PAYLOAD_TOO_LARGE.into_response(),
        Err(_) => return StatusCode::REQUEST_TIMEOUT.into_response(),
    };
    let Ok(asked) = serde_json::from_slice::<Asked<Q>>(&body) else {
        return StatusCode::BAD_REQUEST.into_response();
    };
    let Some(owner) = answering.owners.get(partition) else {
        return StatusCode::CONFLICT.into_response();
    };
    match owner
        .answer(Arc::new(asked.question), asked.at_least, LAG_PATIENCE)
        .await
    {
        Ok(answer) => proven(key, shown, &answer),
        Err(Error::Lagging) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(error) => {
            tracing::warn!(code = error.code(), partition, "a question could not be answered");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

/// An answer that shows whose it is.
fn proven<A: serde::Serialize>(key: &InternalKey, question: &str, answer: &A) -> Response {
    match serde_json::to_vec(answer) {
        Ok(answer) => {
            let proof = shown::by_answer(key, question, &answer);
            ([(shown::ANSWER, proof)], answer).into_response()
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

/// TLS that shows this process's certificate, and takes only askers with one of the same authority.
fn mutual(tls: &ClusterTls) -> Result<RustlsConfig, Error> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut known = RootCertStore::empty();
    let authorities = CertificateDer::pem_file_iter(&tls.ca_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|_| unusable("ca_file"))?;
    for authority in authorities {
        known.add(authority).map_err(|_| unusable("ca_file"))?;
    }
    let askers = WebPkiClientVerifier::builder_with_provider(Arc::new(known), Arc::clone(&provider))
        .build()
        .map_err(|_| unusable("ca_file"))?;
    let chain = CertificateDer::pem_file_iter(&tls.certificate_file)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|_| unusable("certificate_file"))?;
    let key = PrivateKeyDer::from_pem_file(&tls.key_file).map_err(|_| unusable("key_file"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| unusable("protocol versions"))?
        .with_client_cert_verifier(askers)
        .with_single_cert(chain, key)
        .map_err(|_| unusable("certificate_file and key_file"))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}

fn read(file: &FilePath) -> Result<Vec<u8>, Error> {
    std::fs::read(file).map_err(|_| unusable("a file of cluster.tls"))
}

fn unusable(what: &str) -> Error {
    Error::Settings {
        file: "cluster.tls".into(),
        message: format!("{what}: expected readable PEM files that belong together"),
    }
}

#[cfg(test)]
#[path = "peers_tests.rs"]
mod tests;
