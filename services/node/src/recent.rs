//! A map that keeps what came last.

use std::collections::BTreeMap;

/// Keeps at most `MOST`, and lets go of what came first: the order of keys says nothing about that.
pub(crate) struct Recent<K, V, const MOST: usize> {
    /// By key: the number of its arrival, and what it is.
    known: BTreeMap<K, (u64, V)>,
    arrived: BTreeMap<u64, K>,
    next: u64,
}

impl<K, V, const MOST: usize> Default for Recent<K, V, MOST> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
            arrived: BTreeMap::new(),
            next: 0,
        }
    }
}

impl<K: Ord + Clone, V, const MOST: usize> Recent<K, V, MOST> {
    /// Keeps this as what came last, also where the key is known.
    pub(crate) fn insert(&mut self, key: K, value: V) {
        self.remove(&key);
        self.arrived.insert(self.next, key.clone());
        self.known.insert(key, (self.next, value));
        self.next += 1;
        if self.known.len() > MOST
            && let Some((_, first)) = self.arrived.pop_first()
        {
            self.known.remove(&first);
        }
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.known.get(key).map(|(_, value)| value)
    }

    pub(crate) fn remove(&mut self, key: &K) -> Option<V> {
        let (arrival, value) = self.known.remove(key)?;
        self.arrived.remove(&arrival);
        Some(value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_first_goes_first_whatever_its_key() {
        let mut recent = Recent::<_, _, 2>::default();
        for key in [5, 9, 1] {
            recent.insert(key, key * 10);
        }
        assert_eq!(
            [1, 5, 9].map(|key| recent.get(&key).copied()),
            [Some(10), None, Some(90)]
        );
        recent.insert(9, 91);
        recent.insert(3, 30);
        assert_eq!(
            [1, 3, 9].map(|key| recent.get(&key).copied()),
            [None, Some(30), Some(91)]
        );
        assert_eq!((recent.remove(&9), recent.remove(&9)), (Some(91), None));
        recent.insert(4, 40);
        assert_eq!([3, 4].map(|key| recent.get(&key).copied()), [Some(30), Some(40)]);
    }
}
