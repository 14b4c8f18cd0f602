//! The form of an answer to "why did my workload get no identity?".
//!
//! Owns what every explanation has: findings with a cause and a fix, facts, and entries in the order of their nearness.
//! Pure: whoever explains collects the facts. Invariant: an explanation without a finding names no fault at all.

mod gap;
mod nearness;

use std::fmt;

use crate::{Entry, EntryId, Selector, SelectorSet, SpiffeId};

pub use gap::{Gap, Offer};
pub use nearness::nearest_entries;

/// One possible reason, with its data.
pub trait Cause: fmt::Display {
    /// The word by which scripts know it.
    fn code(&self) -> &'static str;

    /// What to do about it.
    fn fix(&self) -> String;
}

/// A reason that applies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// [`Cause::code`].
    pub cause: &'static str,
    /// The cause in a sentence.
    pub text: String,
    /// [`Cause::fix`].
    pub fix: String,
}

impl<C: Cause> From<C> for Finding {
    fn from(cause: C) -> Self {
        Self {
            cause: cause.code(),
            text: cause.to_string(),
            fix: cause.fix(),
        }
    }
}

/// Something that was found out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// What.
    pub name: &'static str,
    /// One or several.
    pub values: Vec<String>,
}

/// An entry beside what was attested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The entry's key.
    pub id: EntryId,
    /// The identity it gives.
    pub spiffe_id: SpiffeId,
    /// Where it hangs.
    pub parent_id: SpiffeId,
    /// What it asks for.
    pub selectors: Vec<Selector>,
    /// What of it is missing, in the entry's order.
    pub missing: Vec<Selector>,
    /// How it stands with it, in words.
    pub standing: String,
}

impl Candidate {
    /// The entry as it stands beside these selectors.
    pub fn beside(entry: &Entry, attested: &SelectorSet) -> Self {
        let missing = entry.selectors.iter().filter(|wanted| !attested.contains(wanted));
        Self {
            missing: missing.cloned().collect(),
            ..Self::of(entry)
        }
    }

    /// The entry by itself.
    pub fn of(entry: &Entry) -> Self {
        Self {
            id: entry.id.clone(),
            spiffe_id: entry.spiffe_id.clone(),
            parent_id: entry.parent_id.clone(),
            selectors: entry.selectors.clone(),
            missing: Vec::new(),
            standing: String::new(),
        }
    }
}

/// The answer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Explanation {
    /// What was looked at.
    pub subject: String,
    /// What is wrong, the cause first.
    pub findings: Vec<Finding>,
    /// What holds if nothing is.
    pub all_well: String,
    /// What was found out.
    pub facts: Vec<Fact>,
    /// The entries that matter, the nearest first.
    pub candidates: Vec<Candidate>,
}

impl Explanation {
    /// Of this, with nothing found yet.
    pub fn of(subject: impl Into<String>) -> Self {
        Self {
            subject: subject.into(),
            ..Self::default()
        }
    }

    /// Adds a reason that applies.
    pub fn found(&mut self, cause: impl Into<Finding>) {
        let finding = cause.into();
        if !self.findings.contains(&finding) {
            self.findings.push(finding);
        }
    }

    /// Adds a fact of one value.
    pub fn fact(&mut self, name: &'static str, value: impl Into<String>) {
        self.facts.push(Fact {
            name,
            values: vec![value.into()],
        });
    }

    /// Adds a fact of several values.
    pub fn facts(&mut self, name: &'static str, values: impl IntoIterator<Item = String>) {
        self.facts.push(Fact {
            name,
            values: values.into_iter().collect(),
        });
    }
}

/// The one of these that a text was most likely meant to be; none that is far off. Looks at 50,000 at most.
pub fn meant<'a>(text: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let longest = text.len().div_ceil(4).max(2);
    known
        .into_iter()
        .take(50_000)
        .filter(|one| one.len().abs_diff(text.len()) <= longest)
        .map(|one| (strsim::osa_distance(text, one), one))
        .filter(|(distance, _)| *distance <= longest)
        .min()
        .map(|(_, one)| one)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typing_error_finds_what_was_meant_and_a_stranger_finds_nothing() {
        let known = ["spiffe://example.org/node/a", "spiffe://example.org/web"];
        assert_eq!(meant("spiffe://example.org/wbe", known), Some(known[1]));
        assert_eq!(meant("unx", ["unix", "k8s"]), Some("unix"));
        assert_eq!(meant("spiffe://other.example/something/else", known), None);
    }
}
