//! A process that is to host what another one hosts already: it stands by for that, and does all its other roles meanwhile.
//!
//! What stands by is for all others a process of its own, with a name of its own, and stays so when it takes over.

use std::path::Path;

use futures::stream::FuturesUnordered;
use futures::{FutureExt as _, StreamExt as _};
use lethe_terms::SystemName;
use tokio::sync::watch;

use super::folders;
use crate::Error;
use crate::connect::Kinds;
use crate::roles::Roles;
use crate::settings::Settings;
use crate::standby;

/// Behind the name of the process in the name of the one that stands by.
const HOST: &str = "host";

/// One server of two in a process.
pub(super) struct Half {
    pub(super) settings: Settings,
    pub(super) roles: Roles,
}

/// The rest of the roles, and those of a host, where another process has one of these; nothing where the process is to be one server.
pub(super) fn halves(settings: &Settings, roles: &Roles) -> Result<Option<[Half; 2]>, Error> {
    let Some((rest, hosting)) = roles.apart() else {
        return Ok(None);
    };
    let locks = folders(settings, roles)?.roles();
    let mut beside = settings.clone();
    let instance = beside.kafka.as_mut().and_then(|kafka| kafka.instance.as_mut());
    let named = instance.is_some_and(|instance| {
        *instance = format!("{instance}.{HOST}");
        instance.parse::<SystemName>().is_ok()
    });
    if !named || !standby::is_taken(&locks, &hosting, &settings.systems)? {
        return Ok(None);
    }
    let rest = Half {
        settings: settings.clone(),
        roles: rest,
    };
    let host = Half {
        settings: beside,
        roles: hosting,
    };
    Ok(Some([rest, host]))
}

/// Runs both until `told_to_stop` ends, or one of them.
pub(super) async fn serve(
    config: &Path,
    halves: [Half; 2],
    kinds: &Kinds,
    told_to_stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (stop, stopped) = watch::channel(false);
    let run = |half: Half| {
        let mut stopped = stopped.clone();
        let told = async move {
            // Where the sender is gone, everything has stopped.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        super::serve_one(config, half, kinds, told).boxed()
    };
    let mut running: FuturesUnordered<_> = halves.map(run).into_iter().collect();
    let mut outcome = tokio::select! {
        Some(ended) = running.next() => ended,
        () = told_to_stop => Ok(()),
    };
    stop.send_replace(true);
    while let Some(ended) = running.next().await {
        outcome = outcome.and(ended);
    }
    outcome
}
