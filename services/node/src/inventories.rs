//! The inventory that plans are made from. A walk for a case brings it up to date first, so that what the plan says of quarantined input is what
//! counts by then; what else changes is seen at every look.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use lethe_journal::{DatasetRef, Inventory};
use tokio::sync::watch;

use crate::Error;
use crate::board::Board;

/// How often the inventory is compared with what the connectors say.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// The inventory as this process knows it.
pub(crate) struct Inventories {
    board: Arc<Board>,
    known: watch::Sender<Inventory>,
}

impl Inventories {
    pub(crate) fn new(board: Arc<Board>) -> Self {
        let known = watch::Sender::new(board.inventory());
        Self { board, known }
    }

    /// Hears of every change.
    pub(crate) fn changes(&self) -> watch::Receiver<Inventory> {
        self.known.subscribe()
    }

    /// Datasets whose records are no proof of identity.
    pub(crate) fn unproven(&self) -> BTreeSet<DatasetRef> {
        let known = self.known.borrow();
        let unproven = known.datasets().filter(|(_, dataset)| dataset.unproven);
        unproven.map(|(place, _)| place).collect()
    }

    /// Takes over how all systems stand now.
    pub(crate) fn refresh(&self) {
        self.known.send_if_modified(|known| {
            let now = self.board.inventory();
            let changed = *known != now;
            *known = now;
            changed
        });
    }

    /// Keeps it current until `stopped`.
    pub(crate) async fn follow(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> Result<(), Error> {
        let mut changes = self.board.changes();
        while !*stopped.borrow() {
            tokio::select! {
                () = tokio::time::sleep(LOOK_EVERY) => {}
                _ = changes.changed() => {}
                _ = stopped.changed() => {}
            }
            self.refresh();
        }
        Ok(())
    }
}
