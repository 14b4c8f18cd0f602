//! The one task that changes the trust domain.
//!
//! Owns the store. Transactions that wait while another commits are decided one after the other and committed as one.
//! Invariant: decisions are serial, each on the state as those before it leave it; nothing is applied for readers that
//! was not committed.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use credence_identity::Entry;
use credence_runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::affected::Affected;
use super::ahead::Ahead;
use super::{Shared, State, chain, metrics};
use crate::store::{Change, Store, StoreError};

/// How often a store that failed is tried again.
const PROBE_EVERY: Duration = Duration::from_secs(5);

/// Transactions, and changes, after which a commit takes no more along: readers wait while they are decided.
const TOGETHER: usize = 64;

/// A transaction that waits for its turn; answers `None` if its caller is gone.
pub(super) type Job = Box<dyn FnOnce(&State) -> Option<Decision> + Send>;

/// Tells the caller of a transaction of the outcome.
type Settle = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What a transaction decided.
pub(super) struct Decision {
    pub(super) changes: Vec<Change>,
    pub(super) settle: Settle,
}

/// What several decided, to be committed together.
#[derive(Default)]
struct Group {
    changes: Vec<Change>,
    settles: Vec<Settle>,
}

impl Group {
    fn take(&mut self, decision: Option<Decision>) {
        if let Some(Decision { changes, settle }) = decision {
            self.changes.extend(changes);
            self.settles.push(settle);
        }
    }

    fn is_full(&self) -> bool {
        self.changes.len().max(self.settles.len()) >= TOGETHER
    }

    fn settle(settles: Vec<Settle>, outcome: &Result<(), StoreError>) {
        settles.into_iter().for_each(|settle| settle(outcome.clone()));
    }
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
        let at = self.shared.read().revision();
        let Group { changes, settles } = self.decide(job);
        if changes.is_empty() {
            Group::settle(settles, &Ok(()));
            return Ok(());
        }
        let measured = &self.shared.measured;
        let operations = measured
            .is_on()
            .then(|| metrics::operations(&self.shared.read(), &changes));
        let began = Instant::now();
        let outcome = self.store.commit(at, &changes, self.clock.now()).await.map(drop);
        for operation in operations.into_iter().flatten() {
            measured.called(operation, began.elapsed(), outcome.is_ok());
        }
        match &outcome {
            Ok(()) => {
                self.recovered();
                self.apply(changes);
            }
            // The store is well.
            Err(StoreError::Constraint(_) | StoreError::Moved { .. }) => {}
            Err(error) => self.failed(error),
        }
        Group::settle(settles, &outcome);
        match outcome {
            Err(error @ StoreError::Moved { .. }) => Err(error),
            _ => Ok(()),
        }
    }

    /// Decides a transaction, and with it those that wait by now.
    fn decide(&mut self, job: Job) -> Group {
        let mut group = Group::default();
        group.take(job(&self.shared.read()));
        if group.changes.is_empty() || group.is_full() || self.queue.is_empty() {
            return group;
        }
        let mut ahead = Ahead::of(&self.shared.state);
        while !group.is_full()
            && let Ok(job) = self.queue.try_recv()
        {
            group.take(job(ahead.after(&group.changes)));
        }
        group
    }

    /// Applies what was committed and tells whom it concerns.
    fn apply(&self, changes: Vec<Change>) {
        let _reload = self.shared.measured.counted("entry.cache.reload");
        if self.shared.measured.is_on() {
            let deleted = metrics::float(metrics::deleted(&changes));
            self.shared.measured.gauge("entry.deleted", deleted);
        }
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
