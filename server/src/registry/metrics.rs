//! What the registry's work is called in SPIRE's metrics.
//!
//! Owns names only. SPIRE counts operations on its database; here they are those on the state and the changes of a commit,
//! each of which took as long as the commit did.

use std::sync::Arc;

use credence_identity::{Bundle, SpiffeId};

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
        Change::BundlePut(bundle) if bundle.trust_domain == *state.trust_domain() => {
            of_own_bundle(state.own_bundle(), bundle)
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

/// The own bundle grows by authorities, and loses them when they have ended or are revoked.
fn of_own_bundle(before: Option<&Arc<Bundle>>, after: &Bundle) -> &'static str {
    let Some(before) = before else {
        return "datastore.bundle.create";
    };
    let x509 = |bundle: &Bundle| {
        let all = &bundle.x509_authorities;
        (
            all.len(),
            all.iter().filter(|authority| authority.tainted).count(),
        )
    };
    let jwt = |bundle: &Bundle| {
        let all = &bundle.jwt_authorities;
        (
            all.len(),
            all.iter().filter(|authority| authority.tainted).count(),
        )
    };
    let ((x509_were, x509_tainted), (x509_are, x509_taint)) = (x509(before), x509(after));
    let ((jwt_were, jwt_tainted), (jwt_are, jwt_taint)) = (jwt(before), jwt(after));
    if x509_taint > x509_tainted {
        "datastore.bundle.x509.taint"
    } else if jwt_taint > jwt_tainted {
        "datastore.bundle.jwt.taint"
    } else if x509_taint < x509_tainted {
        "datastore.bundle.x509.revoke"
    } else if jwt_taint < jwt_tainted {
        "datastore.bundle.jwt.revoke"
    } else if x509_are < x509_were || jwt_are < jwt_were {
        "datastore.bundle.prune"
    } else {
        "datastore.bundle.append"
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
