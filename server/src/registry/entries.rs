//! The table of entries and its indexes.
//!
//! Invariant: each index holds exactly the rows whose entry has the indexed value.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use credence_identity::{Entry, EntryId, Selector, SpiffeId, Timestamp, TrustDomain};

use super::rows::{self, Rows};
use crate::store::Row;

#[derive(Debug)]
pub(super) struct Entries {
    /// The server's own ID: the parent of node aliases.
    server: SpiffeId,
    rows: BTreeMap<Row, Arc<Entry>>,
    by_id: HashMap<EntryId, Row>,
    by_parent: HashMap<SpiffeId, Rows>,
    by_spiffe_id: HashMap<SpiffeId, Rows>,
    by_federation: HashMap<TrustDomain, Rows>,
    /// Node aliases by the least of their selectors: who has all of them has that one.
    aliases: HashMap<Selector, Rows>,
    expiry: BTreeSet<(Timestamp, Row)>,
}

impl Entries {
    pub(super) fn new(server: SpiffeId, capacity: usize) -> Self {
        Entries {
            server,
            rows: BTreeMap::new(),
            by_id: HashMap::with_capacity(capacity),
            by_parent: HashMap::new(),
            by_spiffe_id: HashMap::with_capacity(capacity),
            by_federation: HashMap::new(),
            aliases: HashMap::new(),
            expiry: BTreeSet::new(),
        }
    }

    /// Puts an entry in its row, or in `row` if its id is new.
    pub(super) fn put(&mut self, row: Row, entry: Arc<Entry>) {
        let row = self.by_id.get(&entry.id).copied().unwrap_or(row);
        if let Some(old) = self.rows.get(&row).cloned() {
            self.unindex(row, &old);
        }
        self.index(row, &entry);
        self.rows.insert(row, entry);
    }

    pub(super) fn delete(&mut self, id: &EntryId) {
        if let Some(old) = self
            .by_id
            .remove(id)
            .and_then(|row| Some((row, self.rows.remove(&row)?)))
        {
            self.unindex(old.0, &old.1);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.rows.len()
    }

    /// The entry with the row it is in.
    pub(super) fn at(&self, id: &EntryId) -> Option<(Row, Arc<Entry>)> {
        let row = *self.by_id.get(id)?;
        Some((row, Arc::clone(self.rows.get(&row)?)))
    }

    pub(super) fn by_id(&self, id: &EntryId) -> Option<&Arc<Entry>> {
        self.rows.get(self.by_id.get(id)?)
    }

    pub(super) fn after(&self, row: Row) -> impl Iterator<Item = (Row, &Arc<Entry>)> {
        self.rows
            .range((Bound::Excluded(row), Bound::Unbounded))
            .map(|(row, entry)| (*row, entry))
    }

    pub(super) fn by_parent(&self, parent: &SpiffeId) -> impl Iterator<Item = (Row, &Arc<Entry>)> {
        self.resolve(rows::at(&self.by_parent, parent))
    }

    pub(super) fn by_spiffe_id(&self, id: &SpiffeId) -> impl Iterator<Item = (Row, &Arc<Entry>)> {
        self.resolve(rows::at(&self.by_spiffe_id, id))
    }

    pub(super) fn by_federation(&self, domain: &TrustDomain) -> impl Iterator<Item = (Row, &Arc<Entry>)> {
        self.resolve(rows::at(&self.by_federation, domain))
    }

    /// How many entries have this parent.
    pub(super) fn count_by_parent(&self, parent: &SpiffeId) -> usize {
        self.by_parent.get(parent).map_or(0, Rows::len)
    }

    /// How many entries have this SPIFFE ID.
    pub(super) fn count_by_spiffe_id(&self, id: &SpiffeId) -> usize {
        self.by_spiffe_id.get(id).map_or(0, Rows::len)
    }

    /// The node aliases that a node with these selectors has. Without selectors an alias is nobody's.
    pub(super) fn aliases_of(&self, selectors: &[Selector]) -> impl Iterator<Item = &Arc<Entry>> {
        let candidates = selectors
            .iter()
            .flat_map(|selector| rows::at(&self.aliases, selector));
        let candidates = self.resolve(candidates).map(|(_, alias)| alias);
        candidates.filter(|alias| alias.selectors.iter().all(|wanted| selectors.contains(wanted)))
    }

    pub(super) fn is_alias(&self, entry: &Entry) -> bool {
        entry.parent_id == self.server
    }

    /// The entries that expire after `from` and not after `until`.
    pub(super) fn expiring(&self, from: Timestamp, until: Timestamp) -> impl Iterator<Item = &Arc<Entry>> {
        let range = (
            Bound::Excluded((from, Row(u64::MAX))),
            Bound::Included((until, Row(u64::MAX))),
        );
        // A range that ends before it starts would panic.
        let due = (from < until)
            .then(|| self.expiry.range(range))
            .into_iter()
            .flatten();
        self.resolve(due.map(|(_, row)| *row)).map(|(_, entry)| entry)
    }

    /// When the first entry after `now` expires.
    pub(super) fn next_expiry(&self, now: Timestamp) -> Option<Timestamp> {
        let later = (Bound::Excluded((now, Row(u64::MAX))), Bound::Unbounded);
        self.expiry.range(later).next().map(|(at, _)| *at)
    }

    fn resolve(&self, rows: impl Iterator<Item = Row>) -> impl Iterator<Item = (Row, &Arc<Entry>)> {
        rows.filter_map(|row| Some((row, self.rows.get(&row)?)))
    }

    fn index(&mut self, row: Row, entry: &Entry) {
        self.by_id.insert(entry.id.clone(), row);
        rows::insert(&mut self.by_parent, entry.parent_id.clone(), row);
        rows::insert(&mut self.by_spiffe_id, entry.spiffe_id.clone(), row);
        for domain in &entry.federates_with {
            rows::insert(&mut self.by_federation, domain.clone(), row);
        }
        if let Some(anchor) = self.anchor(entry) {
            rows::insert(&mut self.aliases, anchor, row);
        }
        if let Some(at) = entry.expires_at {
            self.expiry.insert((at, row));
        }
    }

    fn unindex(&mut self, row: Row, entry: &Entry) {
        self.by_id.remove(&entry.id);
        rows::remove(&mut self.by_parent, &entry.parent_id, row);
        rows::remove(&mut self.by_spiffe_id, &entry.spiffe_id, row);
        for domain in &entry.federates_with {
            rows::remove(&mut self.by_federation, domain, row);
        }
        if let Some(anchor) = self.anchor(entry) {
            rows::remove(&mut self.aliases, &anchor, row);
        }
        if let Some(at) = entry.expires_at {
            self.expiry.remove(&(at, row));
        }
    }

    fn anchor(&self, entry: &Entry) -> Option<Selector> {
        if self.is_alias(entry) {
            entry.selectors.iter().min().cloned()
        } else {
            None
        }
    }
}
