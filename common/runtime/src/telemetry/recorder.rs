//! All metrics of the process, each with its labels' combinations.
//!
//! Owns the table of names and where each measurement goes. Invariant: a metric has at most [`MOST_SERIES`]
//! combinations; a name that isn't let out costs a look-up and nothing more.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

use opentelemetry::metrics::{Counter, Gauge, Histogram, Meter};

use super::Labels;
use super::metric::Kind;
use super::selection::{Select, sanitized};
use super::series::Series;
use super::sinks::Sinks;

/// Combinations of labels of one metric: more are a mistake, or somebody's attempt to fill the memory.
const MOST_SERIES: usize = 2_000;

/// The table of metrics.
pub(super) struct Recorder {
    prefix: String,
    select: Select,
    /// Labels that each series has. They are sanitised where SPIRE's are.
    common: Vec<(String, String)>,
    sinks: Sinks,
    meter: Option<Meter>,
    families: RwLock<HashMap<Box<str>, Option<Arc<Family>>>>,
}

/// A metric with all its combinations of labels.
pub(super) struct Family {
    /// The words with the prefix, dots between them.
    pub(super) name: String,
    pub(super) kind: Kind,
    table: RwLock<Table>,
    instrument: Option<Instrument>,
}

#[derive(Default)]
struct Table {
    /// By the labels as given: several may come to the same where labels are left out.
    given: Vec<(GivenLabels, Arc<Series>)>,
    distinct: Vec<Arc<Series>>,
}

type GivenLabels = Box<[(&'static str, Box<str>)]>;

enum Instrument {
    Counter(Counter<u64>),
    Gauge(Gauge<f64>),
    Histogram(Histogram<f64>),
}

impl Recorder {
    pub(super) fn new(
        prefix: &str,
        select: Select,
        common: Vec<(String, String)>,
        sinks: Sinks,
        meter: Option<Meter>,
    ) -> Self {
        Self {
            prefix: prefix.to_owned(),
            select,
            common,
            sinks,
            meter,
            families: RwLock::default(),
        }
    }

    pub(super) fn count(&self, key: &str, by: u64, labels: Labels<'_>) {
        if let Some(family) = self.family(Kind::Counter, key) {
            self.count_in(&family, by, labels);
        }
    }

    pub(super) fn count_in(&self, family: &Family, by: u64, labels: Labels<'_>) {
        if let Some(series) = self.series(family, labels) {
            series.count(by, &self.sinks);
            if let Some(Instrument::Counter(counter)) = &family.instrument {
                counter.add(by, series.attributes());
            }
        }
    }

    pub(super) fn gauge(&self, key: &str, value: f64, labels: Labels<'_>) {
        if let Some(family) = self.family(Kind::Gauge, key)
            && let Some(series) = self.series(&family, labels)
        {
            series.set(value, &self.sinks);
            if let Some(Instrument::Gauge(gauge)) = &family.instrument {
                gauge.record(value, series.attributes());
            }
        }
    }

    pub(super) fn sample(&self, key: &str, value: f64, labels: Labels<'_>) {
        if let Some(family) = self.family(Kind::Sample, key) {
            self.sample_in(&family, value, labels);
        }
    }

    pub(super) fn sample_in(&self, family: &Family, value: f64, labels: Labels<'_>) {
        if let Some(series) = self.series(family, labels) {
            series.add(value, &self.sinks);
            if let Some(Instrument::Histogram(histogram)) = &family.instrument {
                histogram.record(value, series.attributes());
            }
        }
    }

    /// The metric of a key; none if it isn't let out.
    pub(super) fn family(&self, kind: Kind, key: &str) -> Option<Arc<Family>> {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = families.get(key) {
            return found.clone();
        }
        drop(families);
        let mut families = self.families.write().unwrap_or_else(PoisonError::into_inner);
        let made = || {
            let name = format!("{}.{key}", self.prefix);
            self.select.lets_metric(&name).then(|| {
                let instrument = self
                    .meter
                    .as_ref()
                    .map(|meter| Instrument::of(meter, kind, &name));
                Arc::new(Family {
                    name,
                    kind,
                    table: RwLock::default(),
                    instrument,
                })
            })
        };
        families.entry(key.into()).or_insert_with(made).clone()
    }

    /// All metrics by their keys, in no order.
    pub(super) fn families(&self) -> Vec<(Box<str>, Arc<Family>)> {
        let families = self.families.read().unwrap_or_else(PoisonError::into_inner);
        let shown = families
            .iter()
            .filter_map(|(key, family)| Some((key.clone(), family.clone()?)));
        shown.collect()
    }

    fn series(&self, family: &Family, labels: Labels<'_>) -> Option<Arc<Series>> {
        let table = family.table.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = table.find(labels) {
            return Some(found);
        }
        drop(table);
        let mut table = family.table.write().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = table.find(labels) {
            return Some(found);
        }
        if table.given.len() >= MOST_SERIES {
            return None;
        }
        let shown = self.shown(labels);
        let same = table.distinct.iter().find(|series| series.labels == shown);
        let series = same.cloned().unwrap_or_else(|| {
            let series = Arc::new(Series::new(family.kind, &family.name, shown));
            table.distinct.push(series.clone());
            series
        });
        let given = labels
            .iter()
            .map(|(name, value)| (*name, Box::from(*value)))
            .collect();
        table.given.push((given, series.clone()));
        Some(series)
    }

    /// The labels as they go out.
    fn shown(&self, labels: Labels<'_>) -> Vec<(String, String)> {
        let own = labels
            .iter()
            .map(|(name, value)| (sanitized(name), sanitized(value)));
        own.chain(self.common.iter().cloned())
            .filter(|(name, _)| self.select.lets_label(name))
            .collect()
    }
}

impl Family {
    pub(super) fn series(&self) -> Vec<Arc<Series>> {
        self.table
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .distinct
            .clone()
    }
}

impl Table {
    /// Few combinations, compared in turn: faster than to make a key of them.
    fn find(&self, labels: Labels<'_>) -> Option<Arc<Series>> {
        let same = |given: &GivenLabels| {
            given.len() == labels.len()
                && given
                    .iter()
                    .zip(labels)
                    .all(|((name, value), (wanted, text))| name == wanted && **value == **text)
        };
        let found = self.given.iter().find(|(given, _)| same(given));
        found.map(|(_, series)| series.clone())
    }
}

impl Instrument {
    fn of(meter: &Meter, kind: Kind, name: &str) -> Self {
        let name = name.to_owned();
        match kind {
            Kind::Counter => Self::Counter(meter.u64_counter(name).build()),
            Kind::Gauge => Self::Gauge(meter.f64_gauge(name).build()),
            Kind::Sample => Self::Histogram(meter.f64_histogram(name).build()),
        }
    }
}
