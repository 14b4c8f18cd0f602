//! Percentiles of single latencies.

use std::time::Duration;

/// Latencies of one kind of call.
#[derive(Debug, Default)]
pub(crate) struct Latencies(Vec<Duration>);

impl Latencies {
    pub(crate) fn push(&mut self, latency: Duration) {
        self.0.push(latency);
    }

    /// The latency below which `share` of the calls stayed, in milliseconds.
    pub(crate) fn millis(&mut self, share: f64) -> f64 {
        self.0.sort_unstable();
        let last = self.0.len().saturating_sub(1);
        let index = (last as f64 * share).round();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "an index within the vector"
        )]
        let latency = self.0.get(index as usize).copied().unwrap_or_default();
        latency.as_secs_f64() * 1e3
    }

    /// `p50 / p99 ms`.
    pub(crate) fn summary(&mut self) -> String {
        format!("p50 {:.2} / p99 {:.2} ms", self.millis(0.5), self.millis(0.99))
    }
}
