//! Over TLS: a program whose certificate comes from the authority of `ca_file` is asked, and nothing is sent to any other.

#![allow(clippy::unwrap_used, clippy::panic, clippy::expect_used)]

mod common;

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{Program, config, python};
use lethe_kit::Connector;
use lethe_remote::{Config, connect};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::{ServerConfig, ServerConnection, StreamOwned};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// What stands before the program and speaks TLS, as a proxy does; and how many requests it was sent.
fn proxy(authority: &Authority, program: u16) -> (u16, Arc<AtomicUsize>) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], private)
        .unwrap();
    let tls = Arc::new(tls);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let requests = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&requests);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&tls)).unwrap();
            // A client that does not trust the certificate ends the connection: that is what is tried here.
            let _ = pass(StreamOwned::new(connection, client.unwrap()), program, &counted);
        }
    });
    (port, requests)
}

fn pass(
    mut client: StreamOwned<ServerConnection, TcpStream>,
    program: u16,
    requests: &AtomicUsize,
) -> std::io::Result<()> {
    let mut request = vec![0; 1 << 20];
    let mut read = 0;
    while !request[..read].ends_with(b"}") {
        match client.read(&mut request[read..])? {
            0 => return Ok(()),
            more => read += more,
        }
    }
    requests.fetch_add(1, Ordering::SeqCst);
    let mut program = TcpStream::connect(("127.0.0.1", program))?;
    program.write_all(&request[..read])?;
    let mut answer = Vec::new();
    program.read_to_end(&mut answer)?;
    client.write_all(&answer)?;
    client.conn.send_close_notify();
    client.flush()?;
    client.sock.shutdown(Shutdown::Write)
}

fn pem(folder: &Path, name: &str, authority: &Authority) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, authority.pem()).unwrap();
    path
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_a_program_whose_certificate_is_trusted_is_asked() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let program = Program::start(&python, folder.path(), &[]);
    let (ours, other) = (authority(), authority());
    let (port, requests) = proxy(&ours, program.port);
    let with = |ca_file: Option<PathBuf>, host: &str| Config {
        url: Some(format!("https://{host}:{port}/")),
        ca_file,
        ..config(folder.path(), port)
    };
    let name = || "crm".parse().unwrap();

    let trusted = Some(pem(folder.path(), "ours.pem", &ours));
    let connector = connect(name(), with(trusted.clone(), "localhost")).await.unwrap();
    let findings = connector.check().await.unwrap();
    assert!(findings.iter().all(|finding| finding.ok), "{findings:?}");

    let asked = requests.load(Ordering::SeqCst);
    let untrusted = Some(pem(folder.path(), "other.pem", &other));
    for (config, whose) in [
        (with(untrusted, "localhost"), "another authority"),
        (with(None, "localhost"), "no authority of this machine"),
        (with(trusted, "127.0.0.1"), "another name"),
    ] {
        let error = connect(name(), config).await.unwrap_err();
        assert_eq!(error.code(), "remote-untrusted", "{whose}: {error}");
    }
    assert_eq!(
        requests.load(Ordering::SeqCst),
        asked,
        "something was sent all the same"
    );
}
