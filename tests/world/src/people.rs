//! People, made up by the faker: each follows from the seed and an index.

use fake::Fake;
use fake::faker::address::raw::{CityName, StreetName};
use fake::faker::company::raw::CompanyName;
use fake::faker::name::raw::{FirstName, LastName};
use fake::locales::{DE_DE, EN, FR_FR, IT_IT, NL_NL};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use crate::World;

/// The subject's and the colleague's employer.
const OFFICE: Office = Office {
    company: "Nordlicht Inventar GmbH",
    domain: "nordlicht-inventar.example",
    street: "Am Alten Speicher 4",
    postcode: "20457",
    city: "Hamburg",
    ip: "203.0.113.7",
};
/// The name that two people share.
const SHARED_NAME: (&str, &str) = ("Hanna", "Vogelsang");
/// Where private mail lives in this world.
const MAIL_DOMAINS: [&str; 8] = [
    "posthorn.example",
    "mailbox.example",
    "briefkasten.example",
    "webpost.example",
    "courrier.example",
    "postino.example",
    "inboxly.example",
    "snailmail.example",
];
/// Number blocks that the German regulator and Ofcom keep free for fiction, each with a thousand numbers. A telephone number names one person, so no
/// number is given twice: who comes after the last block has none.
const PHONE_BLOCKS: [&str; 6] = [
    "+49 30 23125",
    "+49 40 66969",
    "+49 69 90009",
    "+49 221 4710",
    "+49 89 99998",
    "+44 7700 900",
];
const PHONES_PER_BLOCK: u32 = 1000;
/// Browsers.
const AGENTS: [&str; 6] = [
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:143.0) Gecko/20100101 Firefox/143.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.4 Safari/605.1.15",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_4 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Mobile/15E148",
    "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/141.0.0.0 Mobile Safari/537.36",
    "lagerhaus-app/4.2 (\"scanner edition\"; Android 13)",
];

struct Office {
    company: &'static str,
    domain: &'static str,
    street: &'static str,
    postcode: &'static str,
    city: &'static str,
    ip: &'static str,
}

/// A person who registered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Place in the world, from 0.
    pub index: u32,
    /// The company's own id of the person.
    pub user_id: String,
    /// E-mail address, unique.
    pub email: String,
    /// First and last name; not unique.
    pub full_name: String,
    /// Telephone number, unique.
    pub phone: Option<String>,
    /// Where they surf from; several people share some.
    pub ip: String,
    /// Browser.
    pub agent: &'static str,
    /// Employer.
    pub company: Option<String>,
    /// Street and number.
    pub street: String,
    /// Postcode.
    pub postcode: String,
    /// Town.
    pub city: String,
    /// When they registered, in seconds since 1970.
    pub joined: i64,
}

impl World {
    /// Random numbers that belong to one thing: the same for the same seed, kind and number.
    pub fn rng(&self, kind: u64, number: u64) -> StdRng {
        StdRng::seed_from_u64(mix(self.seed ^ mix(kind ^ mix(number))))
    }

    /// The person at an index.
    pub fn person(&self, index: u32) -> Person {
        let mut rng = self.rng(1, u64::from(index));
        let (first, last) = name(&mut rng);
        let company: String = CompanyName(EN).fake_with_rng(&mut rng);
        let at_work = rng.random_bool(0.4);
        let domain = if at_work {
            format!("{}.example", slug(&company))
        } else {
            MAIL_DOMAINS[rng.random_range(0..MAIL_DOMAINS.len())].to_owned()
        };
        let mut person = Person {
            index,
            user_id: format!("usr_{:016x}", mix(self.seed ^ (u64::from(index) << 20))),
            email: format!("{}.{}.{index}@{domain}", slug(&first), slug(&last)),
            full_name: format!("{first} {last}"),
            phone: phone(index),
            ip: address(&mut rng),
            agent: AGENTS[rng.random_range(0..AGENTS.len())],
            company: at_work.then_some(company),
            street: format!(
                "{} {}",
                StreetName(DE_DE).fake_with_rng::<String, _>(&mut rng),
                rng.random_range(1..120)
            ),
            postcode: format!("{:05}", rng.random_range(1_067..99_998)),
            city: CityName(DE_DE).fake_with_rng(&mut rng),
            joined: self.ends - rng.random_range(30..1500) * 86_400 - rng.random_range(0..86_400),
        };
        self.cast(&mut person);
        person
    }

    /// Turns the person into one of the cast, where the index is theirs.
    fn cast(&self, person: &mut Person) {
        let (first, last) = SHARED_NAME;
        let index = person.index;
        if index == self.subject_index() {
            person.full_name = format!("{first} {last}");
            person.email = format!("{}.{}@{}", slug(first), slug(last), OFFICE.domain);
        } else if index == self.namesake_index() {
            person.full_name = format!("{first} {last}");
            person.email = format!("{}.{}@{}", slug(first), slug(last), MAIL_DOMAINS[0]);
        } else if index == self.colleague_index() {
            let local = person.email.split('@').next().unwrap_or_default().to_owned();
            person.email = format!("{local}@{}", OFFICE.domain);
        }
        if index == self.subject_index() || index == self.colleague_index() {
            person.company = Some(OFFICE.company.to_owned());
            (person.street, person.postcode) = (OFFICE.street.to_owned(), OFFICE.postcode.to_owned());
            (person.city, person.ip) = (OFFICE.city.to_owned(), OFFICE.ip.to_owned());
        }
    }
}

fn name(rng: &mut StdRng) -> (String, String) {
    match rng.random_range(0..10) {
        0..6 => (
            FirstName(DE_DE).fake_with_rng(rng),
            LastName(DE_DE).fake_with_rng(rng),
        ),
        6 => (FirstName(EN).fake_with_rng(rng), LastName(EN).fake_with_rng(rng)),
        7 => (
            FirstName(FR_FR).fake_with_rng(rng),
            LastName(FR_FR).fake_with_rng(rng),
        ),
        8 => (
            FirstName(IT_IT).fake_with_rng(rng),
            LastName(IT_IT).fake_with_rng(rng),
        ),
        _ => (
            FirstName(NL_NL).fake_with_rng(rng),
            LastName(NL_NL).fake_with_rng(rng),
        ),
    }
}

fn phone(index: u32) -> Option<String> {
    let block = PHONE_BLOCKS.get((index / PHONES_PER_BLOCK) as usize)?;
    Some(format!("{block}{:03}", index % PHONES_PER_BLOCK))
}

/// An address that no host of the real internet has: shared address space of carriers (RFC 6598) or the documentation prefix of IPv6 (RFC 3849).
fn address(rng: &mut StdRng) -> String {
    if rng.random_bool(0.15) {
        let (a, b): (u16, u16) = (rng.random(), rng.random());
        return std::net::Ipv6Addr::new(0x2001, 0xdb8, a, 0, 0, 0, 0, b.max(1)).to_string();
    }
    // A tenth of the people sit behind a few large offices.
    if rng.random_bool(0.1) {
        return format!("198.51.100.{}", rng.random_range(1..40));
    }
    format!(
        "100.{}.{}.{}",
        rng.random_range(64..128),
        rng.random_range(0..256),
        rng.random_range(1..255)
    )
}

/// Lower-case ASCII of a name, as the local part of an e-mail or a domain has it.
fn slug(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for c in name.chars().flat_map(char::to_lowercase) {
        match c {
            'ä' => out.push_str("ae"),
            'ö' | 'ø' => out.push_str("oe"),
            'ü' => out.push_str("ue"),
            'ß' => out.push_str("ss"),
            'à' | 'á' | 'â' | 'ã' => out.push('a'),
            'è' | 'é' | 'ê' | 'ë' => out.push('e'),
            'ì' | 'í' | 'î' | 'ï' => out.push('i'),
            'ò' | 'ó' | 'ô' => out.push('o'),
            'ù' | 'ú' | 'û' => out.push('u'),
            'ç' => out.push('c'),
            'ñ' => out.push('n'),
            c if c.is_ascii_alphanumeric() => out.push(c),
            _ if out.ends_with('-') || out.is_empty() => {}
            _ => out.push('-'),
        }
    }
    while out.ends_with('-') {
        out.pop();
    }
    if out.is_empty() { "x".to_owned() } else { out }
}

/// The finaliser of SplitMix64: a bijection, so distinct inputs stay distinct.
const fn mix(value: u64) -> u64 {
    let mut z = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn world() -> World {
        World::new(7, 2000, 1_790_000_000).unwrap()
    }

    #[test]
    fn the_same_seed_makes_the_same_people_and_another_seed_makes_others() {
        assert_eq!(world().person(5), world().person(5));
        assert_ne!(
            World::new(8, 2000, 1_790_000_000).unwrap().person(5).email,
            world().person(5).email
        );
    }

    #[test]
    fn no_two_people_share_an_email_a_user_id_or_a_telephone_number() {
        let world = world();
        let (mut emails, mut ids, mut phones) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for person in (0..world.people).map(|i| world.person(i)) {
            assert!(person.email.ends_with(".example"), "{}", person.email);
            assert!(
                person.email.is_ascii() && !person.email.contains(' '),
                "{}",
                person.email
            );
            assert!(ids.insert(person.user_id));
            assert!(phones.insert(person.phone.unwrap()));
            assert!(emails.insert(person.email));
        }
        let subject = world.subject().email;
        assert_eq!(
            emails.iter().filter(|e| e.contains(&subject)).count(),
            1,
            "the subject's e-mail is part of another"
        );
    }

    #[test]
    fn the_cast_shares_what_it_should_and_nothing_else() {
        let (subject, namesake, colleague) = (world().subject(), world().namesake(), world().colleague());
        assert_eq!(subject.full_name, namesake.full_name);
        assert_ne!(subject.email, namesake.email);
        assert_ne!(subject.ip, namesake.ip);
        assert_eq!((&subject.ip, &subject.street), (&colleague.ip, &colleague.street));
        assert_ne!(subject.full_name, colleague.full_name);
        assert_ne!(subject.email, colleague.email);
    }
}
