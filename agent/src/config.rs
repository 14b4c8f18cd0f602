//! The agent's configuration: HCL or JSON in SPIRE's shape, flags of the command line over it, SPIRE's defaults under it.
//!
//! Owns every key that an agent has, and what becomes of those it does nothing with: harmless ones are warned of, those
//! whose absence would weaken what the operator asked for are refused. `validate` and `run` read by the one [`load`].
//! Invariant: an [`AgentConfig`] needs no further checks.
//!
//! [`load`]: AgentConfig::load

mod bootstrap;
mod experimental;
mod istio;
mod plugins;
mod sockets;

use std::path::{Path, PathBuf};
use std::time::Duration;

use credence_crypto::KeyType;
use credence_identity::TrustDomain;
use credence_runtime::audit::AuditSink;
use credence_runtime::config::hcl::Body;
use credence_runtime::config::{
    Document, Fault, HealthChecks, Section, TelemetryConfig, UnknownKeys, audit_sink, health_checks,
    log_options, safe_path, telemetry,
};
use credence_runtime::log::LogOptions;
use credence_runtime::tls::KeyExchange;

use crate::api::admin::AdminPlan;
use crate::api::istio::IstioOptions;
use crate::api::limits::RateLimits;
use crate::api::sds::SdsOptions;
use crate::api::workload::WorkloadOptions;
use crate::attestor::workload::UnixOptions;
use crate::cache::CacheLimits;
use crate::files::{self, Job};
use crate::sync::{BundleSource, Rebootstrap, ServerAddress};
pub use plugins::{KeyManagerConfig, NodeAttestorConfig, unix_from};

/// Something that doesn't keep the agent from starting.
pub type Warning = Fault;

/// Where SPIFFE clients of SPIRE's users look for the agent.
pub const DEFAULT_SOCKET_PATH: &str = "/tmp/spire-agent/public/api.sock";
const SHORTEST_AVAILABILITY_TARGET: Duration = Duration::from_secs(24 * 60 * 60);

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
    /// What becomes of a server of unknown authority.
    pub rebootstrap: Rebootstrap,
    /// How the host is proved.
    pub node_attestor: NodeAttestorConfig,
    /// Where the agent's own keys live.
    pub key_manager: KeyManagerConfig,
    /// The workload attestor `unix`, if configured.
    pub unix: Option<UnixOptions>,
    /// Its `plugin_data_file`, read again at SIGUSR1.
    pub unix_file: Option<PathBuf>,
    /// Keys of workloads.
    pub workload_key_type: KeyType,
    /// How much is cached.
    pub cache: CacheLimits,
    /// How often the server is polled where it can't push.
    pub sync_interval: Duration,
    /// What is agreed to with the server.
    pub key_exchange: KeyExchange,
    /// Whether the server is only asked for whole sets of entries.
    pub whole_sets: bool,
    /// What the Workload API does; none if it isn't served.
    pub workload: Option<WorkloadOptions>,
    /// What Envoy's secrets are called; none if they aren't served.
    pub sds: Option<SdsOptions>,
    /// Files that are kept current for software of this host.
    pub files: Vec<Job>,
    /// Istio's certificate signing service, if it is to be served.
    pub istio: Option<IstioOptions>,
    /// HTTP probes, if switched on.
    pub health_checks: Option<HealthChecks>,
    /// Where identities that are handed out are recorded (`audit_log_enabled`, which SPIRE's agent hasn't got).
    pub audit: Option<AuditSink>,
    /// Where measurements go.
    pub telemetry: TelemetryConfig,
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
        "profiling_enabled",
        "profiling_port",
        "profiling_freq",
        "profiling_names",
        "retry_bootstrap",
    ]);
    // Every reader runs before any absence ends the reading, so that all faults show.
    let trust_domain = trust_domain(agent);
    let server = server_address(agent);
    let data_dir = safe_path(agent, "data_dir", ".");
    let audit = audit_sink(agent);
    let log = log_options(agent);
    let (bootstrap, rebootstrap) = bootstrap::read(agent);
    let join_token = plugins::join_token(agent);
    let experimental = experimental::read(agent);
    let cache = cache_limits(agent, experimental.jwt_cache_hit_timeout);
    let sds = sds(agent, experimental.rate_limits);
    let files = files::read_blocks(agent);
    let istio = istio::read(agent, trust_domain.as_ref());
    let workload_key_type = workload_key_type(agent);
    let disable_workload_api = agent.boolean("disable_workload_api").unwrap_or(false);
    let disable_sds_api = agent.boolean("disable_sds_api").unwrap_or(false);
    // With one of the two APIs the socket is there, as SPIRE has it: health and reflection are on it too.
    let is_public = !(disable_workload_api && disable_sds_api);
    let sockets = sockets::read(agent, trust_domain.as_ref(), is_public);
    let texts = |key| agent.strings(key).into_iter().map(|text| text.value);
    let workload = WorkloadOptions {
        allow_unauthenticated_verifiers: agent.boolean("allow_unauthenticated_verifiers").unwrap_or(false),
        allowed_foreign_jwt_claims: texts("allowed_foreign_jwt_claims").collect(),
        rate_limits: experimental.rate_limits,
        wit_svid: experimental.wit_svid,
        log_selectors: texts("log_selectors").collect(),
    };
    let plugins = plugins?;
    Some(AgentConfig {
        trust_domain: trust_domain?,
        server: server?,
        data_dir,
        socket_path: sockets.public,
        admin: sockets.admin,
        log,
        bootstrap: bootstrap?,
        rebootstrap,
        node_attestor: plugins.node_attestor(agent, join_token)?,
        key_manager: plugins.key_manager?,
        unix: plugins.unix,
        unix_file: plugins.unix_file,
        workload_key_type,
        cache,
        sync_interval: experimental.sync_interval,
        key_exchange: experimental.key_exchange,
        whole_sets: experimental.whole_sets,
        workload: (!disable_workload_api).then_some(workload),
        sds: (!disable_sds_api).then_some(sds),
        files,
        istio,
        health_checks,
        telemetry: TelemetryConfig::default(),
        audit,
    })
}

/// `sds`: what Envoy's secrets are called.
fn sds(agent: &Section<'_>, rate_limits: RateLimits) -> SdsOptions {
    let block = agent.block_or_empty("sds");
    let defaults = SdsOptions::default();
    let sds = SdsOptions {
        default_svid_name: block
            .string("default_svid_name")
            .unwrap_or(defaults.default_svid_name),
        default_bundle_name: block
            .string("default_bundle_name")
            .unwrap_or(defaults.default_bundle_name),
        default_all_bundles_name: block
            .string("default_all_bundles_name")
            .unwrap_or(defaults.default_all_bundles_name),
        disable_spiffe_cert_validation: block.boolean("disable_spiffe_cert_validation").unwrap_or(false),
        rate_limits,
    };
    if sds.default_all_bundles_name == sds.default_bundle_name {
        block.warn(
            "default_all_bundles_name",
            "has the same value as default_bundle_name and is ignored; it should be another",
        );
    }
    block.finish(UnknownKeys::Warn);
    sds
}

/// Sooner than a day before its end an SVID isn't kept in reserve, as SPIRE has it.
fn availability_target(agent: &Section<'_>) -> Option<Duration> {
    let target = agent.duration("availability_target")?;
    if target < SHORTEST_AVAILABILITY_TARGET {
        agent.fault("availability_target", "must be at least 24h");
    }
    Some(target)
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
            "key type \"rsa-4096\" is too slow for workloads; must be one of [rsa-2048, ec-p256, ec-p384]",
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
        availability_target: availability_target(agent),
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
