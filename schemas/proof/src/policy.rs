//! The verifier's policy: whose keys count, as the verifier was given them beforehand and by another way than the certificate.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::VerifyingKey;
use lethe_terms::SystemName;
use schemars::JsonSchema;
use serde::de::{Error as _, MapAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, NoteKey};

/// Largest policy file, in bytes.
pub const POLICY_BYTES_MAX: usize = 1 << 20;

/// `schema` of a policy.
const SCHEMA: &str = "lethe-policy/v1";

/// The two keys of a system's connector host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SystemKeys {
    /// Signs receipts.
    pub performs: String,
    /// Signs observations; another key than the first.
    pub observes: String,
}

/// A policy as it stands in its file. Keys are 32 bytes in standard base64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// `lethe-policy/v1`.
    pub schema: String,
    /// Id of the controller.
    pub controller: String,
    /// Key of the log, `name+id+key` as signed notes write it.
    pub log: String,
    /// Key that signs plans.
    pub plan: String,
    /// Key that signs certificates.
    pub statement: String,
    /// Keys by system.
    #[serde(deserialize_with = "without_repeats")]
    pub systems: BTreeMap<SystemName, SystemKeys>,
}

/// The key that performs and the key that observes.
pub(crate) type KeyPair = (VerifyingKey, VerifyingKey);

/// The same with keys that were read.
pub(crate) struct Keys {
    pub(crate) controller: String,
    pub(crate) log: NoteKey,
    pub(crate) plan: VerifyingKey,
    pub(crate) statement: VerifyingKey,
    pub(crate) systems: BTreeMap<SystemName, KeyPair>,
}

impl Policy {
    /// A policy of these keys.
    pub fn new(
        controller: &str,
        log: &NoteKey,
        plan: &VerifyingKey,
        statement: &VerifyingKey,
        systems: BTreeMap<SystemName, (VerifyingKey, VerifyingKey)>,
    ) -> Self {
        let text = |key: &VerifyingKey| STANDARD.encode(key.as_bytes());
        Self {
            schema: SCHEMA.to_owned(),
            controller: controller.to_owned(),
            log: log.to_text(),
            plan: text(plan),
            statement: text(statement),
            systems: systems
                .into_iter()
                .map(|(name, (performs, observes))| {
                    (
                        name,
                        SystemKeys {
                            performs: text(&performs),
                            observes: text(&observes),
                        },
                    )
                })
                .collect(),
        }
    }

    /// The policy as a file that people can read.
    ///
    /// # Errors
    /// Never for a policy that was built here.
    pub fn to_bytes(&self) -> Result<Vec<u8>, Error> {
        let mut text =
            serde_json::to_vec_pretty(self).map_err(|_| Error::malformed("policy", "has no JSON form"))?;
        text.push(b'\n');
        Ok(text)
    }

    /// Reads a policy file.
    ///
    /// # Errors
    /// Where it is too large or not a policy. People may write it by hand, so any JSON layout will do.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        if bytes.len() > POLICY_BYTES_MAX {
            return Err(Error::malformed(
                "policy",
                format!("above {POLICY_BYTES_MAX} bytes"),
            ));
        }
        let this: Self = serde_json::from_slice(bytes).map_err(|error| {
            Error::malformed(
                "policy",
                format!("not a policy at line {} column {}", error.line(), error.column()),
            )
        })?;
        if this.schema == SCHEMA {
            Ok(this)
        } else {
            Err(Error::malformed("policy", format!("expected schema {SCHEMA}")))
        }
    }

    pub(crate) fn keys(&self) -> Result<Keys, Error> {
        let mut systems = BTreeMap::new();
        for (name, keys) in &self.systems {
            systems.insert(name.clone(), (key(&keys.performs)?, key(&keys.observes)?));
        }
        let keys = Keys {
            controller: self.controller.clone(),
            log: NoteKey::from_text(&self.log)?,
            plan: key(&self.plan)?,
            statement: key(&self.statement)?,
            systems,
        };
        if keys.roles_are_apart() {
            Ok(keys)
        } else {
            Err(Error::malformed(
                "policy",
                "a key has two roles: each role needs a key of its own",
            ))
        }
    }
}

impl Keys {
    /// Whether no key signs in two roles. Hosts may share a key among their systems; a host that observes with the key that performs proves nothing.
    fn roles_are_apart(&self) -> bool {
        let role = |pick: fn(&KeyPair) -> VerifyingKey| -> BTreeSet<[u8; 32]> {
            self.systems.values().map(|pair| pick(pair).to_bytes()).collect()
        };
        let one = |key: &VerifyingKey| BTreeSet::from([key.to_bytes()]);
        let roles = [
            one(&self.log.key),
            one(&self.plan),
            one(&self.statement),
            role(|pair| pair.0),
            role(|pair| pair.1),
        ];
        let all: BTreeSet<_> = roles.iter().flatten().collect();
        all.len() == roles.iter().map(BTreeSet::len).sum::<usize>()
    }
}

/// Reads the systems; a name that stands twice is refused, where JSON's usual reading would let the last one win.
fn without_repeats<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<BTreeMap<SystemName, SystemKeys>, D::Error> {
    struct Systems;
    impl<'de> Visitor<'de> for Systems {
        type Value = BTreeMap<SystemName, SystemKeys>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("keys by system name")
        }
        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut systems = BTreeMap::new();
            while let Some((name, keys)) = map.next_entry()? {
                if systems.insert(name, keys).is_some() {
                    return Err(A::Error::custom("a system stands twice"));
                }
            }
            Ok(systems)
        }
    }
    deserializer.deserialize_map(Systems)
}

fn key(text: &str) -> Result<VerifyingKey, Error> {
    let wrong = || Error::malformed("policy", "expected keys of 32 bytes in base64");
    let bytes: [u8; 32] = STANDARD
        .decode(text)
        .ok()
        .and_then(|bytes| bytes.try_into().ok())
        .ok_or_else(wrong)?;
    VerifyingKey::from_bytes(&bytes).map_err(|_| wrong())
}
