//! Records that an id joins with the others and nothing else does: so look two people whom two systems count under the same number.

use std::collections::{BTreeMap, BTreeSet};

use lethe_journal::Token;
use lethe_terms::{IdentifierKind, Strength, SystemName};
use petgraph::unionfind::UnionFind;

use crate::reached::{ByIdAlone, ReachedRecord};

/// Records that belong together without an id of another system: by a name, wherever it stands, or by an id within one system.
#[derive(Default)]
struct Group {
    records: Vec<usize>,
    names: BTreeSet<Token>,
    ids: BTreeSet<Token>,
}

/// What of the records an id alone joins with those of the person that the given identifiers name, although it names somebody itself.
pub(crate) fn by_id_alone(records: &[&ReachedRecord], given: &BTreeSet<Token>) -> Vec<ByIdAlone> {
    let groups = groups(records);
    let mut holders: BTreeMap<Token, usize> = BTreeMap::new();
    for id in groups.iter().flat_map(|group| &group.ids) {
        *holders.entry(*id).or_default() += 1;
    }
    let is_named = |group: &&Group| !group.names.is_disjoint(given);
    let any_is_named = groups.iter().any(|group| is_named(&group));
    // Where the request names an id only, nothing tells which of the groups behind it is the person's.
    let several = groups.iter().filter(|group| !group.names.is_empty()).count() > 1;
    let doubtful = groups
        .iter()
        .filter(|group| several && !(any_is_named && is_named(group)));
    let mut found = BTreeSet::new();
    for group in doubtful {
        let joins = |id: &&Token| holders.get(id).is_some_and(|groups| *groups > 1);
        let (Some(id), Some(name)) = (group.ids.iter().find(joins), group.names.first()) else {
            continue;
        };
        found.extend(group.records.iter().map(|record| ByIdAlone {
            place: records[*record].dataset.clone(),
            id: id.kind,
            names: name.kind,
        }));
    }
    found.into_iter().collect()
}

fn groups(records: &[&ReachedRecord]) -> Vec<Group> {
    let mut together = UnionFind::<usize>::new(records.len());
    let mut first: BTreeMap<(Option<&SystemName>, Token), usize> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        for token in &record.tokens {
            let within = match role(token.kind) {
                Role::Name => None,
                Role::Id => Some(&record.dataset.system),
                Role::Neither => continue,
            };
            let other = *first.entry((within, *token)).or_insert(at);
            together.union(at, other);
        }
    }
    let mut groups: BTreeMap<usize, Group> = BTreeMap::new();
    for (at, record) in records.iter().enumerate() {
        let group = groups.entry(together.find(at)).or_default();
        group.records.push(at);
        for token in &record.tokens {
            match role(token.kind) {
                Role::Name => group.names.insert(*token),
                Role::Id => group.ids.insert(*token),
                Role::Neither => continue,
            };
        }
    }
    groups.into_values().collect()
}

enum Role {
    /// It names one person wherever it stands.
    Name,
    /// It names one only together with who gave it.
    Id,
    /// It names nobody for sure.
    Neither,
}

fn role(kind: IdentifierKind) -> Role {
    match (kind.strength(), kind.is_issued()) {
        (Strength::Strong, false) => Role::Name,
        (Strength::Strong, true) => Role::Id,
        (Strength::Weak | Strength::Shared, _) => Role::Neither,
    }
}
