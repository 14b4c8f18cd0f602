//! Quantiles of what was seen in the last moments, and the sum of all that ever was.

use std::time::Duration;

use sketches_ddsketch::{Config, DDSketch};
use tokio::time::Instant;

/// Quantiles are of at least so long, and at most twice as long; SPIRE's are of ten seconds.
const WINDOW: Duration = Duration::from_secs(10);
/// The quantiles that SPIRE shows.
pub(super) const QUANTILES: [f64; 3] = [0.5, 0.9, 0.99];

/// A sample. Values are kept to within one percent.
pub(super) struct Summary {
    count: u64,
    sum: f64,
    current: DDSketch,
    previous: DDSketch,
    turned: Instant,
}

/// What a sample says at one moment.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    pub(super) count: u64,
    pub(super) sum: f64,
    /// By [`QUANTILES`]; not a number if nothing was seen lately.
    pub(super) quantiles: [f64; 3],
}

impl Summary {
    pub(super) fn new() -> Self {
        Self {
            count: 0,
            sum: 0.0,
            current: sketch(),
            previous: sketch(),
            turned: Instant::now(),
        }
    }

    pub(super) fn add(&mut self, value: f64) {
        self.turn();
        self.count += 1;
        self.sum += value;
        self.current.add(value);
    }

    pub(super) fn show(&mut self) -> Shown {
        self.turn();
        let mut merged = self.previous.clone();
        // Two sketches of one configuration can always be merged.
        drop(merged.merge(&self.current));
        let quantile = |q| merged.quantile(q).ok().flatten().unwrap_or(f64::NAN);
        Shown {
            count: self.count,
            sum: self.sum,
            quantiles: QUANTILES.map(quantile),
        }
    }

    fn turn(&mut self) {
        let age = self.turned.elapsed();
        if age < WINDOW {
            return;
        }
        let last = std::mem::replace(&mut self.current, sketch());
        self.previous = if age < 2 * WINDOW { last } else { sketch() };
        self.turned = Instant::now();
    }
}

fn sketch() -> DDSketch {
    DDSketch::new(Config::defaults())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn quantiles_are_of_the_last_moments_and_sums_of_all_time() {
        let mut summary = Summary::new();
        assert!(summary.show().quantiles.iter().all(|quantile| quantile.is_nan()));
        for value in 1..=100 {
            summary.add(f64::from(value));
        }
        let shown = summary.show();
        assert_eq!((shown.count, shown.sum), (100, 5050.0));
        for (quantile, want) in shown.quantiles.iter().zip([50.0, 90.0, 99.0]) {
            assert!((quantile - want).abs() <= want * 0.03, "{quantile} for {want}");
        }
        tokio::time::advance(WINDOW).await;
        summary.add(7.0);
        assert!(
            summary.show().quantiles[0] > 40.0,
            "the window before still counts"
        );
        tokio::time::advance(WINDOW).await;
        assert!((summary.show().quantiles[0] - 7.0).abs() < 0.1);
        tokio::time::advance(2 * WINDOW).await;
        let shown = summary.show();
        assert!(shown.quantiles[0].is_nan());
        assert_eq!((shown.count, shown.sum), (101, 5057.0));
    }
}
