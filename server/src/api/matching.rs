//! How a filter's set is compared with an item's: the match behaviours that selectors and federated trust domains
//! share.

use std::collections::HashSet;
use std::hash::Hash;

use credence_proto::spire::api::types::{federates_with_match, selector_match};

/// How two sets are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Behavior {
    /// The same set.
    Exact,
    /// The item's set lies within the filter's.
    Subset,
    /// The item's set holds the filter's.
    Superset,
    /// The sets share something.
    Any,
}

/// A behaviour the API doesn't have.
#[derive(Debug, thiserror::Error)]
#[error("unhandled {subject} match behavior \"{number}\"")]
pub(crate) struct UnknownBehavior {
    subject: &'static str,
    number: i32,
}

impl Behavior {
    pub(crate) fn of_selectors(number: i32) -> Result<Self, UnknownBehavior> {
        use selector_match::MatchBehavior as Wire;
        match Wire::try_from(number) {
            Ok(Wire::MatchExact) => Ok(Self::Exact),
            Ok(Wire::MatchSubset) => Ok(Self::Subset),
            Ok(Wire::MatchSuperset) => Ok(Self::Superset),
            Ok(Wire::MatchAny) => Ok(Self::Any),
            Err(_) => Err(UnknownBehavior {
                subject: "selectors",
                number,
            }),
        }
    }

    pub(crate) fn of_federation(number: i32) -> Result<Self, UnknownBehavior> {
        use federates_with_match::MatchBehavior as Wire;
        match Wire::try_from(number) {
            Ok(Wire::MatchExact) => Ok(Self::Exact),
            Ok(Wire::MatchSubset) => Ok(Self::Subset),
            Ok(Wire::MatchSuperset) => Ok(Self::Superset),
            Ok(Wire::MatchAny) => Ok(Self::Any),
            Err(_) => Err(UnknownBehavior {
                subject: "federates with",
                number,
            }),
        }
    }

    /// Whether an item with this set passes. An item's list may hold repeats.
    pub(crate) fn passes<T: Hash + Eq>(self, filter: &HashSet<T>, item: &[T]) -> bool {
        let within = || item.iter().all(|one| filter.contains(one));
        let holds = || filter.iter().all(|one| item.contains(one));
        match self {
            Self::Exact => within() && holds(),
            Self::Subset => within(),
            Self::Superset => holds(),
            Self::Any => item.iter().any(|one| filter.contains(one)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Behavior::{Any, Exact, Subset, Superset};
    use super::*;

    #[test]
    fn each_behaviour_against_each_relation_of_two_sets() {
        let filter: HashSet<u8> = [1, 2].into();
        let cases: [(&[u8], [bool; 4]); 5] = [
            (&[2, 1], [true, true, true, true]),
            (&[1], [false, true, false, true]),
            (&[1, 2, 3], [false, false, true, true]),
            (&[2, 3], [false, false, false, true]),
            (&[3], [false, false, false, false]),
        ];
        for (item, expected) in cases {
            let got = [Exact, Subset, Superset, Any].map(|behavior| behavior.passes(&filter, item));
            assert_eq!(got, expected, "{item:?}");
        }
        assert!(Subset.passes(&filter, &[]), "nothing lies within everything");
    }

    #[test]
    fn unknown_numbers() {
        assert_eq!(
            Behavior::of_selectors(9).unwrap_err().to_string(),
            "unhandled selectors match behavior \"9\""
        );
        assert!(Behavior::of_federation(-1).is_err());
    }
}
