use super::*;

fn sealing(secrets: &[&str]) -> Sealing {
    let keys = Keys::parse(&secrets.join("\n")).unwrap();
    Sealing::new(&keys).unwrap()
}

const OLD: &str = "whsec_bGV0aGUtdGVzdHMtb25seS1sZXRoZS10ZXN0cw==";
const NEW: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const NOW: u64 = 1_795_000_000;

fn crm() -> SystemName {
    "crm".parse().unwrap()
}

fn context<'a>(direction: Direction, system: &'a SystemName, id: &'a str) -> Context<'a> {
    Context {
        direction,
        system,
        id,
    }
}

#[test]
fn a_message_opens_as_what_it_is_only() {
    let (crm, other) = (crm(), "erp".parse().unwrap());
    let sealing = sealing(&[OLD]);
    let meant = context(Direction::Replies, &crm, "msg-1");
    let sealed = sealing.seal(&meant, [7; SALT_BYTES], NOW, b"{}").unwrap();
    assert_eq!(sealing.open(&meant, NOW + TOLERANCE_S, &sealed).unwrap(), b"{}");
    for wrong in [
        context(Direction::Requests, &crm, "msg-1"),
        context(Direction::Replies, &other, "msg-1"),
        context(Direction::Replies, &crm, "msg-2"),
    ] {
        assert_eq!(sealing.open(&wrong, NOW, &sealed), None);
    }
    assert_eq!(
        sealing.open(&meant, NOW + TOLERANCE_S + 1, &sealed),
        None,
        "stale"
    );
    for place in 0..sealed.len() {
        let mut flipped = sealed.clone();
        flipped[place] ^= 1;
        assert_eq!(sealing.open(&meant, NOW, &flipped), None, "byte {place}");
    }
    for length in 0..sealed.len() {
        assert_eq!(
            sealing.open(&meant, NOW, &sealed[..length]),
            None,
            "{length} bytes"
        );
    }
}

#[test]
fn a_new_secret_is_taken_into_use_while_the_old_one_still_opens() {
    let crm = crm();
    let meant = context(Direction::Requests, &crm, "ins-1");
    let old = sealing(&[OLD]).seal(&meant, [1; SALT_BYTES], NOW, b"x").unwrap();
    let both = sealing(&[NEW, OLD]);
    assert!(both.open(&meant, NOW, &old).is_some());
    let new = both.seal(&meant, [1; SALT_BYTES], NOW, b"x").unwrap();
    assert!(sealing(&[OLD]).open(&meant, NOW, &new).is_none());
    assert!(sealing(&[NEW]).open(&meant, NOW, &new).is_some());
}

#[test]
fn the_sealing_is_the_one_that_is_described() {
    let crm = crm();
    let meant = context(Direction::Requests, &crm, "ins-1");
    let sealed = sealing(&[OLD]).seal(&meant, [0; SALT_BYTES], NOW, b"{}").unwrap();
    // Made by ops/examples/remote_connector_kafka.py, whose words these are.
    assert_eq!(
        hex::encode(sealed),
        "010000000000000000000000000000000000000000000000000000000000000000f9997272d54c6f524adccadd970de268f9df8a747fcc09f20aa791c116"
    );
}
