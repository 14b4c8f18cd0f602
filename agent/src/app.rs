//! Wires the agent together.
//!
//! Owns the order of starting and stopping. Nothing is decided here that a part could decide itself. Invariant: when
//! [`start`] returns, the agent is attested, knows its entries and takes calls; whatever fails later takes the process
//! down by the supervisor.

mod run;

use std::collections::BTreeMap;
use std::error::Error;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use credence_crypto::x509::X509SvidKey;
use credence_runtime::audit::{AuditLog, AuditSink};
use credence_runtime::clock::{Clock, StepWatch};
use credence_runtime::config::{
    Document, HealthChecks, Reconfigurable, TelemetryConfig, reconfigure_on_signal,
};
use credence_runtime::fs::{FsError, bind_unix};
use credence_runtime::health::{Findings, serve_health};
use credence_runtime::log::{LogError, LogHandle};
use credence_runtime::supervisor::Supervisor;
use credence_runtime::telemetry::{Identity, Subject, Telemetry, TelemetryError};
use credence_runtime::tls::TlsError;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::api::admin::{AdminApi, AdminPlan, serve_admin};
use crate::api::istio::{Istio, IstioOptions};
use crate::api::{Ground, PublicApis, serve_explain, serve_public};
use crate::attestor::workload::{ProcFs, UnixOptions, WorkloadAttestors};
use crate::cache::Cache;
use crate::config::unix_from;
use crate::explain::{Node, Refusals, Running, SocketFile};
use crate::files::{self, Job, Status};
use crate::sync::{self, FirstError, SyncPlan};

pub use run::{RunError, run};

/// Workloads of any user come in.
const SOCKET_MODE: u32 = 0o777;
/// Delegates and operators of this user and group, as with SPIRE's.
const ADMIN_SOCKET_MODE: u32 = 0o770;

/// What an agent is made of: the configuration with every file it names opened.
#[derive(Debug)]
pub struct Plan {
    /// Its side of the server.
    pub sync: SyncPlan,
    /// The public socket; none if nothing is served on it.
    pub socket: Option<PathBuf>,
    /// The admin socket, if there is to be one.
    pub admin: Option<AdminPlan>,
    /// What is served there.
    pub apis: PublicApis,
    /// Istio's certificate signing service, if it is to be served.
    pub istio: Option<IstioOptions>,
    /// The workload attestor `unix`, if it is configured.
    pub unix: Option<UnixOptions>,
    /// A file with its options, read again at SIGUSR1.
    pub unix_file: Option<PathBuf>,
    /// Where `/proc` is.
    pub proc: ProcFs,
    /// Files that are kept current for software of this host.
    pub files: Vec<Job>,
    /// The HTTP health endpoint, if it is on.
    pub health: Option<HealthChecks>,
    /// Where measurements go.
    pub telemetry: TelemetryConfig,
    /// Where `explain` asks: a socket for root and this user.
    pub explain: PathBuf,
    /// Where identities that are handed out are recorded, if they are.
    pub audit: Option<AuditSink>,
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
    /// Nothing can be measured as configured.
    #[error("unable to set telemetry up")]
    Telemetry(#[from] TelemetryError),
    /// The audit log can't be written.
    #[error(transparent)]
    Audit(#[from] LogError),
    /// The health endpoint can't be had.
    #[error("unable to serve health checks on {address}")]
    Health {
        /// The address of the configuration.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The port for Istio can't be had.
    #[error("unable to serve Istio's clients on {address}")]
    Istio {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The port for Istio can't be protected.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// Signals can't be received.
    #[error("unable to listen for signals")]
    Signals(#[source] io::Error),
    /// It was stopped before it was ready: its supervisor says why.
    #[error("stopped before the first synchronisation")]
    Stopped,
}

/// An agent that takes calls.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The public socket.
    pub socket: Option<PathBuf>,
    /// What it holds.
    pub cache: Cache,
    /// The real address that Istio's clients connect to.
    pub istio: Option<SocketAddr>,
    /// The HTTP health endpoint's real address.
    pub health: Option<SocketAddr>,
    /// The real address of the page for Prometheus.
    pub prometheus: Option<SocketAddr>,
    /// Its own SVID.
    pub svid: watch::Receiver<Arc<X509SvidKey>>,
}

/// Starts an agent. It runs in tasks of `supervisor`, and stops with it.
///
/// # Errors
///
/// [`StartError`]. Tasks that were started go on until the supervisor's shutdown.
pub async fn start(
    plan: Plan,
    clock: Arc<dyn Clock>,
    log: LogHandle,
    supervisor: &Supervisor,
) -> Result<Bound, StartError> {
    let started = Instant::now();
    let trust_domain = plan.sync.trust_domain.clone();
    let subject = Subject {
        service: "spire_agent",
        version: plan.sync.version,
        trust_domain: &trust_domain,
        key_exchange: plan.sync.key_exchange,
    };
    let (telemetry, prometheus) =
        Telemetry::start(&plan.telemetry, subject, &clock, &log, supervisor).await?;
    plan.sync.keys.measure_by(&telemetry);
    let ready = Arc::new(AtomicBool::new(false));
    let files: Vec<_> = plan
        .files
        .into_iter()
        .map(|job| (Status::of(&job), job))
        .collect();
    let statuses = files.iter().map(|(status, _)| status.clone()).collect();
    let health = health(plan.health, (ready.clone(), statuses), supervisor).await?;
    let steps = StepWatch::spawn(clock.clone(), supervisor);
    let key_exchange = plan.sync.key_exchange;
    let unix = (plan.unix, plan.unix_file.as_deref());
    let node = Node {
        attestors: workload_attestors(unix, &plan.proc, &clock, supervisor)?,
        proc: plan.proc.clone(),
        clock: clock.clone(),
        journal: plan.sync.journal.clone(),
        refusals: Refusals::default(),
        workload_api: plan.apis.workload.is_some(),
        running: Arc::default(),
    };
    explain(&plan.explain, &node, supervisor);
    let mut synced = sync::start(plan.sync, clock.clone(), &steps, supervisor).await?;
    let held = synced.cache.clone();
    telemetry.set_identity(Identity {
        svid: synced.svid.clone(),
        bundles: Arc::new(move |trust_domain| held.bundle_of(trust_domain)),
    });
    // A caller that came before the first entries would be told that it has no identity.
    let stepped = synced.in_step.wait_for(|times| *times > 0).await.map(drop);
    stepped.map_err(|_| StartError::Stopped)?;

    node.attestors.measure_by(&telemetry);
    let audit = match &plan.audit {
        Some(sink) => Some(AuditLog::start(sink, &log, clock.clone(), supervisor)?),
        None => None,
    };
    let ground = Arc::new(Ground {
        cache: synced.cache.clone(),
        attestors: node.attestors.clone(),
        proc: plan.proc,
        clock: clock.clone(),
        refusals: node.refusals.clone(),
        audit: audit.clone(),
        shutdown: supervisor.token(),
    });
    let mut running = Running {
        cache: synced.cache.clone(),
        server: synced.server.clone(),
        socket: None,
        agent_id: synced.svid.borrow().svid.id.clone(),
    };
    if let Some(admin) = plan.admin {
        let api = AdminApi {
            delegates: admin.delegates,
            log,
            svid: synced.svid.clone(),
            last_sync: synced.last_sync,
            started,
            explain: node.clone(),
        };
        let listener = bind_unix(&admin.socket, ADMIN_SOCKET_MODE)?;
        tracing::info!(address = %admin.socket.display(), network = "unix", "Starting Admin APIs");
        supervisor.spawn_graceful("admin-api", serve_admin(listener, ground.clone(), api));
    }
    let istio = plan.istio.map(|options| Istio {
        options,
        ground: ground.clone(),
        signer: Arc::new(synced.server.clone()),
        trust_domain,
        svid: synced.svid.clone(),
        key_exchange,
    });
    let istio = serve_istio(istio, supervisor).await?;
    running.socket = match &plan.socket {
        Some(socket) => serve_socket(socket, ground, plan.apis, supervisor)?,
        None => None,
    };
    files::keep(files, (&synced.cache, audit.as_ref()), &clock, supervisor);
    // It was empty: an agent starts once.
    drop(node.running.set(running));
    ready.store(true, Ordering::Relaxed);
    Ok(Bound {
        socket: plan.socket,
        cache: synced.cache,
        istio,
        health,
        prometheus,
        svid: synced.svid,
    })
}

/// The public socket; answers with its file, by which it is known again.
fn serve_socket(
    socket: &Path,
    ground: Arc<Ground>,
    apis: PublicApis,
    supervisor: &Supervisor,
) -> Result<Option<SocketFile>, StartError> {
    let listener = bind_unix(socket, SOCKET_MODE)?;
    let file = SocketFile::at(socket);
    tracing::info!(
        address = %socket.display(),
        network = "unix",
        subsystem_name = "endpoints",
        apis = apis.name(),
        "Starting agent APIs"
    );
    supervisor.spawn_graceful("workload-api", serve_public(listener, ground, apis));
    Ok(file)
}

/// Answers with the real address, if there is to be one.
async fn serve_istio(
    istio: Option<Istio>,
    supervisor: &Supervisor,
) -> Result<Option<SocketAddr>, StartError> {
    let Some(istio) = istio else { return Ok(None) };
    let address = istio.options.bind;
    let failed = |source| StartError::Istio { address, source };
    let listener = TcpListener::bind(address).await.map_err(failed)?;
    let bound = listener.local_addr().map_err(failed)?;
    istio.serve(listener, supervisor)?;
    tracing::info!(address = %bound, network = "tcp", subsystem_name = "endpoints", "Starting Istio CA API");
    Ok(Some(bound))
}

/// With a data file, `unix` has at each SIGUSR1 what the file says then. Without, the signal does nothing.
fn workload_attestors(
    (unix, file): (Option<UnixOptions>, Option<&Path>),
    proc: &ProcFs,
    clock: &Arc<dyn Clock>,
    supervisor: &Supervisor,
) -> Result<Arc<WorkloadAttestors>, StartError> {
    let attestors = Arc::new(WorkloadAttestors::new(unix, proc.clone(), clock.clone()));
    let reconfigurable = |file| {
        let attestors = attestors.clone();
        let apply = move |document: &Document| {
            attestors.configure_unix(unix_from(document)?);
            Ok(())
        };
        Reconfigurable::new("WorkloadAttestor", "unix", file, Box::new(apply))
    };
    let plugins = file.map(reconfigurable).into_iter().collect();
    reconfigure_on_signal(plugins, supervisor).map_err(StartError::Signals)?;
    Ok(attestors)
}

/// An agent that can't be asked serves all the same.
fn explain(socket: &Path, node: &Node, supervisor: &Supervisor) {
    if let Err(error) = serve_explain(socket, node.clone(), supervisor) {
        let error = &error as &dyn Error;
        tracing::warn!(error, "Unable to serve explanations");
    }
}

/// An agent that has not attested yet is live but not ready, as SPIRE has it: a restart wouldn't help.
async fn health(
    checks: Option<HealthChecks>,
    (ready, files): (Arc<AtomicBool>, Vec<Status>),
    supervisor: &Supervisor,
) -> Result<Option<SocketAddr>, StartError> {
    let Some(checks) = checks else { return Ok(None) };
    let address = format!("{}:{}", checks.bind_address, checks.bind_port);
    let find = move || {
        let ready = ready.load(Ordering::Relaxed);
        let fault = (!ready).then(|| "not attested and synchronised yet".to_owned());
        let mut subsystems: BTreeMap<_, _> = [("agent", fault)].into();
        // Shown, but no reason to send workloads elsewhere: the agent serves them all the same.
        if !files.is_empty() {
            subsystems.insert("files", files.iter().find_map(Status::fault));
        }
        Findings {
            live: true,
            ready,
            subsystems,
        }
    };
    let served = serve_health(checks, find, supervisor).await;
    served
        .map(Some)
        .map_err(|source| StartError::Health { address, source })
}
