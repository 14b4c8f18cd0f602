//! The refusals of late, so that one can be explained after the call is over.
//!
//! Owns how many are kept: so many of one owner, so many in all, the oldest out. It knows nothing of what a refusal
//! says. Invariant: no owner can push out the refusals of another before all places are taken.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::grpc::RequestId;

/// Kept of one owner.
pub const PER_OWNER: usize = 1_000;
/// Kept in all.
pub const IN_ALL: usize = 10_000;

/// Refusals `R` by the number of their call; `K` is whom they were said to. Clones share them.
#[derive(Debug)]
pub struct Refusals<K, R> {
    kept: Arc<Mutex<Kept<K, R>>>,
}

#[derive(Debug)]
struct Kept<K, R> {
    /// The place of the next; places are never used again.
    next: u64,
    by_age: BTreeMap<u64, (RequestId, K, Arc<R>)>,
    by_id: HashMap<RequestId, u64>,
    by_owner: HashMap<K, VecDeque<u64>>,
}

impl<K: Clone + Eq + Hash, R> Refusals<K, R> {
    /// Keeps a refusal.
    pub fn put(&self, id: RequestId, owner: K, refusal: R) {
        let mut kept = self.lock();
        let place = kept.next;
        kept.next += 1;
        kept.by_id.insert(id, place);
        kept.by_age.insert(place, (id, owner.clone(), Arc::new(refusal)));
        let own = kept.by_owner.entry(owner).or_default();
        own.push_back(place);
        if own.len() > PER_OWNER {
            let oldest = own.front().copied();
            kept.forget(oldest);
        }
        if kept.by_age.len() > IN_ALL {
            let oldest = kept.by_age.keys().next().copied();
            kept.forget(oldest);
        }
    }

    /// The refusal of that call, if it is still kept.
    pub fn find(&self, id: RequestId) -> Option<Arc<R>> {
        let kept = self.lock();
        let place = kept.by_id.get(&id)?;
        kept.by_age.get(place).map(|(_, _, refusal)| refusal.clone())
    }

    /// The newest of an owner that is wanted, with the number of its call.
    pub fn latest(&self, owner: &K, wanted: impl Fn(&R) -> bool) -> Option<(RequestId, Arc<R>)> {
        let kept = self.lock();
        let own = kept.by_owner.get(owner)?.iter().rev();
        let mut own = own.filter_map(|place| kept.by_age.get(place));
        own.find(|(_, _, refusal)| wanted(refusal))
            .map(|(id, _, refusal)| (*id, refusal.clone()))
    }

    fn lock(&self) -> MutexGuard<'_, Kept<K, R>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash, R> Kept<K, R> {
    /// Forgets what is in a place, which is the oldest of its owner.
    fn forget(&mut self, place: Option<u64>) {
        let Some((id, owner, _)) = place.and_then(|place| self.by_age.remove(&place)) else {
            return;
        };
        self.by_id.remove(&id);
        if let Some(own) = self.by_owner.get_mut(&owner) {
            own.pop_front();
            if own.is_empty() {
                self.by_owner.remove(&owner);
            }
        }
    }
}

impl<K, R> Clone for Refusals<K, R> {
    fn clone(&self) -> Self {
        Self {
            kept: self.kept.clone(),
        }
    }
}

impl<K, R> Default for Refusals<K, R> {
    fn default() -> Self {
        let kept = Kept {
            next: 0,
            by_age: BTreeMap::new(),
            by_id: HashMap::new(),
            by_owner: HashMap::new(),
        };
        Self {
            kept: Arc::new(Mutex::new(kept)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_owner_keeps_a_thousand_and_loses_only_its_own() {
        let refusals = Refusals::default();
        let other = RequestId::random();
        refusals.put(other, 7, 0);
        let ids: Vec<RequestId> = (0..=PER_OWNER).map(|_| RequestId::random()).collect();
        for (n, id) in ids.iter().enumerate() {
            refusals.put(*id, 1, n);
        }
        assert_eq!(refusals.find(ids[0]), None);
        assert_eq!(refusals.find(ids[1]).as_deref(), Some(&1));
        assert_eq!(refusals.find(other).as_deref(), Some(&0));
        assert_eq!(
            refusals.latest(&1, |n| n % 2 == 1).map(|(id, _)| id),
            Some(ids[PER_OWNER - 1])
        );
    }

    #[test]
    fn ten_thousand_are_kept_in_all_and_nothing_stays_of_those_that_went() {
        let refusals = Refusals::default();
        let first = RequestId::random();
        refusals.put(first, 0, ());
        for owner in 0..IN_ALL {
            refusals.put(RequestId::random(), owner % 5_000, ());
        }
        assert_eq!(refusals.find(first), None);
        let kept = refusals.lock();
        assert_eq!((kept.by_age.len(), kept.by_id.len()), (IN_ALL, IN_ALL));
        assert_eq!(kept.by_owner.values().map(VecDeque::len).sum::<usize>(), IN_ALL);
    }
}
