//! Metrics in Prometheus' naming.

use std::collections::BTreeMap;
use std::sync::Arc;

use lethe_intake::Intake;
use lethe_journal::LagTold;
use lethe_log_kafka::Finding;
use lethe_terms::CaseState;
use prometheus::{Encoder, Gauge, GaugeVec, IntCounter, IntGaugeVec, Opts, Registry, TextEncoder};

use crate::board::Board;
use crate::cases::Cases;
use crate::cluster::Cluster;
use crate::lag::Lags;
use crate::patience::Answering;
use crate::processes::Processes;
use crate::roles::Role;

/// What tells one reader of a partition from another.
const LAG_LABELS: [&str; 4] = ["process", "reader", "stream", "partition"];

/// Name of a process that does everything.
const ALONE: &str = "lethe";

/// What is told of a cluster where nobody could look at it.
const NOT_LOOKED: &str = "not_looked";

/// What is looked at beside cases and systems.
pub(crate) struct Seen {
    pub(crate) lags: Arc<Lags>,
    pub(crate) answering: Arc<Answering>,
    pub(crate) cluster: Arc<Cluster>,
    /// The other processes; nothing where this one does everything.
    pub(crate) processes: Option<Arc<Processes>>,
}

/// What is measured.
pub(crate) struct Metrics {
    registry: Registry,
    cases: IntGaugeVec,
    intake: IntGaugeVec,
    quarantined: IntGaugeVec,
    put_away: IntGaugeVec,
    feed_age: IntGaugeVec,
    lag_entries: IntGaugeVec,
    lag_age: GaugeVec,
    role_missing: IntGaugeVec,
    log_findings: IntGaugeVec,
    log_silent: Gauge,
    log_retries: IntCounter,
    seen: Seen,
    source: Arc<Intake>,
}

impl Metrics {
    pub(crate) fn new(source: Arc<Intake>, seen: Seen) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let gauges = |name: &str, help: &str, labels: &[&str]| -> Result<IntGaugeVec, prometheus::Error> {
            let gauge = IntGaugeVec::new(Opts::new(name, help), labels)?;
            registry.register(Box::new(gauge.clone()))?;
            Ok(gauge)
        };
        let gauge = |name: &str, help: &str, label: &str| gauges(name, help, &[label]);
        let lag_age = GaugeVec::new(
            Opts::new(
                "lethe_log_oldest_unread_age_seconds",
                "Age of the oldest entry that a reader has not worked off, by process, reader, stream and partition.",
            ),
            &LAG_LABELS,
        )?;
        registry.register(Box::new(lag_age.clone()))?;
        let log_silent = Gauge::new(
            "lethe_log_silent_seconds",
            "For how long the log has not answered; 0 while it does.",
        )?;
        registry.register(Box::new(log_silent.clone()))?;
        let log_retries = IntCounter::new(
            "lethe_log_retries_total",
            "Reads that were repeated since the log did not answer.",
        )?;
        registry.register(Box::new(log_retries.clone()))?;
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
            put_away: gauges("lethe_quarantined_entries", "What can be no entry of Lethe.", &[])?,
            feed_age: gauge(
                "lethe_feed_age_seconds",
                "Time since a system's feed was read to its end.",
                "system",
            )?,
            lag_entries: gauges(
                "lethe_log_lag_entries",
                "Positions between a reader and the head, by process, reader, stream and partition.",
                &LAG_LABELS,
            )?,
            role_missing: gauge(
                "lethe_role_missing",
                "1 where no process that lives has the role, by role.",
                "role",
            )?,
            log_findings: gauge(
                "lethe_log_findings",
                "What is not as declared about Kafka, by kind.",
                "kind",
            )?,
            lag_age,
            log_silent,
            log_retries,
            registry,
            seen,
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

    fn measure_cluster(&self) {
        let found = self.seen.cluster.found();
        self.log_findings
            .with_label_values(&[NOT_LOOKED])
            .set(i64::from(found.is_none()));
        let found = found.unwrap_or_default();
        for kind in Finding::KINDS {
            let count = found.iter().filter(|finding| finding.kind() == kind).count();
            self.log_findings
                .with_label_values(&[kind])
                .set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }

    fn measure_log(&self) {
        let now = crate::shell::now();
        let silent_ms = self
            .seen
            .answering
            .silent_since()
            .map_or(0, |since| now.since(since));
        self.log_silent
            .set(seconds(u64::try_from(silent_ms).unwrap_or(0)));
        let counted = self.log_retries.get();
        self.log_retries
            .inc_by(self.seen.answering.retries().saturating_sub(counted));
        let processes = self.seen.processes.as_ref();
        let own = processes.map_or(ALONE, |processes| processes.own_name());
        let own = self
            .seen
            .lags
            .measured()
            .into_iter()
            .map(|lag| (own.to_owned(), lag));
        let others = processes.map_or_else(Vec::new, |processes| processes.lags());
        // A process that went, and a reader that went with it, are no longer told of.
        self.lag_entries.reset();
        self.lag_age.reset();
        for (process, lag) in own.chain(others) {
            let partition = lag.partition.to_string();
            let labels = [&process, &lag.reader, &lag.stream, &partition].map(String::as_str);
            self.lag_entries
                .with_label_values(&labels)
                .set(i64::try_from(lag.entries).unwrap_or(i64::MAX));
            if let Some(age_ms) = told_age_ms(&lag) {
                self.lag_age.with_label_values(&labels).set(seconds(age_ms));
            }
        }
        let missing = processes.map_or_else(Vec::new, |processes| processes.missing());
        for role in Role::ALL {
            let is_missing = missing.iter().any(|missing| missing.role == role);
            self.role_missing
                .with_label_values(&[role.name()])
                .set(i64::from(is_missing));
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
        let put_away = self.source.put_away_count();
        let none: [&str; 0] = [];
        self.put_away
            .with_label_values(&none)
            .set(i64::try_from(put_away).unwrap_or(i64::MAX));
        self.measure_log();
        self.measure_cluster();
        let now = crate::shell::now();
        for told in board.systems() {
            let system = [told.inventory.name.as_str()];
            self.quarantined
                .with_label_values(&system)
                .set(i64::try_from(told.inventory.quarantined).unwrap_or(i64::MAX));
            // One that is ahead says that clocks differ, and not how old it is.
            if let Some(age) = told.caught_up_at.map(|at| now.since(at)).filter(|age| *age >= 0) {
                self.feed_age.with_label_values(&system).set(age / 1_000);
            }
        }
    }
}

/// The age that is told of a lag. One that nobody knows is not: a 0 would say that nothing waits.
fn told_age_ms(lag: &LagTold) -> Option<u64> {
    lag.oldest_ms.or((lag.entries == 0).then_some(0))
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds of years are exact")]
fn seconds(ms: u64) -> f64 {
    ms as f64 / 1_000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_age_that_nobody_knows_is_not_told_as_none() {
        for (entries, oldest_ms, told) in [
            (0, None, Some(0)),
            (3, Some(0), Some(0)),
            (3, Some(7), Some(7)),
            (3, None, None),
        ] {
            let lag = LagTold {
                reader: "intake".to_owned(),
                stream: "intake".to_owned(),
                partition: 0,
                entries,
                oldest_ms,
            };
            assert_eq!(told_age_ms(&lag), told, "{entries} {oldest_ms:?}");
        }
    }
}
