//! The signing keys: one file a role, for its owner only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey, VerifyingKey};
use lethe_proof::{NoteKey, Policy};
use lethe_terms::SystemName;
use zeroize::Zeroizing;

use crate::{Error, Start, files};

/// The key of one role, as its file holds it. `Debug` does not show it, and its memory is overwritten when it is dropped.
#[derive(Clone)]
pub struct KeyFile(SigningKey);

impl KeyFile {
    /// The key.
    pub const fn key(&self) -> &SigningKey {
        &self.0
    }

    /// What verifies its signatures.
    pub fn public(&self) -> VerifyingKey {
        self.0.verifying_key()
    }
}

impl fmt::Debug for KeyFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyFile(redacted)")
    }
}

/// Every key of an installation.
pub struct Keys {
    checkpoint: KeyFile,
    plan: KeyFile,
    statement: KeyFile,
    systems: BTreeMap<SystemName, (KeyFile, KeyFile)>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys(redacted, {} systems)", self.systems.len())
    }
}

impl Keys {
    /// Opens the keys in a folder. At the first start all are drawn; later only those of systems that are new.
    ///
    /// # Errors
    /// Where a key is damaged, can be read by others, or is missing although it was drawn before: a new one in its place would
    /// make every policy that was handed out wrong.
    pub fn open(folder: &Path, systems: &[SystemName], start: Start) -> Result<Self, Error> {
        files::make_folder(folder)?;
        // Several processes may start at once, and each key is drawn once.
        let _drawing = files::lock(folder)?;
        // What was drawn is written down last, so that a crash while keys are drawn is no loss of keys.
        let before = files::read(&folder.join(DRAWN))?;
        if before.is_none() && start == Start::Again {
            return Err(Error::KeyUnreadable {
                role: "checkpoint".to_owned(),
            });
        }
        let mut drawn: BTreeSet<String> = before
            .as_deref()
            .map(String::from_utf8_lossy)
            .map(|text| text.lines().map(str::to_owned).collect())
            .unwrap_or_default();
        let mut take = |role: String| -> Result<KeyFile, Error> {
            let key = key(folder, &role, !drawn.contains(&role))?;
            drawn.insert(role);
            Ok(key)
        };
        let checkpoint = take("checkpoint".to_owned())?;
        let plan = take("plan".to_owned())?;
        let statement = take("statement".to_owned())?;
        let mut pairs = BTreeMap::new();
        for system in systems {
            let performs = take(format!("performs.{system}"))?;
            let observes = take(format!("observes.{system}"))?;
            pairs.insert(system.clone(), (performs, observes));
        }
        let after: String = drawn.iter().map(|role| format!("{role}\n")).collect();
        if before.as_deref() != Some(after.as_bytes()) {
            files::write(folder, DRAWN, after.as_bytes())?;
        }
        Ok(Self {
            checkpoint,
            plan,
            statement,
            systems: pairs,
        })
    }

    /// Signs tree heads.
    pub const fn checkpoint(&self) -> &KeyFile {
        &self.checkpoint
    }

    /// Signs plans.
    pub const fn plan(&self) -> &KeyFile {
        &self.plan
    }

    /// Signs certificates.
    pub const fn statement(&self) -> &KeyFile {
        &self.statement
    }

    /// Signs receipts of a system.
    pub fn performs(&self, system: &SystemName) -> Option<&KeyFile> {
        self.systems.get(system).map(|pair| &pair.0)
    }

    /// Signs observations of a system.
    pub fn observes(&self, system: &SystemName) -> Option<&KeyFile> {
        self.systems.get(system).map(|pair| &pair.1)
    }

    /// The policy that verifiers are given beforehand.
    pub fn policy(&self, controller: &str, origin: &str) -> Policy {
        let log = NoteKey {
            name: origin.to_owned(),
            key: self.checkpoint.public(),
        };
        let systems = self
            .systems
            .iter()
            .map(|(name, (performs, observes))| (name.clone(), (performs.public(), observes.public())))
            .collect();
        Policy::new(
            controller,
            &log,
            &self.plan.public(),
            &self.statement.public(),
            systems,
        )
    }
}

/// Names the roles whose keys were drawn, one a line.
const DRAWN: &str = "drawn";

fn key(folder: &Path, role: &str, may_draw: bool) -> Result<KeyFile, Error> {
    let name = format!("{role}.key");
    let path = folder.join(&name);
    if let Some(bytes) = files::read(&path)?.map(Zeroizing::new) {
        let mode = std::fs::metadata(&path)
            .map_err(Error::io("read", &path))?
            .permissions()
            .mode();
        if mode & 0o077 != 0 {
            return Err(Error::KeyExposed {
                role: role.to_owned(),
            });
        }
        let seed: Result<&[u8; SECRET_KEY_LENGTH], _> = bytes.as_slice().try_into();
        return seed
            .map(|seed| KeyFile(SigningKey::from_bytes(seed)))
            .map_err(|_| Error::KeyUnreadable {
                role: role.to_owned(),
            });
    }
    if !may_draw {
        return Err(Error::KeyUnreadable {
            role: role.to_owned(),
        });
    }
    let mut seed = Zeroizing::new([0; SECRET_KEY_LENGTH]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| Error::io("draw", &path)(std::io::Error::other(error.to_string())))?;
    files::write(folder, &name, seed.as_slice())?;
    Ok(KeyFile(SigningKey::from_bytes(&seed)))
}
