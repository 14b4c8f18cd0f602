//! Metrics and traces: what happened, how often and how long it took, for Prometheus, StatsD and OpenTelemetry.
//!
//! Owns names, labels and ways out. It measures nothing by itself but the process; each part counts what it does through
//! a [`Telemetry`], which is cheap to clone and does nothing when nothing is configured. Metrics are SPIRE's: a key of
//! words with dots between them, without the program's prefix. Invariant: measuring never fails, never waits, and never
//! holds more than a bounded amount of memory; what a queue can't take is lost.

mod call;
mod calls;
mod help;
mod memory;
mod metric;
mod otlp;
mod packets;
mod process;
mod prometheus;
mod propagation;
mod recorder;
mod selection;
mod series;
mod sinks;
mod start;
mod subject;
mod summary;

use std::fmt;
use std::ops::Deref;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use opentelemetry::trace::SpanKind;
use opentelemetry_sdk::trace::SdkTracer;
use tokio::sync::watch;

pub use call::{Call, CallCounter, Parent};
pub use calls::{CountCalls, CountedBody, Counting, RpcCall, RpcCalls, rate_limit_key};
pub use otlp::OtlpError;
pub use prometheus::{Identity, PrometheusError};
pub use propagation::Traced;
pub use start::TelemetryError;
pub use subject::Subject;

use recorder::Recorder;

/// Labels of a measurement. Those of the configuration are added to them.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// A handle to what measures; clones share it. The default one does nothing.
#[derive(Clone, Default)]
pub struct Telemetry {
    shared: Option<Arc<Shared>>,
}

struct Shared {
    recorder: Recorder,
    tracer: Option<SdkTracer>,
    polled: Mutex<Vec<Polled>>,
    identity: watch::Sender<Option<Identity>>,
}

/// A gauge that is asked for its value.
struct Polled {
    key: &'static str,
    labels: Vec<(&'static str, &'static str)>,
    value: Box<dyn Fn() -> f64 + Send>,
}

impl Telemetry {
    /// Whether anything is measured: for what would cost something to find out.
    pub fn is_on(&self) -> bool {
        self.shared.is_some()
    }

    /// Adds to a counter.
    pub fn count(&self, key: &str, by: u64) {
        self.count_with(key, by, &[]);
    }

    /// Adds to a counter with labels.
    pub fn count_with(&self, key: &str, by: u64, labels: Labels<'_>) {
        if let Some(shared) = &self.shared {
            shared.recorder.count(key, by, labels);
        }
    }

    /// Sets a gauge.
    pub fn gauge(&self, key: &str, value: f64) {
        self.gauge_with(key, value, &[]);
    }

    /// Sets a gauge with labels.
    pub fn gauge_with(&self, key: &str, value: f64, labels: Labels<'_>) {
        if let Some(shared) = &self.shared {
            shared.recorder.gauge(key, value, labels);
        }
    }

    /// Adds a value to the sample of which quantiles are shown.
    pub fn sample(&self, key: &str, value: f64) {
        if let Some(shared) = &self.shared {
            shared.recorder.sample(key, value, &[]);
        }
    }

    /// From now on a gauge has the value that `value` gives: every ten seconds, and whenever Prometheus reads.
    pub fn poll_gauge(
        &self,
        key: &'static str,
        labels: &[(&'static str, &'static str)],
        value: impl Fn() -> f64 + Send + 'static,
    ) {
        if let Some(shared) = &self.shared {
            let polled = Polled {
                key,
                labels: labels.to_vec(),
                value: Box::new(value),
            };
            shared.lock_polled().push(polled);
        }
    }

    /// A call counter to be kept: a counter `key` and a sample `key.elapsed_time` in milliseconds, both labelled with the
    /// `status` of the call. With traces on, each call is a span of that name.
    pub fn call_counter(&self, key: &str) -> CallCounter {
        self.counter_of(key, key, SpanKind::Internal)
    }

    /// Begins a call that is counted under `key` when it ends.
    pub fn call(&self, key: &str) -> Call {
        match &self.shared {
            Some(_) => self.call_counter(key).start(),
            None => Call::default(),
        }
    }

    /// Counts what is done until the guard is dropped under `key`, as `OK`: for what can't fail.
    pub fn counted(&self, key: &str) -> Counted {
        Counted(Some(self.call(key)))
    }

    /// Counts a piece of work under `key`: `OK`, or `Unknown` if it fails.
    ///
    /// # Errors
    /// That of the work.
    pub fn measure<T, E>(&self, key: &str, work: impl FnOnce() -> Result<T, E>) -> Result<T, E> {
        let call = self.call(key);
        let outcome = call.enter(work);
        call.end(&outcome);
        outcome
    }

    /// Counts what a future does under `key`: `OK`, `Unknown` if it fails, `Canceled` if it is dropped.
    ///
    /// # Errors
    /// That of the future.
    pub async fn watch<T, E>(&self, key: &str, work: impl Future<Output = Result<T, E>>) -> Result<T, E> {
        let call = self.call(key);
        let outcome = call.run(work).await;
        call.end(&outcome);
        outcome
    }

    /// Counts a call that is over.
    pub fn called(&self, key: &str, took: std::time::Duration, succeeded: bool) {
        if let Some(shared) = &self.shared {
            let labels: Labels<'_> = &[("status", if succeeded { "OK" } else { "Unknown" })];
            shared.recorder.count(key, 1, labels);
            let key = format!("{key}.{}", call::ELAPSED);
            shared.recorder.sample(&key, call::milliseconds(took), labels);
        }
    }

    /// The identity of this process is known from now on; a page for Prometheus that shows it can be read then.
    pub fn set_identity(&self, identity: Identity) {
        if let Some(shared) = &self.shared {
            shared.identity.send_replace(Some(identity));
        }
    }

    fn counter_of(&self, key: &str, span: &str, kind: SpanKind) -> CallCounter {
        match &self.shared {
            Some(shared) => CallCounter::new(shared, key, span, kind),
            None => CallCounter::default(),
        }
    }
}

/// Ends a call as `OK` when it is dropped.
#[derive(Debug)]
#[must_use = "the call ends when this is dropped"]
pub struct Counted(Option<Call>);

impl Drop for Counted {
    fn drop(&mut self) {
        if let Some(call) = self.0.take() {
            call.end(&Ok::<(), ()>(()));
        }
    }
}

/// The place for a [`Telemetry`] in what may be measured from some moment on; until then it is one that does nothing.
#[derive(Debug, Default)]
pub struct Measured(OnceLock<Telemetry>);

impl Measured {
    /// Measures by `telemetry` from now on. The first one stays.
    pub fn by(&self, telemetry: &Telemetry) {
        drop(self.0.set(telemetry.clone()));
    }
}

impl Deref for Measured {
    type Target = Telemetry;

    fn deref(&self) -> &Telemetry {
        static OFF: Telemetry = Telemetry { shared: None };
        self.0.get().unwrap_or(&OFF)
    }
}

impl Shared {
    fn lock_polled(&self) -> std::sync::MutexGuard<'_, Vec<Polled>> {
        self.polled.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self) {
        for Polled { key, labels, value } in &*self.lock_polled() {
            self.recorder.gauge(key, value(), labels);
        }
    }
}

impl fmt::Debug for Telemetry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Telemetry")
            .field("on", &self.is_on())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
