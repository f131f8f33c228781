//! One word, one meaning: words that the glossary bans from identifiers and comments of schemas/ and services/.

use crate::Violation;
use crate::source::{Source, words};

/// Banned words with what to say.
const BANNED: [(&[&str], &str); 6] = [
    (
        &[
            "delete",
            "deletes",
            "deleted",
            "deleting",
            "deletion",
            "deletions",
        ],
        "say erase (of a person's data) or remove (of a file)",
    ),
    (
        &[
            "purge",
            "purges",
            "purged",
            "purging",
            "forget",
            "forgets",
            "forgot",
            "forgotten",
            "forgetting",
        ],
        "say erase, or lose",
    ),
    (&["job", "jobs"], "say step or case"),
    (&["dsr", "dsrs", "dsar", "dsars"], "say rights request or case"),
    (
        &["tombstone", "tombstones", "tombstoned"],
        "it is Kafka's word for an empty newest entry and nothing else",
    ),
    (
        &["user", "users"],
        "say subject, requester or operator; the identifier kind is user_id",
    ),
];

const KAFKAS: &str = "Kafka's sense: the empty newest entry of a key in a table stream";

/// Words that may stand where somebody else gave them their name: path prefix, banned word, text that the line must hold (empty for any), and why.
const EXCEPTIONS: [(&str, &str, &str, &str); 17] = [
    ("schemas/journal/", "tombstone", "", KAFKAS),
    ("services/log/", "tombstone", "", KAFKAS),
    ("services/log-kafka/", "tombstone", "", KAFKAS),
    (
        "services/log-kafka/",
        "delete",
        ".delete_records(",
        "a request of Kafka",
    ),
    ("services/intake/", "tombstone", "", KAFKAS),
    ("services/lineage/", "tombstone", "", KAFKAS),
    ("services/vault/", "tombstone", "", KAFKAS),
    ("services/node/", "tombstone", "", KAFKAS),
    ("", "delete", "delete.retention.ms", "a setting of Kafka"),
    ("", "delete", "dpv:Delete", "a term of DPV"),
    ("", "delete", "Method::DELETE", "a method of HTTP"),
    ("", "delete", "routing::", "axum's name for HTTP's method"),
    ("", "forget", "mem::forget", "the standard library's name"),
    ("", "user", "User-Agent", "a header of HTTP"),
    ("", "user", "remote_user", "a variable of nginx"),
    (
        "",
        "user",
        "user name",
        "what systems call the name that somebody logs in with",
    ),
    (
        "",
        "user",
        "user:password",
        "the words of RFC 3986 for a URL's userinfo",
    ),
];

/// Banned words of a source file.
pub fn check(file: &str, source: &Source) -> Vec<Violation> {
    let mut out = Vec::new();
    for text in [&source.code, &source.comments] {
        for (at, word) in words(text) {
            let line = source.line(at);
            let segments = segments(word);
            for (n, segment) in segments.iter().enumerate() {
                let after = segments
                    .get(n + 1)
                    .cloned()
                    .or_else(|| following(text, at + word.len()));
                if let Some(advice) = banned(segment, after.as_deref())
                    && !excepted(file, segment, source.line_text(line))
                {
                    out.push(Violation::new(file, line, "words", format!("`{word}`: {advice}")));
                }
            }
            if segments.first().is_some_and(|s| s == "process") && is_verb(text, at, word) {
                out.push(Violation::new(
                    file,
                    line,
                    "words",
                    format!("`{word}` as a verb: say handle, fold or run"),
                ));
            }
        }
    }
    out.sort();
    out.dedup();
    out
}

fn banned(segment: &str, after: Option<&str>) -> Option<&'static str> {
    // The identifier kind, and a browser's name.
    if matches!(segment, "user" | "users") && matches!(after, Some("id" | "ids" | "agent" | "agents")) {
        return None;
    }
    BANNED
        .iter()
        .find(|(words, _)| words.contains(&segment))
        .map(|(_, advice)| *advice)
}

fn excepted(file: &str, segment: &str, line: &str) -> bool {
    EXCEPTIONS.iter().any(|(folder, word, beside, reason)| {
        !reason.is_empty() && file.starts_with(folder) && segment.starts_with(word) && line.contains(beside)
    })
}

/// `process` names a function, is called, or is done to something that is not personal data.
fn is_verb(text: &str, at: usize, word: &str) -> bool {
    let before = text[..at].trim_end();
    let after = &text[at + word.len()..];
    if before.ends_with("fn") || (before.ends_with('.') && after.starts_with('(')) {
        return true;
    }
    let is_comment_verb = ["to", "we", "must", "can", "will", "and"]
        .iter()
        .any(|w| before.ends_with(&format!(" {w}")));
    word == "process" && is_comment_verb && !after.trim_start().starts_with("personal")
}

/// The word that follows after a space, dash or underscore.
fn following(text: &str, at: usize) -> Option<String> {
    let rest = &text[at..];
    let rest = rest.strip_prefix([' ', '-'])?;
    words(rest)
        .next()
        .filter(|(n, _)| *n == 0)
        .and_then(|(_, word)| segments(word).first().cloned())
}

/// Lower-case parts of an identifier: `FooBar_baz` is foo, bar, baz.
fn segments(word: &str) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    let mut lower = true;
    for c in word.chars() {
        if c == '_' {
            out.push(String::new());
        } else {
            let begins = c.is_ascii_uppercase() && lower;
            match out.last_mut() {
                Some(last) if !begins => last.push(c.to_ascii_lowercase()),
                _ => out.push(c.to_ascii_lowercase().to_string()),
            }
        }
        lower = c.is_ascii_lowercase() || c.is_ascii_digit();
    }
    out.retain(|part| !part.is_empty());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(file: &str, text: &str) -> Vec<String> {
        check(file, &Source::new(text))
            .into_iter()
            .map(|v| v.what)
            .collect()
    }

    #[test]
    fn banned_words_are_found_in_identifiers_and_comments() {
        for planted in [
            "fn delete_row() {}",
            "struct PurgeAll;",
            "// runs the job",
            "/// A DSAR.",
            "let users = 1;",
            "// the user pressed it",
            "fn process_entry() {}",
            "log.process(entry);",
            "// ready to process the entry",
            "// a tombstone of grief",
        ] {
            assert_eq!(found("services/gateway/src/a.rs", planted).len(), 1, "{planted}");
        }
    }

    #[test]
    fn names_that_others_own_and_other_words_are_fine() {
        for fine in [
            "let s = \"DELETE FROM t\";",
            "// Kafka's delete.retention.ms",
            "let user_id = UserId::new(); // user id, user-id, user agent",
            "use std::process::Command;",
            "// why we process personal data",
            "// the jobless deleterious userland",
        ] {
            assert!(found("services/gateway/src/a.rs", fine).is_empty(), "{fine}");
        }
        assert!(found("services/log/src/a.rs", "// a tombstone").is_empty());
    }
}
