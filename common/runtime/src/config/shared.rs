//! Settings that servers and agents have in common.

use std::path::PathBuf;

use super::section::{Section, UnknownKeys};
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
        Some(_) => {
            section.fault("log_format", "must be \"text\" or \"json\"");
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

/// Reads `feature_flags`: SPIRE's are accepted without effect, others are faults, as SPIRE has it.
pub fn feature_flags(experimental: &Section<'_>) {
    for flag in experimental.strings("feature_flags") {
        if matches!(flag.value.as_str(), "wit-svid" | "i_am_a_test_flag") {
            let message = format!("feature flag {:?} has no effect in this version", flag.value);
            experimental.report().warn(flag.place, message);
        } else {
            experimental
                .report()
                .fault(flag.place, format!("unknown feature flag {:?}", flag.value));
        }
    }
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
