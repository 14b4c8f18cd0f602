//! Why a selector is missing: nobody makes such a one, or it has another value here.

use super::meant;
use crate::{Selector, SelectorSet};

/// What one workload attestor in use can say of a process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Offer {
    /// The type of its selectors.
    pub selector_type: &'static str,
    /// What its values begin with, such as `uid`.
    pub kinds: Vec<&'static str>,
    /// What it could say too, and what the operator has to do for it.
    pub off: Vec<(&'static str, &'static str)>,
}

/// Why a selector was not attested.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Gap {
    /// No attestor in use makes selectors of this type; the type that was perhaps meant.
    UnknownType(Option<&'static str>),
    /// The attestor makes none of this kind; the kind that was perhaps meant.
    UnknownKind(Option<&'static str>),
    /// The attestor could, if the operator did this.
    SwitchedOff(&'static str),
    /// The process has other values of this kind; the nearest one.
    OtherValue(Selector),
    /// The process has no value of this kind.
    Absent,
}

impl Gap {
    /// Why this selector isn't among those attested.
    pub fn of(missing: &Selector, attested: &SelectorSet, offers: &[Offer]) -> Self {
        let selector_type = missing.selector_type();
        let Some(offer) = offers.iter().find(|offer| offer.selector_type == selector_type) else {
            let types = offers.iter().map(|offer| offer.selector_type);
            return Self::UnknownType(meant(selector_type, types));
        };
        let kind = kind(missing);
        if let Some((_, fix)) = offer.off.iter().find(|(name, _)| *name == kind) {
            return Self::SwitchedOff(fix);
        }
        if !offer.kinds.contains(&kind) {
            return Self::UnknownKind(meant(kind, offer.kinds.iter().copied()));
        }
        let same_kind = attested.iter().filter(|one| is_of_kind(one, selector_type, kind));
        let nearest = same_kind.min_by_key(|one| strsim::osa_distance(one.value(), missing.value()));
        nearest.cloned().map_or(Self::Absent, Self::OtherValue)
    }
}

/// What stands before the second colon.
pub(super) fn kind(selector: &Selector) -> &str {
    let value = selector.value();
    value.split_once(':').map_or(value, |(kind, _)| kind)
}

pub(super) fn is_of_kind(selector: &Selector, selector_type: &str, wanted: &str) -> bool {
    selector.selector_type() == selector_type && kind(selector) == wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_gap_has_its_reason() {
        let offers = [Offer {
            selector_type: "unix",
            kinds: vec!["uid", "user", "supplementary_gid"],
            off: vec![("path", "switch it on")],
        }];
        let attested: SelectorSet = ["unix:uid:0", "unix:user:root"]
            .into_iter()
            .map(|text| Selector::parse(text).unwrap())
            .collect();
        let gap = |text: &str| Gap::of(&Selector::parse(text).unwrap(), &attested, &offers);
        assert_eq!(gap("unx:uid:0"), Gap::UnknownType(Some("unix")));
        assert_eq!(gap("k8s:ns:default"), Gap::UnknownType(None));
        assert_eq!(gap("unix:usr:root"), Gap::UnknownKind(Some("user")));
        assert_eq!(gap("unix:path:/bin/a"), Gap::SwitchedOff("switch it on"));
        assert_eq!(
            gap("unix:uid:1000"),
            Gap::OtherValue(Selector::parse("unix:uid:0").unwrap())
        );
        assert_eq!(gap("unix:supplementary_gid:7"), Gap::Absent);
    }
}
