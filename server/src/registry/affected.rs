//! Whom a change concerns.
//!
//! Invariant: if a change adds, alters or removes anything in an agent's set of entries, the agent is among those
//! named. An entry that an agent gains or loses is reached by a path on which some step came or went; the first such
//! step seen from the agent is an entry that was put, deleted or expired, and whoever reaches that one is found by
//! walking up from it, in the state that has it. Expired entries are walked through, so a few agents more than needed
//! may be named.

use std::collections::HashSet;

use credence_identity::{Entry, EntryId, SpiffeId, TrustDomain};

use super::state::State;
use crate::store::Change;

/// Agents to be told.
#[derive(Debug, Default)]
pub(super) struct Affected {
    /// Everyone: the trust domain's own bundle changed.
    pub(super) all: bool,
    pub(super) agents: HashSet<SpiffeId>,
}

impl Affected {
    /// Notes whom the changes concern by what they end. `state` is the one before them.
    pub(super) fn note_before(&mut self, state: &State, changes: &[Change]) {
        let mut walk = Walk::new(state, self);
        for change in changes {
            match change {
                Change::EntryPut(entry) => walk.entry_of(&entry.id),
                Change::EntryDelete(id) => walk.entry_of(id),
                Change::NodePut(node) => walk.name(&node.id),
                Change::NodeDelete(id) => walk.name(id),
                Change::BundlePut(bundle) => walk.bundle(&bundle.trust_domain),
                Change::BundleDelete(domain) => walk.bundle(domain),
                Change::JoinTokenPut(_)
                | Change::JoinTokenDelete(_)
                | Change::RelationshipPut(_)
                | Change::RelationshipDelete(_)
                | Change::JournalPut(_) => {}
            }
        }
    }

    /// Notes whom the changes concern by what they begin. `state` is the one after them, `put` the ids of the
    /// entries that were put.
    pub(super) fn note_after(&mut self, state: &State, put: &[EntryId]) {
        let mut walk = Walk::new(state, self);
        put.iter().for_each(|id| walk.entry_of(id));
    }

    /// Notes whom it concerns that these entries expire, or come back to life by a step of the clock.
    pub(super) fn note_expiry<'a>(&mut self, state: &'a State, entries: impl Iterator<Item = &'a Entry>) {
        let mut walk = Walk::new(state, self);
        entries.for_each(|entry| walk.entry(entry));
    }
}

/// One walk up through one state. What was seen is not visited again, however many entries changed below it.
struct Walk<'a> {
    state: &'a State,
    found: &'a mut Affected,
    seen: HashSet<&'a SpiffeId>,
}

impl<'a> Walk<'a> {
    fn new(state: &'a State, found: &'a mut Affected) -> Self {
        Walk {
            state,
            found,
            seen: HashSet::new(),
        }
    }

    fn name(&mut self, agent: &SpiffeId) {
        self.found.agents.insert(agent.clone());
    }

    fn entry_of(&mut self, id: &EntryId) {
        if let Some(entry) = self.state.entry(id) {
            self.entry(entry);
        }
    }

    fn bundle(&mut self, domain: &TrustDomain) {
        if domain == self.state.trust_domain() {
            self.found.all = true;
        } else {
            self.state
                .entries_by_federation(domain)
                .for_each(|(_, entry)| self.entry(entry));
        }
    }

    /// Names all agents that reach the entry.
    fn entry(&mut self, entry: &'a Entry) {
        let mut reached = vec![entry];
        while let Some(entry) = reached.pop() {
            if self.state.entries.is_alias(entry) {
                let nodes = self.state.nodes.with_all(&entry.selectors);
                self.found.agents.extend(nodes.map(|node| node.id.clone()));
            } else if self.seen.insert(&entry.parent_id) {
                if let Some(node) = self.state.node(&entry.parent_id) {
                    self.found.agents.insert(node.id.clone());
                }
                let parents = self.state.entries_by_spiffe_id(&entry.parent_id);
                reached.extend(parents.map(|(_, parent)| &**parent));
            }
        }
    }
}
