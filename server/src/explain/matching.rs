//! What an agent may learn of entries that match a workload of its.
//!
//! An agent may be hostile. It is told of entries that it is authorised for, of expired ones below what it holds (it held
//! them until they expired), and with one bit that another entry has no selectors but those asked. No name, parent or
//! selector of such an entry leaves the server, so that the bit confirms a guess and no more; who may know the rest asks
//! on the server's own socket.

use std::collections::HashSet;
use std::sync::Arc;

use credence_identity::{Entry, SelectorSet, SpiffeId, Timestamp};

use crate::registry::{Registry, State};
use crate::store::Row;

/// Entries looked at before others get the registry.
const AT_A_TIME: usize = 4096;

/// What is told.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Matches {
    pub(crate) authorized: Vec<Arc<Entry>>,
    pub(crate) expired: Vec<Arc<Entry>>,
    pub(crate) elsewhere: bool,
}

/// Compares all entries with what the agent attested, in turns.
pub(crate) async fn matches(
    registry: &Registry,
    agent: &SpiffeId,
    selectors: &SelectorSet,
    now: Timestamp,
) -> Matches {
    let (authorized, held) = {
        let state = registry.read();
        let authorized = state.authorized_entries(agent, now);
        let first = state.first_held_ids(agent, now);
        let below = authorized.iter().map(|entry| entry.spiffe_id.clone());
        let held: HashSet<SpiffeId> = first.into_iter().chain(below).collect();
        (authorized, held)
    };
    let mut found = Matches {
        authorized: authorized
            .iter()
            .filter(|entry| is_match(entry, selectors))
            .cloned()
            .collect(),
        ..Matches::default()
    };
    let mut after = Row(0);
    loop {
        let next = turn(&registry.read(), after, &held, selectors, now, &mut found);
        match next {
            Some(row) => after = row,
            None => return found,
        }
        tokio::task::yield_now().await;
    }
}

/// The row to go on after, if there are more.
fn turn(
    state: &State,
    after: Row,
    held: &HashSet<SpiffeId>,
    selectors: &SelectorSet,
    now: Timestamp,
    found: &mut Matches,
) -> Option<Row> {
    let server = SpiffeId::server(state.trust_domain());
    let (mut last, mut looked) = (after, 0);
    for (row, entry) in state.entries_after(after).take(AT_A_TIME) {
        (last, looked) = (row, looked + 1);
        if entry.parent_id == server || !is_match(entry, selectors) {
            continue;
        }
        match (held.contains(&entry.parent_id), entry.is_expired_at(now)) {
            (true, true) => found.expired.push(Arc::clone(entry)),
            (false, false) => found.elsewhere = true,
            _ => {}
        }
    }
    (looked == AT_A_TIME).then_some(last)
}

fn is_match(entry: &Entry, selectors: &SelectorSet) -> bool {
    !entry.selectors.is_empty() && selectors.contains_all(&entry.selectors)
}
