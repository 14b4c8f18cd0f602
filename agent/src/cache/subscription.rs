//! The interest of one open stream, or of one configured set of files.
//!
//! Invariant: while a subscription lives, what it follows is signed and kept; nothing of it stays behind when it is dropped.

use std::sync::Arc;

use credence_identity::{Entry, SelectorSet, SpiffeId, Timestamp};
use tokio::sync::Notify;

use super::Cache;
use super::state::State;
use super::subscribers::SubscriberId;
use super::update::{Scope, WorkloadUpdate};

/// The interest of one open stream; ends when it is dropped.
#[derive(Debug)]
pub struct Subscription {
    cache: Cache,
    id: SubscriberId,
    follower: Follower,
    changed: Arc<Notify>,
}

/// Whose identities a subscription follows.
#[derive(Debug)]
pub(super) enum Follower {
    /// Those of whoever has these selectors.
    Caller(Scope, SelectorSet),
    /// The one of this name.
    Holder(SpiffeId),
}

impl Follower {
    pub(super) fn entries(&self, state: &State, now: Timestamp) -> Vec<Arc<Entry>> {
        match self {
            Self::Caller(scope, caller) => state.matching(*scope, caller, now),
            Self::Holder(spiffe_id) => state.of_identity(spiffe_id, now),
        }
    }
}

impl Subscription {
    pub(super) fn new(cache: Cache, id: SubscriberId, follower: Follower, changed: Arc<Notify>) -> Self {
        Self {
            cache,
            id,
            follower,
            changed,
        }
    }

    /// What the caller has now.
    pub fn update(&self) -> WorkloadUpdate {
        let now = self.cache.shared.clock.now();
        let mut state = self.cache.lock();
        let entries = self.follower.entries(&state, now);
        let scope = match self.follower {
            Follower::Caller(scope, _) => scope,
            Follower::Holder(_) => Scope::Process,
        };
        state.update_of(scope, entries, now)
    }

    /// Waits for a change that may concern the caller. Changes since the last wait are one, and one that came before
    /// the call is not missed. What is seen afterwards can still be the same: see [`WorkloadUpdate::shows_same_as`].
    ///
    /// Cancel safe.
    pub async fn changed(&mut self) {
        self.changed.notified().await;
    }

    /// Waits until nothing of the caller's is pending, and returns it: the first answer of a stream. Bound it in time,
    /// for the server may be away.
    ///
    /// Cancel safe.
    pub async fn settled(&mut self) -> WorkloadUpdate {
        loop {
            let update = self.update();
            if !update.is_pending() {
                return update;
            }
            self.changed().await;
        }
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let now = self.cache.shared.clock.now();
        let mut state = self.cache.lock();
        state.subscribers.remove(self.id);
        // The end of its use, by which what goes first is decided.
        for entry in self.follower.entries(&state, now) {
            state.svids.touch(&entry.id);
        }
        if state.svids.is_over_limit() {
            self.cache.shared.work.notify_one();
        }
    }
}
