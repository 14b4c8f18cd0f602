//! Growing, jittered delays between attempts.
//!
//! Invariant: a delay is never above the cap plus its jitter, so that no loop spins and none gives up.

use std::time::Duration;

use rand::Rng;

/// SPIRE's factor between two delays.
const FACTOR: f64 = 1.5;
/// SPIRE's jitter, as a share of the delay to either side.
const JITTER: f64 = 0.1;

/// Delays that grow by half each time, ±10 %, up to a cap.
#[derive(Debug, Clone)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    next: Duration,
}

impl Backoff {
    /// Starts at `initial` and stays at `max` (never below `initial`) once it is there.
    pub fn new(initial: Duration, max: Duration) -> Self {
        Backoff {
            initial,
            max: max.max(initial),
            next: initial,
        }
    }

    /// The delay before the next attempt.
    pub fn next_delay(&mut self) -> Duration {
        let delay = self.next;
        self.next = delay.mul_f64(FACTOR).min(self.max);
        jittered(delay, JITTER)
    }

    /// To be called after a success: the next delay is the initial one again.
    pub fn reset(&mut self) {
        self.next = self.initial;
    }
}

/// `base`, moved at random by up to `share` (0 to 1) of it to either side.
pub fn jittered(base: Duration, share: f64) -> Duration {
    let share = share.clamp(0.0, 1.0);
    base.mul_f64(1.0 + rand::rng().random_range(-share..=share))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grows_to_the_cap_and_starts_again() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(5));
        let within = |got: Duration, want: f64| {
            assert!(
                (want * 0.899..=want * 1.101).contains(&got.as_secs_f64()),
                "{got:?} is not about {want} s"
            );
        };
        for want in [1.0, 1.5, 2.25, 3.375, 5.0, 5.0] {
            within(backoff.next_delay(), want);
        }
        backoff.reset();
        within(backoff.next_delay(), 1.0);
    }

    #[test]
    fn delays_differ() {
        let delays: std::collections::HashSet<_> = (0..20)
            .map(|_| jittered(Duration::from_secs(3600), 0.1))
            .collect();
        assert!(delays.len() > 1);
    }
}
