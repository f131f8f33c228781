//! The server: opens everything, starts the roles, and stops them in order.
//!
//! Roles share nothing but the log, the stores that they own, and what this file hands them. A role that fails stops the server, which
//! starts again from the log.

use std::collections::{BTreeMap, BTreeSet};
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
use lethe_terms::{SystemName, Timestamp};
use lethe_vault::{FileVault, FirstStart, KeyVault, Normaliser, Openers, OsEntropy};
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
use crate::processes::Oneself;
use crate::published::{self, Checker, IntakeKeyring, PublishedSystems};
use crate::quarantine::Quarantine;
use crate::remote_topics::RemoteTopics;
use crate::roles::{Role, Roles};
use crate::settings::Settings;
use crate::systems::System;
use crate::walker::Walker;
use crate::{Error, running, shell, standby};

/// How long the folds may take to catch up when the server starts.
const START_PATIENCE: Duration = Duration::from_secs(3_600);

/// Among whom the partitions of lineage are shared out.
const OWNERS_GROUP: &str = "lineage";

/// Folder of the folders of several processes.
const PROCESSES: &str = "processes";

/// Where everything lies below the data folder.
///
/// Keys, evidence and the ledger belong to the installation. Where several processes share a folder, each has its own folds and positions.
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
        self.data.join(PROCESSES).is_dir()
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
        self.own.join("positions").join(of)
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
    pub(crate) started: Timestamp,
    pub(crate) settings: Settings,
    pub(crate) folders: Folders,
    pub(crate) log: Log,
    /// Whether Kafka is as the log needs it.
    pub(crate) cluster: Arc<Cluster>,
    /// The log as the roles see it.
    pub(crate) port: Arc<dyn EventLog>,
    pub(crate) answering: Arc<Answering>,
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
    /// Names of API keys that may only publish.
    pub(crate) publishers: BTreeSet<String>,
}

impl Parts {
    /// Which process this is among several; nothing where it does everything.
    pub(crate) fn oneself(&self) -> Option<Oneself> {
        if self.roles.is_all() {
            return None;
        }
        let instance = self.settings.kafka.as_ref()?.instance.clone()?;
        Some(Oneself {
            instance,
            roles: self.roles.clone(),
            since: self.started,
        })
    }
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
    let declared = Declared {
        flows: settings.flow_refs(config)?,
        published: published::systems(config, &settings)?,
    };
    if let Some(unknown) = roles.unknown(&settings.systems) {
        return Err(Error::Connector {
            file: settings.file,
            system: unknown.to_string(),
            message: "--system: expected the name of a configured system".to_owned(),
        });
    }
    let folders = folders(&settings, &roles)?;
    let (stop, stopped) = watch::channel(false);
    let mut tasks = JoinSet::new();
    let mut told_to_stop = std::pin::pin!(told_to_stop);
    let opening = async {
        let held = if roles.is_all() {
            None
        } else {
            Some(standby::take(&folders.roles(), &roles, &settings.systems).await?)
        };
        let parts = open(settings, folders, roles, declared, kinds, &mut tasks, &stopped).await?;
        Ok::<_, Error>((held, parts))
    };
    // Others may have to end first, or to come: that takes as long as it takes.
    let opened = tokio::select! {
        opened = opening => Some(opened?),
        () = &mut told_to_stop => None,
    };
    let outcome = match opened {
        Some((_held, parts)) => running::run(parts, kinds, &mut tasks, &stopped, told_to_stop).await,
        None => Ok(()),
    };
    // The receivers are the roles; where none is left there is nothing to stop.
    let _ = stop.send(true);
    while let Some(ended) = tasks.join_next().await {
        if let Ok(Err(error)) = ended {
            tracing::error!(
                code = error.code(),
                error = &error as &dyn std::error::Error,
                "a role ended badly"
            );
        }
    }
    outcome
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

async fn open(
    settings: Settings,
    folders: Folders,
    roles: Roles,
    declared: Declared,
    kinds: &Kinds,
    tasks: &mut Tasks,
    stopped: &watch::Receiver<bool>,
) -> Result<Parts, Error> {
    let log = Log::open(&settings).await?;
    let answering = Arc::new(Answering::new(matches!(log, Log::Kafka(_))));
    let port = port(&log, &answering, stopped);
    let vault = vault(&log, &folders, &roles).await?;
    let lineage = match &log {
        Log::Kafka(kafka) if !roles.is_all() => {
            let secret = vault.tokens().internal_secret();
            let sharing = Sharing {
                port: &port,
                answering: &answering,
                kafka,
                settings: &settings,
                secret,
            };
            sharing.lineage(&folders, &roles, tasks, stopped)?
        }
        _ => whole_lineage(&port, &folders, tasks, stopped)?,
    };
    wait_for_lineage(&lineage, tasks).await?;
    let known = Arc::clone(&lineage) as _;
    let systems = systems(&settings, &roles, &port, kinds, tasks, stopped).await?;
    let board = Arc::new(Board::new(&settings.systems, declared.flows, systems.clone()));
    let inventories = Arc::new(Inventories::new(Arc::clone(&board)));
    let quarantine = Quarantine::new(Arc::clone(&port), Arc::clone(&vault), known, systems.clone());
    let quarantine = Arc::new(quarantine);
    let intake = intake(&settings, &port, &vault, (&lineage, &quarantine)).await?;
    let keys = CaseKeys::new(Arc::clone(&vault), Arc::clone(&port), Arc::clone(&lineage));
    let walker = Arc::new(Walker {
        lineage: Arc::clone(&lineage),
        intake: Arc::clone(&intake),
        inventories: Arc::clone(&inventories),
    });
    let publishers = published::publishers(&declared.published);
    let intake_keys = IntakeKeyring::open(Arc::clone(&vault), &*port, settings.intake_key_days)?;
    let checker = Checker::new(declared.published, Arc::new(intake_keys), Arc::clone(&intake));
    let signing = Arc::new(signing(&settings, &folders, &log).await?);
    let evidence = Arc::new(evidence(&settings, &folders, &signing)?);
    Ok(Parts {
        roles,
        started: shell::now(),
        cluster: Cluster::open(log.clone(), &settings).await,
        settings,
        folders,
        log,
        port,
        answering,
        lineage,
        intake,
        keys,
        walker,
        evidence,
        systems,
        signing,
        log_health: LogHealth::default(),
        quarantine,
        board,
        inventories,
        checker: Arc::new(checker),
        publishers,
    })
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
    folders: &Folders,
    tasks: &mut Tasks,
    stopped: &watch::Receiver<bool>,
) -> Result<Arc<Lineage>, Error> {
    let owners = Arc::new(Owners::open_all(&folders.lineage())?);
    for owner in owners.all().into_values() {
        tasks.spawn(owner.run(Arc::clone(port), stopped.clone()));
    }
    Ok(Arc::new(Lineage::new(Arc::clone(port), owners, None)))
}

/// What processes need that share lineage out among themselves.
struct Sharing<'a> {
    /// The log as the roles see it.
    port: &'a Arc<dyn EventLog>,
    answering: &'a Arc<Answering>,
    kafka: &'a Arc<KafkaLog>,
    settings: &'a Settings,
    /// What a process shows that asks another.
    secret: String,
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
        tasks.spawn(lineage::follow(Arc::clone(&port), telling, stopped.clone()));
        let owners = Arc::new(Owners::none(&folders.lineage()));
        if roles.has(Role::Lineage) {
            let cluster = &self.settings.cluster;
            let (address, answering) =
                lineage::serve(cluster, Arc::clone(&owners), &self.secret, stopped.clone())?;
            tasks.spawn(answering);
            let assignment = Assignment {
                log: Arc::clone(&port),
                answering: Arc::clone(self.answering),
                membership: self.kafka.join(OWNERS_GROUP, &Stream::Records)?,
                owners: Arc::clone(&owners),
                told: told.clone(),
                instance: instance.clone(),
                address,
            };
            tasks.spawn(assignment.run(stopped.clone()));
        }
        let elsewhere = Elsewhere {
            told,
            peers: Peers::new(&self.settings.cluster, self.secret)?,
            instance,
        };
        Ok(Arc::new(Lineage::new(port, owners, Some(elsewhere))))
    }
}

/// Returns once every partition has somebody who has folded what the log holds.
async fn wait_for_lineage(lineage: &Lineage, tasks: &mut Tasks) -> Result<(), Error> {
    tokio::select! {
        waited = lineage.caught_up(START_PATIENCE) => waited.map(drop),
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
