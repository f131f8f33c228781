//! Whom the certificate has to be about: an opening, and the person's identifiers as somebody types them.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use lethe_proof::{OPENING_BYTES_MAX, SubjectOpening};
use lethe_terms::{Identifier, IdentifierKind, IssuedKind};

/// Largest list of identifiers, in bytes: what `lethe case open` takes.
const IDENTIFIERS_BYTES_MAX: usize = 256 * 1024;

/// Whom a certificate has to be about. `Debug` shows no identifier.
#[derive(Clone, PartialEq, Eq)]
pub struct Subject {
    /// `KIND=VALUE`, `@FILE` with one a line, or `-` for stdin.
    pub identifier: String,
    /// The file that opens the certificate's commitment.
    pub opening: PathBuf,
}

impl fmt::Debug for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Subject({})", self.opening.display())
    }
}

/// Why it is not known whom the certificate has to be about.
pub(crate) enum Unknown {
    /// A file cannot be read, or is no opening.
    Unreadable(String),
    /// What was given is no identifier, or none of the opening's kind.
    Usage(String),
}

/// The opening, and the identifiers of its kind in every spelling that people use for one.
pub(crate) fn read(
    subject: &Subject,
    stdin: &mut dyn Read,
) -> Result<(SubjectOpening, Vec<Identifier>), Unknown> {
    let opening = crate::read(&subject.opening, OPENING_BYTES_MAX).map_err(Unknown::Unreadable)?;
    let opening =
        SubjectOpening::from_bytes(&opening).map_err(|error| Unknown::Unreadable(error.to_string()))?;
    let mut spellings = Vec::new();
    for line in lines(&subject.identifier, stdin)? {
        let (kind, value) = one(&line)?;
        if kind.kind() == opening.kind {
            spellings.extend(spelled(&kind, value));
        }
    }
    if spellings.is_empty() {
        let kind = opening.kind;
        return Err(Unknown::Usage(format!(
            "expected an identifier of kind {kind}, which the opening is of"
        )));
    }
    Ok((opening, spellings))
}

fn lines(given: &str, stdin: &mut dyn Read) -> Result<Vec<String>, Unknown> {
    let text = if given == "-" {
        let mut text = String::new();
        stdin
            .take(u64::try_from(IDENTIFIERS_BYTES_MAX).unwrap_or(u64::MAX))
            .read_to_string(&mut text)
            .map_err(|error| Unknown::Unreadable(format!("cannot read stdin: {error}")))?;
        text
    } else if let Some(path) = given.strip_prefix('@') {
        let bytes = crate::read(Path::new(path), IDENTIFIERS_BYTES_MAX).map_err(Unknown::Unreadable)?;
        String::from_utf8(bytes).map_err(|_| Unknown::Usage("expected identifiers in UTF-8".into()))?
    } else {
        return Ok(vec![given.to_owned()]);
    };
    let lines = text.lines().map(str::trim);
    Ok(lines
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
        .map(str::to_owned)
        .collect())
}

/// No error repeats what was given: it may name a person.
fn one(line: &str) -> Result<(IssuedKind, &str), Unknown> {
    let wrong = || {
        let known = IdentifierKind::CODES.join(", ");
        Unknown::Usage(format!(
            "expected --subject KIND=VALUE with a kind of {known}, or KIND@ISSUER=VALUE of an id"
        ))
    };
    let (kind, value) = line.split_once('=').ok_or_else(wrong)?;
    let kind = IssuedKind::typed(kind).map_err(|_| wrong())?;
    Ok((kind, value.trim()))
}

/// The one spelling that Lethe commits to is among these: an e-mail address in lower case, a telephone number as `+` and digits, an id as it is.
fn spelled(kind: &IssuedKind, value: &str) -> Vec<Identifier> {
    let other = match kind.kind() {
        IdentifierKind::Email | IdentifierKind::Ip | IdentifierKind::IpAbbreviated => value.to_lowercase(),
        IdentifierKind::Phone => {
            let dialled = value
                .strip_prefix("00")
                .map_or_else(|| value.to_owned(), |rest| format!("+{rest}"));
            dialled
                .chars()
                .filter(|letter| letter.is_ascii_digit() || *letter == '+')
                .collect()
        }
        _ => value.to_owned(),
    };
    vec![kind.with(value), kind.with(other)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_may_spell_as_they_do() {
        let last = |kind: IdentifierKind, value| spelled(&kind.into(), value).pop().map(|one| one.value);
        assert_eq!(
            last(IdentifierKind::Email, "Ada@Example.ORG").as_deref(),
            Some("ada@example.org")
        );
        assert_eq!(
            last(IdentifierKind::Phone, "0049 (30) 12-34").as_deref(),
            Some("+49301234")
        );
        assert_eq!(last(IdentifierKind::UserId, "U-1").as_deref(), Some("U-1"));
    }

    #[test]
    fn debug_shows_no_identifier() {
        let subject = Subject {
            identifier: "email=ada@example.org".into(),
            opening: "opening".into(),
        };
        assert!(!format!("{subject:?}").contains("ada"));
    }
}
