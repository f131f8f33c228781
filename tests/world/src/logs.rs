//! A web server's past: three weeks of lines in nginx's combined format, in a live file and two rotated ones.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use rand::RngExt;
use rand::rngs::StdRng;

use crate::people::Person;
use crate::{Error, World};

/// The files of the history, oldest first.
pub const FILES: [&str; 3] = ["access.log.2.gz", "access.log.1", "access.log"];
/// How far the history goes back.
const SPAN_S: i64 = 21 * 86_400;
/// One in so many lines is by one of the cast.
const CAST_EVERY: u64 = 40;
/// One in so many lines fits no format.
const ODD_EVERY: u64 = 199;
/// Everything that a browser escapes in a query value, but letters, digits and these.
const QUERY: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');
const PAGES: [&str; 8] = [
    "/",
    "/pricing",
    "/docs/inventory",
    "/blog/2026/stocktaking",
    "/contact",
    "/app",
    "/app/items",
    "/static/site.css",
];

/// One request of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Visit {
    /// Address of the client.
    pub ip: String,
    /// User id, where they are logged in.
    pub user_id: Option<String>,
    /// Path and query.
    pub target: String,
    /// Page that they came from.
    pub referrer: Option<String>,
    /// Browser.
    pub agent: String,
    /// Whether user id, target or referrer names the person.
    pub names_person: bool,
}

/// A line of the history.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its bytes, without the line's end; not always UTF-8.
    pub bytes: Vec<u8>,
    /// Index of the person that it names.
    pub names: Option<u32>,
}

/// A request of this person, with what people leave behind: user ids, e-mails in queries and referrers, in several spellings.
pub fn visit(person: &Person, rng: &mut StdRng) -> Visit {
    let page = PAGES[rng.random_range(0..PAGES.len())];
    let mut visit = Visit {
        ip: person.ip.clone(),
        user_id: None,
        target: page.to_owned(),
        referrer: rng
            .random_bool(0.5)
            .then(|| "https://www.lagerhaus.example/".to_owned()),
        agent: person.agent.to_owned(),
        names_person: true,
    };
    let escaped = utf8_percent_encode(&person.email, QUERY).to_string();
    match rng.random_range(0..100) {
        0..45 => {
            visit.user_id = Some(person.user_id.clone());
            visit.target = format!("/app/items?page={}&sort=name", rng.random_range(1..60));
        }
        45..52 => {
            visit.target = format!(
                "/newsletter/confirm?email={escaped}&token={:08x}",
                rng.random::<u32>()
            )
        }
        52..57 => visit.target = format!("/login?email={}&next=/app", person.email),
        57..60 => visit.target = format!("/login?email={}", person.email.replace('@', "%40").to_uppercase()),
        60..65 => visit.referrer = Some(format!("https://www.lagerhaus.example/login?email={escaped}")),
        65..68 => {
            let inner = utf8_percent_encode(&format!("/account?email={escaped}"), QUERY).to_string();
            visit.referrer = Some(format!("https://www.lagerhaus.example/login?next={inner}"));
        }
        68..72 => {
            visit.user_id = Some(person.user_id.clone());
            visit.target = format!("/account?email={escaped}&tab=orders");
        }
        72..74 => visit.target = format!("/api/v1/people/{}/items", person.user_id),
        _ => visit.names_person = false,
    }
    visit
}

/// Line number `n` of the history.
pub fn line(world: &World, n: u64) -> Line {
    let mut rng = world.rng(6, n);
    let at = world.ends - SPAN_S + (SPAN_S as f64 * (n as f64 / world.log_lines.max(1) as f64)) as i64;
    let cast = [
        world.subject_index(),
        world.namesake_index(),
        world.colleague_index(),
    ];
    let by_cast = n % CAST_EVERY == 3;
    let index = if by_cast {
        cast[(n / CAST_EVERY % 3) as usize]
    } else {
        rng.random_range(0..world.people)
    };
    let person = world.person(index);
    if n % ODD_EVERY == 100 {
        return Line {
            bytes: odd(&mut rng, at),
            names: None,
        };
    }
    let mut visit = visit(&person, &mut rng);
    // The oldest file was written before addresses were abbreviated.
    if file_of(world, n) > 0 {
        visit.ip = abbreviated(&visit.ip);
    }
    let names = visit.names_person.then_some(index);
    Line {
        bytes: combined(&visit, at, &mut rng).into_bytes(),
        names,
    }
}

/// Which of [`FILES`] line `n` stands in.
pub fn file_of(world: &World, n: u64) -> usize {
    ((n * FILES.len() as u64 / world.log_lines.max(1)) as usize).min(FILES.len() - 1)
}

/// Writes the history. Returns the files, oldest first.
pub fn write(world: &World, folder: &Path) -> Result<Vec<PathBuf>, Error> {
    std::fs::create_dir_all(folder).map_err(|e| Error::file(folder, e))?;
    let mut paths = Vec::with_capacity(FILES.len());
    for (position, name) in FILES.iter().enumerate() {
        let path = folder.join(name);
        let lines = (0..world.log_lines).filter(|n| file_of(world, *n) == position);
        write_file(world, &path, lines).map_err(|e| Error::file(&path, e))?;
        paths.push(path);
    }
    Ok(paths)
}

fn write_file(world: &World, path: &Path, lines: impl Iterator<Item = u64>) -> std::io::Result<()> {
    let file = BufWriter::new(File::create(path)?);
    if path.extension().is_some_and(|e| e == "gz") {
        let mut out = GzEncoder::new(file, Compression::default());
        write_lines(world, &mut out, lines)?;
        out.finish()?.flush()
    } else {
        let mut out = file;
        write_lines(world, &mut out, lines)?;
        out.flush()
    }
}

fn write_lines(world: &World, out: &mut impl Write, lines: impl Iterator<Item = u64>) -> std::io::Result<()> {
    for n in lines {
        let mut bytes = line(world, n).bytes;
        bytes.push(b'\n');
        out.write_all(&bytes)?;
    }
    Ok(())
}

/// The network part of an address: /24 of IPv4, /48 of IPv6.
fn abbreviated(ip: &str) -> String {
    match ip.parse() {
        Ok(std::net::IpAddr::V4(v4)) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0")
        }
        Ok(std::net::IpAddr::V6(v6)) => {
            let [a, b, c, ..] = v6.segments();
            std::net::Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0).to_string()
        }
        Err(_) => ip.to_owned(),
    }
}

fn escaped(text: &str) -> String {
    text.replace('\\', "\\x5C").replace('"', "\\x22")
}

fn combined(visit: &Visit, at: i64, rng: &mut StdRng) -> String {
    let status = [200, 200, 200, 200, 302, 304, 404, 499][rng.random_range(0..8)];
    format!(
        "{} - {} [{}] \"GET {} HTTP/1.1\" {status} {} \"{}\" \"{}\"",
        visit.ip,
        visit.user_id.as_deref().unwrap_or("-"),
        stamp(at),
        visit.target,
        rng.random_range(120..40_000),
        visit.referrer.as_deref().unwrap_or("-"),
        escaped(&visit.agent),
    )
}

fn stamp(at: i64) -> String {
    jiff::Timestamp::from_second(at)
        .unwrap_or_default()
        .strftime("%d/%b/%Y:%H:%M:%S +0000")
        .to_string()
}

/// What a real log holds as well: handshakes at the wrong port, another program's lines, other encodings, torn and empty lines.
fn odd(rng: &mut StdRng, at: i64) -> Vec<u8> {
    match rng.random_range(0..6) {
        0 => format!(
            "100.64.9.9 - - [{}] \"\\x16\\x03\\x01\\x02\\x00\\x01\\x00\" 400 157 \"-\" \"-\"",
            stamp(at)
        )
        .into_bytes(),
        1 => b"2026/10/07 03:12:55 [warn] 811#811: *4 an upstream response is buffered to a temporary file"
            .to_vec(),
        2 => {
            let mut bytes = format!("100.64.9.9 - - [{}] \"GET /suche?q=", stamp(at)).into_bytes();
            // ISO 8859-1, as an old client sends it and Apache may write it.
            bytes
                .extend_from_slice(b"M\xfcllers B\xfcro HTTP/1.0\" 200 512 \"-\" \"Mozilla/4.0 (\xe4lter)\"");
            bytes
        }
        3 => format!("100.64.9.9 - - [{}] \"GET /docs/inv", stamp(at)).into_bytes(),
        4 => Vec::new(),
        _ => {
            let mut bytes = vec![0xff, 0xfe, 0x00];
            bytes.extend_from_slice(b" restored after disk full ");
            bytes.extend(std::iter::repeat_n(b'.', rng.random_range(10..4000)));
            bytes
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    fn world() -> World {
        World {
            log_lines: 3000,
            ..World::new(7, 200, 1_790_000_000).unwrap()
        }
    }

    #[test]
    fn the_three_files_hold_all_lines_in_order() {
        let world = world();
        let folder = tempfile::tempdir().unwrap();
        let paths = write(&world, folder.path()).unwrap();
        let mut all = Vec::new();
        flate2::read::MultiGzDecoder::new(File::open(&paths[0]).unwrap())
            .read_to_end(&mut all)
            .unwrap();
        all.extend(std::fs::read(&paths[1]).unwrap());
        all.extend(std::fs::read(&paths[2]).unwrap());
        let mut expected = Vec::new();
        for n in 0..world.log_lines {
            expected.extend(line(&world, n).bytes);
            expected.push(b'\n');
        }
        assert_eq!(all, expected);
        assert!(std::str::from_utf8(&all).is_err(), "a real log is not all UTF-8");
    }

    #[test]
    fn each_of_the_cast_is_named_in_every_file_and_in_several_ways() {
        let world = world();
        for person in [world.subject(), world.namesake(), world.colleague()] {
            let escaped = utf8_percent_encode(&person.email, QUERY).to_string();
            let lines: Vec<(usize, Vec<u8>)> = (0..world.log_lines)
                .map(|n| (file_of(&world, n), line(&world, n)))
                .filter(|(_, line)| line.names == Some(person.index))
                .map(|(file, line)| (file, line.bytes))
                .collect();
            for (file, name) in FILES.iter().enumerate() {
                assert!(
                    lines.iter().any(|(f, _)| *f == file),
                    "{} is not in {name}",
                    person.email
                );
            }
            for way in [&person.email, &escaped, &person.user_id] {
                let named =
                    |(_, bytes): &(usize, Vec<u8>)| String::from_utf8_lossy(bytes).contains(way.as_str());
                assert!(lines.iter().any(named), "nothing says {way}");
            }
        }
    }
}
