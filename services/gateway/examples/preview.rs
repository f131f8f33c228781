//! Shows the dashboard with made-up cases in every state: `cargo run -p lethe-gateway --example preview [ADDRESS [KEY_FILE]]`.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use lethe_gateway::fake::Fake;
use lethe_gateway::{Options, serve};
use lethe_terms::Timestamp;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let listen = arguments
        .next()
        .unwrap_or_else(|| "127.0.0.1:7381".to_owned())
        .parse()?;
    let options = Options {
        keys: arguments.next().map(PathBuf::from),
        ..Options::default()
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis();
    let backend = Arc::new(Fake::with_samples(Timestamp::from_millis(i64::try_from(now)?)));
    let running = serve(listen, backend, options, std::future::pending()).await?;
    println!("{}", running.url());
    running.ended().await?;
    Ok(())
}
