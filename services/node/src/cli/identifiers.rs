//! Identifiers on the command line: given, from a file or from stdin. No error repeats a value.

use std::io::Read;

use lethe_gateway::asks::IdentifierAsk;
use lethe_terms::{IdentifierKind, IssuedKind};

use super::args::IdentifierArgs;
use super::exit::Error;

/// Longest file of identifiers, in bytes: 64 identifiers of 1 KiB, and room for remarks.
const FILE_BYTES_MAX: u64 = 256 * 1024;

/// Reads the identifiers that were given.
pub(super) fn read(args: &IdentifierArgs, stdin: &mut dyn Read) -> Result<Vec<IdentifierAsk>, Error> {
    let mut identifiers = Vec::new();
    for given in &args.given {
        if given == "-" {
            let text = limited(stdin).map_err(|source| Error::Read {
                what: "identifiers on stdin".to_owned(),
                source,
            })?;
            lines(&text, &mut identifiers)?;
        } else if let Some(path) = given.strip_prefix('@') {
            let failed = |source| Error::Read {
                what: "file of identifiers".to_owned(),
                source,
            };
            let text = limited(&mut std::fs::File::open(path).map_err(failed)?).map_err(failed)?;
            lines(&text, &mut identifiers)?;
        } else {
            identifiers.push(one(given, "--identifier")?);
        }
    }
    if identifiers.is_empty() {
        return Err(Error::Usage {
            expected: "at least one identifier".to_owned(),
        });
    }
    Ok(identifiers)
}

fn limited(source: &mut dyn Read) -> std::io::Result<String> {
    let mut text = String::new();
    source.take(FILE_BYTES_MAX).read_to_string(&mut text)?;
    Ok(text)
}

fn lines(text: &str, identifiers: &mut Vec<IdentifierAsk>) -> Result<(), Error> {
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if !line.is_empty() && !line.starts_with('#') {
            identifiers.push(one(line, &format!("line {number} of the identifiers"))?);
        }
    }
    Ok(())
}

fn one(text: &str, place: &str) -> Result<IdentifierAsk, Error> {
    let known = || IdentifierKind::CODES.join(", ");
    let wrong = |what: String| Error::Usage {
        expected: format!("{what} at {place}"),
    };
    let expected = || {
        format!(
            "KIND=VALUE with a kind of {}, or KIND@ISSUER=VALUE of an id",
            known()
        )
    };
    let Some((kind, value)) = text.split_once('=') else {
        return Err(wrong(expected()));
    };
    let kind = IssuedKind::typed(kind).map_err(|_| wrong(expected()))?;
    if value.trim().is_empty() {
        return Err(wrong("a value after =".to_owned()));
    }
    Ok(IdentifierAsk {
        kind: kind.kind(),
        value: value.trim().to_owned(),
        issuer: kind.issuer().cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(words: &[&str], stdin: &str) -> Result<Vec<IdentifierAsk>, Error> {
        let args = IdentifierArgs {
            given: words.iter().map(|word| (*word).to_owned()).collect(),
        };
        read(&args, &mut stdin.as_bytes())
    }

    #[test]
    fn identifiers_come_from_the_line_a_file_and_stdin() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ada.txt");
        std::fs::write(&path, "# ada\n\nuser-id = 17\n").unwrap();
        let from_file = format!("@{}", path.display());
        let found = given(&["email=ada@example.org", &from_file, "-"], "phone=+49 30 1=2\n").unwrap();
        let kinds: Vec<_> = found.iter().map(|one| one.kind).collect();
        assert_eq!(
            kinds,
            [
                IdentifierKind::Email,
                IdentifierKind::UserId,
                IdentifierKind::Phone
            ]
        );
        assert_eq!(found[2].value, "+49 30 1=2");
        let issued = given(&["user-id@forum=1", "user_id=1"], "").unwrap();
        let issuers: Vec<_> = issued
            .iter()
            .map(|one| one.issuer.as_ref().map(ToString::to_string))
            .collect();
        assert_eq!(issuers, [Some("forum".to_owned()), None]);
    }

    #[test]
    fn a_malformed_identifier_is_refused_without_repeating_it() {
        for wrong in [
            "ada@example.org",
            "emial=ada@example.org",
            "email=",
            "email@ada=1",
            "user_id@Ada=1",
            "@/ada/not/there",
        ] {
            let error = given(&[wrong], "").unwrap_err();
            assert!(!error.to_string().contains("ada"), "{error}");
        }
        assert!(given(&["-"], "\n").is_err());
    }
}
