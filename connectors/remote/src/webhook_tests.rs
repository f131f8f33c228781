use super::*;

/// Of the tests of the Standard Webhooks libraries.
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const VECTOR_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const VECTOR_S: u64 = 1_614_265_330;
const VECTOR_BODY: &[u8] = br#"{"test": 2432232314}"#;
const VECTOR_SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn shared() -> Keys {
    Keys::parse(SECRET).unwrap()
}

fn pair(seed: u8) -> (String, String) {
    let key = SigningKey::from_bytes(&[seed; 32]);
    (
        format!("whsk_{}", BASE64_STANDARD.encode(key.to_keypair_bytes())),
        format!("whpk_{}", BASE64_STANDARD.encode(key.verifying_key().to_bytes())),
    )
}

#[test]
fn a_shared_secret_signs_as_the_specification_says() {
    let headers = shared().sign(VECTOR_ID, VECTOR_S, VECTOR_BODY);
    assert_eq!(headers.signature, VECTOR_SIGNATURE);
    assert_eq!(
        shared().verify(&headers, VECTOR_ID, VECTOR_S + 299, VECTOR_BODY),
        Ok(())
    );
}

#[test]
fn key_pairs_sign_for_one_side_each() {
    let (our_private, our_public) = pair(1);
    let (their_private, their_public) = pair(2);
    let ours = Keys::parse(&format!("# ours\n{our_private}\n\n{their_public}\n")).unwrap();
    let theirs = Keys::parse(&format!("{their_private}\n{our_public}")).unwrap();
    let headers = ours.sign("ins-1", 1_000, b"{}");
    assert!(headers.signature.starts_with("v1a,"), "{}", headers.signature);
    assert_eq!(theirs.verify(&headers, "ins-1", 1_000, b"{}"), Ok(()));
    assert_eq!(
        ours.verify(&headers, "ins-1", 1_000, b"{}"),
        Err(Unsigned::Signature),
        "our own message is taken for theirs"
    );
}

#[test]
fn during_a_rotation_either_secret_verifies() {
    let new = format!("whsec_{}", BASE64_STANDARD.encode([7; 32]));
    let both = Keys::parse(&format!("{new}\n{SECRET}")).unwrap();
    let headers = both.sign("m", 1_000, b"x");
    for one in [SECRET, &new] {
        assert_eq!(
            Keys::parse(one).unwrap().verify(&headers, "m", 1_000, b"x"),
            Ok(())
        );
    }
}

#[test]
fn whatever_is_changed_is_noticed() {
    let good = shared().sign("ins-1", 1_000, b"{}");
    let check = |headers: &Headers, now_s, body: &[u8]| shared().verify(headers, "ins-1", now_s, body);
    let with = |change: fn(&mut Headers)| {
        let mut headers = good.clone();
        change(&mut headers);
        headers
    };
    assert_eq!(check(&good, 1_000, b"{} "), Err(Unsigned::Signature));
    assert_eq!(check(&good, 1_301, b"{}"), Err(Unsigned::Stale));
    assert_eq!(check(&good, 699, b"{}"), Err(Unsigned::Stale));
    let other = shared().sign("ins-2", 1_000, b"{}");
    assert_eq!(check(&other, 1_000, b"{}"), Err(Unsigned::Id));
    for (change, expected) in [
        (with(|h| h.id = "ins-2".into()), Unsigned::Signature),
        (with(|h| h.id = "ins-1.1000".into()), Unsigned::Header(ID)),
        (with(|h| h.timestamp = "1001".into()), Unsigned::Signature),
        (
            with(|h| h.timestamp = "+1000".into()),
            Unsigned::Header(TIMESTAMP),
        ),
        (with(|h| h.timestamp = "soon".into()), Unsigned::Header(TIMESTAMP)),
        (with(|h| h.signature = String::new()), Unsigned::Signature),
        (with(|h| h.signature = "v1,".into()), Unsigned::Signature),
        (
            with(|h| h.signature = h.signature.replace("v1,", "v1a,")),
            Unsigned::Signature,
        ),
        (
            with(|h| h.signature = h.signature.replace("v1,", "v2,")),
            Unsigned::Signature,
        ),
    ] {
        assert_eq!(check(&change, 1_000, b"{}"), Err(expected));
    }
}

#[test]
fn key_files_that_cannot_serve_are_refused_in_words() {
    let (private, public) = pair(1);
    let short = format!("whsec_{}", BASE64_STANDARD.encode([7; 16]));
    for (text, expected) in [
        ("", "a key that signs"),
        (private.as_str(), "a key that verifies"),
        (public.as_str(), "a key that signs"),
        (short.as_str(), "line 1: expected whsec_ and base64 of 24 to 64"),
        ("\nsecret", "line 2: expected whsec_, whsk_ or whpk_"),
        ("whsk_AAAA", "Ed25519"),
    ] {
        let problem = Keys::parse(text).unwrap_err().to_string();
        assert!(problem.contains(expected), "{problem}");
    }
}
