//! What can go wrong in the node.

use lethe_journal::{Place, Position};
use lethe_terms::{CaseId, SystemName};

/// Why the node cannot go on with something.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The configuration is refused; nothing was started.
    #[error("{file}: {message}")]
    Settings {
        /// Whole path of the file or folder.
        file: String,
        /// What is wrong and what was expected.
        message: String,
    },
    /// A folder in which something is to be built holds something; nothing was done.
    #[error("{folder}: the folder is not empty: expected an empty or a new one")]
    Occupied {
        /// Whole path of the folder.
        folder: String,
    },
    /// The roles do not fit the configuration; nothing was started.
    #[error("{reason}")]
    Roles {
        /// What is wrong and what was expected.
        reason: &'static str,
    },
    /// A process is to host a system that no host can have; nothing was started.
    #[error("--system {system}: expected a configured system that does not publish by itself: {known}")]
    UnknownSystem {
        /// What was named.
        system: SystemName,
        /// The names that fit.
        known: String,
    },
    /// Another process of this name runs; nothing was started.
    #[error("another process named {instance} runs: expected another kafka.instance for each process")]
    NameTaken {
        /// The name.
        instance: String,
    },
    /// A newer writer took over; this one stops.
    #[error("another writer took over {what}")]
    Fenced {
        /// What it writes.
        what: &'static str,
    },
    /// The key of a case is not on the log, and the case has not ended: an alarm.
    #[error("the key of {case} is missing")]
    NoCaseKey {
        /// The case.
        case: CaseId,
    },
    /// Something took the place of the key of a record of this system: what the record holds is unknown.
    #[error("the key of a record of {system} is missing: scan it, so that the record is told anew")]
    NoRecordKey {
        /// The system.
        system: SystemName,
    },
    /// An entry is of a newer version, which readers stop before, or stands in a history and can be no entry, which stops its case.
    #[error("{at}, position {position}")]
    UnreadEntry {
        /// Where it stands.
        at: Place,
        /// Its position there.
        position: Position,
        /// Why it cannot be read.
        source: lethe_journal::Error,
    },
    /// A lineage partition did not catch up in time: what it holds is unknown.
    #[error("a lineage partition lags behind")]
    Lagging,
    /// A question was not answered for all partitions of lineage: what they hold is unknown.
    #[error("{}: `lethe log partitions` shows who has which", unanswered(silent, lagging))]
    Unanswered {
        /// Partitions for which nobody answers.
        silent: Vec<u16>,
        /// Partitions that have not read as far as the log has grown.
        lagging: Vec<u16>,
    },
    /// A piece of evidence is not in its store.
    #[error("evidence is missing from the store")]
    NoEvidence,
    /// A part of the node has stopped.
    #[error("{what} has stopped")]
    Stopped {
        /// Which part.
        what: &'static str,
    },
    /// The log.
    #[error("the log failed")]
    Log(#[from] lethe_log::Error),
    /// Kafka, before the log was open.
    #[error("the log on Kafka cannot be opened")]
    Kafka(#[from] lethe_log_kafka::Error),
    /// An intake key, or what is sealed to it.
    #[error("published events cannot be sealed")]
    Exchange(#[from] lethe_exchange::Error),
    /// A store.
    #[error("a store failed")]
    Store(#[from] lethe_store::Error),
    /// The vault.
    #[error("the vault failed")]
    Vault(#[from] lethe_vault::Error),
    /// Intake.
    #[error("intake failed")]
    Intake(#[from] lethe_intake::Error),
    /// The ledger.
    #[error("the ledger failed")]
    Ledger(#[from] lethe_ledger::Error),
    /// An entry of the log cannot be read.
    #[error("an entry cannot be read")]
    Journal(#[from] lethe_journal::Error),
    /// The fold of records.
    #[error("lineage failed")]
    Lineage(#[from] lethe_lineage::Error),
    /// A case history.
    #[error("a case history cannot be folded")]
    Conductor(#[from] lethe_conductor::Error),
    /// A statement or envelope.
    #[error("a statement cannot be handled")]
    Proof(#[from] lethe_proof::Error),
    /// Evidence is not what it was.
    #[error("{damaged} of {of} pieces of evidence do not verify, such as {one}")]
    DamagedEvidence {
        /// How many.
        damaged: usize,
        /// Of how many.
        of: usize,
        /// The name of one.
        one: String,
    },
    /// A connector.
    #[error("{file}: system {system}, in [[systems]], cannot be opened: {message}")]
    Connector {
        /// Whole path of the configuration.
        file: String,
        /// The system.
        system: String,
        /// What is wrong and what was expected.
        message: String,
    },
    /// The API.
    #[error("the API cannot be served")]
    Gateway(#[from] lethe_gateway::Error),
}

impl Error {
    /// Whether nothing is wrong with what was asked: the log does not answer, or a fold lags behind.
    pub const fn is_of_the_moment(&self) -> bool {
        self.is_silent_log()
            || matches!(
                self,
                Self::Lagging
                    | Self::Unanswered { .. }
                    | Self::NoRecordKey { .. }
                    | Self::Intake(lethe_intake::Error::Lagging)
            )
    }

    /// Whether it says nothing of what was to be opened or taken in: what passes, a vault whose disk fails, and the end of the process. What was
    /// accepted is not refused for it.
    pub const fn is_no_verdict(&self) -> bool {
        self.is_of_the_moment()
            || matches!(
                self,
                Self::Vault(lethe_vault::Error::Io { .. }) | Self::Stopped { .. }
            )
    }

    /// Whether the log did not take or give something. What is corrupt stays so, and is another matter.
    pub const fn is_silent_log(&self) -> bool {
        use lethe_log::Error::{NotStored, Unknown};
        matches!(
            self,
            Self::Log(NotStored(_) | Unknown(_))
                | Self::Intake(lethe_intake::Error::Log(NotStored(_) | Unknown(_)))
        )
    }

    /// Stable code, with a page in ops/errors.
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Settings { .. } => "node-settings",
            Self::Occupied { .. } => "node-occupied",
            Self::Roles { .. } | Self::UnknownSystem { .. } => "node-roles",
            Self::NameTaken { .. } => "node-name-taken",
            Self::Fenced { .. } => "node-fenced",
            Self::NoCaseKey { .. } => "node-no-case-key",
            Self::NoRecordKey { .. } => "node-no-record-key",
            Self::UnreadEntry { source, .. } => source.code(),
            Self::Lagging => "node-lagging",
            Self::Unanswered { .. } => "node-lineage-unanswered",
            Self::NoEvidence => "node-no-evidence",
            Self::Stopped { .. } => "node-stopped",
            Self::Log(error) => error.code(),
            Self::Kafka(error) => error.code(),
            Self::Exchange(error) => error.code(),
            Self::Store(error) => error.code(),
            Self::Vault(error) => error.code(),
            Self::Intake(error) => error.code(),
            Self::Ledger(error) => error.code(),
            Self::Journal(error) => error.code(),
            Self::Lineage(error) => error.code(),
            Self::Conductor(error) => error.code(),
            Self::Proof(error) => error.code(),
            Self::DamagedEvidence { .. } => "node-damaged-evidence",
            Self::Connector { .. } => "node-connector",
            Self::Gateway(error) => error.code(),
        }
    }
}

fn unanswered(silent: &[u16], lagging: &[u16]) -> String {
    let mut words = Vec::new();
    if !silent.is_empty() {
        words.push(format!("nobody answers for lineage partitions {}", spans(silent)));
    }
    if !lagging.is_empty() {
        words.push(format!("lineage partitions {} lag behind", spans(lagging)));
    }
    if words.is_empty() {
        "lineage partitions did not answer in time, and do now".to_owned()
    } else {
        words.join(", and ")
    }
}

/// Numbers in ascending order in words, such as `0-3, 7`.
pub(crate) fn spans(numbers: &[u16]) -> String {
    let runs = numbers.chunk_by(|one, next| one + 1 == *next);
    let words = runs.filter_map(|run| match run {
        [one] => Some(one.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
        [] => None,
    });
    words.collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_that_nobody_answers_for_are_told_in_few_words() {
        let told = |silent: &[u16], lagging: &[u16]| {
            let (silent, lagging) = (silent.to_vec(), lagging.to_vec());
            Error::Unanswered { silent, lagging }.to_string()
        };
        let all: Vec<u16> = (0..16).collect();
        assert_eq!(
            told(&all, &[]),
            "nobody answers for lineage partitions 0-15: `lethe log partitions` shows who has which"
        );
        assert_eq!(
            told(&[0, 1, 7], &[4]),
            "nobody answers for lineage partitions 0-1, 7, and lineage partitions 4 lag behind: `lethe log partitions` shows who has which"
        );
    }
}
