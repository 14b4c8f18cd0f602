//! Keys about how the server is run: what only some operators switch on.

use std::path::PathBuf;

use credence_runtime::config::{Section, UnknownKeys, feature_flags, key_exchange};
use credence_runtime::grpc::TrustedProxies;
use credence_runtime::tls::KeyExchange;

/// What an operator may switch on; nothing of it by default.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    /// `experimental.agent_spiffe_id_as_selector`: each node gets its own ID as a selector.
    pub agent_id_as_selector: bool,
    /// `proxy_protocol_trusted_cidrs`: whose word on a client's address is taken.
    pub trusted_proxies: TrustedProxies,
    /// `experimental.require_pq_kem`: what the TCP endpoint agrees to.
    pub key_exchange: KeyExchange,
    /// `plugin_data_file` of x509pop, read again at SIGUSR1.
    pub x509pop_file: Option<PathBuf>,
}

pub(super) fn read(server: &Section<'_>) -> Operations {
    // Times that are checked as SPIRE does, though nothing here is ever stale.
    server.duration("max_attested_node_info_staleness");
    server.without_effect(&[
        "max_attested_node_info_staleness",
        "profiling_enabled",
        "profiling_port",
        "profiling_freq",
        "profiling_names",
    ]);
    let trusted_proxies = trusted_proxies(server);
    // Calls that nobody records must not look recorded.
    if server.boolean("audit_log_enabled") == Some(true) {
        server.refused(&["audit_log_enabled"]);
    }
    let experimental = server.block_or_empty("experimental");
    let agent_id_as_selector = experimental
        .boolean("agent_spiffe_id_as_selector")
        .unwrap_or(false);
    event_cache(&experimental);
    experimental.without_effect(&["wit_key_type", "wit_issuer", "named_pipe_name"]);
    experimental.refused(&["auth_opa_policy_engine"]);
    let key_exchange = key_exchange(&experimental);
    feature_flags(&experimental);
    experimental.finish(UnknownKeys::Warn);
    Operations {
        agent_id_as_selector,
        trusted_proxies,
        key_exchange,
        x509pop_file: None,
    }
}

fn trusted_proxies(server: &Section<'_>) -> TrustedProxies {
    let mut trusted = TrustedProxies::default();
    for cidr in server.strings("proxy_protocol_trusted_cidrs") {
        if let Err(error) = trusted.add(&cidr.value) {
            let message = format!(
                "invalid proxy_protocol_trusted_cidrs value {:?}: {error}",
                cidr.value
            );
            server.report().fault(cidr.place, message);
        }
    }
    trusted
}

/// SPIRE's cache of the database. All is in memory here, and changes with the database.
fn event_cache(experimental: &Section<'_>) {
    const TIMES: [&str; 5] = [
        "cache_reload_interval",
        "full_cache_reload_interval",
        "prune_events_older_than",
        "event_timeout",
        "sql_transaction_timeout",
    ];
    for key in TIMES {
        experimental.duration(key);
    }
    experimental.boolean("events_based_cache");
    if experimental.has("sql_transaction_timeout") {
        if experimental.has("event_timeout") {
            experimental.fault(
                "sql_transaction_timeout",
                "both sql_transaction_timeout and event_timeout set, only set event_timeout",
            );
        }
        experimental.deprecated(
            "sql_transaction_timeout",
            "experimental.sql_transaction_timeout is deprecated, use experimental.event_timeout instead",
        );
    }
    experimental.without_effect(&["events_based_cache"]);
    experimental.without_effect(&TIMES[..4]);
}
