//! How long ago something was, also where the machine slept meanwhile.

use std::time::{Duration, Instant, SystemTime};

/// A moment by two clocks. The one that always runs forward stands still while a machine is suspended; the one on the wall goes on, and may be
/// set back.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    steady: Instant,
    wall: SystemTime,
}

impl Moment {
    pub(crate) fn now() -> Self {
        Self {
            steady: Instant::now(),
            wall: SystemTime::now(),
        }
    }

    /// How long ago this was: whichever clock says more.
    pub(crate) fn age(self) -> Duration {
        self.age_at(Self::now())
    }

    fn age_at(self, now: Self) -> Duration {
        // None where the clock was set back behind it.
        let by_wall = now.wall.duration_since(self.wall).unwrap_or_default();
        now.steady.saturating_duration_since(self.steady).max(by_wall)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_suspended_machine_has_been_away_for_as_long_as_it_slept() {
        const HOUR: Duration = Duration::from_hours(1);
        let then = Moment::now();
        let later = |steady: u32, wall: SystemTime| Moment {
            steady: then.steady + HOUR * steady,
            wall,
        };
        assert_eq!(then.age_at(later(2, then.wall + HOUR * 2)), HOUR * 2);
        assert_eq!(then.age_at(later(1, then.wall + HOUR * 240)), HOUR * 240);
        assert_eq!(then.age_at(later(3, then.wall - HOUR)), HOUR * 3, "set back");
        assert_eq!(
            then.age_at(later(3, then.wall + HOUR)),
            HOUR * 3,
            "set back a little"
        );
    }
}
