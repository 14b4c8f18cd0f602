//! An hour of measurements in memory, for whoever has nothing but a shell: SIGUSR1 writes it to the log.
//!
//! Owns the seconds in which something was measured, in the form of go-metrics' in-memory sink. Nothing is kept longer
//! than an hour.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use credence_identity::Timestamp;
use time::OffsetDateTime;
use time::macros::format_description;
use tokio::signal::unix::{SignalKind, signal};

use super::metric::Kind;
use crate::clock::Clock;
use crate::supervisor::Supervisor;

/// Seconds that are kept.
const RETAINED: i64 = 60 * 60;

/// The seconds of the last hour in which something was measured.
pub(super) struct Memory {
    clock: Arc<dyn Clock>,
    seconds: Mutex<VecDeque<Second>>,
}

struct Second {
    at: i64,
    values: BTreeMap<(Kind, String), Aggregate>,
}

/// What was measured under one name within a second.
#[derive(Debug, Clone)]
struct Aggregate {
    count: u32,
    last: f64,
    sum: f64,
    squares: f64,
    least: f64,
    most: f64,
    updated: Timestamp,
}

impl Memory {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            seconds: Mutex::default(),
        }
    }

    pub(super) fn record(&self, kind: Kind, name: &str, value: f64) {
        let now = self.clock.now();
        let at = now.unix_seconds();
        let mut seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        if seconds.back().is_none_or(|last| last.at != at) {
            seconds.push_back(Second {
                at,
                values: BTreeMap::new(),
            });
            while seconds
                .front()
                .is_some_and(|first| (at - first.at).abs() >= RETAINED)
            {
                seconds.pop_front();
            }
        }
        let Some(second) = seconds.back_mut() else { return };
        let name = (kind, name.to_owned());
        let aggregate = second
            .values
            .entry(name)
            .or_insert_with(|| Aggregate::new(value, now));
        aggregate.add(value, now);
    }

    /// Logs at each SIGUSR1 what is held, until shutdown.
    pub(super) fn dump_on_signal(self: Arc<Self>, supervisor: &Supervisor) {
        supervisor.spawn("metrics-dump", async move {
            let mut signals = signal(SignalKind::user_defined1())?;
            while signals.recv().await.is_some() {
                for line in self.lines() {
                    tracing::info!("{line}");
                }
            }
            Ok::<(), io::Error>(())
        });
    }

    /// A line for each second and name, but for the second that isn't over.
    fn lines(&self) -> Vec<String> {
        let seconds = self.seconds.lock().unwrap_or_else(PoisonError::into_inner);
        let over = seconds.iter().take(seconds.len().saturating_sub(1));
        let mut lines = Vec::new();
        for Second { at, values } in over {
            let at = shown(Timestamp::from_unix_seconds(*at));
            for ((kind, name), aggregate) in values {
                lines.push(match kind {
                    Kind::Gauge => format!("[{at}][G] '{name}': {:.3}", aggregate.last),
                    Kind::Counter => format!("[{at}][C] '{name}': {aggregate}"),
                    Kind::Sample => format!("[{at}][S] '{name}': {aggregate}"),
                });
            }
        }
        lines
    }
}

impl Aggregate {
    fn new(value: f64, now: Timestamp) -> Self {
        Self {
            count: 0,
            last: value,
            sum: 0.0,
            squares: 0.0,
            least: value,
            most: value,
            updated: now,
        }
    }

    fn add(&mut self, value: f64, now: Timestamp) {
        self.count = self.count.saturating_add(1);
        self.last = value;
        self.sum += value;
        self.squares += value * value;
        self.least = self.least.min(value);
        self.most = self.most.max(value);
        self.updated = now;
    }

    fn deviation(&self) -> f64 {
        let count = f64::from(self.count);
        let divisor = count * (count - 1.0);
        if divisor == 0.0 {
            return 0.0;
        }
        ((count * self.squares - self.sum * self.sum) / divisor)
            .max(0.0)
            .sqrt()
    }
}

impl fmt::Display for Aggregate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Count: {} ", self.count)?;
        let deviation = self.deviation();
        if deviation != 0.0 {
            let mean = self.sum / f64::from(self.count);
            write!(
                f,
                "Min: {:.3} Mean: {mean:.3} Max: {:.3} Stddev: {deviation:.3} ",
                self.least, self.most
            )?;
        }
        write!(f, "Sum: {:.3} LastUpdated: {}", self.sum, shown(self.updated))
    }
}

/// A moment as Go prints it.
fn shown(moment: Timestamp) -> String {
    let mut text = String::new();
    let form = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]");
    let nanoseconds = i128::from(moment.unix_millis()) * 1_000_000;
    if let Ok(time) = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds) {
        text = time.format(form).unwrap_or_default();
        if time.millisecond() != 0 {
            let fraction = format!("{:03}", time.millisecond());
            // A string can be written to.
            write!(text, ".{}", fraction.trim_end_matches('0')).unwrap_or_default();
        }
    }
    text + " +0000 UTC"
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::clock::ManualClock;

    #[tokio::test(start_paused = true)]
    async fn an_hour_is_kept_and_the_second_that_runs_is_left_out() {
        let clock = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1_700_000_000)));
        let memory = Memory::new(clock.clone());
        memory.record(Kind::Gauge, "s.started", 1.0);
        memory.record(Kind::Counter, "s.calls.OK", 1.0);
        memory.record(Kind::Counter, "s.calls.OK", 1.0);
        memory.record(Kind::Sample, "s.time", 1.0);
        memory.record(Kind::Sample, "s.time", 3.0);
        assert_eq!(memory.lines(), Vec::<String>::new());
        clock.step_forward(Duration::from_millis(1500));
        memory.record(Kind::Gauge, "s.started", 2.0);
        assert_eq!(
            memory.lines(),
            [
                "[2023-11-14 22:13:20 +0000 UTC][C] 's.calls.OK': Count: 2 Sum: 2.000 LastUpdated: 2023-11-14 22:13:20 +0000 UTC",
                "[2023-11-14 22:13:20 +0000 UTC][G] 's.started': 1.000",
                "[2023-11-14 22:13:20 +0000 UTC][S] 's.time': Count: 2 Min: 1.000 Mean: 2.000 Max: 3.000 Stddev: 1.414 \
                 Sum: 4.000 LastUpdated: 2023-11-14 22:13:20 +0000 UTC",
            ]
        );
        clock.step_forward(Duration::from_secs(3_599));
        memory.record(Kind::Gauge, "s.started", 3.0);
        assert_eq!(
            memory.lines(),
            ["[2023-11-14 22:13:21 +0000 UTC][G] 's.started': 2.000"]
        );
    }

    #[test]
    fn moments_are_written_as_go_does() {
        assert_eq!(
            shown(Timestamp::from_unix_millis(1_700_000_000_120)),
            "2023-11-14 22:13:20.12 +0000 UTC"
        );
    }
}
