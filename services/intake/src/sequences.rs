//! Which events of a shard were taken, as the shard's cursor says it: ranges of sequences, and the position up to which the stream was
//! read for them, such as `@57,1-17,19-40`.
//!
//! An event that was taken is a repeat, and one above all others is the next. One in between that was never seen comes late: what it says
//! is older than what is known, so it must not replace anything, and it may not be lost either. Of one below the ranges that are
//! remembered nobody knows whether it was taken.

use std::fmt;
use std::str::FromStr;

use lethe_journal::Position;

/// Ranges that are remembered. A publisher that counts without gaps needs one; with gaps it is a window over the last so many events,
/// and of what lies below it nothing is known.
pub const RANGES_MAX: usize = 64;

/// What an event is to those that were taken before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Above all others.
    Next,
    /// It was taken.
    Repeated,
    /// A later one was taken before it.
    Late,
    /// It lies below everything that is remembered: it may have been taken, or not.
    Unknown,
}

/// The sequences of a shard that were taken.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Taken {
    /// From and to, both included; ascending, with gaps between them.
    ranges: Vec<(u64, u64)>,
    /// Whether ranges were given up: of what lies below the first one nothing is known.
    is_cut: bool,
    /// Everything of the shard below this position of the stream was taken, was a repeat, or is in quarantine.
    read_up_to: Position,
}

impl Taken {
    /// What an event of this sequence is.
    pub fn turn(&self, sequence: u64) -> Turn {
        let Some((_, highest)) = self.ranges.last() else {
            return Turn::Next;
        };
        if sequence > *highest {
            return Turn::Next;
        }
        let after = self.ranges.partition_point(|(from, _)| *from <= sequence);
        let is_within = after.checked_sub(1).map(|at| self.ranges[at].1 >= sequence);
        match is_within {
            Some(true) => Turn::Repeated,
            None if self.is_cut => Turn::Unknown,
            _ => Turn::Late,
        }
    }

    /// Whether what stands at a position was read before, so that a crash must have had it read again.
    pub const fn was_read(&self, position: Position) -> bool {
        position < self.read_up_to
    }

    /// Notes that everything up to a position was read, this one included.
    pub fn read(&mut self, position: Position) {
        self.read_up_to = self.read_up_to.max(position.saturating_add(1));
    }

    /// The highest sequence that was taken.
    pub fn highest(&self) -> Option<u64> {
        self.ranges.last().map(|(_, highest)| *highest)
    }

    /// Notes that an event was taken, or was late and is in quarantine: either way it is not to be looked at again.
    pub fn take(&mut self, sequence: u64) {
        let at = self.ranges.partition_point(|(from, _)| *from <= sequence);
        if at > 0 && self.ranges[at - 1].1 >= sequence {
            return;
        }
        let joins_before = at > 0 && self.ranges[at - 1].1.checked_add(1) == Some(sequence);
        let joins_after = sequence
            .checked_add(1)
            .is_some_and(|next| self.ranges.get(at).is_some_and(|(from, _)| *from == next));
        match (joins_before, joins_after) {
            (true, true) => {
                self.ranges[at - 1].1 = self.ranges[at].1;
                self.ranges.remove(at);
            }
            (true, false) => self.ranges[at - 1].1 = sequence,
            (false, true) => self.ranges[at].0 = sequence,
            (false, false) => self.ranges.insert(at, (sequence, sequence)),
        }
        if self.ranges.len() > RANGES_MAX {
            self.ranges.remove(0);
            self.is_cut = true;
        }
    }
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "@{}", self.read_up_to)?;
        if self.is_cut {
            f.write_str(",...")?;
        }
        for (from, to) in &self.ranges {
            write!(f, ",{from}-{to}")?;
        }
        Ok(())
    }
}

impl FromStr for Taken {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "@, a position, and ranges of sequences, ascending";
        let mut parts = text.split(',').peekable();
        let position = parts.next().and_then(|part| part.strip_prefix('@'));
        let read_up_to = position.and_then(|digits| digits.parse().ok()).ok_or(EXPECTED)?;
        let is_cut = parts.next_if_eq(&"...").is_some();
        let mut ranges: Vec<(u64, u64)> = Vec::new();
        for range in parts {
            let (from, to) = range.split_once('-').ok_or(EXPECTED)?;
            let (from, to) = (
                from.parse().map_err(|_| EXPECTED)?,
                to.parse().map_err(|_| EXPECTED)?,
            );
            if from > to || ranges.last().is_some_and(|(_, before)| *before >= from) {
                return Err(EXPECTED);
            }
            ranges.push((from, to));
        }
        Ok(Self {
            ranges,
            is_cut,
            read_up_to,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn taken(sequences: impl IntoIterator<Item = u64>) -> Taken {
        let mut taken = Taken::default();
        sequences.into_iter().for_each(|sequence| taken.take(sequence));
        taken
    }

    #[test]
    fn repeats_and_latecomers_are_told_apart() {
        let some = taken([1, 2, 3, 7, 9, 8, 20]);
        assert_eq!(some.to_string(), "@0,1-3,7-9,20-20");
        for (sequence, turn) in [
            (0, Turn::Late),
            (2, Turn::Repeated),
            (5, Turn::Late),
            (8, Turn::Repeated),
            (20, Turn::Repeated),
            (21, Turn::Next),
        ] {
            assert_eq!(some.turn(sequence), turn, "{sequence}");
        }
        assert_eq!(Taken::default().turn(0), Turn::Next);
        assert_eq!(taken([u64::MAX]).turn(u64::MAX), Turn::Repeated);
    }

    #[test]
    fn any_order_comes_to_the_same_and_reads_back() {
        // A permutation that visits every residue.
        let order: Vec<u64> = (0..101).map(|n| n * 37 % 101).filter(|n| n % 3 != 0).collect();
        let (mut some, mut seen) = (Taken::default(), BTreeSet::new());
        for sequence in order {
            some.take(sequence);
            some.take(sequence);
            seen.insert(sequence);
            for other in 0..102 {
                let is_repeat = some.turn(other) == Turn::Repeated;
                assert_eq!(is_repeat, seen.contains(&other), "{other} in {some}");
            }
        }
        assert_eq!(some.to_string().parse(), Ok(some));
    }

    #[test]
    fn memory_is_bounded_and_of_what_falls_out_nothing_is_claimed() {
        let some = taken((0..1_000).map(|n| n * 10));
        assert_eq!(some.ranges.len(), RANGES_MAX);
        assert_eq!(some.turn(5), Turn::Unknown, "never taken, long ago");
        assert_eq!(some.turn(10), Turn::Unknown, "taken, long ago");
        assert_eq!(some.turn(9_990), Turn::Repeated);
        assert_eq!(some.turn(9_985), Turn::Late, "a moment ago");
        assert_eq!(some.turn(9_991), Turn::Next);
        assert_eq!(some.to_string().parse(), Ok(some.clone()));
        for wrong in ["", "x", "1-5", "@,1-5", "@7,3-1", "@7,1-5,5-6", "@7,1", "@7,"] {
            assert!(wrong.parse::<Taken>().is_err(), "{wrong}");
        }
    }

    #[test]
    fn how_far_the_stream_was_read_only_grows() {
        let mut some = taken((0..1_000).map(|n| n * 10));
        assert!(!some.was_read(0));
        some.read(7);
        some.read(3);
        assert!(some.was_read(7) && !some.was_read(8));
        assert_eq!(some.to_string().parse(), Ok(some));
    }
}
