//! The server's configuration: HCL or JSON in SPIRE's shape, flags of the command line over it, SPIRE's defaults under it.
//!
//! Owns every key that a server has, and what becomes of those it does nothing with: harmless ones are warned of, those
//! whose absence would weaken what the operator asked for are refused. `validate` and `run` read by the one [`load`].
//! Invariant: a [`ServerConfig`] needs no further checks.
//!
//! [`load`]: ServerConfig::load

mod authorities;
mod plugins;
mod registry;

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use credence_identity::{SpiffeId, TrustDomain};
use credence_runtime::config::hcl::Body;
use credence_runtime::config::{
    Document, EnvLookup, Fault, HealthChecks, Report, Section, UnknownKeys, feature_flags, health_checks,
    log_options, safe_path,
};
use credence_runtime::log::LogOptions;

use crate::attestor::x509pop::X509PopConfig;
use crate::ca::Settings as CaSettings;
use crate::registry::Settings as RegistrySettings;
use crate::store::SqliteOptions;
pub use plugins::KeyManagerConfig;

/// Something that doesn't keep the server from starting.
pub type Warning = Fault;

/// Where SPIRE's tools look for the server.
pub const DEFAULT_SOCKET_PATH: &str = "/tmp/spire-server/private/api.sock";
const DEFAULT_BIND_ADDRESS: &str = "0.0.0.0";
const DEFAULT_BIND_PORT: u16 = 8081;

/// All that a server needs to know to be built.
#[derive(Debug, Clone)]
pub struct ServerConfig {
    /// The trust domain it issues for.
    pub trust_domain: TrustDomain,
    /// TCP endpoint; port 0 asks for a free one.
    pub bind: SocketAddr,
    /// Unix socket of the local API.
    pub socket_path: PathBuf,
    /// Folder for what the server itself keeps; made if missing.
    pub data_dir: PathBuf,
    /// The log.
    pub log: LogOptions,
    /// Identities that may call admin methods over TCP.
    pub admin_ids: Vec<SpiffeId>,
    /// Which rate limits are on.
    pub rate_limits: RateLimits,
    /// Authorities and lifetimes.
    pub ca: CaSettings,
    /// The registry.
    pub registry: RegistrySettings,
    /// The database.
    pub data_store: SqliteOptions,
    /// Where the authorities' keys live.
    pub key_manager: KeyManagerConfig,
    /// The node attestor `x509pop`, if configured; `join_token` is always there.
    pub x509pop: Option<X509PopConfig>,
    /// HTTP probes, if switched on.
    pub health_checks: Option<HealthChecks>,
}

/// `ratelimit`: both are on unless switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimits {
    /// Of attestations.
    pub attestation: bool,
    /// Of signatures.
    pub signing: bool,
}

/// What the command line says; it wins over the file. Texts as typed.
#[derive(Debug, Clone, Default)]
pub struct ServerOverrides {
    /// `-bindAddress`
    pub bind_address: Option<String>,
    /// `-serverPort`
    pub bind_port: Option<String>,
    /// `-dataDir`
    pub data_dir: Option<String>,
    /// `-logFile`
    pub log_file: Option<String>,
    /// `-logFormat`
    pub log_format: Option<String>,
    /// `-logLevel`
    pub log_level: Option<String>,
    /// `-logSourceLocation`
    pub log_source_location: Option<bool>,
    /// `-trustDomain`
    pub trust_domain: Option<String>,
    /// `-socketPath`
    pub socket_path: Option<String>,
}

impl ServerConfig {
    /// Reads a configuration file; with `expand_env`, environment variables in it are expanded first.
    ///
    /// # Errors
    /// All faults of the file and the flags at once, each with its place.
    pub fn load(
        path: &Path,
        overrides: &ServerOverrides,
        expand_env: bool,
    ) -> Result<(ServerConfig, Vec<Warning>), Vec<Fault>> {
        let env = |name: &str| std::env::var(name).ok();
        let document =
            Document::load(path, expand_env.then_some(&env as EnvLookup<'_>)).map_err(|fault| vec![fault])?;
        Self::read(&document, &path.display().to_string(), overrides)
    }

    fn read(
        document: &Document,
        file: &str,
        overrides: &ServerOverrides,
    ) -> Result<(ServerConfig, Vec<Warning>), Vec<Fault>> {
        let flags = overrides.body();
        let report = Report::new();
        let root = document.root(&report);
        let config = read_root(&root, &flags);
        root.finish(UnknownKeys::Fatal);
        report.finish(file, config)
    }
}

fn read_root(root: &Section<'_>, flags: &Body) -> Option<ServerConfig> {
    root.without_effect(&["telemetry"]);
    let health_checks = health_checks(root);
    let plugins = plugins::read(root);
    let Some(mut server) = root.block("server") else {
        root.report()
            .fault(root.place().clone(), "server section must be configured");
        return None;
    };
    server.overlay("command line", flags);
    let config = read_server(&server, plugins, health_checks);
    server.finish(UnknownKeys::Fatal);
    config
}

fn read_server(
    server: &Section<'_>,
    plugins: Option<plugins::Plugins>,
    health_checks: Option<HealthChecks>,
) -> Option<ServerConfig> {
    server.without_effect(&[
        "federation",
        "max_attested_node_info_staleness",
        "profiling_enabled",
        "profiling_port",
        "profiling_freq",
        "profiling_names",
    ]);
    server.refused(&["proxy_protocol_trusted_cidrs"]);
    let limits = server.block_or_empty("ratelimit");
    let rate_limits = RateLimits {
        attestation: limits.boolean("attestation").unwrap_or(true),
        signing: limits.boolean("signing").unwrap_or(true),
    };
    limits.finish(UnknownKeys::Fatal);
    read_experimental(server);

    // Every reader runs before any absence ends the reading, so that all faults show.
    let trust_domain = trust_domain(server);
    let bind = bind(server);
    let data_dir = server
        .required("data_dir")
        .map(|_| safe_path(server, "data_dir", ""));
    let socket_path = safe_path(server, "socket_path", DEFAULT_SOCKET_PATH);
    let log = log_options(server);
    // Calls that nobody records must not look recorded.
    if server.boolean("audit_log_enabled") == Some(true) {
        server.refused(&["audit_log_enabled"]);
    }
    let admin_ids = admin_ids(server);
    let ca = authorities::read(server, trust_domain.as_ref());
    let registry = registry::read(server, trust_domain.as_ref());
    let plugins = plugins?;
    Some(ServerConfig {
        trust_domain: trust_domain?,
        bind: bind?,
        socket_path,
        data_dir: data_dir?,
        log,
        admin_ids,
        rate_limits,
        ca: ca?,
        registry: registry?,
        data_store: plugins.data_store?,
        key_manager: plugins.key_manager?,
        x509pop: plugins.x509pop,
        health_checks,
    })
}

fn read_experimental(server: &Section<'_>) {
    let Some(experimental) = server.block("experimental") else {
        return;
    };
    experimental.without_effect(&[
        "agent_spiffe_id_as_selector",
        "cache_reload_interval",
        "full_cache_reload_interval",
        "events_based_cache",
        "prune_events_older_than",
        "event_timeout",
        "sql_transaction_timeout",
        "wit_key_type",
        "wit_issuer",
        "named_pipe_name",
    ]);
    experimental.refused(&["auth_opa_policy_engine"]);
    if experimental.boolean("require_pq_kem") == Some(true) {
        experimental.refused(&["require_pq_kem"]);
    }
    feature_flags(&experimental);
    experimental.finish(UnknownKeys::Warn);
}

fn trust_domain(server: &Section<'_>) -> Option<TrustDomain> {
    let text = server.required("trust_domain")?;
    let parsed = TrustDomain::parse_lenient(&text);
    parsed
        .map_err(|error| server.fault("trust_domain", format_args!("could not parse {text:?}: {error}")))
        .ok()
}

fn bind(server: &Section<'_>) -> Option<SocketAddr> {
    let text = server
        .string("bind_address")
        .unwrap_or_else(|| DEFAULT_BIND_ADDRESS.to_owned());
    let port = if server.has("bind_port") {
        server.number("bind_port")
    } else {
        Some(DEFAULT_BIND_PORT)
    };
    match text.parse::<IpAddr>() {
        Ok(address) => Some(SocketAddr::new(address, port?)),
        Err(_) => {
            server.fault("bind_address", format_args!("{text:?} is no IP address"));
            None
        }
    }
}

fn admin_ids(server: &Section<'_>) -> Vec<SpiffeId> {
    let mut ids = Vec::new();
    for id in server.strings("admin_ids") {
        match SpiffeId::parse(&id.value) {
            Ok(parsed) => ids.push(parsed),
            Err(error) => {
                let message = format!(
                    "{}: could not parse {:?}: {error}",
                    server.name_of("admin_ids"),
                    id.value
                );
                server.report().fault(id.place, message);
            }
        }
    }
    ids
}

impl ServerOverrides {
    fn body(&self) -> Body {
        let truth = self.log_source_location.map(|on| on.to_string());
        Body::from_flags([
            ("bind_address", self.bind_address.as_deref()),
            ("bind_port", self.bind_port.as_deref()),
            ("data_dir", self.data_dir.as_deref()),
            ("log_file", self.log_file.as_deref()),
            ("log_format", self.log_format.as_deref()),
            ("log_level", self.log_level.as_deref()),
            ("log_source_location", truth.as_deref()),
            ("trust_domain", self.trust_domain.as_deref()),
            ("socket_path", self.socket_path.as_deref()),
        ])
    }
}

#[cfg(test)]
mod tests;
