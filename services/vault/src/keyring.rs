//! Bucket keys and the data keys wrapped by them: what every vault does the same way.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use lethe_journal::{KeyWrapped, Sealed};
use zeroize::Zeroizing;

use crate::seal::KEY_BYTES;
use crate::{Attestation, DataKey, DestroyReceipt, Effective, Entropy, Error, Method};

/// Data keys of one bucket: to end one of them its bucket's survivors are wrapped anew, 5 ms for so many (measured).
pub const BUCKET_KEYS_MAX: u32 = 1_024;

/// Bucket keys under the root key, by number, as a vault keeps them.
pub(crate) type WrappedBuckets = BTreeMap<u32, Sealed>;

/// Adds a new bucket to stored ones.
pub(crate) type Add<'a> = &'a mut dyn FnMut(&WrappedBuckets) -> Changed;

/// Bucket keys as they are stored now.
pub(crate) type Changed = Result<WrappedBuckets, Error>;

/// The bucket keys, opened.
pub(crate) struct Keyring {
    root: DataKey,
    root_generation: u64,
    entropy: Arc<dyn Entropy>,
    state: Mutex<State>,
    made: AtomicU64,
    destroyed: AtomicU64,
}

#[derive(Default)]
struct State {
    wrapped: WrappedBuckets,
    keys: BTreeMap<u32, Arc<DataKey>>,
    /// The open bucket and how many data keys it wraps. After a start a new one is opened: how full the last one is nobody knows.
    open: Option<(u32, u32)>,
}

impl Keyring {
    /// The bucket keys that this root key wraps.
    pub(crate) fn open(
        root: DataKey,
        root_generation: u64,
        wrapped: WrappedBuckets,
        entropy: Arc<dyn Entropy>,
    ) -> Result<Self, Error> {
        let mut keys = BTreeMap::new();
        for (bucket, sealed) in &wrapped {
            let key = open_key(&root, &bucket_context(*bucket), sealed, &entropy)?;
            keys.insert(*bucket, Arc::new(key));
        }
        let state = Mutex::new(State {
            wrapped,
            keys,
            open: None,
        });
        Ok(Self {
            root,
            root_generation,
            entropy,
            state,
            made: AtomicU64::new(0),
            destroyed: AtomicU64::new(0),
        })
    }

    /// The root key, which wraps what a vault keeps beside data keys.
    pub(crate) const fn root(&self) -> &DataKey {
        &self.root
    }

    /// Where random bits come from.
    pub(crate) const fn entropy(&self) -> &Arc<dyn Entropy> {
        &self.entropy
    }

    /// Makes a data key. `change` is given the bucket keys that are known here, and what adds a new one to those that it stores; it makes
    /// them durable before the first data key of a new bucket is given out, and returns them.
    pub(crate) fn create(
        &self,
        change: impl FnOnce(&WrappedBuckets, Add<'_>) -> Changed,
    ) -> Result<(DataKey, KeyWrapped), Error> {
        let (bucket, wrapping) = self.room(change)?;
        let key = DataKey::draw(&self.entropy)?;
        let wrapped = wrapping.seal(&data_key_context(bucket), key.bytes())?;
        self.made.fetch_add(1, Ordering::Relaxed);
        Ok((key, KeyWrapped { bucket, wrapped }))
    }

    /// Takes a place in the open bucket, or opens one.
    fn room(
        &self,
        change: impl FnOnce(&WrappedBuckets, Add<'_>) -> Changed,
    ) -> Result<(u32, Arc<DataKey>), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((bucket, used)) = state.open
            && used < BUCKET_KEYS_MAX
            && let Some(key) = state.keys.get(&bucket).cloned()
        {
            state.open = Some((bucket, used + 1));
            return Ok((bucket, key));
        }
        let key = Arc::new(DataKey::draw(&self.entropy)?);
        let mut bucket = 0;
        let mut add = |stored: &WrappedBuckets| {
            bucket = stored
                .last_key_value()
                .map_or(1, |(last, _)| last.saturating_add(1));
            let mut with = stored.clone();
            with.insert(bucket, self.root.seal(&bucket_context(bucket), key.bytes())?);
            Ok(with)
        };
        let wrapped = change(&state.wrapped, &mut add)?;
        self.take_in(&mut state, wrapped)?;
        state.open = Some((bucket, 1));
        Ok((bucket, key))
    }

    /// Takes in bucket keys that another process made.
    pub(crate) fn learn(&self, wrapped: WrappedBuckets) -> Result<(), Error> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.take_in(&mut state, wrapped)
    }

    fn take_in(&self, state: &mut State, wrapped: WrappedBuckets) -> Result<(), Error> {
        for (bucket, sealed) in &wrapped {
            if !state.keys.contains_key(bucket) {
                let key = open_key(&self.root, &bucket_context(*bucket), sealed, &self.entropy)?;
                state.keys.insert(*bucket, Arc::new(key));
            }
        }
        state.wrapped = wrapped;
        Ok(())
    }

    fn bucket(&self, bucket: u32) -> Result<Arc<DataKey>, Error> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state
            .keys
            .get(&bucket)
            .cloned()
            .ok_or(Error::UnknownBucket { bucket })
    }

    pub(crate) fn unwrap(&self, wrapped: &KeyWrapped) -> Result<DataKey, Error> {
        let wrapping = self.bucket(wrapped.bucket)?;
        open_key(
            &wrapping,
            &data_key_context(wrapped.bucket),
            &wrapped.wrapped,
            &self.entropy,
        )
    }

    pub(crate) fn destroy(&self, wrapped: &KeyWrapped) -> Result<DestroyReceipt, Error> {
        self.bucket(wrapped.bucket)?;
        self.destroyed.fetch_add(1, Ordering::Relaxed);
        let effective = Effective::PendingRootRotation {
            root: self.root_generation,
        };
        Ok(DestroyReceipt {
            method: Method::WrappedFormDropped,
            effective,
        })
    }

    pub(crate) fn attest(&self, kind: &'static str, erasable_root: bool) -> Attestation {
        let buckets = self
            .state
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .keys
            .len();
        Attestation {
            kind,
            erasable_root,
            root: self.root_generation,
            buckets,
            made: self.made.load(Ordering::Relaxed),
            destroyed: self.destroyed.load(Ordering::Relaxed),
        }
    }
}

impl fmt::Debug for Keyring {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyring(redacted)")
    }
}

/// Opens a key that another one wraps.
pub(crate) fn open_key(
    wrapping: &DataKey,
    context: &str,
    sealed: &Sealed,
    entropy: &Arc<dyn Entropy>,
) -> Result<DataKey, Error> {
    let plain = wrapping.open(context, sealed)?;
    let bytes: [u8; KEY_BYTES] = plain.as_slice().try_into().map_err(|_| Error::CannotOpen {
        expected: "a key of 32 bytes",
    })?;
    Ok(DataKey::from_bytes(Zeroizing::new(bytes), entropy))
}

fn bucket_context(bucket: u32) -> String {
    format!("bucket/{bucket}")
}

fn data_key_context(bucket: u32) -> String {
    format!("data-key/{bucket}")
}
