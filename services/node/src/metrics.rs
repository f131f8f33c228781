//! Metrics in Prometheus' naming.

use std::collections::BTreeMap;
use std::sync::Arc;

use lethe_intake::Intake;
use lethe_terms::CaseState;
use prometheus::{Encoder, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::board::Board;
use crate::cases::Cases;

/// What is measured.
pub(crate) struct Metrics {
    registry: Registry,
    cases: IntGaugeVec,
    intake: IntGaugeVec,
    quarantined: IntGaugeVec,
    feed_age: IntGaugeVec,
    source: Arc<Intake>,
}

impl Metrics {
    pub(crate) fn new(source: Arc<Intake>) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauge = |name: &str, help: &str, label: &str| -> Result<IntGaugeVec, prometheus::Error> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), &[label])?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        Ok(Self {
            cases: gauge("lethe_cases", "Cases by state.", "state")?,
            intake: gauge(
                "lethe_intake_observations",
                "Observations since the start, by what became of them.",
                "result",
            )?,
            quarantined: gauge(
                "lethe_quarantined_inputs",
                "Input that could not be read, by system.",
                "system",
            )?,
            feed_age: gauge(
                "lethe_feed_age_seconds",
                "Time since a system's feed was read to its end.",
                "system",
            )?,
            registry,
            source,
        })
    }

    /// Everything as Prometheus reads it.
    pub(crate) fn text(&self, cases: &Cases, board: &Board) -> String {
        self.measure(cases, board);
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8(text).unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                String::new()
            }
        }
    }

    fn measure(&self, cases: &Cases, board: &Board) {
        let mut by_state: BTreeMap<CaseState, i64> = CaseState::ALL.iter().map(|state| (*state, 0)).collect();
        let conductor = cases.look();
        for case in conductor.cases() {
            *by_state.entry(conductor.state(case)).or_default() += 1;
        }
        drop(conductor);
        for (state, count) in by_state {
            self.cases.with_label_values(&[state.code()]).set(count);
        }
        let counters = self.source.counters();
        for (result, count) in [
            ("appended", counters.appended),
            ("known", counters.known),
            ("gone", counters.gone),
            ("quarantined", counters.quarantined),
            ("resurrection", counters.findings),
        ] {
            self.intake
                .with_label_values(&[result])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let now = crate::shell::now();
        for told in board.systems() {
            let system = [told.inventory.name.as_str()];
            self.quarantined
                .with_label_values(&system)
                .set(i64::try_from(told.inventory.quarantined).unwrap_or(i64::MAX));
            if let Some(at) = told.caught_up_at {
                self.feed_age
                    .with_label_values(&system)
                    .set(now.since(at) / 1_000);
            }
        }
    }
}
