//! Walks: from identifiers to the records of a person, over all partitions, and what is made of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use lethe_casework::WalkStart;
use lethe_conductor::WalkOutcome;
use lethe_gateway::views::{LineageEdge, LineageHow, LineageNode, LineageRecord, LineageView, LineageWhat};
use lethe_intake::Intake;
use lethe_journal::{DatasetRef, FailureCode, Person, Sealed, Selectors, Token};
use lethe_lineage::{Limits, Next, Reached, ReachedIdentifier, ReachedRecord, Standing, Walk};
use lethe_planner::{Basis, Doubt, Holding, Suspicion};
use lethe_terms::{CaseId, Identifier, IdentifierKind, IssuedKind, RecordToken, Strength};

use crate::Error;
use crate::case_keys::CaseKeys;
use crate::inventories::Inventories;
use crate::lineage::{Lineage, ReadUpTo, records_read};

/// How long a walk waits for partitions that lag behind the heads that it began with.
const PATIENCE: Duration = Duration::from_secs(30);

/// How long somebody who looks at a person's lineage is kept waiting: another owner answers for the partitions of a killed one after ten to
/// fifteen seconds. With the look at who does not answer it is shorter than the gateway waits, so that its words arrive.
const LOOK_PATIENCE: Duration = Duration::from_secs(15);

/// How long each partition is asked then whether anybody answers for it.
const STAND_PATIENCE: Duration = Duration::from_secs(2);

/// How long that may take in all, with the heads of a log that may be silent, too.
const STANDS_TIME_MAX: Duration = Duration::from_secs(3);

/// Takes walks.
pub(crate) struct Walker {
    pub(crate) lineage: Arc<Lineage>,
    pub(crate) intake: Arc<Intake>,
    pub(crate) inventories: Arc<Inventories>,
}

/// Records of one dataset with what finds them, and the identifiers that they hold.
type Opened = (
    BTreeMap<DatasetRef, Vec<(RecordToken, String)>>,
    BTreeSet<Identifier>,
);

impl Walker {
    /// Identifiers in their one spelling.
    pub(crate) fn normalised(&self, identifiers: &[Identifier]) -> Result<Vec<Identifier>, Error> {
        let normalised: Result<BTreeSet<_>, _> = identifiers
            .iter()
            .map(|identifier| self.intake.normalised(identifier))
            .collect();
        Ok(normalised?.into_iter().collect())
    }

    /// Tokens of normalised identifiers.
    pub(crate) fn tokens(&self, identifiers: &[Identifier]) -> Result<Vec<Token>, Error> {
        let keys = self.intake.tokens();
        let tokens: BTreeSet<_> = identifiers
            .iter()
            .map(|identifier| Token {
                kind: identifier.kind,
                token: keys.identifier(identifier),
            })
            .collect();
        Ok(tokens.into_iter().collect())
    }

    /// Walks once every partition has read what the log held at the start; nothing less can be decided on.
    async fn walk(&self, start: WalkStart) -> Result<(Reached, ReadUpTo), Error> {
        let read_up_to = self.lineage.heads().await?;
        let unproven = self.inventories.unproven();
        let mut walk = Walk::new(start.tokens, Limits::default())
            .not_following(start.not_followed)
            .unproven_in(unproven);
        loop {
            match walk.next() {
                Next::Done(reached) => return Ok((reached, read_up_to)),
                Next::Ask(ask) => walk.answer(self.lineage.walk(ask, &read_up_to, PATIENCE).await?)?,
            }
        }
    }

    /// A walk for a case, with everything that its plan needs sealed under its key. What `kept` selects is selected again: it may be out of
    /// reach because an identifier that led to it was erased first.
    pub(crate) async fn walk_for_case(
        &self,
        keys: &CaseKeys,
        case: CaseId,
        start: WalkStart,
        known: Vec<Sealed>,
        kept: BTreeMap<DatasetRef, Sealed>,
    ) -> Result<WalkOutcome, Error> {
        // What is decided on the walk is decided on the inventory, too.
        self.inventories.refresh();
        let mut not_followed: BTreeSet<Token> = start.not_followed.iter().copied().collect();
        let (reached, read_up_to) = self.walk(start).await?;
        if let Some(bound) = reached.bound {
            return Ok(WalkOutcome::CutOff(FailureCode(bound.code().to_owned())));
        }
        let (mut places, held) = self.opened(&reached, &read_up_to).await?;
        for (place, sealed) in kept {
            let records = places.entry(place).or_default();
            let fresh: BTreeSet<_> = records.iter().map(|(record, _)| *record).collect();
            let earlier = keys.open_selectors(case, &sealed).await?.records;
            records.extend(earlier.into_iter().filter(|(record, _)| !fresh.contains(record)));
        }
        let (mut identifiers, mut fruitless) = (BTreeSet::new(), None);
        for sealed in &known {
            let opened = keys.open_selectors(case, sealed).await?.identifiers;
            // The first are those of the request.
            fruitless.get_or_insert_with(|| self.fruitless(&reached, &opened));
            identifiers.extend(opened);
        }
        identifiers.extend(
            held.into_iter()
                .filter(|identifier| self.is_persons(&reached, identifier)),
        );
        let identifiers: Vec<_> = identifiers.into_iter().collect();
        let mut selectors = BTreeMap::new();
        for (place, records) in places {
            let sealed = seal(keys, case, records, identifiers.clone()).await?;
            selectors.insert(place, sealed);
        }
        not_followed.extend(reached.suspicious().map(|known| known.token));
        let tokens = self.tokens(&identifiers)?;
        let identifiers = seal(keys, case, Vec::new(), identifiers).await?;
        let basis = Basis {
            holdings: holdings(&reached),
            selectors,
            identity_sources: identity_sources(&reached),
            suspicious: suspicious(&reached),
            doubtful: doubtful(&reached),
            fruitless: fruitless.unwrap_or_default(),
            read_up_to: records_read(&read_up_to),
        };
        Ok(WalkOutcome::Reached {
            basis: Box::new(basis),
            person: Person {
                tokens,
                identifiers,
                not_followed: not_followed.into_iter().collect(),
            },
        })
    }

    /// Whether an identifier of a reached record is the person's: the walk went along it.
    fn is_persons(&self, reached: &Reached, identifier: &Identifier) -> bool {
        let token = Token {
            kind: identifier.kind,
            token: self.intake.tokens().identifier(identifier),
        };
        identifier.kind.strength() != Strength::Shared && reached.is_followed(token)
    }

    /// Kinds of those identifiers that no record reached holds.
    fn fruitless(&self, reached: &Reached, identifiers: &[Identifier]) -> BTreeSet<IssuedKind> {
        let records = reached.records.iter();
        let held: BTreeSet<_> = records.flat_map(|found| &found.tokens).collect();
        let keys = self.intake.tokens();
        let leads_nowhere = |identifier: &&Identifier| {
            !held.contains(&Token {
                kind: identifier.kind,
                token: keys.identifier(identifier),
            })
        };
        let fruitless = identifiers.iter().filter(leads_nowhere);
        fruitless.map(Identifier::issued_kind).collect()
    }

    async fn opened(&self, reached: &Reached, read_up_to: &ReadUpTo) -> Result<Opened, Error> {
        let mut places: BTreeMap<DatasetRef, Vec<_>> = BTreeMap::new();
        let mut identifiers = BTreeSet::new();
        let records: Vec<_> = reached.records.iter().map(|found| found.record).collect();
        let whole = self.lineage.records(&records, read_up_to, PATIENCE).await?;
        for found in &reached.records {
            let Some((row, wrapped)) = whole.get(&found.record) else {
                // It went between the walk and now: the walk is taken again.
                return Err(Error::Lagging);
            };
            let Some(wrapped) = wrapped else {
                return Err(Error::NoRecordKey {
                    system: found.dataset.system.clone(),
                });
            };
            let secret = self.intake.open_record(found.record, wrapped, &row.secret)?;
            identifiers.extend(secret.identifiers);
            places
                .entry(found.dataset.clone())
                .or_default()
                .push((found.record, secret.handle));
        }
        Ok((places, identifiers))
    }

    /// A person's lineage for people to look at.
    ///
    /// # Errors
    /// [`Error::Unanswered`] where partitions could not be asked.
    pub(crate) async fn lineage_view(&self, identifiers: &[Identifier]) -> Result<LineageView, Error> {
        let start = WalkStart {
            tokens: self.tokens(identifiers)?,
            not_followed: Vec::new(),
        };
        match tokio::time::timeout(LOOK_PATIENCE, self.walk(start)).await {
            Ok(Ok((reached, _))) => Ok(view(&reached)),
            Ok(Err(Error::Lagging)) | Err(_) => Err(self.unanswered().await),
            Ok(Err(error)) => Err(error),
        }
    }

    /// Which partitions a question could not be asked of.
    async fn unanswered(&self) -> Error {
        let asked = self.lineage.partitions(STAND_PATIENCE);
        let Ok(Ok(stands)) = tokio::time::timeout(STANDS_TIME_MAX, asked).await else {
            return Error::Lagging;
        };
        let behind = || (0_u16..).zip(stands.iter().map(|(_, behind)| *behind));
        let silent = behind().filter(|(_, behind)| behind.is_none());
        let lagging = behind().filter(|(_, behind)| behind.is_some_and(|behind| behind > 0));
        Error::Unanswered {
            silent: silent.map(|(partition, _)| partition).collect(),
            lagging: lagging.map(|(partition, _)| partition).collect(),
        }
    }
}

/// Selectors of these records and identifiers under the case's key.
async fn seal(
    keys: &CaseKeys,
    case: CaseId,
    records: Vec<(RecordToken, String)>,
    identifiers: Vec<Identifier>,
) -> Result<Sealed, Error> {
    let selectors = Selectors { records, identifiers };
    keys.seal_selectors(case, selectors).await
}

fn holdings(reached: &Reached) -> Vec<Holding> {
    reached
        .records
        .iter()
        .map(|found| Holding {
            record: found.record,
            system: found.dataset.system.clone(),
            dataset: found.dataset.dataset.clone(),
            via: found.via(),
        })
        .collect()
}

fn suspicious(reached: &Reached) -> Vec<Suspicion> {
    let place = |known: &ReachedIdentifier| {
        let mut records = reached.records.iter();
        let holds = |record: &&ReachedRecord| match known.found_in {
            Some(found_in) => record.record == found_in,
            None => record.tokens.contains(&known.token),
        };
        records.find(holds).map(|record| record.dataset.clone())
    };
    reached
        .suspicious()
        .filter_map(|known| {
            Some(Suspicion {
                place: place(known)?,
                kind: known.token.kind,
                found: match known.standing {
                    Standing::TooManyRecords { records } => records,
                    Standing::SeveralPeople { found, .. } => found,
                    _ => return None,
                },
            })
        })
        .collect()
}

fn doubtful(reached: &Reached) -> BTreeSet<Doubt> {
    let doubts = reached.by_id_alone.iter().map(|alone| Doubt {
        place: alone.place.clone(),
        id: alone.id,
        names: alone.names,
    });
    doubts.collect()
}

/// Datasets with a record in which an identifier was first found that led to a record elsewhere.
fn identity_sources(reached: &Reached) -> BTreeSet<DatasetRef> {
    let places: BTreeMap<_, _> = reached
        .records
        .iter()
        .map(|found| (found.record, &found.dataset))
        .collect();
    let found_in: BTreeMap<_, _> = reached
        .identifiers
        .iter()
        .filter_map(|known| Some((known.token.token, *places.get(&known.found_in?)?)))
        .collect();
    let mut sources = BTreeSet::new();
    for hop in reached.records.iter().flat_map(|found| &found.path) {
        if let (Some(source), Some(place)) = (found_in.get(&hop.token), places.get(&hop.record))
            && source != place
        {
            sources.insert((*source).clone());
        }
    }
    sources
}

/// Records of one place together, the shortest way to one first.
fn order(record: &LineageRecord) -> (String, String, usize, Vec<IdentifierKind>) {
    let place = (record.system.clone(), record.dataset.clone());
    (place.0, place.1, record.path.len(), record.path.clone())
}

fn view(reached: &Reached) -> LineageView {
    let mut nodes = Vec::new();
    let mut names = BTreeMap::new();
    for identifier in &reached.identifiers {
        let id = format!("i{}", names.len());
        names.insert(identifier.token, id.clone());
        let kind = identifier.token.kind;
        nodes.push(LineageNode {
            id,
            what: LineageWhat::Identifier {
                kind,
                strength: kind.strength(),
                given: identifier.given,
            },
        });
    }
    let mut edges = Vec::new();
    for (number, found) in reached.records.iter().enumerate() {
        let id = format!("r{number}");
        for token in &found.tokens {
            if let Some(from) = names.get(token) {
                edges.push(LineageEdge {
                    from: from.clone(),
                    to: id.clone(),
                    how: LineageHow::Identifies,
                });
            }
        }
        let (system, dataset) = (
            found.dataset.system.to_string(),
            found.dataset.dataset.to_string(),
        );
        nodes.push(LineageNode {
            id,
            what: LineageWhat::Record {
                system,
                dataset,
                count: found.count,
            },
        });
    }
    let mut records: Vec<_> = reached
        .records
        .iter()
        .enumerate()
        .map(|(number, found)| LineageRecord {
            system: found.dataset.system.to_string(),
            dataset: found.dataset.dataset.to_string(),
            count: found.count,
            path: found.via(),
            link: found.cut.map(|link| {
                let from = names
                    .iter()
                    .find(|(token, _)| token.token == link.token)
                    .map(|(_, id)| id.as_str());
                format!("{}-r{number}", from.unwrap_or("?"))
            }),
        })
        .collect();
    records.sort_by_cached_key(order);
    LineageView {
        records,
        nodes,
        edges,
        candidates_behind_shared: reached.candidates.iter().map(|candidate| candidate.records).sum(),
        complete: reached.bound.is_none(),
        cut_off: reached.bound.map(|bound| bound.code().to_owned()),
        quarantined: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::board::Board;
    use crate::lineage::Owners;
    use crate::nothing_known::NothingKnown;
    use crate::test_world::World;

    #[tokio::test(start_paused = true)]
    async fn who_looks_for_a_person_hears_which_partitions_nobody_answers_for_before_the_gateway_gives_up() {
        let (world, folder) = (World::new(), tempfile::tempdir().unwrap());
        let owners = Arc::new(Owners::none(folder.path()));
        owners.take(3).unwrap();
        let board = Board::new(&[], Vec::new(), BTreeMap::new());
        let walker = Walker {
            lineage: Arc::new(Lineage::new(Arc::clone(&world.log) as _, owners, None)),
            intake: world.intake(Arc::new(NothingKnown)),
            inventories: Arc::new(Inventories::new(Arc::new(board))),
        };
        let ada = [Identifier::new(IdentifierKind::Email, "ada@example.org")];
        let looked = walker.lineage_view(&ada);
        let limit = lethe_gateway::limits::ANSWER_TIME_MAX;
        let error = tokio::time::timeout(limit, looked).await.unwrap().unwrap_err();
        assert_eq!(error.code(), "node-lineage-unanswered");
        let told = error.to_string();
        assert!(
            told.contains("nobody answers for lineage partitions 0-2, 4-15:"),
            "{told}"
        );
    }
}
