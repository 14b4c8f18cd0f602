//! Who waits for changes: one per open stream of a workload.
//!
//! Invariant: a change wakes the subscribers whose selectors cover the entry, and those who named its SPIFFE ID, and no one else; several changes before a
//! subscriber looks are one.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use credence_identity::{Entry, Selector, SelectorSet, SpiffeId};
use tokio::sync::Notify;

/// Names a subscriber while it lives.
pub(crate) type SubscriberId = u64;

#[derive(Debug, Default)]
pub(crate) struct Subscribers {
    last_id: SubscriberId,
    by_id: HashMap<SubscriberId, Subscriber>,
    by_selector: HashMap<Selector, BTreeSet<SubscriberId>>,
    by_spiffe_id: HashMap<SpiffeId, BTreeSet<SubscriberId>>,
}

#[derive(Debug)]
struct Subscriber {
    selectors: SelectorSet,
    all_bundles: bool,
    // A permit is stored when nobody waits, so a change is never missed and never counted twice.
    changed: Arc<Notify>,
}

impl Subscribers {
    /// Whoever wants `all_bundles` is told of those too that none of its entries names.
    pub(crate) fn add(&mut self, selectors: SelectorSet, all_bundles: bool) -> (SubscriberId, Arc<Notify>) {
        self.last_id += 1;
        for selector in &selectors {
            self.by_selector
                .entry(selector.clone())
                .or_default()
                .insert(self.last_id);
        }
        let changed = Arc::new(Notify::new());
        self.by_id.insert(
            self.last_id,
            Subscriber {
                selectors,
                all_bundles,
                changed: changed.clone(),
            },
        );
        (self.last_id, changed)
    }

    /// Whoever follows an identity by its name, and has no selectors.
    pub(crate) fn add_holder(&mut self, spiffe_id: SpiffeId) -> (SubscriberId, Arc<Notify>) {
        let (id, changed) = self.add(SelectorSet::default(), false);
        self.by_spiffe_id.entry(spiffe_id).or_default().insert(id);
        (id, changed)
    }

    pub(crate) fn remove(&mut self, id: SubscriberId) {
        let Some(gone) = self.by_id.remove(&id) else {
            return;
        };
        self.by_spiffe_id.retain(|_, ids| {
            ids.remove(&id);
            !ids.is_empty()
        });
        for selector in &gone.selectors {
            if let Some(ids) = self.by_selector.get_mut(selector) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_selector.remove(selector);
                }
            }
        }
    }

    /// Those whose callers match the entry.
    pub(crate) fn of<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = SubscriberId> + 'a {
        let covering = entry
            .selectors
            .iter()
            .map(|selector| self.by_selector.get(selector));
        // The rarest selector names the fewest candidates; one that nobody has leaves none.
        let candidates = covering.min_by_key(|ids| ids.map_or(0, BTreeSet::len)).flatten();
        let covering = candidates.into_iter().flatten().copied().filter(|id| {
            self.by_id
                .get(id)
                .is_some_and(|subscriber| subscriber.selectors.contains_all(&entry.selectors))
        });
        let holders = self.by_spiffe_id.get(&entry.spiffe_id);
        covering.chain(holders.into_iter().flatten().copied())
    }

    /// Those who want all bundles.
    pub(crate) fn of_all_bundles(&self) -> impl Iterator<Item = SubscriberId> + '_ {
        let all = self.by_id.iter().filter(|(_, subscriber)| subscriber.all_bundles);
        all.map(|(id, _)| *id)
    }

    /// Whether somebody waits for the entry, so that its SVID must stay.
    pub(crate) fn want(&self, entry: &Entry) -> bool {
        self.of(entry).next().is_some()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (SubscriberId, &SelectorSet)> {
        self.by_id
            .iter()
            .map(|(id, subscriber)| (*id, &subscriber.selectors))
    }

    pub(crate) fn wake(&self, ids: impl IntoIterator<Item = SubscriberId>) {
        for subscriber in ids.into_iter().filter_map(|id| self.by_id.get(&id)) {
            subscriber.changed.notify_one();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cache::testing::{entry, selectors};

    #[test]
    fn only_those_who_cover_all_selectors_are_concerned() {
        let mut subscribers = Subscribers::default();
        let (both, _) = subscribers.add(selectors(&[1, 2]).into_iter().collect(), false);
        let (one, _) = subscribers.add(selectors(&[1]).into_iter().collect(), false);
        let of = |subscribers: &Subscribers, wanted: &[u8]| {
            subscribers
                .of(&Entry {
                    selectors: selectors(wanted),
                    ..entry("e")
                })
                .collect::<Vec<_>>()
        };
        assert_eq!(of(&subscribers, &[1]), [both, one]);
        assert_eq!(of(&subscribers, &[2, 1]), [both]);
        assert_eq!(of(&subscribers, &[3]), [] as [u64; 0]);
        assert_eq!(of(&subscribers, &[]), [] as [u64; 0]);
        subscribers.remove(both);
        assert_eq!(of(&subscribers, &[1]), [one]);
        subscribers.remove(one);
        assert!(subscribers.by_selector.is_empty() && subscribers.by_id.is_empty());
    }

    #[test]
    fn a_holder_is_concerned_by_the_entries_of_its_identity_only() {
        let mut subscribers = Subscribers::default();
        let (mine, other) = (entry("mine"), entry("other"));
        let (holder, _) = subscribers.add_holder(mine.spiffe_id.clone());
        assert_eq!(subscribers.of(&mine).collect::<Vec<_>>(), [holder]);
        assert!(!subscribers.want(&other));
        subscribers.remove(holder);
        assert!(!subscribers.want(&mine) && subscribers.by_spiffe_id.is_empty());
    }
}
