//! Which entries an agent may have.
//!
//! An agent holds its own ID and the SPIFFE IDs of the node aliases that apply to it: entries with the server as
//! parent whose selectors the node all has. It may have each entry whose parent it holds, and then holds that
//! entry's SPIFFE ID too. Invariant: an expired entry authorises nothing from its second on; it is neither handed
//! out, nor an alias, nor a parent on the way to another (SPIRE waits for its pruner). A node that is unknown or banned
//! has nothing.

use std::collections::HashSet;
use std::ops::Deref;
use std::sync::Arc;

use credence_identity::{Entry, EntryId, SpiffeId, Timestamp};

use super::state::State;

/// Proof that an agent may have an entry; only the registry makes it, and nothing is signed for a workload without.
#[derive(Debug, Clone)]
pub struct AuthorizedEntry(Arc<Entry>);

impl AuthorizedEntry {
    /// The entry.
    pub fn entry(&self) -> &Arc<Entry> {
        &self.0
    }
}

impl Deref for AuthorizedEntry {
    type Target = Entry;

    fn deref(&self) -> &Entry {
        &self.0
    }
}

impl State {
    /// All entries the agent may have at that time, by ascending row. Costs what the set is large.
    pub fn authorized_entries(&self, agent: &SpiffeId, now: Timestamp) -> Vec<Arc<Entry>> {
        let mut held = self.first_held(agent, now);
        let mut seen = HashSet::new();
        let mut found = Vec::new();
        while let Some(id) = held.pop() {
            if !seen.insert(id) {
                continue;
            }
            for (row, entry) in self
                .entries
                .by_parent(id)
                .filter(|(_, entry)| !entry.is_expired_at(now))
            {
                found.push((row, Arc::clone(entry)));
                if self.entries.count_by_parent(&entry.spiffe_id) > 0 {
                    held.push(&entry.spiffe_id);
                }
            }
        }
        // Each parent was visited once, so no entry is there twice.
        found.sort_unstable_by_key(|(row, _)| *row);
        found.into_iter().map(|(_, entry)| entry).collect()
    }

    /// Whether the agent may have this entry at that time.
    ///
    /// Looks down from the agent and up from the entry at once, each time where fewer entries stand, so that neither
    /// an agent with many entries nor an ID that each of many nodes has makes it slow.
    pub fn authorized_entry(
        &self,
        agent: &SpiffeId,
        id: &EntryId,
        now: Timestamp,
    ) -> Option<AuthorizedEntry> {
        let entry = self
            .entry(id)
            .filter(|entry| !entry.is_expired_at(now) && !self.entries.is_alias(entry))?;
        let live = |(_, entry): (_, &'_ Arc<Entry>)| !entry.is_expired_at(now);
        let mut held: HashSet<&SpiffeId> = self.first_held(agent, now).into_iter().collect();
        let mut wanted = HashSet::from([&entry.parent_id]);
        let (mut down, mut up): (Vec<_>, Vec<_>) = (held.iter().copied().collect(), vec![&entry.parent_id]);
        while held.is_disjoint(&wanted) {
            let down_cost: usize = down.iter().map(|id| self.entries.count_by_parent(id)).sum();
            let up_cost: usize = up.iter().map(|id| self.entries.count_by_spiffe_id(id)).sum();
            if down_cost == 0 || up_cost == 0 {
                return None;
            }
            if down_cost <= up_cost {
                let entries = down
                    .iter()
                    .flat_map(|id| self.entries.by_parent(id))
                    .filter(|e| live(*e));
                down = entries
                    .map(|(_, entry)| &entry.spiffe_id)
                    .filter(|id| held.insert(id))
                    .collect();
            } else {
                let entries = up
                    .iter()
                    .flat_map(|id| self.entries.by_spiffe_id(id))
                    .filter(|e| live(*e));
                let entries = entries.filter(|(_, entry)| !self.entries.is_alias(entry));
                up = entries
                    .map(|(_, entry)| &entry.parent_id)
                    .filter(|id| wanted.insert(id))
                    .collect();
            }
        }
        Some(AuthorizedEntry(Arc::clone(entry)))
    }

    /// What the agent holds before any entry, by value.
    pub fn first_held_ids(&self, agent: &SpiffeId, now: Timestamp) -> Vec<SpiffeId> {
        self.first_held(agent, now).into_iter().cloned().collect()
    }

    /// What the agent holds before any entry: its own ID and those of its aliases.
    fn first_held<'a>(&'a self, agent: &SpiffeId, now: Timestamp) -> Vec<&'a SpiffeId> {
        let Some(node) = self.node(agent).filter(|node| !node.is_banned()) else {
            return Vec::new();
        };
        let aliases = self
            .entries
            .aliases_of(&node.selectors)
            .filter(|alias| !alias.is_expired_at(now));
        [&node.id]
            .into_iter()
            .chain(aliases.map(|alias| &alias.spiffe_id))
            .collect()
    }
}
