//! The trust domain in memory.
//!
//! Owns the one copy of entries, nodes, join tokens, bundles and journal that the server works with, the one way to
//! change it, and the knowledge of which agents a change concerns. It never validates a request and never names SQL
//! or the wire. Invariants: readers see only what the store has acknowledged; a change reaches store, state and
//! subscribers in this order; an agent is told of each change to its set of entries, whatever the cause.

mod affected;
mod ahead;
mod authorized;
mod entries;
mod metrics;
mod nodes;
mod owner;
mod rows;
mod state;
mod subscribers;
mod upkeep;

use std::error::Error;
use std::fmt::{self, Debug};
use std::ops::Deref;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use credence_identity::{SpiffeId, TrustDomain};
use credence_runtime::clock::{Clock, StepWatch};
use credence_runtime::supervisor::Supervisor;
use credence_runtime::telemetry::{Measured, Telemetry};
use tokio::sync::{Notify, mpsc, oneshot, watch};

use crate::store::{Change, Store, StoreError};

pub use authorized::AuthorizedEntry;
pub use state::State;
pub use subscribers::Subscription;
pub use upkeep::NodePruning;

use owner::{Decision, Job, Owner};
use subscribers::Subscribers;

/// Transactions that may wait for the owner task; more callers wait in their own tasks.
const QUEUE: usize = 256;

/// A handle to the trust domain; clones share it.
#[derive(Clone)]
pub struct Registry {
    shared: Arc<Shared>,
    jobs: mpsc::Sender<Job>,
}

/// What the handles, the owner task and the upkeep task share.
struct Shared {
    state: RwLock<State>,
    subscribers: Arc<Subscribers>,
    /// An entry that expires was put, perhaps sooner than all others.
    expiry_put: Notify,
    /// Why the last commit failed, until one succeeds.
    trouble: watch::Sender<Option<String>>,
    measured: Measured,
}

/// What a registry is opened with, apart from its seams.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The trust domain of the server.
    pub trust_domain: TrustDomain,
    /// Whether and when nodes that expired are removed.
    pub node_pruning: Option<NodePruning>,
}

/// Why a registry cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The store cannot be read.
    #[error("unable to load the trust domain from the store")]
    Store(#[from] StoreError),
    /// The store belongs to another trust domain.
    #[error("the store holds {found}, which is no member of trust domain {configured}")]
    TrustDomain {
        /// An ID that was found.
        found: SpiffeId,
        /// The trust domain the server is configured for.
        configured: TrustDomain,
    },
}

/// Why a transaction changed nothing.
#[derive(Debug, thiserror::Error)]
pub enum TransactError<E> {
    /// The closure refused.
    #[error("refused")]
    Refused(E),
    /// The store failed; the trust domain is as it was.
    #[error("unable to commit")]
    Store(#[source] StoreError),
    /// The server is shutting down.
    #[error("the registry is closed")]
    Closed,
}

/// Whether changes can be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// The last commit succeeded.
    Ready,
    /// The last commit failed with this; reads are served on, and the store is tried again every few seconds.
    Degraded(String),
}

impl Registry {
    /// Loads the trust domain and starts its owner and upkeep tasks.
    ///
    /// # Errors
    /// If the store cannot be read or holds another trust domain.
    pub async fn open<S: Store>(
        mut store: S,
        settings: Settings,
        clock: Arc<dyn Clock>,
        steps: &StepWatch,
        supervisor: &Supervisor,
    ) -> Result<Registry, OpenError> {
        let state = State::build(settings.trust_domain, store.load().await?);
        if let Some(found) = state.foreign_id() {
            return Err(OpenError::TrustDomain {
                found,
                configured: state.trust_domain().clone(),
            });
        }
        let shared = Arc::new(Shared {
            state: RwLock::new(state),
            subscribers: Arc::default(),
            expiry_put: Notify::new(),
            trouble: watch::Sender::new(None),
            measured: Measured::default(),
        });
        let (jobs, queue) = mpsc::channel(QUEUE);
        let owner = Owner::new(
            store,
            Arc::clone(&shared),
            Arc::clone(&clock),
            queue,
            supervisor.token(),
        );
        supervisor.spawn_graceful("registry", owner.run());
        let registry = Registry { shared, jobs };
        let upkeep = upkeep::run(registry.clone(), clock, steps.subscribe(), settings.node_pruning);
        supervisor.spawn("registry-upkeep", upkeep);
        Ok(registry)
    }

    /// The trust domain as it stands. Changes wait while a reader is held: keep it short and never across an await
    /// (it isn't `Send`, so most tasks that try do not compile), and never ask for a second one while you hold one:
    /// a change that waits between the two would stop both for ever.
    pub fn read(&self) -> Reader<'_> {
        self.shared.read()
    }

    /// Decides on the current state and carries the decision out: the changes are committed as one transaction,
    /// applied, and the agents concerned are told, before this returns. No other change comes between the look at
    /// the state and the commit. No changes are no commit.
    ///
    /// Transactions that wait at the same time share a commit: each is decided on the state as those before it will
    /// have left it, and they succeed or fail together. Even a refusal is told only then, for it may rest on them.
    ///
    /// `decide` runs on the owner task and readers may wait for it: no I/O, no locks, no panics.
    ///
    /// Cancel safe in so far as nothing is half done: a call dropped before its turn is given up, later it is
    /// carried out, and nobody learns of the outcome.
    ///
    /// # Errors
    /// In each case nothing was changed.
    pub async fn transact<R, E, F>(&self, decide: F) -> Result<R, TransactError<E>>
    where
        F: FnOnce(&State) -> Result<(Vec<Change>, R), E> + Send + 'static,
        R: Send + 'static,
        E: Send + 'static,
    {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |state| {
            if answer.is_closed() {
                return None;
            }
            let (changes, result) = match decide(state) {
                Ok((changes, result)) => (changes, Ok(result)),
                Err(refusal) => (Vec::new(), Err(refusal)),
            };
            let settle = Box::new(move |outcome: Result<(), StoreError>| {
                let outcome = outcome.map_err(TransactError::Store);
                // A caller that has gone away is not told.
                drop(answer.send(outcome.and_then(|()| result.map_err(TransactError::Refused))));
            });
            Some(Decision { changes, settle })
        });
        self.jobs.send(job).await.map_err(|_| TransactError::Closed)?;
        answered.await.unwrap_or(Err(TransactError::Closed))
    }

    /// Measures what it does from now on.
    pub fn measure_by(&self, telemetry: &Telemetry) {
        self.shared.measured.by(telemetry);
        self.show_sizes();
    }

    /// By what it is measured.
    pub fn telemetry(&self) -> &Telemetry {
        &self.shared.measured
    }

    /// Subscribes to changes of what concerns an agent: its authorised entries, its node row, its bundles.
    pub fn subscribe(&self, agent: &SpiffeId) -> Subscription {
        Subscribers::subscribe(&self.shared.subscribers, agent)
    }

    /// Whether changes can be committed.
    pub fn health(&self) -> Health {
        self.shared
            .trouble
            .borrow()
            .clone()
            .map_or(Health::Ready, Health::Degraded)
    }
}

impl Shared {
    fn read(&self) -> Reader<'_> {
        // A panic while writing ends the process by the supervisor; until then what is there is served.
        Reader(self.state.read().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Debug for Registry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registry")
            .field("revision", &self.read().revision())
            .finish_non_exhaustive()
    }
}

/// A look at the [`State`]; see [`Registry::read`].
#[derive(Debug)]
pub struct Reader<'a>(RwLockReadGuard<'a, State>);

impl Deref for Reader<'_> {
    type Target = State;

    fn deref(&self) -> &State {
        &self.0
    }
}

/// An error with its causes on one line, for the log and the health report.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests;
