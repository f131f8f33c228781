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
use crate::standby::{self, Held};

/// Behind the name of the process in the name of the one that stands by.
const HOST: &str = "host";

/// A server in a process.
pub(super) struct Part {
    pub(super) settings: Settings,
    pub(super) roles: Roles,
    /// What of it is one process's, where that is taken already.
    pub(super) held: Option<Held>,
}

/// The servers of a process: one, or the rest of the roles and those of a host, of which another process has one. What is free is taken at once: of
/// processes that start together one has it, and the others find it taken.
pub(super) fn parts(settings: Settings, roles: Roles) -> Result<Vec<Part>, Error> {
    let whole = |settings, roles, held| {
        vec![Part {
            settings,
            roles,
            held,
        }]
    };
    let Some((rest, hosting)) = roles.apart() else {
        return Ok(whole(settings, roles, None));
    };
    let locks = folders(&settings, &roles)?.roles();
    let mut beside = settings.clone();
    let instance = beside.kafka.as_mut().and_then(|kafka| kafka.instance.as_mut());
    let named = instance.is_some_and(|instance| {
        *instance = format!("{instance}.{HOST}");
        instance.parse::<SystemName>().is_ok()
    });
    if !named {
        return Ok(whole(settings, roles, None));
    }
    if let Some(held) = standby::try_take(&locks, &hosting, &settings.systems)? {
        return Ok(whole(settings, roles, Some(held)));
    }
    let rest = Part {
        settings,
        roles: rest,
        held: None,
    };
    let host = Part {
        settings: beside,
        roles: hosting,
        held: None,
    };
    Ok(vec![rest, host])
}

/// Runs all until `told_to_stop` ends, or one of them.
pub(super) async fn serve(
    config: &Path,
    parts: Vec<Part>,
    kinds: &Kinds,
    told_to_stop: impl Future<Output = ()>,
) -> Result<(), Error> {
    let (stop, stopped) = watch::channel(false);
    let run = |part: Part| {
        let mut stopped = stopped.clone();
        let told = async move {
            // Where the sender is gone, everything has stopped.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        super::serve_one(config, part, kinds, told).boxed()
    };
    let mut running: FuturesUnordered<_> = parts.into_iter().map(run).collect();
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
