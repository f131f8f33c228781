//! Rounds of whoever follows the case histories: up to when they were read, and whoever wants them read once more.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// What is known of the rounds, and who waits for one.
pub(crate) struct Rounds(watch::Sender<Seen>);

#[derive(Clone, Copy)]
struct Seen {
    /// How often a round was asked for.
    asked: u64,
    /// Up to which of these a round came that began later.
    answered: u64,
    /// When the last round began that read everything; before the first one, when this was made.
    as_of: Instant,
}

/// A round that has begun.
#[derive(Clone, Copy)]
pub(crate) struct Round {
    began: Instant,
    asked: u64,
}

impl Rounds {
    pub(crate) fn new() -> Self {
        Self(watch::Sender::new(Seen {
            asked: 0,
            answered: 0,
            as_of: Instant::now(),
        }))
    }

    /// Begins to look at what the log has.
    pub(crate) fn begin(&self) -> Round {
        Round {
            began: Instant::now(),
            asked: self.0.borrow().asked,
        }
    }

    /// Everything was read that was on the log when the round began.
    pub(crate) fn end(&self, round: Round) {
        self.0.send_modify(|seen| {
            seen.answered = seen.answered.max(round.asked);
            seen.as_of = seen.as_of.max(round.began);
        });
    }

    /// For how long what came to the log may not have been read.
    pub(crate) fn age(&self) -> Duration {
        self.0.borrow().as_of.elapsed()
    }

    /// Waits until somebody wants what this round may have missed.
    pub(crate) async fn another_is_wanted(&self, round: Round) {
        let mut seen = self.0.subscribe();
        // The sender is this one's own: it outlives the wait.
        let _ = seen.wait_for(|seen| seen.asked > round.asked).await;
    }

    /// Has everything read that is on the log by now; false where that takes longer than `patience`.
    pub(crate) async fn catch_up(&self, patience: Duration) -> bool {
        let mut seen = self.0.subscribe();
        let mut asked = 0;
        self.0.send_modify(|seen| {
            seen.asked += 1;
            asked = seen.asked;
        });
        let answered = seen.wait_for(|seen| seen.answered >= asked);
        tokio::time::timeout(patience, answered)
            .await
            .is_ok_and(|answered| answered.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_wants_what_is_there_now_waits_for_a_round_that_begins_later() {
        let rounds = Rounds::new();
        let before = rounds.begin();
        let patience = Duration::from_secs(1);
        let (caught_up, ()) = tokio::join!(rounds.catch_up(patience), async {
            rounds.another_is_wanted(before).await;
            rounds.end(before);
        });
        assert!(
            !caught_up,
            "what was appended after that round began may be missing"
        );
        let (caught_up, ()) = tokio::join!(rounds.catch_up(patience), async {
            rounds.end(rounds.begin());
        });
        assert!(caught_up);
    }
}
