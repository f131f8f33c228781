//! How a request reaches the program and its answer comes back: by whatever way, signed on both.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use reqwest::header::{CONTENT_TYPE, HeaderMap};
use url::Url;

use crate::config::Called;
use crate::error::{Error, Lost};
use crate::webhook::{self, Headers, Keys, Unsigned};

/// Largest answer, in bytes: a page of some thousand records, with room; it is held in memory while it is read.
pub(crate) const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Carries a request to the program and its answer back.
#[async_trait]
pub(crate) trait Wire: Send + Sync {
    /// The bytes of the answer to the message with this id, once its signature was checked.
    async fn exchange(&self, id: &str, body: Vec<u8>) -> Result<Vec<u8>, Lost>;
}

/// Signed HTTP: one POST a call.
pub(crate) struct SignedHttp {
    http: reqwest::Client,
    url: Url,
    keys: Keys,
}

impl SignedHttp {
    /// A client of the program at the configured URL.
    pub(crate) fn new(called: Called, keys: Keys, time: Duration) -> Result<Self, Error> {
        // The first provider of the program stays; that another part of it set one is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let mut builder = reqwest::Client::builder()
            .connect_timeout(called.connect_time)
            .timeout(time)
            // A connection that waited may be dead, and work that is sent over a dead one is lost without an answer.
            .pool_max_idle_per_host(0)
            // An answer from elsewhere would not be the program's.
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("lethe/", env!("CARGO_PKG_VERSION")));
        if called.url.scheme() == "http" {
            // Personal data in the clear stays on this machine.
            builder = builder.no_proxy();
        }
        if let Some(authorities) = called.authorities {
            builder = builder.tls_certs_only(authorities);
        }
        let http = builder.build().map_err(|_| Error::Config {
            what: "ca_file",
            expected: "certificate authorities that TLS can use".to_owned(),
        })?;
        Ok(Self {
            http,
            url: called.url,
            keys,
        })
    }
}

#[async_trait]
impl Wire for SignedHttp {
    async fn exchange(&self, id: &str, body: Vec<u8>) -> Result<Vec<u8>, Lost> {
        let signed = self.keys.sign(id, now_s(), &body);
        let request = self
            .http
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header(webhook::ID, signed.id)
            .header(webhook::TIMESTAMP, signed.timestamp)
            .header(webhook::SIGNATURE, signed.signature)
            .body(body);
        let mut response = request.send().await.map_err(|error| not_answered(&error))?;
        let status = response.status().as_u16();
        let headers = headers(response.headers());
        let mut answer = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|_| Lost::NoAnswer)? {
            if answer.len() + chunk.len() > ANSWER_BYTES_MAX {
                return Err(Lost::TooLarge);
            }
            answer.extend_from_slice(&chunk);
        }
        headers
            .and_then(|headers| self.keys.verify(&headers, id, now_s(), &answer))
            .map_err(|why| Lost::Unsigned { status, why })?;
        Ok(answer)
    }
}

fn headers(map: &HeaderMap) -> Result<Headers, Unsigned> {
    let only = |name: &'static str| {
        let mut values = map.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value
                .to_str()
                .map(str::to_owned)
                .map_err(|_| Unsigned::Header(name)),
            _ => Err(Unsigned::Header(name)),
        }
    };
    Ok(Headers {
        id: only(webhook::ID)?,
        timestamp: only(webhook::TIMESTAMP)?,
        signature: only(webhook::SIGNATURE)?,
    })
}

fn not_answered(error: &reqwest::Error) -> Lost {
    if is_untrusted(error) {
        Lost::Untrusted
    } else if error.is_connect() {
        Lost::NotSent
    } else {
        Lost::NoAnswer
    }
}

/// Whether a connection failed for want of trust in the other side's certificate. Layers below wrap their errors in I/O errors, which skip
/// what they wrap when they are asked for their source.
fn is_untrusted(error: &(dyn std::error::Error + 'static)) -> bool {
    if let Some(rustls::Error::InvalidCertificate(_)) = error.downcast_ref::<rustls::Error>() {
        return true;
    }
    let wrapped = error
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref);
    wrapped.is_some_and(|inner| is_untrusted(inner)) || error.source().is_some_and(is_untrusted)
}

/// Seconds since 1970. A clock before that counts as 1970, and then no answer is fresh.
pub(crate) fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}
