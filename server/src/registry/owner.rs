//! The one task that changes the trust domain.
//!
//! Owns the store. Invariant: between a decision and its commit no other change happens, and nothing is applied that
//! was not committed.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use credence_identity::Entry;
use credence_runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::affected::Affected;
use super::{Shared, State, chain};
use crate::store::{Change, Store, StoreError};

/// How often a store that failed is tried again.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// A transaction that waits for its turn; answers `None` if there is nothing to do.
pub(super) type Job = Box<dyn FnOnce(&State) -> Option<Decision> + Send>;

/// What a transaction decided.
pub(super) struct Decision {
    pub(super) changes: Vec<Change>,
    /// Tells the caller of the outcome.
    pub(super) settle: Box<dyn FnOnce(Result<(), StoreError>) + Send>,
}

pub(super) struct Owner<S> {
    store: S,
    shared: Arc<Shared>,
    clock: Arc<dyn Clock>,
    queue: mpsc::Receiver<Job>,
    stop: CancellationToken,
}

impl<S: Store> Owner<S> {
    pub(super) fn new(
        store: S,
        shared: Arc<Shared>,
        clock: Arc<dyn Clock>,
        queue: mpsc::Receiver<Job>,
        stop: CancellationToken,
    ) -> Self {
        Owner {
            store,
            shared,
            clock,
            queue,
            stop,
        }
    }

    /// Runs until shutdown; what waits then is answered as closed. Fails if the store got another writer, for then
    /// no more of what is in memory can be trusted.
    pub(super) async fn run(mut self) -> Result<(), StoreError> {
        let mut probes = interval(PROBE_EVERY);
        probes.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let outcome = loop {
            let degraded = self.shared.trouble.borrow().is_some();
            tokio::select! {
                biased;
                () = self.stop.cancelled() => break Ok(()),
                _ = probes.tick(), if degraded => self.probe().await,
                job = self.queue.recv() => match job {
                    Some(job) => if let Err(error) = self.carry_out(job).await { break Err(error) },
                    None => break Ok(()),
                },
            }
        };
        self.queue.close();
        self.store.close().await;
        outcome
    }

    async fn carry_out(&mut self, job: Job) -> Result<(), StoreError> {
        let (decision, at) = {
            let state = self.shared.read();
            (job(&state), state.revision())
        };
        let Some(Decision { changes, settle }) = decision else {
            return Ok(());
        };
        if changes.is_empty() {
            settle(Ok(()));
            return Ok(());
        }
        match self.store.commit(at, &changes, self.clock.now()).await {
            Ok(_) => {
                self.recovered();
                self.apply(changes);
                settle(Ok(()));
                Ok(())
            }
            Err(StoreError::Moved { expected }) => {
                settle(Err(StoreError::Moved { expected }));
                Err(StoreError::Moved { expected })
            }
            Err(error) => {
                if !error.is_refusal() {
                    self.failed(&error);
                }
                settle(Err(error));
                Ok(())
            }
        }
    }

    /// Applies what was committed and tells whom it concerns.
    fn apply(&self, changes: Vec<Change>) {
        let mut affected = Affected::default();
        let put: Vec<_> = changes
            .iter()
            .filter_map(put_entry)
            .map(|entry| entry.id.clone())
            .collect();
        let expires = changes
            .iter()
            .filter_map(put_entry)
            .any(|entry| entry.expires_at.is_some());
        affected.note_before(&self.shared.read(), &changes);
        {
            let mut state = self.shared.state.write().unwrap_or_else(PoisonError::into_inner);
            changes.into_iter().for_each(|change| state.apply(change));
        }
        let state = self.shared.read();
        affected.note_after(&state, &put);
        let revision = state.revision();
        drop(state);
        self.shared.subscribers.tell(&affected, revision);
        if expires {
            self.shared.expiry_put.notify_one();
        }
    }

    async fn probe(&mut self) {
        match self.store.probe().await {
            Ok(()) => self.recovered(),
            Err(error) => self.failed(&error),
        }
    }

    fn failed(&self, error: &StoreError) {
        let text = chain(error);
        let changed = self.shared.trouble.send_if_modified(|trouble| {
            let changed = trouble.as_ref() != Some(&text);
            *trouble = Some(text.clone());
            changed
        });
        if changed {
            tracing::error!(
                error = text,
                "Unable to write to the datastore; serving what is known"
            );
        }
    }

    fn recovered(&self) {
        if self
            .shared
            .trouble
            .send_if_modified(|trouble| trouble.take().is_some())
        {
            tracing::info!("Datastore can be written again");
        }
    }
}

fn put_entry(change: &Change) -> Option<&Entry> {
    if let Change::EntryPut(entry) = change {
        Some(entry)
    } else {
        None
    }
}
