//! Selectors: what an attestor says about a workload or a node.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Why a text or pair is no selector. The words are SPIRE's, for they reach callers of its API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SelectorError {
    /// Nothing stands before the first colon.
    #[error("missing selector type")]
    MissingType,
    /// A colon within the type would make the text ambiguous.
    #[error("selector type contains ':'")]
    TypeContainsColon,
    /// Nothing stands after the first colon.
    #[error("missing selector value")]
    MissingValue,
    /// A text without a colon.
    #[error("selector must be formatted as type:value")]
    NoColon,
}

/// One property in the form `type:value`, such as `unix:uid:1000` (type `unix`, value `uid:1000`). Cheap to clone.
///
/// Ordered by type, then by value, as SPIRE sorts them.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Selector(Arc<str>);

impl Selector {
    /// Makes a selector of its two parts, neither of which may be empty; the type holds no colon.
    pub fn new(selector_type: &str, value: &str) -> Result<Self, SelectorError> {
        if selector_type.is_empty() {
            Err(SelectorError::MissingType)
        } else if selector_type.contains(':') {
            Err(SelectorError::TypeContainsColon)
        } else if value.is_empty() {
            Err(SelectorError::MissingValue)
        } else {
            Ok(Self(format!("{selector_type}:{value}").into()))
        }
    }

    /// Parses `type:value`; the first colon divides them.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let (selector_type, value) = text.split_once(':').ok_or(SelectorError::NoColon)?;
        if selector_type.is_empty() {
            Err(SelectorError::MissingType)
        } else if value.is_empty() {
            Err(SelectorError::MissingValue)
        } else {
            Ok(Self(text.into()))
        }
    }

    /// What stands before the first colon.
    pub fn selector_type(&self) -> &str {
        self.parts().0
    }

    /// What stands after the first colon.
    pub fn value(&self) -> &str {
        self.parts().1
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    fn parts(&self) -> (&str, &str) {
        self.0.split_once(':').unwrap_or((&self.0, ""))
    }
}

impl Ord for Selector {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.parts().cmp(&other.parts())
    }
}

impl PartialOrd for Selector {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl FromStr for Selector {
    type Err = SelectorError;

    fn from_str(text: &str) -> Result<Self, SelectorError> {
        Self::parse(text)
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A set of selectors: sorted, without repeats, cheap to clone, usable as a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct SelectorSet(Arc<[Selector]>);

impl SelectorSet {
    /// Whether the selector is in the set.
    pub fn contains(&self, selector: &Selector) -> bool {
        // Sets are small: telling lengths and bytes apart beats a search that must find the colons to know the order.
        self.0.contains(selector)
    }

    /// Whether all of these are in the set, which is when an entry that has them matches. True for none.
    pub fn contains_all<'a>(&self, selectors: impl IntoIterator<Item = &'a Selector>) -> bool {
        selectors.into_iter().all(|selector| self.contains(selector))
    }

    /// The selectors in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Selector> {
        self.0.iter()
    }

    /// The selectors in order.
    pub fn as_slice(&self) -> &[Selector] {
        &self.0
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Selector> for SelectorSet {
    fn from_iter<I: IntoIterator<Item = Selector>>(selectors: I) -> Self {
        let mut sorted: Vec<Selector> = selectors.into_iter().collect();
        sorted.sort_unstable();
        sorted.dedup();
        Self(sorted.into())
    }
}

impl<'a> IntoIterator for &'a SelectorSet {
    type Item = &'a Selector;
    type IntoIter = std::slice::Iter<'a, Selector>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn the_first_colon_divides_and_both_sides_are_demanded() {
        let selector = Selector::parse("unix:uid:0").unwrap();
        assert_eq!((selector.selector_type(), selector.value()), ("unix", "uid:0"));
        assert_eq!(Selector::new("unix", "uid:0"), Ok(selector));
        assert_eq!(Selector::parse("unix"), Err(SelectorError::NoColon));
        assert_eq!(Selector::parse(":x"), Err(SelectorError::MissingType));
        assert_eq!(Selector::parse("x:"), Err(SelectorError::MissingValue));
        assert_eq!(Selector::new("a:b", "c"), Err(SelectorError::TypeContainsColon));
    }

    proptest! {
        #[test]
        fn a_set_answers_as_a_tree_set_does(
            held in prop::collection::vec("[ab]{1,2}:[ab:]{1,2}", 0..8),
            asked in prop::collection::vec("[ab]{1,2}:[ab:]{1,2}", 0..4),
        ) {
            let parse = |texts: &[String]| texts.iter().map(|t| Selector::parse(t).unwrap()).collect::<Vec<_>>();
            let (held, asked) = (parse(&held), parse(&asked));
            let set: SelectorSet = held.iter().cloned().collect();
            let model: BTreeSet<Selector> = held.into_iter().collect();
            prop_assert_eq!(set.contains_all(&asked), asked.iter().all(|s| model.contains(s)));
            prop_assert!(set.iter().eq(model.iter()));
        }
    }
}
