//! Wires the agent together.
//!
//! Owns the order of starting and stopping. Nothing is decided here that a part could decide itself. Invariant: when
//! [`start`] returns, the agent is attested, knows its entries and takes calls; whatever fails later takes the process
//! down by the supervisor.

mod run;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use credence_crypto::x509::X509SvidKey;
use credence_runtime::clock::{Clock, StepWatch};
use credence_runtime::config::HealthChecks;
use credence_runtime::fs::{FsError, bind_unix};
use credence_runtime::health::{Findings, serve_health};
use credence_runtime::supervisor::Supervisor;
use tokio::sync::watch;

use crate::api::workload::WorkloadOptions;
use crate::api::{PublicApi, serve_public};
use crate::attestor::workload::{ProcFs, UnixOptions, WorkloadAttestors};
use crate::cache::Cache;
use crate::explain::Refusals;
use crate::sync::{self, FirstError, SyncPlan};

pub use run::{RunError, run};

/// Workloads of any user come in.
const SOCKET_MODE: u32 = 0o777;

/// What an agent is made of: the configuration with every file it names opened.
#[derive(Debug)]
pub struct Plan {
    /// Its side of the server.
    pub sync: SyncPlan,
    /// The Workload API's socket.
    pub socket: PathBuf,
    /// What the Workload API does; none if it isn't served.
    pub workload: Option<WorkloadOptions>,
    /// The workload attestor `unix`, if it is configured.
    pub unix: Option<UnixOptions>,
    /// Where `/proc` is.
    pub proc: ProcFs,
    /// The HTTP health endpoint, if it is on.
    pub health: Option<HealthChecks>,
}

/// Why the agent didn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// It has no SVID.
    #[error(transparent)]
    First(#[from] FirstError),
    /// The socket can't be made.
    #[error("unable to listen on the socket")]
    Socket(#[from] FsError),
    /// The health endpoint can't be had.
    #[error("unable to serve health checks on {address}")]
    Health {
        /// The address of the configuration.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It was stopped before it was ready: its supervisor says why.
    #[error("stopped before the first synchronisation")]
    Stopped,
}

/// An agent that takes calls.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The Workload API's socket.
    pub socket: PathBuf,
    /// What it holds.
    pub cache: Cache,
    /// The HTTP health endpoint's real address.
    pub health: Option<SocketAddr>,
    /// Its own SVID.
    pub svid: watch::Receiver<Arc<X509SvidKey>>,
}

/// Starts an agent. It runs in tasks of `supervisor`, and stops with it.
///
/// # Errors
///
/// [`StartError`]. Tasks that were started go on until the supervisor's shutdown.
pub async fn start(plan: Plan, clock: Arc<dyn Clock>, supervisor: &Supervisor) -> Result<Bound, StartError> {
    let ready = Arc::new(AtomicBool::new(false));
    let health = health(plan.health, ready.clone(), supervisor).await?;
    let steps = StepWatch::spawn(clock.clone(), supervisor);
    let mut synced = sync::start(plan.sync, clock.clone(), &steps, supervisor).await?;
    // A caller that came before the first entries would be told that it has no identity.
    let stepped = synced.in_step.wait_for(|times| *times > 0).await.map(drop);
    stepped.map_err(|_| StartError::Stopped)?;

    let listener = bind_unix(&plan.socket, SOCKET_MODE)?;
    let api = PublicApi {
        cache: synced.cache.clone(),
        attestors: Arc::new(WorkloadAttestors::new(
            plan.unix,
            plan.proc.clone(),
            clock.clone(),
        )),
        proc: plan.proc,
        clock,
        workload: plan.workload,
        refusals: Refusals::default(),
    };
    tracing::info!(
        address = %plan.socket.display(),
        apis = "Workload and SDS APIs",
        network = "unix",
        subsystem_name = "endpoints",
        "Starting agent APIs"
    );
    let shutdown = supervisor.token();
    supervisor.spawn_graceful("workload-api", serve_public(listener, api, shutdown));
    ready.store(true, Ordering::Relaxed);
    Ok(Bound {
        socket: plan.socket,
        cache: synced.cache,
        health,
        svid: synced.svid,
    })
}

/// An agent that has not attested yet is live but not ready, as SPIRE has it: a restart wouldn't help.
async fn health(
    checks: Option<HealthChecks>,
    ready: Arc<AtomicBool>,
    supervisor: &Supervisor,
) -> Result<Option<SocketAddr>, StartError> {
    let Some(checks) = checks else { return Ok(None) };
    let address = format!("{}:{}", checks.bind_address, checks.bind_port);
    let find = move || {
        let ready = ready.load(Ordering::Relaxed);
        let fault = (!ready).then(|| "not attested and synchronised yet".to_owned());
        Findings {
            live: true,
            ready,
            subsystems: [("agent", fault)].into(),
        }
    };
    let served = serve_health(checks, find, supervisor).await;
    served
        .map(Some)
        .map_err(|source| StartError::Health { address, source })
}
