//! Intake keys: what publishers seal to. Private halves are kept wrapped by the root key, each until everything that was sealed to it has
//! been read, and a day more; then it is dropped from the file.

use std::collections::BTreeMap;
use std::sync::Arc;

use lethe_exchange::{KeyId, PrivateKey};
use lethe_journal::Sealed;
use lethe_terms::Timestamp;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::seal::KEY_BYTES;
use crate::{DataKey, Entropy, Error};

/// Keys that are kept at most: one is made every few weeks, and each ends; more only follow from making them by hand in a row.
pub const INTAKE_KEYS_MAX: usize = 64;

/// So long after the end of a key was noticed it is destroyed, in milliseconds. What is destroyed does not come back, and a clock that has
/// jumped ahead ends every key at once: within a day somebody puts it right, and then no key has ended.
pub const NOTICE_MS: i64 = 86_400_000;

/// How long intake keys serve.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeTimes {
    /// After so long a new key is made, in milliseconds.
    pub renew_after_ms: i64,
    /// So long publishers may still seal to a key after a newer one was made, in milliseconds: they fetch keys when they start.
    pub overlap_ms: i64,
    /// So long what was sealed may wait to be read, in milliseconds: the retention of the queue.
    pub waits_ms: i64,
}

/// A look at the intake keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IntakeLook {
    /// The clock.
    pub now: Timestamp,
    /// Everything that was sealed before has been read, or is gone: only keys that ended by then are destroyed.
    pub read_up_to: Timestamp,
    /// Whether a new key is made although none is due.
    pub anew: bool,
}

/// An intake key with the time that it serves.
#[derive(Debug, Clone)]
pub struct IntakeKey {
    /// The key.
    pub key: PrivateKey,
    /// When it was made.
    pub made_at: Timestamp,
    /// Until when publishers may seal to it.
    pub seal_until: Timestamp,
    /// Until when something that was sealed to it may wait; it opens until it is destroyed, some time after that.
    pub open_until: Timestamp,
}

/// An intake key as the vault's file holds it.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct WrappedIntakeKey {
    made_at: Timestamp,
    seal_until: Timestamp,
    open_until: Timestamp,
    /// When its end was first noticed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    ended_at: Option<Timestamp>,
    private: Sealed,
}

impl WrappedIntakeKey {
    /// Notes the end of a key, or that it has not ended after all where the clock went back; whether the key is to be kept.
    fn keeps(&mut self, now: Timestamp, read_up_to: Timestamp) -> bool {
        if self.open_until > now {
            self.ended_at = None;
            return true;
        }
        let ended_at = *self.ended_at.get_or_insert(now);
        now.since(ended_at) < NOTICE_MS || read_up_to < self.open_until
    }
}

/// Intake keys under the root key, by id.
pub(crate) type WrappedIntakeKeys = BTreeMap<KeyId, WrappedIntakeKey>;

/// Opens every key that was not destroyed, the newest first.
pub(crate) fn open(root: &DataKey, wrapped: &WrappedIntakeKeys) -> Result<Vec<IntakeKey>, Error> {
    let mut keys = wrapped
        .iter()
        .map(|(id, wrapped)| {
            let plain = root.open(&context(*id), &wrapped.private)?;
            let key = PrivateKey::from_bytes(&plain).map_err(|_| Error::UnexpectedContent)?;
            Ok(IntakeKey {
                key,
                made_at: wrapped.made_at,
                seal_until: wrapped.seal_until,
                open_until: wrapped.open_until,
            })
        })
        .collect::<Result<Vec<_>, Error>>()?;
    keys.sort_by_key(|key| std::cmp::Reverse((key.made_at, key.key.public().id())));
    Ok(keys)
}

/// What the keys are after a look at the clock: keys that ended before the moment up to which everything was read, and more than
/// [`NOTICE_MS`] ago, are gone, and there is a new one where the newest has served its time or `anew` asks for one. Nothing where nothing
/// changes.
pub(crate) fn tend(
    root: &DataKey,
    entropy: &Arc<dyn Entropy>,
    wrapped: &WrappedIntakeKeys,
    times: IntakeTimes,
    IntakeLook {
        now,
        read_up_to,
        anew,
    }: IntakeLook,
) -> Result<Option<WrappedIntakeKeys>, Error> {
    let mut kept = wrapped.clone();
    kept.retain(|_, key| key.keeps(now, read_up_to));
    let newest = kept.values().map(|key| key.made_at).max();
    let is_due = newest.is_none_or(|made| now.since(made) >= times.renew_after_ms);
    if is_due || anew {
        let serving = kept.values().filter(|key| key.ended_at.is_none());
        if serving.count() >= INTAKE_KEYS_MAX {
            return Err(Error::TooManyIntakeKeys);
        }
        let overlap = now.plus_millis(times.overlap_ms);
        for older in kept.values_mut() {
            older.seal_until = older.seal_until.min(overlap);
            older.open_until = older.open_until.min(older.seal_until.plus_millis(times.waits_ms));
        }
        let (id, key) = made(root, entropy, now, times)?;
        kept.insert(id, key);
    } else if kept == *wrapped {
        return Ok(None);
    }
    Ok(Some(kept))
}

fn made(
    root: &DataKey,
    entropy: &Arc<dyn Entropy>,
    now: Timestamp,
    times: IntakeTimes,
) -> Result<(KeyId, WrappedIntakeKey), Error> {
    let mut random = Zeroizing::new([0; KEY_BYTES]);
    entropy.fill(random.as_mut_slice())?;
    let key = PrivateKey::derive(&random);
    let id = key.public().id();
    let seal_until = now.plus_millis(times.renew_after_ms.saturating_add(times.overlap_ms));
    let wrapped = WrappedIntakeKey {
        made_at: now,
        seal_until,
        open_until: seal_until.plus_millis(times.waits_ms),
        ended_at: None,
        private: root.seal(&context(id), key.to_bytes().as_slice())?,
    };
    Ok((id, wrapped))
}

fn context(id: KeyId) -> String {
    format!("intake-key/{id}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SeededEntropy;

    const DAY: i64 = 86_400_000;
    const TIMES: IntakeTimes = IntakeTimes {
        renew_after_ms: 30 * DAY,
        overlap_ms: 7 * DAY,
        waits_ms: 10 * DAY,
    };

    fn day(day: i64) -> Timestamp {
        Timestamp::from_millis(day * DAY)
    }

    #[test]
    fn a_key_serves_its_time_overlaps_with_the_next_and_is_destroyed() {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
        let root = DataKey::draw(&entropy).unwrap();
        let turn = |keys: &WrappedIntakeKeys, at: i64, anew: bool| {
            tend(&root, &entropy, keys, TIMES, look(at, at, anew))
                .unwrap()
                .unwrap_or_else(|| keys.clone())
        };
        let opens = |keys: &WrappedIntakeKeys| open(&root, keys).unwrap();

        let first = turn(&WrappedIntakeKeys::new(), 0, false);
        assert_eq!(turn(&first, 29, false).len(), 1, "nothing is due");
        let id = opens(&first)[0].key.public().id();

        let second = turn(&first, 30, false);
        let keys = opens(&second);
        assert_eq!(keys.len(), 2);
        assert_ne!(keys[0].key.public().id(), id, "the newest stands first");
        assert_eq!((keys[1].seal_until, keys[1].open_until), (day(37), day(47)));
        assert!(
            turn(&second, 46, false).contains_key(&id),
            "what waits in the queue still opens"
        );
        let noticed = turn(&second, 47, false);
        assert!(noticed.contains_key(&id), "its end is noticed");
        assert!(
            !turn(&noticed, 48, false).contains_key(&id),
            "its private half is gone from the file"
        );

        let early = turn(&first, 1, true);
        let old = opens(&early)
            .into_iter()
            .find(|key| key.key.public().id() == id)
            .unwrap();
        assert_eq!(
            (old.seal_until, old.open_until),
            (day(8), day(18)),
            "a key ends sooner where a new one is made by hand"
        );
    }

    fn look(now: i64, read_up_to: i64, anew: bool) -> IntakeLook {
        IntakeLook {
            now: day(now),
            read_up_to: day(read_up_to),
            anew,
        }
    }

    #[test]
    fn what_was_not_read_keeps_its_key_and_a_clock_that_jumps_destroys_none() {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
        let root = DataKey::draw(&entropy).unwrap();
        let turn = |keys: &WrappedIntakeKeys, now: i64, read_up_to: i64| {
            tend(&root, &entropy, keys, TIMES, look(now, read_up_to, false))
                .unwrap()
                .unwrap_or_else(|| keys.clone())
        };
        let made = turn(&turn(&WrappedIntakeKeys::new(), 0, 0), 30, 30);
        let first = *made.iter().min_by_key(|(_, key)| key.made_at).unwrap().0;

        let unread = turn(&turn(&made, 47, 46), 59, 46);
        assert!(unread.contains_key(&first), "the reader stands before its end");
        assert!(!turn(&unread, 59, 47).contains_key(&first), "and then beyond");

        let jumped = turn(&made, 4_000, 4_000);
        assert!(
            made.keys().all(|id| jumped.contains_key(id)),
            "a jump ends nothing"
        );
        let back = turn(&jumped, 31, 31);
        let later = turn(&back, 32, 32);
        assert!(made.keys().all(|id| later.contains_key(id)));
        let at_its_end = turn(&later, 47, 47);
        assert!(
            at_its_end.contains_key(&first),
            "the notice of the jump does not count"
        );
        assert!(!turn(&at_its_end, 48, 48).contains_key(&first));
    }

    #[test]
    fn keys_made_in_a_row_are_bounded() {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
        let root = DataKey::draw(&entropy).unwrap();
        let mut keys = WrappedIntakeKeys::new();
        for _ in 0..INTAKE_KEYS_MAX {
            keys = tend(&root, &entropy, &keys, TIMES, look(0, 0, true))
                .unwrap()
                .unwrap();
        }
        let refused = tend(&root, &entropy, &keys, TIMES, look(0, 0, true));
        assert!(matches!(refused, Err(Error::TooManyIntakeKeys)));
    }
}
