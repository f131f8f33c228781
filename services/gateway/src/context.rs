//! What every request shares.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use lethe_terms::Timestamp;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use crate::backend::Backend;
use crate::keys::Keys;
use crate::limits::{PUBLISHERS_MAX, REQUESTS_MAX, SESSION_TIME_MAX, SESSIONS_MAX, WAITERS_MAX};
use crate::meter::Meter;

/// What every request shares.
pub(crate) type Shared = Arc<Context>;

/// What every request shares, by name.
pub(crate) struct Context {
    pub(crate) backend: Arc<dyn Backend>,
    pub(crate) keys: Option<Keys>,
    pub(crate) sessions: Sessions,
    pub(crate) meter: Meter,
    pub(crate) places: Arc<Semaphore>,
    pub(crate) waiting_places: Arc<Semaphore>,
    pub(crate) publishing_places: Arc<Semaphore>,
    /// Names of keys that may only publish.
    pub(crate) publishers: BTreeSet<String>,
    /// Whether the server speaks TLS itself.
    pub(crate) tls: bool,
}

impl Context {
    pub(crate) fn new(
        backend: Arc<dyn Backend>,
        keys: Option<Keys>,
        publishers: BTreeSet<String>,
        tls: bool,
    ) -> Self {
        Self {
            backend,
            keys,
            sessions: Sessions::default(),
            meter: Meter::new(),
            places: Arc::new(Semaphore::new(REQUESTS_MAX)),
            waiting_places: Arc::new(Semaphore::new(WAITERS_MAX)),
            publishing_places: Arc::new(Semaphore::new(PUBLISHERS_MAX)),
            publishers,
            tls,
        }
    }
}

/// The moment: for words such as "in 12 days", for ages, and to refuse what was asked in the future.
pub(crate) fn now() -> Timestamp {
    let millis = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_millis());
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

/// Who calls.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// A key or a session of it, by the key's name.
    Known(String),
    /// Nobody has to say who they are: loopback without a key file.
    Open,
}

impl Caller {
    /// The name of the key, where one was shown.
    pub(crate) fn known(&self) -> Option<&str> {
        match self {
            Self::Known(name) => Some(name),
            Self::Open => None,
        }
    }

    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Known(name) => name,
            Self::Open => "",
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while the map was held leaves it whole: every change is one call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Sessions of browsers: in memory, short, by digest, so that a dump of the map logs nobody in.
#[derive(Default)]
pub(crate) struct Sessions {
    open: Mutex<BTreeMap<[u8; 32], (String, Instant)>>,
}

impl Sessions {
    /// Opens a session and returns its secret; the oldest ends where there are too many.
    pub(crate) fn open(&self, name: &str, now: Instant) -> Option<String> {
        let mut bytes = [0; 32];
        getrandom::fill(&mut bytes).ok()?;
        let secret = hex::encode(bytes);
        let mut open = locked(&self.open);
        open.retain(|_, (_, until)| *until > now);
        if open.len() >= SESSIONS_MAX {
            let oldest = open
                .iter()
                .min_by_key(|(_, (_, until))| *until)
                .map(|(digest, _)| *digest);
            oldest.and_then(|digest| open.remove(&digest));
        }
        open.insert(
            Sha256::digest(secret.as_bytes()).into(),
            (name.to_owned(), now + SESSION_TIME_MAX),
        );
        Some(secret)
    }

    /// The name of the key that a session belongs to.
    pub(crate) fn name_of(&self, secret: &str, now: Instant) -> Option<String> {
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        locked(&self.open)
            .get(&digest)
            .filter(|(_, until)| *until > now)
            .map(|(name, _)| name.clone())
    }

    /// Ends a session.
    pub(crate) fn end(&self, secret: &str) {
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        locked(&self.open).remove(&digest);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_ends_by_itself_and_when_it_is_ended() {
        let sessions = Sessions::default();
        let now = Instant::now();
        let secret = sessions.open("office", now).unwrap();
        assert_eq!(sessions.name_of(&secret, now).as_deref(), Some("office"));
        assert_eq!(sessions.name_of(&secret, now + SESSION_TIME_MAX), None);
        sessions.end(&secret);
        assert_eq!(sessions.name_of(&secret, now), None);
    }

    #[test]
    fn memory_for_sessions_is_bounded() {
        let (sessions, now) = (Sessions::default(), Instant::now());
        for _ in 0..2 * SESSIONS_MAX {
            sessions.open("office", now).unwrap();
        }
        assert_eq!(locked(&sessions.open).len(), SESSIONS_MAX);
    }
}
