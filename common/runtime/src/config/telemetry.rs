//! The `telemetry` block, which servers and agents have in common: where metrics, traces and logs go.
//!
//! Owns SPIRE's keys and our own `OTLP`. Invariant: what comes out needs no further checks but opening files and ports.

use std::path::PathBuf;

use credence_identity::SpiffeId;

use super::section::{Section, UnknownKeys};

/// Where measurements go. Nothing is measured by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TelemetryConfig {
    /// The page that Prometheus reads.
    pub prometheus: Option<PrometheusConfig>,
    /// Addresses of StatsD servers: `host:port`.
    pub statsd: Vec<String>,
    /// Addresses of DogStatsD servers: `host:port`, or `unix:///path`.
    pub dogstatsd: Vec<String>,
    /// Whether an hour of measurements is kept in memory, to be logged at SIGUSR1.
    pub in_memory: bool,
    /// OpenTelemetry.
    pub otlp: Option<OtlpConfig>,
    /// First word of each metric, if not the program's own.
    pub prefix: Option<String>,
    /// How metrics are labelled, and which are left out.
    pub selection: Selection,
}

/// How metrics are labelled, and which are left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Selection {
    /// Adds `trust_domain` to each metric.
    pub trust_domain_label: bool,
    /// Adds `host` to each metric.
    pub hostname_label: bool,
    /// Metrics that begin so are let through, whatever else is blocked; words are separated by dots.
    pub allowed_prefixes: Vec<String>,
    /// Metrics that begin so are left out, unless a longer prefix is allowed.
    pub blocked_prefixes: Vec<String>,
    /// If there, labels of other names are left out.
    pub allowed_labels: Option<Vec<String>>,
    /// Labels of these names are left out.
    pub blocked_labels: Vec<String>,
}

impl Default for Selection {
    fn default() -> Self {
        Self {
            trust_domain_label: false,
            hostname_label: true,
            allowed_prefixes: Vec::new(),
            blocked_prefixes: Vec::new(),
            allowed_labels: None,
            blocked_labels: Vec::new(),
        }
    }
}

/// The page that Prometheus reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusConfig {
    /// A name or address.
    pub host: String,
    /// The port; 0 for a free one.
    pub port: u16,
    /// TLS, if it is on.
    pub tls: Option<PrometheusTls>,
}

/// How the page for Prometheus is protected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrometheusTls {
    /// What is shown to the reader.
    pub own: TlsCertificate,
    /// Who may read.
    pub readers: TlsReaders,
}

/// What a TLS server shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsCertificate {
    /// The SVID of the server or agent itself.
    Svid,
    /// PEM files.
    Files {
        /// The certificate, with its chain.
        certificate: PathBuf,
        /// The private key.
        key: PathBuf,
    },
}

/// Who may read over TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsReaders {
    /// Whoever reaches the port.
    Anyone,
    /// Who shows a certificate of one of the authorities in this PEM file.
    Authorities(PathBuf),
    /// Who shows a valid X.509-SVID with one of these IDs.
    Ids(Vec<SpiffeId>),
}

/// OpenTelemetry over gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OtlpConfig {
    /// The collector, such as `http://localhost:4317`, or by `https`.
    pub endpoint: String,
    /// The authorities of a collector that is reached by TLS, if they aren't those that the system trusts.
    pub authorities: Option<PathBuf>,
    /// Whether metrics are sent.
    pub metrics: bool,
    /// Whether traces are sent.
    pub traces: bool,
    /// Whether the log is sent.
    pub logs: bool,
}

impl PrometheusConfig {
    /// Whether the identity of the server or agent is needed before anybody can read.
    pub fn needs_identity(&self) -> bool {
        self.tls
            .as_ref()
            .is_some_and(|tls| tls.own == TlsCertificate::Svid || matches!(tls.readers, TlsReaders::Ids(_)))
    }
}

/// Reads the top level's `telemetry`.
pub fn telemetry(root: &Section<'_>) -> TelemetryConfig {
    let Some(block) = root.block("telemetry") else {
        return TelemetryConfig::default();
    };
    let texts = |key| -> Vec<String> { block.strings(key).into_iter().map(|text| text.value).collect() };
    if block.has("M3") {
        block.warn("M3", "this version accepts the key but it has no effect");
    }
    let in_memory = block.block("InMem").is_some_and(|in_mem| {
        in_mem.finish(UnknownKeys::Fatal);
        true
    });
    let config = TelemetryConfig {
        prometheus: block.block("Prometheus").and_then(prometheus),
        statsd: addresses(&block, "Statsd", false),
        dogstatsd: addresses(&block, "DogStatsd", true),
        in_memory,
        otlp: block.block("OTLP").and_then(otlp),
        prefix: block.string("MetricPrefix"),
        selection: Selection {
            trust_domain_label: block.boolean("EnableTrustDomainLabel").unwrap_or(false),
            hostname_label: block.boolean("EnableHostnameLabel").unwrap_or(true),
            allowed_prefixes: texts("AllowedPrefixes"),
            blocked_prefixes: texts("BlockedPrefixes"),
            allowed_labels: block.has("AllowedLabels").then(|| texts("AllowedLabels")),
            blocked_labels: texts("BlockedLabels"),
        },
    };
    block.finish(UnknownKeys::Fatal);
    config
}

fn prometheus(block: Section<'_>) -> Option<PrometheusConfig> {
    let host = block.string("host").unwrap_or_else(|| "localhost".to_owned());
    let port = if block.has("port") {
        block.number("port")
    } else {
        Some(0)
    };
    let tls = block.block("tls").map(tls);
    block.finish(UnknownKeys::Fatal);
    Some(PrometheusConfig {
        host,
        port: port?,
        tls: match tls {
            Some(tls) => Some(tls?),
            None => None,
        },
    })
}

fn tls(block: Section<'_>) -> Option<PrometheusTls> {
    let certificate = block.string("cert_file").map(PathBuf::from);
    let key = block.string("key_file").map(PathBuf::from);
    let authorities = block.string("client_ca_file").map(PathBuf::from);
    let svid = block.boolean("use_spire_svid").unwrap_or(false);
    let mut ids = Vec::new();
    for id in block.strings("authorized_spiffe_ids") {
        match SpiffeId::parse(&id.value) {
            Ok(parsed) => ids.push(parsed),
            Err(error) => {
                let message = format!("invalid authorized SPIFFE ID {:?}: {error}", id.value);
                block.report().fault(id.place, message);
            }
        }
    }
    let own = match (svid, certificate, key) {
        (true, None, None) => Some(TlsCertificate::Svid),
        (true, _, _) => {
            let message = "cert_file and key_file cannot be configured with it";
            block.fault("use_spire_svid", message);
            None
        }
        (false, Some(certificate), Some(key)) => Some(TlsCertificate::Files { certificate, key }),
        (false, _, _) => {
            let message = "cert_file and key_file must both be configured unless use_spire_svid is enabled";
            block.report().fault(block.place().clone(), message);
            None
        }
    };
    let readers = match (authorities, ids.is_empty()) {
        (None, true) => TlsReaders::Anyone,
        (Some(file), true) => TlsReaders::Authorities(file),
        (None, false) => TlsReaders::Ids(ids),
        (Some(_), false) => {
            block.fault(
                "client_ca_file",
                "cannot be configured with authorized_spiffe_ids",
            );
            return None;
        }
    };
    block.finish(UnknownKeys::Fatal);
    Some(PrometheusTls { own: own?, readers })
}

fn otlp(block: Section<'_>) -> Option<OtlpConfig> {
    let endpoint = block.required("endpoint");
    let on = |key| block.boolean(key).unwrap_or(true);
    let (metrics, traces, logs) = (on("metrics"), on("traces"), on("logs"));
    let endpoint = endpoint.filter(|endpoint| {
        let host = endpoint
            .strip_prefix("http://")
            .or_else(|| endpoint.strip_prefix("https://"))
            .map(|rest| rest.trim_end_matches('/'));
        let sound = host.is_some_and(|host| host.parse::<http::uri::Authority>().is_ok());
        if !sound {
            let message = format!("{endpoint:?} is no address such as \"http://localhost:4317\"");
            block.fault("endpoint", message);
        }
        sound
    });
    let authorities = block.string("ca_file").map(PathBuf::from);
    if authorities.is_some()
        && endpoint
            .as_ref()
            .is_some_and(|endpoint| !endpoint.starts_with("https://"))
    {
        block.fault("ca_file", "is for an endpoint that begins with https://");
    }
    block.finish(UnknownKeys::Fatal);
    Some(OtlpConfig {
        endpoint: endpoint?,
        authorities,
        metrics,
        traces,
        logs,
    })
}

/// The `address` of each object of a list.
fn addresses(block: &Section<'_>, key: &'static str, sockets: bool) -> Vec<String> {
    let mut all = Vec::new();
    for sink in block.each_block(key) {
        if let Some(address) = sink.required("address") {
            let port = address.rsplit_once(':').map(|(_, port)| port.parse::<u16>());
            if (sockets && address.starts_with("unix://")) || matches!(port, Some(Ok(_))) {
                all.push(address);
            } else {
                sink.fault(
                    "address",
                    format_args!("{address:?} is no address such as \"localhost:8125\""),
                );
            }
        }
        sink.finish(UnknownKeys::Fatal);
    }
    all
}

#[cfg(test)]
mod tests;
