//! What is done on a stopped server's files: replay and doctor.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use async_trait::async_trait;
use lethe_gateway::words;
use lethe_intake::Poison;
use lethe_journal::{Place, Position, Stored, Stream, StreamKind};
use lethe_ledger::{EvidenceStore, Keys, Ledger, Start};
use lethe_log::{EventLog, Page, Pages};
use lethe_vault::{Attestation, FileVault, FirstStart, Openers, OsEntropy};
use serde::Serialize;
use tokio::sync::watch;

use crate::Error;
use crate::cli::Exit;
use crate::evidence::look;
use crate::ledger_shell::all_leaves;
use crate::lineage::Owners;
use crate::log::Log;
use crate::poison::{PutsAway, of_nobody, of_stray};
use crate::server::{Folders, origin, remove_fold};
use crate::settings::Settings;

/// Folds the log of a stopped server into an empty folder; the state hash, hexadecimal.
///
/// # Errors
/// Where the folder is not empty, the server runs, or the log cannot be read.
pub async fn replay(config: &Path, into: &Path) -> Result<String, Error> {
    let settings = Settings::load(config)?;
    let occupied = std::fs::read_dir(into).is_ok_and(|mut entries| entries.next().is_some());
    if occupied {
        return Err(Error::Occupied {
            folder: crate::settings::whole(into),
        });
    }
    let log = open_log(&settings).await?;
    let owners = Owners::open_all(&into.join("lineage"))?;
    owners.fold_all(&log, &Noted::new(Then::PutAway)).await?;
    Ok(owners.state_hash()?.to_string())
}

/// What becomes of what can be no entry.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Then {
    /// The fold is the server's own and stops before it: what it has passed the server puts away no more.
    Stops,
    /// The fold is somebody's who only looks.
    PutAway,
    /// It is no fold: readers act on nothing of it.
    Nobody,
}

/// What stands in the log and can be no entry: counted, since who only looks puts nothing away.
struct Noted {
    then: Then,
    first: OnceLock<(Place, Poison)>,
    /// By place, behind the last that was counted: a fold that does not go on reads it again.
    counted: Mutex<BTreeMap<Place, Position>>,
    count: AtomicU64,
}

#[async_trait]
impl PutsAway for Noted {
    async fn put_away(
        &self,
        at: &Place,
        poison: &[Poison],
        _: &mut watch::Receiver<bool>,
    ) -> Result<bool, Error> {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let before = counted.entry(at.clone()).or_default();
        for one in poison.iter().filter(|one| one.position >= *before) {
            self.first.get_or_init(|| (at.clone(), one.clone()));
            self.count.fetch_add(1, Ordering::Relaxed);
        }
        *before = poison
            .last()
            .map_or(*before, |last| (last.position + 1).max(*before));
        Ok(self.then != Then::Stops)
    }
}

impl Noted {
    fn new(then: Then) -> Self {
        Self {
            then,
            first: OnceLock::new(),
            counted: Mutex::default(),
            count: AtomicU64::new(0),
        }
    }

    /// In words; nothing where there is none.
    fn words(&self) -> Option<String> {
        let (at, Poison { code, position, .. }) = self.first.get()?;
        let count = words::counted(self.count.load(Ordering::Relaxed), "message");
        let then = match self.then {
            Then::Stops => "the fold stands before them until the server puts them away",
            Then::PutAway => "the quarantine has them until they are dropped",
            Then::Nobody => "readers pass them by",
        };
        Some(format!(
            "{count} can be no entry of Lethe, the first at {at}, position {position} ({code}); {then}"
        ))
    }
}

/// One thing that the doctor looked at.
#[derive(Debug, Serialize)]
pub struct Diagnosis {
    /// What.
    pub what: &'static str,
    /// Whether it is as it should be; nothing where it could not be told.
    pub ok: Option<bool>,
    /// What was seen.
    pub detail: String,
    /// Code of what is wrong, with a page in ops/errors.
    pub code: Option<&'static str>,
}

impl Diagnosis {
    /// How the program ends that looked at all of this: one thing that is wrong is a no; without one, what could not be told counts.
    #[must_use]
    pub fn exit_of(found: &[Self]) -> Exit {
        if found.iter().any(|one| one.ok == Some(false)) {
            Exit::No
        } else if found.iter().any(|one| one.ok.is_none()) {
            Exit::Unknown
        } else {
            Exit::Yes
        }
    }
}

/// A diagnosis of what stands in a folder, which is named with its whole path where something is wrong.
fn diagnosis_of(what: &'static str, folder: &Path, result: Result<String, Error>) -> Diagnosis {
    let names_it = matches!(result, Err(Error::Settings { .. }));
    let mut found = diagnosis(what, result);
    if found.ok != Some(true) && !names_it {
        found
            .detail
            .push_str(&format!(", in {}", crate::settings::whole(folder)));
    }
    found
}

fn diagnosis(what: &'static str, result: Result<String, Error>) -> Diagnosis {
    match result {
        Ok(detail) => Diagnosis {
            what,
            ok: Some(true),
            detail,
            code: None,
        },
        Err(error) => Diagnosis {
            what,
            ok: if could_not_look(&error) { None } else { Some(false) },
            detail: std::error::Error::source(&error)
                .map_or_else(|| error.to_string(), |inner| format!("{error}: {inner}")),
            code: Some(error.code()),
        },
    }
}

/// Whether an error says nothing about what is stored, such as another program that has it open. What is not there is something seen.
fn could_not_look(error: &Error) -> bool {
    let kept_away = |source: &std::io::Error| source.kind() != std::io::ErrorKind::NotFound;
    match error {
        Error::Log(lethe_log::Error::NotStored(_) | lethe_log::Error::Unknown(_))
        | Error::Store(lethe_store::Error::NotStored(_))
        | Error::Kafka(lethe_log_kafka::Error::Unreachable(_))
        | Error::Vault(lethe_vault::Error::InUse)
        | Error::Ledger(lethe_ledger::Error::InUse { .. })
        | Error::Lagging
        | Error::Stopped { .. } => true,
        Error::Vault(lethe_vault::Error::Io { source, .. })
        | Error::Ledger(lethe_ledger::Error::Io { source, .. }) => kept_away(source),
        _ => false,
    }
}

/// Looks at a stopped server's files: whether everything that is stored can be read and fits together. Without a configuration nobody knows where
/// they are, and it is all that is looked at.
pub async fn doctor(config: &Path) -> Vec<Diagnosis> {
    let settings = match Settings::load(config) {
        Ok(settings) => settings,
        Err(error) => return vec![diagnosis("configuration", Err(error))],
    };
    let folders = Folders::of_one(&settings.data_dir);
    let mut found = vec![diagnosis(
        "configuration",
        Ok(words::counted(settings.systems.len() as u64, "system")),
    )];
    found.push(diagnosis_of("vault", &folders.vault(), vault(&folders)));
    let log_diagnosis = |what, result| match &settings.kafka {
        Some(_) => diagnosis(what, result),
        None => diagnosis_of(what, &folders.log(), result),
    };
    let mut readable = None;
    match open_log(&settings).await {
        Ok(log) => {
            found.push(log_diagnosis(
                "log",
                checked(&log, settings.kafka.is_some()).await,
            ));
            found.push(diagnosis("durability", Ok(durability(&settings))));
            found.push(log_diagnosis(
                "entries",
                entries(&log, beside_the_fold(&settings)).await,
            ));
            found.push(diagnosis_of(
                "lineage",
                &folders.lineage(),
                lineage(&log, &folders).await,
            ));
            readable = Some(log);
        }
        Err(error) => found.push(log_diagnosis("log", Err(error))),
    }
    found.push(diagnosis_of(
        "ledger",
        &folders.ledger(),
        ledger(&settings, &folders, readable.as_deref()).await,
    ));
    found.push(diagnosis_of(
        "evidence",
        &folders.evidence(),
        evidence(&settings, &folders),
    ));
    found
}

/// What an acknowledgement of the log means.
fn durability(settings: &Settings) -> String {
    settings.kafka.as_ref().map_or_else(
        || "an acknowledgement means fsync".to_owned(),
        |kafka| {
            format!(
                "an acknowledgement means that all replicas in sync have it in memory, at least {} of {}; none has to have it on its disk",
                kafka.min_insync(),
                kafka.replication_factor
            )
        },
    )
}

async fn open_log(settings: &Settings) -> Result<Arc<dyn EventLog>, Error> {
    let folder = Folders::of_one(&settings.data_dir).log();
    if settings.kafka.is_none() && !folder.is_dir() {
        return Err(crate::settings::refused(
            &folder,
            "there is no log here: expected the data folder of a server",
        ));
    }
    Ok(Log::open(settings).await?.port())
}

async fn checked(log: &Arc<dyn EventLog>, is_kafka: bool) -> Result<String, Error> {
    log.check().await?;
    let mut entries = 0;
    for stream in Stream::FIXED {
        for at in Place::all(&stream) {
            entries += log.head(&at).await?;
        }
    }
    Ok(if is_kafka {
        // Some positions hold a mark of Kafka's own. Its brokers look after what is stored.
        format!("the topics are as declared; they reach {entries} positions")
    } else {
        format!("every entry can be read; {entries} were appended")
    })
}

/// Streams of events that no fold of the lineage reads; what is sealed, and what others write, nobody can look at.
fn beside_the_fold(settings: &Settings) -> impl Iterator<Item = Stream> {
    let of_systems = settings.systems.iter();
    [
        Stream::Cursors,
        Stream::Erased,
        Stream::Systems,
        Stream::Owners,
        Stream::Cases,
        Stream::Commands,
        Stream::Answers,
        Stream::Quarantine,
    ]
    .into_iter()
    .chain(of_systems.map(|system| Stream::Instructions(system.name.clone())))
}

/// Whether every entry of these streams can be read: before one of a newer version, readers stop.
async fn entries(log: &Arc<dyn EventLog>, streams: impl Iterator<Item = Stream>) -> Result<String, Error> {
    let (noted, mut stop) = (Noted::new(Then::Nobody), watch::channel(false).1);
    let mut count = 0;
    for stream in streams {
        for at in Place::all(&stream) {
            let mut pages = Pages::new(&**log, &at, 0);
            while let Some(page) = pages.next().await? {
                count += page.entries.len() as u64;
                let poison = unreadable(&at, page)?;
                noted.put_away(&at, &poison, &mut stop).await?;
            }
        }
    }
    let read = format!(
        "{} beside records and keys can be read",
        words::counted(count, "entry")
    );
    Ok(match noted.words() {
        Some(noted) => format!("{read}; {noted}"),
        None => read,
    })
}

/// What of a page can be no entry.
fn unreadable(at: &Place, page: Page) -> Result<Vec<Poison>, Error> {
    let mut poison: Vec<_> = page.strays.into_iter().map(of_stray).collect();
    for Stored { position, entry, .. } in page.entries {
        let Some(value) = entry.value else { continue };
        let Some(Err(source)) = lethe_journal::check(&at.stream, &value) else {
            continue;
        };
        if !source.is_of_nobody() || at.stream.kind() == StreamKind::History {
            return Err(Error::UnreadEntry {
                at: at.clone(),
                position,
                source,
            });
        }
        poison.push(of_nobody(position, value, &source));
    }
    poison.sort_by_key(|one| one.position);
    Ok(poison)
}

/// The log folded: where one process does everything in its own store, otherwise in a folder that is removed again. Nobody would keep a copy current,
/// so it would go on holding what is erased.
async fn lineage(log: &Arc<dyn EventLog>, folders: &Folders) -> Result<String, Error> {
    if !folders.are_shared() {
        return folded(log, &folders.lineage(), Noted::new(Then::Stops)).await;
    }
    let aside = folders.aside();
    remove_fold(&aside)?;
    let hash = folded(log, &aside, Noted::new(Then::PutAway)).await;
    remove_fold(&aside)?;
    hash
}

async fn folded(log: &Arc<dyn EventLog>, into: &Path, noted: Noted) -> Result<String, Error> {
    let owners = Owners::open_all(into)?;
    owners.fold_all(log, &noted).await?;
    let hash = owners.state_hash()?;
    Ok(match noted.words() {
        Some(noted) => format!("state hash {hash}; {noted}"),
        None => format!("state hash {hash}"),
    })
}

fn vault(folders: &Folders) -> Result<String, Error> {
    use lethe_vault::KeyVault;
    // To open a vault that is not there would make its folder.
    if !folders.vault().is_dir() {
        return Err(lethe_vault::Error::NoVault.into());
    }
    let vault = FileVault::open(
        &folders.vault(),
        Openers::One,
        FirstStart::Refused,
        Arc::new(OsEntropy),
    )?;
    Ok(vault_text(&vault.attest()))
}

/// What a vault says of itself, in words.
fn vault_text(attestation: &Attestation) -> String {
    let place = if attestation.erasable_root {
        "the root key stands where overwriting it makes it unreadable"
    } else {
        "whether overwriting the root key makes it unreadable cannot be told"
    };
    let buckets = words::counted(
        u64::try_from(attestation.buckets).unwrap_or(u64::MAX),
        "bucket key",
    );
    format!(
        "a vault of kind {} with root key number {} and {buckets}; {place}",
        attestation.kind, attestation.root
    )
}

/// Whether tree and log both continue what was signed. Nothing is signed and nothing put right: the ledger does that when it starts.
async fn ledger(settings: &Settings, folders: &Folders, log: Option<&dyn EventLog>) -> Result<String, Error> {
    // To open a ledger that is not there would make one.
    if !folders.tree().is_dir() {
        return Err(crate::settings::refused(
            &folders.tree(),
            "there is no ledger here: expected the data folder of a server",
        ));
    }
    let keys = keys(settings, folders)?;
    let ledger = Ledger::open(
        &folders.tree(),
        &folders.head(),
        &origin(settings),
        keys.checkpoint().key(),
        Start::Again,
    )?;
    ledger.check()?;
    let who = match log {
        None => "they",
        Some(log) => {
            ledger.check_stream(all_leaves(log).await?)?;
            "they and the log"
        }
    };
    Ok(format!(
        "{} leaves, and {who} contain the last signed head",
        ledger.size()
    ))
}

fn keys(settings: &Settings, folders: &Folders) -> Result<Keys, Error> {
    let names = settings.systems.iter().map(|system| system.name.clone());
    let names: Vec<_> = names.collect();
    Ok(Keys::open(&folders.keys(), &names, Start::Again)?)
}

fn evidence(settings: &Settings, folders: &Folders) -> Result<String, Error> {
    // To open a store that is not there would make one.
    if !folders.evidence().is_dir() {
        return Err(crate::settings::refused(
            &folders.evidence(),
            "there is no evidence here: expected the data folder of a server",
        ));
    }
    let keys = keys(settings, folders)?;
    let policy = keys.policy(&settings.controller.id, &origin(settings));
    let store = EvidenceStore::open(&folders.evidence())?;
    let (of, damaged) = look(&store, &policy.to_bytes()?, &keys)?;
    match damaged.first() {
        None => Ok(format!("{} verify", words::counted(of as u64, "piece"))),
        Some(one) => Err(Error::DamagedEvidence {
            damaged: damaged.len(),
            of,
            one: one.clone(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use lethe_journal::Entry;
    use lethe_log::MemoryLog;
    use lethe_terms::EntryId;

    use super::*;

    fn found(errors: Vec<Error>) -> Exit {
        let rows: Vec<_> = errors
            .into_iter()
            .map(|error| diagnosis("log", Err(error)))
            .chain([diagnosis("configuration", Ok(String::new()))])
            .collect();
        Diagnosis::exit_of(&rows)
    }

    #[test]
    fn what_could_not_be_looked_at_is_unknown_and_what_is_damaged_is_a_no() {
        let busy = || Error::Vault(lethe_vault::Error::InUse);
        let io = |kind: std::io::ErrorKind| {
            Error::Vault(lethe_vault::Error::Io {
                what: "root key",
                source: kind.into(),
            })
        };
        assert_eq!(found(vec![]), Exit::Yes);
        assert_eq!(found(vec![busy()]), Exit::Unknown);
        assert_eq!(
            found(vec![io(std::io::ErrorKind::PermissionDenied)]),
            Exit::Unknown
        );
        assert_eq!(found(vec![io(std::io::ErrorKind::NotFound)]), Exit::No);
        let damaged = Error::Log(lethe_log::Error::Corrupt("a page".into()));
        assert_eq!(found(vec![busy(), damaged]), Exit::No);
    }

    /// An event of Lethe of this type in a stream of its own.
    async fn append(log: &dyn EventLog, stream: Stream, key: &str, value: Vec<u8>) {
        let entry = Entry {
            id: EntryId::from_bytes([0; 16]),
            key: key.as_bytes().to_vec(),
            value: Some(value),
        };
        let at = Place::new(stream, 0);
        let epoch = (at.stream == Stream::Cases).then_some(1);
        if epoch.is_some() {
            log.acquire(&at).await.unwrap();
        }
        log.append(&at, epoch, vec![entry]).await.unwrap();
    }

    #[tokio::test]
    async fn what_can_be_no_entry_is_a_no_in_a_history() {
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
        let command = br#"{"specversion":"1.0","type":"org.lethe.command.v1"}"#;
        append(&*log, Stream::Cases, "case", command.to_vec()).await;
        let row = diagnosis("entries", entries(&log, [Stream::Cases].into_iter()).await);
        assert_eq!((row.ok, row.code), (Some(false), Some("journal-malformed")));
    }

    #[tokio::test]
    async fn an_entry_of_a_newer_version_is_a_no_wherever_it_stands_and_what_is_nobodys_is_counted() {
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new());
        let streams = || [Stream::Systems, Stream::Cases].into_iter();
        append(&*log, Stream::Systems, "shop", b"{}".to_vec()).await;
        let seen = entries(&log, streams()).await.unwrap();
        assert!(
            seen.contains("1 message can be no entry of Lethe, the first at systems/0, position 0"),
            "{seen}"
        );
        assert!(
            seen.contains("1 entry beside records and keys can be read"),
            "{seen}"
        );
        append(&*log, Stream::Systems, "crm", b"{}".to_vec()).await;
        let seen = entries(&log, streams()).await.unwrap();
        assert!(
            seen.contains("2 entries beside records and keys can be read"),
            "{seen}"
        );
        let newer = br#"{"source":"/lethe/conductor","type":"org.lethe.case.entry.v9","more":1}"#;
        append(&*log, Stream::Cases, "case", newer.to_vec()).await;
        let row = diagnosis("entries", entries(&log, streams()).await);
        assert_eq!((row.ok, row.code), (Some(false), Some("journal-newer-version")));
        assert!(row.detail.starts_with("cases/0, position"), "{}", row.detail);
    }
}
