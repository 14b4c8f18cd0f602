//! A registry over a memory store that can be shared, reopened and made to fail.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use credence_identity::Timestamp;
use credence_runtime::clock::ManualClock;
use tokio::sync::{Mutex, MutexGuard};

use super::*;
use crate::store::{MemoryStore, Revision, Snapshot};

pub(super) const START: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);
pub(super) const MINUTE: Duration = Duration::from_secs(60);

/// A store behind a pointer, so that a second registry can be opened on what a first one wrote.
#[derive(Debug, Clone, Default)]
pub(super) struct SharedStore(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    store: Mutex<MemoryStore>,
    failing: AtomicBool,
    commits: AtomicU64,
}

impl SharedStore {
    pub(super) fn fail(&self, failing: bool) {
        self.0.failing.store(failing, Ordering::Relaxed);
    }

    /// Commits wait while this is held.
    pub(super) async fn hold(&self) -> MutexGuard<'_, MemoryStore> {
        self.0.store.lock().await
    }

    pub(super) fn commits(&self) -> u64 {
        self.0.commits.load(Ordering::Relaxed)
    }
}

impl Store for SharedStore {
    async fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.0.store.lock().await.load().await
    }

    async fn commit(
        &mut self,
        at: Revision,
        changes: &[Change],
        now: Timestamp,
    ) -> Result<Revision, StoreError> {
        self.probe().await?;
        self.0.commits.fetch_add(1, Ordering::Relaxed);
        self.0.store.lock().await.commit(at, changes, now).await
    }

    async fn probe(&mut self) -> Result<(), StoreError> {
        match self.0.failing.load(Ordering::Relaxed) {
            true => Err(StoreError::failed("out of order")),
            false => Ok(()),
        }
    }

    async fn close(self) {}
}

pub(super) struct Fixture {
    pub(super) registry: Registry,
    pub(super) store: SharedStore,
    pub(super) clock: Arc<ManualClock>,
    pub(super) supervisor: Supervisor,
    steps: StepWatch,
}

impl Fixture {
    pub(super) async fn open() -> Fixture {
        Fixture::open_with(None).await
    }

    pub(super) async fn open_with(node_pruning: Option<NodePruning>) -> Fixture {
        let (store, supervisor) = (SharedStore::default(), Supervisor::new());
        let clock = Arc::new(ManualClock::new(START));
        let steps = StepWatch::spawn(clock.clone(), &supervisor);
        let settings = Settings {
            trust_domain: domain("td.test"),
            node_pruning,
        };
        let registry = Registry::open(store.clone(), settings, clock.clone(), &steps, &supervisor);
        Fixture {
            registry: registry.await.unwrap(),
            store,
            clock,
            supervisor,
            steps,
        }
    }

    /// A second registry on the same store, under a supervisor of its own.
    pub(super) async fn reopen(&self) -> Registry {
        self.open_as("td.test").await.unwrap()
    }

    pub(super) async fn open_as(&self, trust_domain: &str) -> Result<Registry, OpenError> {
        let settings = Settings {
            trust_domain: domain(trust_domain),
            node_pruning: None,
        };
        let (clock, supervisor) = (self.clock.clone(), Supervisor::new());
        Registry::open(self.store.clone(), settings, clock, &self.steps, &supervisor).await
    }

    pub(super) async fn put(&self, changes: impl IntoIterator<Item = Change>) {
        self.try_put(changes).await.unwrap();
    }

    pub(super) async fn try_put(
        &self,
        changes: impl IntoIterator<Item = Change>,
    ) -> Result<(), TransactError<Infallible>> {
        let changes = changes.into_iter().collect();
        self.registry.transact(move |_| Ok((changes, ()))).await
    }
}
