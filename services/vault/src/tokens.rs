//! Tokens: keyed digests that name identifiers and records without saying them. HMAC-SHA256, cut to 16 bytes.
//!
//! Everything that goes into a digest is preceded by its length, so that no two inputs make the same bytes.

use std::collections::BTreeSet;
use std::fmt;

use hmac::{Hmac, KeyInit as _, Mac as _};
use lethe_terms::{
    CommandId, DatasetName, EntryId, Identifier, IdentifierToken, RecordToken, SuppressionToken, SystemName,
};
use sha2::Sha256;
use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use crate::seal::KEY_BYTES;

/// Keyed digest of a record's observed state: equal ones mean that nothing is new.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateDigest([u8; 16]);

impl StateDigest {
    /// 32 hexadecimal digits, as the journal has it.
    pub fn to_hex(self) -> String {
        hex::encode(self.0)
    }

    /// Reads 32 hexadecimal digits.
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text, &mut bytes).ok()?;
        Some(Self(bytes))
    }
}

impl fmt::Debug for StateDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StateDigest(redacted)")
    }
}

/// The token key and the suppression key, ready for use. Two keys, so that tokens of the erased say nothing about tokens of the
/// present.
pub struct TokenKeys {
    token: Hmac<Sha256>,
    suppression: Hmac<Sha256>,
}

impl TokenKeys {
    /// The keys made of these bytes.
    pub fn new(token: &[u8; KEY_BYTES], suppression: &[u8; KEY_BYTES]) -> Self {
        Self {
            token: keyed(token),
            suppression: keyed(suppression),
        }
    }

    /// The token of a normalised identifier.
    pub fn identifier(&self, identifier: &Identifier) -> IdentifierToken {
        // Of who gave an id the kind speaks: the same value by another issuer is another token.
        let kind = identifier.name();
        let parts = [
            b"identifier/v1".as_slice(),
            kind.as_bytes(),
            identifier.value.as_bytes(),
        ];
        IdentifierToken::from_bytes(digest(&self.token, parts))
    }

    /// The token of a record.
    pub fn record(&self, system: &SystemName, dataset: &DatasetName, key: &str) -> RecordToken {
        let parts = [
            b"record/v1".as_slice(),
            system.as_str().as_bytes(),
            dataset.as_str().as_bytes(),
            key.as_bytes(),
        ];
        RecordToken::from_bytes(digest(&self.token, parts))
    }

    /// The token of a record that is a part of a unit; its key tells it from the others.
    pub fn part_of_unit(&self, unit: RecordToken, key: &str) -> RecordToken {
        let parts = [b"unit part/v1".as_slice(), unit.as_bytes(), key.as_bytes()];
        unit.part(digest(&self.token, parts))
    }

    /// The token of a part of a record: of what it holds of these normalised identifiers, in order.
    pub fn part(&self, record: RecordToken, identifiers: &BTreeSet<Identifier>) -> RecordToken {
        let head = [b"part/v1".as_slice(), record.as_bytes()];
        let names: Vec<String> = identifiers.iter().map(Identifier::name).collect();
        let named = identifiers.iter().zip(&names);
        let named = named.flat_map(|(one, name)| [name.as_bytes(), one.value.as_bytes()]);
        record.part(digest(&self.token, head.into_iter().chain(named)))
    }

    /// The token under which a normalised identifier of an erased person is remembered.
    pub fn suppression(&self, identifier: &Identifier) -> SuppressionToken {
        let kind = identifier.name();
        let parts = [
            b"suppress/v1".as_slice(),
            kind.as_bytes(),
            identifier.value.as_bytes(),
        ];
        SuppressionToken::from_bytes(digest(&self.suppression, parts))
    }

    /// The digest of a record's state: its handle, its normalised identifiers in order, and what of it could not be read.
    pub fn state(
        &self,
        record: RecordToken,
        handle: &str,
        identifiers: &[Identifier],
        unreadable: &[&Identifier],
    ) -> StateDigest {
        let head = [b"state/v1".as_slice(), record.as_bytes(), handle.as_bytes()];
        let all = || identifiers.iter().chain(unreadable.iter().copied());
        let names: Vec<String> = all().map(Identifier::name).collect();
        let named = all().zip(&names);
        let named = named.flat_map(|(one, name)| [name.as_bytes(), one.value.as_bytes()]);
        // The number of those that were read tells them from the others.
        let number = (identifiers.len() as u64).to_be_bytes();
        StateDigest(digest(
            &self.token,
            head.into_iter().chain([number.as_slice()]).chain(named),
        ))
    }

    /// The key by which the processes of this installation know what one of them said: only who can open the vault has it.
    pub fn internal(&self) -> InternalKey {
        let derived = fed(&self.suppression, [b"internal/v2".as_slice()]).finalize();
        let key: Zeroizing<[u8; KEY_BYTES]> = Zeroizing::new(derived.into_bytes().into());
        InternalKey(keyed(&key))
    }

    /// An entry id that follows from its content, so that a repeat carries the same one.
    pub fn entry_id<'a>(&self, content: impl IntoIterator<Item = &'a [u8]>) -> EntryId {
        EntryId::from_bytes(digest(
            &self.token,
            [b"entry/v1".as_slice()].into_iter().chain(content),
        ))
    }

    /// A command id that follows from its content, so that a repeat carries the same one.
    pub fn command_id<'a>(&self, content: impl IntoIterator<Item = &'a [u8]>) -> CommandId {
        CommandId::from_bytes(digest(
            &self.token,
            [b"command/v1".as_slice()].into_iter().chain(content),
        ))
    }
}

impl fmt::Debug for TokenKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKeys(redacted)")
    }
}

/// Proves to a process what another one of the installation said. It is never sent.
#[derive(Clone)]
pub struct InternalKey(Hmac<Sha256>);

impl InternalKey {
    /// The authentication code of what is said for a purpose, 32 hexadecimal digits: for another purpose it is another one.
    pub fn mac<'a>(&self, purpose: &'static str, said: impl IntoIterator<Item = &'a [u8]>) -> String {
        hex::encode(digest(&self.0, [purpose.as_bytes()].into_iter().chain(said)))
    }

    /// Whether that is the code of what is said for this purpose; how long it takes says nothing of the right one.
    pub fn is_mac<'a>(
        &self,
        mac: &str,
        purpose: &'static str,
        said: impl IntoIterator<Item = &'a [u8]>,
    ) -> bool {
        bool::from(self.mac(purpose, said).as_bytes().ct_eq(mac.as_bytes()))
    }
}

impl fmt::Debug for InternalKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InternalKey(redacted)")
    }
}

/// HMAC under a key, filled up with zeros to the block of SHA-256 as RFC 2104 has it.
pub(crate) fn keyed(key: &[u8; KEY_BYTES]) -> Hmac<Sha256> {
    let mut block = Zeroizing::new([0; 64]);
    block[..KEY_BYTES].copy_from_slice(key);
    Hmac::new((&*block).into())
}

fn fed<'a>(key: &Hmac<Sha256>, parts: impl IntoIterator<Item = &'a [u8]>) -> Hmac<Sha256> {
    let mut mac = key.clone();
    for part in parts {
        mac.update(&(part.len() as u64).to_be_bytes());
        mac.update(part);
    }
    mac
}

fn digest<'a>(key: &Hmac<Sha256>, parts: impl IntoIterator<Item = &'a [u8]>) -> [u8; 16] {
    let full: [u8; 32] = fed(key, parts).finalize().into_bytes().into();
    let mut half = [0; 16];
    half.copy_from_slice(&full[..16]);
    half
}

#[cfg(test)]
mod tests {
    use lethe_terms::{IdentifierKind, IssuedKind};

    use super::*;

    fn keys() -> TokenKeys {
        TokenKeys::new(&[1; 32], &[2; 32])
    }

    fn email(value: &str) -> Identifier {
        Identifier::new(IdentifierKind::Email, value)
    }

    #[test]
    fn a_token_depends_on_key_kind_and_value() {
        let ada = keys().identifier(&email("ada@example.org"));
        assert_eq!(ada, keys().identifier(&email("ada@example.org")));
        assert_ne!(ada, keys().identifier(&email("bob@example.org")));
        assert_ne!(
            ada,
            keys().identifier(&Identifier::new(IdentifierKind::UserId, "ada@example.org"))
        );
        let id = |kind: &str| kind.parse::<IssuedKind>().unwrap().with("1");
        for (one, other) in [("user_id", "user_id@shop"), ("user_id@shop", "user_id@forum")] {
            let (one, other) = (id(one), id(other));
            assert_ne!(keys().identifier(&one), keys().identifier(&other));
            assert_ne!(keys().suppression(&one), keys().suppression(&other));
        }
        assert_ne!(
            ada,
            TokenKeys::new(&[3; 32], &[2; 32]).identifier(&email("ada@example.org"))
        );
        assert_ne!(
            ada.as_bytes(),
            keys().suppression(&email("ada@example.org")).as_bytes()
        );
    }

    #[test]
    fn the_parts_of_a_unit_are_told_apart_and_known_to_be_of_one() {
        let record = |key: &str| keys().record(&"web".parse().unwrap(), &"access".parse().unwrap(), key);
        let (unit, other) = (record("a line"), record("another line"));
        let parts = [
            keys().part_of_unit(unit, "1"),
            keys().part_of_unit(unit, "2"),
            keys().part(unit, &BTreeSet::from([email("ada@example.org")])),
        ];
        let told_apart: BTreeSet<_> = parts.iter().collect();
        assert_eq!(told_apart.len(), 3);
        assert!(
            parts
                .iter()
                .all(|part| part.unit() == unit.unit() && *part != unit)
        );
        assert_ne!(unit.unit(), other.unit());
    }

    #[test]
    fn a_code_proves_what_was_said_for_what_and_by_whom() {
        let said = || [b"a".as_slice(), b"b".as_slice()];
        let mac = keys().internal().mac("one", said());
        assert!(keys().internal().is_mac(&mac, "one", said()));
        assert!(!keys().internal().is_mac(&mac, "two", said()));
        assert!(!keys().internal().is_mac(&mac, "one", [b"ab".as_slice()]));
        assert!(!keys().internal().is_mac("", "one", said()));
        let others = TokenKeys::new(&[1; 32], &[3; 32]);
        assert!(!others.internal().is_mac(&mac, "one", said()));
    }

    #[test]
    fn tokens_stay_what_they_are_between_versions() {
        // A changed token recognises nobody any more: these values must never change.
        assert_eq!(
            keys().identifier(&email("ada@example.org")).to_hex(),
            GOLDEN_IDENTIFIER
        );
        assert_eq!(
            keys()
                .record(&"shop".parse().unwrap(), &"accounts".parse().unwrap(), "7")
                .to_hex(),
            GOLDEN_RECORD
        );
        assert_eq!(
            keys().suppression(&email("ada@example.org")).to_hex(),
            GOLDEN_SUPPRESSION
        );
    }

    // Computed by another implementation of HMAC.
    const GOLDEN_IDENTIFIER: &str = "ab01e377236819ad44808f9aabbc0c5a";
    const GOLDEN_RECORD: &str = "8c8c9d5948490ee66a77b58d3d758d54";
    const GOLDEN_SUPPRESSION: &str = "91660df8c22eb2d2168f3d11ca01b4c0";

    #[test]
    fn text_cannot_move_from_one_part_to_the_next() {
        let (shop, shops) = ("shop".parse().unwrap(), "shop.s".parse().unwrap());
        let (one, two) = ("s.a".parse().unwrap(), "a".parse().unwrap());
        assert_ne!(keys().record(&shop, &one, "k"), keys().record(&shops, &two, "k"));
        let record = RecordToken::from_bytes([0; 16]);
        let read = keys().state(record, "h", &[email("x")], &[]);
        assert_ne!(read, keys().state(record, "h", &[], &[&email("x")]));
        assert_ne!(read, keys().state(record, "h", &[email("x"), email("x")], &[]));
        assert_eq!(StateDigest::from_hex(&read.to_hex()), Some(read));
        assert_eq!(StateDigest::from_hex("short"), None);
    }
}
