//! The server: opens everything, starts the roles, and stops them in order.
//!
//! Roles share nothing but the log, the stores that they own, and what this file hands them. A role that fails stops the server, which
//! starts again from the log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use lethe_conductor::{Conductor, Config};
use lethe_gateway::{Options, Running, TlsFiles};
use lethe_intake::{Intake, Shell};
use lethe_journal::{DatasetRef, Inventory, Place, Stream};
use lethe_kit::Host;
use lethe_ledger::{EvidenceStore, Keys, Ledger, Start};
use lethe_log::{EventLog, PAGE_ENTRIES_MAX};
use lethe_store::Store;
use lethe_store_sled::{Condition, SledStore};
use lethe_terms::SystemName;
use lethe_vault::{FileVault, FirstStart, KeyVault, Normaliser, OsEntropy};
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::backend::NodeBackend;
use crate::case_keys::CaseKeys;
use crate::conductor_shell::{Cases, ConductorShell};
use crate::connect::Kinds;
use crate::connector_shell::ConnectorShell;
use crate::evidence::Evidence;
use crate::follow_ups::FollowUps;
use crate::janitor::{self, Janitor, LogHealth};
use crate::ledger_shell::LedgerShell;
use crate::log::Log;
use crate::metrics::Metrics;
use crate::owners::Owners;
use crate::receipts::Signers;
use crate::settings::Settings;
use crate::systems::{System, inventory};
use crate::walker::Walker;
use crate::{Error, log, shell};

/// How long the folds may take to catch up when the server starts.
const START_PATIENCE: Duration = Duration::from_secs(3_600);

/// How often the inventory is compared with what the connectors say.
const INVENTORY_EVERY: Duration = Duration::from_secs(2);

/// Where everything lies below the data folder.
pub(crate) struct Folders(pub(crate) PathBuf);

impl Folders {
    pub(crate) fn log(&self) -> PathBuf {
        self.0.join("log")
    }
    pub(crate) fn lineage(&self) -> PathBuf {
        self.0.join("lineage")
    }
    pub(crate) fn vault(&self) -> PathBuf {
        self.0.join("vault")
    }
    fn positions(&self, of: &str) -> PathBuf {
        self.0.join("positions").join(of)
    }
    pub(crate) fn tree(&self) -> PathBuf {
        self.0.join("ledger").join("tree")
    }
    pub(crate) fn head(&self) -> PathBuf {
        self.0.join("ledger").join("head")
    }
    pub(crate) fn keys(&self) -> PathBuf {
        self.0.join("ledger").join("keys")
    }
    pub(crate) fn evidence(&self) -> PathBuf {
        self.0.join("evidence")
    }
}

/// Everything that the roles are made of.
struct Parts {
    settings: Settings,
    folders: Folders,
    log: Log,
    port: Arc<dyn EventLog>,
    owners: Arc<Owners>,
    intake: Arc<Intake>,
    keys: CaseKeys,
    walker: Arc<Walker>,
    evidence: Arc<Evidence>,
    systems: BTreeMap<SystemName, Arc<System>>,
    signing: Arc<Keys>,
    start: Start,
    log_health: LogHealth,
    flows: Vec<(DatasetRef, DatasetRef)>,
}

/// Name of the log in checkpoints.
pub(crate) fn origin(settings: &Settings) -> String {
    format!("{}/lethe", settings.controller.id)
}

/// Runs the server with these kinds of connectors until `told_to_stop` ends.
///
/// # Errors
/// Where it cannot start, or a role fails.
pub async fn serve(
    config: &Path,
    kinds: &Kinds,
    told_to_stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let settings = Settings::load(config)?;
    let flows = settings.flow_refs(config)?;
    let (stop, stopped) = watch::channel(false);
    let mut roles = JoinSet::new();
    let parts = open(settings, flows, kinds, &mut roles, &stopped).await?;
    let outcome = run(parts, kinds, &mut roles, &stopped, told_to_stop).await;
    // The receivers are the roles; where none is left there is nothing to stop.
    let _ = stop.send(true);
    while let Some(ended) = roles.join_next().await {
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

type Roles = JoinSet<Result<(), Error>>;

async fn open(
    settings: Settings,
    flows: Vec<(DatasetRef, DatasetRef)>,
    kinds: &Kinds,
    roles: &mut Roles,
    stopped: &watch::Receiver<bool>,
) -> Result<Parts, Error> {
    let folders = Folders(settings.data_dir.clone());
    let log = Log::open(&settings).await?;
    let port = log.port();
    let first = if log.holds_no_keys().await? {
        FirstStart::Allowed
    } else {
        FirstStart::Refused
    };
    let vault: Arc<dyn KeyVault> = Arc::new(FileVault::open(&folders.vault(), first, Arc::new(OsEntropy))?);
    let owners = Arc::new(Owners::open(Arc::clone(&port), &folders.lineage())?);
    for owner in owners.all() {
        roles.spawn(Arc::clone(owner).run(Arc::clone(&port), stopped.clone()));
    }
    owners.caught_up(&Stream::Keys, START_PATIENCE).await?;
    owners.caught_up(&Stream::Records, START_PATIENCE).await?;
    let known = Arc::clone(&owners) as _;
    let normaliser = Normaliser::new(&settings.region)?;
    let clock = Shell {
        now: shell::now,
        id: shell::entry_id,
    };
    let intake = Arc::new(Intake::new(
        Arc::clone(&port),
        Arc::clone(&vault),
        normaliser,
        known,
        clock,
    ));
    intake.recover().await?;
    let keys = CaseKeys::new(vault, Arc::clone(&port), Arc::clone(&owners));
    let walker = Arc::new(Walker {
        owners: Arc::clone(&owners),
        intake: Arc::clone(&intake),
    });
    let systems = systems(&settings, kinds).await?;
    count_quarantine(&port, &systems).await?;
    let names: Vec<_> = systems.keys().cloned().collect();
    let start = if log.holds_leaves().await? {
        Start::Again
    } else {
        Start::First
    };
    let signing = Arc::new(Keys::open(&folders.keys(), &names, start)?);
    let evidence = Arc::new(evidence(&settings, &folders, &signing)?);
    Ok(Parts {
        settings,
        folders,
        log,
        port,
        owners,
        intake,
        keys,
        walker,
        evidence,
        systems,
        signing,
        start,
        log_health: LogHealth::default(),
        flows,
    })
}

/// The systems, opened as far as they can be reached.
async fn systems(settings: &Settings, kinds: &Kinds) -> Result<BTreeMap<SystemName, Arc<System>>, Error> {
    let systems: BTreeMap<_, _> = settings
        .systems
        .iter()
        .map(|system| (system.name.clone(), Arc::new(System::new(system.clone()))))
        .collect();
    futures::future::try_join_all(systems.values().map(|system| system.open(kinds))).await?;
    Ok(systems)
}

/// Tells each system what of it is in quarantine: a plan says so as long as it is.
async fn count_quarantine(
    log: &Arc<dyn EventLog>,
    systems: &BTreeMap<SystemName, Arc<System>>,
) -> Result<(), Error> {
    let (at, mut from) = (Place::new(Stream::Quarantine, 0), 0);
    loop {
        let page = log.read(&at, from, PAGE_ENTRIES_MAX).await?;
        for stored in &page.entries {
            let name = std::str::from_utf8(&stored.entry.key).ok();
            if let Some(system) = name
                .and_then(|name| name.parse::<SystemName>().ok())
                .and_then(|name| systems.get(&name))
            {
                system.feed.took(0, 1);
            }
        }
        from = page.next;
        if from >= page.head {
            return Ok(());
        }
    }
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

fn positions(folders: &Folders, of: &str) -> Result<Arc<dyn Store>, Error> {
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

async fn run(
    parts: Parts,
    kinds: &Kinds,
    roles: &mut Roles,
    stopped: &watch::Receiver<bool>,
    told_to_stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (inventories, known) =
        watch::channel(inventory(parts.systems.values().map(AsRef::as_ref), &parts.flows));
    let cases = Cases::new(Conductor::new(
        conductor_config(&parts),
        inventories.borrow().clone(),
    ));
    let mut queues: Vec<(Stream, Arc<dyn Store>)> = Vec::new();
    start_ledger(&parts, roles, stopped)?;
    start_conductor(&parts, &cases, known, roles, stopped, &mut queues)?;
    let hosts = hosts(&parts, &cases, &mut queues)?;
    let mut away = FuturesUnordered::new();
    for (name, system) in &parts.systems {
        match system.host() {
            Some(host) => start_connector(&parts, system, host, &hosts[name], roles, stopped),
            None => away.push(Arc::clone(system).come_back(kinds)),
        }
    }
    let inventories = Arc::new(inventories);
    start_inventory(&parts, Arc::clone(&inventories), roles, stopped);
    let janitor = Janitor {
        log: parts.log.clone(),
        owners: Arc::clone(&parts.owners),
        intake: Arc::clone(&parts.intake),
        evidence: Arc::clone(&parts.evidence),
        queues,
        after: Duration::from_secs(parts.settings.compact_after_s),
    };
    roles.spawn(janitor.run(stopped.clone()));
    roles.spawn(Arc::clone(&parts.owners).count(stopped.clone()));
    roles.spawn(janitor::inspect(
        Arc::clone(&parts.port),
        Arc::clone(&parts.log_health),
        stopped.clone(),
    ));
    if let Log::Kafka(log) = &parts.log {
        roles.spawn(log::beat(Arc::clone(log), stopped.clone()));
    }
    // Before the histories are read every accepted case would be answered with "no such case".
    let mut rounds = cases.changes();
    tokio::select! {
        _ = rounds.wait_for(|round| *round > 0) => {}
        Some(ended) = roles.join_next() => return Err(ended.ok().and_then(Result::err).unwrap_or(Error::Stopped { what: "a role" })),
    }
    let running = start_gateway(&parts, cases, stopped).await?;
    eprintln!("lethe: listening on {}", running.url());
    roles.spawn(async move { running.ended().await.map_err(Error::from) });
    let mut told_to_stop = std::pin::pin!(told_to_stop);
    loop {
        tokio::select! {
            () = &mut told_to_stop => return Ok(()),
            Some(ended) = roles.join_next() => return Err(match ended {
                Ok(Err(error)) => error,
                Ok(Ok(())) | Err(_) => Error::Stopped { what: "a role" },
            }),
            Some((system, host)) = away.next() => {
                tracing::info!(system = %system.settings.name, "a system can be reached now");
                // Before it answers: a plan on its answers needs to know its datasets.
                tell_inventory(&inventories, &parts.systems, &parts.flows);
                start_connector(&parts, &system, &host, &hosts[&system.settings.name], roles, stopped);
            }
        }
    }
}

fn conductor_config(parts: &Parts) -> Config {
    let copies = vec![(
        "lethe log and stores".to_owned(),
        parts
            .log
            .gone_by(&Stream::Records, parts.settings.compact_after_s),
    )];
    Config {
        controller_id: parts.settings.controller.id.clone(),
        controller_name: parts.settings.controller.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        land: parts.settings.land.into(),
        suppression_days: parts.settings.suppression_days,
        copies,
    }
}

fn start_ledger(parts: &Parts, roles: &mut Roles, stopped: &watch::Receiver<bool>) -> Result<(), Error> {
    let (tree, head) = (parts.folders.tree(), parts.folders.head());
    let shell = LedgerShell {
        log: Arc::clone(&parts.port),
        keys: parts.keys.clone(),
        evidence: Arc::clone(&parts.evidence),
        ledger: Ledger::open(
            &tree,
            &head,
            &origin(&parts.settings),
            parts.signing.checkpoint().key(),
            parts.start,
        )?,
        signing: Arc::clone(&parts.signing),
        store: positions(&parts.folders, "ledger")?,
    };
    roles.spawn(shell.run(stopped.clone()));
    Ok(())
}

fn start_conductor(
    parts: &Parts,
    cases: &Cases,
    inventory: watch::Receiver<Inventory>,
    roles: &mut Roles,
    stopped: &watch::Receiver<bool>,
    queues: &mut Vec<(Stream, Arc<dyn Store>)>,
) -> Result<(), Error> {
    let store = positions(&parts.folders, "conductor")?;
    queues.push((Stream::Commands, Arc::clone(&store)));
    queues.push((Stream::Answers, Arc::clone(&store)));
    let shell = ConductorShell {
        log: Arc::clone(&parts.port),
        keys: parts.keys.clone(),
        walker: Arc::clone(&parts.walker),
        intake: Arc::clone(&parts.intake),
        store,
        cases: cases.clone(),
        inventory,
    };
    roles.spawn(shell.run(stopped.clone()));
    Ok(())
}

/// What the host of one system needs of this server.
struct Connected {
    signers: Arc<Signers>,
    store: Arc<dyn Store>,
    follow_ups: Arc<FollowUps>,
}

/// Makes what every host needs; the queue of one that is away is kept for it.
fn hosts(
    parts: &Parts,
    cases: &Cases,
    queues: &mut Vec<(Stream, Arc<dyn Store>)>,
) -> Result<BTreeMap<SystemName, Connected>, Error> {
    let follow_ups = Arc::new(FollowUps {
        log: Arc::clone(&parts.port),
        keys: parts.keys.clone(),
        evidence: Arc::clone(&parts.evidence),
        cases: cases.clone(),
    });
    let mut hosts = BTreeMap::new();
    for name in parts.systems.keys() {
        let signers = Arc::new(Signers {
            keys: Arc::clone(&parts.signing),
            system: name.clone(),
        });
        let store = positions(&parts.folders, &format!("host-{name}"))?;
        queues.push((Stream::Instructions(name.clone()), Arc::clone(&store)));
        let follow_ups = Arc::clone(&follow_ups);
        let connected = Connected {
            signers,
            store,
            follow_ups,
        };
        hosts.insert(name.clone(), connected);
    }
    Ok(hosts)
}

fn start_connector(
    parts: &Parts,
    system: &Arc<System>,
    host: &Arc<Host>,
    connected: &Connected,
    roles: &mut Roles,
    stopped: &watch::Receiver<bool>,
) {
    let shell = Arc::new(ConnectorShell {
        log: Arc::clone(&parts.port),
        keys: parts.keys.clone(),
        intake: Arc::clone(&parts.intake),
        host: Arc::clone(host),
        signers: Arc::clone(&connected.signers),
        store: Arc::clone(&connected.store),
        system: system.settings.name.clone(),
    });
    roles.spawn(shell.run(stopped.clone()));
    roles.spawn(Arc::clone(system).follow(
        Arc::clone(host),
        Arc::clone(&parts.intake),
        Duration::from_millis(parts.settings.feed_every_ms),
        Arc::clone(&connected.follow_ups),
        stopped.clone(),
    ));
}

fn start_inventory(
    parts: &Parts,
    inventories: Arc<watch::Sender<Inventory>>,
    roles: &mut Roles,
    stopped: &watch::Receiver<bool>,
) {
    let (systems, flows, mut stopped) = (parts.systems.clone(), parts.flows.clone(), stopped.clone());
    roles.spawn(async move {
        while !*stopped.borrow() {
            tokio::select! {
                () = tokio::time::sleep(INVENTORY_EVERY) => {}
                _ = stopped.changed() => {}
            }
            tell_inventory(&inventories, &systems, &flows);
        }
        Ok(())
    });
}

fn tell_inventory(
    inventories: &watch::Sender<Inventory>,
    systems: &BTreeMap<SystemName, Arc<System>>,
    flows: &[(DatasetRef, DatasetRef)],
) {
    let now = inventory(systems.values().map(AsRef::as_ref), flows);
    inventories.send_if_modified(|known| {
        let changed = *known != now;
        *known = now;
        changed
    });
}

async fn start_gateway(
    parts: &Parts,
    cases: Cases,
    stopped: &watch::Receiver<bool>,
) -> Result<Running, Error> {
    let metrics =
        Metrics::new(Arc::clone(&parts.intake)).map_err(|_| Error::Stopped { what: "the metrics" })?;
    let backend = Arc::new(NodeBackend {
        log: Arc::clone(&parts.port),
        keys: parts.keys.clone(),
        cases,
        walker: Arc::clone(&parts.walker),
        systems: parts.systems.clone(),
        evidence: Arc::clone(&parts.evidence),
        log_health: Arc::clone(&parts.log_health),
        metrics: Arc::new(metrics),
    });
    let options = Options {
        keys: parts.settings.api_keys_file.clone(),
        tls: parts.settings.tls.as_ref().map(|tls| TlsFiles {
            certificate: tls.certificate_file.clone(),
            key: tls.key_file.clone(),
        }),
    };
    let mut stopped = stopped.clone();
    let shutdown = async move {
        // Where the sender is gone, everything has stopped.
        let _ = stopped.wait_for(|stop| *stop).await;
    };
    Ok(lethe_gateway::serve(parts.settings.listen, backend, options, shutdown).await?)
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
