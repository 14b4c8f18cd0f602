//! Blocks within a section, in the native and in the JSON form.

use std::sync::Arc;

use super::{Found, Located, Part, Section};
use crate::config::hcl::{Body, Key, Kind, Value};
use crate::config::report::Place;
use crate::config::value::describe;

impl<'a> Section<'a> {
    /// A block; repeated ones are one section.
    pub fn block(&self, key: &'static str) -> Option<Section<'a>> {
        let mut parts = Vec::new();
        let mut place = None;
        for found in self.known(key) {
            place.get_or_insert_with(|| found.place());
            parts.extend(self.bodies(&found).into_iter().map(|body| Part {
                file: found.file.clone(),
                body,
            }));
        }
        Some(Section::new(parts, self.name_of(key), place?, self.report))
    }

    /// As [`Section::block`], but an absent block is an empty one.
    pub fn block_or_empty(&self, key: &'static str) -> Section<'a> {
        self.block(key)
            .unwrap_or_else(|| Section::new(Vec::new(), self.name_of(key), self.place.clone(), self.report))
    }

    /// The blocks of a list, or of a repeated key, each by itself.
    pub fn each_block(&self, key: &'static str) -> Vec<Section<'a>> {
        let mut all = Vec::new();
        for found in self.known(key) {
            for body in self.bodies(&found) {
                let part = Part {
                    file: found.file.clone(),
                    body,
                };
                all.push(Section::new(
                    vec![part],
                    self.name_of(key),
                    found.place(),
                    self.report,
                ));
            }
        }
        all
    }

    /// Blocks `key "label" { … }` in their order, each by itself, repeated labels included; the JSON form nests an
    /// object per label.
    pub fn labelled(&self, key: &'static str) -> Vec<(Located<String>, Section<'a>)> {
        let mut all = Vec::new();
        for found in self.known(key) {
            if let [_, label, ..] = found.item.keys.as_slice() {
                all.extend(self.under_label(key, &found.file, label, &found.item.value));
                continue;
            }
            for body in self.bodies(&found) {
                for item in &body.items {
                    if let Some(label) = item.keys.first() {
                        all.extend(self.under_label(key, &found.file, label, &item.value));
                    }
                }
            }
        }
        all
    }

    /// The bodies of a block: one, or several in a list of the JSON form.
    fn bodies(&self, found: &Found<'a>) -> Vec<&'a Body> {
        bodies_of(&found.item.value).unwrap_or_else(|other| {
            let name = found
                .item
                .keys
                .first()
                .map_or_else(String::new, |key| self.name_of(&key.text));
            let got = describe(&other.kind);
            let place = Place::at(&found.file, other.position);
            self.report
                .fault(place, format!("{name}: expected a block, found {got}"));
            Vec::new()
        })
    }

    fn under_label(
        &self,
        key: &str,
        file: &Arc<str>,
        label: &Key,
        value: &'a Value,
    ) -> Vec<(Located<String>, Section<'a>)> {
        let path = format!("{} {:?}", self.name_of(key), label.text);
        let place = Place::at(file, label.position);
        match bodies_of(value) {
            Ok(bodies) => bodies
                .into_iter()
                .map(|body| {
                    let parts = vec![Part {
                        file: file.clone(),
                        body,
                    }];
                    let label = Located {
                        value: label.text.clone(),
                        place: place.clone(),
                    };
                    (
                        label,
                        Section::new(parts, path.clone(), place.clone(), self.report),
                    )
                })
                .collect(),
            Err(other) => {
                let got = describe(&other.kind);
                self.report.fault(
                    Place::at(file, other.position),
                    format!("{path}: expected a block, found {got}"),
                );
                Vec::new()
            }
        }
    }
}

/// The bodies in a value that is an object or a list of them; else the value that isn't.
fn bodies_of(value: &Value) -> Result<Vec<&Body>, &Value> {
    match &value.kind {
        Kind::Object(body) => Ok(vec![body]),
        Kind::List(values) => {
            let mut all = Vec::new();
            for value in values {
                all.extend(bodies_of(value)?);
            }
            Ok(all)
        }
        _ => Err(value),
    }
}
