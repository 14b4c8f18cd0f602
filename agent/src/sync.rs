//! The agent's side of the server: its own SVID, the entries it may serve, and the SVIDs it asks for.
//!
//! Owns the connection and the three tasks on it: the keeper of the agent's SVID, the synchroniser of the cache, and the
//! issuing of X.509-SVIDs. Never serves a workload. Invariant: nothing here depends on the server being there, once the
//! agent has started: what is cached keeps being served, and all three go on when the server is back.

mod bootstrap;
mod comparison;
mod connection;
mod contact;
mod first;
mod issuing;
mod keeper;
mod lending;
mod server;
mod synchroniser;
mod tokens;
mod trust;

use std::sync::Arc;
use std::time::Duration;

use credence_crypto::KeyType;
use credence_crypto::x509::X509SvidKey;
use credence_identity::{Bundle, Timestamp, TrustDomain};
use credence_runtime::clock::{Clock, StepWatch};
use credence_runtime::supervisor::Supervisor;
use credence_runtime::tls::KeyExchange;
use tokio::sync::{mpsc, watch};

pub use bootstrap::BootstrapError;
pub use connection::ConnectionError;
pub use contact::{BundleFormat, BundleSource, Rebootstrap, RebootstrapMode, ServerAddress};
pub use first::FirstError;
pub use keeper::AgentEnd;
pub(crate) use keeper::RenewError;
pub(crate) use lending::SignCsr;
pub(crate) use server::{AttestError, CallError, Refusal, Server};
pub use trust::NoRebootstrap;

use connection::Connector;
use first::{Beginning, First};
use issuing::{Issuing, Signing};
use keeper::{Custody, Keeper};
use synchroniser::Synchroniser;
use tokens::ServerTokenIssuer;
use trust::Trust;

use crate::attestor::node::NodeAttestor;
use crate::cache::{Cache, CacheLimits};
use crate::explain::Journal;
use crate::keymanager::KeyManager;
use crate::state::StateFile;

/// Refusals that may wait for the keeper: it acts on the first.
const REFUSALS: usize = 4;

/// What the agent's side of the server is made of.
#[derive(Debug)]
pub struct SyncPlan {
    /// The trust domain of server and agent.
    pub trust_domain: TrustDomain,
    /// Where the server is.
    pub server: ServerAddress,
    /// By what the first contact is trusted.
    pub bundle: BundleSource,
    /// What becomes of a server of unknown authority.
    pub rebootstrap: Rebootstrap,
    /// How this host is proved.
    pub attestor: Arc<dyn NodeAttestor>,
    /// Where the agent's key lives.
    pub keys: Arc<KeyManager>,
    /// Where its SVID lives.
    pub state: Arc<StateFile>,
    /// Between two polls of a server that can't push: SPIRE's `sync_interval`.
    pub interval: Duration,
    /// Whether the server is only asked for whole sets of entries: SPIRE's `use_sync_authorized_entries = false`.
    pub whole_sets: bool,
    /// The type of the workloads' keys: SPIRE's `workload_x509_svid_key_type`.
    pub key_type: KeyType,
    /// What is agreed to with the server: SPIRE's `require_pq_kem`.
    pub key_exchange: KeyExchange,
    /// How much is cached.
    pub limits: CacheLimits,
    /// The version that the server is told.
    pub version: &'static str,
    /// How it goes.
    pub journal: Journal,
}

/// An agent that is attested.
#[derive(Debug)]
pub struct Synced {
    /// What it holds; follows the server from now on.
    pub cache: Cache,
    /// Its own SVID.
    pub svid: watch::Receiver<Arc<X509SvidKey>>,
    /// When the server last said that the cache is in step with it.
    pub last_sync: watch::Receiver<Option<Timestamp>>,
    /// How often the cache was brought in step with the server; 0 before the first time.
    pub in_step: watch::Receiver<u64>,
    /// The server, for whoever explains.
    pub(crate) server: Server,
}

/// Attests the node, unless a live SVID was saved, and starts the tasks that follow the server.
///
/// # Errors
/// [`FirstError`] if there is no SVID within a minute (within a day, if the agent may bootstrap again). Later, a task that can't go on shuts the supervisor down with
/// [`AgentEnd`].
pub async fn start(
    plan: SyncPlan,
    clock: Arc<dyn Clock>,
    steps: &StepWatch,
    supervisor: &Supervisor,
) -> Result<Synced, FirstError> {
    let telemetry = plan.keys.telemetry().clone();
    let custody = Custody {
        keys: plan.keys,
        state: plan.state.clone(),
    };
    let unknown = Bundle::empty(plan.trust_domain.clone());
    let connector = Connector {
        address: plan.server,
        trust_domain: plan.trust_domain,
        bundle: watch::channel(Arc::new(unknown)).1,
        clock: clock.clone(),
        key_exchange: plan.key_exchange,
    };
    let trust = Trust {
        connector: connector.clone(),
        source: plan.bundle,
        rebootstrap: plan.rebootstrap,
        state: plan.state.clone(),
        telemetry: telemetry.clone(),
    };
    let beginning = Beginning {
        trust,
        attestor: plan.attestor.clone(),
        custody: custody.clone(),
        journal: plan.journal.clone(),
    };
    let first = beginning.run().await?;
    let First { svid, bundle, .. } = &first;
    let (bundles, own_bundle) = watch::channel(bundle.clone());
    let (svids, own_svid) = watch::channel(svid.clone());
    let (refusals, refused) = mpsc::channel(REFUSALS);
    let connector = Connector {
        bundle: own_bundle,
        ..connector
    };
    let server = Server::new(connector, svid.clone(), refusals)?;
    let issuer = Arc::new(ServerTokenIssuer {
        server: server.clone(),
        key_type: plan.key_type,
    });
    let cache = Cache::new(clock.clone(), bundle.clone(), plan.limits, issuer);
    cache.measure_by(&telemetry);
    let (stepped, in_step) = watch::channel(0);
    let (synced_at, last_sync) = watch::channel(None);
    let (signing, signed) = watch::channel(Signing::default());

    let keeper = Keeper {
        server: server.clone(),
        attestor: plan.attestor,
        custody,
        clock: clock.clone(),
        availability_target: plan.limits.availability_target,
        svid: svids,
        reattestable: first.reattestable,
        bundle: bundles.subscribe(),
        journal: plan.journal.clone(),
    };
    let watched = steps.subscribe();
    supervisor.spawn("agent-svid", async move {
        keeper.run(refused, watched).await.map(drop)
    });
    let issuing = Issuing {
        server: server.clone(),
        cache: cache.clone(),
        key_type: plan.key_type,
        steps: steps.subscribe(),
        in_step: in_step.clone(),
        signing,
        journal: plan.journal.clone(),
    };
    supervisor.spawn("x509-svids", issuing.run());
    let synchroniser = Synchroniser {
        server: server.clone(),
        journal: plan.journal,
        svid: own_svid.clone(),
        cache: cache.clone(),
        trust: first.trust,
        bundle: bundles,
        in_step: stepped,
        signing: signed,
        last_sync: synced_at,
        clock,
        interval: plan.interval,
        whole_sets: plan.whole_sets,
        version: plan.version,
    };
    supervisor.spawn(
        "synchronisation",
        async move { synchroniser.run().await.map(drop) },
    );
    Ok(Synced {
        cache,
        svid: own_svid,
        last_sync,
        in_step,
        server,
    })
}

#[cfg(test)]
mod tests;
