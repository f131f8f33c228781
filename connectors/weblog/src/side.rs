//! Restricted lines: out of the log, sealed in a side file, with the place where each belongs.
//!
//! Each line keeps the claims on it: by what each restriction took it. It goes back, or is erased, when the instruction ends the last of them.
//!
//! A place is a byte of the file *as it stands without the line*, and the order of the list decides between lines of the same place. Every rewrite of
//! the file moves the places as it moves the bytes, so that other erasures in between do not matter; the file is known by its id through every rename.

use std::collections::BTreeSet;

use lethe_terms::Verb;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::files;
use crate::history::History;
use crate::log::{Log, state_name};
use crate::matcher::{By, Hit, Matcher};
use crate::rewrite::SHIFTS_MAX;
use crate::state::Stage;

/// What a rewrite does at one place of a file: numbers only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Edit {
    /// First byte in the old content.
    pub(crate) at: u64,
    /// Bytes that go.
    pub(crate) old: u64,
    /// Bytes that come.
    pub(crate) new: u64,
}

/// What a rewrite did to a file, for cursors that were given before it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Shift {
    /// The file's id.
    pub(crate) file: u64,
    /// In order, apart from each other.
    pub(crate) edits: Vec<Edit>,
}

/// Where a byte of the old content stands in the new one. What is put in at a place comes behind a mark that stands there.
pub(crate) fn moved(edits: &[Edit], byte: u64) -> u64 {
    let mut place = byte;
    for edit in edits {
        if edit.at >= byte {
            break;
        }
        // A mark inside what goes falls to its beginning.
        let gone = edit.old.min(byte - edit.at);
        place = place - gone + if gone == edit.old { edit.new } else { 0 };
    }
    place
}

/// A line that is out of the log.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SideLine {
    /// Id of the file that it belongs to.
    pub(crate) file: u64,
    /// Byte of the file before which it belongs.
    pub(crate) at: u64,
    /// The line with its end.
    #[serde(with = "hex")]
    pub(crate) line: Vec<u8>,
    /// The claims on it.
    #[serde(default)]
    pub(crate) claims: BTreeSet<Claim>,
}

/// By what a restriction took a line: digests of the lines whose records it named or, where it named none of them, of the person's identifiers in the line.
/// An instruction about any of them ends it.
pub(crate) type Claim = BTreeSet<String>;

impl SideLine {
    /// The line without its end.
    pub(crate) fn text(&self) -> &[u8] {
        files::text(&self.line)
    }

    /// Whether an instruction about these ends every claim on the line.
    pub(crate) fn is_released_by(&self, digests: &BTreeSet<String>) -> bool {
        self.claims.iter().all(|claim| !claim.is_disjoint(digests))
    }
}

/// All lines of a log that are out of it; those of one file in the order in which they stood there.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Side {
    /// The lines.
    pub(crate) lines: Vec<SideLine>,
}

impl Side {
    /// Takes in a line that stands at this byte now, before the edits of the same rewrite are applied.
    pub(crate) fn take_in(&mut self, line: SideLine) {
        // Lines whose place is the beginning of this one stood before it.
        let place = self
            .lines
            .iter()
            .position(|l| l.file == line.file && l.at > line.at)
            .unwrap_or(self.lines.len());
        self.lines.insert(place, line);
    }

    /// Moves the places as a rewrite moves the bytes.
    pub(crate) fn shift(&mut self, file: u64, edits: &[Edit]) {
        for line in self.lines.iter_mut().filter(|l| l.file == file) {
            line.at = moved(edits, line.at);
        }
    }

    /// Takes out the lines of a file that are to go back, and moves the places of the others to where they are once those are back.
    pub(crate) fn give_back(&mut self, file: u64, wanted: impl Fn(&SideLine) -> bool) -> Vec<SideLine> {
        let (mut back, mut stay, mut len) = (Vec::new(), Vec::new(), 0);
        for mut line in std::mem::take(&mut self.lines) {
            if line.file != file {
                stay.push(line);
            } else if wanted(&line) {
                len += line.line.len() as u64;
                back.push(line);
            } else {
                line.at += len;
                stay.push(line);
            }
        }
        self.lines = stay;
        back
    }
}

impl Log {
    /// Digests of the lines and identifiers that an instruction is about.
    pub(crate) fn digests_of(&self, matcher: &Matcher) -> BTreeSet<String> {
        let records = matcher.records().iter().map(|r| self.digest_of_unit(r));
        let needles = matcher.needles().iter().map(|i| self.digest_of_identifier(i));
        records.chain(needles).collect()
    }

    /// Digests of the records of a line that are selected.
    pub(crate) fn digests_of_hit(&self, hit: &Hit<'_>) -> Vec<String> {
        hit.records.iter().map(|record| self.digest_of(record)).collect()
    }

    /// The claim of a restriction on a line that it selects.
    pub(crate) fn claim_of(&self, hit: &Hit<'_>) -> Claim {
        match &hit.by {
            By::Records(records) => records.iter().map(|r| self.digest_of_unit(r)).collect(),
            By::Identifiers(needles) => needles.iter().map(|i| self.digest_of_identifier(i)).collect(),
        }
    }

    /// What an instruction does to lines that are restricted already. An erasure takes them, unless somebody else's claim is on them; a restriction
    /// finds them done, and claims them, too; a lift ends its claims on those that others hold, and leaves the rest to the files that they belong to.
    pub(crate) fn look_through_side(&mut self, id: &str) -> Result<(), Error> {
        let Some(active) = self.state.active.get(id).cloned() else {
            return Ok(());
        };
        let mut side = self.side()?;
        let look = active.matcher.look(&self.rules, &self.config.name);
        let digests = self.digests_of(&active.matcher);
        let (mut touched, mut lines, mut changed) = (BTreeSet::new(), 0, false);
        side.lines.retain_mut(|line| {
            let Some(hit) = look.hit_at(line.text()) else {
                return true;
            };
            let is_released = line.is_released_by(&digests);
            match active.verb {
                Verb::Erase if is_released => {
                    touched.extend(self.digests_of_hit(&hit));
                    (lines, changed) = (lines + 1, true);
                    return false;
                }
                // A restriction that was interrupted finds its own lines here, which it has counted.
                Verb::Restrict => {
                    touched.extend(self.digests_of_hit(&hit));
                    changed |= line.claims.insert(self.claim_of(&hit));
                }
                Verb::Lift if !is_released => {
                    let before = line.claims.len();
                    line.claims.retain(|claim| claim.is_disjoint(&digests));
                    if line.claims.len() < before {
                        touched.extend(self.digests_of_hit(&hit));
                        changed = true;
                    }
                }
                _ => {}
            }
            true
        });
        if touched.is_empty() {
            return Ok(());
        }
        let version = changed.then(|| self.save_side(&side)).transpose()?;
        if let Some(active) = self.state.active.get_mut(id) {
            active.touched.extend(touched);
            active.lines += lines;
        }
        self.use_side(version)
    }

    /// Name of a version of the side file.
    pub(crate) fn side_name(&self, version: u64) -> String {
        format!("{}.side.{version}", self.config.name)
    }

    /// The side file that is valid now.
    pub(crate) fn side(&self) -> Result<Side, Error> {
        let Some(version) = self.state.side_version else {
            return Ok(Side::default());
        };
        let name = self.side_name(version);
        self.dir.load(&name)?.ok_or_else(|| Error::StateDamaged {
            reason: format!("{name} is gone"),
        })
    }

    /// Writes a new version of the side file and returns its number: it is valid once the state names it.
    pub(crate) fn save_side(&self, side: &Side) -> Result<u64, Error> {
        let version = self.state.side_version.unwrap_or(0) + 1;
        self.dir.save(&self.side_name(version), side)?;
        Ok(version)
    }

    /// Takes away what a crash left in the state folder: whatever the state does not name could outlive an erasure.
    pub(crate) fn drop_unnamed(&self) -> Result<(), Error> {
        let rewrite = self.state.rewrite.as_ref();
        let prepared = rewrite.is_some_and(|r| r.stage == Stage::Prepared);
        let sides = [self.state.side_version, rewrite.and_then(|r| r.side_version)];
        let last = self.state.rewrites + u64::from(prepared);
        let shifts = (self.state.rewrites + 1).saturating_sub(SHIFTS_MAX)..=last;
        let number = |name: &str, kind: &str| -> Option<u64> {
            let rest = name.strip_prefix(self.config.name.as_str())?;
            rest.strip_prefix(kind)?.parse().ok()
        };
        for name in self.dir.names()? {
            // What was only begun to be written.
            let begun = name.strip_suffix(".new").is_some_and(|whole| {
                let numbered = [".side.", ".shift."]
                    .iter()
                    .any(|kind| number(whole, kind).is_some());
                numbered || whole == state_name(&self.config) || whole == History::name_of(&self.config.name)
            });
            let side = number(&name, ".side.").is_some_and(|n| !sides.contains(&Some(n)));
            let shift = number(&name, ".shift.").is_some_and(|n| !shifts.contains(&n));
            if begun || side || shift {
                self.dir.drop_file(&name)?;
            }
        }
        Ok(())
    }

    /// Makes a version valid together with whatever else changed in the state.
    pub(crate) fn use_side(&mut self, version: Option<u64>) -> Result<(), Error> {
        let before = self.state.side_version;
        self.state.side_version = version.or(before);
        self.save()?;
        match before {
            Some(before) if version.is_some_and(|v| v != before) => {
                self.dir.drop_file(&self.side_name(before))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_move_with_the_bytes_around_them() {
        let edits = [
            Edit {
                at: 10,
                old: 5,
                new: 0,
            },
            Edit {
                at: 20,
                old: 0,
                new: 7,
            },
            Edit {
                at: 30,
                old: 4,
                new: 2,
            },
        ];
        for (before, after) in [
            (0, 0),
            (10, 10),
            (12, 10),
            (15, 10),
            (20, 15),
            (21, 23),
            (30, 32),
            (34, 34),
            (40, 40),
        ] {
            assert_eq!(moved(&edits, before), after, "{before}");
        }
    }

    proptest::proptest! {
        /// Lines leave one group after another and come back in any order: the file is what it was, less what was erased.
        #[test]
        fn lines_that_leave_and_come_back_stand_where_they_stood(
            groups in proptest::collection::vec(0_u8..4, 1..30), leave in proptest::collection::vec(0_u8..4, 0..6),
            back in proptest::collection::vec(0_u8..4, 0..6), erased in 0_u8..8,
        ) {
            let lines: Vec<(u8, Vec<u8>)> = groups.iter().enumerate().map(|(n, g)| (*g, format!("{g}{}{n}\n", "x".repeat(n % 3)).into_bytes())).collect();
            let (mut file, mut side) = (lines.clone(), Side::default());
            let out = |file: &mut Vec<(u8, Vec<u8>)>, side: &mut Side, group: u8, keep: bool| {
                let (mut at, mut edits) = (0, Vec::new());
                for (g, line) in file.iter() {
                    if *g == group {
                        if keep { side.take_in(SideLine { file: 1, at, line: line.clone(), claims: BTreeSet::new() }); }
                        edits.push(Edit { at, old: line.len() as u64, new: 0 });
                    }
                    at += line.len() as u64;
                }
                file.retain(|(g, _)| *g != group);
                side.shift(1, &edits);
            };
            for group in leave { out(&mut file, &mut side, group, true); }
            out(&mut file, &mut side, erased, false);
            side.lines.retain(|l| l.line[0] != b'0' + erased);
            for group in back.into_iter().chain(0..4) {
                for line in side.give_back(1, |l| l.line[0] == b'0' + group).into_iter().rev() {
                    let (mut at, mut index) = (0, 0);
                    while at < line.at { at += file[index].1.len() as u64; index += 1; }
                    proptest::prop_assert_eq!(at, line.at);
                    file.insert(index, (group, line.line));
                }
            }
            let expected: Vec<_> = lines.into_iter().filter(|(g, _)| *g != erased).collect();
            proptest::prop_assert_eq!(file, expected);
        }
    }
}
