//! The page that Prometheus reads, in its text format (version 0.0.4).
//!
//! Owns the page's form and names: words joined by underscores, no suffix added, since dashboards ask for SPIRE's names.

mod listen;

use std::fmt::Write as _;

use super::help::help;
use super::metric::Kind;
use super::recorder::Recorder;
use super::series::{Reading, Series};
use super::summary::QUANTILES;

pub(super) use listen::serve;
pub use listen::{Identity, PrometheusError};

/// All metrics, by name.
pub(super) fn page(recorder: &Recorder) -> String {
    let mut families = recorder.families();
    families.sort_by(|(_, one), (_, other)| one.name.cmp(&other.name));
    let mut out = String::with_capacity(16 * 1024);
    for (key, family) in families {
        let mut series = family.series();
        if series.is_empty() {
            continue;
        }
        series.sort_by(|one, other| one.labels.cmp(&other.labels));
        let name = metric_name(&family.name);
        let kind = match family.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Sample => "summary",
        };
        put(
            &mut out,
            format_args!("# HELP {name} {}\n# TYPE {name} {kind}\n", help(&key)),
        );
        for one in series {
            show(&mut out, &name, &one);
        }
    }
    super::process::page(&mut out);
    out
}

fn show(out: &mut String, name: &str, series: &Series) {
    let labels = label_text(&series.labels);
    match series.read() {
        Reading::Count(count) => put(out, format_args!("{name}{} {count}\n", braced(&labels))),
        Reading::Level(level) => put(out, format_args!("{name}{} {}\n", braced(&labels), number(level))),
        Reading::Sample(shown) => {
            let more = if labels.is_empty() { "" } else { "," };
            for (q, value) in QUANTILES.iter().zip(shown.quantiles) {
                let value = number(value);
                put(
                    out,
                    format_args!("{name}{{{labels}{more}quantile=\"{q}\"}} {value}\n"),
                );
            }
            put(
                out,
                format_args!("{name}_sum{} {}\n", braced(&labels), number(shown.sum)),
            );
            put(
                out,
                format_args!("{name}_count{} {}\n", braced(&labels), shown.count),
            );
        }
    }
}

fn put(out: &mut String, text: std::fmt::Arguments<'_>) {
    // A string can be written to.
    out.write_fmt(text).unwrap_or_default();
}

fn braced(labels: &str) -> String {
    if labels.is_empty() {
        String::new()
    } else {
        format!("{{{labels}}}")
    }
}

fn number(value: f64) -> String {
    if value.is_nan() {
        "NaN".to_owned()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        value.to_string()
    }
}

/// `name="value",…`, by name, as Prometheus' own clients write them.
fn label_text(labels: &[(String, String)]) -> String {
    let mut sorted: Vec<_> = labels.iter().collect();
    sorted.sort();
    let mut out = String::new();
    for (name, value) in sorted {
        let value = value
            .replace('\\', "\\\\")
            .replace('"', "\\\"")
            .replace('\n', "\\n");
        let comma = if out.is_empty() { "" } else { "," };
        put(&mut out, format_args!("{comma}{}=\"{value}\"", word(name, false)));
    }
    out
}

fn metric_name(name: &str) -> String {
    word(name, true)
}

/// What Prometheus doesn't allow in a name becomes an underscore.
fn word(text: &str, colons: bool) -> String {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || (colons && c == ':');
    let mut out: String = text.chars().map(|c| if fits(c) { c } else { '_' }).collect();
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

#[cfg(test)]
mod tests;
