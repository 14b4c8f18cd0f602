//! Who waits for changes.
//!
//! Owns one signal per agent with a live subscription. Invariant: an agent without one costs nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use credence_identity::SpiffeId;
use tokio::sync::watch;

use super::affected::Affected;
use crate::store::Revision;

#[derive(Debug, Default)]
pub(super) struct Subscribers {
    signals: Mutex<HashMap<SpiffeId, watch::Sender<Revision>>>,
}

impl Subscribers {
    pub(super) fn subscribe(this: &Arc<Self>, agent: &SpiffeId) -> Subscription {
        let mut signals = this.lock();
        let signal = signals
            .entry(agent.clone())
            .or_insert_with(|| watch::Sender::new(Revision::default()));
        let changes = signal.subscribe();
        Subscription {
            changes,
            agent: agent.clone(),
            subscribers: Arc::clone(this),
        }
    }

    /// Tells those concerned that what is theirs changed by `revision`.
    pub(super) fn tell(&self, affected: &Affected, revision: Revision) {
        let signals = self.lock();
        if affected.all {
            signals
                .values()
                .for_each(|signal| signal.send_modify(|last| *last = revision));
        } else {
            let concerned = affected.agents.iter().filter_map(|agent| signals.get(agent));
            concerned.for_each(|signal| signal.send_modify(|last| *last = revision));
        }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpiffeId, watch::Sender<Revision>>> {
        self.signals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells that something of one agent changed since it was last asked; several changes may be told as one.
#[derive(Debug)]
pub struct Subscription {
    changes: watch::Receiver<Revision>,
    agent: SpiffeId,
    subscribers: Arc<Subscribers>,
}

impl Subscription {
    /// Waits for a change after the subscription or after the last return. Read the state after it has returned.
    /// Cancel safe.
    pub async fn changed(&mut self) {
        if self.changes.changed().await.is_err() {
            // The sender lives as long as this subscription; if it ever did not, nothing would change any more.
            std::future::pending::<()>().await;
        }
    }

    /// Whether there was a change that [`Subscription::changed`] would return for at once; doesn't take note of it.
    pub fn has_changed(&self) -> bool {
        self.changes.has_changed().unwrap_or(false)
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut signals = self.subscribers.lock();
        // This one still counts itself.
        if signals
            .get(&self.agent)
            .is_some_and(|signal| signal.receiver_count() <= 1)
        {
            signals.remove(&self.agent);
        }
    }
}
