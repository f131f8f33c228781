//! The settings of a remote system, and what they open.

use std::fs;
use std::ops::RangeInclusive;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lethe_terms::DatasetName;
use serde::Deserialize;
use url::{Host, Url};
use zeroize::Zeroizing;

use crate::error::Error;
use crate::sealed::Sealing;
use crate::webhook::Keys;

/// A call that takes longer counts as unanswered, in milliseconds.
const TIMEOUT_MS: u64 = 30_000;
/// Time of one call: what takes longer than ten minutes is answered with a ticket.
const TIMEOUT_MS_RANGE: RangeInclusive<u64> = 100..=600_000;
/// Longest wait for a connection: a program in the same company answers within a second.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(5);
/// Largest key or certificate file, in bytes.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// By what way a program is reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Over {
    /// Lethe calls it: one signed POST a call.
    #[default]
    Http,
    /// It reads requests from a topic and writes replies to another, both sealed.
    Kafka,
}

/// A program that is a connector. README.md beside this crate has an example.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// By what way it is reached.
    #[serde(default)]
    pub over: Over,
    /// Over HTTP, where it is called: `https://…`, or `http://…` on this machine.
    pub url: Option<String>,
    /// File with the keys of Standard Webhooks: `whsec_…`, or `whsk_…` and the program's `whpk_…`.
    pub secret_file: PathBuf,
    /// The datasets that the program must declare, neither fewer nor more.
    pub datasets: Vec<DatasetName>,
    /// PEM file with the certificate authorities that the program's certificate may come from; those of the machine where left out.
    pub ca_file: Option<PathBuf>,
    /// Time after which a call counts as unanswered, in milliseconds.
    #[serde(default = "timeout_ms")]
    pub timeout_ms: u64,
}

const fn timeout_ms() -> u64 {
    TIMEOUT_MS
}

/// Settings that were looked at, with the files that they name.
pub(crate) struct Opened {
    pub(crate) keys: Keys,
    pub(crate) time: Duration,
    pub(crate) way: Way,
}

/// What one way of reaching the program needs.
pub(crate) enum Way {
    Http(Called),
    Kafka(Sealing),
}

/// Where and how the program is called.
pub(crate) struct Called {
    pub(crate) url: Url,
    pub(crate) authorities: Option<Vec<reqwest::Certificate>>,
    pub(crate) connect_time: Duration,
}

impl Config {
    /// Reads the files, and refuses what cannot serve.
    pub(crate) fn open(&self) -> Result<Opened, Error> {
        if !TIMEOUT_MS_RANGE.contains(&self.timeout_ms) {
            let (least, most) = TIMEOUT_MS_RANGE.into_inner();
            return Err(wrong(
                "timeout_ms",
                format!("{least} to {most}, not {}", self.timeout_ms),
            ));
        }
        if self.datasets.is_empty() {
            return Err(wrong("datasets", "the names of the program's datasets"));
        }
        let time = Duration::from_millis(self.timeout_ms);
        let keys = keys(&self.secret_file)?;
        let way = match self.over {
            Over::Http => Way::Http(self.called(time)?),
            Over::Kafka => Way::Kafka(self.sealing(&keys)?),
        };
        Ok(Opened { keys, time, way })
    }

    fn called(&self, time: Duration) -> Result<Called, Error> {
        let url = self.url.as_deref();
        Ok(Called {
            url: checked_url(url.ok_or_else(|| wrong("url", "a URL such as https://crm.example/lethe"))?)?,
            authorities: self.ca_file.as_deref().map(authorities).transpose()?,
            connect_time: CONNECT_TIME_MAX.min(time / 2),
        })
    }

    fn sealing(&self, keys: &Keys) -> Result<Sealing, Error> {
        if self.url.is_some() || self.ca_file.is_some() {
            let expected = "neither url nor ca_file: the program itself reads from Kafka";
            return Err(wrong("over", expected));
        }
        Sealing::new(keys).ok_or_else(|| {
            wrong(
                "secret_file",
                "a secret that both sides share, whsec_…: what travels over Kafka is sealed under it",
            )
        })
    }
}

fn wrong(what: &'static str, expected: impl Into<String>) -> Error {
    Error::Config {
        what,
        expected: expected.into(),
    }
}

/// The URL is not repeated: it might hold what somebody took for a good place for a password.
fn checked_url(text: &str) -> Result<Url, Error> {
    let url = Url::parse(text).map_err(|_| wrong("url", "a URL such as https://crm.example/lethe"))?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(wrong("url", "no user name and password: requests are signed"));
    }
    let is_local = match url.host() {
        Some(Host::Domain(name)) => name.eq_ignore_ascii_case("localhost"),
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        None => return Err(wrong("url", "a URL with a host")),
    };
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_local => Ok(url),
        "http" => Err(wrong(
            "url",
            "https, for personal data must not cross a network in the clear; http is for 127.0.0.1, ::1 and localhost",
        )),
        _ => Err(wrong("url", "https://…, or http://… on this machine")),
    }
}

fn keys(path: &Path) -> Result<Keys, Error> {
    let metadata = fs::metadata(path).map_err(|_| wrong("secret_file", "a file that can be read"))?;
    if metadata.permissions().mode() & 0o007 != 0 {
        return Err(wrong(
            "secret_file",
            "a file that only its owner and group may read: chmod o= FILE",
        ));
    }
    let bytes = Zeroizing::new(read("secret_file", path, metadata.len())?);
    let text = std::str::from_utf8(&bytes).map_err(|_| wrong("secret_file", "keys as text"))?;
    Keys::parse(text).map_err(|problem| wrong("secret_file", problem.to_string()))
}

fn authorities(path: &Path) -> Result<Vec<reqwest::Certificate>, Error> {
    let unusable = || wrong("ca_file", "a PEM file with certificates that can be read");
    let metadata = fs::metadata(path).map_err(|_| unusable())?;
    let pem = read("ca_file", path, metadata.len())?;
    reqwest::Certificate::from_pem_bundle(&pem)
        .ok()
        .filter(|certificates| !certificates.is_empty())
        .ok_or_else(unusable)
}

fn read(what: &'static str, path: &Path, bytes: u64) -> Result<Vec<u8>, Error> {
    if bytes > FILE_BYTES_MAX {
        return Err(wrong(what, "a file of at most 1 MiB"));
    }
    fs::read(path).map_err(|_| wrong(what, "a file that can be read"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(url: &str) -> String {
        checked_url(url).unwrap_err().to_string()
    }

    #[test]
    fn personal_data_leaves_the_machine_over_tls_only() {
        for fine in [
            "https://crm.example/lethe?tenant=1",
            "http://127.0.0.1:8080/lethe",
            "http://[::1]/",
            "http://localhost/",
        ] {
            assert!(checked_url(fine).is_ok(), "{fine}");
        }
        assert!(refusal("http://crm.example/").contains("in the clear"));
        assert!(refusal("http://127.0.0.1.example/").contains("in the clear"));
        assert!(refusal("ftp://crm.example/").contains("https://"));
        assert!(refusal("crm").contains("https://crm.example"));
        let quoted = refusal("https://lethe:geheim@crm.example/");
        assert!(
            quoted.contains("signed") && !quoted.contains("geheim"),
            "{quoted}"
        );
    }

    #[test]
    fn a_secret_that_everybody_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("secret");
        fs::write(&path, "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw\n").unwrap();
        for (mode, fine) in [(0o600, true), (0o640, true), (0o644, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(keys(&path).is_ok(), fine, "{mode:o}");
        }
        assert_eq!(
            keys(&folder.path().join("none")).unwrap_err().code(),
            "remote-config"
        );
    }
}
