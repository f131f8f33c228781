//! What one partition of lineage is asked, here or elsewhere, and what it answers. These types cross between processes of one version of
//! Lethe, under a code, and beyond loopback sealed by TLS; nothing of them rests anywhere.

use std::time::Duration;

use lethe_journal::{DatasetRef, KeyWrapped, Position, RecordObserved, Token};
use lethe_lineage::{Ask, Held, PartAnswer, Rows, Seen, answer, record, state_hash, wrapped_key};
use lethe_terms::RecordToken;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::owner::Owner;

/// Where the folds of keys and records of a partition stand, or have to stand at least.
pub(crate) type Folded = [Position; 2];

/// How long a question may take that is answered from an index.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// A question that one partition answers from its rows.
pub(crate) trait Question: Serialize + DeserializeOwned + Send + Sync + 'static {
    /// Its name in an address.
    const NAME: &'static str;
    /// What comes back.
    type Answer: Serialize + DeserializeOwned + Send + 'static;
    /// How long one may take from end to end.
    const TIME_MAX: Duration = ANSWER_TIME_MAX;

    /// The answer.
    ///
    /// # Errors
    /// Where rows cannot be read.
    fn answered(&self, owner: &Owner) -> Result<Self::Answer, lethe_lineage::Error>;
}

/// A question on its way, with how far the partition must have read to answer it.
#[derive(Serialize, Deserialize)]
pub(crate) struct Asked<Q> {
    pub(crate) at_least: Folded,
    pub(crate) question: Q,
}

/// One round of a walk.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct WalkRound {
    tokens: Vec<Token>,
    records_max: usize,
    counts: Vec<Token>,
    count_max: u64,
}

impl From<Ask> for WalkRound {
    fn from(ask: Ask) -> Self {
        Self {
            tokens: ask.tokens,
            records_max: ask.records_max,
            counts: ask.counts,
            count_max: ask.count_max,
        }
    }
}

/// What a partition answers to a round of a walk.
#[derive(Serialize, Deserialize)]
pub(crate) struct RoundAnswer {
    held: Vec<RoundHeld>,
    counts: Vec<u64>,
}

#[derive(Serialize, Deserialize)]
struct RoundHeld {
    records: Vec<RoundSeen>,
    more: bool,
}

#[derive(Serialize, Deserialize)]
struct RoundSeen {
    record: RecordToken,
    dataset: DatasetRef,
    tokens: Vec<Token>,
    count: u64,
}

impl Question for WalkRound {
    const NAME: &'static str = "walk";
    type Answer = RoundAnswer;

    fn answered(&self, owner: &Owner) -> Result<RoundAnswer, lethe_lineage::Error> {
        let ask = Ask {
            tokens: self.tokens.clone(),
            records_max: self.records_max,
            counts: self.counts.clone(),
            count_max: self.count_max,
        };
        answer(&owner.rows(), &ask).map(RoundAnswer::from)
    }
}

impl From<PartAnswer> for RoundAnswer {
    fn from(part: PartAnswer) -> Self {
        let seen = |seen: Seen| RoundSeen {
            record: seen.record,
            dataset: seen.dataset,
            tokens: seen.tokens,
            count: seen.count,
        };
        let held = |held: Held| RoundHeld {
            records: held.records.into_iter().map(seen).collect(),
            more: held.more,
        };
        Self {
            held: part.held.into_iter().map(held).collect(),
            counts: part.counts,
        }
    }
}

impl From<RoundAnswer> for PartAnswer {
    fn from(round: RoundAnswer) -> Self {
        let seen = |seen: RoundSeen| Seen {
            record: seen.record,
            dataset: seen.dataset,
            tokens: seen.tokens,
            count: seen.count,
        };
        let held = |held: RoundHeld| Held {
            records: held.records.into_iter().map(seen).collect(),
            more: held.more,
        };
        Self {
            held: round.held.into_iter().map(held).collect(),
            counts: round.counts,
        }
    }
}

/// Records, whole, each with its wrapped key where that is there.
#[derive(Serialize, Deserialize)]
pub(crate) struct Whole(pub(crate) Vec<RecordToken>);

impl Question for Whole {
    const NAME: &'static str = "records";
    type Answer = Vec<Option<(RecordObserved, Option<KeyWrapped>)>>;

    fn answered(&self, owner: &Owner) -> Result<Self::Answer, lethe_lineage::Error> {
        let rows = owner.rows();
        let whole = |token: &RecordToken| {
            let Some(row) = record(&rows, *token)? else {
                return Ok(None);
            };
            Ok(Some((row, wrapped_key(&rows, token.as_bytes())?)))
        };
        self.0.iter().map(whole).collect()
    }
}

/// What intake needs to know of records: the digest of the state in which each was last observed, and its wrapped key.
#[derive(Serialize, Deserialize)]
pub(crate) struct Known(pub(crate) Vec<RecordToken>);

impl Question for Known {
    const NAME: &'static str = "known";
    type Answer = Vec<Option<(String, Option<KeyWrapped>)>>;

    fn answered(&self, owner: &Owner) -> Result<Self::Answer, lethe_lineage::Error> {
        let rows = owner.rows();
        let known = |token: &RecordToken| {
            let Some(row) = record(&rows, *token)? else {
                return Ok(None);
            };
            Ok(Some((row.digest, wrapped_key(&rows, token.as_bytes())?)))
        };
        self.0.iter().map(known).collect()
    }
}

/// The wrapped key of a record or a case, by the bytes of its id.
#[derive(Serialize, Deserialize)]
pub(crate) struct Key(pub(crate) Vec<u8>);

impl Question for Key {
    const NAME: &'static str = "key";
    type Answer = Option<KeyWrapped>;

    fn answered(&self, owner: &Owner) -> Result<Self::Answer, lethe_lineage::Error> {
        wrapped_key(&owner.rows(), &self.0)
    }
}

/// How many records of each dataset there are.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Counts;

impl Question for Counts {
    const NAME: &'static str = "counts";
    type Answer = Vec<(DatasetRef, u64)>;

    fn answered(&self, owner: &Owner) -> Result<Self::Answer, lethe_lineage::Error> {
        Ok(owner.records_by_dataset().into_iter().collect())
    }
}

/// Where the folds stand.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Stand;

impl Question for Stand {
    const NAME: &'static str = "stand";
    type Answer = Folded;

    fn answered(&self, owner: &Owner) -> Result<Folded, lethe_lineage::Error> {
        Ok(owner.folded())
    }
}

/// The hash of all live rows.
#[derive(Clone, Serialize, Deserialize)]
pub(crate) struct Hash;

impl Question for Hash {
    const NAME: &'static str = "hash";
    type Answer = [u8; 32];
    // It reads all rows of the partition: some millions, on a machine that has other work.
    const TIME_MAX: Duration = Duration::from_secs(120);

    fn answered(&self, owner: &Owner) -> Result<Self::Answer, lethe_lineage::Error> {
        Ok(*state_hash([&owner.rows() as &dyn Rows])?.as_bytes())
    }
}
