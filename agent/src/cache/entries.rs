//! The entries that this agent is authorised for, found by id and by the selectors of a caller.
//!
//! Each entry hangs under one of its selectors only, the one with the fewest others below it: an entry can match only a
//! caller that has that selector, so a look-up touches few entries and none twice. Invariants: an entry without
//! selectors matches nobody; what hangs under a selector is what is held by id.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use credence_identity::{Entry, EntryId, Selector, SelectorSet};

#[derive(Debug, Default)]
pub(crate) struct Entries {
    by_id: BTreeMap<EntryId, Held>,
    by_anchor: HashMap<Selector, BTreeMap<EntryId, Arc<Entry>>>,
}

#[derive(Debug)]
struct Held {
    entry: Arc<Entry>,
    anchor: Option<Selector>,
}

impl Entries {
    pub(crate) fn get(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        self.by_id.get(id).map(|held| &held.entry)
    }

    pub(crate) fn len(&self) -> usize {
        self.by_id.len()
    }

    /// All of them, by id.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Entry>> {
        self.by_id.values().map(|held| &held.entry)
    }

    /// Stores or replaces; returns what was there.
    pub(crate) fn put(&mut self, entry: Arc<Entry>) -> Option<Arc<Entry>> {
        let old = self.remove(&entry.id);
        let anchor = entry
            .selectors
            .iter()
            .min_by_key(|selector| self.by_anchor.get(*selector).map_or(0, BTreeMap::len));
        let anchor = anchor.cloned();
        if let Some(anchor) = &anchor {
            self.by_anchor
                .entry(anchor.clone())
                .or_default()
                .insert(entry.id.clone(), entry.clone());
        }
        self.by_id.insert(entry.id.clone(), Held { entry, anchor });
        old
    }

    pub(crate) fn remove(&mut self, id: &EntryId) -> Option<Arc<Entry>> {
        let Held { entry, anchor } = self.by_id.remove(id)?;
        if let Some(anchor) = anchor
            && let Some(below) = self.by_anchor.get_mut(&anchor)
        {
            below.remove(id);
            if below.is_empty() {
                self.by_anchor.remove(&anchor);
            }
        }
        Some(entry)
    }

    /// The entries all of whose selectors the caller has, by id.
    pub(crate) fn matching(&self, caller: &SelectorSet) -> Vec<Arc<Entry>> {
        let mut found: Vec<Arc<Entry>> = caller
            .iter()
            .filter_map(|selector| self.by_anchor.get(selector))
            .flat_map(BTreeMap::values)
            .filter(|entry| caller.contains_all(&entry.selectors))
            .cloned()
            .collect();
        // Those under one selector are in order, which a stable sort makes use of.
        found.sort_by(|a, b| a.id.cmp(&b.id));
        found
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cache::testing::{entry, selectors};

    proptest! {
        #[test]
        fn finds_what_a_scan_of_all_entries_finds(
            changes in prop::collection::vec((0_u8..12, prop::option::of(prop::collection::vec(0_u8..5, 0..4))), 0..40),
            caller in prop::collection::vec(0_u8..5, 0..5),
        ) {
            let mut entries = Entries::default();
            let mut model: BTreeMap<EntryId, Arc<Entry>> = BTreeMap::new();
            for (id, change) in changes {
                let id = format!("e{id}");
                match change {
                    Some(wanted) => {
                        let new = Arc::new(Entry { selectors: selectors(&wanted), ..entry(&id) });
                        entries.put(new.clone());
                        model.insert(new.id.clone(), new);
                    }
                    None => {
                        let id = EntryId::parse(&id).unwrap();
                        prop_assert_eq!(entries.remove(&id), model.remove(&id));
                    }
                }
            }
            let caller: SelectorSet = selectors(&caller).into_iter().collect();
            let expected: Vec<_> = model
                .values()
                .filter(|entry| !entry.selectors.is_empty() && entry.selectors.iter().all(|s| caller.contains(s)))
                .cloned()
                .collect();
            prop_assert_eq!(entries.matching(&caller), expected);
            prop_assert_eq!(entries.len(), model.len());
            prop_assert!(entries.by_anchor.values().map(BTreeMap::len).sum::<usize>() <= model.len());
        }
    }
}
