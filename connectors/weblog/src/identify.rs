//! Which identifiers a line holds.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use lethe_terms::{Identifier, IdentifierKind, IssuedKind};

use crate::config::{Config, IpMode, PathPart, PathTemplate};
use crate::error::Error;
use crate::line;
use crate::record::Reading;

/// How often the escapes of an address are taken back one by one: an address inside an address inside a parameter takes three.
pub(crate) const DECODE_ROUNDS_MAX: usize = 4;
/// Longest e-mail address (RFC 5321: a path of 256 with its brackets).
const EMAIL_BYTES_MAX: usize = 254;
/// What may stand in the part before the @ beside letters, digits and dots (RFC 5322, 3.2.3).
const ATEXT: &str = "!#$%&'*+-/=?^_`{|}~";
/// Shortest value that is looked for outside the fields that are known to carry it: a shorter one, such as a number, would hit by chance.
pub(crate) const TOKEN_BYTES_MIN: usize = 6;
/// Longest value of another kind: longer ones are no ids.
const VALUE_BYTES_MAX: usize = 256;

/// What the configuration says about identifiers.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    user_kind: IssuedKind,
    parameters: BTreeMap<String, IssuedKind>,
    templates: Vec<PathTemplate>,
    ip: IpMode,
    /// What fields, parameters and paths may carry.
    kinds: BTreeSet<IssuedKind>,
}

impl Rules {
    /// The rules of a checked configuration.
    pub(crate) fn new(config: &Config) -> Result<Self, Error> {
        let templates = config.templates()?;
        let parts = templates.iter().flat_map(|template| &template.0);
        let in_paths = parts.filter_map(|part| match part {
            PathPart::Holds(kind) => Some(kind),
            PathPart::Is(_) | PathPart::Any => None,
        });
        let kinds = config.query_identifiers.values().chain([&config.user_kind]);
        Ok(Self {
            kinds: kinds.chain(in_paths).cloned().collect(),
            user_kind: config.user_kind.clone(),
            parameters: config.query_identifiers.clone(),
            templates,
            ip: config.ip,
        })
    }

    /// Whether a field, parameter or path may carry such an identifier.
    pub(crate) fn yields(&self, one: &Identifier) -> bool {
        self.kinds.iter().any(|kind| kind.covers(one))
    }

    /// Kinds by which a log can be searched. Ids of a kind of which other issuers are named, and the company itself is not, are theirs alone.
    pub(crate) fn locates_by(&self) -> Vec<IssuedKind> {
        let is_read = |kind| self.kinds.iter().any(|one| one.kind() == kind);
        let all = IdentifierKind::ALL.iter().copied();
        let anywhere = all.filter(|kind| !is_read(*kind)).map(IssuedKind::from);
        anywhere.chain(self.kinds.iter().cloned()).collect()
    }

    /// Whether a value counts as a word of its own anywhere in a line: not where ids of several issuers may stand in it.
    pub(crate) fn is_word(&self, one: &Identifier) -> bool {
        distinctive(one) && !self.has_several_issuers(one.kind)
    }

    /// Whether fields, parameters and paths carry ids of this kind by several issuers.
    pub(crate) fn has_several_issuers(&self, kind: IdentifierKind) -> bool {
        self.kinds.iter().filter(|one| one.kind() == kind).count() > 1
    }

    /// Reads a line without its end.
    pub(crate) fn read(&self, line: &[u8]) -> Reading {
        let parsed = line::parse(line);
        let mut found = BTreeSet::new();
        if let Some(parsed) = &parsed {
            self.client(&line[parsed.client.clone()], &mut found);
            self.user(&line[parsed.user.clone()], &mut found);
            self.address(&line[parsed.target.clone()], &mut found);
            if let Some(referrer) = &parsed.referrer {
                self.address(&line[referrer.clone()], &mut found);
            }
            let fields = [
                Some(&parsed.request),
                parsed.referrer.as_ref(),
                parsed.agent.as_ref(),
            ];
            for field in fields.into_iter().flatten().chain(&parsed.further) {
                self.words(&line[field.clone()], &mut found);
            }
        } else {
            self.running(line, &mut found);
        }
        let whole: BTreeSet<String> = found
            .iter()
            .filter(|one| one.kind == IdentifierKind::Email && is_unusual(&one.value))
            .map(|one| one.value.clone())
            .collect();
        self.emails(line, &whole, &mut found);
        Reading {
            parsed,
            identifiers: found,
        }
    }

    fn client(&self, client: &[u8], found: &mut BTreeSet<Identifier>) {
        let Some(ip) = line::ip_of(client) else { return };
        let abbreviated = self.ip == IpMode::Abbreviated && abbreviated(ip) == ip;
        let kind = if abbreviated {
            IdentifierKind::IpAbbreviated
        } else {
            IdentifierKind::Ip
        };
        found.insert(Identifier::new(kind, ip.to_string()));
    }

    pub(crate) fn user(&self, user: &[u8], found: &mut BTreeSet<Identifier>) {
        if user != b"-" && user != b"\"\"" {
            found.extend(identifier(&self.user_kind, &line::unescape(user)));
        }
    }

    pub(crate) fn parameter_in(&self, part: &[u8], found: &mut BTreeSet<Identifier>) {
        if let Some((kind, value)) = self.parameter(part) {
            found.extend(identifier(kind, &value));
        }
    }

    /// Identifiers in the parameters and the path of a request or referrer, however deep one address is wrapped in another.
    fn address(&self, text: &[u8], found: &mut BTreeSet<Identifier>) {
        let mut text = line::unescape(text);
        self.path(&text, found);
        for round in 0..=DECODE_ROUNDS_MAX {
            let Some(query) = text.iter().position(ends_part) else {
                break;
            };
            for part in text[query + 1..].split(ends_part) {
                self.parameter_in(part, found);
            }
            // Deeper than that nobody sees where a value ends: what is left is read as if it were flat.
            let next = if round + 1 < DECODE_ROUNDS_MAX {
                line::percent_decoded(&text)
            } else {
                Some(line::percent_flat(&text)).filter(|flat| *flat != text)
            };
            let Some(next) = next else { break };
            text = next;
        }
    }

    /// The identifier that a part such as `email=ada%40example.org` carries.
    fn parameter(&self, part: &[u8]) -> Option<(&IssuedKind, Vec<u8>)> {
        let equals = part.iter().position(|b| *b == b'=')?;
        let name = String::from_utf8(line::percent_flat(&part[..equals]))
            .ok()?
            .to_lowercase();
        let kind = self.parameters.get(name.trim())?;
        let value = &part[equals + 1..];
        // A plus is a space in a form, but belongs to the address in a mail or telephone number typed by hand.
        let value = match kind.kind() {
            // No address that somebody typed begins with one.
            IdentifierKind::Email => {
                line::percent_flat(&value[value.iter().take_while(|b| **b == b'+').count()..])
            }
            IdentifierKind::Phone => line::percent_flat(value),
            _ => line::percent_flat(&spaced(value)),
        };
        Some((kind, value))
    }

    fn is_mail_parameter(&self, part: &[u8]) -> bool {
        self.parameter(part)
            .is_some_and(|(kind, _)| kind.kind() == IdentifierKind::Email)
    }

    pub(crate) fn path(&self, text: &[u8], found: &mut BTreeSet<Identifier>) {
        if self.templates.is_empty() {
            return;
        }
        let path = text
            .split(|b| matches!(b, b'?' | b'#'))
            .next()
            .unwrap_or_default();
        let start = match path.windows(3).position(|w| w == b"://") {
            Some(scheme) => path[scheme + 3..]
                .iter()
                .position(|b| *b == b'/')
                .map(|n| scheme + 3 + n),
            None => path.iter().position(|b| *b == b'/'),
        };
        let Some(start) = start else { return };
        let segments: Vec<Vec<u8>> = path[start + 1..]
            .split(|b| *b == b'/')
            .map(line::percent_flat)
            .collect();
        for PathTemplate(parts) in &self.templates {
            let fits = parts.len() <= segments.len()
                && parts.iter().zip(&segments).all(|(part, segment)| match part {
                    PathPart::Is(text) => text.as_bytes() == segment,
                    PathPart::Any | PathPart::Holds(_) => true,
                });
            for (part, segment) in parts.iter().zip(&segments).filter(|_| fits) {
                if let PathPart::Holds(kind) = part {
                    found.extend(identifier(kind, segment));
                }
            }
        }
    }

    /// Whatever looks like an e-mail address, anywhere in the line; what a field is `whole` is read the same way wherever it stands.
    fn emails(&self, line: &[u8], whole: &BTreeSet<String>, found: &mut BTreeSet<Identifier>) {
        if !line.iter().any(|b| matches!(b, b'@' | b'%' | b'\\')) {
            return;
        }
        let text = line::unescape(line);
        free(&text, whole, found);
        if !text.contains(&b'+') {
            return;
        }
        // A plus that nobody escaped may be a space or part of the address: outside a mail parameter both readings count.
        for part in text.split(|b| matches!(b, b'?' | b'&' | b';' | b'#' | b'"' | b' ')) {
            if part.contains(&b'+') && !self.is_mail_parameter(part) {
                free(&spaced(part), whole, found);
            }
        }
    }
}

/// What ends a parameter.
pub(crate) const fn ends_part(b: &u8) -> bool {
    matches!(b, b'?' | b'&' | b';' | b'#')
}

/// An identifier that an instruction names, in its one spelling; `None` where no line can be searched for it, which is not to say that none holds it.
pub(crate) fn sought(one: &Identifier) -> Option<Identifier> {
    let text = one.value.trim();
    if one.kind != IdentifierKind::Email {
        let kind = one.issued_kind();
        let long = || Some(kind.with(text)).filter(distinctive);
        return identifier(&kind, text.as_bytes()).or_else(long);
    }
    let (local, domain) = text.rsplit_once('@')?;
    let is_mail = !local.is_empty() && !domain.is_empty() && text.len() <= EMAIL_BYTES_MAX;
    is_mail.then(|| Identifier::new(one.kind, text.to_lowercase()))
}

/// Whether a value is unlikely to stand in a line by chance. E-mails are found by their form anyway.
pub(crate) fn distinctive(one: &Identifier) -> bool {
    let value = one.value.as_bytes();
    !matches!(
        one.kind,
        IdentifierKind::Email | IdentifierKind::Ip | IdentifierKind::IpAbbreviated
    ) && value.len() >= TOKEN_BYTES_MIN
        && value.iter().all(token_byte)
        && value.iter().any(u8::is_ascii_digit)
        && value.iter().any(u8::is_ascii_alphabetic)
}

/// What a distinctive value is made of.
pub(crate) const fn token_byte(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')
}

/// An identifier of this kind that a field of a line holds, in its one spelling; `None` where the value cannot be one.
pub(crate) fn identifier(kind: &IssuedKind, value: &[u8]) -> Option<Identifier> {
    let text = String::from_utf8_lossy(value);
    let text = text.trim();
    if text.is_empty() || text == "-" || text.len() > VALUE_BYTES_MAX {
        return None;
    }
    let value = match kind.kind() {
        IdentifierKind::Email => address_of(std::str::from_utf8(value).ok()?)?,
        IdentifierKind::Phone => {
            let digits: String = text.chars().filter(char::is_ascii_digit).collect();
            let plus = if text.starts_with('+') { "+" } else { "" };
            (!digits.is_empty()).then(|| format!("{plus}{digits}"))?
        }
        IdentifierKind::Ip => line::ip_of(text.as_bytes())?.to_string(),
        IdentifierKind::IpAbbreviated => {
            let network = text.split('/').next().unwrap_or(text);
            abbreviated(line::ip_of(network.as_bytes())?).to_string()
        }
        _ => text.to_owned(),
    };
    Some(kind.with(value))
}

/// The network part of an address: /24 of IPv4, /48 of IPv6.
fn abbreviated(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            Ipv4Addr::new(a, b, c, 0).into()
        }
        IpAddr::V6(v6) => {
            let [a, b, c, ..] = v6.segments();
            Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).into()
        }
    }
}

fn spaced(text: &[u8]) -> Vec<u8> {
    text.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect()
}

/// The address that a text is, whole, in lower case; `None` where it is none or holds more. Quotes around it are none of it.
fn address_of(text: &str) -> Option<String> {
    let text = text.trim().trim_matches(['\'', '`']);
    let (local, host) = text.rsplit_once('@')?;
    let of_local = |c: char| c.is_ascii_alphanumeric() || ATEXT.contains(c) || c == '.' || !c.is_ascii();
    let is_dotted = local.split('.').all(|atom| !atom.is_empty());
    let is_whole =
        is_dotted && local.chars().all(of_local) && host.bytes().all(|b| of_host(&b)) && is_host(host);
    (is_whole && text.len() < EMAIL_BYTES_MAX).then(|| text.to_lowercase())
}

/// Whether an address reads otherwise, or not at all, where nothing says where it begins.
pub(crate) fn is_unusual(address: &str) -> bool {
    let mut found = BTreeSet::new();
    emails_in(address.as_bytes(), &BTreeSet::new(), &mut found);
    found.len() != 1 || found.first().is_none_or(|one| one.value != address)
}

const fn of_host(b: &u8) -> bool {
    b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-') || !b.is_ascii()
}

fn is_host(host: &str) -> bool {
    !host.starts_with(['.', '-'])
        && host
            .rsplit_once('.')
            .is_some_and(|(_, top)| top.len() >= 2 && !top.bytes().all(|b| b.is_ascii_digit()))
}

/// Addresses by their form, however they are escaped.
fn free(text: &[u8], whole: &BTreeSet<String>, found: &mut BTreeSet<Identifier>) {
    let flat = line::flat(text, false);
    emails_in(&flat, whole, found);
    if flat.contains(&b'\\') {
        emails_in(&line::flat(text, true), whole, found);
    }
}

/// Addresses by their form. One that ends one of the `whole` where that stands is this one.
fn emails_in(text: &[u8], whole: &BTreeSet<String>, found: &mut BTreeSet<Identifier>) {
    let lengths: BTreeSet<usize> = whole.iter().map(String::len).collect();
    let local =
        |b: &u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-' | b'+' | b'\'') || !b.is_ascii();
    for at in (0..text.len()).filter(|at| text[*at] == b'@') {
        let start = at
            - text[..at]
                .iter()
                .rev()
                .take(EMAIL_BYTES_MAX)
                .take_while(|b| local(b))
                .count();
        let end = at
            + 1
            + text[at + 1..]
                .iter()
                .take(EMAIL_BYTES_MAX)
                .take_while(|b| of_host(b))
                .count();
        let (Some(name), Some(host)) = (utf8_end(&text[start..at]), utf8_start(&text[at + 1..end])) else {
            continue;
        };
        let name = name.trim_start_matches(['.', '\'', '-', '+']);
        let host = host.trim_end_matches(['.', '-']);
        let plausible = !name.is_empty() && is_host(host) && name.len() + host.len() < EMAIL_BYTES_MAX;
        let end = at + 1 + host.len();
        if plausible && !ends_one_of(whole, &lengths, &text[..end], name.len() + 1 + host.len()) {
            found.insert(Identifier::new(
                IdentifierKind::Email,
                format!("{name}@{host}").to_lowercase(),
            ));
        }
    }
}

/// Whether a text ends with one of these that is longer than `len`; `lengths` are theirs.
fn ends_one_of(whole: &BTreeSet<String>, lengths: &BTreeSet<usize>, text: &[u8], len: usize) -> bool {
    lengths.range(len + 1..).any(|longer| {
        let from = text.len().checked_sub(*longer);
        let end = from.and_then(|from| std::str::from_utf8(&text[from..]).ok());
        end.is_some_and(|end| whole.contains(&end.to_ascii_lowercase()))
    })
}

/// The readable end of bytes of which the beginning may be of another encoding.
fn utf8_end(bytes: &[u8]) -> Option<&str> {
    (0..bytes.len().max(1)).find_map(|from| std::str::from_utf8(bytes.get(from..)?).ok())
}

/// The readable beginning of bytes of which the end may be of another encoding.
fn utf8_start(bytes: &[u8]) -> Option<&str> {
    match std::str::from_utf8(bytes) {
        Ok(text) => Some(text),
        Err(error) => std::str::from_utf8(&bytes[..error.valid_up_to()]).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(crate) fn rules(extra: &str) -> Rules {
        let text =
            format!(r#"{{"logs":[{{"name":"access","path":"/l/access.log"}}],"state_dir":"/s"{extra}}}"#);
        Rules::new(&serde_json::from_str(&text).unwrap()).unwrap()
    }

    fn found(rules: &Rules, line: &str) -> Vec<String> {
        rules
            .read(line.as_bytes())
            .identifiers
            .iter()
            .map(|i| format!("{}={}", i.kind, i.value))
            .collect()
    }

    fn line(user: &str, target: &str, referrer: &str) -> String {
        format!(
            r#"192.0.2.0 - {user} [24/Nov/2026:11:40:00 +0000] "GET {target} HTTP/1.1" 200 5 "{referrer}" "Mozilla/5.0""#
        )
    }

    #[test]
    fn identifiers_are_found_in_user_parameters_paths_and_referrers_however_they_are_escaped() {
        let rules = rules(r#","ip":"abbreviated","path_identifiers":["/api/*/people/{user_id}"]"#);
        let ip = "ip_abbreviated=192.0.2.0";
        let ada = "email=ada@example.org";
        for (target, referrer) in [
            ("/login?email=ada@example.org&next=/", "-"),
            ("/login?EMAIL=ADA%40EXAMPLE.ORG", "-"),
            ("/x?q=ada%2540example.org", "-"),
            (
                "/",
                "https://h.example/login?next=%2Faccount%3Femail%3Dada%2540example.org",
            ),
            ("/x?q=mailto:ada@example.org.", "-"),
            ("/x?q=%22ada@example.org%22", "-"),
            ("/x?q=%5Cu003cada%40example.org", "-"),
            (r"/x?q=%22\\u003cada\\u0040example.org", "-"),
            ("/x?q=ada%5Cu002540example.org", "-"),
            ("/x?q=ada%00@example.org", "-"),
            (
                "/x?q=%2525252525252540ada%2525252525252540example.org%25252520",
                "-",
            ),
            (
                "/x?next=%25252525253Femail%25252525253Dada%252525252540example.org",
                "-",
            ),
        ] {
            assert_eq!(
                found(&rules, &line("-", target, referrer)),
                [ada, ip],
                "{target} {referrer}"
            );
        }
        // A backslash before a letter is a blank of JSON, or stands between a domain and a name.
        let both = found(&rules, &line("-", "/x?q=%5Cnada%40example.org", "-"));
        assert_eq!(both, [ada, "email=nada@example.org", ip]);
        assert_eq!(found(&rules, &line("u-17", "/", "-")), ["user_id=u-17", ip]);
        assert_eq!(
            found(&rules, &line("-", "/x?a=1&UID=u+1", "-")),
            ["user_id=u 1", ip]
        );
        assert_eq!(
            found(&rules, &line("-", "/api/v1/people/u-17/items", "-")),
            ["user_id=u-17", ip]
        );
        assert_eq!(found(&rules, &line("-", "/", "-")), [ip]);
    }

    #[test]
    fn a_mail_parameter_is_one_address_whatever_it_is_made_of() {
        let rules = rules(r#","path_identifiers":["/of/{email}"]"#);
        for (target, expected) in [
            ("/l?email=anna%26co%40example.org", "anna&co@example.org"),
            ("/l?email=anna%2526co%40example.org", "anna&co@example.org"),
            (
                "/l?to=%2Fm%3Femail%3Danna%2526co%2540example.org",
                "anna&co@example.org",
            ),
            ("/l?email=prvs=tag=max@example.org", "prvs=tag=max@example.org"),
            ("/l?email=o!neil@example.org", "o!neil@example.org"),
            ("/l?email=-Ada@example.org", "-ada@example.org"),
            ("/l?email=+ada@example.org", "ada@example.org"),
            ("/of/o!neil@example.org/x", "o!neil@example.org"),
            ("/l?email=%27ada@example.org%27", "ada@example.org"),
            ("/l?email=Ada%20%3Cada@example.org%3E", "ada@example.org"),
        ] {
            let expected = format!("email={expected}");
            assert_eq!(
                found(&rules, &line("-", target, "-")),
                [expected.as_str(), "ip=192.0.2.0"],
                "{target}"
            );
        }
        let two = "/l?email=anna%26co%40example.org&q=co@example.org";
        assert_eq!(
            found(&rules, &line("-", two, "-")),
            [
                "email=anna&co@example.org",
                "email=co@example.org",
                "ip=192.0.2.0"
            ]
        );
    }

    #[test]
    fn an_unescaped_plus_is_read_both_ways_but_for_a_mail_parameter() {
        let rules = rules("");
        assert_eq!(
            found(&rules, &line("-", "/?email=ada+x@example.org", "-")),
            ["email=ada+x@example.org", "ip=192.0.2.0"]
        );
        assert_eq!(
            found(&rules, &line("-", "/?q=from+ada@example.org", "-")),
            [
                "email=ada@example.org",
                "email=from+ada@example.org",
                "ip=192.0.2.0"
            ]
        );
    }

    #[test]
    fn a_line_that_fits_no_format_still_names_its_e_mails() {
        assert_eq!(
            found(&rules(""), "garbage \u{fffd} <Ada@Example.org> tail"),
            ["email=ada@example.org"]
        );
        let reading = rules("").read(b"\xff\xfe ada@example.org\x00");
        assert_eq!(reading.identifiers.len(), 1);
        assert_eq!(reading.period(), "undated");
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_looked_through_without_a_panic(line: Vec<u8>) {
            let _ = rules("").read(&line);
        }
    }
}
