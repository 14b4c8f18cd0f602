//! The server's configuration: HCL or JSON in SPIRE's shape, flags of the command line over it, SPIRE's defaults under it.
//!
//! Owns every key that a server has, and what becomes of those it does nothing with: harmless ones are warned of, those
//! whose absence would weaken what the operator asked for are refused. `validate` and `run` read by the one [`load`].
//! Invariant: a [`ServerConfig`] needs no further checks.
//!
//! [`load`]: ServerConfig::load

mod authorities;
mod federation;
mod operations;
mod plugins;
mod registry;

use std::net::{SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use credence_identity::{SpiffeId, TrustDomain};
use credence_runtime::config::hcl::Body;
use credence_runtime::config::{
    Document, Fault, HealthChecks, Section, TelemetryConfig, UnknownKeys, health_checks, log_options,
    safe_path, telemetry,
};
use credence_runtime::log::LogOptions;

use crate::attestor::x509pop::X509PopConfig;
use crate::ca::Settings as CaSettings;
use crate::registry::Settings as RegistrySettings;
use crate::store::SqliteOptions;
pub use operations::Operations;
pub use plugins::{KeyManagerConfig, x509pop_from};

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
    /// Where measurements go.
    pub telemetry: TelemetryConfig,
    /// What only some operators switch on.
    pub operations: Operations,
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
        let document = Document::load_expanded(path, expand_env).map_err(|fault| vec![fault])?;
        Self::read(&document, overrides)
    }

    fn read(
        document: &Document,
        overrides: &ServerOverrides,
    ) -> Result<(ServerConfig, Vec<Warning>), Vec<Fault>> {
        document.read("server", &overrides.body(), |root, server| {
            let telemetry = telemetry(root);
            let health_checks = health_checks(root);
            let plugins = plugins::read(root);
            let config = read_server(server?, plugins, health_checks)?;
            Some(ServerConfig { telemetry, ..config })
        })
    }
}

fn read_server(
    server: &Section<'_>,
    plugins: Option<plugins::Plugins>,
    health_checks: Option<HealthChecks>,
) -> Option<ServerConfig> {
    federation::read(server);
    let limits = server.block_or_empty("ratelimit");
    let rate_limits = RateLimits {
        attestation: limits.boolean("attestation").unwrap_or(true),
        signing: limits.boolean("signing").unwrap_or(true),
    };
    limits.finish(UnknownKeys::Fatal);
    let operations = operations::read(server);

    // Every reader runs before any absence ends the reading, so that all faults show.
    let trust_domain = trust_domain(server);
    let bind = bind(server);
    let data_dir = server
        .required("data_dir")
        .map(|_| safe_path(server, "data_dir", ""));
    let socket_path = safe_path(server, "socket_path", DEFAULT_SOCKET_PATH);
    let log = log_options(server);
    let admin_ids = admin_ids(server);
    let ca = authorities::read(server, trust_domain.as_ref(), operations.wit.clone());
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
        operations: Operations {
            x509pop_file: plugins.x509pop_file,
            ..operations
        },
        telemetry: TelemetryConfig::default(),
    })
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
    let host = text.trim_start_matches('[').trim_end_matches(']');
    // A name is resolved when the configuration is read, as SPIRE does.
    match (host, port?).to_socket_addrs().map(|mut found| found.next()) {
        Ok(Some(address)) => Some(address),
        Ok(None) => {
            server.fault("bind_address", format_args!("{text:?} has no address"));
            None
        }
        Err(error) => {
            server.fault(
                "bind_address",
                format_args!("could not resolve {text:?}: {error}"),
            );
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
