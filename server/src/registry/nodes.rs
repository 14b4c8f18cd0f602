//! The table of attested nodes and its indexes.
//!
//! Invariant: as for entries, each index holds exactly the rows whose node has the indexed value.

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::Arc;

use credence_identity::{Selector, SpiffeId};

use super::rows::{self, Rows};
use crate::store::{Node, Row};

#[derive(Debug, Default)]
pub(super) struct Nodes {
    rows: BTreeMap<Row, Arc<Node>>,
    by_id: HashMap<SpiffeId, Row>,
    by_selector: HashMap<Selector, Rows>,
}

impl Nodes {
    /// Puts a node in its row, or in `row` if its ID is new.
    pub(super) fn put(&mut self, row: Row, node: Arc<Node>) {
        let row = *self.by_id.entry(node.id.clone()).or_insert(row);
        if let Some(old) = self.rows.get(&row).cloned() {
            self.unindex(row, &old);
        }
        for selector in &node.selectors {
            rows::insert(&mut self.by_selector, selector.clone(), row);
        }
        self.rows.insert(row, node);
    }

    pub(super) fn delete(&mut self, id: &SpiffeId) {
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

    /// The node with the row it is in.
    pub(super) fn at(&self, id: &SpiffeId) -> Option<(Row, Arc<Node>)> {
        let row = *self.by_id.get(id)?;
        Some((row, Arc::clone(self.rows.get(&row)?)))
    }

    pub(super) fn by_id(&self, id: &SpiffeId) -> Option<&Arc<Node>> {
        self.rows.get(self.by_id.get(id)?)
    }

    pub(super) fn after(&self, row: Row) -> impl Iterator<Item = (Row, &Arc<Node>)> {
        self.rows
            .range((Bound::Excluded(row), Bound::Unbounded))
            .map(|(row, node)| (*row, node))
    }

    /// The nodes that have all of these selectors; nobody has all of none.
    pub(super) fn with_all(&self, selectors: &[Selector]) -> impl Iterator<Item = &Arc<Node>> {
        let fewest = |selector: &&Selector| self.by_selector.get(*selector).map_or(0, Rows::len);
        let rarest = selectors.iter().min_by_key(fewest);
        let candidates = rarest
            .into_iter()
            .flat_map(|selector| rows::at(&self.by_selector, selector));
        let candidates = candidates.filter_map(|row| self.rows.get(&row));
        candidates.filter(|node| selectors.iter().all(|wanted| node.selectors.contains(wanted)))
    }

    fn unindex(&mut self, row: Row, node: &Node) {
        for selector in &node.selectors {
            rows::remove(&mut self.by_selector, selector, row);
        }
    }
}
