//! Opening everything that the roles are made of.

use std::fs::File;
use std::sync::Arc;

use lethe_gateway::{Listening, Options, TlsFiles};
use lethe_log::EventLog;
use lethe_vault::KeyVault;
use tokio::sync::watch;

use super::{
    Declared, Folders, Parts, Sharing, Tasks, evidence, intake, port, signing, systems, vault,
    wait_for_lineage, whole_lineage,
};
use crate::board::Board;
use crate::case_keys::CaseKeys;
use crate::cluster::Cluster;
use crate::connect::Kinds;
use crate::inventories::Inventories;
use crate::janitor::LogHealth;
use crate::lineage::Lineage;
use crate::log::Log;
use crate::poison::{PutsAway, ToQuarantine};
use crate::processes::Oneself;
use crate::published::{self, Checker, IntakeKeyring};
use crate::quarantine::Quarantine;
use crate::roles::{Role, Roles};
use crate::settings::Settings;
use crate::standby::{self, Held};
use crate::waits::Waits;
use crate::walker::Walker;
use crate::{Error, processes, shell};

/// What a start is made of.
pub(super) struct Start {
    pub(super) settings: Settings,
    pub(super) folders: Folders,
    pub(super) roles: Roles,
    pub(super) declared: Declared,
    /// What of the roles is one process's, where that is taken already.
    pub(super) held: Option<Held>,
    pub(super) stopped: watch::Receiver<bool>,
    pub(super) waits: Arc<Waits>,
}

/// Everything that is open before the roles run.
pub(crate) struct Opened {
    pub(crate) parts: Parts,
    /// Where the gateway listens already.
    pub(crate) listening: Option<Listening>,
    /// What nobody else of the installation has meanwhile.
    pub(crate) held: (Option<File>, Option<Held>),
}

impl Start {
    /// Opens the log, takes what one process at a time may have, and opens everything else.
    pub(super) async fn open(mut self, kinds: &Kinds, tasks: &mut Tasks) -> Result<Opened, Error> {
        let instance = self.instance();
        let name = match &instance {
            Some(instance) => Some(standby::take_name(&self.folders.own, instance).await?),
            None => None,
        };
        let log = Log::open(&self.settings).await?;
        let port = port(&log, &self.waits.answering, &self.stopped);
        let oneself = instance.map(|instance| Oneself {
            instance,
            roles: self.roles.clone(),
            since: shell::now(),
            is_writer: Arc::default(),
        });
        let roles = match &oneself {
            Some(oneself) => match self.held.take() {
                None => Some(self.take_roles(oneself, &*port).await?),
                held => held,
            },
            None => None,
        };
        let listening = if self.roles.has(Role::Gateway) {
            Some(self.listen().await?)
        } else {
            None
        };
        Ok(Opened {
            parts: self.parts(oneself, (log, port), kinds, tasks).await?,
            listening,
            held: (name, roles),
        })
    }

    /// The name of this process among several; nothing where it does everything.
    fn instance(&self) -> Option<String> {
        if self.roles.is_all() {
            return None;
        }
        self.settings.kafka.as_ref()?.instance.clone()
    }

    /// Waits as long as another process has a role or a system of which one process is the only one, and tells that it does.
    async fn take_roles(&self, oneself: &Oneself, log: &dyn EventLog) -> Result<Held, Error> {
        let say = |what| self.waits.now(what);
        let folder = self.folders.roles();
        let taking = standby::take(&folder, &self.roles, &self.settings.systems, say);
        tokio::select! {
            taken = taking => taken,
            never = processes::tell_standing_by(oneself, log) => match never {},
        }
    }

    /// Listens before there is anything to answer, so that who looks sees a process that lives and what it waits for.
    async fn listen(&self) -> Result<Listening, Error> {
        let waits = Arc::clone(&self.waits);
        let options = Options {
            keys: self.settings.api_keys_file.clone(),
            publishers: published::publishers(&self.declared.published),
            tls: self.settings.tls.as_ref().map(|tls| TlsFiles {
                certificate: tls.certificate_file.clone(),
                key: tls.key_file.clone(),
            }),
        };
        let mut stopped = self.stopped.clone();
        let shutdown = async move {
            // Where the sender is gone, everything has stopped.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        let (address, says) = (self.settings.listen, Box::new(move || waits.health()));
        Ok(lethe_gateway::listen_until_served(address, says, options, shutdown).await?)
    }

    /// Lineage; those who fold it begin to read what the log holds.
    fn lineage(
        &self,
        (log, port): (&Log, &Arc<dyn EventLog>),
        away: &Arc<dyn PutsAway>,
        vault: &Arc<dyn KeyVault>,
        tasks: &mut Tasks,
    ) -> Result<Arc<Lineage>, Error> {
        match log {
            Log::Kafka(kafka) if !self.roles.is_all() => {
                let sharing = Sharing {
                    port,
                    answering: &self.waits.answering,
                    away,
                    kafka,
                    settings: &self.settings,
                    key: vault.tokens().internal(),
                };
                sharing.lineage(&self.folders, &self.roles, tasks, &self.stopped)
            }
            _ => whole_lineage(port, away, &self.folders, tasks, &self.stopped),
        }
    }

    async fn parts(
        self,
        oneself: Option<Oneself>,
        (log, port): (Log, Arc<dyn EventLog>),
        kinds: &Kinds,
        tasks: &mut Tasks,
    ) -> Result<Parts, Error> {
        self.waits.now("the vault is opened");
        let vault = vault(&log, &self.folders, &self.roles).await?;
        let to_quarantine = Arc::new(ToQuarantine::new(Arc::clone(&self.waits.answering)));
        let away: Arc<dyn PutsAway> = Arc::clone(&to_quarantine) as _;
        let lineage = self.lineage((&log, &port), &away, &vault, tasks)?;
        let Self {
            settings,
            folders,
            roles,
            declared,
            stopped,
            waits,
            held: _,
        } = self;
        let answering = Arc::clone(&waits.answering);
        let known = Arc::clone(&lineage) as _;
        waits.now("the systems are opened");
        let systems = systems(&settings, &roles, &port, kinds, tasks, &stopped).await?;
        let board = Arc::new(Board::new(&settings.systems, declared.flows, systems.clone()));
        let inventories = Arc::new(Inventories::new(Arc::clone(&board)));
        let quarantine = Quarantine::new(Arc::clone(&port), Arc::clone(&vault), known, systems.clone());
        let quarantine = Arc::new(quarantine);
        waits.now("cursors and marks of erased people are read");
        let intake = intake(&settings, &port, &vault, (&lineage, &quarantine)).await?;
        // Whoever folds lineage may wait for it.
        to_quarantine.opened(&intake);
        wait_for_lineage(&lineage, &waits, tasks).await?;
        let keys = CaseKeys::new(Arc::clone(&vault), Arc::clone(&port), Arc::clone(&lineage));
        let walker = Arc::new(Walker {
            lineage: Arc::clone(&lineage),
            intake: Arc::clone(&intake),
            inventories: Arc::clone(&inventories),
        });
        let intake_keys = IntakeKeyring::open(Arc::clone(&vault), &*port, settings.intake_key_days)?;
        let checker = Checker::new(declared.published, Arc::new(intake_keys), Arc::clone(&intake));
        waits.now("the state of the log is looked at");
        let signing = Arc::new(signing(&settings, &folders, &log).await?);
        let evidence = Arc::new(evidence(&settings, &folders, &signing)?);
        Ok(Parts {
            roles,
            oneself,
            cluster: Cluster::open(log.clone(), settings.streams(), settings.compact_after_s).await,
            settings,
            folders,
            log,
            port,
            answering,
            away,
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
        })
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use async_trait::async_trait;
    use lethe_journal::{Entry, Epoch, Place, Position, Stream};
    use lethe_log::{Appended, GoneBy, Page};

    use super::*;
    use crate::patience::{Answering, Patient};
    use crate::running;

    /// How long a process may take until it waits, and to end.
    const PATIENCE: Duration = Duration::from_secs(60);

    const CONFIG: &str = "[controller]\nid = \"acme\"\nname = \"Acme GmbH\"\n";

    /// A log that does not let this stream be read.
    struct Denied(Arc<dyn EventLog>, Stream);

    impl Denied {
        fn check(&self, at: &Place) -> Result<(), lethe_log::Error> {
            if at.stream == self.1 {
                return Err(lethe_log::Error::NotStored("rights are missing".into()));
            }
            Ok(())
        }
    }

    #[async_trait]
    impl EventLog for Denied {
        async fn acquire(&self, at: &Place) -> Result<Epoch, lethe_log::Error> {
            self.0.acquire(at).await
        }
        async fn append(
            &self,
            at: &Place,
            writer: Option<Epoch>,
            entries: Vec<Entry>,
        ) -> Result<Appended, lethe_log::Error> {
            self.0.append(at, writer, entries).await
        }
        async fn read(&self, at: &Place, from: Position, limit: usize) -> Result<Page, lethe_log::Error> {
            self.check(at)?;
            self.0.read(at, from, limit).await
        }
        async fn head(&self, at: &Place) -> Result<Position, lethe_log::Error> {
            self.check(at)?;
            self.0.head(at).await
        }
        async fn wait(&self, at: &Place, from: Position, patience: Duration) -> Result<(), lethe_log::Error> {
            self.0.wait(at, from, patience).await
        }
        fn gone_by(&self, stream: &Stream) -> GoneBy {
            self.0.gone_by(stream)
        }
        async fn check(&self) -> Result<(), lethe_log::Error> {
            self.0.check().await
        }
    }

    /// A process that may not read this stream is told to stop once it waits for this.
    async fn waits_and_ends(denied: Stream, what: &str) {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("lethe.toml");
        let data = folder.path().join("data");
        std::fs::write(&config, format!("data_dir = \"{}\"\n{CONFIG}", data.display())).unwrap();
        let settings = Settings::load(&config).unwrap();
        let (stop, stopped) = watch::channel(false);
        let waits = Arc::new(Waits::new(Answering::new(true)));
        let log = Log::open(&settings).await.unwrap();
        let port = Arc::new(Patient {
            log: Arc::new(Denied(log.port(), denied)),
            answering: Arc::clone(&waits.answering),
            stop: stopped.clone(),
        });
        let start = Start {
            folders: Folders::of_one(&settings.data_dir),
            roles: Roles::all(),
            declared: Declared {
                flows: Vec::new(),
                published: published::systems(&config, &settings).unwrap(),
            },
            held: None,
            stopped: stopped.clone(),
            waits: Arc::clone(&waits),
            settings,
        };
        let (kinds, mut tasks) = (Kinds::shipped(), Tasks::new());
        let mut told_to_stop = std::pin::pin!(async {
            let expected = format!("(log-not-stored); {what}");
            while !waits.words().ends_with(&expected) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let view = waits.health();
            let said = &view.parts[0].detail;
            let is_told = said.starts_with("waits: the log does not answer since ");
            assert!(!view.ok && is_told, "{said}");
        });
        let opening = start.parts(None, (log, port), &kinds, &mut tasks);
        if let Some(parts) = waits.during(opening, &mut told_to_stop).await.unwrap() {
            running::run((parts, None), &kinds, &mut tasks, &stopped, &waits, told_to_stop)
                .await
                .unwrap();
        }
        assert!(!waits.is_over());
        stop.send(true).unwrap();
        tasks.shutdown().await;
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_process_that_may_not_read_while_it_starts_says_so_and_ends_when_it_is_told_to() {
        for (denied, what) in [
            (Stream::Records, "the ends of lineage are looked up"),
            (Stream::Erased, "cursors and marks of erased people are read"),
            (
                Stream::Leaves,
                "the leaves of the log are compared with the ledger",
            ),
            (Stream::Quarantine, "the quarantine is read"),
            (Stream::Cases, "the case histories are read"),
        ] {
            let ended = tokio::time::timeout(PATIENCE, waits_and_ends(denied.clone(), what)).await;
            assert!(ended.is_ok(), "it may not read {denied}, and goes on");
        }
    }
}
