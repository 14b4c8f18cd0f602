//! A store that forgets everything at the end of the process: for tests, and the yardstick of the other stores.
//!
//! It keeps the same tables in maps. Invariant: it refuses what a real store refuses.

use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;

use credence_identity::{Bundle, Entry, EntryId, FederationRelationship, SpiffeId, Timestamp, TrustDomain};

use super::{Change, JoinToken, Journal, Node, Revision, Row, Snapshot, Store, StoreError};

/// See the module's text. Starts empty.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Tables,
}

#[derive(Debug, Default, Clone)]
struct Tables {
    revision: Revision,
    entries: BTreeMap<EntryId, (Row, Arc<Entry>)>,
    nodes: BTreeMap<SpiffeId, (Row, Arc<Node>)>,
    join_tokens: BTreeMap<String, JoinToken>,
    bundles: BTreeMap<TrustDomain, (Row, Arc<Bundle>)>,
    relationships: BTreeMap<TrustDomain, (Row, Arc<FederationRelationship>)>,
    journal: Option<Journal>,
}

impl Store for MemoryStore {
    async fn load(&mut self) -> Result<Snapshot, StoreError> {
        let tables = self.tables.clone();
        let mut snapshot = Snapshot {
            revision: tables.revision,
            entries: tables.entries.into_values().collect(),
            nodes: tables.nodes.into_values().collect(),
            join_tokens: tables.join_tokens.into_values().collect(),
            bundles: tables.bundles.into_values().collect(),
            relationships: tables.relationships.into_values().collect(),
            journal: tables.journal,
        };
        snapshot.entries.sort_by_key(|(row, _)| *row);
        snapshot.nodes.sort_by_key(|(row, _)| *row);
        snapshot.bundles.sort_by_key(|(row, _)| *row);
        snapshot.relationships.sort_by_key(|(row, _)| *row);
        Ok(snapshot)
    }

    async fn commit(
        &mut self,
        at: Revision,
        changes: &[Change],
        _now: Timestamp,
    ) -> Result<Revision, StoreError> {
        if self.tables.revision != at {
            return Err(StoreError::Moved { expected: at });
        }
        let mut next = self.tables.clone();
        for change in changes {
            next.apply(change);
        }
        next.check()?;
        self.tables = next;
        Ok(self.tables.revision)
    }

    async fn probe(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(self) {}
}

impl Tables {
    fn apply(&mut self, change: &Change) {
        self.revision = self.revision.plus(1);
        let new_row = Row::from(self.revision);
        match change {
            Change::EntryPut(entry) => {
                let row = self.entries.get(&entry.id).map_or(new_row, |(row, _)| *row);
                self.entries.insert(entry.id.clone(), (row, Arc::clone(entry)));
            }
            Change::EntryDelete(id) => {
                self.entries.remove(id);
            }
            Change::NodePut(node) => {
                let row = self.nodes.get(&node.id).map_or(new_row, |(row, _)| *row);
                self.nodes.insert(node.id.clone(), (row, Arc::clone(node)));
            }
            Change::NodeDelete(id) => {
                self.nodes.remove(id);
            }
            Change::JoinTokenPut(token) => {
                self.join_tokens.insert(token.token.clone(), token.clone());
            }
            Change::JoinTokenDelete(token) => {
                self.join_tokens.remove(token);
            }
            Change::BundlePut(bundle) => {
                let domain = &bundle.trust_domain;
                let row = self.bundles.get(domain).map_or(new_row, |(row, _)| *row);
                self.bundles.insert(domain.clone(), (row, Arc::clone(bundle)));
            }
            Change::BundleDelete(domain) => {
                self.bundles.remove(domain);
            }
            Change::RelationshipPut(relationship) => {
                let domain = &relationship.trust_domain;
                let row = self.relationships.get(domain).map_or(new_row, |(row, _)| *row);
                self.relationships
                    .insert(domain.clone(), (row, Arc::clone(relationship)));
            }
            Change::RelationshipDelete(domain) => {
                self.relationships.remove(domain);
            }
            Change::JournalPut(journal) => self.journal = Some(journal.clone()),
        }
    }

    fn check(&self) -> Result<(), StoreError> {
        let unknown = |domain: &&TrustDomain| !self.bundles.contains_key(*domain);
        let mut referred = self.entries.values().flat_map(|(_, entry)| &entry.federates_with);
        match referred.find(unknown) {
            Some(domain) => Err(StoreError::Constraint(
                Box::<dyn Error + Send + Sync>::from(format!("no bundle of {domain}")).into(),
            )),
            None => Ok(()),
        }
    }
}
