//! Which metrics and labels are let out, and under which characters.
//!
//! As go-metrics decides it: of the prefixes that fit a name the longest counts, and what none fits is let through.

use crate::config::Selection;

/// The part of the configuration that is asked for each new series.
#[derive(Debug)]
pub(super) struct Select {
    /// Prefix, and whether it lets through.
    prefixes: Vec<(String, bool)>,
    allowed_labels: Option<Vec<String>>,
    blocked_labels: Vec<String>,
}

impl Select {
    pub(super) fn new(selection: &Selection) -> Self {
        let allowed = selection
            .allowed_prefixes
            .iter()
            .map(|prefix| (prefix.clone(), true));
        let blocked = selection
            .blocked_prefixes
            .iter()
            .map(|prefix| (prefix.clone(), false));
        Self {
            prefixes: allowed.chain(blocked).collect(),
            allowed_labels: selection.allowed_labels.clone(),
            blocked_labels: selection.blocked_labels.clone(),
        }
    }

    /// Whether a metric of this name, with dots and the program's prefix, is let through.
    pub(super) fn lets_metric(&self, name: &str) -> bool {
        let fitting = self
            .prefixes
            .iter()
            .filter(|(prefix, _)| name.starts_with(prefix));
        // Of equal ones the last counts: what is blocked as well as allowed is blocked.
        fitting
            .max_by_key(|(prefix, _)| prefix.len())
            .is_none_or(|(_, lets)| *lets)
    }

    /// Whether a label of this name is let through.
    pub(super) fn lets_label(&self, name: &str) -> bool {
        let has = |list: &[String]| list.iter().any(|one| one == name);
        !has(&self.blocked_labels) && self.allowed_labels.as_deref().is_none_or(has)
    }
}

/// A label's name or value as SPIRE writes it: each run of characters that aren't letters, digits or underscores of ASCII
/// becomes an underscore, with one that follows it.
pub(super) fn sanitized(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars().peekable();
    while let Some(next) = rest.next() {
        if is_word(next) {
            out.push(next);
            continue;
        }
        while rest.next_if(|more| !is_word(*more)).is_some() {}
        rest.next_if_eq(&'_');
        out.push('_');
    }
    out
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || character == '_'
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_written_as_spire_writes_them() {
        for (given, want) in [
            ("example.org", "example_org"),
            ("spiffe://td/a", "spiffe_td_a"),
            ("a-_b", "a_b"),
            ("a__b", "a__b"),
            ("-a-", "_a_"),
            ("é", "_"),
            ("", ""),
            ("OK", "OK"),
        ] {
            assert_eq!(sanitized(given), want, "{given}");
        }
    }

    #[test]
    fn the_longest_prefix_decides() {
        let texts = |all: &[&str]| all.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>();
        let select = Select::new(&Selection {
            allowed_prefixes: texts(&["s.rpc.agent", "s.both"]),
            blocked_prefixes: texts(&["s.rpc", "s.both"]),
            ..Selection::default()
        });
        for (name, want) in [
            ("s.rpc.entry", false),
            ("s.rpc.agent.v1", true),
            ("s.started", true),
            ("s.both", false),
        ] {
            assert_eq!(select.lets_metric(name), want, "{name}");
        }
        let select = Select::new(&Selection {
            allowed_labels: Some(texts(&["status", "host"])),
            blocked_labels: texts(&["host"]),
            ..Selection::default()
        });
        assert!(select.lets_label("status") && !select.lets_label("host") && !select.lets_label("other"));
    }
}
