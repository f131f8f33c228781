use std::os::unix::fs::PermissionsExt as _;

use lethe_terms::{Identifier, IdentifierKind, Timestamp};

use super::*;
use crate::{BUCKET_KEYS_MAX, Effective, SeededEntropy};

fn open(path: &Path, seed: u64) -> Result<FileVault, Error> {
    FileVault::open(
        path,
        Openers::One,
        FirstStart::Allowed,
        Arc::new(SeededEntropy::new(seed)),
    )
}

fn ada() -> Identifier {
    Identifier::new(IdentifierKind::Email, "ada@example.org")
}

/// A folder with a vault that has given out one key, and what that key sealed.
fn used() -> (tempfile::TempDir, KeyWrapped, Sealed) {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path(), 1).unwrap();
    let (key, wrapped) = vault.create().unwrap();
    let sealed = key.seal("c", b"value").unwrap();
    (folder, wrapped, sealed)
}

#[test]
fn keys_and_tokens_survive_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path(), 1).unwrap();
    let (key, wrapped) = vault.create().unwrap();
    let sealed = key.seal("c", b"value").unwrap();
    let token = vault.tokens().identifier(&ada());
    let suppression = vault.tokens().suppression(&ada());
    drop(vault);

    let vault = open(folder.path(), 2).unwrap();
    assert_eq!(
        vault
            .unwrap(&wrapped)
            .unwrap()
            .open("c", &sealed)
            .unwrap()
            .as_slice(),
        b"value"
    );
    assert_eq!(vault.tokens().identifier(&ada()), token);
    assert_eq!(vault.tokens().suppression(&ada()), suppression);
}

#[test]
fn a_second_opener_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path(), 1).unwrap();
    assert!(matches!(open(folder.path(), 2), Err(Error::InUse)));
    drop(vault);
    assert!(open(folder.path(), 3).is_ok());
}

#[test]
fn only_the_owner_may_read_the_files() {
    let (folder, ..) = used();
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(
            file.metadata().unwrap().permissions().mode() & 0o777,
            0o600,
            "{:?}",
            file.file_name()
        );
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["buckets.json", "change", "lock", "root-a", "tokens.json"]);
}

#[test]
fn a_lost_root_is_never_replaced_by_a_fresh_one() {
    let (folder, ..) = used();
    std::fs::remove_file(folder.path().join("root-a")).unwrap();
    assert!(matches!(open(folder.path(), 2), Err(Error::RootMissing)));
    assert!(!folder.path().join("root-a").exists());
}

#[test]
fn a_damaged_root_is_refused_and_the_other_slot_is_enough() {
    let (folder, wrapped, sealed) = used();
    let good = std::fs::read(folder.path().join("root-a")).unwrap();
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        std::fs::write(folder.path().join("root-a"), bad).unwrap();
        assert!(
            matches!(open(folder.path(), 2), Err(Error::RootMissing)),
            "byte {at}"
        );
    }
    std::fs::write(folder.path().join("root-b"), &good).unwrap();
    let vault = open(folder.path(), 2).unwrap();
    assert_eq!(
        vault
            .unwrap(&wrapped)
            .unwrap()
            .open("c", &sealed)
            .unwrap()
            .as_slice(),
        b"value"
    );
}

#[test]
fn the_newest_valid_slot_wins() {
    let folder = tempfile::tempdir().unwrap();
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
    let locked = Folder::open(folder.path(), Openers::One).unwrap();
    let newer = DataKey::draw(&entropy).unwrap();
    let fingerprint = *newer.fingerprint();
    Root {
        key: DataKey::draw(&entropy).unwrap(),
        generation: 3,
    }
    .write(&locked)
    .unwrap();
    Root {
        key: newer,
        generation: 4,
    }
    .write(&locked)
    .unwrap();
    let read = Root::read(&locked, &entropy).unwrap().unwrap();
    assert_eq!((read.generation, *read.key.fingerprint()), (4, fingerprint));
    std::fs::write(folder.path().join("root-b"), b"torn").unwrap();
    assert_eq!(Root::read(&locked, &entropy).unwrap().unwrap().generation, 3);
}

#[test]
fn a_lost_or_damaged_file_of_keys_is_refused() {
    for file in ["tokens.json", "buckets.json"] {
        let (folder, ..) = used();
        let path = folder.path().join(file);
        let good = std::fs::read(&path).unwrap();
        for bad in [b"".to_vec(), b"{}".to_vec(), good[..good.len() / 2].to_vec()] {
            std::fs::write(&path, bad).unwrap();
            assert!(
                matches!(open(folder.path(), 2), Err(Error::FileDamaged { .. })),
                "{file}"
            );
        }
        std::fs::remove_file(&path).unwrap();
        assert!(
            matches!(open(folder.path(), 2), Err(Error::FileMissing { .. })),
            "{file}"
        );
    }
}

#[test]
fn keys_of_another_root_are_refused() {
    let (folder, ..) = used();
    let (other, ..) = used();
    let fresh = tempfile::tempdir().unwrap();
    drop(open(fresh.path(), 9).unwrap());
    std::fs::copy(fresh.path().join("root-a"), folder.path().join("root-a")).unwrap();
    assert!(matches!(
        open(folder.path(), 2),
        Err(Error::FileDamaged {
            file: TOKENS_FILE,
            ..
        })
    ));
    drop(other);
}

#[test]
fn a_vault_is_made_only_where_that_is_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(1));
    assert!(matches!(
        FileVault::open(folder.path(), Openers::One, FirstStart::Refused, entropy),
        Err(Error::NoVault)
    ));
    assert!(open(folder.path(), 1).is_ok());
}

#[test]
fn a_vault_whose_making_was_cut_short_is_made_again() {
    let folder = tempfile::tempdir().unwrap();
    drop(open(folder.path(), 1).unwrap());
    std::fs::write(folder.path().join("root-a"), b"torn").unwrap();
    let vault = open(folder.path(), 2).unwrap();
    assert!(vault.create().is_ok());
}

#[test]
fn a_full_bucket_is_closed_and_all_its_keys_still_open() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path(), 1).unwrap();
    let all: Vec<_> = (0..=BUCKET_KEYS_MAX).map(|_| vault.create().unwrap().1).collect();
    assert_eq!(
        all.iter().filter(|key| key.bucket == 1).count(),
        BUCKET_KEYS_MAX as usize
    );
    assert_eq!(vault.attest().buckets, 2);
    drop(vault);
    let vault = open(folder.path(), 2).unwrap();
    assert!(all.iter().all(|key| vault.unwrap(key).is_ok()));
    assert_eq!(
        vault.create().unwrap().1.bucket,
        3,
        "a start opens a bucket of its own"
    );
}

#[test]
fn ending_a_key_says_that_it_waits_for_the_root() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path(), 1).unwrap();
    let (_, wrapped) = vault.create().unwrap();
    let receipt = vault.destroy(&wrapped).unwrap();
    assert_eq!(receipt.effective, Effective::PendingRootRotation { root: 1 });
    assert_eq!((vault.attest().made, vault.attest().destroyed), (1, 1));
    let foreign = KeyWrapped { bucket: 9, ..wrapped };
    assert!(matches!(
        vault.destroy(&foreign),
        Err(Error::UnknownBucket { bucket: 9 })
    ));
    assert!(matches!(
        vault.unwrap(&foreign),
        Err(Error::UnknownBucket { bucket: 9 })
    ));
}

#[test]
fn no_key_stands_in_the_clear_outside_the_root_slots() {
    let folder = tempfile::tempdir().unwrap();
    let vault = open(folder.path(), 1).unwrap();
    let (key, _) = vault.create().unwrap();
    let root = std::fs::read(folder.path().join("root-a")).unwrap();
    for file in ["tokens.json", "buckets.json"] {
        let content = std::fs::read(folder.path().join(file)).unwrap();
        for secret in [key.bytes().as_slice(), &root[16..48]] {
            assert!(!content.windows(8).any(|part| part == &secret[..8]), "{file}");
        }
    }
    assert_eq!(format!("{vault:?}"), "FileVault(redacted)");
}

#[test]
fn several_processes_share_one_vault_and_open_each_others_keys() {
    let folder = tempfile::tempdir().unwrap();
    let share = |seed| {
        let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(seed));
        FileVault::open(folder.path(), Openers::Several, FirstStart::Allowed, entropy)
    };
    let (one, other) = (share(1).unwrap(), share(2).unwrap());
    assert!(matches!(open(folder.path(), 3), Err(Error::InUse)));
    let made: Vec<_> = [&one, &other, &one, &other]
        .into_iter()
        .map(|vault| vault.create().unwrap())
        .collect();
    for (key, wrapped) in &made {
        for vault in [&one, &other] {
            assert_eq!(vault.unwrap(wrapped).unwrap().fingerprint(), key.fingerprint());
        }
    }
    let token = one.tokens().identifier(&ada());
    assert!(
        token == other.tokens().identifier(&ada()),
        "one person has one token"
    );
    drop((one, other));
    let alone = open(folder.path(), 4).unwrap();
    for (key, wrapped) in &made {
        assert_eq!(alone.unwrap(wrapped).unwrap().fingerprint(), key.fingerprint());
    }
    let entropy: Arc<dyn Entropy> = Arc::new(SeededEntropy::new(5));
    let shared = FileVault::open(folder.path(), Openers::Several, FirstStart::Allowed, entropy);
    assert!(matches!(shared, Err(Error::InUse)));
}

#[test]
fn intake_keys_survive_a_restart_are_shared_and_stand_nowhere_in_the_clear() {
    const TIMES: IntakeTimes = IntakeTimes {
        renew_after_ms: 1_000,
        overlap_ms: 100,
        waits_ms: 10,
    };
    let folder = tempfile::tempdir().unwrap();
    let several = |seed| {
        let entropy = Arc::new(SeededEntropy::new(seed));
        FileVault::open(folder.path(), Openers::Several, FirstStart::Allowed, entropy).unwrap()
    };
    let ids = |keys: Vec<IntakeKey>| keys.iter().map(|key| key.key.public().id()).collect::<Vec<_>>();
    let (one, other, now) = (several(1), several(2), Timestamp::from_millis(0));
    let look = |anew| IntakeLook {
        now,
        read_up_to: now,
        anew,
    };
    assert!(one.intake_keys().unwrap().is_empty());
    let made = one.tend_intake_keys(TIMES, look(false)).unwrap();
    let private = made[0].key.to_bytes();
    let first = ids(made);
    assert_eq!(ids(other.tend_intake_keys(TIMES, look(false)).unwrap()), first);
    let both = ids(other.tend_intake_keys(TIMES, look(true)).unwrap());
    assert_eq!(both.len(), 2);
    drop((one, other));
    let again = several(3);
    assert_eq!(ids(again.intake_keys().unwrap()), both);

    let file = folder.path().join(INTAKE_KEYS_FILE);
    let bytes = std::fs::read(&file).unwrap();
    assert!(!bytes.windows(32).any(|window| window == private.as_slice()));
    let mode = std::fs::metadata(&file).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::write(&file, b"{}").unwrap();
    assert!(matches!(again.intake_keys(), Err(Error::FileDamaged { .. })));
}
