//! What each metric says, for people who find it in Prometheus.

/// The line of a key, without the prefix.
pub(super) fn help(key: &str) -> &'static str {
    if key.ends_with(".elapsed_time") {
        return "How long the calls took, in milliseconds.";
    }
    if key.starts_with("rpc.") {
        return "Calls of this method.";
    }
    if key.starts_with("rateLimit.") {
        return "Calls of this method that a rate limit let through, held up or refused.";
    }
    HELP.iter()
        .find(|(known, _)| *known == key)
        .or_else(|| GROUPS.iter().find(|(prefix, _)| key.starts_with(prefix)))
        .map_or("Described in SPIRE's documentation of telemetry.", |(_, text)| {
            text
        })
}

const HELP: &[(&str, &str)] = &[
    ("started", "Whether it has started; the labels say what it is."),
    ("uptime_in_ms", "Milliseconds since the start."),
    ("runtime.num_goroutines", "Tasks that are alive."),
    (
        "runtime.alloc_bytes",
        "Bytes of memory in use that belong to no file.",
    ),
    ("runtime.sys_bytes", "Bytes of memory that the process occupies."),
    (
        "runtime.heap_objects",
        "Objects that are kept in memory: entries, nodes, bundles and SVIDs.",
    ),
    (
        "ca.manager.x509_ca.activate",
        "X.509 authorities that were activated.",
    ),
    (
        "ca.manager.bundle.pruned",
        "Prunings of the bundle that removed something.",
    ),
    ("manager.jwt_key.activate", "JWT authorities that were activated."),
    ("manager.wit_key.activate", "WIT authorities that were activated."),
    (
        "manager.x509_ca.rotate.expiration",
        "When the active X.509 authority expires, in seconds since 1970.",
    ),
    (
        "manager.x509_ca.rotate.ttl",
        "Seconds that the X.509 authority had left when it was activated.",
    ),
    ("server_ca.sign.x509_svid", "X.509-SVIDs that were signed."),
    (
        "server_ca.sign.x509_ca_svid",
        "X.509 authorities of downstream servers that were signed.",
    ),
    ("server_ca.sign.jwt_svid", "JWT-SVIDs that were signed."),
    ("server_ca.sign.wit_svid", "WIT-SVIDs that were signed."),
    (
        "entry.cache.reload",
        "Times that memory was brought in step with the database.",
    ),
    ("entry.deleted", "Entries that the last change removed."),
    ("node.agents_by_id_cache.count", "Nodes in memory."),
    (
        "node.agents_by_expiresat_cache.count",
        "Nodes in memory that can expire.",
    ),
    (
        "node.skipped_node_event_ids.count",
        "Changes of nodes that were missed: none, by construction.",
    ),
    (
        "entry.skipped_entry_event_ids.count",
        "Changes of entries that were missed: none, by construction.",
    ),
    (
        "entry.nodealiases_by_entryid_cache.count",
        "Node aliases in memory.",
    ),
    (
        "entry.nodealiases_by_selector_cache.count",
        "Node aliases in memory that have selectors.",
    ),
    ("entry.entries_by_entryid_cache.count", "Entries in memory."),
    (
        "bundle_manager.update.federated_bundle",
        "Federated bundles that were updated.",
    ),
    (
        "bootstrapped",
        "Whether the server is trusted by a bundle and no bootstrap is in progress.",
    ),
    (
        "bootstrap_seconds",
        "When the bootstrap began, in seconds since 1970.",
    ),
    ("bootstrap_attempts", "Attempts of the bootstrap."),
    (
        "sync_bundles_total",
        "Bundles that the server has for this agent.",
    ),
    (
        "sync_entries_total",
        "Entries that the server has for this agent.",
    ),
    (
        "sync_entries_missing",
        "Entries that this agent lacked at the last synchronisation.",
    ),
    (
        "sync_entries_stale",
        "Entries of which this agent had an older revision at the last synchronisation.",
    ),
    (
        "sync_entries_dropped",
        "Entries that the last synchronisation removed.",
    ),
    (
        "cache_manager.expiring_svids",
        "X.509-SVIDs that were due for renewal.",
    ),
    (
        "cache_manager.outdated_svids",
        "X.509-SVIDs whose entry had changed.",
    ),
    (
        "cache_manager.tainted_x509_svids.workload",
        "X.509-SVIDs of tainted authorities.",
    ),
    (
        "cache_manager.tainted_jwt_svids.workload",
        "JWT-SVIDs of tainted authorities.",
    ),
    ("lru_cache_entry_add", "Entries that were added."),
    ("lru_cache_entry_update", "Entries that were updated."),
    ("lru_cache_entry_remove", "Entries that were removed."),
    ("lru_cache_record_map_size", "Entries in memory."),
    ("lru_cache_svid_map_size", "SVIDs in memory."),
    ("jwt_svid_cache_size", "JWT-SVIDs in memory."),
    (
        "workload_api.discovered_selectors",
        "Selectors that attestations of workloads found.",
    ),
    ("sds_api.nack", "Secrets that an Envoy refused."),
    ("workload_api.workload_attestation", "Attestations of workloads."),
    (
        "workload_api.workload_attestor",
        "Calls of one workload attestor.",
    ),
    (
        "workload_api.rate_limit_exceeded",
        "Calls that a rate limit refused.",
    ),
    ("agent_svid.rotate", "Renewals of the agent's own SVID."),
    ("node.attest", "Attestations of this node after the first one."),
    ("node.attestor.new_svid", "Attestations of this node."),
    (
        "manager.sync.fetch_entries_updates",
        "Synchronisations of entries with the server.",
    ),
    (
        "manager.sync.fetch_svids_updates",
        "Requests for SVIDs of workloads.",
    ),
    ("svid.rotate", "Renewals of the server's own SVID."),
    (
        "registration_entry.manager.prune",
        "Searches for entries that have expired.",
    ),
    ("node.manager.prune", "Searches for nodes that have expired."),
];

const GROUPS: &[(&str, &str)] = &[
    ("datastore.", "Operations of this kind on what the server stores."),
    (
        "server_key_manager.",
        "Operations of this kind on the server's keys.",
    ),
    (
        "agent_key_manager.",
        "Operations of this kind on the agent's key.",
    ),
    (
        "ca.manager.",
        "Operations of this kind on the server's authorities.",
    ),
    ("bundle_manager.", "Operations of this kind on federated bundles."),
    ("cache_manager.", "Operations of this kind on the agent's cache."),
    (
        "workload_api.",
        "Calls of the Workload API; those under way, in the plural.",
    ),
    (
        "sds_api.",
        "Calls of the Envoy SDS API; those under way, in the plural.",
    ),
    (
        "debug_api.",
        "Calls of the Debug API; those under way, in the plural.",
    ),
    (
        "logger_api.",
        "Calls of the Logger API; those under way, in the plural.",
    ),
    (
        "delegated_identity_api.",
        "Calls of the Delegated Identity API; those under way, in the plural.",
    ),
];
