//! Reading a block key by key.
//!
//! A section may consist of several bodies: a repeated block adds to the earlier one, and of a repeated key the last
//! counts (lists are joined), as HCL 1 decodes. Keys are matched without regard to case. Every key asked for is known;
//! [`Section::finish`] names the others.

mod blocks;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt::Display;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use super::hcl::{Body, Item, Kind, Position, Value};
use super::report::{Place, Report};
use super::value::{as_boolean, as_integer, as_string, describe, parse_duration};

/// A value and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub place: Place,
}

/// What becomes of keys that nobody asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnknownKeys {
    /// They keep the program from starting.
    Fatal,
    /// They are warned of.
    Warn,
}

/// A block that is being read.
#[derive(Debug)]
#[must_use = "a section must be finished, or its unknown keys go unnoticed"]
pub struct Section<'a> {
    parts: Vec<Part<'a>>,
    /// Dotted path of the block, empty at the top.
    path: String,
    /// Where the block begins, for what is missing from it.
    place: Place,
    report: &'a Report,
    known: RefCell<BTreeSet<&'static str>>,
}

#[derive(Debug, Clone)]
struct Part<'a> {
    file: Arc<str>,
    body: &'a Body,
}

struct Found<'a> {
    file: Arc<str>,
    item: &'a Item,
}

impl<'a> Section<'a> {
    pub(super) fn root(file: &Arc<str>, body: &'a Body, report: &'a Report) -> Self {
        let parts = vec![Part {
            file: file.clone(),
            body,
        }];
        Section::new(parts, String::new(), Place::file(file), report)
    }

    fn new(parts: Vec<Part<'a>>, path: String, place: Place, report: &'a Report) -> Self {
        Section {
            parts,
            path,
            place,
            report,
            known: RefCell::default(),
        }
    }

    /// Lays `body` over the section: its keys win over those of the file. For flags of the command line.
    pub fn overlay(&mut self, name: &str, body: &'a Body) {
        self.parts.push(Part {
            file: name.into(),
            body,
        });
    }

    /// Where complaints go.
    pub fn report(&self) -> &'a Report {
        self.report
    }

    /// Where the block begins.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// The place of the last value of `key`, or else of the block.
    pub fn place_of(&self, key: &str) -> Place {
        self.found(key)
            .last()
            .map_or_else(|| self.place.clone(), |found| found.place())
    }

    /// The name of a key for messages, with the path of its block.
    pub fn name_of(&self, key: &str) -> String {
        if self.path.is_empty() {
            key.to_owned()
        } else {
            format!("{}.{key}", self.path)
        }
    }

    /// A fault about `key`, at its place: the message follows the key's name.
    pub fn fault(&self, key: &str, message: impl Display) {
        self.report
            .fault(self.place_of(key), format!("{}: {message}", self.name_of(key)));
    }

    /// A warning about `key`, at its place: the message follows the key's name.
    pub fn warn(&self, key: &str, message: impl Display) {
        self.report
            .warn(self.place_of(key), format!("{}: {message}", self.name_of(key)));
    }

    /// A warning about `key`, which will go, at its place: the message stands alone.
    pub fn deprecated(&self, key: &str, message: impl Display) {
        self.report.deprecated(self.place_of(key), message.to_string());
    }

    /// The file that this section is the whole of, as the data of a plugin can be.
    pub fn whole_file(&self) -> Option<&str> {
        let whole = self.path.is_empty() && self.place.position.line == 0;
        whole.then_some(&*self.place.file)
    }

    /// Whether the key is written at all (JSON's null is not); it is known from then on.
    pub fn has(&self, key: &'static str) -> bool {
        self.last(key).is_some()
    }

    /// A string; the empty one counts as absent.
    pub fn string(&self, key: &'static str) -> Option<String> {
        self.scalar(key, "a string", as_string)
            .filter(|text| !text.is_empty())
    }

    /// A string that must be there and not be empty; its absence is a fault.
    pub fn required(&self, key: &'static str) -> Option<String> {
        let found = self.string(key);
        if found.is_none() && !self.mistyped(key) {
            self.report.fault(
                self.place_of(key),
                format!("{} must be configured", self.name_of(key)),
            );
        }
        found
    }

    /// A string in a form of its own; what the form says against it is a fault.
    pub fn parsed<T: FromStr<Err: Display>>(&self, key: &'static str) -> Option<T> {
        let text = self.string(key)?;
        text.parse().map_err(|error| self.fault(key, error)).ok()
    }

    /// A whole number.
    pub fn integer(&self, key: &'static str) -> Option<i64> {
        self.scalar(key, "a whole number", as_integer)
    }

    /// A whole number within the bounds of `T`.
    pub fn number<T: TryFrom<i64>>(&self, key: &'static str) -> Option<T> {
        let number = self.integer(key)?;
        let fits = T::try_from(number).ok();
        if fits.is_none() {
            self.fault(key, format_args!("{number} is out of range"));
        }
        fits
    }

    /// A truth value.
    pub fn boolean(&self, key: &'static str) -> Option<bool> {
        self.scalar(key, "true or false", as_boolean)
    }

    /// A duration in Go's form; the empty string counts as absent.
    pub fn duration(&self, key: &'static str) -> Option<Duration> {
        let text = self.string(key)?;
        let parsed = parse_duration(&text);
        if parsed.is_none() {
            self.fault(
                key,
                format_args!("{text:?} is no duration such as \"1h30m\" or \"90s\""),
            );
        }
        parsed
    }

    /// A list of strings, each with its place; those of a repeated key are joined.
    pub fn strings(&self, key: &'static str) -> Vec<Located<String>> {
        let mut all = Vec::new();
        for found in self.known(key) {
            let place = |value: &Value| Place::at(&found.file, value.position);
            let Kind::List(values) = &found.item.value.kind else {
                let got = describe(&found.item.value.kind);
                let message = format!("{}: expected a list of strings, found {got}", self.name_of(key));
                self.report.fault(place(&found.item.value), message);
                continue;
            };
            for value in values {
                match as_string(&value.kind) {
                    Some(text) => all.push(Located {
                        value: text,
                        place: place(value),
                    }),
                    None => {
                        let got = describe(&value.kind);
                        let message = format!("{}: expected a string, found {got}", self.name_of(key));
                        self.report.fault(place(value), message);
                    }
                }
            }
        }
        all
    }

    /// The first keys of all items, lower-cased and each once, in their order.
    pub fn keys(&self) -> Vec<Located<String>> {
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for part in &self.parts {
            for key in part.body.items.iter().filter_map(|item| item.keys.first()) {
                if seen.insert(key.text.to_ascii_lowercase()) {
                    let place = Place::at(&part.file, key.position);
                    all.push(Located {
                        value: key.text.clone(),
                        place,
                    });
                }
            }
        }
        all
    }

    /// Keys that SPIRE has and this version does nothing with: each that is there gets one warning.
    pub fn without_effect(&self, keys: &[&'static str]) {
        for &key in keys {
            if self.has(key) {
                self.warn(key, "this version accepts the key but it has no effect");
            }
        }
    }

    /// Keys that SPIRE has, and that may not be ignored without weakening what the operator asked for: faults.
    pub fn refused(&self, keys: &[&'static str]) {
        for &key in keys {
            if self.has(key) {
                self.fault(
                    key,
                    "not supported by this version, and ignoring it would not be safe",
                );
            }
        }
    }

    /// Ends the reading: names every key that nobody asked for, with the nearest one that there is.
    pub fn finish(self, unknown: UnknownKeys) {
        let known = self.known.borrow();
        for key in self.keys() {
            if known.iter().any(|one| one.eq_ignore_ascii_case(&key.value)) {
                continue;
            }
            let whose = if self.path.is_empty() {
                "at the top level".to_owned()
            } else {
                format!("in {}", self.path)
            };
            let hint = nearest(&key.value, known.iter().copied());
            let hint = hint
                .map(|near| format!("; did you mean {near:?}?"))
                .unwrap_or_default();
            let message = format!("unknown key {:?} {whose}{hint}", key.value);
            match unknown {
                UnknownKeys::Fatal => self.report.fault(key.place, message),
                UnknownKeys::Warn => self.report.warn(key.place, message),
            }
        }
    }

    /// Ends the reading of a block whose keys are nobody's business, such as that of a disabled plugin.
    pub fn discard(self) {}

    /// All items of this name, and from now on it is known.
    fn known(&self, key: &'static str) -> Vec<Found<'a>> {
        self.known.borrow_mut().insert(key);
        self.found(key)
    }

    fn found(&self, key: &str) -> Vec<Found<'a>> {
        let mut all = Vec::new();
        for part in &self.parts {
            for item in &part.body.items {
                let named = item
                    .keys
                    .first()
                    .is_some_and(|first| first.text.eq_ignore_ascii_case(key));
                if named && item.value.kind != Kind::Null {
                    all.push(Found {
                        file: part.file.clone(),
                        item,
                    });
                }
            }
        }
        all
    }

    fn last(&self, key: &'static str) -> Option<Found<'a>> {
        self.known(key).pop()
    }

    fn mistyped(&self, key: &'static str) -> bool {
        self.last(key)
            .is_some_and(|found| as_string(&found.item.value.kind).is_none())
    }

    fn scalar<T>(&self, key: &'static str, wanted: &str, read: impl Fn(&Kind) -> Option<T>) -> Option<T> {
        let found = self.last(key)?;
        let value = read(&found.item.value.kind);
        if value.is_none() {
            let got = describe(&found.item.value.kind);
            let place = Place::at(&found.file, found.item.value.position);
            self.report.fault(
                place,
                format!("{}: expected {wanted}, found {got}", self.name_of(key)),
            );
        }
        value
    }
}

impl Found<'_> {
    fn place(&self) -> Place {
        Place::at(
            &self.file,
            self.item
                .keys
                .first()
                .map_or(Position::default(), |key| key.position),
        )
    }
}

/// The known key that a slip of the fingers could have meant.
fn nearest<'k>(unknown: &str, known: impl Iterator<Item = &'k str>) -> Option<&'k str> {
    let unknown = unknown.to_ascii_lowercase();
    let scored = known.map(|key| (strsim::jaro_winkler(&unknown, &key.to_ascii_lowercase()), key));
    let best = scored.max_by(|one, other| one.0.total_cmp(&other.0))?;
    (best.0 >= 0.75).then_some(best.1)
}
