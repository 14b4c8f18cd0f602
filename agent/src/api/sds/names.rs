//! The names of the secrets that a caller asks for.
//!
//! Invariant: what is kept has a bound, whatever a caller sends.

use std::collections::BTreeSet;

/// Names that one stream may ask for at a time. Envoy asks for one.
const MOST: usize = 1000;

/// More names than one caller may ask for.
#[derive(Debug, thiserror::Error)]
#[error("more than {MOST} resource names")]
pub(super) struct TooManyNames;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Names {
    /// All that there is, besides those.
    pub(super) everything: bool,
    pub(super) named: BTreeSet<String>,
}

impl Names {
    /// The names of a request: empty ones don't count, and none at all is everything, as SPIRE has it.
    pub(super) fn of(texts: Vec<String>) -> Result<Self, TooManyNames> {
        let mut names = Self {
            everything: false,
            named: BTreeSet::new(),
        };
        names.add(texts)?;
        names.everything = names.named.is_empty();
        Ok(names)
    }

    /// Asks for these too.
    pub(super) fn add(&mut self, texts: Vec<String>) -> Result<(), TooManyNames> {
        self.named
            .extend(texts.into_iter().filter(|name| !name.is_empty()));
        if self.named.len() > MOST {
            return Err(TooManyNames);
        }
        Ok(())
    }

    /// Whether a secret of that name is asked for.
    pub(super) fn cover(&self, name: &str) -> bool {
        self.everything || self.named.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(count: usize) -> Vec<String> {
        (0..count).map(|number| number.to_string()).collect()
    }

    #[test]
    fn no_names_are_everything_and_too_many_are_refused() {
        let names = Names::of(vec![String::new(), String::new()]).unwrap();
        assert!(names.cover("anything"));
        let mut names = Names::of(vec!["0".to_owned(), String::new()]).unwrap();
        assert!(names.cover("0") && !names.cover("") && !names.cover("1"));
        names.add(texts(MOST)).unwrap();
        assert!(names.cover("1"));
        assert!(names.add(vec!["one more".to_owned()]).is_err());
        assert!(Names::of(texts(MOST + 1)).is_err());
    }
}
