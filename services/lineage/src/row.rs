//! Rows of one partition: keys, values and the reader that the fold is handed.

use std::fmt;
use std::str::FromStr;

use lethe_journal::{DatasetRef, KeyWrapped, RecordObserved, Sealed, Token};
use lethe_terms::{IdentifierToken, RecordToken};

use crate::Error;

/// A row: key and value.
pub type RowPair = (Vec<u8>, Vec<u8>);

/// Rows of one partition, as a fold or a query sees them. Whoever owns the store adapts it.
pub trait Rows {
    /// The value of a key.
    ///
    /// Errors: [`Error::RowsUnavailable`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, Error>;

    /// Rows whose key starts with `prefix` and is greater than `after` (where given), in order, at most `limit`.
    ///
    /// Errors: [`Error::RowsUnavailable`].
    fn scan(&self, prefix: &[u8], after: Option<&[u8]>, limit: usize) -> Result<Vec<RowPair>, Error>;
}

/// A change of one row.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Change {
    /// Sets a row.
    Put(Vec<u8>, Vec<u8>),
    /// Removes a row.
    Remove(Vec<u8>),
}

impl fmt::Debug for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Keys hold tokens.
        match self {
            Self::Put(key, value) => write!(f, "Put({} B, {} B)", key.len(), value.len()),
            Self::Remove(key) => write!(f, "Remove({} B)", key.len()),
        }
    }
}

/// Bytes of a token.
const TOKEN_BYTES: usize = 16;

/// First byte of the value of a record or key row: another form of rows needs another number, and the store is folded again.
const ROW_VERSION: u8 = 1;

pub(crate) fn record_key(record: RecordToken) -> Vec<u8> {
    prefixed(b'r', record.as_bytes())
}

/// Start of all record rows.
pub(crate) const RECORD_PREFIX: [u8; 1] = *b"r";

/// Where the record of a row is.
pub(crate) fn place_of(row: &[u8]) -> Result<DatasetRef, Error> {
    let mut reader = Reader {
        rest: row,
        expected: "a record row",
    };
    reader.version()?;
    Ok(DatasetRef {
        system: reader.word()?,
        dataset: reader.word()?,
    })
}

pub(crate) fn wrapped_key_key(id: &[u8]) -> Vec<u8> {
    prefixed(b'k', id)
}

/// Start of the index rows of an identifier.
pub(crate) fn index_prefix(token: IdentifierToken) -> Vec<u8> {
    prefixed(b'i', token.as_bytes())
}

pub(crate) fn index_key(token: IdentifierToken, record: RecordToken) -> Vec<u8> {
    let mut key = index_prefix(token);
    key.extend_from_slice(record.as_bytes());
    key
}

/// The record that an index row points to.
pub(crate) fn indexed_record(key: &[u8]) -> Result<RecordToken, Error> {
    match key.split_last_chunk::<TOKEN_BYTES>() {
        Some((rest, record)) if rest.len() == 1 + TOKEN_BYTES => Ok(RecordToken::from_bytes(*record)),
        _ => Err(Error::RowUnreadable {
            expected: "an index row",
        }),
    }
}

fn prefixed(kind: u8, id: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(1 + 2 * TOKEN_BYTES);
    key.push(kind);
    key.extend_from_slice(id);
    key
}

/// A record as a row; its token stands in the key.
pub(crate) fn encode_record(record: &RecordObserved) -> Vec<u8> {
    let mut out = vec![ROW_VERSION];
    put_bytes(&mut out, record.system.as_str().as_bytes());
    put_bytes(&mut out, record.dataset.as_str().as_bytes());
    put_bytes(&mut out, record.digest.as_bytes());
    out.extend_from_slice(&record.count.to_be_bytes());
    put_length(&mut out, record.tokens.len());
    for token in &record.tokens {
        put_bytes(&mut out, token.kind.code().as_bytes());
        out.extend_from_slice(token.token.as_bytes());
    }
    put_bytes(&mut out, record.secret.as_bytes());
    out
}

pub(crate) fn decode_record(record: RecordToken, row: &[u8]) -> Result<RecordObserved, Error> {
    let mut reader = Reader {
        rest: row,
        expected: "a record row",
    };
    reader.version()?;
    let system = reader.word()?;
    let dataset = reader.word()?;
    let digest = reader.word()?;
    let count = u64::from_be_bytes(reader.array()?);
    let tokens = (0..reader.length()?)
        .map(|_| {
            Ok(Token {
                kind: reader.word()?,
                token: IdentifierToken::from_bytes(reader.array()?),
            })
        })
        .collect::<Result<_, Error>>()?;
    let secret = Sealed::from_bytes(reader.bytes()?.to_vec());
    reader.end()?;
    Ok(RecordObserved {
        record,
        system,
        dataset,
        tokens,
        secret,
        digest,
        count,
    })
}

pub(crate) fn encode_key(key: &KeyWrapped) -> Vec<u8> {
    let mut out = vec![ROW_VERSION];
    out.extend_from_slice(&key.bucket.to_be_bytes());
    put_bytes(&mut out, key.wrapped.as_bytes());
    out
}

pub(crate) fn decode_key(row: &[u8]) -> Result<KeyWrapped, Error> {
    let mut reader = Reader {
        rest: row,
        expected: "a key row",
    };
    reader.version()?;
    let bucket = u32::from_be_bytes(reader.array()?);
    let wrapped = Sealed::from_bytes(reader.bytes()?.to_vec());
    reader.end()?;
    Ok(KeyWrapped { bucket, wrapped })
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    // An event is at most 4 MiB, so no part of it is longer.
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_length(out, bytes.len());
    out.extend_from_slice(bytes);
}

struct Reader<'a> {
    rest: &'a [u8],
    expected: &'static str,
}

impl<'a> Reader<'a> {
    fn bad(&self) -> Error {
        Error::RowUnreadable {
            expected: self.expected,
        }
    }

    fn version(&mut self) -> Result<(), Error> {
        if self.array::<1>()? == [ROW_VERSION] {
            Ok(())
        } else {
            Err(self.bad())
        }
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Error> {
        let (head, rest) = self.rest.split_first_chunk::<N>().ok_or_else(|| self.bad())?;
        self.rest = rest;
        Ok(*head)
    }

    fn length(&mut self) -> Result<usize, Error> {
        usize::try_from(u32::from_be_bytes(self.array()?)).map_err(|_| self.bad())
    }

    fn bytes(&mut self) -> Result<&'a [u8], Error> {
        let length = self.length()?;
        let (head, rest) = self.rest.split_at_checked(length).ok_or_else(|| self.bad())?;
        self.rest = rest;
        Ok(head)
    }

    fn word<T: FromStr>(&mut self) -> Result<T, Error> {
        let text = std::str::from_utf8(self.bytes()?).map_err(|_| self.bad())?;
        text.parse().map_err(|_| self.bad())
    }

    fn end(&self) -> Result<(), Error> {
        if self.rest.is_empty() {
            Ok(())
        } else {
            Err(self.bad())
        }
    }
}
