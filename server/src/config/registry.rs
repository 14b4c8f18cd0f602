//! Keys about the registry's upkeep.

use credence_identity::TrustDomain;
use credence_runtime::config::Section;

use crate::registry::{NodePruning, Settings};

/// SPIRE's default of `prune_attested_nodes_batch_size`.
const PRUNE_BATCH: usize = 1000;

pub(super) fn read(server: &Section<'_>, trust_domain: Option<&TrustDomain>) -> Option<Settings> {
    let expired_for = server.duration("prune_attested_nodes_expired_for");
    let batch = server
        .number::<usize>("prune_attested_nodes_batch_size")
        .unwrap_or(PRUNE_BATCH);
    let include_tofu = server.boolean("prune_tofu_nodes").unwrap_or(false);
    if batch == 0 {
        server.fault("prune_attested_nodes_batch_size", "must be greater than zero");
    }
    let node_pruning = expired_for.map(|expired_for| NodePruning {
        expired_for,
        batch,
        include_tofu,
    });
    Some(Settings {
        trust_domain: trust_domain?.clone(),
        node_pruning,
    })
}
