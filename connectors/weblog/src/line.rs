//! Reading one line: nginx and Apache, common, combined and with the virtual host in front, trailing extra fields tolerated.
//!
//! Both servers escape quotes in what comes from outside (nginx `\x22`, Apache `\"`), so the first bare quote begins the request and what stands
//! before it ends with the time in brackets, whatever a remote user calls itself.

use std::net::IpAddr;
use std::ops::Range;

/// Length of the time in its brackets: `[24/Nov/2026:11:40:00 +0000]`.
const TIME_LEN: usize = 28;

/// How many closing brackets are tried as the end of the time: one of an address and one of a name may stand before it.
const BRACKETS_MAX: usize = 4;
/// What makes a line of its beginning up to the time.
const REST: &[u8] = b" \"GET / HTTP/1.1\" 200 0";

/// How often percent signs and backslashes may take turns.
const FLAT_ROUNDS_MAX: usize = 16;

/// A line that fits a format, as ranges of its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Address or host name of the client.
    pub(crate) client: Range<usize>,
    /// What the client's own machine calls its user (RFC 1413); `-` nearly always.
    pub(crate) ident: Range<usize>,
    /// Remote user; `-` where there is none.
    pub(crate) user: Range<usize>,
    /// Calendar day of the line's own clock, as `2026-11-24`.
    pub(crate) day: String,
    /// Time as written, without the brackets.
    pub(crate) time: Range<usize>,
    /// Request, without its quotes.
    pub(crate) request: Range<usize>,
    /// Where the target stands in the line: the middle of the request, or all of it where it is no HTTP.
    pub(crate) target: Range<usize>,
    /// Status.
    pub(crate) status: Range<usize>,
    /// Referrer and agent, where the format has them.
    pub(crate) referrer: Option<Range<usize>>,
    /// Agent.
    pub(crate) agent: Option<Range<usize>>,
    /// Values of further fields, without their quotes.
    pub(crate) further: Vec<Range<usize>>,
}

/// Takes a line apart; `None` where it fits no format. The line comes without its end.
pub(crate) fn parse(line: &[u8]) -> Option<Parsed> {
    let quote = line.iter().position(|b| *b == b'"')?;
    let head = line[..quote].strip_suffix(b" ")?;
    let open = head.len().checked_sub(TIME_LEN)?;
    let day = day_of(&head[open..])?;
    let (client, ident, user) = client_and_user(head[..open].strip_suffix(b" ")?)?;
    let request = quoted(line, quote)?;
    let (status, mut rest) = status_and_size(line, request.end + 1)?;
    let mut fields = [None, None];
    for field in &mut fields {
        if line.get(rest..rest + 2) != Some(b" \"".as_slice()) {
            break;
        }
        let range = quoted(line, rest + 1)?;
        rest = range.end + 1;
        *field = Some(range);
    }
    if !matches!(line.get(rest), None | Some(b' ')) {
        return None;
    }
    let [referrer, agent] = fields;
    let target = target_of(line, &request);
    Some(Parsed {
        client,
        ident,
        user,
        day,
        time: open + 1..open + TIME_LEN - 1,
        request,
        target,
        status,
        referrer,
        agent,
        further: further(line, rest),
    })
}

/// Where the remote user stands in a line of which only the beginning fits a format.
pub(crate) fn user_of(line: &[u8]) -> Option<Range<usize>> {
    let closing = memchr::memchr_iter(b']', line).take(BRACKETS_MAX);
    let mut heads = closing.map(|at| &line[..=at]);
    heads.find_map(|head| Some(parse(&[head, REST].concat())?.user))
}

/// Values from a byte on, up to the end: quoted ones, and words.
fn further(line: &[u8], mut at: usize) -> Vec<Range<usize>> {
    let mut values = Vec::new();
    while let Some(byte) = line.get(at) {
        let value = match byte {
            b' ' => {
                at += 1;
                continue;
            }
            b'"' => quoted(line, at).unwrap_or(at + 1..line.len()),
            _ => {
                let end = line[at..].iter().position(|b| *b == b' ');
                at..end.map_or(line.len(), |n| at + n)
            }
        };
        at = value.end + usize::from(*byte == b'"');
        values.push(value);
    }
    values
}

/// What stands between the quote at `open` and the next bare one.
fn quoted(line: &[u8], open: usize) -> Option<Range<usize>> {
    let start = open + 1;
    let mut at = start;
    loop {
        match line.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(start..at),
            _ => at += 1,
        }
    }
}

fn client_and_user(head: &[u8]) -> Option<(Range<usize>, Range<usize>, Range<usize>)> {
    let is_ip = |range: &Range<usize>| ip_of(&head[range.clone()]).is_some();
    let word = |from: usize| {
        let end = head
            .get(from..)?
            .iter()
            .position(|b| *b == b' ')
            .map_or(head.len(), |n| from + n);
        (end > from).then_some(from..end)
    };
    let mut client = word(0)?;
    // vhost_combined puts `name:port` in front.
    if !is_ip(&client)
        && let Some(second) = word(client.end + 1)
        && is_ip(&second)
    {
        client = second;
    }
    let ident = word(client.end + 1)?;
    let user = ident.end + 1..head.len();
    // A remote user may hold spaces: it is all that is left.
    (user.start < user.end).then_some((client, ident, user))
}

fn status_and_size(line: &[u8], at: usize) -> Option<(Range<usize>, usize)> {
    let number = |from: usize| {
        let digits = line
            .get(from..)?
            .iter()
            .take_while(|b| b.is_ascii_digit() || **b == b'-')
            .count();
        (digits > 0).then_some(from..from + digits)
    };
    let space = |from: usize| (line.get(from) == Some(&b' ')).then_some(from + 1);
    let status = number(space(at)?)?;
    let size = number(space(status.end)?)?;
    Some((status, size.end))
}

fn target_of(line: &[u8], request: &Range<usize>) -> Range<usize> {
    let text = &line[request.clone()];
    let first = text.iter().position(|b| *b == b' ');
    let last = text.iter().rposition(|b| *b == b' ');
    match (first, last) {
        (Some(first), Some(last)) if text[last + 1..].starts_with(b"HTTP/") && first < last => {
            request.start + first + 1..request.start + last
        }
        (Some(first), _) if text[..first].iter().all(u8::is_ascii_uppercase) && first > 0 => {
            request.start + first + 1..request.end
        }
        _ => request.clone(),
    }
}

/// The day of `[24/Nov/2026:11:40:00 +0000]`.
fn day_of(time: &[u8]) -> Option<String> {
    const MONTHS: [&[u8]; 12] = [
        b"Jan", b"Feb", b"Mar", b"Apr", b"May", b"Jun", b"Jul", b"Aug", b"Sep", b"Oct", b"Nov", b"Dec",
    ];
    let digits = |range: Range<usize>| time[range].iter().all(u8::is_ascii_digit);
    let shape = time.len() == TIME_LEN
        && (time[0], time[3], time[7], time[12], time[21], time[27]) == (b'[', b'/', b'/', b':', b' ', b']')
        && digits(1..3)
        && digits(8..12)
        && digits(13..15);
    if !shape {
        return None;
    }
    let month = MONTHS.iter().position(|m| m.eq_ignore_ascii_case(&time[4..7]))? + 1;
    let (day, year) = (
        std::str::from_utf8(&time[1..3]).ok()?,
        std::str::from_utf8(&time[8..12]).ok()?,
    );
    Some(format!("{year}-{month:02}-{day}"))
}

/// An address, however it is written.
pub(crate) fn ip_of(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?.trim();
    let text = text
        .strip_prefix('[')
        .and_then(|t| t.strip_suffix(']'))
        .unwrap_or(text);
    // A zone (fe80::1%eth0) names an interface, not a client.
    let text = text.split('%').next()?;
    Some(text.parse::<IpAddr>().ok()?.to_canonical())
}

/// Takes back what the servers escape: `\xhh` of both, `\"`, `\\` and the letters of Apache.
pub(crate) fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut at = 0;
    while let Some(&byte) = text.get(at) {
        let (value, len) = match (byte, text.get(at + 1)) {
            (b'\\', Some(b'x')) => match text.get(at + 2..at + 4).and_then(hex_byte) {
                Some(value) => (value, 4),
                None => (byte, 1),
            },
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b'b')) => (0x08, 2),
            (b'\\', Some(b'v')) => (0x0b, 2),
            (b'\\', Some(quote @ (b'"' | b'\\'))) => (*quote, 2),
            _ => (byte, 1),
        };
        out.push(value);
        at += len;
    }
    out
}

/// One round of percent-decoding; `None` where it changes nothing.
pub(crate) fn percent_decoded(text: &[u8]) -> Option<Vec<u8>> {
    let (mut out, mut from, mut changed) = (Vec::new(), 0, false);
    for at in memchr::memchr_iter(b'%', text) {
        if at < from {
            continue;
        }
        let Some(byte) = text.get(at + 1..at + 3).and_then(hex_byte) else {
            continue;
        };
        if !changed {
            out.reserve(text.len());
        }
        out.extend_from_slice(&text[from..at]);
        out.push(byte);
        (from, changed) = (at + 3, true);
    }
    if !changed {
        return None;
    }
    out.extend_from_slice(&text[from..]);
    Some(out)
}

/// Percent-decoded until nothing changes any more, however deep, in one pass: no two escapes overlap, so that the order in which they are taken back
/// does not matter.
pub(crate) fn percent_flat(text: &[u8]) -> Vec<u8> {
    let Some(first) = memchr::memchr(b'%', text) else {
        return text.to_vec();
    };
    let mut out: Vec<u8> = Vec::with_capacity(text.len());
    out.extend_from_slice(&text[..first]);
    for byte in &text[first..] {
        out.push(*byte);
        while let Some((b'%', digits)) = out.last_chunk::<3>().and_then(|last| last.split_first())
            && let Some(byte) = hex_byte(digits)
        {
            out.truncate(out.len() - 3);
            out.push(byte);
        }
    }
    out
}

/// The text without the escapes of JSON and the like in it, percent signs and `\uXXXX` in any order; with `letters` also without `\n`, `\t` and so on,
/// which may as well be the begin of a name behind a backslash. Zero bytes that were escaped are nothing.
pub(crate) fn flat(text: &[u8], letters: bool) -> Vec<u8> {
    let zeros = memchr::memchr(0, text).is_some();
    let mut text = percent_flat(text);
    for _ in 0..FLAT_ROUNDS_MAX {
        let Some(next) = without_backslashes(&text, letters) else {
            break;
        };
        text = percent_flat(&next);
    }
    if !zeros {
        text.retain(|b| *b != 0);
    }
    text
}

/// One round without backslashes: as many of them as stand in a row belong to one escape that was escaped again. `None` where it changes nothing.
fn without_backslashes(text: &[u8], letters: bool) -> Option<Vec<u8>> {
    let (mut out, mut from, mut changed) = (Vec::new(), 0, false);
    // A run of backslashes is counted once.
    let mut behind = 0;
    for at in memchr::memchr_iter(b'\\', text) {
        if at < from.max(behind) {
            continue;
        }
        behind = at + text[at..].iter().take_while(|b| **b == b'\\').count();
        let (value, len) = match text.get(behind) {
            Some(b'u') => match text.get(behind + 1..behind + 5).and_then(letter_of) {
                Some(letter) => (letter, 5),
                None => continue,
            },
            Some(b'n' | b'r' | b't' | b'b' | b'f' | b'v') if letters => (' ', 1),
            Some(sign @ (b'"' | b'/')) => (*sign as char, 1),
            _ => continue,
        };
        out.extend_from_slice(&text[from..at]);
        out.extend_from_slice(value.encode_utf8(&mut [0; 4]).as_bytes());
        (from, changed) = (behind + len, true);
    }
    out.extend_from_slice(&text[from..]);
    changed.then_some(out)
}

/// The letter of four digits; half of one beyond the first 65,536 stands for itself, and in no address.
fn letter_of(digits: &[u8]) -> Option<char> {
    let (high, low) = (hex_byte(&digits[..2])?, hex_byte(&digits[2..])?);
    Some(char::from_u32(u32::from(high) << 8 | u32::from(low)).unwrap_or(' '))
}

fn hex_byte(digits: &[u8]) -> Option<u8> {
    let digit = |b: u8| (b as char).to_digit(16);
    u8::try_from(digit(digits[0])? * 16 + digit(digits[1])?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown<'a>(line: &'a [u8], range: &Range<usize>) -> &'a str {
        std::str::from_utf8(&line[range.clone()]).unwrap()
    }

    fn check(line: &str, client: &str, user: &str, target: &str, agent: Option<&str>) {
        let bytes = line.as_bytes();
        let parsed = parse(bytes).unwrap_or_else(|| panic!("{line}"));
        assert_eq!(shown(bytes, &parsed.client), client, "{line}");
        assert_eq!(shown(bytes, &parsed.user), user, "{line}");
        assert_eq!(shown(bytes, &parsed.target), target, "{line}");
        assert_eq!(parsed.agent.as_ref().map(|a| shown(bytes, a)), agent, "{line}");
        assert_eq!(parsed.day, "2026-11-24", "{line}");
        assert_eq!(shown(bytes, &parsed.time), "24/Nov/2026:11:40:00 +0000");
    }

    #[test]
    fn common_combined_and_virtual_hosts_are_read_with_escapes_and_extra_fields() {
        const TIME: &str = "[24/Nov/2026:11:40:00 +0000]";
        check(
            &format!(r#"203.0.113.7 - - {TIME} "GET / HTTP/1.1" 200 5"#),
            "203.0.113.7",
            "-",
            "/",
            None,
        );
        check(
            &format!(r#"::1 - ada {TIME} "GET /a b HTTP/1.0" 404 - "-" "A\x22b" "c=1" 0.02"#),
            "::1",
            "ada",
            "/a b",
            Some(r"A\x22b"),
        );
        check(
            &format!(r#"shop.example:443 10.0.0.1 - a b {TIME} "POST /x" 200 5 "r" "q\"\\""#),
            "10.0.0.1",
            "a b",
            "/x",
            Some(r#"q\"\\"#),
        );
        check(
            &format!(r#"host.example - - {TIME} "\x16\x03" 400 157 "-" "-""#),
            "host.example",
            "-",
            r"\x16\x03",
            Some("-"),
        );
        check(
            &format!(r#"1.1.1.1 - x [y] {TIME} "-" 408 0 "-" "-""#),
            "1.1.1.1",
            "x [y]",
            "-",
            Some("-"),
        );
    }

    #[test]
    fn what_fits_no_format_is_not_guessed_at() {
        for line in [
            "",
            "-",
            "\"",
            "1.1.1.1 - - [24/Nov/2026:11:40:00 +0000] \"GET /docs",
            "1.1.1.1 - - [today] \"GET / HTTP/1.1\" 200 5",
            "2026/10/07 03:12:55 [warn] 811#811: \"x\"",
            "1.1.1.1 - - [24/Nov/2026:11:40:00 +0000] \"GET / HTTP/1.1\" 200 5x",
        ] {
            assert_eq!(parse(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn escapes_of_both_servers_are_taken_back() {
        assert_eq!(
            unescape(br#"a\x22b\x5Cc\"d\\e\t\q\x4"#),
            b"a\"b\\c\"d\\e\t\\q\\x4"
        );
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(line: Vec<u8>) {
            let _ = parse(&line);
            let _ = unescape(&line);
        }

        #[test]
        fn a_round_of_percent_decoding_is_that_of_the_standard(text in "(%|%[0-9a-fA-Fg]|%25|[a-z0-9]){0,20}") {
            let standard: Vec<u8> = percent_encoding::percent_decode(text.as_bytes()).collect();
            let decoded = percent_decoded(text.as_bytes());
            proptest::prop_assert_eq!(decoded.is_none(), standard == text.as_bytes());
            proptest::prop_assert_eq!(decoded.unwrap_or_else(|| text.clone().into_bytes()), standard);
        }

        #[test]
        fn decoding_in_one_pass_ends_where_round_after_round_does(text in "(%|%[0-9a-fA-Fg]|%25|[a-f0-9]){0,30}") {
            let mut rounds = text.clone().into_bytes();
            while let Some(next) = percent_decoded(&rounds) {
                rounds = next;
            }
            proptest::prop_assert_eq!(percent_flat(text.as_bytes()), rounds);
        }

        #[test]
        fn what_a_client_sends_cannot_move_the_fields(user in "[^\"\\\\\n ][^\"\\\\\n]{0,20}", target in "[^\"\\\\\n ]{1,20}", agent in "[^\"\\\\\n]{0,20}") {
            let line = format!(r#"10.0.0.1 - {user} [24/Nov/2026:11:40:00 +0000] "GET {target} HTTP/1.1" 200 5 "-" "{agent}""#);
            let parsed = parse(line.as_bytes()).unwrap();
            proptest::prop_assert_eq!(shown(line.as_bytes(), &parsed.user), user);
            proptest::prop_assert_eq!(shown(line.as_bytes(), &parsed.target), target);
            proptest::prop_assert_eq!(shown(line.as_bytes(), &parsed.agent.unwrap()), agent);
        }
    }
}
