//! Settings that servers and agents have in common.

use std::path::PathBuf;

use super::section::{Section, UnknownKeys};
use crate::audit::AuditSink;
use crate::fs::{FsError, refuse_foreign_tmp};
use crate::log::{Format, LogOptions};
use crate::tls::KeyExchange;

/// The HTTP endpoint for probes, when it is switched on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthChecks {
    /// A name or address.
    pub bind_address: String,
    /// The port.
    pub bind_port: u16,
    /// Path of the liveness probe.
    pub live_path: String,
    /// Path of the readiness probe.
    pub ready_path: String,
}

/// Reads `log_level`, `log_format`, `log_file` and `log_source_location`.
pub fn log_options(section: &Section<'_>) -> LogOptions {
    let format = match section
        .string("log_format")
        .map(|format| format.to_ascii_lowercase())
        .as_deref()
    {
        None | Some("text") => Format::Text,
        Some("json") => Format::Json,
        Some(unknown) => {
            let text = format!("must be \"text\" or \"json\", not {unknown:?}");
            section.fault("log_format", text);
            Format::Text
        }
    };
    LogOptions {
        level: section.parsed("log_level").unwrap_or_default(),
        format,
        file: section.string("log_file").map(PathBuf::from),
        source_location: section.boolean("log_source_location").unwrap_or(false),
    }
}

/// Reads the top level's `health_checks`; none unless `listener_enabled`.
pub fn health_checks(root: &Section<'_>) -> Option<HealthChecks> {
    let block = root.block("health_checks")?;
    let enabled = block.boolean("listener_enabled").unwrap_or(false);
    let path = |key, default: &str| {
        let path = block.string(key).unwrap_or_else(|| default.to_owned());
        if !path.starts_with('/') {
            block.fault(key, "must begin with \"/\"");
        }
        path
    };
    let checks = HealthChecks {
        bind_address: block
            .string("bind_address")
            .unwrap_or_else(|| "localhost".to_owned()),
        bind_port: block.number("bind_port").unwrap_or(80),
        live_path: path("live_path", "/live"),
        ready_path: path("ready_path", "/ready"),
    };
    block.finish(UnknownKeys::Fatal);
    enabled.then_some(checks)
}

/// What `experimental.feature_flags` switches on.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct FeatureFlags {
    /// `wit-svid`: WIT-SVIDs are issued and served.
    pub wit_svid: bool,
}

/// Reads `feature_flags`. One that isn't known is a fault, as SPIRE has it.
pub fn feature_flags(experimental: &Section<'_>) -> FeatureFlags {
    let mut flags = FeatureFlags::default();
    for flag in experimental.strings("feature_flags") {
        match flag.value.as_str() {
            "wit-svid" => flags.wit_svid = true,
            // SPIRE's tests switch it on; it does nothing there either.
            "i_am_a_test_flag" => {}
            unknown => experimental
                .report()
                .fault(flag.place, format!("unknown feature flag {unknown:?}")),
        }
    }
    flags
}

/// Reads `audit_log_enabled` and our own block `audit_log { sink, path }`; none unless it is switched on.
pub fn audit_sink(section: &Section<'_>) -> Option<AuditSink> {
    let enabled = section.boolean("audit_log_enabled").unwrap_or(false);
    let block = section.block("audit_log");
    // Calls that nobody records must not look recorded.
    if block.is_some() && !enabled {
        section.fault("audit_log", "needs audit_log_enabled = true");
    }
    let sink = block.map_or(AuditSink::Log, |block| {
        let path = block.string("path").map(PathBuf::from);
        let sink = match (block.string("sink").as_deref(), path) {
            (None | Some("file"), Some(path)) => AuditSink::File(path),
            (Some("file"), None) => {
                block.fault("path", "must be configured for the sink \"file\"");
                AuditSink::Log
            }
            (Some("stdout" | "log"), Some(_)) => {
                block.fault("path", "is for the sink \"file\" only");
                AuditSink::Log
            }
            (Some("stdout"), None) => AuditSink::Stdout,
            (Some("log") | None, None) => AuditSink::Log,
            (Some(_), _) => {
                block.fault("sink", "must be \"log\", \"stdout\" or \"file\"");
                AuditSink::Log
            }
        };
        block.finish(UnknownKeys::Fatal);
        sink
    });
    enabled.then_some(sink)
}

/// Reads `require_pq_kem`.
pub fn key_exchange(experimental: &Section<'_>) -> KeyExchange {
    match experimental.boolean("require_pq_kem") {
        Some(true) => KeyExchange::QuantumSafe,
        _ => KeyExchange::Any,
    }
}

/// A path that must not lie in a stranger's folder below /tmp; if it does, that is a fault.
pub fn safe_path(section: &Section<'_>, key: &'static str, default: &str) -> PathBuf {
    let path = PathBuf::from(section.string(key).unwrap_or_else(|| default.to_owned()));
    if let Err(error @ FsError::ForeignTmp { .. }) = refuse_foreign_tmp(&path) {
        section.fault(key, error);
    }
    path
}
