//! What was given and isn't certain to be in use yet, and what it is to replace.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use credence_identity::{Bundle, EntryId, Timestamp};

use super::{Agent, Issued, SETTLES};

/// Bundles that are kept in mind for an agent until it has taken them over.
const MOST_GIVEN: usize = 8;

/// How a bundle reached an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// It asked.
    Poll,
    /// It was told so by a message of that revision.
    Push(u64),
}

/// An agent's own bundle.
#[derive(Debug, Default)]
pub(super) struct Bundles {
    /// The last one that has settled.
    settled: Option<Arc<Bundle>>,
    /// Those after it, in the order in which they were given.
    after: Vec<Given>,
}

#[derive(Debug)]
struct Given {
    bundle: Arc<Bundle>,
    way: Way,
    /// When the agent showed that it took it over.
    taken_at: Option<Timestamp>,
}

impl Bundles {
    pub(super) fn give(&mut self, bundle: &Arc<Bundle>, way: Way) {
        // An agent that polls gets the same one again and again, and takes the last.
        let is_same = |given: &Given| {
            given.way == way && given.taken_at.is_none() && Arc::ptr_eq(&given.bundle, bundle)
        };
        if !self.after.last().is_some_and(is_same) {
            if self.after.len() >= MOST_GIVEN {
                // Of an agent that says nothing it's enough to know what it has said last.
                let unsaid = self.after.iter().position(|given| given.taken_at.is_none());
                self.after.remove(unsaid.unwrap_or_default());
            }
            self.after.push(Given {
                bundle: Arc::clone(bundle),
                way,
                taken_at: None,
            });
        }
    }

    /// The agent has taken over what came that way so far.
    pub(super) fn take(&mut self, by: Way, now: Timestamp) {
        for given in &mut self.after {
            let is_meant = match (given.way, by) {
                (Way::Poll, Way::Poll) => true,
                (Way::Push(given), Way::Push(taken)) => given <= taken,
                _ => false,
            };
            if is_meant && given.taken_at.is_none() {
                given.taken_at = Some(now);
            }
        }
        self.settle(now);
    }

    /// What came by a stream and wasn't taken over may never have arrived.
    pub(super) fn lose(&mut self) {
        self.after
            .retain(|given| given.way == Way::Poll || given.taken_at.is_some());
    }

    /// The one that the agent and its workloads have for certain.
    pub(super) fn held(&self, now: Timestamp) -> Option<&Arc<Bundle>> {
        match self.last_settled(now) {
            Some(at) => self.after.get(at).map(|given| &given.bundle),
            None => self.settled.as_ref(),
        }
    }

    /// Forgets what a later one has replaced. A bundle that was taken over after an equal one says nothing new.
    fn settle(&mut self, now: Timestamp) {
        if let Some(at) = self.last_settled(now) {
            self.settled = self.after.drain(..=at).next_back().map(|given| given.bundle);
        }
        self.after.dedup_by(|later, earlier| {
            earlier.taken_at.is_some()
                && later.taken_at.is_some()
                && Arc::ptr_eq(&later.bundle, &earlier.bundle)
        });
    }

    fn last_settled(&self, now: Timestamp) -> Option<usize> {
        let has = |given: &Given| given.taken_at.is_some_and(|at| at + SETTLES <= now);
        self.after.iter().rposition(has)
    }
}

/// An SVID that another was signed to replace.
#[derive(Debug)]
pub(super) struct Replaced {
    entry: EntryId,
    /// None if it isn't known whether there was one, and under what.
    issued: Option<Issued>,
    ends: Timestamp,
    /// When the agent showed that it serves the other.
    since: Option<Timestamp>,
}

impl Replaced {
    fn is_in_use(&self, now: Timestamp) -> bool {
        self.ends > now && self.since.is_none_or(|since| since + SETTLES > now)
    }
}

impl Agent {
    /// Keeps what a new SVID is to replace.
    pub(super) fn replace(&mut self, entry: &EntryId, before: Option<Issued>, by: &Issued, now: Timestamp) {
        // Under the same authority the one is as good as the other.
        let is_same = |before: &Issued| before.authority == by.authority && before.not_after <= by.not_after;
        if before.as_ref().is_some_and(is_same) {
            return;
        }
        if self.replaced.len() == self.replaced.capacity() {
            self.replaced.retain(|replaced| replaced.is_in_use(now));
        }
        self.replaced.push(Replaced {
            entry: entry.clone(),
            // One that isn't known was signed before.
            ends: before.as_ref().map_or(by.not_after, |before| before.not_after),
            issued: before,
            since: None,
        });
    }

    /// It serves what it was given.
    pub(super) fn take_svids(&mut self, now: Timestamp) {
        self.replaced.retain_mut(|replaced| {
            replaced.since = replaced.since.or(Some(now));
            replaced.is_in_use(now)
        });
    }

    /// The SVIDs that were replaced and may be in use all the same; none stands for one that isn't known.
    pub(super) fn in_use(&self, now: Timestamp) -> HashMap<&EntryId, Vec<Option<&Issued>>> {
        let mut found: HashMap<&EntryId, Vec<Option<&Issued>>> = HashMap::new();
        for replaced in self.replaced.iter().filter(|replaced| replaced.is_in_use(now)) {
            match found.entry(&replaced.entry) {
                Entry::Occupied(mut known) => known.get_mut().push(replaced.issued.as_ref()),
                Entry::Vacant(vacant) => drop(vacant.insert(vec![replaced.issued.as_ref()])),
            }
        }
        found
    }
}
