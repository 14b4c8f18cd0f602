//! The agent's `experimental` block.

use std::time::Duration;

use credence_runtime::config::{Section, UnknownKeys, feature_flags, key_exchange};
use credence_runtime::tls::KeyExchange;

use crate::api::limits::RateLimits;

const DEFAULT_SYNC_INTERVAL: Duration = Duration::from_secs(5);

/// What is in the block.
pub(super) struct Experimental {
    pub(super) key_exchange: KeyExchange,
    pub(super) sync_interval: Duration,
    pub(super) jwt_cache_hit_timeout: Option<Duration>,
    pub(super) whole_sets: bool,
    pub(super) rate_limits: RateLimits,
    pub(super) wit_svid: bool,
}

pub(super) fn read(agent: &Section<'_>) -> Experimental {
    let block = agent.block_or_empty("experimental");
    block.without_effect(&["broker"]);
    for (key, instead) in [
        ("named_pipe_name", "socket_path"),
        ("admin_named_pipe_name", "admin_socket_path"),
    ] {
        if block.string(key).is_some() {
            block.fault(
                key,
                format_args!("is not supported on this platform; use {instead} instead"),
            );
        }
    }
    let key_exchange = key_exchange(&block);
    let wit_svid = feature_flags(&block).wit_svid;
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
    let use_sync = block.boolean("use_sync_authorized_entries");
    if use_sync.is_some() {
        block.warn(
            "use_sync_authorized_entries",
            "is deprecated; without it the agent is told of changes as they happen",
        );
    }
    let rate_limits = rate_limits(&block);
    block.finish(UnknownKeys::Warn);
    Experimental {
        key_exchange,
        sync_interval,
        jwt_cache_hit_timeout,
        whole_sets: use_sync == Some(false),
        rate_limits,
        wit_svid,
    }
}

fn rate_limits(experimental: &Section<'_>) -> RateLimits {
    let block = experimental.block_or_empty("ratelimit");
    let limit = |key| match block.integer(key) {
        Some(negative) if negative < 0 => {
            block.fault(key, "must not be negative");
            None
        }
        Some(limit) => u32::try_from(limit).ok().filter(|limit| *limit > 0),
        None => None,
    };
    let limits = RateLimits {
        fetch_x509_svid: limit("fetch_x509_svid"),
        fetch_jwt_svid: limit("fetch_jwt_svid"),
        fetch_x509_bundles: limit("fetch_x509_bundles"),
        fetch_jwt_bundles: limit("fetch_jwt_bundles"),
        stream_secrets: limit("stream_secrets"),
        fetch_secrets: limit("fetch_secrets"),
    };
    block.finish(UnknownKeys::Fatal);
    limits
}
