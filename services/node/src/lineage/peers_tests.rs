//! Asking over real sockets: with and without the secret, with and without a certificate of the installation.

use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use super::*;
use crate::lineage::question::Stand;

const PARTITION: u16 = 3;

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
    let folder = tempfile::tempdir().unwrap();
    let owners = Arc::new(Owners::none(folder.path()));
    owners.take(PARTITION).unwrap();
    let (stop, stopped) = watch::channel(false);
    let (address, answering) = serve(cluster, owners, "the secret", stopped).unwrap();
    tokio::spawn(answering);
    Served {
        address,
        _folder: folder,
        _stop: stop,
    }
}

async fn asked(
    cluster: &ClusterSettings,
    secret: &str,
    served: &Served,
    partition: u16,
) -> Result<Folded, Unanswered> {
    let peers = Peers::new(cluster, secret.to_owned()).unwrap();
    peers
        .ask(&served.address, partition, Folded::default(), &Stand)
        .await
}

#[tokio::test]
async fn an_owner_answers_who_shows_the_secret_and_nobody_else() {
    let cluster = cluster(None);
    let served = served(&cluster);
    assert_eq!(
        asked(&cluster, "the secret", &served, PARTITION).await,
        Ok([0, 0])
    );
    assert_eq!(
        asked(&cluster, "another", &served, PARTITION).await,
        Err(Unanswered::Never(StatusCode::UNAUTHORIZED))
    );
    assert_eq!(
        asked(&cluster, "the secret", &served, PARTITION + 1).await,
        Err(Unanswered::NotNow),
        "a partition that is elsewhere"
    );
}

#[tokio::test]
async fn an_owner_that_lags_behind_does_not_answer() {
    let cluster = cluster(None);
    let served = served(&cluster);
    let peers = Peers::new(&cluster, "the secret".to_owned()).unwrap();
    let answer = peers.ask(&served.address, PARTITION, [1, 0], &Stand).await;
    assert_eq!(answer, Err(Unanswered::NotNow));
}

#[tokio::test]
async fn beyond_loopback_both_sides_show_a_certificate_of_the_installation() {
    let folder = tempfile::tempdir().unwrap();
    let ours = cluster(Some(certificates(folder.path(), "ours")));
    let served = served(&ours);
    assert!(served.address.starts_with("https://"), "{}", served.address);
    assert_eq!(asked(&ours, "the secret", &served, PARTITION).await, Ok([0, 0]));

    let theirs = cluster(Some(certificates(folder.path(), "theirs")));
    assert_eq!(
        asked(&theirs, "the secret", &served, PARTITION).await,
        Err(Unanswered::Untrusted)
    );
    let mut mixed = certificates(folder.path(), "mixed");
    mixed.ca_file = folder.path().join("ours-ca.pem");
    let mixed = cluster(Some(mixed));
    assert!(asked(&mixed, "the secret", &served, PARTITION).await.is_err());

    let bare = ClusterSettings {
        listen: "0.0.0.0:0".parse().unwrap(),
        ..cluster(None)
    };
    let (_stop, stopped) = watch::channel(false);
    let refused = serve(
        &bare,
        Arc::new(Owners::none(folder.path())),
        "the secret",
        stopped,
    );
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
        serve(cluster, owners, "the secret", stopped).map(|(address, _)| address)
    };
    let refused = serve(&everywhere).unwrap_err().to_string();
    assert!(refused.contains("cluster.address is missing"), "{refused}");
    everywhere.address = Some("lineage-1.example.org:7381".to_owned());
    assert_eq!(serve(&everywhere).unwrap(), "https://lineage-1.example.org:7381");
}
