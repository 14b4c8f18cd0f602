//! The way from an entry up to the agents that may serve it, and where it breaks.
//!
//! Invariant: it comes to the same agents as [`State::authorized_entries`] gives the entry to.

use std::collections::{BTreeSet, HashSet};

use credence_identity::diagnosis::meant;
use credence_identity::{Entry, Selector, SpiffeId, Timestamp};

use super::cause::EntryCause;
use crate::registry::State;
use crate::store::Node;

/// Entries looked at on the way: an ID that thousands of entries have would take long.
const MOST_LOOKS: usize = 10_000;

/// What the way leads to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Reach {
    pub(super) agents: BTreeSet<SpiffeId>,
    /// Where it breaks off, the nearest to the entry first.
    pub(super) breaks: Vec<EntryCause>,
}

pub(super) fn climb(state: &State, entry: &Entry, now: Timestamp) -> Reach {
    let mut reach = Reach::default();
    let server = SpiffeId::server(state.trust_domain());
    if entry.parent_id == server {
        alias(state, entry, now, &mut reach);
        return reach;
    }
    let mut seen: HashSet<SpiffeId> = HashSet::from([entry.parent_id.clone()]);
    let mut parents = vec![(entry.clone(), entry.parent_id.clone())];
    let mut looks = 0;
    // The entry that led back to where the way had been.
    let mut closing = None;
    while let Some((child, parent)) = parents.pop() {
        let mut known = false;
        if state.node(&parent).is_some() {
            known = true;
            match of_agent(state, &parent, now) {
                Some(cause) => reach.breaks.push(cause),
                None => drop(reach.agents.insert(parent.clone())),
            }
        }
        for (_, above) in state.entries_by_spiffe_id(&parent).take(MOST_LOOKS) {
            known = true;
            looks += 1;
            if let Some(at) = above.expires_at.filter(|_| above.is_expired_at(now)) {
                reach.breaks.push(EntryCause::ParentExpired {
                    id: above.id.clone(),
                    parent: parent.clone(),
                    at,
                });
            } else if above.parent_id == server {
                alias(state, above, now, &mut reach);
            } else if seen.insert(above.parent_id.clone()) && looks < MOST_LOOKS {
                parents.push((Entry::clone(above), above.parent_id.clone()));
            } else {
                closing.get_or_insert_with(|| above.id.clone());
            }
        }
        if !known {
            reach.breaks.push(unknown(state, &child, parent));
        }
    }
    // Two ways may meet above an entry; only where nothing else is found do they go round.
    if let Some(id) = closing
        && reach == Reach::default()
    {
        reach.breaks.push(EntryCause::ParentLoop { id });
    }
    reach
}

/// Why an agent that has a row serves nothing.
pub(super) fn of_agent(state: &State, id: &SpiffeId, now: Timestamp) -> Option<EntryCause> {
    let node = state.node(id)?;
    if node.is_banned() {
        Some(EntryCause::AgentBanned { agent: id.clone() })
    } else if now >= node.not_after.max(node.new_not_after.unwrap_or(node.not_after)) {
        Some(EntryCause::AgentExpired {
            agent: id.clone(),
            at: node.not_after,
        })
    } else {
        None
    }
}

fn unknown(state: &State, child: &Entry, parent: SpiffeId) -> EntryCause {
    let agents = state.nodes().map(|(_, node)| node.id.as_str());
    if parent.is_agent() {
        let meant = meant(parent.as_str(), agents).map(str::to_owned);
        return EntryCause::AgentUnknown {
            id: child.id.clone(),
            agent: parent,
            meant,
        };
    }
    let entries = state.entries().map(|(_, entry)| entry.spiffe_id.as_str());
    let meant = meant(
        parent.as_str(),
        entries.filter(|id| *id != child.spiffe_id.as_str()).chain(agents),
    );
    EntryCause::ParentUnknown {
        id: child.id.clone(),
        meant: meant.map(str::to_owned),
        parent,
    }
}

/// An entry below the server stands for the nodes that have all of its selectors.
fn alias(state: &State, alias: &Entry, now: Timestamp, reach: &mut Reach) {
    let mut any = false;
    for node in state.nodes_with(&alias.selectors) {
        any = true;
        match of_agent(state, &node.id, now) {
            Some(cause) => reach.breaks.push(cause),
            None => drop(reach.agents.insert(node.id.clone())),
        }
    }
    if !any {
        let lacking = |node: &Node| -> Vec<Selector> {
            let lacking = alias.selectors.iter().filter(|one| !node.selectors.contains(one));
            lacking.cloned().collect()
        };
        let nearest = state
            .nodes()
            .take(MOST_LOOKS)
            .filter(|(_, node)| !node.selectors.is_empty())
            .map(|(_, node)| (lacking(node), &node.id))
            .min_by_key(|(lacking, _)| lacking.len());
        reach.breaks.push(EntryCause::AliasUnmatched {
            id: alias.id.clone(),
            spiffe_id: alias.spiffe_id.clone(),
            selector: nearest
                .as_ref()
                .and_then(|(lacking, _)| lacking.first().cloned())
                .or_else(|| alias.selectors.first().cloned()),
            nearest: nearest.map(|(_, id)| id.clone()),
        });
    }
}
