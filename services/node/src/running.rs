//! Starts the roles of a process and watches over them. A role that fails stops the process, which starts again from the log.

mod case_roles;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lethe_conductor::{Conductor, Config};
use lethe_gateway::Listening;
use lethe_intake::Intake;
use lethe_journal::{Place, Stream};
use lethe_kit::Host;
use lethe_log::EventLog;
use lethe_store::Store;
use lethe_terms::SystemName;
use tokio::sync::watch;

use crate::backend::NodeBackend;
use crate::board::{self, Board};
use crate::callbacks::Callbacks;
use crate::cases::Cases;
use crate::connect::Kinds;
use crate::connector_shell::ConnectorShell;
use crate::follow_ups::{Asked, FollowUps};
use crate::janitor::{self, Janitor, Passed};
use crate::lag::Lags;
use crate::lineage::Departed;
use crate::log::{self, Log};
use crate::metrics::{Metrics, Seen};
use crate::patience::Answering;
use crate::processes::{self, Processes};
use crate::published::{self, Desk, Taking, TakingNeeds};
use crate::quarantine::Retrier;
use crate::readiness::Readiness;
use crate::receipts::Signers;
use crate::roles::Role;
use crate::server::{Parts, Tasks, positions};
use crate::settings::Settings;
use crate::systems::System;
use crate::waits::Waits;
use crate::{Error, connect, scans, strays};

/// Longest wait for marks of erased people that another process writes.
const MARKS_IDLE: Duration = Duration::from_secs(30);

/// What is started, and what has to be told to stop.
struct Starting<'a> {
    parts: &'a Parts,
    tasks: &'a mut Tasks,
    stopped: &'a watch::Receiver<bool>,
    waits: &'a Waits,
    /// Where the gateway listens already.
    listening: Option<Listening>,
    /// Readers of queues in this process: where each stands.
    queues: Vec<(Stream, Passed)>,
    /// Readers of this process, for whoever wants to know how far they are.
    lags: Lags,
}

/// What the host of one system needs of this process.
struct Connected {
    signers: Arc<Signers>,
    store: Arc<dyn Store>,
    follow_ups: Arc<FollowUps>,
}

/// Hosts of systems, by the system.
type Hosts = BTreeMap<SystemName, Connected>;

/// Systems that cannot be reached, each until it is back.
type Away<'k> = FuturesUnordered<BoxFuture<'k, (Arc<System>, Arc<Host>)>>;

/// Runs the roles of this process until `told_to_stop` ends.
pub(crate) async fn run(
    (parts, listening): (Parts, Option<Listening>),
    kinds: &Kinds,
    tasks: &mut Tasks,
    stopped: &watch::Receiver<bool>,
    waits: &Waits,
    told_to_stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let mut starting = Starting {
        parts: &parts,
        tasks,
        stopped,
        waits,
        listening,
        queues: Vec::new(),
        lags: Lags::new(parts.log.port()),
    };
    let mut told_to_stop = std::pin::pin!(told_to_stop);
    let started = waits.during(starting.all(kinds), &mut told_to_stop).await?;
    let Some((hosts, mut away)) = started else {
        return Ok(());
    };
    waits.end();
    loop {
        tokio::select! {
            () = &mut told_to_stop => return Ok(()),
            Some(ended) = starting.tasks.join_next() => return Err(why(ended)),
            Some((system, host)) = away.next() => {
                let name = &system.settings.name;
                tracing::info!(system = %name, "a system can be reached now");
                // Before it answers: a plan on its answers needs to know its datasets.
                if parts.roles.is_all() {
                    parts.inventories.refresh();
                } else if let Err(error) = board::tell_one(&*parts.port, name, &system.told()).await {
                    // It is told every few seconds.
                    tracing::warn!(code = error.code(), system = %name, "how a system stands could not be told");
                }
                starting.connector(&system, &host, &hosts[name]);
            }
        }
    }
}

/// The cases of this process before anything of them was read.
fn no_cases_yet(parts: &Parts, board: &Board) -> Cases {
    let conductor = Conductor::new(conductor_config(parts), board.inventory());
    if parts.roles.is_all() {
        Cases::of(conductor)
    } else {
        Cases::of(conductor.carrying(BTreeSet::new()))
    }
}

/// The roles that somebody must have: nobody has to take in what nobody publishes.
fn needed_roles(settings: &Settings) -> Vec<Role> {
    let publishes = settings.systems.iter().any(published::is_published);
    let is_needed = |role: &Role| *role != Role::Intake || publishes;
    Role::ALL.into_iter().filter(is_needed).collect()
}

/// Why a task ended that nobody told to.
pub(crate) fn why(ended: Result<Result<(), Error>, tokio::task::JoinError>) -> Error {
    match ended {
        Ok(Err(error)) => error,
        Ok(Ok(())) | Err(_) => Error::Stopped { what: "a role" },
    }
}

fn conductor_config(parts: &Parts) -> Config {
    Config {
        controller_id: parts.settings.controller.id.clone(),
        controller_name: parts.settings.controller.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        land: parts.settings.land.into(),
        suppression_days: parts.settings.suppression_days,
        copies: parts.cluster.copies(),
    }
}

/// Tells how hosted systems stand and hears what is asked of them, as soon as it is recalled what was asked before.
async fn tell_and_hear(
    systems: BTreeMap<SystemName, Arc<System>>,
    answering: Arc<Answering>,
    port: Arc<dyn EventLog>,
    stop: watch::Receiver<bool>,
) -> Result<(), Error> {
    let next = scans::recall(&systems, &*port).await?;
    let tell = board::tell(systems.clone(), Arc::clone(&port), answering, stop.clone());
    let hear = scans::hear(systems, next, port, stop);
    tokio::try_join!(tell, hear).map(drop)
}

impl Starting<'_> {
    /// Starts everything; returns once it runs.
    async fn all<'k>(&mut self, kinds: &'k Kinds) -> Result<(Hosts, Away<'k>), Error> {
        let parts = self.parts;
        let board = Arc::clone(&parts.board);
        let cases = no_cases_yet(parts, &board);
        parts.inventories.refresh();
        self.board(&board);
        let known = parts.inventories.changes();
        self.case_roles(&cases, &board, known).await?;
        if parts.roles.host() {
            self.waits.now("the quarantine is read");
            parts.quarantine.catch_up().await?;
        }
        let follow_ups = self.follow_ups(&cases);
        let taking = if parts.roles.has(Role::Intake) {
            Some(self.taking(&follow_ups)?)
        } else {
            None
        };
        self.quarantine(&follow_ups, taking);
        let hosts = self.hosts(&follow_ups)?;
        let away = Away::new();
        for (name, system) in &parts.systems {
            match system.host() {
                Some(host) => self.connector(system, host, &hosts[name]),
                None => away.push(Arc::clone(system).come_back(kinds).boxed()),
            }
        }
        self.caretakers();
        let lags = self.measure_lags();
        self.api(&board, cases, &lags).await?;
        self.tell_others(&lags);
        Ok((hosts, away))
    }

    /// Keeps the board and the inventory current, and tells other processes what this one hosts.
    fn board(&mut self, board: &Arc<Board>) {
        let (port, stopped) = (&self.parts.port, self.stopped);
        let inventories = Arc::clone(&self.parts.inventories);
        self.tasks.spawn(inventories.follow(stopped.clone()));
        if self.parts.roles.is_all() {
            return;
        }
        if self.parts.roles.host() {
            let systems = self.parts.systems.clone();
            let answering = Arc::clone(&self.parts.answering);
            self.tasks.spawn(tell_and_hear(
                systems,
                answering,
                Arc::clone(port),
                stopped.clone(),
            ));
            let intake = Arc::clone(&self.parts.intake);
            self.tasks
                .spawn(follow_marks(intake, Arc::clone(port), stopped.clone()));
        }
        if self.parts.systems.len() < self.parts.settings.systems.len() {
            self.tasks
                .spawn(Arc::clone(board).follow(Arc::clone(port), stopped.clone()));
        }
    }

    /// Adds a reader whose positions stand in a store.
    fn reads_queues(&mut self, reader: &'static str, streams: Vec<Stream>, store: &Arc<dyn Store>) {
        let store = Arc::clone(store);
        self.lags.add(reader, move || {
            let stands =
                |stream: &Stream| Some((Place::new(stream.clone(), 0), store.position(stream).ok()?));
            streams.iter().filter_map(stands).collect()
        });
    }

    fn follow_ups(&self, cases: &Cases) -> Arc<FollowUps> {
        let parts = self.parts;
        Arc::new(FollowUps {
            log: Arc::clone(&parts.port),
            keys: parts.keys.clone(),
            evidence: Arc::clone(&parts.evidence),
            cases: parts.roles.has(Role::Conductor).then(|| cases.clone()),
            intake: Arc::clone(&parts.intake),
            asked: Asked::default(),
            stopped: self.stopped.clone(),
        })
    }

    /// Follows the quarantine where somebody looks at it or counts it; whoever hosts a system takes its own in again.
    fn quarantine(&mut self, follow_ups: &Arc<FollowUps>, taking: Option<Arc<Taking>>) {
        let parts = self.parts;
        if parts.roles.host() || parts.roles.has(Role::Gateway) {
            let retrier = parts.roles.host().then(|| Retrier {
                systems: parts.systems.keys().cloned().collect(),
                taking,
                intake: Arc::clone(&parts.intake),
                follow_ups: Arc::clone(follow_ups),
            });
            let quarantine = Arc::clone(&parts.quarantine);
            self.lags.add("quarantine", move || vec![quarantine.stands()]);
            let quarantine = Arc::clone(&parts.quarantine);
            self.tasks.spawn(quarantine.follow(retrier, self.stopped.clone()));
        }
    }

    /// Makes what every host needs; the queue of one that is away is kept for it.
    fn hosts(&mut self, follow_ups: &Arc<FollowUps>) -> Result<Hosts, Error> {
        let parts = self.parts;
        let mut hosts = BTreeMap::new();
        for name in parts.systems.keys() {
            let signers = Arc::new(Signers {
                keys: Arc::clone(&parts.signing),
                system: name.clone(),
            });
            let store = positions(&parts.folders, &format!("host-{name}"))?;
            let stream = Stream::Instructions(name.clone());
            self.reads_queues("connectors", vec![stream.clone()], &store);
            self.queues
                .push((stream.clone(), janitor::passed(&store, stream)));
            let connected = Connected {
                signers,
                store,
                follow_ups: Arc::clone(follow_ups),
            };
            hosts.insert(name.clone(), connected);
        }
        Ok(hosts)
    }

    fn connector(&mut self, system: &Arc<System>, host: &Arc<Host>, connected: &Connected) {
        let parts = self.parts;
        let shell = Arc::new(ConnectorShell {
            away: Arc::clone(&parts.away),
            log: Arc::clone(&parts.port),
            answering: Arc::clone(&parts.answering),
            keys: parts.keys.clone(),
            intake: Arc::clone(&parts.intake),
            host: Arc::clone(host),
            signers: Arc::clone(&connected.signers),
            store: Arc::clone(&connected.store),
            follow_ups: Arc::clone(&connected.follow_ups),
            system: system.settings.name.clone(),
        });
        self.tasks.spawn(shell.run(self.stopped.clone()));
        if published::is_published(&system.settings) {
            return;
        }
        self.tasks.spawn(Arc::clone(system).follow(
            Arc::clone(host),
            Arc::clone(&parts.intake),
            Duration::from_millis(parts.settings.feed_every_ms),
            Arc::clone(&connected.follow_ups),
            self.stopped.clone(),
        ));
    }

    /// Reads the intake stream for the published systems.
    fn taking(&mut self, follow_ups: &Arc<FollowUps>) -> Result<Arc<Taking>, Error> {
        let parts = self.parts;
        let store = positions(&parts.folders, "intake")?;
        let passed = janitor::passed(&store, Stream::Intake);
        self.queues.push((Stream::Intake, passed));
        self.reads_queues("intake", [Stream::Intake].into(), &store);
        let systems = parts.systems.iter();
        let taking = Arc::new(Taking::new(TakingNeeds {
            log: Arc::clone(&parts.port),
            checker: Arc::clone(&parts.checker),
            follow_ups: Arc::clone(follow_ups),
            store,
            systems: systems
                .filter(|(_, system)| published::is_published(&system.settings))
                .map(|(name, system)| (name.clone(), Arc::clone(system)))
                .collect(),
            quarantine: Arc::clone(&parts.quarantine),
            every: Duration::from_millis(parts.settings.feed_every_ms),
        }));
        self.tasks.spawn(Arc::clone(&taking).run(self.stopped.clone()));
        Ok(taking)
    }

    /// What every process does beside its roles.
    fn caretakers(&mut self) {
        let (parts, stopped) = (self.parts, self.stopped);
        let janitor = Janitor {
            log: parts.log.clone(),
            answering: Arc::clone(&parts.answering),
            owners: Arc::clone(parts.lineage.here()),
            intake: Arc::clone(&parts.intake),
            evidence: Arc::clone(&parts.evidence),
            queues: std::mem::take(&mut self.queues),
            quarantine: parts.roles.host().then(|| Arc::clone(&parts.quarantine)),
            after: Duration::from_secs(parts.settings.compact_after_s),
        };
        self.tasks.spawn(janitor.run(stopped.clone()));
        if let Log::Embedded(_) = &parts.log {
            self.tasks.spawn(janitor::inspect(
                Arc::clone(&parts.port),
                Arc::clone(&parts.log_health),
                stopped.clone(),
            ));
        }
        self.tasks.spawn(Arc::clone(&parts.cluster).run(stopped.clone()));
        if let Some(kafka) = &parts.settings.kafka {
            let departed = Departed {
                processes: parts.folders.processes(),
                away_max: kafka.retention.reader_away_max(),
            };
            self.tasks.spawn(departed.run(stopped.clone()));
        }
        if matches!(parts.log, Log::Kafka(_)) && parts.roles.has(Role::Ledger) {
            let systems = parts.settings.systems.iter();
            let asked = systems.filter(|system| connect::is_over_kafka(system));
            self.tasks.spawn(strays::put_away(
                Arc::clone(&parts.port),
                Arc::clone(&parts.away),
                asked.map(|system| system.name.clone()).collect(),
                stopped.clone(),
            ));
        }
        if let Log::Kafka(log) = &parts.log
            && (parts.roles.has(Role::Conductor) || parts.roles.has(Role::Gateway))
        {
            self.tasks.spawn(log::beat(Arc::clone(log), stopped.clone()));
        }
    }

    /// Measures how far all readers are that were added.
    fn measure_lags(&mut self) -> Arc<Lags> {
        let owners = Arc::clone(self.parts.lineage.here());
        self.lags.add("lineage", move || {
            let streams = [Stream::Keys, Stream::Records].into_iter();
            let stands = |stream: Stream| {
                let known = owners.positions(&stream).into_iter();
                known.map(move |(partition, position)| (Place::new(stream.clone(), partition), position))
            };
            streams.flat_map(stands).collect()
        });
        let lags = Arc::new(std::mem::replace(
            &mut self.lags,
            Lags::new(self.parts.log.port()),
        ));
        let kafka = match &self.parts.log {
            Log::Kafka(log) => Some(Arc::clone(log)),
            Log::Embedded(_) => None,
        };
        self.tasks
            .spawn(Arc::clone(&lags).run(kafka, self.stopped.clone()));
        lags
    }

    /// Tells the other processes, where there are some, that this one runs.
    fn tell_others(&mut self, lags: &Arc<Lags>) {
        if let Some(oneself) = self.parts.oneself.clone() {
            let (log, stopped) = (Arc::clone(&self.parts.port), self.stopped.clone());
            self.tasks
                .spawn(processes::tell(oneself, Arc::clone(lags), log, stopped));
        }
    }

    /// Opens the API, where this process has it, and says that the process runs.
    async fn api(&mut self, board: &Arc<Board>, cases: Cases, lags: &Arc<Lags>) -> Result<(), Error> {
        let roles = &self.parts.roles;
        if roles.has(Role::Conductor) || roles.has(Role::Gateway) {
            self.waits.now("the case histories are read");
            // Before the histories are read every accepted case would be answered with "no such case".
            let mut rounds = cases.changes();
            tokio::select! {
                _ = rounds.wait_for(|round| *round > 0) => {}
                Some(ended) = self.tasks.join_next() => return Err(why(ended)),
            }
        }
        if let Some(listening) = self.listening.take() {
            let processes = self
                .parts
                .oneself
                .clone()
                .map(|oneself| Arc::new(Processes::new(oneself, needed_roles(&self.parts.settings))));
            if let Some(processes) = &processes {
                let log = Arc::clone(&self.parts.port);
                self.tasks
                    .spawn(Arc::clone(processes).follow(log, self.stopped.clone()));
            }
            let backend = self.backend(board, cases, lags, processes)?;
            let running = listening.answer(Arc::new(backend));
            eprintln!("lethe: listening on {}", running.url());
            self.tasks
                .spawn(async move { running.ended().await.map_err(Error::from) });
        } else {
            eprintln!("lethe: running as {roles}");
        }
        Ok(())
    }

    fn backend(
        &self,
        board: &Arc<Board>,
        cases: Cases,
        lags: &Arc<Lags>,
        processes: Option<Arc<Processes>>,
    ) -> Result<NodeBackend, Error> {
        let parts = self.parts;
        let seen = Seen {
            lags: Arc::clone(lags),
            answering: Arc::clone(&parts.answering),
            cluster: Arc::clone(&parts.cluster),
            processes: processes.clone(),
        };
        let metrics = Metrics::new(Arc::clone(&parts.intake), seen)
            .map_err(|_| Error::Stopped { what: "the metrics" })?;
        let readiness = Readiness {
            log: parts.log.port(),
            answering: Arc::clone(&parts.answering),
            log_health: Arc::clone(&parts.log_health),
            cluster: Arc::clone(&parts.cluster),
            cases: cases.clone(),
            processes,
        };
        Ok(NodeBackend {
            log: Arc::clone(&parts.port),
            keys: parts.keys.clone(),
            cases,
            walker: Arc::clone(&parts.walker),
            board: Arc::clone(board),
            callbacks: Callbacks::open(&parts.settings)?,
            asked: Mutex::default(),
            quarantine: Arc::clone(&parts.quarantine),
            evidence: Arc::clone(&parts.evidence),
            readiness,
            metrics: Arc::new(metrics),
            desk: Desk::new(Arc::clone(&parts.port), Arc::clone(&parts.checker)),
            checker: Arc::clone(&parts.checker),
        })
    }
}

/// Takes in whom a conductor in another process has marked as erased, so that what comes back of them is caught here.
async fn follow_marks(
    intake: Arc<Intake>,
    log: Arc<dyn EventLog>,
    mut stopped: watch::Receiver<bool>,
) -> Result<(), Error> {
    let at = Place::new(Stream::Erased, 0);
    while !*stopped.borrow() {
        intake.refresh().await?;
        tokio::select! {
            woken = log.wait(&at, intake.followed(), MARKS_IDLE) => woken?,
            _ = stopped.changed() => {}
        }
    }
    Ok(())
}
