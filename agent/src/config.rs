//! The agent's configuration: HCL or JSON in SPIRE's shape, flags of the command line over it, SPIRE's defaults under it.
//!
//! Owns every key that an agent has, and what becomes of those it does nothing with: harmless ones are warned of, those
//! whose absence would weaken what the operator asked for are refused. `validate` and `run` read by the one [`load`].
//! Invariant: an [`AgentConfig`] needs no further checks.
//!
//! [`load`]: AgentConfig::load

mod bootstrap;
mod plugins;
mod sockets;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use credence_crypto::KeyType;
use credence_identity::TrustDomain;
use credence_runtime::config::hcl::Body;
use credence_runtime::config::{
    Document, Fault, HealthChecks, Section, TelemetryConfig, UnknownKeys, feature_flags, health_checks,
    key_exchange, log_options, safe_path, telemetry,
};
use credence_runtime::log::LogOptions;
use credence_runtime::tls::KeyExchange;

use crate::app::AdminPlan;
use crate::attestor::workload::UnixOptions;
use crate::cache::CacheLimits;
pub use bootstrap::{BundleFormat, BundleSource};
pub use plugins::{KeyManagerConfig, NodeAttestorConfig};

/// Something that doesn't keep the agent from starting.
pub type Warning = Fault;

/// Where SPIFFE clients of SPIRE's users look for the agent.
pub const DEFAULT_SOCKET_PATH: &str = "/tmp/spire-agent/public/api.sock";
const DEFAULT_SYNC_INTERVAL: Duration = Duration::from_secs(5);
/// All that an agent needs to know to be built.
#[derive(Debug, Clone)]
pub struct AgentConfig {
    /// The trust domain it serves.
    pub trust_domain: TrustDomain,
    /// The server.
    pub server: ServerAddress,
    /// Folder of the state file; made if missing.
    pub data_dir: PathBuf,
    /// The public socket, none where nothing is served on it; the folder is made if missing.
    pub socket_path: Option<PathBuf>,
    /// The admin socket, if there is to be one.
    pub admin: Option<AdminPlan>,
    /// The log.
    pub log: LogOptions,
    /// By what the very first contact is trusted.
    pub bootstrap: BundleSource,
    /// How the host is proved.
    pub node_attestor: NodeAttestorConfig,
    /// Where the agent's own keys live.
    pub key_manager: KeyManagerConfig,
    /// The workload attestor `unix`, if configured.
    pub unix: Option<UnixOptions>,
    /// Keys of workloads.
    pub workload_key_type: KeyType,
    /// How much is cached.
    pub cache: CacheLimits,
    /// How often the server is polled where it can't push.
    pub sync_interval: Duration,
    /// What is agreed to with the server.
    pub key_exchange: KeyExchange,
    /// No Workload API is served.
    pub disable_workload_api: bool,
    /// Callers without an identity get bundles.
    pub allow_unauthenticated_verifiers: bool,
    /// Claims of foreign JWT-SVIDs that are passed on.
    pub allowed_foreign_jwt_claims: BTreeSet<String>,
    /// HTTP probes, if switched on.
    pub health_checks: Option<HealthChecks>,
    /// Where measurements go.
    pub telemetry: TelemetryConfig,
}

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

/// What the command line says; it wins over the file. Texts as typed.
#[derive(Debug, Clone, Default)]
pub struct AgentOverrides {
    /// `-dataDir`
    pub data_dir: Option<String>,
    /// `-joinToken`
    pub join_token: Option<String>,
    /// `-joinTokenFile`
    pub join_token_file: Option<String>,
    /// `-logFile`
    pub log_file: Option<String>,
    /// `-logFormat`
    pub log_format: Option<String>,
    /// `-logLevel`
    pub log_level: Option<String>,
    /// `-logSourceLocation`
    pub log_source_location: Option<bool>,
    /// `-serverAddress`
    pub server_address: Option<String>,
    /// `-serverPort`
    pub server_port: Option<String>,
    /// `-socketPath`
    pub socket_path: Option<String>,
    /// `-trustDomain`
    pub trust_domain: Option<String>,
    /// `-trustBundle`
    pub trust_bundle_path: Option<String>,
    /// `-trustBundleUrl`
    pub trust_bundle_url: Option<String>,
    /// `-trustBundleFormat`
    pub trust_bundle_format: Option<String>,
    /// `-insecureBootstrap`
    pub insecure_bootstrap: Option<bool>,
    /// `-rebootstrapMode`
    pub rebootstrap_mode: Option<String>,
    /// `-rebootstrapDelay`
    pub rebootstrap_delay: Option<String>,
    /// `-allowUnauthenticatedVerifiers`
    pub allow_unauthenticated_verifiers: Option<bool>,
    /// `-disableWorkloadAPI`
    pub disable_workload_api: Option<bool>,
    /// `-disableSDSAPI`
    pub disable_sds_api: Option<bool>,
}

impl AgentConfig {
    /// Reads a configuration file; with `expand_env`, environment variables in it are expanded first.
    ///
    /// # Errors
    /// All faults of the file and the flags at once, each with its place.
    pub fn load(
        path: &Path,
        overrides: &AgentOverrides,
        expand_env: bool,
    ) -> Result<(AgentConfig, Vec<Warning>), Vec<Fault>> {
        let document = Document::load_expanded(path, expand_env).map_err(|fault| vec![fault])?;
        Self::read(&document, overrides)
    }

    fn read(
        document: &Document,
        overrides: &AgentOverrides,
    ) -> Result<(AgentConfig, Vec<Warning>), Vec<Fault>> {
        document.read("agent", &overrides.body(), |root, agent| {
            let telemetry = telemetry(root);
            let health_checks = health_checks(root);
            let plugins = plugins::read(root);
            let config = read_agent(agent?, plugins, health_checks)?;
            Some(AgentConfig { telemetry, ..config })
        })
    }
}

fn read_agent(
    agent: &Section<'_>,
    plugins: Option<plugins::Plugins>,
    health_checks: Option<HealthChecks>,
) -> Option<AgentConfig> {
    agent.without_effect(&[
        "availability_target",
        "log_selectors",
        "profiling_enabled",
        "profiling_port",
        "profiling_freq",
        "profiling_names",
        "sds",
    ]);
    // Every reader runs before any absence ends the reading, so that all faults show.
    let trust_domain = trust_domain(agent);
    let server = server_address(agent);
    let data_dir = safe_path(agent, "data_dir", ".");
    let log = log_options(agent);
    let bootstrap = bootstrap::read(agent);
    let join_token = plugins::join_token(agent);
    let experimental = read_experimental(agent);
    let cache = cache_limits(agent, experimental.jwt_cache_hit_timeout);
    let workload_key_type = workload_key_type(agent);
    let disable_workload_api = agent.boolean("disable_workload_api").unwrap_or(false);
    let sockets = sockets::read(agent, trust_domain.as_ref(), disable_workload_api);
    let allow_unauthenticated_verifiers = agent.boolean("allow_unauthenticated_verifiers").unwrap_or(false);
    let claims = agent
        .strings("allowed_foreign_jwt_claims")
        .into_iter()
        .map(|claim| claim.value)
        .collect();
    let plugins = plugins?;
    Some(AgentConfig {
        trust_domain: trust_domain?,
        server: server?,
        data_dir,
        socket_path: sockets.public,
        admin: sockets.admin,
        log,
        bootstrap: bootstrap?,
        node_attestor: plugins.node_attestor(agent, join_token)?,
        key_manager: plugins.key_manager?,
        unix: plugins.unix,
        workload_key_type,
        cache,
        sync_interval: experimental.sync_interval,
        key_exchange: experimental.key_exchange,
        disable_workload_api,
        allow_unauthenticated_verifiers,
        allowed_foreign_jwt_claims: claims,
        health_checks,
        telemetry: TelemetryConfig::default(),
    })
}

struct Experimental {
    key_exchange: KeyExchange,
    sync_interval: Duration,
    jwt_cache_hit_timeout: Option<Duration>,
}

fn read_experimental(agent: &Section<'_>) -> Experimental {
    let block = agent.block_or_empty("experimental");
    block.without_effect(&[
        "named_pipe_name",
        "admin_named_pipe_name",
        "broker",
        "ratelimit",
        "use_sync_authorized_entries",
    ]);
    let key_exchange = key_exchange(&block);
    feature_flags(&block);
    let sync_interval = block.duration("sync_interval").unwrap_or(DEFAULT_SYNC_INTERVAL);
    if sync_interval.is_zero() {
        block.fault("sync_interval", "must be greater than zero");
    }
    let jwt_cache_hit_timeout = block.duration("jwt_svid_cache_hit_timeout");
    if jwt_cache_hit_timeout.is_some_and(|timeout| !(5..30).contains(&timeout.as_secs())) {
        block.fault(
            "jwt_svid_cache_hit_timeout",
            "must be at least 5s and less than 30s",
        );
    }
    block.finish(UnknownKeys::Warn);
    Experimental {
        sync_interval,
        jwt_cache_hit_timeout,
        key_exchange,
    }
}

fn trust_domain(agent: &Section<'_>) -> Option<TrustDomain> {
    let text = agent.required("trust_domain")?;
    let parsed = TrustDomain::parse_lenient(&text);
    parsed
        .map_err(|error| agent.fault("trust_domain", format_args!("could not parse {text:?}: {error}")))
        .ok()
}

fn server_address(agent: &Section<'_>) -> Option<ServerAddress> {
    let host = agent.required("server_address");
    let port = agent
        .required("server_port")
        .and_then(|_| agent.number::<u16>("server_port"));
    if port == Some(0) {
        agent.fault("server_port", "must not be 0");
    }
    Some(ServerAddress {
        host: host?,
        port: port?,
    })
}

fn workload_key_type(agent: &Section<'_>) -> KeyType {
    let key_type = agent
        .parsed("workload_x509_svid_key_type")
        .unwrap_or(KeyType::EcP256);
    if key_type == KeyType::Rsa4096 {
        agent.fault(
            "workload_x509_svid_key_type",
            "must be rsa-2048, ec-p256 or ec-p384",
        );
    }
    key_type
}

fn cache_limits(agent: &Section<'_>, hit_timeout: Option<Duration>) -> CacheLimits {
    let defaults = CacheLimits::default();
    let size = |key, default| match agent.number::<usize>(key) {
        Some(0) | None => default,
        Some(size) => size,
    };
    CacheLimits {
        x509_svids: size("x509_svid_cache_max_size", defaults.x509_svids),
        jwt_svids: size("jwt_svid_cache_max_size", defaults.jwt_svids),
        jwt_cache_hit_timeout: hit_timeout.unwrap_or(defaults.jwt_cache_hit_timeout),
    }
}

impl AgentOverrides {
    fn body(&self) -> Body {
        let truth = |value: Option<bool>| value.map(|on| if on { "true" } else { "false" });
        Body::from_flags([
            ("data_dir", self.data_dir.as_deref()),
            ("join_token", self.join_token.as_deref()),
            ("join_token_file", self.join_token_file.as_deref()),
            ("log_file", self.log_file.as_deref()),
            ("log_format", self.log_format.as_deref()),
            ("log_level", self.log_level.as_deref()),
            ("log_source_location", truth(self.log_source_location)),
            ("server_address", self.server_address.as_deref()),
            ("server_port", self.server_port.as_deref()),
            ("socket_path", self.socket_path.as_deref()),
            ("trust_domain", self.trust_domain.as_deref()),
            ("trust_bundle_path", self.trust_bundle_path.as_deref()),
            ("trust_bundle_url", self.trust_bundle_url.as_deref()),
            ("trust_bundle_format", self.trust_bundle_format.as_deref()),
            ("insecure_bootstrap", truth(self.insecure_bootstrap)),
            ("rebootstrap_mode", self.rebootstrap_mode.as_deref()),
            ("rebootstrap_delay", self.rebootstrap_delay.as_deref()),
            (
                "allow_unauthenticated_verifiers",
                truth(self.allow_unauthenticated_verifiers),
            ),
            ("disable_workload_api", truth(self.disable_workload_api)),
            ("disable_sds_api", truth(self.disable_sds_api)),
        ])
    }
}

#[cfg(test)]
mod tests;
