//! The tree against another implementation of RFC 6962.
#![allow(clippy::unwrap_used, clippy::panic, unreachable_pub, missing_docs)]

use ct_merkle::mem_backed_tree::MemoryBackedTree;
use ct_merkle::{ConsistencyProof, InclusionProof, RootHash};
use lethe_proof::merkle::{
    Hash, consistency, inclusion, leaf_hash, root, verify_consistency, verify_inclusion,
};
use proptest::prelude::*;
use sha2::Sha256;

type Other = MemoryBackedTree<Sha256, Vec<u8>>;

fn entry(number: u64) -> Vec<u8> {
    number.to_be_bytes().to_vec()
}

fn trees(size: u64) -> (Vec<Hash>, Other) {
    let mut other = Other::new();
    (0..size).for_each(|number| other.push(entry(number)));
    ((0..size).map(|number| leaf_hash(&entry(number))).collect(), other)
}

fn flat(path: &[Hash]) -> Vec<u8> {
    path.concat()
}

#[test]
fn every_pair_of_sizes_to_256_has_the_same_proofs_as_the_other_tree() {
    let (mut ours, mut theirs, mut roots) = (Vec::new(), Other::new(), vec![[0; 32]]);
    for new in 1..=256_u64 {
        theirs.push(entry(new));
        ours.push(leaf_hash(&entry(new)));
        let ours_root = root(ours.as_slice(), new).unwrap();
        assert_eq!(theirs.root().as_bytes().as_slice(), ours_root);
        roots.push(ours_root);
        for old in 1..=new {
            let path = consistency(ours.as_slice(), old, new).unwrap();
            if old < new {
                let added = usize::try_from(new - old).unwrap();
                assert_eq!(
                    theirs.prove_consistency(added).as_bytes(),
                    flat(&path),
                    "{old} {new}"
                );
            }
            assert!(verify_consistency(
                old,
                new,
                &path,
                &roots[usize::try_from(old).unwrap()],
                &ours_root
            ));
            let path = inclusion(ours.as_slice(), old - 1, new).unwrap();
            assert_eq!(
                theirs
                    .prove_inclusion(usize::try_from(old - 1).unwrap())
                    .as_bytes(),
                flat(&path)
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn larger_trees_agree_and_both_verifiers_judge_a_damaged_proof_alike(
        size in 2_u64..5_000, at in any::<u64>(), old in any::<u64>(), damage in any::<(u16, u8)>()
    ) {
        let (ours, theirs) = trees(size);
        let (at, old) = (at % size, 1 + old % (size - 1));
        let head = root(ours.as_slice(), size).unwrap();
        let mut path = inclusion(ours.as_slice(), at, size).unwrap();
        prop_assert_eq!(theirs.prove_inclusion(usize::try_from(at).unwrap()).as_bytes().to_vec(), flat(&path));
        let which = usize::from(damage.0) % path.len();
        path[which][usize::from(damage.1 % 32)] ^= 1 << (damage.1 % 8);
        let judged = verify_inclusion(&ours[usize::try_from(at).unwrap()], at, size, &path, &head);
        let proof = InclusionProof::<Sha256>::try_from_bytes(flat(&path)).unwrap();
        prop_assert_eq!(judged, theirs.root().verify_inclusion(&entry(at), at, &proof).is_ok());
        prop_assert!(!judged);

        let mut path = consistency(ours.as_slice(), old, size).unwrap();
        let old_root = root(ours.as_slice(), old).unwrap();
        prop_assert!(verify_consistency(old, size, &path, &old_root, &head));
        let which = usize::from(damage.0) % path.len();
        path[which][usize::from(damage.1 % 32)] ^= 1 << (damage.1 % 8);
        let judged = verify_consistency(old, size, &path, &old_root, &head);
        let proof = ConsistencyProof::<Sha256>::try_from_bytes(flat(&path)).unwrap();
        let before = RootHash::<Sha256>::new(old_root.into(), old);
        prop_assert_eq!(judged, theirs.root().verify_consistency(&before, &proof).is_ok());
        prop_assert!(!judged);
    }
}
