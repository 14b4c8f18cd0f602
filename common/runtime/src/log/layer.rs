//! Collects what an event and its spans say and hands it to the form.

use std::collections::BTreeMap;
use std::error::Error;
use std::fmt::Debug;
use std::sync::Arc;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer};
use tracing_subscriber::registry::LookupSpan;

use super::format::{Line, json, text};
use super::{Format, Shared};
use crate::clock::{Clock, SystemClock};

/// Targets of our own crates start so; all others are shown from warning on only.
const OWN: &str = "credence";

/// The tracing layer that prints events as logrus does.
#[derive(Debug)]
pub struct LogLayer {
    shared: Arc<Shared>,
}

impl LogLayer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        LogLayer { shared }
    }
}

/// The fields of one span or event, by name.
#[derive(Debug, Default)]
struct Fields(BTreeMap<&'static str, Value>);

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LogLayer {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let ours = metadata.target().starts_with(OWN);
        self.shared.level().allows(*metadata.level()) && (ours || *metadata.level() <= tracing::Level::WARN)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        let shown = [
            (tracing::Level::TRACE, LevelFilter::TRACE),
            (tracing::Level::DEBUG, LevelFilter::DEBUG),
            (tracing::Level::INFO, LevelFilter::INFO),
            (tracing::Level::WARN, LevelFilter::WARN),
            (tracing::Level::ERROR, LevelFilter::ERROR),
        ];
        let level = self.shared.level();
        Some(
            shown
                .into_iter()
                .find(|(one, _)| level.allows(*one))
                .map_or(LevelFilter::OFF, |(_, filter)| filter),
        )
    }

    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flatten()
            .collect::<Vec<_>>()
            .into_iter()
            .rev()
        {
            if let Some(outer) = span.extensions().get::<Fields>() {
                fields
                    .0
                    .extend(outer.0.iter().map(|(name, value)| (*name, value.clone())));
            }
        }
        event.record(&mut fields);
        let message = match fields.0.remove("message") {
            Some(Value::String(message)) => message,
            other => other.map(|value| value.to_string()).unwrap_or_default(),
        };
        let metadata = event.metadata();
        if let Some(sink) = self.shared.sink.get()
            && metadata.target().starts_with(OWN)
        {
            sink.emit((*metadata.level()).into(), &message, &fields.0);
        }
        let line = Line {
            time: SystemClock.now(),
            level: (*metadata.level()).into(),
            message: &message,
            file: metadata
                .file()
                .filter(|_| self.shared.source_location)
                .zip(metadata.line()),
            fields: &fields.0,
        };
        self.shared.write_line(&match self.shared.format {
            Format::Text => text(&line),
            Format::Json => json(&line),
        });
    }
}

impl Fields {
    fn put(&mut self, field: &Field, value: impl Into<Value>) {
        // `r#type = …` is how a keyword is written as a field.
        let name = field.name();
        self.0
            .insert(name.strip_prefix("r#").unwrap_or(name), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.put(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, value);
    }

    /// The chain of causes, as Go's wrapped errors read: `what: why: because`.
    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut chain = value.to_string();
        let mut cause = value.source();
        while let Some(error) = cause {
            chain.push_str(": ");
            chain.push_str(&error.to_string());
            cause = error.source();
        }
        self.put(field, chain);
    }
}
