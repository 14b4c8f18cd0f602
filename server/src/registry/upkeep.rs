//! What the passing of time does to the trust domain.
//!
//! One task tells agents of entries that expire, at the second they do, and removes now and then what has expired:
//! entries and join tokens every five minutes, nodes about once an hour if so configured. Invariant: an expiry is
//! told of whether the clock came to it or was stepped over it, in either direction (by up to two seconds late after
//! steps too small to be noticed).

use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;
use std::time::Duration;

use credence_identity::Timestamp;
use credence_runtime::clock::Clock;
use rand::Rng;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};

use super::affected::Affected;
use super::{Registry, State, TransactError};
use crate::store::Change;

/// As SPIRE's pruner of entries.
const PRUNE_EVERY: Duration = Duration::from_secs(5 * 60);
/// Changes per transaction, so that others get their turn between.
const PRUNE_BATCH: usize = 500;

/// Removal of nodes whose SVID expired long ago. Banned nodes stay.
#[derive(Debug, Clone)]
pub struct NodePruning {
    /// How long a node's SVID must have been expired.
    pub expired_for: Duration,
    /// Nodes per cycle of about an hour.
    pub batch: usize,
    /// Also nodes that cannot attest again, which locks them out for good.
    pub include_tofu: bool,
}

pub(super) async fn run(
    registry: Registry,
    clock: Arc<dyn Clock>,
    mut steps: watch::Receiver<u64>,
    nodes: Option<NodePruning>,
) -> Result<(), Infallible> {
    let mut prune = interval_at(Instant::now() + PRUNE_EVERY, PRUNE_EVERY);
    prune.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut prune_nodes_at = Instant::now() + node_interval();
    let mut told = clock.now();
    loop {
        let next = registry.read().entries.next_expiry(told);
        tokio::select! {
            () = expiry(next.map(|at| clock.now().until(at))) => {}
            () = stepped(&mut steps) => {}
            () = registry.shared.expiry_put.notified() => {}
            _ = prune.tick() => prune_expired(&registry, &clock).await,
            () = sleep_until(prune_nodes_at) => {
                prune_nodes_at = Instant::now() + node_interval();
                if let Some(pruning) = &nodes {
                    prune_nodes(&registry, pruning.clone(), clock.now()).await;
                }
            }
        }
        let now = clock.now();
        tell(&registry, told, now);
        told = now;
    }
}

async fn expiry(left: Option<Duration>) {
    match left {
        Some(left) => sleep(left).await,
        None => pending().await,
    }
}

async fn stepped(steps: &mut watch::Receiver<u64>) {
    if steps.changed().await.is_err() {
        pending::<()>().await;
    }
}

/// Tells whom it concerns that time went from one moment to the other, perhaps backwards.
fn tell(registry: &Registry, from: Timestamp, to: Timestamp) {
    let mut affected = Affected::default();
    let state = registry.read();
    affected.note_expiry(
        &state,
        state
            .entries
            .expiring(from.min(to), from.max(to))
            .map(|entry| &**entry),
    );
    let revision = state.revision();
    drop(state);
    registry.shared.subscribers.tell(&affected, revision);
}

async fn prune_expired(registry: &Registry, clock: &Arc<dyn Clock>) {
    let _pruning = [
        "registration_entry.manager.prune",
        "datastore.registration_entry.prune",
        "datastore.join_token.prune",
    ]
    .map(|key| registry.telemetry().counted(key));
    loop {
        let now = clock.now();
        let decide = move |state: &State| {
            let changes: Vec<Change> = state.expired(now).take(PRUNE_BATCH).collect();
            let count = changes.len();
            Ok::<_, Infallible>((changes, count))
        };
        match registry.transact(decide).await {
            Ok(PRUNE_BATCH) => {}
            Ok(count) => {
                if count > 0 {
                    tracing::info!(count, "Pruned expired registration entries and join tokens");
                }
                return;
            }
            Err(error) => return report(&error),
        }
    }
}

async fn prune_nodes(registry: &Registry, pruning: NodePruning, now: Timestamp) {
    let _pruning =
        ["node.manager.prune", "datastore.node.prune"].map(|key| registry.telemetry().counted(key));
    let decide = move |state: &State| {
        let doomed = state.nodes().filter(|(_, node)| {
            !node.is_banned()
                && (node.can_reattest || pruning.include_tofu)
                && node.not_after + pruning.expired_for <= now
        });
        let doomed: Vec<_> = doomed
            .take(pruning.batch)
            .map(|(_, node)| node.id.clone())
            .collect();
        let changes = doomed.iter().flat_map(|id| state.eviction_of(id)).collect();
        Ok::<_, Infallible>((changes, doomed.len()))
    };
    match registry.transact(decide).await {
        Ok(0) => {}
        Ok(count) => tracing::info!(count, "Pruned expired attested nodes"),
        Err(error) => report(&error),
    }
}

/// The next cycle tries again, and the owner task has reported what ails the store.
fn report(error: &TransactError<Infallible>) {
    tracing::warn!(error = %error, "Unable to prune expired records");
}

/// 45 to 75 minutes, as SPIRE, so that several servers do not prune at once.
fn node_interval() -> Duration {
    Duration::from_secs(rand::rng().random_range(45 * 60..=75 * 60))
}
