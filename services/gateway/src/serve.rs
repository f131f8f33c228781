//! Listening: on loopback by itself, elsewhere only with TLS and keys.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{from_fn_with_state, map_response};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use axum_server::Handle;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tower_http::catch_panic::CatchPanicLayer;
use tower_service::Service as _;

use crate::accept::Bounded;
use crate::backend::Backend;
use crate::context::{Context, Shared};
use crate::error::Error;
use crate::keys::Keys;
use crate::limits::{CONNECTIONS_MAX, HEAD_TIME_MAX, STOP_TIME_MAX};
use crate::problem::{Problem, STARTING};
use crate::views::HealthView;
use crate::{api, guard, pages};

/// How the server is set up beyond its address.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// The key file; without one nobody has to show a key, which is refused elsewhere than on loopback.
    pub keys: Option<PathBuf>,
    /// Names of keys of the key file that may only publish events: a program that publishes has no business with cases.
    pub publishers: BTreeSet<String>,
    /// Certificate and key for TLS; without them no TLS, which is refused elsewhere than on loopback.
    pub tls: Option<TlsFiles>,
}

/// The files that TLS needs.
#[derive(Debug, Clone)]
pub struct TlsFiles {
    /// The certificate chain, PEM.
    pub certificate: PathBuf,
    /// The private key, PEM.
    pub key: PathBuf,
}

/// A server that listens.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    tls: bool,
    ended: JoinHandle<io::Result<()>>,
}

impl Running {
    /// The address that it listens on, with the port that was found where 0 was asked for.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as a URL.
    pub fn url(&self) -> String {
        format!("{}://{}", if self.tls { "https" } else { "http" }, self.address)
    }

    /// Waits until it has stopped.
    ///
    /// # Errors
    /// [`Error::Stopped`] where it stopped by itself.
    pub async fn ended(self) -> Result<(), Error> {
        match self.ended.await {
            Ok(end) => end.map_err(|source| Error::Stopped { source }),
            Err(error) => Err(Error::Stopped {
                source: io::Error::other(error),
            }),
        }
    }
}

/// Says how far a server is that starts.
type Waits = Box<dyn Fn() -> HealthView + Send + Sync>;

/// A server that listens and has no backend yet. It says that it is alive and what it waits for, and refuses everything else for now.
#[derive(Debug)]
pub struct Listening {
    running: Running,
    keys: Option<Keys>,
    publishers: BTreeSet<String>,
    door: Arc<OnceLock<Router>>,
}

impl Listening {
    /// The address that it listens on.
    pub const fn address(&self) -> SocketAddr {
        self.running.address()
    }

    /// Answers everything from now on.
    pub fn answer(self, backend: Arc<dyn Backend>) -> Running {
        let context = Context::new(backend, self.keys, self.publishers, self.running.tls);
        // It is opened here and nowhere else, and `self` is gone afterwards.
        let _ = self.door.set(router(Arc::new(context)));
        self.running
    }
}

/// Listens and answers until `shutdown` is over, then lets running requests end. Returns once it listens.
///
/// # Errors
/// Refuses another address than loopback without TLS and keys; fails where a file is malformed or the address is taken.
pub async fn serve(
    listen: SocketAddr,
    backend: Arc<dyn Backend>,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Running, Error> {
    let listening = listen_until_served(listen, Box::new(HealthView::default), options, shutdown).await?;
    Ok(listening.answer(backend))
}

/// As [`serve`], for a server whose backend comes later: until then it says by `waits` what is in the way.
///
/// # Errors
/// As [`serve`].
pub async fn listen_until_served(
    listen: SocketAddr,
    waits: Waits,
    options: Options,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<Listening, Error> {
    if !listen.ip().is_loopback() {
        if options.tls.is_none() {
            return Err(Error::WithoutTls { listen });
        }
        if options.keys.is_none() {
            return Err(Error::WithoutKeys { listen });
        }
    }
    let keys = options.keys.as_deref().map(Keys::read).transpose()?;
    let tls = options.tls.as_ref().map(tls_config).transpose()?;
    let listener = TcpListener::bind(listen).map_err(|source| Error::Listen { listen, source })?;
    let address = listener
        .local_addr()
        .map_err(|source| Error::Listen { listen, source })?;
    let mut server = axum_server::from_tcp(listener)
        .map_err(|source| Error::Listen { listen, source })?
        .http1_only();
    server.http_builder().http1().header_read_timeout(HEAD_TIME_MAX);

    let handle = Handle::new();
    let stopper = handle.clone();
    tokio::spawn(async move {
        shutdown.await;
        stopper.graceful_shutdown(Some(STOP_TIME_MAX));
    });
    let is_tls = tls.is_some();
    let door = Arc::new(OnceLock::new());
    let service = through(Arc::clone(&door), waiting(waits, is_tls)).into_make_service();
    let bounded = Bounded::new(Arc::new(Semaphore::new(CONNECTIONS_MAX)));
    let server = server
        .handle(handle)
        .first_request_timeout(HEAD_TIME_MAX + crate::limits::BODY_TIME_MAX);
    let ended = match tls {
        Some(config) => tokio::spawn(
            server
                .acceptor(RustlsAcceptor::new(config).acceptor(bounded))
                .serve(service),
        ),
        None => tokio::spawn(server.acceptor(bounded).serve(service)),
    };
    Ok(Listening {
        running: Running {
            address,
            tls: is_tls,
            ended,
        },
        keys,
        publishers: options.publishers,
        door,
    })
}

/// What is behind the door once it is open, and before that who waits at it.
fn through(door: Arc<OnceLock<Router>>, waiting: Router) -> Router {
    Router::new().fallback(move |request: Request| {
        let mut answers = door.get().unwrap_or(&waiting).clone();
        async move {
            answers
                .call(request)
                .await
                .unwrap_or_else(|never: Infallible| match never {})
        }
    })
}

/// Everything that a server answers which has no backend yet.
fn waiting(waits: Waits, tls: bool) -> Router {
    let waits = Arc::new(waits);
    let alive = HealthView {
        ok: true,
        parts: Vec::new(),
    };
    Router::new()
        .route("/healthz", get(move || async move { Json(alive) }))
        .route("/readyz", get(move || async move { api::well(waits()) }))
        .fallback(not_yet)
        .layer(map_response(move |mut response: Response| async move {
            guard::dress(response.headers_mut(), tls);
            response
        }))
}

/// Everything that the server answers.
fn router(shared: Shared) -> Router {
    api::routes()
        .merge(pages::routes())
        .fallback(nothing_there)
        .method_not_allowed_fallback(wrong_method)
        .layer(CatchPanicLayer::custom(panicked))
        .layer(from_fn_with_state(Arc::clone(&shared), guard::inner))
        .layer(from_fn_with_state(Arc::clone(&shared), guard::outer))
        .with_state(shared)
}

async fn nothing_there(headers: HeaderMap) -> Response {
    let problem = Problem::new(
        StatusCode::NOT_FOUND,
        "gateway-not-found",
        "nothing is at this address",
    )
    .expected("an address of /v1/openapi.json, or / for the dashboard");
    told(&headers, problem)
}

async fn not_yet(headers: HeaderMap) -> Response {
    let problem = Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        STARTING,
        "the server starts and takes nothing yet; nothing was done",
    )
    .expected("another try once /readyz answers 200; until then it says what the server waits for");
    told(&headers, problem)
}

/// A problem as a page for a browser, and otherwise as programs read it.
fn told(headers: &HeaderMap, problem: Problem) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    if accepts.is_some_and(|kinds| kinds.contains("text/html")) {
        pages::problem(&problem)
    } else {
        problem.into_response()
    }
}

async fn wrong_method() -> Problem {
    Problem::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "gateway-wrong-method",
        "the address does not take this method",
    )
    .expected("a method of /v1/openapi.json")
}

/// A panic is our mistake: it ends its request and nothing else. Its text is not passed on, for it may hold anything.
fn panicked(_: Box<dyn std::any::Any + Send>) -> Response {
    tracing::error!(code = "gateway-bug", "a request ended in a panic");
    Problem::new(
        StatusCode::INTERNAL_SERVER_ERROR,
        "gateway-bug",
        "a mistake in the server: whether the request had an effect is unknown",
    )
    .into_response()
}

fn tls_config(files: &TlsFiles) -> Result<RustlsConfig, Error> {
    let unusable = |what: &str, error: &dyn std::fmt::Display| Error::Tls {
        reason: format!("{what}: {error}"),
    };
    let chain = CertificateDer::pem_file_iter(&files.certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| unusable("certificate file, expected a PEM chain", &error))?;
    let key = PrivateKeyDer::from_pem_file(&files.key)
        .map_err(|error| unusable("key file, expected a PEM private key", &error))?;
    let mut config =
        rustls::ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| unusable("protocol versions", &error))?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(|error| unusable("certificate and key, expected ones that belong together", &error))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(RustlsConfig::from_config(Arc::new(config)))
}
