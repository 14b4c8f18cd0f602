//! Which entries were most likely meant for a workload.
//!
//! A selector that few entries ask for says more than one that all ask for: each that matches counts by its rarity, and
//! one that is missing counts a little where a value much like it was attested.

use std::cmp::Ordering;
use std::collections::HashMap;
use std::sync::Arc;

use super::gap::{is_of_kind, kind};
use crate::{Entry, Selector, SelectorSet};

/// What a value of the same kind counts at least, and what one much like it counts.
const SAME_KIND: f64 = 0.05;
const MUCH_ALIKE: f64 = 0.5;

/// The entries that have something in common with what was attested, the nearest first, at most so many.
pub fn nearest_entries<'a>(
    entries: &'a [Arc<Entry>],
    attested: &SelectorSet,
    at_most: usize,
) -> Vec<&'a Arc<Entry>> {
    let mut asked: HashMap<&Selector, u32> = HashMap::new();
    for selector in entries.iter().flat_map(|entry| &entry.selectors) {
        *asked.entry(selector).or_default() += 1;
    }
    let all = f64::from(u32::try_from(entries.len()).unwrap_or(u32::MAX));
    let rarity = |selector: &Selector| {
        let asked = asked.get(selector).copied().unwrap_or(1);
        (1.0 + all / f64::from(asked)).ln()
    };
    let score = |entry: &Entry| -> f64 {
        let one = |wanted: &Selector| {
            if attested.contains(wanted) {
                rarity(wanted)
            } else {
                likeness(wanted, attested) * rarity(wanted)
            }
        };
        entry.selectors.iter().map(one).sum()
    };
    let missing = |entry: &Entry| {
        entry
            .selectors
            .iter()
            .filter(|one| !attested.contains(one))
            .count()
    };
    let mut scored: Vec<_> = entries
        .iter()
        .map(|entry| (score(entry), missing(entry), entry))
        .filter(|(score, ..)| *score > 0.0)
        .collect();
    scored.sort_by(|(a, x, one), (b, y, other)| {
        let by_score = b.partial_cmp(a).unwrap_or(Ordering::Equal);
        by_score.then(x.cmp(y)).then_with(|| one.id.cmp(&other.id))
    });
    scored.truncate(at_most);
    scored.into_iter().map(|(.., entry)| entry).collect()
}

/// How much a missing selector is like one that was attested, 0 to 1.
fn likeness(wanted: &Selector, attested: &SelectorSet) -> f64 {
    let whole = |one: &Selector| strsim::normalized_levenshtein(one.as_str(), wanted.as_str());
    let kind = kind(wanted);
    let same_kind = attested
        .iter()
        .any(|one| is_of_kind(one, wanted.selector_type(), kind));
    // A long text may be a path of another folder; only the almost equal ones are typing errors.
    let alike = attested.iter().map(whole).fold(0.0, f64::max) > 0.85;
    match (alike, same_kind) {
        (true, _) => MUCH_ALIKE,
        (false, true) => SAME_KIND,
        (false, false) => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{EntryId, SpiffeId, Timestamp};

    fn entry(id: &str, selectors: &[&str]) -> Arc<Entry> {
        let spiffe_id = SpiffeId::parse(&format!("spiffe://example.org/{id}")).unwrap();
        Arc::new(Entry {
            id: EntryId::parse(id).unwrap(),
            parent_id: spiffe_id.clone(),
            spiffe_id,
            selectors: selectors.iter().map(|s| Selector::parse(s).unwrap()).collect(),
            x509_svid_ttl: 0,
            jwt_svid_ttl: 0,
            federates_with: Vec::new(),
            admin: false,
            downstream: false,
            store_svid: false,
            expires_at: None,
            dns_names: Vec::new(),
            hint: "".into(),
            disable_x509_svid_prefetch: false,
            jwt_svid_include_jti: false,
            revision_number: 0,
            created_at: Timestamp::EPOCH,
        })
    }

    #[test]
    fn what_few_ask_for_weighs_more_than_what_all_ask_for() {
        let entries = [
            entry("a", &["unix:uid:0", "unix:path:/srv/other"]),
            entry("b", &["unix:uid:0", "unix:path:/srv/third"]),
            entry("c", &["unix:uid:7", "unix:path:/srv/web"]),
            entry("d", &["k8s:ns:default"]),
            entry("e", &["unx:uid:0"]),
        ];
        let attested: SelectorSet = ["unix:uid:0", "unix:path:/srv/web"]
            .iter()
            .map(|s| Selector::parse(s).unwrap())
            .collect();
        let found = nearest_entries(&entries, &attested, 9);
        let ids: Vec<&str> = found.iter().map(|entry| entry.id.as_str()).collect();
        assert_eq!(ids.first(), Some(&"c"));
        assert!(!ids.contains(&"d") && ids.contains(&"e"), "{ids:?}");
    }
}
