//! Wall-clock time as a value that is handed in, and waiting that survives steps of the wall clock.
//!
//! Owns the only call of the system's wall clock. It never measures durations with the wall clock: timers run on
//! [`tokio::time`], which is monotonic. Invariant: no wait lasts longer, monotonically, than it was set for, and a
//! forward step of the wall clock past a deadline ends the wait for it within a second.

mod steps;

use std::fmt::Debug;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use credence_identity::Timestamp;
use tokio::time::Instant;

pub use steps::{StepWatch, sleep_until};

/// A source of wall-clock time.
pub trait Clock: Send + Sync + Debug {
    /// The wall-clock time now, in milliseconds since the Unix epoch.
    fn now(&self) -> Timestamp;
}

/// The system's wall clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the clock that all others are to be given"
    )]
    fn now(&self) -> Timestamp {
        let millis = |span: Duration| i64::try_from(span.as_millis()).unwrap_or(i64::MAX);
        match std::time::SystemTime::now().duration_since(UNIX_EPOCH) {
            Ok(since) => Timestamp::from_unix_millis(millis(since)),
            Err(before) => Timestamp::from_unix_millis(-millis(before.duration())),
        }
    }
}

/// A clock for tests: a base time, plus the tokio time gone by since, plus steps made by hand.
///
/// On a paused tokio runtime it stands still until tokio's time advances.
#[derive(Debug)]
pub struct ManualClock {
    base: Timestamp,
    started: Instant,
    stepped_millis: AtomicI64,
}

impl ManualClock {
    /// A clock that shows `base` now.
    pub fn new(base: Timestamp) -> Self {
        ManualClock {
            base,
            started: Instant::now(),
            stepped_millis: AtomicI64::new(0),
        }
    }

    /// Steps the wall clock forwards; tokio's time is not moved.
    pub fn step_forward(&self, by: Duration) {
        self.step_millis(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// Steps the wall clock backwards; tokio's time is not moved.
    pub fn step_back(&self, by: Duration) {
        self.step_millis(i64::try_from(by.as_millis()).unwrap_or(i64::MAX).saturating_neg());
    }

    fn step_millis(&self, millis: i64) {
        self.stepped_millis.fetch_add(millis, Ordering::Relaxed);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        let elapsed = i64::try_from(self.started.elapsed().as_millis()).unwrap_or(i64::MAX);
        let moved = elapsed.saturating_add(self.stepped_millis.load(Ordering::Relaxed));
        Timestamp::from_unix_millis(self.base.unix_millis().saturating_add(moved))
    }
}

#[cfg(test)]
mod tests;
