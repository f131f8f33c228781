//! The ledger on a real disk: what survives a crash, what is refused, and that a certificate from here verifies.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lethe_ledger::{Error, EvidenceStore, Keys, Ledger, Start};
use lethe_proof::merkle::{self, Hash, verify_consistency, verify_inclusion};
use lethe_proof::{Envelope, Leaf, LeafKind, NoteKey, open_checkpoint};
use lethe_terms::{SystemName, Timestamp};

const ORIGIN: &str = "acme/lethe";

struct Place {
    root: tempfile::TempDir,
    keys: Keys,
}

impl Place {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let keys = Keys::open(&root.path().join("keys"), &[], Start::First).unwrap();
        Self { root, keys }
    }

    fn tree(&self) -> PathBuf {
        self.root.path().join("tree")
    }

    fn heads(&self) -> PathBuf {
        self.root.path().join("heads")
    }

    fn open(&self) -> Result<Ledger, Error> {
        Ledger::open(
            &self.tree(),
            &self.heads(),
            ORIGIN,
            self.keys.checkpoint().key(),
            Start::First,
        )
    }
}

fn leaf(number: u64) -> Leaf {
    let key = ed25519_dalek::SigningKey::from_bytes(&[9; 32]);
    Leaf::of(LeafKind::Receipt, &Envelope::sign("test", &number, &key).unwrap()).unwrap()
}

fn leaves(count: u64) -> Vec<Leaf> {
    (0..count).map(leaf).collect()
}

fn expected_root(count: u64) -> Hash {
    let hashes: Vec<Hash> = leaves(count).iter().map(Leaf::hash).collect();
    merkle::root(hashes.as_slice(), count).unwrap()
}

fn hashes_of(proof: &lethe_proof::Proof) -> Vec<Hash> {
    let hash = |text: &String| STANDARD.decode(text).unwrap().try_into().unwrap();
    proof.hashes.iter().map(hash).collect()
}

fn cut(path: &Path, length: u64) {
    std::fs::OpenOptions::new()
        .write(true)
        .open(path)
        .unwrap()
        .set_len(length)
        .unwrap();
}

#[test]
fn the_tree_on_disk_is_the_tree_in_memory_at_every_size_and_after_reopening() {
    let place = Place::new();
    let mut ledger = place.open().unwrap();
    let log = NoteKey {
        name: ORIGIN.into(),
        key: place.keys.checkpoint().public(),
    };
    let mut before = (0, merkle::empty_root());
    for (number, leaf) in (0..70_u64).zip(leaves(70)) {
        assert_eq!(ledger.append(&[leaf]).unwrap(), [number]);
        let head = open_checkpoint(&ledger.sign_head().unwrap(), &log).unwrap();
        assert_eq!((head.size, head.root), (number + 1, expected_root(number + 1)));
        if before.0 > 0 {
            let path = ledger.consistency(before.0, head.size).unwrap();
            assert!(verify_consistency(
                before.0, head.size, &path, &before.1, &head.root
            ));
        }
        before = (head.size, head.root);
        if number % 13 == 0 {
            drop(ledger);
            ledger = place.open().unwrap();
        }
    }
    for number in 0..70 {
        let path: Vec<Hash> = hashes_of(&ledger.inclusion(number, 70).unwrap());
        assert!(verify_inclusion(
            &leaf(number).hash(),
            number,
            70,
            &path,
            &ledger.root().unwrap()
        ));
        assert_eq!(ledger.index_of(&leaf(number)), Some(number));
    }
    assert!(matches!(ledger.inclusion(70, 70), Err(Error::UnknownLeaf)));
    assert!(matches!(ledger.inclusion(0, 71), Err(Error::UnknownLeaf)));
}

#[test]
fn appending_again_changes_nothing() {
    let place = Place::new();
    let mut ledger = place.open().unwrap();
    assert_eq!(ledger.append(&leaves(5)).unwrap(), [0, 1, 2, 3, 4]);
    assert_eq!(
        ledger.append(&[leaf(3), leaf(5), leaf(5), leaf(0)]).unwrap(),
        [3, 5, 5, 0]
    );
    assert_eq!((ledger.size(), ledger.root().unwrap()), (6, expected_root(6)));
}

#[test]
fn an_append_torn_at_any_byte_is_cut_off_and_can_be_repeated() {
    let place = Place::new();
    let mut ledger = place.open().unwrap();
    ledger.append(&leaves(3)).unwrap();
    ledger.sign_head().unwrap();
    ledger.append(&[leaf(3), leaf(4)]).unwrap();
    drop(ledger);
    let whole = std::fs::read(place.tree().join("leaves")).unwrap();
    let hashes = std::fs::read(place.tree().join("hashes")).unwrap();
    let line = whole.len() as u64 / 5;
    for length in 3 * line..=5 * line {
        std::fs::write(place.tree().join("leaves"), &whole).unwrap();
        std::fs::write(
            place.tree().join("hashes"),
            &hashes[..hashes.len() - (length as usize % 100)],
        )
        .unwrap();
        cut(&place.tree().join("leaves"), length);
        let mut ledger = place.open().unwrap();
        assert_eq!(ledger.size(), length / line);
        ledger.append(&leaves(5)).unwrap();
        assert_eq!(ledger.root().unwrap(), expected_root(5));
    }
}

#[test]
fn a_tail_of_zeros_after_a_power_loss_is_cut_off() {
    let place = Place::new();
    place.open().unwrap().append(&leaves(3)).unwrap();
    let path = place.tree().join("leaves");
    let length = std::fs::metadata(&path).unwrap().len();
    cut(&path, length * 2);
    let mut ledger = place.open().unwrap();
    assert_eq!(ledger.size(), 3);
    ledger.append(&leaves(4)).unwrap();
    assert_eq!(ledger.root().unwrap(), expected_root(4));
}

#[test]
fn damaged_hashes_are_made_anew_and_a_damaged_signed_leaf_is_said() {
    let place = Place::new();
    let mut ledger = place.open().unwrap();
    ledger.append(&leaves(9)).unwrap();
    ledger.sign_head().unwrap();
    drop(ledger);
    let path = place.tree().join("hashes");
    let mut hashes = std::fs::read(&path).unwrap();
    hashes[40] ^= 1;
    std::fs::write(&path, hashes).unwrap();
    assert_eq!(place.open().unwrap().root().unwrap(), expected_root(9));

    let path = place.tree().join("leaves");
    let mut lines = std::fs::read(&path).unwrap();
    lines[3] ^= 1;
    std::fs::write(&path, &lines).unwrap();
    assert!(matches!(place.open(), Err(Error::Corrupt { index: 0 })));
}

#[test]
fn nothing_shorter_than_what_was_signed_is_signed() {
    let place = Place::new();
    let mut ledger = place.open().unwrap();
    ledger.append(&leaves(4)).unwrap();
    let old = std::fs::read(place.tree().join("leaves")).unwrap();
    ledger.append(&leaves(6)).unwrap();
    let note = ledger.sign_head().unwrap();
    drop(ledger);
    // A restored backup of the tree; the head has a folder of its own.
    std::fs::write(place.tree().join("leaves"), old).unwrap();
    let mut ledger = place.open().unwrap();
    let error = ledger.sign_head().unwrap_err();
    assert!(matches!(error, Error::HeadBehind { have: 4, signed: 6 }));
    assert_eq!(error.code(), "ledger-head-behind");
    // It catches up from the stream of leaves, and then it is the same tree.
    ledger.append(&leaves(6)).unwrap();
    assert_eq!(ledger.sign_head().unwrap(), note);
}

#[test]
fn nothing_different_from_what_was_signed_is_signed() {
    let place = Place::new();
    let mut ledger = place.open().unwrap();
    ledger.append(&leaves(4)).unwrap();
    ledger.sign_head().unwrap();
    drop(ledger);
    std::fs::remove_dir_all(place.tree()).unwrap();
    let mut ledger = place.open().unwrap();
    ledger
        .append(&[leaf(90), leaf(91), leaf(92), leaf(93), leaf(94)])
        .unwrap();
    let error = ledger.sign_head().unwrap_err();
    assert_eq!(error.code(), "ledger-head-differs");
    assert_eq!(ledger.signed().size, 4);
}

#[test]
fn a_lost_head_is_not_taken_for_a_new_ledger() {
    let place = Place::new();
    place.open().unwrap().append(&leaves(2)).unwrap();
    std::fs::remove_file(place.heads().join("head")).unwrap();
    assert!(matches!(place.open(), Err(Error::HeadUnreadable)));
    std::fs::write(place.heads().join("head"), "made up").unwrap();
    assert!(matches!(place.open(), Err(Error::HeadUnreadable)));
}

#[test]
fn a_rebuilt_tree_equals_the_old_one_and_a_wrong_one_does_not_replace_it() {
    let place = Place::new();
    let mut ledger = place.open().unwrap();
    ledger.append(&leaves(21)).unwrap();
    let note = ledger.sign_head().unwrap();
    assert!(matches!(
        ledger.rebuild(leaves(20)),
        Err(Error::HeadBehind { .. })
    ));
    assert!(matches!(
        ledger.rebuild((1..40).map(leaf)),
        Err(Error::HeadDiffers { .. })
    ));
    assert_eq!(ledger.sign_head().unwrap(), note);
    std::fs::write(place.tree().join("leaves"), "").unwrap();
    ledger.rebuild(leaves(21).into_iter().chain(leaves(3))).unwrap();
    assert_eq!(ledger.sign_head().unwrap(), note);
    assert_eq!(ledger.append(&leaves(22)).unwrap().last(), Some(&21));
    drop(ledger);
    assert_eq!(place.open().unwrap().root().unwrap(), expected_root(22));
}

#[test]
fn whether_a_stream_continues_what_was_signed_is_told_of_it_alone() {
    let place = Place::new();
    let mut ledger = place.open().unwrap();
    ledger.append(&leaves(12)).unwrap();
    ledger.sign_head().unwrap();
    let code = |numbers: Vec<u64>| {
        let told = ledger.check_stream(numbers.into_iter().map(leaf));
        told.err().map(|error| error.code())
    };
    assert_eq!(code((0..12).collect()), None);
    assert_eq!(code((0..12).chain([3, 12, 12, 13]).collect()), None);
    assert_eq!(code((0..11).chain([10]).collect()), Some("ledger-head-behind"));
    assert_eq!(
        code((0..11).chain([12, 11]).collect()),
        Some("ledger-head-differs")
    );
    assert_eq!(ledger.size(), 12);
}

#[test]
fn two_programs_cannot_open_one_ledger() {
    let place = Place::new();
    let _open = place.open().unwrap();
    assert!(matches!(place.open(), Err(Error::InUse { .. })));
}

#[test]
fn keys_are_drawn_once_are_their_owners_alone_and_show_nothing() {
    let root = tempfile::tempdir().unwrap();
    let system: SystemName = "shop".parse().unwrap();
    let first = Keys::open(root.path(), std::slice::from_ref(&system), Start::First).unwrap();
    let policy = first.policy("acme", ORIGIN);
    assert_eq!(
        Keys::open(root.path(), std::slice::from_ref(&system), Start::First)
            .unwrap()
            .policy("acme", ORIGIN),
        policy
    );
    let seed = std::fs::read(root.path().join("plan.key")).unwrap();
    assert!(!format!("{first:?}").contains(&format!("{:?}", &seed[..4])));
    for entry in std::fs::read_dir(root.path()).unwrap() {
        assert_eq!(
            entry.unwrap().metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
    }
    let written = policy.to_bytes().unwrap();
    assert_eq!(lethe_proof::Policy::from_bytes(&written).unwrap(), policy);
    assert!(!written.windows(16).any(|part| part == &seed[..16]));

    let path = root.path().join("observes.shop.key");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
    assert!(matches!(
        Keys::open(root.path(), std::slice::from_ref(&system), Start::First),
        Err(Error::KeyExposed { .. })
    ));
    std::fs::remove_file(&path).unwrap();
    assert!(matches!(
        Keys::open(root.path(), &[system], Start::First),
        Err(Error::KeyUnreadable { .. })
    ));
}

#[test]
fn what_was_lost_after_the_first_leaf_is_not_made_anew() {
    let root = tempfile::tempdir().unwrap();
    assert!(matches!(
        Keys::open(&root.path().join("keys"), &[], Start::Again),
        Err(Error::KeyUnreadable { .. })
    ));
    let keys = Keys::open(&root.path().join("keys"), &[], Start::First).unwrap();
    let (tree, heads, key) = (
        root.path().join("tree"),
        root.path().join("heads"),
        keys.checkpoint().key(),
    );
    assert!(matches!(
        Ledger::open(&tree, &heads, ORIGIN, key, Start::Again),
        Err(Error::HeadUnreadable)
    ));
    drop(Ledger::open(&tree, &heads, ORIGIN, key, Start::First).unwrap());
    Ledger::open(&tree, &heads, ORIGIN, key, Start::Again).unwrap();
}

#[test]
fn what_another_process_has_put_away_is_found() {
    let root = tempfile::tempdir().unwrap();
    let at = Timestamp::from_millis;
    let (one, other) = (
        EvidenceStore::open(root.path()).unwrap(),
        EvidenceStore::open(root.path()).unwrap(),
    );
    assert_eq!(other.find("certificate-1", at(0)).unwrap(), None);
    one.put("certificate-1", b"signed", at(1_000)).unwrap();
    assert_eq!(
        other.find("certificate-1", at(0)).unwrap().as_deref(),
        Some(&b"signed"[..])
    );
    assert_eq!(other.sweep(at(1_000)).unwrap(), 1);
}

#[test]
fn evidence_ends_when_it_has_to_and_not_before() {
    let root = tempfile::tempdir().unwrap();
    let at = Timestamp::from_millis;
    let store = EvidenceStore::open(root.path()).unwrap();
    store.put("case-1.receipt", b"one", at(1_000)).unwrap();
    store.put("case-2.receipt", b"two", at(2_000)).unwrap();
    store.put("case-2.receipt", b"second", at(1_500)).unwrap();
    store.put("case-3.receipt", b"three", at(9_000)).unwrap();
    assert!(matches!(store.put("../outside", b"", at(1)), Err(Error::Name)));
    assert!(matches!(store.put(".hidden", b"", at(1)), Err(Error::Name)));
    let left = std::fs::File::create(root.path().join(".unfinished-5@x")).unwrap();
    left.set_modified(std::time::SystemTime::UNIX_EPOCH).unwrap();
    let written = root.path().join(".unfinished-6@y");
    std::fs::write(&written, "another process is at it").unwrap();

    let store = EvidenceStore::open(root.path()).unwrap();
    assert_eq!(
        store.get("case-2.receipt", at(0)).unwrap().as_deref(),
        Some(&b"second"[..])
    );
    assert_eq!(
        store.get("case-1.receipt", at(1_000)).unwrap(),
        None,
        "expired and not yet swept"
    );
    assert_eq!(store.sweep(at(999)).unwrap(), 0);
    assert_eq!(store.sweep(at(1_500)).unwrap(), 2);
    assert_eq!(store.get("case-1.receipt", at(0)).unwrap(), None);
    assert_eq!(store.list(), [("case-3.receipt".to_owned(), at(9_000))]);
    store.sweep(at(9_000)).unwrap();
    std::fs::remove_file(&written).expect("what is being written stays");
    assert_eq!(
        std::fs::read_dir(root.path()).unwrap().count(),
        0,
        "no file is left, not even an unfinished one"
    );
}
