//! Noticing that the wall clock was stepped, and sleeping to a wall-clock deadline in spite of it.

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use credence_identity::Timestamp;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Clock;
use crate::supervisor::Supervisor;

/// How often the two clocks are compared.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// What the wall clock may run apart from the monotonic one between two looks; slewing stays far below.
const TOLERANCE_MILLIS: i64 = 2_000;

/// Counts the steps of the wall clock: differences of more than two seconds against the monotonic clock, looked
/// for once a second. A machine that was suspended counts as stepped.
#[derive(Debug, Clone)]
pub struct StepWatch {
    steps: watch::Receiver<u64>,
}

impl StepWatch {
    /// Starts the task that compares the clocks until shutdown.
    pub fn spawn(clock: Arc<dyn Clock>, supervisor: &Supervisor) -> Self {
        let (publish, steps) = watch::channel(0);
        supervisor.spawn("clock-steps", async move {
            compare(&*clock, &publish).await;
            Ok::<(), Infallible>(())
        });
        StepWatch { steps }
    }

    /// A watch that never sees a step, for tests that make none.
    pub fn never() -> Self {
        StepWatch {
            steps: watch::channel(0).1,
        }
    }

    /// A receiver whose value is the number of steps so far.
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.steps.clone()
    }
}

async fn compare(clock: &dyn Clock, publish: &watch::Sender<u64>) {
    let mut looks = interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen = (clock.now().unix_millis(), Instant::now());
    loop {
        looks.tick().await;
        let now = (clock.now().unix_millis(), Instant::now());
        let wall = now.0.saturating_sub(seen.0);
        let monotonic = i64::try_from((now.1 - seen.1).as_millis()).unwrap_or(i64::MAX);
        if wall.saturating_sub(monotonic).saturating_abs() > TOLERANCE_MILLIS {
            tracing::warn!(
                stepped_ms = wall.saturating_sub(monotonic),
                "System clock was stepped"
            );
            publish.send_modify(|steps| *steps += 1);
        }
        seen = now;
    }
}

/// Waits until the wall-clock time `deadline`, by monotonic time as seen from the call, or until a forward step of
/// the wall clock past it. A backward step does not prolong the wait, so the wall clock may be short of `deadline`
/// on return.
///
/// Cancel safe: dropping it loses nothing.
pub async fn sleep_until(clock: &dyn Clock, steps: &mut watch::Receiver<u64>, deadline: Timestamp) {
    let mut wake_at: Option<Instant> = None;
    loop {
        steps.mark_unchanged();
        let now = clock.now();
        if now >= deadline {
            return;
        }
        let left = now.until(deadline);
        let by_wall = Instant::now().checked_add(left);
        // After a backward step the wall clock asks for more than was left: the earlier instant holds.
        wake_at = match (wake_at, by_wall) {
            (Some(set), Some(asked)) => Some(set.min(asked)),
            (set, asked) => set.or(asked),
        };
        tokio::select! {
            () = sleep_or_never(wake_at) => return,
            () = changed_or_never(steps) => {}
        }
    }
}

async fn sleep_or_never(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => pending().await,
    }
}

async fn changed_or_never(steps: &mut watch::Receiver<u64>) {
    if steps.changed().await.is_err() {
        pending::<()>().await;
    }
}
