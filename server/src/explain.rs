//! Why an entry reaches no workload: a look at the entry and up its chain of parents.
//!
//! Owns the look. Pure but for the registry's state, which it only reads. It tells operators, never agents: what an agent
//! may learn is [`matching`]'s. Invariant: an entry whose chain reaches an agent that is there gets no finding.

mod cause;
mod chain;
pub(crate) mod matching;

use std::collections::BTreeSet;

use credence_identity::diagnosis::{Candidate, Explanation, meant};
use credence_identity::{Entry, EntryId, Selector, SpiffeId, Timestamp};

pub(crate) use cause::{CallCause, EntryCause};

use crate::registry::{Health, State};
use chain::{Reach, climb};

/// Agents and entries named in an answer.
const SHOWN: usize = 20;
/// Longer than any pause between two polls, and between a stream and the next.
const BETWEEN_POLLS: u64 = 60;
const BETWEEN_STREAMS: u64 = 2;
/// The selector types of workload attestors that agents have, of SPIRE's and ours.
const WORKLOAD_TYPES: [&str; 5] = ["docker", "k8s", "systemd", "unix", "windows"];
const UNIX_KINDS: [&str; 8] = [
    "uid",
    "user",
    "gid",
    "group",
    "supplementary_gid",
    "supplementary_group",
    "path",
    "sha256",
];

/// When an agent was there last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// When it was heard of last.
    pub(crate) at: Timestamp,
    /// It holds a stream now.
    pub(crate) connected: bool,
    /// It polls, so that silence of some seconds says nothing.
    pub(crate) polls: bool,
}

/// What the look sees.
pub(crate) struct View<'a> {
    pub(crate) state: &'a State,
    pub(crate) now: Timestamp,
    /// When the agent was there last; none if not since the server started.
    pub(crate) seen: &'a dyn Fn(&SpiffeId) -> Option<Seen>,
    /// Whether agents had the time to come back since the server started.
    pub(crate) settled: bool,
    pub(crate) store: Health,
    /// What ails the rotation of authorities.
    pub(crate) rotation: Option<String>,
    /// Why nothing can be signed.
    pub(crate) signing: Option<String>,
}

impl View<'_> {
    /// Why the entry reaches no workload, or not those of that agent.
    pub(crate) fn entry(&self, id: &EntryId, agent: Option<&SpiffeId>) -> Explanation {
        let mut explanation = Explanation::of(format!("entry {id}"));
        match self.state.entry(id) {
            Some(entry) => self.look_at(entry, agent, &mut explanation),
            None => {
                let known = self.state.entries().map(|(_, entry)| entry.id.as_str());
                let meant = meant(id.as_str(), known).map(str::to_owned);
                explanation.found(EntryCause::Unknown {
                    id: id.clone(),
                    meant,
                });
            }
        }
        self.own_faults(&mut explanation);
        explanation
    }

    /// Why no workload gets the SPIFFE ID, or none of that agent.
    pub(crate) fn spiffe_id(&self, id: &SpiffeId, agent: Option<&SpiffeId>) -> Explanation {
        let mut explanation = Explanation::of(id.to_string());
        let entries: Vec<_> = self.state.entries_by_spiffe_id(id).collect();
        for (_, entry) in entries.iter().take(SHOWN) {
            self.look_at(entry, agent, &mut explanation);
        }
        if entries.is_empty() {
            if self.state.node(id).is_some() {
                self.look_at_agent(id, &mut explanation);
            } else {
                let known = self.state.entries().map(|(_, entry)| entry.spiffe_id.as_str());
                let meant = meant(id.as_str(), known).map(str::to_owned);
                explanation.found(EntryCause::NoEntry {
                    id: id.clone(),
                    meant,
                });
            }
        }
        self.own_faults(&mut explanation);
        explanation
    }

    fn look_at(&self, entry: &Entry, agent: Option<&SpiffeId>, explanation: &mut Explanation) {
        explanation.candidates.push(Candidate::of(entry));
        if let Some(at) = entry.expires_at.filter(|_| entry.is_expired_at(self.now)) {
            explanation.found(EntryCause::Expired {
                id: entry.id.clone(),
                at,
            });
            return;
        }
        if entry.parent_id == SpiffeId::server(self.state.trust_domain()) && asks_for_workload(entry) {
            explanation.found(EntryCause::WorkloadBelowServer { id: entry.id.clone() });
            return;
        }
        let reach = climb(self.state, entry, self.now);
        match agent {
            Some(agent) if !reach.agents.contains(agent) => {
                explanation.found(EntryCause::NotBelow {
                    id: entry.id.clone(),
                    agent: agent.clone(),
                });
                reach
                    .breaks
                    .iter()
                    .cloned()
                    .for_each(|one| explanation.found(one));
            }
            None if reach.agents.is_empty() => {
                reach
                    .breaks
                    .iter()
                    .cloned()
                    .for_each(|one| explanation.found(one));
            }
            _ => self.reached(entry, &reach, agent, explanation),
        }
        self.show_agents(&reach, explanation);
    }

    /// The chain leads to agents: whether they are there, and whether any could attest such a workload.
    fn reached(&self, entry: &Entry, reach: &Reach, agent: Option<&SpiffeId>, explanation: &mut Explanation) {
        let of_interest = |id: &&SpiffeId| agent.is_none_or(|agent| *agent == **id);
        let agents = || reach.agents.iter().filter(of_interest);
        let there = agents().any(|id| !self.is_away(id));
        if !there && self.settled {
            for id in agents().take(SHOWN) {
                explanation.found(EntryCause::AgentAway {
                    agent: id.clone(),
                    seen: (self.seen)(id).map(|seen| seen.at),
                });
            }
        }
        if !is_alias(entry, self.state) {
            let strange = entry
                .selectors
                .iter()
                .filter_map(|selector| strange(&entry.id, selector));
            strange.for_each(|one| explanation.found(one));
        }
        for name in &entry.federates_with {
            if self.state.bundle(name).is_none() {
                explanation.found(EntryCause::BundleMissing {
                    id: entry.id.clone(),
                    trust_domain: name.to_string(),
                });
            }
        }
        explanation.all_well = if is_alias(entry, self.state) {
            "It names nodes, and there are such nodes.".to_owned()
        } else {
            "The chain of parents is whole: a process with all of the selectors gets the identity from these agents."
                .to_owned()
        };
    }

    fn is_away(&self, agent: &SpiffeId) -> bool {
        (self.seen)(agent).is_none_or(|seen| {
            let patience = if seen.polls {
                BETWEEN_POLLS
            } else {
                BETWEEN_STREAMS
            };
            !seen.connected && seen.at.until(self.now).as_secs() > patience
        })
    }

    fn look_at_agent(&self, id: &SpiffeId, explanation: &mut Explanation) {
        if let Some(cause) = chain::of_agent(self.state, id, self.now) {
            explanation.found(cause);
        } else if self.settled && self.is_away(id) {
            explanation.found(EntryCause::AgentAway {
                agent: id.clone(),
                seen: (self.seen)(id).map(|seen| seen.at),
            });
        }
        explanation.all_well = "It is an agent, attested and here.".to_owned();
        if let Some(node) = self.state.node(id) {
            explanation.facts("Node selectors", node.selectors.iter().map(ToString::to_string));
        }
        let entries = self.state.authorized_entries(id, self.now).len();
        explanation.fact("Entries it may serve", entries.to_string());
    }

    fn show_agents(&self, reach: &Reach, explanation: &mut Explanation) {
        let shown = reach.agents.iter().take(SHOWN).map(|id| {
            let state = match (self.seen)(id) {
                Some(seen) if seen.connected => "connected, has the entry".to_owned(),
                Some(seen) if seen.polls => format!("polled last at {}", seen.at),
                Some(seen) => format!("gone since {}", seen.at),
                None => "not seen since this server started".to_owned(),
            };
            format!("{id} ({state})")
        });
        let mut shown: Vec<String> = shown.collect();
        if reach.agents.len() > SHOWN {
            shown.push(format!("and {} more", reach.agents.len() - SHOWN));
        }
        if !shown.is_empty() {
            explanation.facts("Agents that may serve it", shown);
        }
    }

    /// What keeps the server itself from telling or signing.
    fn own_faults(&self, explanation: &mut Explanation) {
        if let Health::Degraded(why) = &self.store {
            explanation.found(EntryCause::StoreDown(why.clone()));
        }
        if let Some(why) = &self.rotation {
            explanation.found(EntryCause::RotationStuck(why.clone()));
        }
        if let Some(why) = &self.signing {
            explanation.found(EntryCause::CannotSign(why.clone()));
        }
    }
}

fn is_alias(entry: &Entry, state: &State) -> bool {
    entry.parent_id == SpiffeId::server(state.trust_domain())
}

/// Whether an alias asks for what only a process has.
fn asks_for_workload(entry: &Entry) -> bool {
    let types: BTreeSet<&str> = entry.selectors.iter().map(Selector::selector_type).collect();
    types.iter().any(|one| WORKLOAD_TYPES.contains(one))
}

/// A selector that is most likely a typing error. Types that are far from all known ones may be a plugin's.
fn strange(id: &EntryId, selector: &Selector) -> Option<EntryCause> {
    let selector_type = selector.selector_type();
    let meant_type =
        meant(selector_type, WORKLOAD_TYPES).filter(|_| !WORKLOAD_TYPES.contains(&selector_type));
    let kind = selector.value().split(':').next().unwrap_or_default();
    let meant_instead = match meant_type {
        Some(meant) => Some(meant),
        None if selector_type == "unix" && !UNIX_KINDS.contains(&kind) => {
            Some(meant(kind, UNIX_KINDS).unwrap_or("one of uid, user, gid, group, path, sha256"))
        }
        None => None,
    };
    // An attested agent's own ID is a selector of aliases.
    meant_instead.map(|meant| EntryCause::StrangeSelector {
        id: id.clone(),
        selector: selector.clone(),
        meant,
    })
}

#[cfg(test)]
mod tests;
