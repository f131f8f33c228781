//! Text that must not be committed: promises to do it later, and places that exist on one machine only.

use crate::Violation;

/// Text with what is wrong about it. Written in halves, so that this file does not break its own rule.
const BANNED: [(&str, &str, &str); 10] = [
    ("TO", "DO", "open an issue or do it"),
    ("FIX", "ME", "open an issue or fix it"),
    ("XX", "X", "open an issue or do it"),
    ("HA", "CK", "say what it does and why"),
    ("/wo", "rk/", "a path of one machine"),
    ("/ro", "ot/", "a path of one machine"),
    ("/ho", "me/", "a path of one machine"),
    ("../sha", "red", "a path outside the repository"),
    (".py", "env", "a path of one machine"),
    ("/Us", "ers/", "a path of one machine"),
];

/// Banned marks in a text file.
pub fn check(file: &str, text: &str) -> Vec<Violation> {
    let mut out = Vec::new();
    for (number, line) in text.lines().enumerate() {
        for (first, second, advice) in BANNED {
            let mark = format!("{first}{second}");
            if found(line, &mark) {
                out.push(Violation::new(
                    file,
                    number + 1,
                    "marks",
                    format!("`{mark}`: {advice}"),
                ));
            }
        }
    }
    out
}

/// Whether the mark stands there, words as whole words.
fn found(line: &str, mark: &str) -> bool {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let word = mark.chars().all(|c| c.is_ascii_uppercase());
    line.match_indices(mark).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + mark.len()..].chars().next();
        !word || (!before.is_some_and(is_word) && !after.is_some_and(is_word))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_and_machine_paths_are_found() {
        let planted = format!(
            "fine\n// {}: later\nlet p = \"{}me\";\n",
            "TO".to_owned() + "DO",
            "/ho".to_owned() + "me/"
        );
        let lines: Vec<usize> = check("x.rs", &planted).iter().map(|v| v.line).collect();
        assert_eq!(lines, [2, 3]);
        assert!(check("x.rs", "METHODTODOS and mktemp XXXXXX").is_empty());
    }
}
