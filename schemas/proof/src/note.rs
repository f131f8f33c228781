//! C2SP signed notes and checkpoints (signed-note v1.0.0, tlog-checkpoint v1.0.0), with exactly one signature: the log's.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ed25519_dalek::{Signature, Signer as _, SigningKey, VerifyingKey};
use sha2::{Digest, Sha256};

use crate::Error;
use crate::merkle::Hash;

/// Type byte of an Ed25519 key in a signed note.
const ED25519: u8 = 1;

/// Longest note, in bytes: origin, size, root and one signature are far below.
const NOTE_BYTES_MAX: usize = 1_024;

/// A verifier key `name+hash+key` as signed notes know it.
#[derive(Clone, PartialEq, Eq)]
pub struct NoteKey {
    /// Name of the signer: the origin of the log.
    pub name: String,
    /// Its public key.
    pub key: VerifyingKey,
}

impl fmt::Debug for NoteKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.to_text())
    }
}

impl NoteKey {
    fn id(&self) -> [u8; 4] {
        let digest = Sha256::new()
            .chain_update(self.name.as_bytes())
            .chain_update([b'\n', ED25519])
            .chain_update(self.key.as_bytes())
            .finalize();
        [digest[0], digest[1], digest[2], digest[3]]
    }

    /// The key as text: `name+hex id+base64(type and key)`.
    pub fn to_text(&self) -> String {
        let mut typed = vec![ED25519];
        typed.extend_from_slice(self.key.as_bytes());
        format!(
            "{}+{}+{}",
            self.name,
            hex::encode(self.id()),
            STANDARD.encode(typed)
        )
    }

    /// Reads a key from its text.
    ///
    /// # Errors
    /// Where the text has another form, another type of key, or an id that is not that of the key.
    pub fn from_text(text: &str) -> Result<Self, Error> {
        let wrong = |reason: &str| Error::malformed("log key", reason);
        let mut parts = text.splitn(3, '+');
        let (Some(name), Some(id), Some(typed)) = (parts.next(), parts.next(), parts.next()) else {
            return Err(wrong("expected name+id+key"));
        };
        if !is_name(name) {
            return Err(wrong("expected a name without spaces and '+'"));
        }
        let typed = STANDARD.decode(typed).map_err(|_| wrong("key is not base64"))?;
        let Some((&ED25519, key)) = typed.split_first() else {
            return Err(wrong("expected an Ed25519 key (type 1)"));
        };
        let key: [u8; 32] = key.try_into().map_err(|_| wrong("expected 32 bytes of key"))?;
        let key = VerifyingKey::from_bytes(&key).map_err(|_| wrong("not a point of the curve"))?;
        let this = Self {
            name: name.to_owned(),
            key,
        };
        if hex::encode(this.id()) == id {
            Ok(this)
        } else {
            Err(wrong("id is not that of the key"))
        }
    }
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('+') && !name.chars().any(|c| c.is_whitespace() || c.is_control())
}

/// A signed tree head.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Name of the log.
    pub origin: String,
    /// Number of leaves.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
}

impl Checkpoint {
    fn text(&self) -> String {
        format!("{}\n{}\n{}\n", self.origin, self.size, STANDARD.encode(self.root))
    }

    fn from_note_text(text: &str) -> Result<Self, Error> {
        let wrong = || Error::malformed("checkpoint", "expected origin, size and root, a line each");
        let mut lines = text.strip_suffix('\n').ok_or_else(wrong)?.split('\n');
        let (Some(origin), Some(size), Some(root), None) =
            (lines.next(), lines.next(), lines.next(), lines.next())
        else {
            return Err(wrong());
        };
        let number: u64 = size.parse().map_err(|_| wrong())?;
        let root: Hash = STANDARD
            .decode(root)
            .ok()
            .and_then(|root| root.try_into().ok())
            .ok_or_else(wrong)?;
        let this = Self {
            origin: origin.to_owned(),
            size: number,
            root,
        };
        // One spelling: no leading zero, no plus sign.
        if this.text() == text {
            Ok(this)
        } else {
            Err(wrong())
        }
    }
}

/// Signs a tree head as a note.
pub fn sign_checkpoint(checkpoint: &Checkpoint, key: &SigningKey) -> String {
    let signer = NoteKey {
        name: checkpoint.origin.clone(),
        key: key.verifying_key(),
    };
    let text = checkpoint.text();
    let mut blob = signer.id().to_vec();
    blob.extend_from_slice(&key.sign(text.as_bytes()).to_bytes());
    format!("{text}\n\u{2014} {} {}\n", signer.name, STANDARD.encode(blob))
}

/// Checks the signature of a checkpoint with the log's key, and reads the tree head.
///
/// # Errors
/// [`Error::Signature`] where another key signed; [`Error::Malformed`] also for a second signature line: nobody here could check it.
pub fn open_checkpoint(note: &str, log: &NoteKey) -> Result<Checkpoint, Error> {
    let checkpoint = Checkpoint::from_note_text(open_note(note, log)?)?;
    if checkpoint.origin == log.name {
        Ok(checkpoint)
    } else {
        Err(Error::malformed("checkpoint", "origin is not the log's name"))
    }
}

/// Checks the signature of a signed note and returns its text.
fn open_note<'a>(note: &'a str, signer: &NoteKey) -> Result<&'a str, Error> {
    let wrong = |reason: &str| Error::malformed("checkpoint", reason);
    if note.len() > NOTE_BYTES_MAX {
        return Err(wrong("too long"));
    }
    let at = note
        .rfind("\n\n")
        .ok_or_else(|| wrong("expected an empty line before the signature"))?;
    let (text, rest) = (&note[..=at], &note[at + 2..]);
    let line = rest
        .strip_suffix('\n')
        .filter(|line| !line.contains('\n'))
        .ok_or_else(|| wrong("expected one signature"))?;
    let (name, blob) = line
        .strip_prefix("\u{2014} ")
        .and_then(|line| line.split_once(' '))
        .ok_or_else(|| wrong("expected a dash, a name and a signature"))?;
    let blob = STANDARD
        .decode(blob)
        .map_err(|_| wrong("signature is not base64"))?;
    let Some((id, signature)) = blob.split_first_chunk::<4>() else {
        return Err(wrong("signature is too short"));
    };
    if name != signer.name || *id != signer.id() {
        return Err(Error::Signature { what: "checkpoint" });
    }
    let signature = Signature::from_slice(signature).map_err(|_| wrong("signature is not 64 bytes"))?;
    signer
        .key
        .verify_strict(text.as_bytes(), &signature)
        .map_err(|_| Error::Signature { what: "checkpoint" })?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_reads_back_with_its_key_and_with_no_other() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let checkpoint = Checkpoint {
            origin: "acme.example/lethe".into(),
            size: 42,
            root: [9; 32],
        };
        let note = sign_checkpoint(&checkpoint, &key);
        let log = NoteKey {
            name: checkpoint.origin.clone(),
            key: key.verifying_key(),
        };
        assert_eq!(NoteKey::from_text(&log.to_text()), Ok(log.clone()));
        assert_eq!(open_checkpoint(&note, &log), Ok(checkpoint));
        let other = NoteKey {
            key: SigningKey::from_bytes(&[8; 32]).verifying_key(),
            ..log.clone()
        };
        assert_eq!(
            open_checkpoint(&note, &other),
            Err(Error::Signature { what: "checkpoint" })
        );
        let twice = format!("{note}{}", note.lines().last().unwrap());
        assert!(open_checkpoint(&twice, &log).is_err());
        assert!(open_checkpoint(&note.replace("42", "042"), &log).is_err());
    }

    /// The example of C2SP's signed-note specification, version 1.0.0.
    #[test]
    fn the_note_of_the_specification_verifies_and_a_changed_byte_does_not() {
        let signer =
            NoteKey::from_text("example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
                .unwrap();
        let note = "This is an example message.\n\n\u{2014} example.com/foo \
            Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Ztg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n";
        assert_eq!(open_note(note, &signer), Ok("This is an example message.\n"));
        let changed = note.replace("an example", "no example");
        assert_eq!(
            open_note(&changed, &signer),
            Err(Error::Signature { what: "checkpoint" })
        );
        assert!(
            NoteKey::from_text("example.com/foo+530d903b+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k")
                .is_err()
        );
    }
}
