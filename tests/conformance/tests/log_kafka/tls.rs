//! A broker that is spoken to over TLS.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lethe_journal::Stream;
use lethe_log_kafka::{KafkaLog, KafkaSettings};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

use crate::broker::{bootstrap, settings};
use crate::faults::Cluster;
use crate::sasl::works;

/// How long a log may take to say that it cannot be opened.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

/// An authority, and what it signs.
struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    fn new(folder: &Path, name: &str) -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let file = folder.join(format!("{name}.pem"));
        std::fs::write(&file, issuer.pem()).unwrap();
        Self { issuer, file }
    }

    /// A key and a certificate for it.
    fn sign(&self, name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        (key.serialize_pem(), certificate.pem())
    }
}

/// A broker with a listener that asks for a certificate and one that asks for a password, both over TLS.
struct Broker {
    cluster: Cluster,
    by_certificate: String,
    by_password: String,
}

impl Broker {
    fn start(authority: &Authority) -> Self {
        let cluster = Cluster::start(1);
        cluster.run(&["stop"]);
        let folder = cluster.folder.path().join("broker-1");
        let (key, certificate) = authority.sign("127.0.0.1");
        let keystore = folder.join("keystore.pem");
        std::fs::write(&keystore, key + &certificate).unwrap();
        let free = [(); 2].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
        let [by_certificate, by_password] =
            free.each_ref().map(|free| free.local_addr().unwrap().to_string());
        let file = folder.join("server.properties");
        let mut properties = std::fs::read_to_string(&file).unwrap();
        let listeners = format!(",TLS://{by_certificate},SASLTLS://{by_password}");
        for (setting, more) in [
            ("listeners=", listeners.as_str()),
            ("advertised.listeners=", &listeners),
            ("listener.security.protocol.map=", ",TLS:SSL,SASLTLS:SASL_SSL"),
        ] {
            let line = properties
                .lines()
                .find(|line| line.starts_with(setting))
                .unwrap()
                .to_owned();
            properties = properties.replace(&format!("{line}\n"), &format!("{line}{more}\n"));
        }
        properties += &format!(
            "ssl.keystore.type=PEM\nssl.keystore.location={}\nssl.truststore.type=PEM\nssl.truststore.location={}\n\
             listener.name.tls.ssl.client.auth=required\n\
             listener.name.sasltls.sasl.enabled.mechanisms=PLAIN\n\
             listener.name.sasltls.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule \
             required user_lethe=\"plain-secret\";\n",
            keystore.display(),
            authority.file.display(),
        );
        std::fs::write(&file, properties).unwrap();
        drop(free);
        cluster.run(&["start"]);
        Self {
            cluster,
            by_certificate,
            by_password,
        }
    }

    fn folder(&self) -> &Path {
        self.cluster.folder.path()
    }
}

fn over_tls(bootstrap: &str, properties: &[(&str, &str)]) -> KafkaSettings {
    let mut settings = settings(bootstrap);
    let properties = properties
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
    settings.properties = properties.collect::<BTreeMap<_, _>>();
    settings
}

#[tokio::test(flavor = "multi_thread")]
async fn every_client_of_the_log_speaks_tls_with_brokers_whose_authority_it_trusts() {
    if bootstrap().is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let [ours, other] = ["ours", "other"].map(|name| Authority::new(folder.path(), name));
    let broker = Broker::start(&ours);
    let (key, certificate) = ours.sign("lethe");
    let [key_file, certificate_file] = ["key.pem", "certificate.pem"].map(|name| broker.folder().join(name));
    std::fs::write(&key_file, key).unwrap();
    std::fs::write(&certificate_file, certificate).unwrap();

    let by_password = |ca: &Path| {
        let properties = [
            ("security.protocol", "SASL_SSL"),
            ("ssl.ca.location", ca.to_str().unwrap()),
            ("sasl.mechanism", "PLAIN"),
            ("sasl.username", "lethe"),
            ("sasl.password", "plain-secret"),
        ];
        over_tls(&broker.by_password, &properties)
    };
    works(&by_password(&ours.file)).await;

    let by_certificate = |ca: &Path| {
        let properties = [
            ("security.protocol", "SSL"),
            ("ssl.ca.location", ca.to_str().unwrap()),
            ("ssl.certificate.location", certificate_file.to_str().unwrap()),
            ("ssl.key.location", key_file.to_str().unwrap()),
        ];
        over_tls(&broker.by_certificate, &properties)
    };
    works(&by_certificate(&ours.file)).await;
    let mut without = by_certificate(&ours.file);
    without.properties.remove("ssl.certificate.location");
    without.properties.remove("ssl.key.location");
    // Each takes the log's whole patience.
    tokio::join!(
        refused(by_password(&other.file)),
        refused(by_certificate(&other.file)),
        refused(without),
    );
}

/// A log that cannot be opened says that it is for TLS.
async fn refused(settings: KafkaSettings) {
    let opened = KafkaLog::open(settings, &[Stream::Commands]);
    let refused = tokio::time::timeout(REFUSED_WITHIN, opened)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(refused.code(), "log-kafka-unreachable");
    assert!(refused.to_string().contains("TLS failed: "), "{refused}");
}
