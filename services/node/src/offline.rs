//! What is done on a stopped server's files: replay and doctor.

use std::path::Path;
use std::sync::Arc;

use lethe_journal::{Place, Stream};
use lethe_ledger::{Keys, Ledger, Start};
use lethe_log::EventLog;
use lethe_vault::{FileVault, FirstStart, OsEntropy};

use crate::Error;
use crate::log::Log;
use crate::owners::Owners;
use crate::server::{Folders, origin};
use crate::settings::Settings;

/// Folds the log of a stopped server into an empty folder; the state hash, hexadecimal.
///
/// # Errors
/// Where the folder is not empty, the server runs, or the log cannot be read.
pub async fn replay(config: &Path, into: &Path) -> Result<String, Error> {
    let settings = Settings::load(config)?;
    let occupied = std::fs::read_dir(into).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(crate::settings::refused(
            into,
            "the folder is not empty: expected an empty or a new one",
        ));
    }
    let log = open_log(&settings).await?;
    let owners = Owners::open(Arc::clone(&log), &into.join("lineage"))?;
    owners.fold_all().await?;
    Ok(owners.state_hash()?.to_string())
}

/// One thing that the doctor looked at.
pub struct Diagnosis {
    /// What.
    pub what: String,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was seen.
    pub detail: String,
}

fn diagnosis(what: &str, result: Result<String, Error>) -> Diagnosis {
    match result {
        Ok(detail) => Diagnosis {
            what: what.to_owned(),
            ok: true,
            detail,
        },
        Err(error) => {
            let detail = std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |inner| format!("{error}: {inner}"));
            Diagnosis {
                what: what.to_owned(),
                ok: false,
                detail: format!("{detail} ({})", error.code()),
            }
        }
    }
}

/// Looks at a stopped server's files: whether everything that is stored can be read and fits together.
///
/// # Errors
/// Where the configuration cannot be read.
pub async fn doctor(config: &Path) -> Result<Vec<Diagnosis>, Error> {
    let settings = Settings::load(config)?;
    let folders = Folders(settings.data_dir.clone());
    let mut found = vec![diagnosis(
        "configuration",
        Ok(format!("{} systems", settings.systems.len())),
    )];
    found.push(diagnosis("vault", vault(&folders)));
    let log = open_log(&settings).await;
    match log {
        Ok(log) => {
            found.push(diagnosis("log", checked(&log).await));
            found.push(diagnosis(
                "durability",
                Ok("an acknowledgement means fsync".into()),
            ));
            found.push(diagnosis("lineage", lineage(&log, &folders).await));
        }
        Err(error) => found.push(diagnosis("log", Err(error))),
    }
    found.push(diagnosis("ledger", ledger(&settings, &folders)));
    Ok(found)
}

async fn open_log(settings: &Settings) -> Result<Arc<dyn EventLog>, Error> {
    let folder = Folders(settings.data_dir.clone()).log();
    if settings.kafka.is_none() && !folder.is_dir() {
        return Err(crate::settings::refused(
            &folder,
            "there is no log here: expected the data folder of a server",
        ));
    }
    Ok(Log::open(settings).await?.port())
}

async fn checked(log: &Arc<dyn EventLog>) -> Result<String, Error> {
    log.check().await?;
    let mut entries = 0;
    for stream in Stream::FIXED {
        for at in Place::all(&stream) {
            entries += log.head(&at).await?;
        }
    }
    Ok(format!("every entry can be read; {entries} were appended"))
}

async fn lineage(log: &Arc<dyn EventLog>, folders: &Folders) -> Result<String, Error> {
    let owners = Owners::open(Arc::clone(log), &folders.lineage())?;
    owners.fold_all().await?;
    Ok(format!("state hash {}", owners.state_hash()?))
}

fn vault(folders: &Folders) -> Result<String, Error> {
    use lethe_vault::KeyVault;
    let vault = FileVault::open(&folders.vault(), FirstStart::Refused, Arc::new(OsEntropy))?;
    Ok(format!("{:?}", vault.attest()))
}

fn ledger(settings: &Settings, folders: &Folders) -> Result<String, Error> {
    let names: Vec<_> = settings
        .systems
        .iter()
        .map(|system| system.name.clone())
        .collect();
    let keys = Keys::open(&folders.keys(), &names, Start::Again)?;
    let mut ledger = Ledger::open(
        &folders.tree(),
        &folders.head(),
        &origin(settings),
        keys.checkpoint().key(),
        Start::Again,
    )?;
    ledger.sign_head()?;
    Ok(format!(
        "{} leaves, and they contain the last signed head",
        ledger.size()
    ))
}
