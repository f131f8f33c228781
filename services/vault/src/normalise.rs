//! One spelling for each identifier, so that equal people give equal tokens.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use email_address::{EmailAddress, Options};
use lethe_terms::{Identifier, IdentifierKind};
use phonenumber::country;
use unicode_normalization::UnicodeNormalization as _;

use crate::Error;

/// Bits of an IPv4 address that an abbreviated one keeps: what web servers that shorten addresses leave, commonly.
pub const IPV4_KEPT_BITS: u32 = 24;

/// Bits of an IPv6 address that an abbreviated one keeps: a site's prefix (RFC 6177), so that no household stands alone.
pub const IPV6_KEPT_BITS: u32 = 48;

/// Longest value of an identifier in bytes, before and after: an e-mail address has at most 254, ids of systems rarely 100.
pub const VALUE_BYTES_MAX: usize = 1_024;

/// Longest telephone number as it is written, with spaces and words such as "ext.".
const PHONE_BYTES_MAX: usize = 64;

/// Brings identifiers into one spelling. Doing it twice changes nothing.
#[derive(Debug, Clone, Copy)]
pub struct Normaliser {
    region: country::Id,
}

impl Normaliser {
    /// With the region whose telephone numbers are written without a country code, such as `DE`.
    ///
    /// Errors: [`Error::UnknownRegion`].
    pub fn new(region: &str) -> Result<Self, Error> {
        country::Id::from_str(region)
            .map(|region| Self { region })
            .map_err(|_| Error::UnknownRegion)
    }

    /// The identifier in its one spelling.
    ///
    /// - e-mail: trimmed, composed (NFC), domain as IDNA writes it in ASCII, all in lower case. RFC 5321 lets a host tell the
    ///   case of the part before the @; none that people use does, and systems store what was typed. A record that is not found
    ///   costs more than a link that a plan shows and a person can cut. What follows a plus sign is kept: it is another address.
    /// - telephone: E.164. A number need not be assigned, only possible: rules for numbers change faster than records.
    /// - whole address: as RFC 5952 writes it, IPv4 within IPv6 as IPv4; one whose host part is zero is an abbreviated one.
    /// - abbreviated address: the network's first address.
    /// - ids: trimmed; their case tells.
    ///
    /// Errors: [`Error::NotNormalised`], which says what was expected and never quotes the value.
    pub fn normalise(&self, identifier: &Identifier) -> Result<Identifier, Error> {
        let kind = identifier.kind;
        let wrong = |expected| Error::NotNormalised { kind, expected };
        let value = identifier.value.trim();
        if value.is_empty() || value.len() > VALUE_BYTES_MAX {
            return Err(wrong("1 to 1024 bytes"));
        }
        if identifier.issuer.is_some() && !kind.is_issued() {
            return Err(wrong("no issuer, which only ids have"));
        }
        match kind {
            IdentifierKind::Email => email(value)
                .map(|value| Identifier::new(kind, value))
                .ok_or(wrong("an address such as name@example.org")),
            IdentifierKind::Phone => {
                self.phone(value)
                    .map(|value| Identifier::new(kind, value))
                    .ok_or(wrong(
                        "a telephone number, with its country code where it is a foreign one",
                    ))
            }
            IdentifierKind::Ip => {
                let address = ip(value).ok_or(wrong("an IPv4 or IPv6 address"))?;
                let kind = if abbreviated(address) == address {
                    IdentifierKind::IpAbbreviated
                } else {
                    kind
                };
                Ok(Identifier::new(kind, address.to_string()))
            }
            IdentifierKind::IpAbbreviated => ip(value)
                .map(|address| Identifier::new(kind, abbreviated(address).to_string()))
                .ok_or(wrong(
                    "an IPv4 or IPv6 address whose host part is zero or ignored",
                )),
            IdentifierKind::UserId
            | IdentifierKind::ContactId
            | IdentifierKind::CookieId
            | IdentifierKind::DeviceId => Ok(identifier.issued_kind().with(value)),
        }
    }

    fn phone(&self, value: &str) -> Option<String> {
        if value.len() > PHONE_BYTES_MAX {
            return None;
        }
        let text = self.e164(value)?;
        // What does not read back as itself has no one spelling, such as a trunk prefix where a country has none.
        (self.e164(&text).as_ref() == Some(&text)).then_some(text)
    }

    fn e164(&self, value: &str) -> Option<String> {
        // A leading 00 is how most regions dial abroad; with the country code in front the region must not take part, whose
        // own trunk prefix would be cut off from a foreign number.
        let international = value.strip_prefix("00").map(|rest| format!("+{rest}"));
        let value = international.as_deref().unwrap_or(value);
        let region = (!value.starts_with('+')).then_some(self.region);
        let number = phonenumber::parse(region, value).ok()?;
        let text = number.format().mode(phonenumber::Mode::E164).to_string();
        // E.164 without an extension: who shares a number shares it with the extension as well.
        let digits = text.strip_prefix('+')?;
        ((7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit())).then_some(text)
    }
}

fn email(value: &str) -> Option<String> {
    let composed: String = value.nfc().collect();
    let (local, domain) = composed.rsplit_once('@')?;
    let domain = idna::domain_to_ascii(domain)
        .ok()
        .filter(|domain| !domain.is_empty())?;
    let address = format!("{}@{domain}", local.to_lowercase().nfc().collect::<String>());
    let rules = Options::default().without_display_text().without_domain_literal();
    let is_bare = EmailAddress::parse_with_options(&address, rules).is_ok();
    (is_bare && address.len() <= VALUE_BYTES_MAX).then_some(address)
}

fn ip(value: &str) -> Option<IpAddr> {
    value.parse::<IpAddr>().ok().map(|address| address.to_canonical())
}

fn abbreviated(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << (32 - IPV4_KEPT_BITS))).into()
        }
        IpAddr::V6(address) => {
            Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - IPV6_KEPT_BITS))).into()
        }
    }
}

/// What else a normalised identifier says: a whole address also says the abbreviated one, which is all that some logs keep.
pub fn related(identifier: &Identifier) -> Vec<Identifier> {
    match (identifier.kind, ip(&identifier.value)) {
        (IdentifierKind::Ip, Some(address)) => {
            vec![Identifier::new(
                IdentifierKind::IpAbbreviated,
                abbreviated(address).to_string(),
            )]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use IdentifierKind::{ContactId, CookieId, Email, Ip, IpAbbreviated, Phone, UserId};

    fn normaliser() -> Normaliser {
        Normaliser::new("DE").unwrap()
    }

    fn check(kind: IdentifierKind, cases: &[(&str, &str)]) {
        for (raw, expected) in cases {
            let once = normaliser()
                .normalise(&Identifier::new(kind, *raw))
                .unwrap_or_else(|e| panic!("{raw}: {e}"));
            assert_eq!(once.value, *expected, "{raw}");
            assert_eq!(
                normaliser().normalise(&once).unwrap(),
                once,
                "{raw}: a second time"
            );
        }
    }

    fn refused(kind: IdentifierKind, cases: &[&str]) {
        for raw in cases {
            let error = normaliser()
                .normalise(&Identifier::new(kind, *raw))
                .unwrap_err()
                .to_string();
            assert!(
                error.contains(kind.code()) && (raw.trim().is_empty() || !error.contains(raw)),
                "{error}"
            );
        }
    }

    #[test]
    fn addresses_of_one_mailbox_are_one() {
        check(
            Email,
            &[
                (" Ada.Lovelace@Example.ORG ", "ada.lovelace@example.org"),
                ("ada+shop@example.org", "ada+shop@example.org"),
                ("ada@MÜNCHEN.de", "ada@xn--mnchen-3ya.de"),
                ("ada@xn--mnchen-3ya.de", "ada@xn--mnchen-3ya.de"),
                ("JU\u{308}RGEN@example.org", "j\u{fc}rgen@example.org"),
            ],
        );
        refused(
            Email,
            &[
                "",
                "  ",
                "ada",
                "ada@",
                "@lovelace.example",
                "a b@example.org",
                "Ada <ada@example.org>",
                "a@b@c d",
            ],
        );
    }

    #[test]
    fn numbers_of_one_line_are_one() {
        check(
            Phone,
            &[
                ("030 901820", "+4930901820"),
                ("+49 30 901820", "+4930901820"),
                ("0049 (30) 90 18-20", "+4930901820"),
                ("+49 (0)30 901820", "+4930901820"),
                ("0171/2345678", "+491712345678"),
                ("+1 415 555 2671", "+14155552671"),
                ("+39 06 6982", "+39066982"),
            ],
        );
        refused(
            Phone,
            &[
                "",
                "n/a",
                "12",
                "ada@example.org",
                "+",
                "0",
                "+49",
                &"1".repeat(80),
            ],
        );
    }

    #[test]
    fn an_address_has_one_spelling() {
        check(
            Ip,
            &[
                (" 203.0.113.7", "203.0.113.7"),
                ("::ffff:203.0.113.7", "203.0.113.7"),
                ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
                ("203.0.113.0", "203.0.113.0"),
            ],
        );
        check(
            IpAbbreviated,
            &[
                ("203.0.113.7", "203.0.113.0"),
                ("203.0.113.0", "203.0.113.0"),
                ("2001:db8:1:2::3", "2001:db8:1::"),
                ("::ffff:203.0.113.7", "203.0.113.0"),
            ],
        );
        refused(Ip, &["", "203.0.113", "203.0.113.256", "host", "203.0.113.7:80"]);
    }

    #[test]
    fn an_address_without_a_host_is_an_abbreviated_one() {
        for raw in ["203.0.113.0", "2001:db8:1::"] {
            assert_eq!(
                normaliser().normalise(&Identifier::new(Ip, raw)).unwrap(),
                Identifier::new(IpAbbreviated, raw)
            );
        }
    }

    #[test]
    fn a_whole_address_says_the_abbreviated_one_too() {
        assert_eq!(
            related(&Identifier::new(Ip, "203.0.113.7")),
            [Identifier::new(IpAbbreviated, "203.0.113.0")]
        );
        assert!(related(&Identifier::new(IpAbbreviated, "203.0.113.0")).is_empty());
        assert!(related(&Identifier::new(Email, "ada@example.org")).is_empty());
    }

    #[test]
    fn ids_are_trimmed_and_keep_their_case() {
        check(UserId, &[(" Ada7 ", "Ada7")]);
        let issued = |kind| Identifier {
            issuer: Some("forum".parse().unwrap()),
            ..Identifier::new(kind, " 1 ")
        };
        let one = normaliser().normalise(&issued(UserId)).unwrap();
        assert_eq!((one.name().as_str(), one.value.as_str()), ("user_id@forum", "1"));
        assert!(normaliser().normalise(&issued(Phone)).is_err());
        check(ContactId, &[("c-1", "c-1")]);
        refused(CookieId, &["", " \t", &"x".repeat(1_025)]);
    }

    #[test]
    fn no_text_makes_it_stop() {
        let pieces = [
            "+", "00", "49", "(0)", "30", " ", "-", "/", "x", "ext.", "#", ";", "tel:", "é", "٣", "\u{0}",
            "@", ".",
        ];
        let mut state = 7_usize;
        for _ in 0..5_000 {
            let mut text = String::new();
            for _ in 0..(state >> 8) % 9 {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                text.push_str(pieces[(state >> 33) % pieces.len()]);
            }
            state = state.wrapping_add(0x9e37_79b9);
            for kind in IdentifierKind::ALL {
                if let Ok(once) = normaliser().normalise(&Identifier::new(*kind, text.clone())) {
                    assert_eq!(normaliser().normalise(&once).unwrap(), once, "{text:?}");
                }
            }
        }
    }

    #[test]
    fn an_unknown_region_is_refused() {
        assert!(matches!(Normaliser::new("XX"), Err(Error::UnknownRegion)));
    }
}
