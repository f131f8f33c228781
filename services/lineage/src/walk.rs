//! The walk: from the identifiers of a request to the records of the person, a few rounds of questions to all partitions at once.

use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::{DatasetRef, TABLE_PARTITIONS, Token};
use lethe_terms::{IdentifierKind, RecordToken, Strength};

use crate::Error;
use crate::alone::by_id_alone;
use crate::graph::cuts_of;
use crate::query::{Ask, PartAnswer, Seen};
use crate::reached::{Bound, Candidate, Hop, Link, Reached, ReachedIdentifier, ReachedRecord, Standing};

/// How far a walk goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Rounds of questions: a person's identifiers lie a few steps apart, not dozens.
    pub rounds_max: u32,
    /// Records in total: the result is held in memory and becomes one plan.
    pub records_max: usize,
    /// Records behind one strong identifier that the walk came across: more than years of one person's log periods make.
    pub strong_records_max: usize,
    /// Other identifiers of one strong kind behind a strong identifier, or in one record: a person has several addresses and accounts, a
    /// collective mailbox has dozens.
    pub strong_same_kind_max: usize,
    /// Records behind one weak identifier.
    pub weak_records_max: usize,
    /// Identifiers of one strong kind behind a weak identifier: two user ids behind one cookie are two people at one computer.
    pub weak_same_kind_max: usize,
    /// Up to how many records behind a shared identifier are counted in each partition.
    pub count_max: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            rounds_max: 16,
            records_max: 20_000,
            strong_records_max: 5_000,
            strong_same_kind_max: 4,
            weak_records_max: 500,
            weak_same_kind_max: 1,
            count_max: 10_000,
        }
    }
}

/// What a walk needs next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The answer of every partition to this.
    Ask(Ask),
    /// Nothing: this is what it reached.
    Done(Reached),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Following,
    Counting,
    Done,
}

/// A record that the walk reached.
struct Known {
    seen: Seen,
    /// The hop that led to it first.
    hop: Hop,
    /// The first hop that led to it and on from it. There is none while only identifiers of the request led to it behind which several people stand.
    onward: Option<Hop>,
}

/// A walk under way. Ask every partition what [`Walk::next`] says and hand the answers to [`Walk::answer`], until it is done. A partition
/// that does not answer leaves the walk unfinished: what it holds is unknown.
pub struct Walk {
    limits: Limits,
    cuts: BTreeSet<Link>,
    /// Datasets whose records are no proof that two strong identifiers are one person's.
    unproven: BTreeSet<DatasetRef>,
    given: BTreeSet<Token>,
    /// Behind which an earlier walk saw several people.
    judged_before: BTreeSet<Token>,
    phase: Phase,
    rounds: u32,
    /// What the next round follows, with the record that each was found in.
    pending: BTreeMap<Token, Option<RecordToken>>,
    identifiers: BTreeMap<Token, ReachedIdentifier>,
    records: BTreeMap<RecordToken, Known>,
    candidates: Vec<Candidate>,
    bound: Option<Bound>,
}

impl Walk {
    /// A walk from the identifiers of a request.
    pub fn new(start: Vec<Token>, limits: Limits) -> Self {
        let mut walk = Self {
            limits,
            cuts: BTreeSet::new(),
            unproven: BTreeSet::new(),
            given: start.iter().copied().collect(),
            judged_before: BTreeSet::new(),
            phase: Phase::Following,
            rounds: 0,
            pending: BTreeMap::new(),
            identifiers: BTreeMap::new(),
            records: BTreeMap::new(),
            candidates: Vec::new(),
            bound: None,
        };
        for token in start {
            walk.come_across(token, None);
        }
        walk
    }

    /// The same walk without links that were cut by hand.
    #[must_use]
    pub fn without(mut self, cuts: impl IntoIterator<Item = Link>) -> Self {
        self.cuts.extend(cuts);
        self
    }

    /// The same walk, in which records of these datasets lead from no strong identifier to another: anybody can write two names into a line of
    /// a log.
    #[must_use]
    pub fn unproven_in(mut self, datasets: impl IntoIterator<Item = DatasetRef>) -> Self {
        self.unproven.extend(datasets);
        self
    }

    /// The same walk, which goes along none of these: an earlier walk saw several people behind them, of whose records some may be gone.
    #[must_use]
    pub fn not_following(mut self, tokens: impl IntoIterator<Item = Token>) -> Self {
        self.judged_before.extend(tokens);
        self
    }

    /// What the walk needs next; the same again until it is answered.
    #[allow(
        clippy::should_implement_trait,
        reason = "a walk is no iterator: it repeats itself until it is answered"
    )]
    pub fn next(&mut self) -> Next {
        if self.phase == Phase::Following {
            if self.rounds >= self.limits.rounds_max && !self.pending.is_empty() {
                self.stop(Bound::Rounds);
            }
            if !self.pending.is_empty() {
                return Next::Ask(self.ask_records());
            }
            self.phase = Phase::Counting;
        }
        if self.phase == Phase::Counting {
            let counts: Vec<Token> = self.shared().collect();
            if !counts.is_empty() {
                return Next::Ask(Ask {
                    counts,
                    count_max: self.limits.count_max,
                    ..Ask::default()
                });
            }
            self.phase = Phase::Done;
        }
        Next::Done(self.reached())
    }

    /// Takes the answers of all [`TABLE_PARTITIONS`] partitions to what was asked, in whatever order.
    ///
    /// Errors: [`Error::UnexpectedAnswer`], also where a partition is missing; the walk stands where it stood.
    pub fn answer(&mut self, parts: Vec<PartAnswer>) -> Result<(), Error> {
        let partitions = usize::from(TABLE_PARTITIONS);
        if parts.len() != partitions {
            return Err(Error::UnexpectedAnswer {
                expected: partitions,
                got: parts.len(),
            });
        }
        let (tokens, counts) = match self.phase {
            Phase::Following => (self.pending.len(), 0),
            Phase::Counting => (0, self.shared().count()),
            Phase::Done => (0, 0),
        };
        for part in &parts {
            for (expected, got) in [(tokens, part.held.len()), (counts, part.counts.len())] {
                if expected != got {
                    return Err(Error::UnexpectedAnswer { expected, got });
                }
            }
        }
        if self.phase == Phase::Counting {
            self.count(&parts);
            self.phase = Phase::Done;
        } else if self.phase == Phase::Following {
            self.follow(parts);
            self.rounds += 1;
        }
        Ok(())
    }

    fn ask_records(&self) -> Ask {
        let most = if self.pending.keys().any(|token| self.given.contains(token)) {
            self.limits.records_max
        } else {
            self.limits.strong_records_max.max(self.limits.weak_records_max)
        };
        Ask {
            tokens: self.pending.keys().copied().collect(),
            records_max: most.saturating_add(1),
            ..Ask::default()
        }
    }

    fn shared(&self) -> impl Iterator<Item = Token> {
        self.identifiers
            .values()
            .filter(|known| known.standing == Standing::Shared)
            .map(|known| known.token)
    }

    fn come_across(&mut self, token: Token, found_in: Option<RecordToken>) {
        if self.identifiers.contains_key(&token) {
            return;
        }
        let standing = match token.kind.strength() {
            Strength::Shared => Standing::Shared,
            Strength::Strong | Strength::Weak => {
                self.pending.insert(token, found_in);
                Standing::NotAsked
            }
        };
        let given = self.given.contains(&token);
        self.identifiers.insert(
            token,
            ReachedIdentifier {
                token,
                given,
                found_in,
                standing,
            },
        );
    }

    fn follow(&mut self, parts: Vec<PartAnswer>) {
        let asked = std::mem::take(&mut self.pending);
        let mut answers: Vec<_> = parts.into_iter().map(|part| part.held.into_iter()).collect();
        for token in asked.into_keys() {
            let (mut seen, mut more) = (BTreeMap::new(), false);
            for held in answers.iter_mut().filter_map(Iterator::next) {
                more |= held.more;
                seen.extend(held.records.into_iter().map(|record| (record.record, record)));
            }
            seen.retain(|record, _| !self.is_cut(token, *record));
            if self.bound.is_some() {
                continue;
            }
            let standing = self.judge(token, &seen, more);
            if let Some(known) = self.identifiers.get_mut(&token) {
                known.standing = standing;
            }
            match standing {
                Standing::Followed => self.reach(token, seen, true),
                // What holds an identifier that the request names is the person's, whoever else it may name: only what hangs on the others is not.
                standing if standing.is_of_several() && self.given.contains(&token) => {
                    self.reach(token, seen, false)
                }
                Standing::TooManyRecords { .. } if self.given.contains(&token) => self.stop(Bound::Records),
                _ => {}
            }
        }
    }

    fn is_cut(&self, token: Token, record: RecordToken) -> bool {
        self.cuts.contains(&Link {
            token: token.token,
            record,
        })
    }

    /// Whether the records behind an identifier look like one person's.
    fn judge(&self, token: Token, seen: &BTreeMap<RecordToken, Seen>, more: bool) -> Standing {
        let (mut records_max, same_kind_max) = match token.kind.strength() {
            Strength::Strong => (self.limits.strong_records_max, self.limits.strong_same_kind_max),
            Strength::Weak => (self.limits.weak_records_max, self.limits.weak_same_kind_max),
            Strength::Shared => return Standing::Shared,
        };
        if self.given.contains(&token) {
            records_max = self.limits.records_max;
        }
        let is_beyond = more || seen.len() > records_max;
        // What the request names is reached whole or not at all.
        if self.judged_before.contains(&token) && !(is_beyond && self.given.contains(&token)) {
            return Standing::JudgedBefore;
        }
        if is_beyond {
            return Standing::TooManyRecords {
                records: seen.len() as u64,
            };
        }
        let mut by_kind: BTreeMap<IdentifierKind, BTreeSet<Token>> = BTreeMap::new();
        for record in seen.values() {
            if !self.is_proof(record) {
                continue;
            }
            for other in &record.tokens {
                let strong = other.kind.strength() == Strength::Strong;
                if strong && *other != token && !self.is_cut(*other, record.record) {
                    by_kind.entry(other.kind).or_default().insert(*other);
                }
            }
        }
        let most = by_kind.into_iter().map(|(kind, found)| (found.len(), kind)).max();
        match most {
            Some((found, kind)) if found > same_kind_max => Standing::SeveralPeople {
                kind,
                found: found as u64,
            },
            _ => Standing::Followed,
        }
    }

    /// Whether the strong identifiers of a record are one person's: not where anybody may have written it, and not where it names a crowd.
    fn is_proof(&self, record: &Seen) -> bool {
        let mut by_kind: BTreeMap<IdentifierKind, usize> = BTreeMap::new();
        for token in record
            .tokens
            .iter()
            .filter(|token| token.kind.strength() == Strength::Strong)
        {
            *by_kind.entry(token.kind).or_default() += 1;
        }
        let crowd = by_kind
            .values()
            .any(|count| *count > self.limits.strong_same_kind_max + 1);
        !crowd && !self.unproven.contains(&record.dataset)
    }

    /// Takes records in, and the identifiers in them where they lead on. A record may be known already and lead on only now: what an identifier
    /// of several people led to first is led to by another, too.
    fn reach(&mut self, token: Token, seen: BTreeMap<RecordToken, Seen>, leads_on: bool) {
        for (record, seen) in seen {
            let hop = Hop {
                kind: token.kind,
                token: token.token,
                record,
            };
            let first = match self.records.get(&record) {
                Some(known) if known.onward.is_some() || !leads_on => continue,
                Some(known) => known.hop,
                None if self.records.len() == self.limits.records_max => {
                    self.stop(Bound::Records);
                    return;
                }
                None => hop,
            };
            let proof = leads_on && self.is_proof(&seen);
            for other in &seen.tokens {
                let followed = match other.kind.strength() {
                    Strength::Strong => proof,
                    Strength::Weak => leads_on,
                    Strength::Shared => true,
                };
                if followed && !self.is_cut(*other, record) {
                    self.come_across(*other, Some(record));
                }
            }
            let known = Known {
                seen,
                hop: first,
                onward: leads_on.then_some(hop),
            };
            self.records.insert(record, known);
        }
    }

    fn stop(&mut self, bound: Bound) {
        self.bound = Some(bound);
        self.pending.clear();
    }

    fn count(&mut self, parts: &[PartAnswer]) {
        let shared: Vec<Token> = self.shared().collect();
        for (at, token) in shared.into_iter().enumerate() {
            let counts = parts.iter().filter_map(|part| part.counts.get(at));
            let at_least = counts.clone().any(|count| *count >= self.limits.count_max);
            let own = self
                .records
                .values()
                .filter(|known| known.seen.tokens.contains(&token))
                .count() as u64;
            let records = counts.sum::<u64>().saturating_sub(own);
            self.candidates.push(Candidate {
                token,
                records,
                at_least,
            });
        }
    }

    fn reached(&self) -> Reached {
        let records = self.records.iter().map(|(record, known)| ReachedRecord {
            record: *record,
            dataset: known.seen.dataset.clone(),
            tokens: known
                .seen
                .tokens
                .iter()
                .filter(|token| !self.is_cut(**token, *record))
                .copied()
                .collect(),
            count: known.seen.count,
            path: self.path(*record),
            cut: None,
        });
        let mut reached = Reached {
            records: records.collect(),
            identifiers: self.identifiers.values().cloned().collect(),
            candidates: self.candidates.clone(),
            by_id_alone: Vec::new(),
            bound: self.bound,
        };
        let proofs: Vec<&ReachedRecord> = reached
            .records
            .iter()
            .filter(|record| !self.unproven.contains(&record.dataset))
            .collect();
        reached.by_id_alone = by_id_alone(&proofs, &self.given);
        let cuts = cuts_of(&reached);
        for record in &mut reached.records {
            record.cut = cuts.get(&record.record).copied();
        }
        reached
    }

    fn path(&self, record: RecordToken) -> Vec<Hop> {
        let mut path = Vec::new();
        let mut next = self.records.get(&record).map(|known| known.hop);
        // An identifier was found in a record that led on in an earlier round, so this ends.
        while let Some(hop) = next {
            path.push(hop);
            let token = Token {
                kind: hop.kind,
                token: hop.token,
            };
            let found_in = self.identifiers.get(&token).and_then(|known| known.found_in);
            next = found_in
                .and_then(|record| self.records.get(&record))
                .and_then(|known| known.onward);
        }
        path.reverse();
        path
    }
}
