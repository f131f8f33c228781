//! `lethe intake ...`: the keys that publishers seal to, and those that they seal with.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use clap::{Args, Subcommand};
use lethe_exchange::PrivateKey;
use lethe_gateway::client::Client;
use lethe_gateway::events::{IntakeKeyList, IntakeKeyView};
use serde_json::json;
use zeroize::Zeroizing;

use super::args::OutArgs;
use super::exit::{Error, Exit};
use super::talk::{Talk, table, unwritten, whole};
use crate::shell;

/// What to do with the keys of publishers.
#[derive(Debug, Subcommand)]
pub enum IntakeCommand {
    /// Show the public keys that publishers seal to, the newest first
    #[command(after_long_help = "Example:\n\n    lethe intake keys --out intake-keys.json")]
    Keys(OutArgs),
    /// Make a new one; publishers have a week to fetch it
    #[command(after_long_help = "Example:\n\n    lethe intake renew")]
    Renew,
    /// Make a key for a publisher to seal with, and print the line for the settings of its system
    #[command(after_long_help = "Needs no server.\n\nExample:\n\n    lethe intake sender --out crm.sender")]
    Sender(SenderArgs),
}

/// Options of `intake sender`.
#[derive(Debug, Clone, Args)]
pub struct SenderArgs {
    /// Write the private half to this new file, which only its owner may read
    #[arg(long, value_name = "FILE")]
    pub out: PathBuf,
}

/// Shows the keys, or writes them to a file as JSON.
pub(super) async fn keys(client: &Client, args: &OutArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let list = client.intake_keys().await?;
    match &args.out {
        Some(path) => {
            let text = serde_json::to_string_pretty(&list).unwrap_or_default();
            talk.bytes(format!("{text}\n").as_bytes(), Some(path))?;
        }
        None => show(&list, talk)?,
    }
    Ok(Exit::Yes)
}

/// Makes a new key.
pub(super) async fn renew(client: &Client, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    show(&client.renew_intake_key().await?, talk)?;
    Ok(Exit::Yes)
}

fn show(list: &IntakeKeyList, talk: &mut Talk<'_>) -> Result<(), Error> {
    if talk.json {
        return talk.data(list);
    }
    let row = |key: &IntakeKeyView| {
        vec![
            key.id.to_string(),
            key.made_at.minute(),
            key.seal_until.minute(),
            STANDARD.encode(key.public_key.to_bytes()),
        ]
    };
    let rows: Vec<_> = list.keys.iter().map(row).collect();
    talk.print(&table(&["key", "made", "seal until", "public key"], &rows))
}

/// Makes the key that a publisher seals with: the private half goes to a file that is not there yet, the public one is printed.
pub(super) fn sender(args: &SenderArgs, talk: &mut Talk<'_>) -> Result<Exit, Error> {
    let key = PrivateKey::derive(&Zeroizing::new(shell::random()));
    write_private(&args.out, &key).map_err(unwritten(whole("file of the private key", &args.out)))?;
    let public = STANDARD.encode(key.public().to_bytes());
    if talk.json {
        talk.data(&json!({ "id": key.public().id(), "public_key": public }))?;
    } else {
        talk.print(&format!("senders = [\"{public}\"]\n"))?;
    }
    Ok(Exit::Yes)
}

fn write_private(path: &Path, key: &PrivateKey) -> std::io::Result<()> {
    // A key that others may read is none, and one that is there may be in use.
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)?;
    let text = Zeroizing::new(STANDARD.encode(key.to_bytes().as_slice()));
    file.write_all(text.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}
