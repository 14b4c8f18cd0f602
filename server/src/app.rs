//! Wires the server together.
//!
//! Owns the order of starting and stopping. Nothing is decided here that a part could decide itself. Invariant: when
//! [`start`] returns, the server takes calls; whatever fails later takes the process down by the supervisor.

mod connection;
mod health;
mod listener;
mod run;
mod strangers;

use std::collections::{HashMap, HashSet};
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use credence_identity::{SpiffeId, TrustDomain};
use credence_runtime::audit::AuditLog;
use credence_runtime::clock::{Clock, StepWatch};
use credence_runtime::config::{
    Document, HealthChecks, Reconfigurable, TelemetryConfig, reconfigure_on_signal,
};
use credence_runtime::fs::{FsError, bind_unix, ensure_dir, refuse_foreign_tmp};
use credence_runtime::grpc::accept_tls;
use credence_runtime::health::serve_health;
use credence_runtime::log::{LogError, LogHandle};
use credence_runtime::supervisor::Supervisor;
use credence_runtime::telemetry::{Identity, Subject, Telemetry, TelemetryError};
use credence_runtime::tls::{BundleLookup, TlsError, server_config};
use tokio::net::TcpListener;
use tokio::time::Instant;

use crate::api::{Context, Limits, Presence, Refusals, Services};
use crate::attestor::x509pop::{self, X509Pop, X509PopConfig};
use crate::attestor::{Attestors, NodeAttestor};
use crate::ca::{self, Authority, AuthorityError};
use crate::config::{Operations, x509pop_from};
use crate::holdings::Holdings;
use crate::keymanager::{KeyManager, MeasuredKeyManager};
use crate::registry::{self, NodePruning, OpenError, Registry};
use crate::store::{SqliteOptions, SqliteStore, StoreError};

use listener::{Guests, serve_tcp, serve_unix};
pub use run::{RunError, run};

/// The mode of the Unix socket, and of its folder where that is made.
const SOCKET_MODE: u32 = 0o770;
const FOLDER_MODE: u32 = 0o750;

/// What a server is made of: the configuration with every file it names read.
#[derive(Debug)]
pub struct Plan {
    /// The TCP endpoint; port 0 for a free one.
    pub bind: SocketAddr,
    /// The Unix socket.
    pub socket: PathBuf,
    /// The database.
    pub database: SqliteOptions,
    /// Where the authorities' keys live.
    pub keys: Arc<dyn KeyManager>,
    /// What is signed, and for how long.
    pub authorities: ca::Settings,
    /// TLS callers that are admins (`admin_ids`).
    pub admin_ids: HashSet<SpiffeId>,
    /// `ratelimit.attestation`.
    pub limit_attestation: bool,
    /// `ratelimit.signing`.
    pub limit_signing: bool,
    /// When expired nodes are removed.
    pub node_pruning: Option<NodePruning>,
    /// The x509pop attestor, if it is configured.
    pub x509pop: Option<X509PopConfig>,
    /// The HTTP health endpoint, if it is on.
    pub health: Option<HealthChecks>,
    /// Where measurements go.
    pub telemetry: TelemetryConfig,
    /// What only some operators switch on.
    pub operations: Operations,
}

/// Why the server didn't start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The database can't be opened.
    #[error("unable to open the datastore")]
    Store(#[from] StoreError),
    /// The database can't be read.
    #[error("unable to load the registry")]
    Registry(#[from] OpenError),
    /// There is no authority that could sign.
    #[error("unable to start the authorities")]
    Authority(#[from] AuthorityError),
    /// The server's SVID is of no use for TLS.
    #[error("unable to set TLS up")]
    Tls(#[from] TlsError),
    /// The Unix socket can't be made.
    #[error("unable to listen on the socket")]
    Socket(#[from] FsError),
    /// The TCP port can't be had.
    #[error("unable to listen on {address}")]
    Bind {
        /// The address of the configuration.
        address: SocketAddr,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The audit log can't be written.
    #[error(transparent)]
    Audit(#[from] LogError),
    /// Signals can't be received.
    #[error("unable to listen for signals")]
    Signals(#[source] io::Error),
    /// Nothing can be measured as configured.
    #[error("unable to set telemetry up")]
    Telemetry(#[from] TelemetryError),
    /// The health endpoint's address means nothing, or can't be had.
    #[error("unable to serve health checks on {address}")]
    Health {
        /// The address of the configuration.
        address: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

/// A server that takes calls.
#[derive(Debug, Clone)]
pub struct Bound {
    /// The TCP endpoint's real address.
    pub tcp: SocketAddr,
    /// The Unix socket.
    pub socket: PathBuf,
    /// The HTTP health endpoint's real address.
    pub health: Option<SocketAddr>,
    /// The real address of the page for Prometheus.
    pub prometheus: Option<SocketAddr>,
}

/// Starts a server. It runs in tasks of `supervisor`, and stops with it: gracefully within ten seconds.
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
    credence_runtime::descriptors::raise_limit();
    let trust_domain = plan.authorities.trust_domain.clone();
    let (telemetry, prometheus) = measure(&plan, &clock, &log, supervisor).await?;
    let steps = StepWatch::spawn(Arc::clone(&clock), supervisor);
    let store = SqliteStore::open(&plan.database).await?;
    let settings = registry::Settings {
        trust_domain: trust_domain.clone(),
        node_pruning: plan.node_pruning,
    };
    let opening = Registry::open(store, settings, Arc::clone(&clock), &steps, supervisor);
    let registry = telemetry.watch("entry.cache.reload", opening).await?;
    registry.measure_by(&telemetry);
    let authority = Authority::start(
        plan.authorities,
        registry.clone(),
        MeasuredKeyManager::wrap(plan.keys, &telemetry),
        Arc::clone(&clock),
        &steps,
        supervisor,
    )
    .await?;
    let server_svid = authority.server_svid();
    let bundles = bundles(registry.clone(), trust_domain.clone(), &plan.admin_ids);
    telemetry.set_identity(Identity {
        svid: server_svid.clone(),
        bundles: Arc::clone(&bundles),
    });
    let tls = server_config(
        server_svid.clone(),
        bundles,
        Arc::clone(&clock),
        plan.operations.key_exchange,
    )?;
    let mut attestors: Vec<Arc<dyn NodeAttestor>> = Vec::new();
    let mut plugins = Vec::new();
    if let Some(config) = plan.x509pop {
        let attestor = x509pop_attestor(config, &registry, &clock);
        if let Some(file) = &plan.operations.x509pop_file {
            plugins.push(reconfigurable(&attestor, file));
        }
        attestors.push(Arc::new(attestor));
    }
    reconfigure_on_signal(plugins, supervisor).map_err(StartError::Signals)?;
    let audit = match &plan.operations.audit {
        Some(sink) => Some(AuditLog::start(sink, &log, Arc::clone(&clock), supervisor)?),
        None => None,
    };
    let context = Arc::new(Context {
        trust_domain: trust_domain.clone(),
        registry,
        jwt_disabled: authority.settings().disable_jwt_svids,
        authority,
        holdings: Holdings::new(clock.now()),
        clock,
        steps,
        admin_ids: plan.admin_ids.clone(),
        agent_id_as_selector: plan.operations.agent_id_as_selector,
        attestors: Attestors::new(attestors),
        limits: Limits::new(plan.limit_attestation, plan.limit_signing),
        refusals: Refusals::default(),
        audit,
        policy: plan.operations.policy,
        presence: Presence::default(),
        log,
        server_svid,
        started: Instant::now(),
    });
    let services = Arc::new(Services::new(Arc::clone(&context)));

    let unix = listen_unix(&plan.socket)?;
    let failed = |source| StartError::Bind {
        address: plan.bind,
        source,
    };
    let listener = TcpListener::bind(plan.bind).await.map_err(failed)?;
    let tcp = listener.local_addr().map_err(failed)?;
    let health = probes(plan.health, context, supervisor).await?;
    let guests = Guests {
        trust_domain,
        admin_ids: plan.admin_ids,
    };
    let incoming = accept_tls(listener, tls, plan.operations.trusted_proxies, supervisor);
    let stop = supervisor.token();
    supervisor.spawn_graceful(
        "tcp-server",
        serve_tcp(incoming, guests, Arc::clone(&services), stop.clone()),
    );
    tracing::info!(address = %tcp, network = "tcp", subsystem_name = "endpoints", "Starting Server APIs");
    supervisor.spawn_graceful("uds-server", serve_unix(unix, services, stop));
    tracing::info!(address = %plan.socket.display(), network = "unix", subsystem_name = "endpoints", "Starting Server APIs");
    Ok(Bound {
        tcp,
        socket: plan.socket,
        health,
        prometheus,
    })
}

/// x509pop follows its data file.
fn reconfigurable(attestor: &X509Pop, file: &Path) -> Reconfigurable {
    let attestor = attestor.clone();
    let apply = move |document: &Document| {
        attestor.configure(x509pop_from(document)?);
        Ok(())
    };
    Reconfigurable::new("NodeAttestor", x509pop::TYPE, file, Box::new(apply))
}

/// Starts what measures, and says where Prometheus can read.
async fn measure(
    plan: &Plan,
    clock: &Arc<dyn Clock>,
    log: &LogHandle,
    supervisor: &Supervisor,
) -> Result<(Telemetry, Option<SocketAddr>), TelemetryError> {
    let subject = Subject {
        service: "spire_server",
        version: env!("CARGO_PKG_VERSION"),
        trust_domain: &plan.authorities.trust_domain,
        key_exchange: plan.operations.key_exchange,
    };
    Telemetry::start(&plan.telemetry, subject, clock, log, supervisor).await
}

/// Serves the HTTP probes, if they are on.
async fn probes(
    checks: Option<HealthChecks>,
    context: Arc<Context>,
    supervisor: &Supervisor,
) -> Result<Option<SocketAddr>, StartError> {
    let Some(checks) = checks else { return Ok(None) };
    let address = format!("{}:{}", checks.bind_address, checks.bind_port);
    let served = serve_health(checks, move || health::findings(&context), supervisor).await;
    served
        .map(Some)
        .map_err(|source| StartError::Health { address, source })
}

/// The x509pop attestor, which takes SVIDs of the own trust domain by its bundle of the moment.
fn x509pop_attestor(config: X509PopConfig, registry: &Registry, clock: &Arc<dyn Clock>) -> X509Pop {
    let (own, bundles) = (registry.read().trust_domain().clone(), registry.clone());
    let bundle = {
        let own = own.clone();
        Arc::new(move || bundles.read().bundle(&own).cloned())
    };
    X509Pop::new(own, config, bundle, Arc::clone(clock))
}

/// The bundles that TLS callers are verified by: the own trust domain's, and those of foreign admins.
fn bundles(registry: Registry, own: TrustDomain, admin_ids: &HashSet<SpiffeId>) -> BundleLookup {
    let foreign: HashSet<TrustDomain> = admin_ids.iter().map(SpiffeId::trust_domain).collect();
    let warned: Mutex<HashMap<TrustDomain, Instant>> = Mutex::default();
    Arc::new(move |trust_domain| {
        let is_own = *trust_domain == own;
        if !is_own && !foreign.contains(trust_domain) {
            return None;
        }
        let bundle = registry.read().bundle(trust_domain).cloned();
        if bundle.is_none() && !is_own {
            warn_of_missing(trust_domain, &warned);
        }
        bundle
    })
}

/// Says once a minute that admins can't be verified.
fn warn_of_missing(trust_domain: &TrustDomain, warned: &Mutex<HashMap<TrustDomain, Instant>>) {
    const EVERY: Duration = Duration::from_secs(60);
    let mut warned = warned.lock().unwrap_or_else(PoisonError::into_inner);
    if warned
        .get(trust_domain)
        .is_some_and(|last| last.elapsed() < EVERY)
    {
        return;
    }
    warned.insert(trust_domain.clone(), Instant::now());
    tracing::warn!(
        subsystem_name = "endpoints",
        trust_domain = %trust_domain,
        "No bundle found for foreign admin trust domain; admins from this trust domain will not be able to connect. \
         Make sure this trust domain is correctly federated."
    );
}

fn listen_unix(socket: &Path) -> Result<tokio::net::UnixListener, FsError> {
    refuse_foreign_tmp(socket)?;
    if let Some(folder) = socket.parent() {
        ensure_dir(folder, FOLDER_MODE)?;
    }
    bind_unix(socket, SOCKET_MODE)
}
