//! How fast events are sealed, read and opened on one core: `cargo run -p lethe-exchange --example measure_sealing`.

use std::time::{Duration, Instant};

use lethe_exchange::{
    EventData, EventName, INTAKE_INFO, KEY_BYTES, Opener, PrivateKey, PublishedEvent, PublishedRecord,
    Publisher, SealedMessage, Sequence,
};
use lethe_terms::{Identifier, IdentifierKind};
use zeroize::Zeroizing;

/// Events of one run.
const EVENTS: u64 = 20_000;

/// Sessions of one run: each costs curve operations on both sides.
const SESSIONS: u32 = 500;

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

fn bits(seed: u64) -> Zeroizing<[u8; KEY_BYTES]> {
    let mut bits = Zeroizing::new([7; KEY_BYTES]);
    bits[..8].copy_from_slice(&seed.to_be_bytes());
    bits
}

fn record(number: u64) -> Outcome<PublishedRecord> {
    Ok(PublishedRecord {
        dataset: "contacts".parse()?,
        key: number.to_string(),
        handle: None,
        identifiers: vec![
            Identifier::new(IdentifierKind::Email, format!("person-{number}@example.org")),
            Identifier::new(IdentifierKind::ContactId, format!("C-{number}")),
        ],
        count: 1,
        gone: false,
    })
}

fn name(number: u64) -> Outcome<EventName> {
    Ok(EventName {
        system: "crm".parse()?,
        shard: "main".parse()?,
        sequence: Sequence(number),
    })
}

fn open(
    opener: &mut Opener,
    intake: &PrivateKey,
    sender: &PrivateKey,
    line: &[u8],
) -> Outcome<PublishedRecord> {
    let event = PublishedEvent::read(line).map_err(|refused| refused.expected)?;
    let EventData::Sealed(sealed) = &event.data else {
        return Err("an event in the clear".into());
    };
    let message = SealedMessage::parse(sealed)?;
    let plain = opener.open(intake, Some(sender.public()), &message, &event.name.context())?;
    Ok(PublishedRecord::read(&plain).map_err(|refused| refused.expected)?)
}

fn rate(what: &str, count: u32, time: Duration) {
    println!("{what}: {:.0} a second", f64::from(count) / time.as_secs_f64());
}

fn main() -> Outcome<()> {
    let (intake, sender) = (PrivateKey::derive(&bits(1)), PrivateKey::derive(&bits(2)));
    let records = (0..EVENTS).map(record).collect::<Outcome<Vec<_>>>()?;
    let names = (0..EVENTS).map(name).collect::<Outcome<Vec<_>>>()?;
    let count = u32::try_from(EVENTS)?;

    let began = Instant::now();
    let mut publisher = Publisher::new(intake.public(), &sender, &bits(3))?;
    let mut lines = Vec::new();
    for (name, record) in names.into_iter().zip(&records) {
        lines.push(publisher.event(name, record)?.write()?);
    }
    rate("events sealed and written", count, began.elapsed());

    let (began, mut opener) = (Instant::now(), Opener::new(INTAKE_INFO));
    for (line, record) in lines.iter().zip(&records) {
        if open(&mut opener, &intake, &sender, line)? != *record {
            return Err("an event was opened as another".into());
        }
    }
    rate("events read and opened", count, began.elapsed());

    let mut sessions = Vec::new();
    for number in 0..SESSIONS {
        let mut publisher = Publisher::new(intake.public(), &sender, &bits(u64::from(number) + 10))?;
        sessions.push(publisher.event(name(0)?, &records[0])?.write()?);
    }
    let began = Instant::now();
    for line in &sessions {
        open(&mut opener, &intake, &sender, line)?;
    }
    rate("sessions begun at the receiver", SESSIONS, began.elapsed());
    Ok(())
}
