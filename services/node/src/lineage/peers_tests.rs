//! Asking over real sockets: with and without the key, with and without a certificate of the installation.

use std::path::{Path, PathBuf};

use lethe_vault::TokenKeys;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::*;
use crate::lineage::question::Stand;

const PARTITION: u16 = 3;

/// How long anything may take that comes at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// The key of this installation, and that of another.
const OURS: u8 = 2;
const THEIRS: u8 = 3;

fn key(byte: u8) -> InternalKey {
    TokenKeys::new(&[1; 32], &[byte; 32]).internal()
}

/// Certificates of one installation.
fn certificates(folder: &Path, name: &str) -> ClusterTls {
    let file = |kind: &str| folder.join(format!("{name}-{kind}.pem"));
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, &authority).unwrap();
    let write = |path: PathBuf, pem: String| {
        std::fs::write(&path, pem).unwrap();
        path
    };
    ClusterTls {
        certificate_file: write(file("certificate"), certificate.pem()),
        key_file: write(file("key"), key.serialize_pem()),
        ca_file: write(file("ca"), authority.pem()),
    }
}

fn cluster(tls: Option<ClusterTls>) -> ClusterSettings {
    ClusterSettings {
        tls,
        ..ClusterSettings::default()
    }
}

struct Served {
    address: String,
    _folder: tempfile::TempDir,
    _stop: watch::Sender<bool>,
}

fn served(cluster: &ClusterSettings) -> Served {
    served_within(LIMITS, cluster)
}

fn served_within(limits: Limits, cluster: &ClusterSettings) -> Served {
    let folder = tempfile::tempdir().unwrap();
    let owners = Arc::new(Owners::none(folder.path()));
    owners.take(PARTITION).unwrap();
    let (stop, stopped) = watch::channel(false);
    let (address, answering) = serve_within(limits, cluster, (owners, key(OURS)), stopped).unwrap();
    tokio::spawn(answering);
    Served {
        address,
        _folder: folder,
        _stop: stop,
    }
}

async fn asked(
    cluster: &ClusterSettings,
    byte: u8,
    served: &Served,
    partition: u16,
) -> Result<Folded, Unanswered> {
    let peers = Peers::new(cluster, key(byte)).unwrap();
    peers
        .ask(&served.address, partition, Folded::default(), &Stand)
        .await
}

#[tokio::test]
async fn an_owner_answers_who_has_the_key_and_nobody_else() {
    let cluster = cluster(None);
    let served = served(&cluster);
    assert_eq!(asked(&cluster, OURS, &served, PARTITION).await, Ok([0, 0]));
    assert_eq!(
        asked(&cluster, THEIRS, &served, PARTITION).await,
        Err(Unanswered::Never(StatusCode::UNAUTHORIZED))
    );
    assert_eq!(
        asked(&cluster, OURS, &served, PARTITION + 1).await,
        Err(Unanswered::NotNow),
        "a partition that is elsewhere"
    );
}

#[tokio::test]
async fn an_owner_that_lags_behind_does_not_answer() {
    let cluster = cluster(None);
    let served = served(&cluster);
    let peers = Peers::new(&cluster, key(OURS)).unwrap();
    let answer = peers.ask(&served.address, PARTITION, [1, 0], &Stand).await;
    assert_eq!(answer, Err(Unanswered::NotNow));
}

#[tokio::test]
async fn beyond_loopback_both_sides_show_a_certificate_of_the_installation() {
    let folder = tempfile::tempdir().unwrap();
    let ours = cluster(Some(certificates(folder.path(), "ours")));
    let served = served(&ours);
    assert!(served.address.starts_with("https://"), "{}", served.address);
    assert_eq!(asked(&ours, OURS, &served, PARTITION).await, Ok([0, 0]));

    let theirs = cluster(Some(certificates(folder.path(), "theirs")));
    assert_eq!(
        asked(&theirs, OURS, &served, PARTITION).await,
        Err(Unanswered::Untrusted)
    );
    let mut mixed = certificates(folder.path(), "mixed");
    mixed.ca_file = folder.path().join("ours-ca.pem");
    let mixed = cluster(Some(mixed));
    assert!(asked(&mixed, OURS, &served, PARTITION).await.is_err());

    let bare = ClusterSettings {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..cluster(None)
    };
    let (_stop, stopped) = watch::channel(false);
    let refused = serve(&bare, Arc::new(Owners::none(folder.path())), key(OURS), stopped);
    assert_eq!(refused.err().unwrap().code(), "node-roles");
}

#[tokio::test]
async fn an_address_that_means_all_of_a_machine_is_told_to_nobody() {
    let folder = tempfile::tempdir().unwrap();
    let mut everywhere = ClusterSettings {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..cluster(Some(certificates(folder.path(), "ours")))
    };
    let serve = |cluster: &ClusterSettings| {
        let (_stop, stopped) = watch::channel(false);
        let owners = Arc::new(Owners::none(folder.path()));
        serve(cluster, owners, key(OURS), stopped).map(|(address, _)| address)
    };
    let refused = serve(&everywhere).unwrap_err().to_string();
    assert!(refused.contains("cluster.address is missing"), "{refused}");
    everywhere.address = Some("lineage-1.example.org:7381".to_owned());
    assert_eq!(serve(&everywhere).unwrap(), "https://lineage-1.example.org:7381");
    let bare = ClusterSettings {
        address: everywhere.address,
        ..cluster(None)
    };
    let refused = serve(&bare).unwrap_err().to_string();
    assert!(refused.contains("cluster.address is not loopback"), "{refused}");
}

#[test]
fn an_owner_is_asked_by_tls_and_without_it_on_loopback_alone() {
    for address in [
        "http://127.0.0.1:7381",
        "http://[::1]:7381",
        "http://localhost:7381",
    ] {
        assert!(is_askable(address, false), "{address}");
        assert!(!is_askable(address, true), "{address}");
    }
    assert!(is_askable("https://lineage-1.example.org:7381", true));
    for address in [
        "http://lineage-1.example.org:7381",
        "http://127.0.0.1@lineage-1.example.org:7381",
        "http://localhost.example.org:7381",
        "https://127.0.0.1:7381",
        "file:///127.0.0.1",
        "127.0.0.1:7381",
        "",
    ] {
        assert!(!is_askable(address, false), "{address}");
    }
}

/// Connects to whoever answers, and sends this.
async fn sent(served: &Served, bytes: &[u8]) -> TcpStream {
    let address = served.address.strip_prefix("http://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream
}

/// What is read until the other side closes; it may have closed before it read all.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut read = Vec::new();
    let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut read)).await;
    drop(closed.expect("the other side closes the connection"));
    String::from_utf8(read).unwrap()
}

/// The head of a question whose body is never sent.
fn head(shown: &str) -> String {
    format!(
        "POST /partitions/3/stand HTTP/1.1\r\nhost: lethe\r\nauthorization: {shown}\r\ncontent-length: 8000000\r\n\r\n"
    )
}

#[tokio::test]
async fn nothing_is_read_of_a_stranger_but_the_head() {
    let served = served(&cluster(None));
    let url = format!("{}/partitions/3/stand", served.address);
    let theirs = shown::by_question(&key(THEIRS), &url, b"", shell::now());
    for shown in ["Bearer anything", &format!("Lethe {theirs}")] {
        let mut stranger = sent(&served, head(shown).as_bytes()).await;
        let answer = read_to_end(&mut stranger).await;
        assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
    }
}

#[tokio::test]
async fn who_sends_a_body_too_slowly_or_another_one_is_told_so() {
    let limits = Limits {
        body_time: Duration::from_millis(50),
        ..LIMITS
    };
    let served = served_within(limits, &cluster(None));
    let url = format!("{}/partitions/3/stand", served.address);
    let shown = shown::by_question(&key(OURS), &url, b"{}", shell::now());
    let mut slow = sent(&served, head(&format!("Lethe {shown}")).as_bytes()).await;
    let answer = read_to_end(&mut slow).await;
    assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
    let another = head(&format!("Lethe {shown}")).replace("8000000", "2") + "[]";
    let mut another = sent(
        &served,
        another.replace("host", "connection: close\r\nhost").as_bytes(),
    )
    .await;
    let answer = read_to_end(&mut another).await;
    assert!(answer.starts_with("HTTP/1.1 401 "), "{answer}");
}

#[tokio::test]
async fn slow_strangers_are_cut_off_and_have_no_more_than_the_places_that_there_are() {
    let ours = cluster(None);
    let limits = |head_time| Limits {
        connections: 2,
        head_time,
        ..LIMITS
    };
    let slowly = b"POST /partitions/3/stand HTTP/1.1\r\nhost: ";
    let patient = served_within(limits(10 * PATIENCE), &ours);
    let _strangers = [sent(&patient, slowly).await, sent(&patient, slowly).await];
    let mut third = sent(&patient, b"").await;
    assert_eq!(read_to_end(&mut third).await, "", "there is no place");

    let served = served_within(limits(Duration::from_millis(200)), &ours);
    let mut strangers = [sent(&served, slowly).await, sent(&served, b"").await];
    for stranger in &mut strangers {
        read_to_end(stranger).await;
    }
    let answered = async { while asked(&ours, OURS, &served, PARTITION).await != Ok([0, 0]) {} };
    let answered = tokio::time::timeout(PATIENCE, answered).await;
    answered.expect("their places are free again");
}

#[tokio::test]
async fn whoever_took_the_place_of_an_owner_hears_no_key_and_answers_nothing() {
    let rogue = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let served = Served {
        address: format!("http://{}", rogue.local_addr().unwrap()),
        _folder: tempfile::tempdir().unwrap(),
        _stop: watch::channel(false).0,
    };
    let heard = tokio::spawn(async move {
        let (mut stream, _) = rogue.accept().await.unwrap();
        let mut heard = Vec::new();
        while !heard.ends_with(b"}") {
            assert!(stream.read_buf(&mut heard).await.unwrap() > 0);
        }
        let nothing = b"HTTP/1.1 200 OK\r\nlethe-answer: 00\r\ncontent-length: 5\r\n\r\n[0,0]";
        stream.write_all(nothing).await.unwrap();
        (String::from_utf8(heard).unwrap(), stream)
    });
    let answer = asked(&cluster(None), OURS, &served, PARTITION).await;
    assert_eq!(answer, Err(Unanswered::Never(StatusCode::OK)));
    let (heard, _stream) = heard.await.unwrap();
    let shown = heard.split("Lethe ").nth(1).unwrap();
    let shown = shown.split("\r\n").next().unwrap();
    let another = served_within(LIMITS, &cluster(None));
    let mut again = sent(&another, head(&format!("Lethe {shown}")).as_bytes()).await;
    let answer = read_to_end(&mut again).await;
    assert!(
        answer.starts_with("HTTP/1.1 401 "),
        "what it heard is no key: {answer}"
    );
}

#[tokio::test]
async fn with_tls_nobody_is_asked_without_it() {
    let folder = tempfile::tempdir().unwrap();
    let bare = served(&cluster(None));
    let tls = cluster(Some(certificates(folder.path(), "ours")));
    assert_eq!(
        asked(&tls, OURS, &bare, PARTITION).await,
        Err(Unanswered::Untrusted)
    );
}
