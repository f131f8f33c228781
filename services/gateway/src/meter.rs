//! Metrics of the server itself: how many requests, how they ended, how long they took. No label holds a path's values.

use std::time::Duration;

use prometheus::{HistogramOpts, HistogramVec, IntCounterVec, Opts, Registry, TextEncoder};

/// Counts requests.
pub(crate) struct Meter {
    registry: Registry,
    requests: Option<IntCounterVec>,
    seconds: Option<HistogramVec>,
}

impl Meter {
    pub(crate) fn new() -> Self {
        let registry = Registry::new();
        let requests = IntCounterVec::new(
            Opts::new(
                "lethe_gateway_requests_total",
                "HTTP requests by route and class of status.",
            ),
            &["route", "status"],
        )
        .ok()
        .filter(|counter| registry.register(Box::new(counter.clone())).is_ok());
        let seconds = HistogramVec::new(
            HistogramOpts::new(
                "lethe_gateway_request_seconds",
                "Time from the head of a request to its answer, by route.",
            ),
            &["route"],
        )
        .ok()
        .filter(|histogram| registry.register(Box::new(histogram.clone())).is_ok());
        Self {
            registry,
            requests,
            seconds,
        }
    }

    /// Counts one request. `route` is the pattern, never the path.
    pub(crate) fn count(&self, route: &str, status: u16, took: Duration) {
        let class = match status {
            0..=199 => "1xx",
            200..=299 => "2xx",
            300..=399 => "3xx",
            400..=499 => "4xx",
            _ => "5xx",
        };
        if let Some(requests) = &self.requests {
            requests.with_label_values(&[route, class]).inc();
        }
        if let Some(seconds) = &self.seconds {
            seconds.with_label_values(&[route]).observe(took.as_secs_f64());
        }
    }

    /// The metrics in Prometheus' text format.
    pub(crate) fn text(&self) -> String {
        TextEncoder::new()
            .encode_to_string(&self.registry.gather())
            .unwrap_or_default()
    }
}
