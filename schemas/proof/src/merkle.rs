//! The Merkle tree of RFC 6962 s. 2.1: hashes, proofs, and the verification algorithms of RFC 9162 s. 2.1.3.2 and 2.1.4.2.

use sha2::{Digest, Sha256};

/// A SHA-256 hash.
pub type Hash = [u8; 32];

/// Longest proof: a tree of 2^63 leaves has no longer path, so anything longer is garbage.
pub const PROOF_HASHES_MAX: usize = 63;

/// Hash of a leaf: SHA-256(0x00 || entry).
pub fn leaf_hash(entry: &[u8]) -> Hash {
    Sha256::new()
        .chain_update([0])
        .chain_update(entry)
        .finalize()
        .into()
}

/// Hash of an inner node: SHA-256(0x01 || left || right).
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    Sha256::new()
        .chain_update([1])
        .chain_update(left)
        .chain_update(right)
        .finalize()
        .into()
}

/// Hash of the tree without leaves: SHA-256 of nothing.
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// Where the hashes of complete subtrees are read from.
pub trait Nodes {
    /// Hash of the subtree over the leaves `index * 2^level .. (index + 1) * 2^level`; `None` where it cannot be read.
    fn node(&self, level: u32, index: u64) -> Option<Hash>;
}

/// All leaf hashes in memory: for small trees and for tests.
impl Nodes for [Hash] {
    fn node(&self, level: u32, index: u64) -> Option<Hash> {
        if level == 0 {
            return self.get(usize::try_from(index).ok()?).copied();
        }
        let left = self.node(level - 1, index.checked_mul(2)?)?;
        let right = self.node(level - 1, index.checked_mul(2)?.checked_add(1)?)?;
        Some(node_hash(&left, &right))
    }
}

/// Hash of the leaves `from .. to`, where `from` is aligned as the recursion of RFC 6962 leaves it.
fn range<N: Nodes + ?Sized>(nodes: &N, from: u64, to: u64) -> Option<Hash> {
    let count = to.checked_sub(from)?;
    if count == 0 {
        return None;
    }
    if count.is_power_of_two() && from.is_multiple_of(count) {
        return nodes.node(count.trailing_zeros(), from / count);
    }
    let split = from + split_of(count);
    Some(node_hash(&range(nodes, from, split)?, &range(nodes, split, to)?))
}

/// Largest power of two below `count`, for `count` above 1.
const fn split_of(count: u64) -> u64 {
    1 << (63 - (count - 1).leading_zeros())
}

/// Root of the first `size` leaves; `None` where a node cannot be read.
pub fn root<N: Nodes + ?Sized>(nodes: &N, size: u64) -> Option<Hash> {
    if size == 0 {
        Some(empty_root())
    } else {
        range(nodes, 0, size)
    }
}

/// Inclusion path of a leaf in the tree of the first `size` leaves, leaf to root.
pub fn inclusion<N: Nodes + ?Sized>(nodes: &N, index: u64, size: u64) -> Option<Vec<Hash>> {
    if index >= size {
        return None;
    }
    let (mut from, mut to) = (0, size);
    let mut path = Vec::new();
    while to - from > 1 {
        let split = from + split_of(to - from);
        if index < split {
            path.push(range(nodes, split, to)?);
            to = split;
        } else {
            path.push(range(nodes, from, split)?);
            from = split;
        }
    }
    path.reverse();
    Some(path)
}

/// Consistency proof between the trees of the first `old` and the first `new` leaves, with `0 < old <= new`.
pub fn consistency<N: Nodes + ?Sized>(nodes: &N, old: u64, new: u64) -> Option<Vec<Hash>> {
    if old == 0 || old > new {
        return None;
    }
    let (mut from, mut to, mut whole) = (0, new, true);
    let mut path = Vec::new();
    while old != to {
        let split = from + split_of(to - from);
        if old <= split {
            path.push(range(nodes, split, to)?);
            to = split;
        } else {
            path.push(range(nodes, from, split)?);
            from = split;
            whole = false;
        }
    }
    if !whole {
        path.push(range(nodes, from, to)?);
    }
    path.reverse();
    Some(path)
}

/// Whether a path proves that a leaf stands at `index` in the tree of `size` leaves with this root.
pub fn verify_inclusion(leaf: &Hash, index: u64, size: u64, path: &[Hash], expected: &Hash) -> bool {
    if index >= size || path.len() > PROOF_HASHES_MAX {
        return false;
    }
    let (mut position, mut last) = (index, size - 1);
    let mut hash = *leaf;
    for sibling in path {
        if last == 0 {
            return false;
        }
        if position & 1 == 1 || position == last {
            hash = node_hash(sibling, &hash);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    last == 0 && hash == *expected
}

/// Whether a path proves that the tree of `old` leaves is a prefix of that of `new` leaves. A tree without leaves proves nothing.
pub fn verify_consistency(old: u64, new: u64, path: &[Hash], old_root: &Hash, new_root: &Hash) -> bool {
    if old == 0 || old > new || path.len() > PROOF_HASHES_MAX + 1 {
        return false;
    }
    if old == new {
        return path.is_empty() && old_root == new_root;
    }
    let mut rest = path.iter();
    let (mut position, mut last) = (old - 1, new - 1);
    while position & 1 == 1 {
        position >>= 1;
        last >>= 1;
    }
    let first = if old.is_power_of_two() {
        Some(old_root)
    } else {
        rest.next()
    };
    let Some(first) = first else { return false };
    let (mut from_old, mut from_new) = (*first, *first);
    for sibling in rest {
        if last == 0 {
            return false;
        }
        if position & 1 == 1 || position == last {
            from_old = node_hash(sibling, &from_old);
            from_new = node_hash(sibling, &from_new);
            while position & 1 == 0 && position != 0 {
                position >>= 1;
                last >>= 1;
            }
        } else {
            from_new = node_hash(&from_new, sibling);
        }
        position >>= 1;
        last >>= 1;
    }
    last == 0 && from_old == *old_root && from_new == *new_root
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaves(count: u64) -> Vec<Hash> {
        (0..count)
            .map(|number| leaf_hash(&number.to_be_bytes()))
            .collect()
    }

    #[test]
    fn every_inclusion_proof_of_small_trees_verifies_and_no_neighbour_does() {
        for size in 1..=65 {
            let leaves = leaves(size);
            let root = root(leaves.as_slice(), size).unwrap();
            for index in 0..size {
                let path = inclusion(leaves.as_slice(), index, size).unwrap();
                let leaf = &leaves[usize::try_from(index).unwrap()];
                assert!(verify_inclusion(leaf, index, size, &path, &root));
                assert!(!verify_inclusion(leaf, index + 1, size, &path, &root));
                let mut longer = path.clone();
                longer.push(root);
                assert!(!verify_inclusion(leaf, index, size, &longer, &root));
            }
        }
    }

    #[test]
    fn every_consistency_proof_of_small_trees_verifies() {
        let leaves = leaves(65);
        for new in 1..=65 {
            for old in 1..=new {
                let path = consistency(leaves.as_slice(), old, new).unwrap();
                let old_root = root(leaves.as_slice(), old).unwrap();
                let new_root = root(leaves.as_slice(), new).unwrap();
                assert!(
                    verify_consistency(old, new, &path, &old_root, &new_root),
                    "{old} {new}"
                );
                assert!(
                    old == new || !verify_consistency(old, new, &path, &new_root, &old_root),
                    "{old} {new}"
                );
            }
        }
    }
}
