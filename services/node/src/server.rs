//! The server: opens everything, starts the roles, and stops them in order.
//!
//! Roles share nothing but the log, the stores that they own, and what this file hands them. A role that fails stops the server, which
//! starts again from the log.

mod apart;
mod opening;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lethe_intake::{Intake, Shell};
use lethe_journal::{DatasetRef, Stream};
use lethe_ledger::{EvidenceStore, Keys};
use lethe_log::EventLog;
use lethe_log_kafka::KafkaLog;
use lethe_remote::Carrier;
use lethe_store::Store;
use lethe_store_sled::{Condition, SledStore};
use lethe_terms::SystemName;
use lethe_vault::{FileVault, FirstStart, InternalKey, KeyVault, Normaliser, Openers, OsEntropy};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::board::Board;
use crate::case_keys::CaseKeys;
use crate::cluster::Cluster;
use crate::connect::{self, Kinds};
use crate::evidence::Evidence;
use crate::inventories::Inventories;
use crate::janitor::LogHealth;
use crate::lineage::{self, Assignment, Elsewhere, Lineage, Owners, Peers, Told};
use crate::log::Log;
use crate::patience::{Answering, Patient};
use crate::poison::PutsAway;
use crate::processes::Oneself;
use crate::published::{self, Checker, PublishedSystems};
use crate::quarantine::Quarantine;
use crate::remote_topics::RemoteTopics;
use crate::roles::{Role, Roles};
use crate::settings::Settings;
use crate::systems::System;
use crate::waits::Waits;
use crate::walker::Walker;
use crate::{Error, running, shell};

use apart::Part;
pub(crate) use opening::Opened;
use opening::Start;

/// How long the folds may take to catch up when the server starts.
const START_PATIENCE: Duration = Duration::from_secs(3_600);

/// How long a process that is told to stop before its roles run waits for what it has begun.
const UNBEGUN_TIME_MAX: Duration = Duration::from_secs(1);

/// Among whom the partitions of lineage are shared out. No process has a name with a colon, and each has a group of its name.
pub(crate) const OWNERS_GROUP: &str = "owners:lineage";

/// Folder of the folders of several processes.
const PROCESSES: &str = "processes";

/// Where everything lies below the data folder.
///
/// Keys, evidence and the ledger belong to the installation, and so do the positions of readers of which there is one at a time: whoever takes
/// over goes on where the other one stood. Where several processes share a folder, each has its own folds.
#[derive(Debug, Clone)]
pub(crate) struct Folders {
    data: PathBuf,
    own: PathBuf,
}

impl Folders {
    /// Of a process that does everything.
    pub(crate) fn of_one(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            own: data.to_owned(),
        }
    }

    /// Of one process of several, by its name.
    fn of_process(data: &Path, instance: &str) -> Self {
        Self {
            data: data.to_owned(),
            own: data.join(PROCESSES).join(instance),
        }
    }

    /// Whether several processes keep their state here.
    pub(crate) fn are_shared(&self) -> bool {
        self.processes().is_dir()
    }

    /// The folders of all processes, where there are several.
    pub(crate) fn processes(&self) -> PathBuf {
        self.data.join(PROCESSES)
    }

    /// Where somebody who only looks folds the log for as long as that takes.
    pub(crate) fn aside(&self) -> PathBuf {
        self.data.join("looked-at")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.data.join("log")
    }
    pub(crate) fn lineage(&self) -> PathBuf {
        self.own.join("lineage")
    }
    pub(crate) fn vault(&self) -> PathBuf {
        self.data.join("vault")
    }
    /// Locks of the roles of which one process may run.
    fn roles(&self) -> PathBuf {
        self.data.join("roles")
    }
    /// Locks of the partitions of the histories, each carried by one process, and how far it is.
    pub(crate) fn carried(&self) -> PathBuf {
        self.roles().join("cases")
    }
    fn positions(&self, of: &str) -> PathBuf {
        self.data.join("positions").join(of)
    }
    pub(crate) fn ledger(&self) -> PathBuf {
        self.data.join("ledger")
    }
    pub(crate) fn tree(&self) -> PathBuf {
        self.ledger().join("tree")
    }
    pub(crate) fn head(&self) -> PathBuf {
        self.ledger().join("head")
    }
    pub(crate) fn keys(&self) -> PathBuf {
        self.ledger().join("keys")
    }
    pub(crate) fn evidence(&self) -> PathBuf {
        self.data.join("evidence")
    }
}

/// Everything that the roles are made of.
pub(crate) struct Parts {
    pub(crate) roles: Roles,
    /// Which process this is among several; nothing where it does everything.
    pub(crate) oneself: Option<Oneself>,
    pub(crate) settings: Settings,
    pub(crate) folders: Folders,
    pub(crate) log: Log,
    /// Whether Kafka is as the log needs it.
    pub(crate) cluster: Arc<Cluster>,
    /// The log as the roles see it.
    pub(crate) port: Arc<dyn EventLog>,
    pub(crate) answering: Arc<Answering>,
    /// Where readers put what can be no entry.
    pub(crate) away: Arc<dyn PutsAway>,
    pub(crate) lineage: Arc<Lineage>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) keys: CaseKeys,
    pub(crate) walker: Arc<Walker>,
    pub(crate) evidence: Arc<Evidence>,
    /// Systems whose connectors this process hosts.
    pub(crate) systems: BTreeMap<SystemName, Arc<System>>,
    pub(crate) signing: Arc<Keys>,
    pub(crate) log_health: LogHealth,
    pub(crate) quarantine: Arc<Quarantine>,
    pub(crate) board: Arc<Board>,
    pub(crate) inventories: Arc<Inventories>,
    /// What checks published events, and the systems that they may be about.
    pub(crate) checker: Arc<Checker>,
}

/// Name of the log in checkpoints.
pub(crate) fn origin(settings: &Settings) -> String {
    format!("{}/lethe", settings.controller.id)
}

/// Runs these roles of the server, with these kinds of connectors, until `told_to_stop` ends.
///
/// # Errors
/// Where it cannot start, or a role fails.
pub async fn serve(
    config: &Path,
    roles: Roles,
    kinds: &Kinds,
    told_to_stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let settings = Settings::load(config)?;
    roles.check(&settings.systems)?;
    apart::serve(config, apart::parts(settings, roles)?, kinds, told_to_stop).await
}

async fn serve_one(
    config: &Path,
    Part {
        settings,
        roles,
        held,
    }: Part,
    kinds: &Kinds,
    told_to_stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let declared = Declared {
        flows: settings.flow_refs(config)?,
        published: published::systems(config, &settings)?,
    };
    let folders = folders(&settings, &roles)?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut told_to_stop = std::pin::pin!(told_to_stop);
    let waits = Arc::new(Waits::new(Answering::new(settings.kafka.is_some())));
    let start = Start {
        settings,
        folders,
        roles,
        declared,
        held,
        stopped: stopped.clone(),
        waits: Arc::clone(&waits),
    };
    let opening = start.open(kinds, &mut tasks);
    // What is held nobody else gets before the last role has ended.
    let (outcome, _held) = match waits.during(opening, &mut told_to_stop).await {
        Ok(Some(Opened {
            parts,
            listening,
            held,
        })) => {
            let running = running::run(
                (parts, listening),
                kinds,
                &mut tasks,
                &stopped,
                &waits,
                told_to_stop,
            );
            (running.await, Some(held))
        }
        Ok(None) => (Ok(()), None),
        Err(error) => (Err(error), None),
    };
    // The receivers are the roles; where none is left there is nothing to stop.
    let _ = stop.send(true);
    let ending = all_ended(&mut tasks);
    if waits.is_over() {
        ending.await;
    } else {
        // Roles that have begun may wait without end for what is in the way, and what a kill leaves is safe. Those that are left end with this.
        let _ = tokio::time::timeout(UNBEGUN_TIME_MAX, ending).await;
    }
    outcome
}

async fn all_ended(tasks: &mut Tasks) {
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Err(error)) = ended {
            tracing::error!(
                code = error.code(),
                error = &error as &dyn std::error::Error,
                "a role ended badly"
            );
        }
    }
}

/// What runs side by side.
pub(crate) type Tasks = JoinSet<Result<(), Error>>;

/// Where this process keeps its state. Several processes need Kafka between them, and names to be told apart by.
fn folders(settings: &Settings, roles: &Roles) -> Result<Folders, Error> {
    if roles.is_all() {
        return Ok(Folders::of_one(&settings.data_dir));
    }
    let Some(kafka) = &settings.kafka else {
        return Err(Error::Roles {
            reason: "--role is refused on the embedded log: only one process can have it open, so it runs every role",
        });
    };
    match &kafka.instance {
        Some(instance) if instance.parse::<SystemName>().is_ok() => {
            Ok(Folders::of_process(&settings.data_dir, instance))
        }
        _ => Err(Error::Roles {
            reason: "--role needs kafka.instance, another name for each process: expected a-z, 0-9, '-', '_' and '.', a letter first",
        }),
    }
}

/// Removes a fold, which can be made again from the log.
pub(crate) fn remove_fold(fold: &Path) -> Result<(), Error> {
    match std::fs::remove_dir_all(fold) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(lethe_store::Error::NotStored(error.to_string()).into())
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// What the settings declare, checked.
struct Declared {
    flows: Vec<(DatasetRef, DatasetRef)>,
    published: PublishedSystems,
}

/// The log as the roles see it. Kafka is read with patience.
fn port(log: &Log, answering: &Arc<Answering>, stopped: &watch::Receiver<bool>) -> Arc<dyn EventLog> {
    match log {
        Log::Embedded(_) => log.port(),
        Log::Kafka(_) => Arc::new(Patient {
            log: log.port(),
            answering: Arc::clone(answering),
            stop: stopped.clone(),
        }),
    }
}

async fn vault(log: &Log, folders: &Folders, roles: &Roles) -> Result<Arc<dyn KeyVault>, Error> {
    let first = if log.holds_no_keys().await? {
        FirstStart::Allowed
    } else {
        FirstStart::Refused
    };
    let openers = if roles.is_all() {
        Openers::One
    } else {
        Openers::Several
    };
    let vault = FileVault::open(&folders.vault(), openers, first, Arc::new(OsEntropy))?;
    Ok(Arc::new(vault))
}

/// Lineage of a process that folds all of it.
fn whole_lineage(
    port: &Arc<dyn EventLog>,
    away: &Arc<dyn PutsAway>,
    folders: &Folders,
    tasks: &mut Tasks,
    stopped: &watch::Receiver<bool>,
) -> Result<Arc<Lineage>, Error> {
    let owners = Arc::new(Owners::open_all(&folders.lineage())?);
    for owner in owners.all().into_values() {
        tasks.spawn(owner.run(Arc::clone(port), Arc::clone(away), stopped.clone()));
    }
    Ok(Arc::new(Lineage::new(Arc::clone(port), owners, None)))
}

/// What processes need that share lineage out among themselves.
struct Sharing<'a> {
    /// The log as the roles see it.
    port: &'a Arc<dyn EventLog>,
    answering: &'a Arc<Answering>,
    away: &'a Arc<dyn PutsAway>,
    kafka: &'a Arc<KafkaLog>,
    settings: &'a Settings,
    /// What proves to one process what another said.
    key: InternalKey,
}

impl Sharing<'_> {
    /// Lineage of a process that folds a share of it, or none.
    fn lineage(
        self,
        folders: &Folders,
        roles: &Roles,
        tasks: &mut Tasks,
        stopped: &watch::Receiver<bool>,
    ) -> Result<Arc<Lineage>, Error> {
        // What one process that did everything left nobody keeps current: it would go on holding what is erased.
        remove_fold(&Folders::of_one(&self.settings.data_dir).lineage())?;
        let port = Arc::clone(self.port);
        let instance = self
            .settings
            .kafka
            .as_ref()
            .and_then(|kafka| kafka.instance.clone());
        let instance = instance.unwrap_or_default();
        let (telling, told) = watch::channel(Told::new());
        tasks.spawn(lineage::follow(
            Arc::clone(&port),
            self.key.clone(),
            telling,
            stopped.clone(),
        ));
        let owners = Arc::new(Owners::none(&folders.lineage()));
        if roles.has(Role::Lineage) {
            let cluster = &self.settings.cluster;
            let (address, answering) =
                lineage::serve(cluster, Arc::clone(&owners), self.key.clone(), stopped.clone())?;
            tasks.spawn(answering);
            let assignment = Assignment {
                log: Arc::clone(&port),
                answering: Arc::clone(self.answering),
                away: Arc::clone(self.away),
                membership: self.kafka.join(OWNERS_GROUP, &Stream::Records)?,
                owners: Arc::clone(&owners),
                told: told.clone(),
                instance: instance.clone(),
                address,
                key: self.key.clone(),
            };
            tasks.spawn(assignment.run(stopped.clone()));
        } else {
            // What a process of this name left that had the role.
            remove_fold(&folders.lineage())?;
        }
        let elsewhere = Elsewhere {
            told,
            peers: Peers::new(&self.settings.cluster, self.key)?,
            instance,
        };
        Ok(Arc::new(Lineage::new(port, owners, Some(elsewhere))))
    }
}

/// Returns once every partition has somebody who has folded what the log holds.
async fn wait_for_lineage(lineage: &Lineage, waits: &Waits, tasks: &mut Tasks) -> Result<(), Error> {
    waits.now("the ends of lineage are looked up");
    tokio::select! {
        waited = lineage.come_up(START_PATIENCE, |who| waits.now(who)) => waited,
        Some(ended) = tasks.join_next() => Err(running::why(ended)),
    }
}

async fn intake(
    settings: &Settings,
    port: &Arc<dyn EventLog>,
    vault: &Arc<dyn KeyVault>,
    (lineage, quarantine): (&Arc<Lineage>, &Arc<Quarantine>),
) -> Result<Arc<Intake>, Error> {
    let intake = Intake::new(
        Arc::clone(port),
        Arc::clone(vault),
        Normaliser::new(&settings.region)?,
        Arc::clone(lineage) as _,
        Arc::clone(quarantine) as _,
        Shell {
            now: shell::now,
            id: shell::entry_id,
        },
    );
    intake.recover().await?;
    Ok(Arc::new(intake))
}

/// The systems that this process hosts, opened as far as they can be reached.
async fn systems(
    settings: &Settings,
    roles: &Roles,
    log: &Arc<dyn EventLog>,
    kinds: &Kinds,
    tasks: &mut Tasks,
    stopped: &watch::Receiver<bool>,
) -> Result<BTreeMap<SystemName, Arc<System>>, Error> {
    let mut systems = BTreeMap::new();
    for system in settings.systems.iter().filter(|system| roles.hosts(system)) {
        let mut carrier: Option<Arc<dyn Carrier>> = None;
        if connect::is_over_kafka(system) {
            let (topics, from) = RemoteTopics::open(Arc::clone(log), &system.name).await?;
            tasks.spawn(Arc::clone(&topics).bring(from, stopped.clone()));
            carrier = Some(topics);
        }
        let opened = Arc::new(System::new(system.clone(), carrier));
        systems.insert(system.name.clone(), opened);
    }
    futures::future::try_join_all(systems.values().map(|system| system.open(kinds))).await?;
    Ok(systems)
}

async fn signing(settings: &Settings, folders: &Folders, log: &Log) -> Result<Keys, Error> {
    let systems = settings.systems.iter();
    let names: Vec<_> = systems.map(|system| system.name.clone()).collect();
    Ok(Keys::open(&folders.keys(), &names, log.start().await?)?)
}

fn evidence(settings: &Settings, folders: &Folders, signing: &Keys) -> Result<Evidence, Error> {
    let policy = signing.policy(&settings.controller.id, &origin(settings));
    Ok(Evidence {
        store: EvidenceStore::open(&folders.evidence())?,
        controller: settings.controller.id.clone(),
        days: settings.evidence_days,
        policy: serde_json::to_vec_pretty(&policy).unwrap_or_default(),
    })
}

/// Opens the positions of a reader, by whoever is the only one of its kind meanwhile.
pub(crate) fn positions(folders: &Folders, of: &str) -> Result<Arc<dyn Store>, Error> {
    let opened = SledStore::open(&folders.positions(of))?;
    if let Condition::Rebuild { why } = &opened.condition {
        tracing::warn!(
            of,
            why,
            "positions were damaged: everything is read again, which changes nothing"
        );
    }
    Ok(Arc::new(opened.store))
}

/// Returns on Ctrl-C or SIGTERM.
pub async fn told_to_stop() {
    let mut term = match tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()) {
        Ok(term) => term,
        Err(_) => return std::future::pending().await,
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = term.recv() => {}
    }
}
