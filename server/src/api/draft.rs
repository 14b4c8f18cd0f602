//! What federates, as the items of a batch leave it one after the other.
//!
//! Owns bundles and relationships between a look at the state and its commit. It decides nothing. Invariant: an item
//! sees what those before it in the batch have done, and the changes bring the state to what the last item saw.

use std::collections::HashMap;
use std::sync::Arc;

use credence_identity::{Bundle, FederationRelationship, TrustDomain};

use crate::registry::State;
use crate::store::Change;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    state: &'a State,
    bundles: HashMap<TrustDomain, Option<Arc<Bundle>>>,
    relationships: HashMap<TrustDomain, Option<Arc<FederationRelationship>>>,
    changes: Vec<Change>,
}

impl<'a> Draft<'a> {
    pub(crate) fn of(state: &'a State) -> Self {
        Self {
            state,
            bundles: HashMap::new(),
            relationships: HashMap::new(),
            changes: Vec::new(),
        }
    }

    /// The state before the batch.
    pub(crate) fn before(&self) -> &'a State {
        self.state
    }

    pub(crate) fn bundle(&self, domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        match self.bundles.get(domain) {
            Some(drafted) => drafted.as_ref(),
            None => self.state.bundle(domain),
        }
    }

    /// Puts a bundle; one that is there already costs no change.
    pub(crate) fn put_bundle(&mut self, bundle: Arc<Bundle>) {
        if self.bundle(&bundle.trust_domain) != Some(&bundle) {
            self.bundles
                .insert(bundle.trust_domain.clone(), Some(Arc::clone(&bundle)));
            self.changes.push(Change::BundlePut(bundle));
        }
    }

    pub(crate) fn delete_bundle(&mut self, domain: &TrustDomain) {
        self.bundles.insert(domain.clone(), None);
        self.changes.push(Change::BundleDelete(domain.clone()));
    }

    pub(crate) fn relationship(&self, domain: &TrustDomain) -> Option<&Arc<FederationRelationship>> {
        match self.relationships.get(domain) {
            Some(drafted) => drafted.as_ref(),
            None => self.state.relationship(domain),
        }
    }

    /// Puts a relationship; one that is there already costs no change.
    pub(crate) fn put_relationship(&mut self, relationship: Arc<FederationRelationship>) {
        if self.relationship(&relationship.trust_domain) != Some(&relationship) {
            self.relationships
                .insert(relationship.trust_domain.clone(), Some(Arc::clone(&relationship)));
            self.changes.push(Change::RelationshipPut(relationship));
        }
    }

    pub(crate) fn delete_relationship(&mut self, domain: &TrustDomain) {
        self.relationships.insert(domain.clone(), None);
        self.changes.push(Change::RelationshipDelete(domain.clone()));
    }

    /// Any other change the batch makes.
    pub(crate) fn push(&mut self, change: Change) {
        self.changes.push(change);
    }

    /// What the batch changes.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        self.changes
    }
}
