//! Rust text, taken apart as far as the rules need it: code, comments, string literals, functions, test regions and module declarations.

/// A Rust file taken apart. `code` and `comments` have the length and the lines of the text, with everything else blanked.
#[derive(Debug, Clone, Default)]
pub struct Source {
    /// The text as it is.
    pub text: String,
    /// Code only.
    pub code: String,
    /// Comments only.
    pub comments: String,
    /// String literals: offset of the first byte of the content, and the content as written.
    pub strings: Vec<(usize, String)>,
}

/// A function with a body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// First line, from 1.
    pub line: usize,
    /// Lines from `fn` to the closing brace.
    pub lines: usize,
    /// Offsets of the body.
    pub body: (usize, usize),
}

/// `mod name;`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Module {
    /// Its name.
    pub name: String,
    /// `#[path = "…"]`, where given.
    pub path: Option<String>,
    /// Whether it is there for tests only.
    pub test: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Code,
    Comment,
    Text,
    /// A character literal: blanked, a brace or quote in one must not count.
    Character,
}

impl Source {
    /// Takes a text apart.
    pub fn new(text: &str) -> Self {
        let bytes = text.as_bytes();
        let mut out = Self {
            text: text.to_owned(),
            ..Self::default()
        };
        let (mut code, mut comments) = (Vec::with_capacity(bytes.len()), Vec::with_capacity(bytes.len()));
        let mut at = 0;
        while at < bytes.len() {
            let (end, kind) = next(bytes, at);
            if kind == Kind::Text {
                let (from, to) = content(bytes, at, end);
                out.strings.push((from, text[from..to].to_owned()));
            }
            for &byte in &bytes[at..end] {
                let blank = if byte == b'\n' { b'\n' } else { b' ' };
                code.push(if kind == Kind::Code { byte } else { blank });
                comments.push(if kind == Kind::Comment { byte } else { blank });
            }
            at = end;
        }
        out.code = String::from_utf8_lossy(&code).into_owned();
        out.comments = String::from_utf8_lossy(&comments).into_owned();
        out
    }

    /// Line of an offset, from 1.
    pub fn line(&self, offset: usize) -> usize {
        self.text.as_bytes()[..offset.min(self.text.len())]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
            + 1
    }

    /// The text of a line, from 1.
    pub fn line_text(&self, line: usize) -> &str {
        self.text.lines().nth(line.saturating_sub(1)).unwrap_or_default()
    }

    /// Every function that has a body, also inside macros.
    pub fn functions(&self) -> Vec<Function> {
        let mut out = Vec::new();
        for (offset, word) in words(&self.code) {
            if word != "fn" {
                continue;
            }
            let Some((name_at, name)) = words(&self.code[offset + 2..]).next() else {
                continue;
            };
            // `fn(` is a type.
            if !self.code[offset + 2..offset + 2 + name_at].trim().is_empty() {
                continue;
            }
            if let Some((open, close)) = body(&self.code, offset + 2 + name_at + name.len()) {
                let line = self.line(offset);
                let lines = self.line(close) - line + 1;
                out.push(Function {
                    name: name.to_owned(),
                    line,
                    lines,
                    body: (open, close),
                });
            }
        }
        out
    }

    /// Offsets of everything that is compiled for tests only within this file.
    pub fn test_regions(&self) -> Vec<(usize, usize)> {
        let marker = "#[cfg(test)]";
        let found = self.code.match_indices(marker).map(|(at, _)| at);
        found
            .filter_map(|at| body(&self.code, at + marker.len()).map(|(_, close)| (at, close)))
            .collect()
    }

    /// Modules that live in files of their own.
    pub fn modules(&self) -> Vec<Module> {
        let mut out = Vec::new();
        let all: Vec<(usize, &str)> = words(&self.code).collect();
        for pair in all.windows(2) {
            let [(at, "mod"), (name_at, name)] = *pair else {
                continue;
            };
            if !self.code[name_at + name.len()..].trim_start().starts_with(';') {
                continue;
            }
            let from = self.code[..at].rfind([';', '{', '}']).map_or(0, |n| n + 1);
            let attributes = &self.code[from..at];
            let path = attributes
                .contains("path")
                .then(|| self.strings.iter().find(|(o, _)| (from..at).contains(o)));
            out.push(Module {
                name: name.to_owned(),
                path: path.flatten().map(|(_, text)| text.clone()),
                test: attributes.contains("cfg(test)"),
            });
        }
        out
    }
}

/// Identifiers and keywords with their offsets.
pub fn words(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let mut at = 0;
    std::iter::from_fn(move || {
        let from = at + text[at..].find(is_word)?;
        let to = text[from..]
            .find(|c| !is_word(c))
            .map_or(text.len(), |n| from + n);
        at = to;
        Some((from, &text[from..to]))
    })
}

/// Offsets of the braces of the item that follows; `None` where a semicolon comes first.
fn body(code: &str, from: usize) -> Option<(usize, usize)> {
    let bytes = code.as_bytes();
    let mut depth = 0_usize;
    let mut open = None;
    for (at, byte) in bytes.iter().enumerate().skip(from) {
        match (byte, open) {
            (b'(' | b'[', None) => depth += 1,
            (b')' | b']', None) => depth = depth.saturating_sub(1),
            (b';', None) if depth == 0 => return None,
            (b'{', None) if depth == 0 => {
                open = Some(at);
                depth = 1;
            }
            (b'{', Some(_)) => depth += 1,
            (b'}', Some(start)) => {
                depth -= 1;
                if depth == 0 {
                    return Some((start, at));
                }
            }
            _ => {}
        }
    }
    None
}

/// End and kind of the piece that begins here.
fn next(bytes: &[u8], at: usize) -> (usize, Kind) {
    let rest = &bytes[at..];
    if rest.starts_with(b"//") {
        let end = rest.iter().position(|b| *b == b'\n').unwrap_or(rest.len());
        return (at + end, Kind::Comment);
    }
    if rest.starts_with(b"/*") {
        return (at + block_comment(rest), Kind::Comment);
    }
    if rest[0] == b'"' {
        return (at + quoted(rest), Kind::Text);
    }
    if rest[0] == b'\'' {
        let end = character(rest);
        return (at + end, if end > 1 { Kind::Character } else { Kind::Code });
    }
    let starts_word = at == 0 || !is_word_byte(bytes[at - 1]);
    if starts_word && let Some(end) = prefixed(rest) {
        return (at + end, Kind::Text);
    }
    (at + 1, Kind::Code)
}

const fn is_word_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut depth, mut at) = (0, 0);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            (depth, at) = (depth + 1, at + 2);
        } else if rest[at..].starts_with(b"*/") {
            (depth, at) = (depth - 1, at + 2);
            if depth == 0 {
                return at;
            }
        } else {
            at += 1;
        }
    }
    rest.len()
}

fn quoted(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() {
        match rest[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    rest.len()
}

/// Length of a character literal; 1 where the quote begins a lifetime.
fn character(rest: &[u8]) -> usize {
    if rest.len() > 2 && rest[1] == b'\\' {
        let end = rest
            .iter()
            .skip(3)
            .position(|b| *b == b'\'')
            .map_or(rest.len(), |n| n + 4);
        return end.min(rest.len());
    }
    let end = rest
        .iter()
        .skip(2)
        .take(4)
        .position(|b| *b == b'\'')
        .map(|n| n + 3);
    match end {
        // One character, of up to four bytes, between the quotes.
        Some(end) if std::str::from_utf8(&rest[1..end - 1]).is_ok_and(|t| t.chars().count() == 1) => end,
        _ => 1,
    }
}

/// Raw, byte and C strings.
fn prefixed(rest: &[u8]) -> Option<usize> {
    let prefix = [&b"br"[..], b"cr", b"r", b"b", b"c"]
        .into_iter()
        .find(|p| rest.starts_with(p))?;
    let after = &rest[prefix.len()..];
    if !prefix.ends_with(b"r") {
        return (after.first() == Some(&b'"')).then(|| prefix.len() + quoted(after));
    }
    let hashes = after.iter().take_while(|b| **b == b'#').count();
    if after.get(hashes) != Some(&b'"') {
        return None;
    }
    let mut close = vec![b'"'];
    close.extend(std::iter::repeat_n(b'#', hashes));
    let begin = hashes + 1;
    let end = after[begin..]
        .windows(close.len())
        .position(|w| w == close)
        .map_or(after.len(), |n| begin + n + close.len());
    Some(prefix.len() + end)
}

/// Offsets of a literal's content, without prefix, hashes and quotes.
fn content(bytes: &[u8], at: usize, end: usize) -> (usize, usize) {
    let from = bytes[at..end]
        .iter()
        .position(|b| *b == b'"')
        .map_or(at, |n| at + n + 1);
    let to = bytes[from..end]
        .iter()
        .rposition(|b| *b == b'"')
        .map_or(end, |n| from + n);
    (from, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_comments_and_characters_are_told_apart() {
        let source = Source::new(
            "let a = \"x // no\"; // yes { \n/* also /* nested */ } */ let c = '\"'; let l: &'a str = r#\"q\"}\"#;",
        );
        let strings: Vec<&str> = source.strings.iter().map(|(_, s)| s.as_str()).collect();
        assert_eq!(strings, ["x // no", "q\"}"]);
        assert!(
            source.comments.contains("yes")
                && source.comments.contains("nested")
                && !source.comments.contains("no")
        );
        assert!(source.code.contains("let c") && !source.code.contains("yes") && !source.code.contains('}'));
        assert_eq!(
            (source.code.len(), source.comments.len()),
            (source.text.len(), source.text.len())
        );
    }

    #[test]
    fn functions_are_measured_whatever_their_text_holds() {
        let source = Source::new(
            "fn a(x: fn(u8) -> u8) -> [u8; 2] {\n  let s = \"}\";\n  let c = '}';\n  [1, 2]\n}\nfn b();\ntrait T { fn c(&self) { } }",
        );
        let found: Vec<(String, usize)> = source
            .functions()
            .into_iter()
            .map(|f| (f.name, f.lines))
            .collect();
        assert_eq!(found, [("a".to_owned(), 5), ("c".to_owned(), 1)]);
    }

    #[test]
    fn modules_and_test_regions_are_found() {
        let source = Source::new(
            "mod a;\n#[cfg(test)]\nmod b;\n#[path = \"x.rs\"]\nmod c;\nmod d { fn e() {} }\n#[cfg(test)]\nmod t { fn u() {} }\nfn v() {}",
        );
        let modules = source.modules();
        assert_eq!(modules.len(), 3);
        assert!(!modules[0].test && modules[1].test);
        assert_eq!(modules[2].path.as_deref(), Some("x.rs"));
        let regions = source.test_regions();
        let last = regions.last().unwrap();
        assert!(
            source.code[last.0..last.1].contains("fn u") && !source.code[last.0..last.1].contains("fn v")
        );
    }
}
