//! Keys about how the server is run: what only some operators switch on.

use std::path::PathBuf;

use credence_runtime::audit::AuditSink;
use credence_runtime::config::{Section, UnknownKeys, audit_sink, key_exchange};
use credence_runtime::grpc::TrustedProxies;
use credence_runtime::tls::KeyExchange;

use super::authorities::{self, WitKeys};
use crate::api::Policy;

/// What an operator may switch on; nothing of it by default.
#[derive(Debug, Clone, Default)]
pub struct Operations {
    /// `experimental.agent_spiffe_id_as_selector`: each node gets its own ID as a selector.
    pub agent_id_as_selector: bool,
    /// `proxy_protocol_trusted_cidrs`: whose word on a client's address is taken.
    pub trusted_proxies: TrustedProxies,
    /// `experimental.require_pq_kem`: what the TCP endpoint agrees to.
    pub key_exchange: KeyExchange,
    /// `audit_log_enabled`: where calls are recorded, if they are.
    pub audit: Option<AuditSink>,
    /// `experimental.auth_opa_policy_engine`: who may call what, in place of the built-in table.
    pub policy: Option<Policy>,
    /// `plugin_data_file` of x509pop, read again at SIGUSR1.
    pub x509pop_file: Option<PathBuf>,
    /// What the feature flag `wit-svid` switches on.
    pub(super) wit: Option<WitKeys>,
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
    let audit = audit_sink(server);
    let experimental = server.block_or_empty("experimental");
    let agent_id_as_selector = experimental
        .boolean("agent_spiffe_id_as_selector")
        .unwrap_or(false);
    event_cache(&experimental);
    experimental.without_effect(&["named_pipe_name"]);
    let policy = policy(&experimental);
    let key_exchange = key_exchange(&experimental);
    let wit = authorities::wit(&experimental);
    experimental.finish(UnknownKeys::Warn);
    Operations {
        agent_id_as_selector,
        trusted_proxies,
        key_exchange,
        x509pop_file: None,
        audit,
        policy,
        wit,
    }
}

/// Reads the operator's authorization policy and tries it.
fn policy(experimental: &Section<'_>) -> Option<Policy> {
    let engine = experimental.block("auth_opa_policy_engine")?;
    let local = engine.block("local");
    if local.is_none() {
        experimental.fault(
            "auth_opa_policy_engine",
            "policy engine configuration must define a provider",
        );
    }
    let policy = local.and_then(|local| {
        let rego = local.required("rego_path").map(PathBuf::from);
        let data = local.string("policy_data_path").map(PathBuf::from);
        let policy = rego.and_then(|rego| {
            Policy::load(&rego, data.as_deref())
                .map_err(|error| local.fault("rego_path", error))
                .ok()
        });
        if policy.as_ref().is_some_and(Policy::has_old_syntax) {
            local.warn("rego_path", "the policy is in the syntax of OPA before 1.0");
        }
        local.finish(UnknownKeys::Fatal);
        policy
    });
    engine.finish(UnknownKeys::Fatal);
    policy
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
