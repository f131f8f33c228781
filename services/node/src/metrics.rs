//! Metrics in Prometheus' naming.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use lethe_intake::Intake;
use lethe_terms::{CaseState, SystemName};
use prometheus::{Encoder, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::conductor_shell::Cases;
use crate::systems::System;

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
    pub(crate) fn text(&self, cases: &Cases, systems: &BTreeMap<SystemName, Arc<System>>) -> String {
        self.measure(cases, systems);
        let mut text = Vec::new();
        match TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            Ok(()) => String::from_utf8(text).unwrap_or_default(),
            Err(error) => {
                tracing::error!(%error, "metrics cannot be written");
                String::new()
            }
        }
    }

    fn measure(&self, cases: &Cases, systems: &BTreeMap<SystemName, Arc<System>>) {
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
        for (name, system) in systems {
            let quarantined = system.feed.quarantined.load(Ordering::Relaxed);
            self.quarantined
                .with_label_values(&[name.as_str()])
                .set(i64::try_from(quarantined).unwrap_or(i64::MAX));
            let at = system.feed.caught_up_at.load(Ordering::Relaxed);
            if at > 0 {
                self.feed_age
                    .with_label_values(&[name.as_str()])
                    .set((now.millis() - at) / 1_000);
            }
        }
    }
}
