//! API keys: who may call. The file holds digests only, so reading it gives nobody a key.

use std::fmt;
use std::path::Path;

use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::error::Error;

const LINE: &str = "name:sha256 with the digest of the key as 64 hexadecimal digits";

/// The API keys that are accepted.
#[derive(Clone)]
pub struct Keys {
    keys: Vec<(String, [u8; 32])>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.keys.iter().map(|(name, _)| name))
            .finish()
    }
}

/// A new key: the secret for the client's file, and the line for the server's.
pub struct NewKey {
    /// The key itself; it is shown once and kept nowhere here.
    pub secret: String,
    /// The line of the key file.
    pub line: String,
}

impl fmt::Debug for NewKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NewKey(redacted)")
    }
}

/// Makes a key of 256 random bits.
///
/// # Errors
/// [`Error::KeyFile`] where the name does not fit into a key file, [`Error::Entropy`] without randomness.
pub fn new_key(name: &str) -> Result<NewKey, Error> {
    if !is_name(name) {
        return Err(Error::KeyFile {
            line: 0,
            expected: "a name of a-z, 0-9, '-', '_' and '.'",
        });
    }
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).map_err(|_| Error::Entropy)?;
    let secret = format!("lethe_{}", hex::encode(bytes));
    let line = format!("{name}:{}", hex::encode(Sha256::digest(secret.as_bytes())));
    Ok(NewKey { secret, line })
}

fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= 63
        && name
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b))
}

impl Keys {
    /// Reads a key file: one `name:sha256` a line; blank lines and lines that start with `#` do not count.
    ///
    /// # Errors
    /// [`Error::File`] where it cannot be read, [`Error::KeyFile`] where a line is malformed or there is no key.
    pub fn read(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::File {
            what: "key file",
            source,
        })?;
        Self::parse(&text)
    }

    /// Reads the text of a key file.
    ///
    /// # Errors
    /// [`Error::KeyFile`] where a line is malformed, a name comes twice, or there is no key.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let mut keys: Vec<(String, [u8; 32])> = Vec::new();
        for (line, text) in (1..).zip(text.lines()) {
            let text = text.trim();
            if text.is_empty() || text.starts_with('#') {
                continue;
            }
            let wrong = Error::KeyFile { line, expected: LINE };
            let Some((name, digest)) = text.split_once(':') else {
                return Err(wrong);
            };
            let mut bytes = [0; 32];
            if !is_name(name) || hex::decode_to_slice(digest.trim(), &mut bytes).is_err() {
                return Err(wrong);
            }
            if keys.iter().any(|(known, _)| known == name) {
                return Err(Error::KeyFile {
                    line,
                    expected: "every name once",
                });
            }
            keys.push((name.to_owned(), bytes));
        }
        if keys.is_empty() {
            return Err(Error::KeyFile {
                line: 0,
                expected: "at least one key",
            });
        }
        Ok(Self { keys })
    }

    /// The name of the key, where it is one of these. Takes the same time whichever it is, or none.
    pub fn name_of(&self, secret: &str) -> Option<&str> {
        let digest: [u8; 32] = Sha256::digest(secret.as_bytes()).into();
        let mut found = None;
        for (name, known) in &self.keys {
            let same: Choice = known.ct_eq(&digest);
            if bool::from(same) {
                found = Some(name.as_str());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_key_is_known_by_its_line_and_no_other_is() {
        let key = new_key("office").unwrap();
        let keys = Keys::parse(&format!("# keys\n\n{}\n", key.line)).unwrap();
        assert_eq!(keys.name_of(&key.secret), Some("office"));
        assert_eq!(keys.name_of(&key.secret[1..]), None);
        assert_eq!(keys.name_of(""), None);
        assert!(!key.line.contains(&key.secret));
    }

    #[test]
    fn a_malformed_line_is_refused_with_its_number() {
        for (text, line) in [("office", 1), ("\noffice:12", 2), ("a b:00", 1), ("", 0)] {
            assert!(
                matches!(Keys::parse(text), Err(Error::KeyFile { line: at, .. }) if at == line),
                "{text}"
            );
        }
    }
}
