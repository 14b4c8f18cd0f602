//! Documents that end, kept until a newer one replaces them: the one mechanism behind X.509- and JWT-SVIDs.
//!
//! Owns when a document is due, what may still be served and which is let go first. Never asks for a document and never
//! reads a clock: time comes in as a [`Moment`]. Invariant: [`Kept::serves_at`] is false from the document's end on.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use credence_identity::{Entry, SpiffeId, Timestamp, rotation};
use credence_runtime::clock::Clock;
use tokio::time::Instant;

/// No document is replaced sooner after its arrival, whatever the clocks say.
const SHORTEST_STAY: Duration = Duration::from_secs(1);

/// One moment on both clocks: documents end by the wall clock, and waiting is monotonic.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moment {
    pub(crate) wall: Timestamp,
    pub(crate) monotonic: Instant,
}

impl Moment {
    pub(crate) fn now(clock: &dyn Clock) -> Self {
        Self {
            wall: clock.now(),
            monotonic: Instant::now(),
        }
    }
}

/// Which state of an entry something was made for. Two states are the same only if both parts are equal: an entry that
/// was deleted and created again with its id starts again at the same revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryVersion {
    /// The entry's revision.
    pub revision_number: i64,
    /// When the entry was created.
    pub created_at: Timestamp,
}

impl EntryVersion {
    /// The version of that entry.
    pub fn of(entry: &Entry) -> Self {
        Self {
            revision_number: entry.revision_number,
            created_at: entry.created_at,
        }
    }
}

/// An SVID of either kind.
pub(crate) trait Document {
    fn spiffe_id(&self) -> &SpiffeId;
    fn not_after(&self) -> Timestamp;
    /// The authority that it leads to, by the name that it gives it.
    fn authority(&self) -> Option<&[u8]>;
}

/// A document with the time of its replacement.
#[derive(Debug)]
pub(crate) struct Kept<D> {
    document: Arc<D>,
    /// None when the entry changed and kept its version, which it does if it is made anew within a second.
    version: Option<EntryVersion>,
    arrived: Instant,
    renew_at: Timestamp,
    renew_after: Duration,
}

impl<D: Document> Kept<D> {
    /// A document that just arrived for this version of its entry; `jitter` from -1 to 1 spreads the renewals.
    pub(crate) fn new(document: Arc<D>, version: EntryVersion, now: Moment, jitter: f64) -> Self {
        let renew_at = rotation::renew_at(now.wall, document.not_after(), jitter);
        Self::due_at(document, version, now, renew_at)
    }

    /// The same, to be replaced at that time.
    pub(crate) fn due_at(document: Arc<D>, version: EntryVersion, now: Moment, renew_at: Timestamp) -> Self {
        Self {
            version: Some(version),
            arrived: now.monotonic,
            renew_at,
            renew_after: now.wall.until(renew_at),
            document,
        }
    }

    pub(crate) fn document(&self) -> &Arc<D> {
        &self.document
    }

    /// Whether it may be handed out for the entry as it is now: it hasn't ended and names the entry's identity.
    pub(crate) fn serves_at(&self, entry: &Entry, now: Timestamp) -> bool {
        now < self.document.not_after() && *self.document.spiffe_id() == entry.spiffe_id
    }

    /// Whether it is to be replaced: the entry has changed, or the renewal has come on either clock. The wall clock
    /// covers a step forwards and a suspended machine, the monotonic one a step back.
    pub(crate) fn is_due_at(&self, entry: &Entry, now: Moment) -> bool {
        let stale =
            self.version != Some(EntryVersion::of(entry)) || *self.document.spiffe_id() != entry.spiffe_id;
        stale || self.due_in(now).is_zero()
    }

    /// How long until the renewal, on a wall clock that isn't stepped meanwhile.
    pub(crate) fn due_in(&self, now: Moment) -> Duration {
        let age = now.monotonic.saturating_duration_since(self.arrived);
        let by_either = now
            .wall
            .until(self.renew_at)
            .min(self.renew_after.saturating_sub(age));
        by_either.max(SHORTEST_STAY.saturating_sub(age))
    }
}

/// Documents by key, of which the least recently used are let go first.
#[derive(Debug)]
pub(crate) struct Shelf<K, D> {
    limit: usize,
    uses: u64,
    slots: BTreeMap<K, Slot<D>>,
}

#[derive(Debug)]
struct Slot<D> {
    kept: Kept<D>,
    used: u64,
}

impl<K: Ord + Clone, D> Shelf<K, D> {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            uses: 0,
            slots: BTreeMap::new(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether there are more than the limit, which pinned ones may be.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.slots.len() > self.limit
    }

    /// How many more fit without letting one go.
    pub(crate) fn room(&self) -> usize {
        self.limit.saturating_sub(self.slots.len())
    }

    pub(crate) fn get<Q: Ord + ?Sized>(&self, key: &Q) -> Option<&Kept<D>>
    where
        K: Borrow<Q>,
    {
        self.slots.get(key).map(|slot| &slot.kept)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &Kept<D>)> {
        self.slots.iter().map(|(key, slot)| (key, &slot.kept))
    }

    /// Stores or replaces. A renewal is no use: it doesn't move the key to the front.
    pub(crate) fn put(&mut self, key: K, kept: Kept<D>) {
        self.uses += 1;
        let used = self.slots.get(&key).map_or(self.uses, |slot| slot.used);
        self.slots.insert(key, Slot { kept, used });
    }

    /// Has the key's document replaced at once, though it is for the same version of its entry.
    pub(crate) fn outdate<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(slot) = self.slots.get_mut(key) {
            slot.kept.version = None;
        }
    }

    /// Marks the key as just used.
    pub(crate) fn touch<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        if let Some(slot) = self.slots.get_mut(key) {
            self.uses += 1;
            slot.used = self.uses;
        }
    }

    pub(crate) fn remove<Q: Ord + ?Sized>(&mut self, key: &Q)
    where
        K: Borrow<Q>,
    {
        self.slots.remove(key);
    }

    /// Drops what isn't to be kept.
    pub(crate) fn retain(&mut self, mut keep: impl FnMut(&Kept<D>) -> bool) {
        self.slots.retain(|_, slot| keep(&slot.kept));
    }

    /// Lets the least recently used go until the limit is kept, but none that is pinned. Returns their keys.
    pub(crate) fn evict(&mut self, pinned: impl Fn(&K, &Kept<D>) -> bool) -> Vec<K> {
        let excess = self.slots.len().saturating_sub(self.limit);
        if excess == 0 {
            return Vec::new();
        }
        let mut idle: Vec<(u64, K)> = self
            .slots
            .iter()
            .filter(|(key, slot)| !pinned(key, &slot.kept))
            .map(|(key, slot)| (slot.used, key.clone()))
            .collect();
        idle.sort_unstable_by_key(|(used, _)| *used);
        idle.truncate(excess);
        let gone: Vec<K> = idle.into_iter().map(|(_, key)| key).collect();
        for key in &gone {
            self.slots.remove(key);
        }
        gone
    }
}

#[cfg(test)]
mod tests;
