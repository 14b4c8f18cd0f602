//! What the registry's work is called in SPIRE's metrics.
//!
//! Owns names only. SPIRE counts operations on its database; here they are those on the state and the changes of a commit,
//! each of which took as long as the commit did.

use credence_identity::SpiffeId;

use super::{Registry, State};
use crate::store::Change;

/// The operation of each change, as it is before they are applied.
pub(super) fn operations(state: &State, changes: &[Change]) -> Vec<&'static str> {
    let mut all = Vec::with_capacity(changes.len());
    for change in changes {
        all.push(operation(state, change));
        if matches!(change, Change::NodePut(node) if state.node(&node.id).is_none()) {
            all.push("datastore.node.selectors.set");
        }
    }
    all
}

fn operation(state: &State, change: &Change) -> &'static str {
    match change {
        Change::EntryPut(entry) if state.entry(&entry.id).is_none() => "datastore.registration_entry.create",
        Change::EntryPut(_) => "datastore.registration_entry.update",
        Change::EntryDelete(_) => "datastore.registration_entry.delete",
        Change::NodePut(node) if state.node(&node.id).is_none() => "datastore.node.create",
        Change::NodePut(_) => "datastore.node.update",
        Change::NodeDelete(_) => "datastore.node.delete",
        Change::JoinTokenPut(_) => "datastore.join_token.create",
        Change::JoinTokenDelete(_) => "datastore.join_token.delete",
        Change::BundlePut(bundle) if state.bundle(&bundle.trust_domain).is_none() => {
            "datastore.bundle.create"
        }
        // The own bundle grows by authorities.
        Change::BundlePut(bundle) if bundle.trust_domain == *state.trust_domain() => {
            "datastore.bundle.append"
        }
        Change::BundlePut(_) => "datastore.bundle.update",
        Change::BundleDelete(_) => "datastore.bundle.delete",
        Change::RelationshipPut(held) if state.relationship(&held.trust_domain).is_none() => {
            "datastore.federation_relationship.create"
        }
        Change::RelationshipPut(_) => "datastore.federation_relationship.update",
        Change::RelationshipDelete(_) => "datastore.federation_relationship.delete",
        Change::JournalPut(_) => "datastore.ca_journal.set",
    }
}

/// How many entries the changes remove.
pub(super) fn deleted(changes: &[Change]) -> usize {
    changes
        .iter()
        .filter(|change| matches!(change, Change::EntryDelete(_)))
        .count()
}

impl Registry {
    /// Shows from now on how much is held.
    pub(super) fn show_sizes(&self) {
        let telemetry = self.telemetry();
        let show = |key, size: fn(&State) -> usize| {
            let registry = self.clone();
            telemetry.poll_gauge(key, &[], move || float(size(&registry.read())));
        };
        show("entry.entries_by_entryid_cache.count", State::entry_count);
        show("entry.nodealiases_by_entryid_cache.count", aliases);
        show("entry.nodealiases_by_selector_cache.count", aliases);
        show("node.agents_by_id_cache.count", |state| state.nodes().count());
        show("node.agents_by_expiresat_cache.count", |state| {
            state.nodes().filter(|(_, node)| !node.is_banned()).count()
        });
        // Nothing is ever missed: changes come through memory, not through a table of events.
        show("entry.skipped_entry_event_ids.count", |_| 0);
        show("node.skipped_node_event_ids.count", |_| 0);
        show("runtime.heap_objects", |state| {
            state.entry_count() + state.nodes().count() + state.bundles().count()
        });
    }
}

/// Entries of the server itself give nodes further names.
fn aliases(state: &State) -> usize {
    state
        .entries_by_parent(&SpiffeId::server(state.trust_domain()))
        .count()
}

#[expect(clippy::cast_precision_loss, reason = "there are never 2^53 of them")]
pub(super) fn float(count: usize) -> f64 {
    count as f64
}
