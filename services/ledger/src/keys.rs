//! The signing keys: one file a role, for its owner only.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use ed25519_dalek::{SECRET_KEY_LENGTH, SigningKey};
use lethe_proof::{NoteKey, Policy};
use lethe_terms::SystemName;
use zeroize::Zeroizing;

use crate::{Error, files};

/// Every key of an installation. `Debug` shows none.
pub struct Keys {
    checkpoint: SigningKey,
    plan: SigningKey,
    statement: SigningKey,
    systems: BTreeMap<SystemName, (SigningKey, SigningKey)>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Keys(redacted, {} systems)", self.systems.len())
    }
}

impl Keys {
    /// Opens the keys in a folder. The first time all are drawn; later only those of systems that are new.
    ///
    /// # Errors
    /// Where a key is damaged, can be read by others, or is missing although it was drawn before: a new one in its place would
    /// make every policy that was handed out wrong.
    pub fn open(folder: &Path, systems: &[SystemName]) -> Result<Self, Error> {
        files::make_folder(folder)?;
        // What was drawn is written down last, so that a crash while keys are drawn is no loss of keys.
        let before = files::read(&folder.join(DRAWN))?;
        let mut drawn: BTreeSet<String> = before
            .as_deref()
            .map(String::from_utf8_lossy)
            .map(|text| text.lines().map(str::to_owned).collect())
            .unwrap_or_default();
        let mut take = |role: String| -> Result<SigningKey, Error> {
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
        Ok(Self { checkpoint, plan, statement, systems: pairs })
    }

    /// Signs tree heads.
    pub const fn checkpoint(&self) -> &SigningKey {
        &self.checkpoint
    }

    /// Signs plans.
    pub const fn plan(&self) -> &SigningKey {
        &self.plan
    }

    /// Signs certificates.
    pub const fn statement(&self) -> &SigningKey {
        &self.statement
    }

    /// Signs receipts of a system.
    pub fn performs(&self, system: &SystemName) -> Option<&SigningKey> {
        self.systems.get(system).map(|pair| &pair.0)
    }

    /// Signs observations of a system.
    pub fn observes(&self, system: &SystemName) -> Option<&SigningKey> {
        self.systems.get(system).map(|pair| &pair.1)
    }

    /// The policy that verifiers are given beforehand.
    pub fn policy(&self, controller: &str, origin: &str) -> Policy {
        let log = NoteKey { name: origin.to_owned(), key: self.checkpoint.verifying_key() };
        let systems = self
            .systems
            .iter()
            .map(|(name, (performs, observes))| (name.clone(), (performs.verifying_key(), observes.verifying_key())))
            .collect();
        Policy::new(controller, &log, &self.plan.verifying_key(), &self.statement.verifying_key(), systems)
    }

    /// Writes the policy file, durably.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn write_policy(&self, controller: &str, origin: &str, folder: &Path, name: &str) -> Result<(), Error> {
        let mut text = serde_json::to_vec_pretty(&self.policy(controller, origin))
            .map_err(|error| Error::io("write", &folder.join(name))(error.into()))?;
        text.push(b'\n');
        files::write(folder, name, &text)
    }
}

/// Names the roles whose keys were drawn, one a line.
const DRAWN: &str = "drawn";

fn key(folder: &Path, role: &str, may_draw: bool) -> Result<SigningKey, Error> {
    let name = format!("{role}.key");
    let path = folder.join(&name);
    if let Some(bytes) = files::read(&path)?.map(Zeroizing::new) {
        let mode = std::fs::metadata(&path).map_err(Error::io("read", &path))?.permissions().mode();
        if mode & 0o077 != 0 {
            return Err(Error::KeyExposed { role: role.to_owned() });
        }
        let seed: Result<&[u8; SECRET_KEY_LENGTH], _> = bytes.as_slice().try_into();
        return seed.map(SigningKey::from_bytes).map_err(|_| Error::KeyUnreadable { role: role.to_owned() });
    }
    if !may_draw {
        return Err(Error::KeyUnreadable { role: role.to_owned() });
    }
    let mut seed = Zeroizing::new([0; SECRET_KEY_LENGTH]);
    getrandom::fill(seed.as_mut_slice())
        .map_err(|error| Error::io("draw", &path)(std::io::Error::other(error.to_string())))?;
    files::write(folder, &name, seed.as_slice())?;
    Ok(SigningKey::from_bytes(&seed))
}
