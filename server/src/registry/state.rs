//! The trust domain at one revision, and how a change alters it.
//!
//! Owns no decision: it applies what was committed. Invariant: it equals what a fresh load of the store would build.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use credence_identity::{
    Bundle, Entry, EntryId, FederationRelationship, Selector, SelectorSet, SpiffeId, Timestamp, TrustDomain,
};

use super::entries::Entries;
use super::nodes::Nodes;
use crate::store::{Change, JoinToken, Journal, Node, Revision, Row, Snapshot};

/// The selector type by which the alias entry of a join token names its agent, as SPIRE does.
const SPIFFE_ID_SELECTOR: &str = "spiffe_id";

/// All of a trust domain, for reading. Iterators go by ascending row, that is, by age.
#[derive(Debug)]
pub struct State {
    trust_domain: TrustDomain,
    revision: Revision,
    pub(super) entries: Entries,
    pub(super) nodes: Nodes,
    join_tokens: HashMap<String, JoinToken>,
    bundles: Listed<Bundle>,
    relationships: Listed<FederationRelationship>,
    journal: Option<Journal>,
}

/// Objects of trust domains, each with its place in listings. They are few.
type Listed<T> = BTreeMap<TrustDomain, (Row, Arc<T>)>;

/// An object as it was before a change.
#[derive(Debug)]
pub(super) enum Undo {
    Entry(EntryId, Option<(Row, Arc<Entry>)>),
    Node(SpiffeId, Option<(Row, Arc<Node>)>),
    JoinToken(String, Option<JoinToken>),
    Bundle(TrustDomain, Option<(Row, Arc<Bundle>)>),
    Relationship(TrustDomain, Option<(Row, Arc<FederationRelationship>)>),
    Journal(Option<Journal>),
}

impl Undo {
    fn bundle(state: &State, domain: &TrustDomain) -> Undo {
        Undo::Bundle(domain.clone(), state.bundles.get(domain).cloned())
    }

    fn relationship(state: &State, domain: &TrustDomain) -> Undo {
        Undo::Relationship(domain.clone(), state.relationships.get(domain).cloned())
    }
}

impl State {
    pub(crate) fn build(trust_domain: TrustDomain, snapshot: Snapshot) -> State {
        let mut entries = Entries::new(SpiffeId::server(&trust_domain), snapshot.entries.len());
        snapshot
            .entries
            .into_iter()
            .for_each(|(row, entry)| entries.put(row, entry));
        let mut nodes = Nodes::default();
        snapshot
            .nodes
            .into_iter()
            .for_each(|(row, node)| nodes.put(row, node));
        State {
            trust_domain,
            revision: snapshot.revision,
            entries,
            nodes,
            join_tokens: snapshot
                .join_tokens
                .into_iter()
                .map(|token| (token.token.clone(), token))
                .collect(),
            bundles: snapshot
                .bundles
                .into_iter()
                .map(|(row, bundle)| (bundle.trust_domain.clone(), (row, bundle)))
                .collect(),
            relationships: snapshot
                .relationships
                .into_iter()
                .map(|(row, held)| (held.trust_domain.clone(), (row, held)))
                .collect(),
            journal: snapshot.journal,
        }
    }

    /// The server's trust domain.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The revision of the last change.
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// The entry of this id.
    pub fn entry(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        self.entries.by_id(id)
    }

    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = (Row, &Arc<Entry>)> {
        self.entries_after(Row(0))
    }

    /// The entries in rows after this one: the next page.
    pub fn entries_after(&self, row: Row) -> impl Iterator<Item = (Row, &Arc<Entry>)> {
        self.entries.after(row)
    }

    /// The entries with this parent.
    pub fn entries_by_parent(&self, parent: &SpiffeId) -> impl Iterator<Item = (Row, &Arc<Entry>)> {
        self.entries.by_parent(parent)
    }

    /// The entries with this SPIFFE ID.
    pub fn entries_by_spiffe_id(&self, id: &SpiffeId) -> impl Iterator<Item = (Row, &Arc<Entry>)> {
        self.entries.by_spiffe_id(id)
    }

    /// The entries that federate with this trust domain.
    pub fn entries_by_federation(&self, domain: &TrustDomain) -> impl Iterator<Item = (Row, &Arc<Entry>)> {
        self.entries.by_federation(domain)
    }

    /// How many entries there are, expired ones that wait for the pruner included.
    pub fn entry_count(&self) -> usize {
        self.entries.len()
    }

    /// The entry with the same SPIFFE ID, parent and set of selectors, whatever its id.
    pub fn similar_entry(&self, to: &Entry) -> Option<&Arc<Entry>> {
        let wanted: SelectorSet = to.selectors.iter().cloned().collect();
        let similar = |entry: &Entry| {
            entry.spiffe_id == to.spiffe_id
                && entry.parent_id == to.parent_id
                && entry.selectors.iter().cloned().collect::<SelectorSet>() == wanted
        };
        let by_parent =
            self.entries.count_by_parent(&to.parent_id) < self.entries.count_by_spiffe_id(&to.spiffe_id);
        if by_parent {
            self.entries_by_parent(&to.parent_id)
                .map(|(_, entry)| entry)
                .find(|entry| similar(entry))
        } else {
            self.entries_by_spiffe_id(&to.spiffe_id)
                .map(|(_, entry)| entry)
                .find(|entry| similar(entry))
        }
    }

    /// The node with this ID, banned ones included.
    pub fn node(&self, id: &SpiffeId) -> Option<&Arc<Node>> {
        self.nodes.by_id(id)
    }

    /// The nodes that have all of these selectors; none has all of none.
    pub fn nodes_with(&self, selectors: &[Selector]) -> impl Iterator<Item = &Arc<Node>> {
        self.nodes.with_all(selectors)
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = (Row, &Arc<Node>)> {
        self.nodes_after(Row(0))
    }

    /// The nodes in rows after this one: the next page.
    pub fn nodes_after(&self, row: Row) -> impl Iterator<Item = (Row, &Arc<Node>)> {
        self.nodes.after(row)
    }

    /// How many nodes there are.
    pub fn node_count(&self) -> usize {
        self.nodes.len()
    }

    /// What it takes to evict a node: its row goes, and the alias entry that was made with its join token.
    pub fn eviction_of(&self, agent: &SpiffeId) -> Vec<Change> {
        let mut changes = vec![Change::NodeDelete(agent.clone())];
        if let Ok(own) = Selector::new(SPIFFE_ID_SELECTOR, agent.as_str()) {
            let of_token = |entry: &Entry| entry.selectors == [own.clone()];
            let aliases = self.entries_by_parent(agent).filter(|(_, entry)| of_token(entry));
            changes.extend(aliases.map(|(_, entry)| Change::EntryDelete(entry.id.clone())));
        }
        changes
    }

    /// The join token with this text, even if it has expired.
    pub fn join_token(&self, token: &str) -> Option<&JoinToken> {
        self.join_tokens.get(token)
    }

    /// All join tokens that were not spent.
    pub fn join_tokens(&self) -> impl Iterator<Item = &JoinToken> {
        self.join_tokens.values()
    }

    /// The bundle of a trust domain.
    pub fn bundle(&self, domain: &TrustDomain) -> Option<&Arc<Bundle>> {
        self.bundles.get(domain).map(|(_, bundle)| bundle)
    }

    /// The bundle of the server's own trust domain; none before its first authority exists.
    pub fn own_bundle(&self) -> Option<&Arc<Bundle>> {
        self.bundle(&self.trust_domain)
    }

    /// All bundles by name of the trust domain, the own one included.
    pub fn bundles(&self) -> impl Iterator<Item = &Arc<Bundle>> {
        self.bundles.values().map(|(_, bundle)| bundle)
    }

    /// The bundles of other trust domains in rows after this one: the next page.
    pub fn federated_bundles_after(&self, row: Row) -> impl Iterator<Item = (Row, &Arc<Bundle>)> {
        by_row(&self.bundles, row).filter(|(_, bundle)| bundle.trust_domain != self.trust_domain)
    }

    /// The federation relationship with a trust domain.
    pub fn relationship(&self, domain: &TrustDomain) -> Option<&Arc<FederationRelationship>> {
        self.relationships.get(domain).map(|(_, held)| held)
    }

    /// The federation relationships in rows after this one: the next page.
    pub fn relationships_after(&self, row: Row) -> impl Iterator<Item = (Row, &Arc<FederationRelationship>)> {
        by_row(&self.relationships, row)
    }

    /// The authorities' journal.
    pub fn journal(&self) -> Option<&Journal> {
        self.journal.as_ref()
    }

    /// An ID of another trust domain, if there is one.
    pub(super) fn foreign_id(&self) -> Option<SpiffeId> {
        let entries = self
            .entries()
            .flat_map(|(_, entry)| [&entry.spiffe_id, &entry.parent_id]);
        let ids = entries.chain(self.nodes().map(|(_, node)| &node.id));
        ids.into_iter()
            .find(|id| !id.is_member_of(&self.trust_domain))
            .cloned()
    }

    /// The changes that remove expired entries and join tokens.
    pub(super) fn expired(&self, now: Timestamp) -> impl Iterator<Item = Change> {
        let entries = self.entries.expiring(Timestamp::from_unix_millis(i64::MIN), now);
        let tokens = self
            .join_tokens
            .values()
            .filter(move |token| now >= token.expires_at);
        let entries = entries.map(|entry| Change::EntryDelete(entry.id.clone()));
        entries.chain(tokens.map(|token| Change::JoinTokenDelete(token.token.clone())))
    }

    /// What takes a change back that is applied to this state.
    pub(super) fn undo_of(&self, change: &Change) -> Undo {
        match change {
            Change::EntryPut(entry) => Undo::Entry(entry.id.clone(), self.entries.at(&entry.id)),
            Change::EntryDelete(id) => Undo::Entry(id.clone(), self.entries.at(id)),
            Change::NodePut(node) => Undo::Node(node.id.clone(), self.nodes.at(&node.id)),
            Change::NodeDelete(id) => Undo::Node(id.clone(), self.nodes.at(id)),
            Change::JoinTokenPut(JoinToken { token, .. }) | Change::JoinTokenDelete(token) => {
                Undo::JoinToken(token.clone(), self.join_token(token).cloned())
            }
            Change::BundlePut(bundle) => Undo::bundle(self, &bundle.trust_domain),
            Change::BundleDelete(domain) => Undo::bundle(self, domain),
            Change::RelationshipPut(put) => Undo::relationship(self, &put.trust_domain),
            Change::RelationshipDelete(domain) => Undo::relationship(self, domain),
            Change::JournalPut(_) => Undo::Journal(self.journal.clone()),
        }
    }

    /// Takes the last change back.
    pub(super) fn undo(&mut self, undo: Undo) {
        self.revision = Revision(self.revision.0.saturating_sub(1));
        match undo {
            Undo::Entry(_, Some((row, entry))) => self.entries.put(row, entry),
            Undo::Entry(id, None) => self.entries.delete(&id),
            Undo::Node(_, Some((row, node))) => self.nodes.put(row, node),
            Undo::Node(id, None) => self.nodes.delete(&id),
            Undo::JoinToken(text, Some(token)) => drop(self.join_tokens.insert(text, token)),
            Undo::JoinToken(text, None) => drop(self.join_tokens.remove(&text)),
            Undo::Bundle(domain, Some(bundle)) => drop(self.bundles.insert(domain, bundle)),
            Undo::Bundle(domain, None) => drop(self.bundles.remove(&domain)),
            Undo::Relationship(domain, Some(held)) => drop(self.relationships.insert(domain, held)),
            Undo::Relationship(domain, None) => drop(self.relationships.remove(&domain)),
            Undo::Journal(journal) => self.journal = journal,
        }
    }

    /// Applies a change that was committed as the next revision.
    pub(super) fn apply(&mut self, change: Change) {
        self.revision = self.revision.plus(1);
        let new_row = Row::from(self.revision);
        match change {
            Change::EntryPut(entry) => self.entries.put(new_row, entry),
            Change::EntryDelete(id) => self.entries.delete(&id),
            Change::NodePut(node) => self.nodes.put(new_row, node),
            Change::NodeDelete(id) => self.nodes.delete(&id),
            Change::JoinTokenPut(token) => {
                self.join_tokens.insert(token.token.clone(), token);
            }
            Change::JoinTokenDelete(token) => {
                self.join_tokens.remove(&token);
            }
            Change::BundlePut(bundle) => {
                put(&mut self.bundles, bundle.trust_domain.clone(), new_row, bundle);
            }
            Change::BundleDelete(domain) => {
                self.bundles.remove(&domain);
            }
            Change::RelationshipPut(held) => {
                put(&mut self.relationships, held.trust_domain.clone(), new_row, held);
            }
            Change::RelationshipDelete(domain) => {
                self.relationships.remove(&domain);
            }
            Change::JournalPut(journal) => self.journal = Some(journal),
        }
    }
}

/// Puts an object, which keeps the row it has.
fn put<T>(listed: &mut Listed<T>, domain: TrustDomain, new_row: Row, object: Arc<T>) {
    let row = listed.get(&domain).map_or(new_row, |(row, _)| *row);
    listed.insert(domain, (row, object));
}

fn by_row<T>(listed: &Listed<T>, after: Row) -> impl Iterator<Item = (Row, &Arc<T>)> {
    let mut rows: Vec<(Row, &Arc<T>)> = listed.values().map(|(row, object)| (*row, object)).collect();
    rows.retain(|(row, _)| *row > after);
    rows.sort_unstable_by_key(|(row, _)| *row);
    rows.into_iter()
}
