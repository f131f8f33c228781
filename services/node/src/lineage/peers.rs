//! Asking owners in other processes, and answering them: HTTP with the vault's own secret, and mutual TLS beyond loopback.

use std::net::{SocketAddr, TcpListener};
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::RustlsConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use subtle::ConstantTimeEq as _;
use tokio::sync::watch;

use super::owners::Owners;
use super::question::{Asked, Counts, Folded, Hash, Key, Known, Question, Stand, WalkRound, Whole};
use crate::Error;
use crate::settings::{ClusterSettings, ClusterTls};

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

/// How long running questions may take when the process stops.
const STOP_TIME_MAX: Duration = Duration::from_secs(5);

/// Why an owner elsewhere did not answer; the question may be asked again, it changes nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unanswered {
    /// It lags behind, is not there, or does not have the partition any more.
    NotNow,
    /// It and this process do not trust each other's certificates.
    Untrusted,
    /// It answers what cannot be read, or refuses the secret.
    Never(StatusCode),
}

/// Asks owners elsewhere.
pub(crate) struct Peers {
    http: reqwest::Client,
    secret: String,
}

impl Peers {
    /// With the secret that all processes of the installation have, and their TLS.
    pub(crate) fn new(cluster: &ClusterSettings, secret: String) -> Result<Self, Error> {
        // Another part of the program may have chosen it before.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(CONNECT_TIME_MAX)
            .pool_max_idle_per_host(IDLE_CONNECTIONS_MAX)
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
        Ok(Self { http, secret })
    }

    /// Asks an owner that is told to be at an address.
    pub(crate) async fn ask<Q: Question>(
        &self,
        address: &str,
        partition: u16,
        at_least: Folded,
        question: &Q,
    ) -> Result<Q::Answer, Unanswered> {
        let body = serde_json::to_vec(&AskedRef { at_least, question }).unwrap_or_default();
        let url = format!("{address}/partitions/{partition}/{}", Q::NAME);
        let request = self
            .http
            .post(url)
            .timeout(Q::TIME_MAX)
            .bearer_auth(&self.secret)
            .header(header::CONTENT_TYPE, "application/json")
            .body(body);
        let mut response = request.send().await.map_err(|error| unsent(&error))?;
        match response.status() {
            StatusCode::OK => {}
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::CONFLICT => return Err(Unanswered::NotNow),
            other => return Err(Unanswered::Never(other)),
        }
        let mut answer = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|_| Unanswered::NotNow)? {
            if answer.len() + piece.len() > ANSWER_BYTES_MAX {
                return Err(Unanswered::Never(StatusCode::PAYLOAD_TOO_LARGE));
            }
            answer.extend_from_slice(&piece);
        }
        serde_json::from_slice(&answer).map_err(|_| Unanswered::Never(StatusCode::OK))
    }
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
    secret: Arc<str>,
}

/// Answers other processes until `stop`. Returns where it listens, as the start of a URL, and the task that answers.
///
/// # Errors
/// Where the address is taken, is not loopback and has no TLS, or is none under which others could ask.
pub(crate) fn serve(
    cluster: &ClusterSettings,
    owners: Arc<Owners>,
    secret: &str,
    mut stop: watch::Receiver<bool>,
) -> Result<(String, impl Future<Output = Result<(), Error>> + Send + use<>), Error> {
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
    let refused = |_| Error::Roles {
        reason: "cluster.listen is taken, or is no address of this machine",
    };
    let listener = TcpListener::bind(cluster.listen).map_err(refused)?;
    let address = listener.local_addr().map_err(refused)?;
    let tls = cluster.tls.as_ref().map(mutual).transpose()?;
    let url = url_of(cluster, address);
    let handle = Handle::new();
    let service = routes(Answering {
        owners,
        secret: secret.into(),
    })
    .into_make_service();
    let server = axum_server::from_tcp(listener)
        .map_err(refused)?
        .http1_only()
        .handle(handle.clone());
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
                    let acceptor = axum_server::tls_rustls::RustlsAcceptor::new(config);
                    server.acceptor(acceptor).serve(service).await
                }
                None => server.serve(service).await,
            }
        };
        tokio::select! {
            ended = serving => ended.map_err(|_| Error::Stopped { what: "the internal API" }),
            () = stopping => Ok(()),
        }
    };
    Ok((url, answering))
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
        .layer(DefaultBodyLimit::max(QUESTION_BYTES_MAX))
        .with_state(answering)
}

async fn answer<Q: Question>(
    State(answering): State<Answering>,
    Path(partition): Path<u16>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let shown = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.as_bytes().strip_prefix(b"Bearer "));
    if !shown.is_some_and(|shown| bool::from(shown.ct_eq(answering.secret.as_bytes()))) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
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
        Ok(answer) => Json(answer).into_response(),
        Err(Error::Lagging) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        Err(error) => {
            tracing::warn!(code = error.code(), partition, "a question could not be answered");
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
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
