//! Comparing transcripts, and the account of what differed.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;

use super::faults;
use super::normal::TIME;
use super::steps::{Allowed, EVERYWHERE, Group, Step, Table};
use crate::report::Counts;

/// How far apart times may be that two servers wrote for the same step, in seconds: they start one after the other, and
/// write whole seconds.
const TOLERANCE: i64 = 4;

/// A difference between two transcripts.
#[derive(Debug)]
pub(super) struct Difference {
    pub(super) path: String,
    pub(super) spire: String,
    pub(super) ours: String,
}

/// What has been compared so far.
#[derive(Debug)]
pub(super) struct Ledger {
    name: String,
    listed: Vec<Allowed>,
    used: BTreeSet<String>,
    compared: usize,
    differing: usize,
    faults: Vec<String>,
}

impl Ledger {
    pub(super) fn new(table: &Table) -> Self {
        let mut listed = table.allowed.clone();
        listed.extend(table.groups.iter().flat_map(|group| group.allowed.clone()));
        Self {
            name: table.name.clone(),
            listed,
            used: BTreeSet::new(),
            compared: 0,
            differing: 0,
            faults: Vec::new(),
        }
    }

    /// Compares what both sides said to one step; differences that `group` or the table lists are noted as such.
    pub(super) fn compare(&mut self, group: &Group, step: &Step, spire: &Value, ours: &Value) {
        self.compared += 1;
        let mut differences = Vec::new();
        match faults::compare(spire, ours) {
            Some(difference) => differences.extend(difference),
            None => walk("", spire, ours, &mut differences),
        }
        let mut differs = false;
        // More series than SPIRE's are no difference.
        differences.retain(|found| !(found.path.starts_with("series.") && found.spire == "null"));
        for difference in differences {
            let general = self.listed.iter().filter(|allowed| allowed.variant == EVERYWHERE);
            let by = group
                .allowed
                .iter()
                .filter(|allowed| matches(&allowed.variant, &step.label))
                .chain(general)
                .find(|allowed| matches(&allowed.path, &difference.path));
            match by {
                Some(allowed) => {
                    differs = true;
                    self.used.insert(allowed.place.clone());
                }
                None => self.faults.push(format!(
                    "{} [{}]\n    at {}\n    SPIRE: {:.700}\n    ours:  {:.700}",
                    step.place, step.label, difference.path, difference.spire, difference.ours
                )),
            }
        }
        self.differing += usize::from(differs);
        if std::env::var_os("DROPIN_SHOW").is_some() {
            show(step, spire, ours);
        }
    }

    /// The counts, if all went as listed; with `all`, each listed difference must have occurred.
    pub(super) fn close(mut self, all: bool) -> Counts {
        let reasons = reasons();
        for allowed in &self.listed {
            if all && !self.used.contains(&allowed.place) {
                self.faults.push(format!(
                    "{}: the listed difference at {:?} doesn't occur",
                    allowed.place, allowed.path
                ));
            }
            if allowed.reason != "text" && !reasons.contains(&allowed.reason) {
                self.faults.push(format!(
                    "{}: docs/differences-from-spire.md doesn't say {:?}",
                    allowed.place, allowed.reason
                ));
            }
        }
        if !self.faults.is_empty() {
            let text = self.faults.join(
                "
",
            );
            panic!(
                "{}: {} faults in {} steps\n{text}",
                self.name,
                self.faults.len(),
                self.compared
            );
        }
        Counts {
            compared: self.compared,
            differing: self.differing,
        }
    }
}

/// The document of differences.
fn reasons() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/differences-from-spire.md");
    fs::read_to_string(path).expect("read the differences")
}

#[expect(clippy::print_stderr, reason = "asked for by DROPIN_SHOW")]
fn show(step: &Step, spire: &Value, ours: &Value) {
    eprintln!("{} [{}]\n  SPIRE {spire}\n  ours  {ours}", step.place, step.label);
}

/// Whether `text` fits `pattern`, in which `*` stands for anything.
pub(super) fn matches(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None => pattern == text,
        Some((before, after)) => text.strip_prefix(before).is_some_and(|rest| {
            (0..=rest.len())
                .filter_map(|start| rest.get(start..))
                .any(|rest| matches(after, rest))
        }),
    }
}

/// Where a text of SPIRE begins to quote a Go library or SQLite.
const QUOTED: &[&str] = &[
    "datastore-sql: UNIQUE",
    "datastore-sql: unhandled",
    "idna error",
    "grpc: error unmarshalling",
    "asn1: ",
    "x509: ",
    "strconv.",
    "proto: ",
    "json: ",
    "illegal base64",
    "invalid character",
    "datastore-sql: rpc error",
    "parsing time ",
    "unexpected end of JSON",
    "open /",
    "go-jose/go-jose",
    "spiffebundle: ",
    "dial unix ",
];

/// Whether `spire` quotes a library, and `ours` says its own words from there on.
fn quotes_a_library(spire: &str, ours: &str) -> bool {
    QUOTED
        .iter()
        .filter_map(|quoted| spire.split_once(quoted))
        .any(|(before, _)| ours.len() > before.len() && ours.starts_with(before))
}

fn walk(path: &str, spire: &Value, ours: &Value, into: &mut Vec<Difference>) {
    let join = |name: &str| {
        if path.is_empty() {
            name.to_owned()
        } else {
            format!("{path}.{name}")
        }
    };
    match (spire, ours) {
        (Value::Object(a), Value::Object(b)) => {
            if let (Some(a), Some(b)) = (a.get(TIME), b.get(TIME)) {
                let (a, b) = (a.as_i64().unwrap_or(0), b.as_i64().unwrap_or(0));
                if (a - b).abs() > TOLERANCE {
                    into.push(Difference {
                        path: path.to_owned(),
                        spire: a.to_string(),
                        ours: format!("{b} ({:+} s)", b - a),
                    });
                }
                return;
            }
            let names: BTreeSet<&String> = a.keys().chain(b.keys()).collect();
            for name in names {
                let nothing = Value::Null;
                let (a, b) = (a.get(name).unwrap_or(&nothing), b.get(name).unwrap_or(&nothing));
                walk(&join(name), a, b, into);
            }
        }
        (Value::Array(a), Value::Array(b)) if a.len() == b.len() => {
            for (index, (a, b)) in a.iter().zip(b).enumerate() {
                walk(&join(&index.to_string()), a, b, into);
            }
        }
        (Value::Array(a), Value::Array(b)) => {
            let first = a
                .iter()
                .zip(b)
                .position(|(a, b)| a != b)
                .unwrap_or(a.len().min(b.len()));
            let show = |items: &[Value]| {
                let item = items.get(first).map_or("nothing".to_owned(), Value::to_string);
                format!("{} items, no {first}: {item}", items.len())
            };
            into.push(Difference {
                path: path.to_owned(),
                spire: show(a),
                ours: show(b),
            });
        }
        (a, b) if a == b => {}
        (Value::String(a), Value::String(b)) if quotes_a_library(a, b) => {}
        (a, b) => into.push(Difference {
            path: path.to_owned(),
            spire: a.to_string(),
            ours: b.to_string(),
        }),
    }
}
