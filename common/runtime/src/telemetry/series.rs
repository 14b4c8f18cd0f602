//! One metric with one set of labels.
//!
//! Owns the values that Prometheus reads, and the texts that are the same in each packet.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use opentelemetry::KeyValue;

use super::metric::{Kind, Texts};
use super::sinks::Sinks;
use super::summary::{Shown, Summary};

/// One metric with one set of labels.
pub(super) struct Series {
    /// As they go out.
    pub(super) labels: Vec<(String, String)>,
    value: Value,
    texts: Texts,
    attributes: Vec<KeyValue>,
}

enum Value {
    Count(AtomicU64),
    /// The bits of a float.
    Level(AtomicU64),
    Sample(Box<Mutex<Summary>>),
}

/// What Prometheus is told.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Reading {
    Count(u64),
    Level(f64),
    Sample(Shown),
}

impl Series {
    pub(super) fn new(kind: Kind, name: &str, labels: Vec<(String, String)>) -> Self {
        let value = match kind {
            Kind::Counter => Value::Count(AtomicU64::new(0)),
            Kind::Gauge => Value::Level(AtomicU64::new(0)),
            Kind::Sample => Value::Sample(Box::new(Mutex::new(Summary::new()))),
        };
        let attributes = labels
            .iter()
            .map(|(name, value)| KeyValue::new(name.clone(), value.clone()))
            .collect();
        Self {
            value,
            texts: Texts::of(name, &labels),
            attributes,
            labels,
        }
    }

    pub(super) fn count(&self, by: u64, sinks: &Sinks) {
        if let Value::Count(count) = &self.value {
            count.fetch_add(by, Ordering::Relaxed);
            sinks.record(Kind::Counter, &self.texts, precise(by));
        }
    }

    pub(super) fn set(&self, to: f64, sinks: &Sinks) {
        if let Value::Level(level) = &self.value {
            level.store(to.to_bits(), Ordering::Relaxed);
            sinks.record(Kind::Gauge, &self.texts, to);
        }
    }

    pub(super) fn add(&self, value: f64, sinks: &Sinks) {
        if let Value::Sample(summary) = &self.value {
            summary.lock().unwrap_or_else(PoisonError::into_inner).add(value);
            sinks.record(Kind::Sample, &self.texts, value);
        }
    }

    pub(super) fn read(&self) -> Reading {
        match &self.value {
            Value::Count(count) => Reading::Count(count.load(Ordering::Relaxed)),
            Value::Level(level) => Reading::Level(f64::from_bits(level.load(Ordering::Relaxed))),
            Value::Sample(summary) => {
                Reading::Sample(summary.lock().unwrap_or_else(PoisonError::into_inner).show())
            }
        }
    }

    #[cfg(test)]
    pub(super) fn texts(self) -> Texts {
        self.texts
    }

    pub(super) fn attributes(&self) -> &[KeyValue] {
        &self.attributes
    }
}

/// Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "counts of one call are small")]
fn precise(count: u64) -> f64 {
    count as f64
}
