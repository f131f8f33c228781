//! A wire between the connector and PostgreSQL that can be cut around COMMIT.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// Nothing happens.
const WHOLE: u8 = 0;
/// The next COMMIT does not reach the server.
const BEFORE: u8 = 1;
/// The next COMMIT reaches the server and its answer does not come back.
const AFTER: u8 = 2;

#[derive(Clone)]
pub struct Wire {
    pub port: u16,
    cut: Arc<AtomicU8>,
}

impl Wire {
    /// A wire to the server that listens at `to`, such as `127.0.0.1:5432`.
    pub async fn to(to: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let wire = Self {
            port: listener.local_addr().unwrap().port(),
            cut: Arc::default(),
        };
        let cut = Arc::clone(&wire.cut);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let server = TcpStream::connect(&to).await.unwrap();
                tokio::spawn(pass(client, server, Arc::clone(&cut)));
            }
        });
        wire
    }

    pub fn cut_before_next_commit(&self) {
        self.cut.store(BEFORE, Ordering::SeqCst);
    }

    pub fn cut_after_next_commit(&self) {
        self.cut.store(AFTER, Ordering::SeqCst);
    }

    /// The URL with this wire in between.
    pub fn url(&self, url: &str) -> String {
        let (head, tail) = url.split_once('@').unwrap();
        let (_, database) = tail.split_once('/').unwrap();
        format!("{head}@127.0.0.1:{}/{database}", self.port)
    }
}

async fn pass(mut client: TcpStream, mut server: TcpStream, cut: Arc<AtomicU8>) {
    let (mut up, mut down) = (vec![0; 64 * 1024], vec![0; 64 * 1024]);
    loop {
        tokio::select! {
            read = client.read(&mut up) => {
                let Ok(n @ 1..) = read else { return };
                let commits = up[..n].windows(6).any(|w| w == b"COMMIT");
                let cut = if commits { cut.swap(WHOLE, Ordering::SeqCst) } else { WHOLE };
                if cut == BEFORE || server.write_all(&up[..n]).await.is_err() {
                    return;
                }
                if cut == AFTER {
                    // The server has answered, so it has committed; nobody hears it.
                    let _ = server.read(&mut down).await;
                    return;
                }
            }
            read = server.read(&mut down) => {
                let Ok(n @ 1..) = read else { return };
                if client.write_all(&down[..n]).await.is_err() {
                    return;
                }
            }
        }
    }
}
