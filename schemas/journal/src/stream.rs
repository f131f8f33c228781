//! The streams of the log, their kinds and their partitions: declared here and nowhere else.

use std::fmt;
use std::str::FromStr;

use lethe_terms::SystemName;

/// Partitions of the tables that are keyed by record: fixed, so that a record never changes its partition.
pub const TABLE_PARTITIONS: u16 = 16;

/// Partitions of the case histories: one fenced writer each.
const CASE_PARTITIONS: u16 = 4;

/// How a stream ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamKind {
    /// Whole state by key: the newest entry of a key replaces the older ones, a tombstone ends it, compaction follows.
    Table,
    /// Kept whole; sealed under a key that ends with the evidence period.
    History,
    /// Read once and gone after its time.
    Queue,
}

/// One stream of the log.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stream {
    /// Records of personal data by record token.
    Records,
    /// Wrapped data keys by record token or case id.
    Keys,
    /// Cursors of source shards by shard.
    Cursors,
    /// Suppression tokens of erased people, with expiry.
    Erased,
    /// What each system is like and how it stands, by its name: told by whoever hosts its connector.
    Systems,
    /// Who folds each partition of lineage, by its number: told by an owner that has caught up.
    Owners,
    /// Case histories, sealed under each case's key.
    Cases,
    /// Leaves of the Merkle tree: digests only.
    Leaves,
    /// Events that programs outside publish, sealed. Others than Lethe write to it, so nothing in it is trusted before it is opened.
    Intake,
    /// Commands of operators.
    Commands,
    /// Instructions to one system.
    Instructions(SystemName),
    /// What one system's program is asked over the log, sealed for it alone.
    Requests(SystemName),
    /// What that program says, sealed. Others than Lethe write to it, so nothing in it is trusted before it is opened.
    Replies(SystemName),
    /// What systems, observers and the ledger answer.
    Answers,
    /// Input that could not be read, sealed, with its position.
    Quarantine,
}

impl Stream {
    /// The streams that exist whatever systems are configured.
    pub const FIXED: [Self; 12] = [
        Self::Records,
        Self::Keys,
        Self::Cursors,
        Self::Erased,
        Self::Systems,
        Self::Owners,
        Self::Cases,
        Self::Leaves,
        Self::Intake,
        Self::Commands,
        Self::Answers,
        Self::Quarantine,
    ];

    /// How the stream ends.
    pub const fn kind(&self) -> StreamKind {
        match self {
            Self::Records | Self::Keys | Self::Cursors | Self::Erased | Self::Systems | Self::Owners => {
                StreamKind::Table
            }
            Self::Cases | Self::Leaves => StreamKind::History,
            Self::Intake
            | Self::Commands
            | Self::Instructions(_)
            | Self::Requests(_)
            | Self::Replies(_)
            | Self::Answers
            | Self::Quarantine => StreamKind::Queue,
        }
    }

    /// Whether programs that are not Lethe write to it, with any client: an entry can then be anything.
    pub const fn is_foreign(&self) -> bool {
        matches!(self, Self::Intake | Self::Replies(_))
    }

    /// Number of partitions.
    pub const fn partitions(&self) -> u16 {
        match self {
            Self::Records | Self::Keys => TABLE_PARTITIONS,
            Self::Cases => CASE_PARTITIONS,
            _ => 1,
        }
    }
}

impl fmt::Display for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Records => f.write_str("records"),
            Self::Keys => f.write_str("keys"),
            Self::Cursors => f.write_str("cursors"),
            Self::Erased => f.write_str("erased"),
            Self::Systems => f.write_str("systems"),
            Self::Owners => f.write_str("owners"),
            Self::Cases => f.write_str("cases"),
            Self::Leaves => f.write_str("leaves"),
            Self::Intake => f.write_str("intake"),
            Self::Commands => f.write_str("commands"),
            Self::Instructions(system) => write!(f, "instructions.{system}"),
            Self::Requests(system) => write!(f, "requests.{system}"),
            Self::Replies(system) => write!(f, "replies.{system}"),
            Self::Answers => f.write_str("answers"),
            Self::Quarantine => f.write_str("quarantine"),
        }
    }
}

impl FromStr for Stream {
    type Err = lethe_terms::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((of, system)) = text.split_once('.') {
            let of_system = match of {
                "instructions" => Some(Self::Instructions as fn(SystemName) -> Self),
                "requests" => Some(Self::Requests as _),
                "replies" => Some(Self::Replies as _),
                _ => None,
            };
            if let Some(of_system) = of_system {
                return system.parse().map(of_system);
            }
        }
        Self::FIXED.into_iter().find(|stream| stream.to_string() == text).ok_or(lethe_terms::NameError {
            what: "stream name",
            expected: "records, keys, cursors, erased, systems, owners, cases, leaves, intake, commands, answers, quarantine, instructions.<system>, requests.<system> or replies.<system>",
        })
    }
}

/// The partition of a key that is already uniformly distributed (a token or a random id).
pub fn partition_of(key: &[u8], partitions: u16) -> u16 {
    let head = key
        .iter()
        .take(8)
        .fold(0_u64, |sum, byte| (sum << 8) | u64::from(*byte));
    u16::try_from(head % u64::from(partitions.max(1))).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_name_reads_back() {
        let shop = || "shop".parse().unwrap();
        let of_shop = [
            Stream::Instructions(shop()),
            Stream::Requests(shop()),
            Stream::Replies(shop()),
        ];
        for stream in Stream::FIXED.into_iter().chain(of_shop) {
            assert_eq!(stream.to_string().parse::<Stream>(), Ok(stream));
        }
        assert!("replies.".parse::<Stream>().is_err());
        assert!("instructions.".parse::<Stream>().is_err());
        assert!("topic".parse::<Stream>().is_err());
    }

    #[test]
    fn partitions_are_stable() {
        assert_eq!(partition_of(&[0, 0, 0, 0, 0, 0, 0, 17], 16), 1);
        assert_eq!(partition_of(&[], 16), 0);
    }
}
