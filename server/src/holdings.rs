//! What agents hold, as far as this server gave it to them: their last bundle, and under which authority each SVID was
//! signed that may still be in use.
//!
//! Owns what a forced rotation waits for; decides nothing. What was given counts once the agent has shown that it took it
//! over: ours says so, SPIRE's by the next call of the task that asked; and [`SETTLES`] later, when its workloads have it.
//! In memory alone: after a restart nothing is known of what was given before, and [`question`] counts it as held for as
//! long as it can be valid. Invariant: bounded by the live agents and the SVIDs of theirs that are valid; what has ended
//! is dropped as new things come.

mod question;
mod taken;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use credence_crypto::jwt::SignedJwt;
use credence_crypto::x509::X509Svid;
use credence_identity::{Bundle, EntryId, SpiffeId, Timestamp};

pub(crate) use question::{Question, Step};
pub(crate) use taken::Way;

use taken::{Bundles, Replaced};

/// Things that ended are looked for when there are twice as many as after the last look, and this many more.
const SLACK: usize = 64;

/// From when an agent has taken something over until its workloads use it: they are told at once, and may be slow.
pub(crate) const SETTLES: Duration = Duration::from_secs(2);

/// An authority as an SVID names it: the key ID of a root, the bytes of a `kid`.
type KeyId = Arc<[u8]>;

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Holdings {
    /// When the server started: from then on everything is known.
    since: Timestamp,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    agents: HashMap<SpiffeId, Agent>,
    look_again_at: usize,
    /// What operators and downstream servers got: the last end under each authority.
    minted: HashMap<KeyId, Timestamp>,
    /// Tokens: the last end under each key.
    tokens: HashMap<KeyId, Timestamp>,
}

#[derive(Debug, Default)]
struct Agent {
    bundles: Bundles,
    /// Its own SVIDs by serial number: the one in use, and the one that it may not have received.
    own: Vec<(String, Issued)>,
    /// The last ones that were signed.
    svids: HashMap<EntryId, Issued>,
    /// Those that were replaced by them, as far as they may still be in use.
    replaced: Vec<Replaced>,
    look_again_at: usize,
    /// The end of the last SVID by which it can have held something.
    alive_until: Timestamp,
}

#[derive(Debug, Clone)]
struct Issued {
    authority: KeyId,
    not_after: Timestamp,
}

impl Holdings {
    /// Nothing is known yet.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            since: now,
            known: Mutex::default(),
        }
    }

    /// The own bundle goes to an agent, whose SVID ends at `until`.
    pub(crate) fn bundle_given(&self, agent: &SpiffeId, until: Timestamp, bundle: &Arc<Bundle>, way: Way) {
        let mut known = self.lock();
        let agent = known.agent(agent, self.since);
        agent.bundles.give(bundle, way);
        agent.alive_until = agent.alive_until.max(until);
    }

    /// An agent that polls begins its next round, which it does when it is done with the one before.
    pub(crate) fn polled(&self, agent: &SpiffeId, now: Timestamp) {
        if let Some(agent) = self.lock().agents.get_mut(agent) {
            agent.bundles.take(Way::Poll, now);
            agent.take_svids(now);
        }
    }

    /// An agent opens a stream: what it hasn't taken of an earlier one may be lost.
    pub(crate) fn stream_opened(&self, agent: &SpiffeId) {
        if let Some(agent) = self.lock().agents.get_mut(agent) {
            agent.bundles.lose();
        }
    }

    /// An agent has taken over what came by its stream up to that revision.
    pub(crate) fn told(&self, agent: &SpiffeId, revision: u64, now: Timestamp) {
        if let Some(agent) = self.lock().agents.get_mut(agent) {
            agent.bundles.take(Way::Push(revision), now);
        }
    }

    /// An agent serves the X.509-SVIDs that it was given.
    pub(crate) fn svids_taken(&self, agent: &SpiffeId, now: Timestamp) {
        if let Some(agent) = self.lock().agents.get_mut(agent) {
            agent.take_svids(now);
        }
    }

    /// An agent got an SVID of its own.
    pub(crate) fn agent_svid_issued(&self, agent: &SpiffeId, svid: &X509Svid, now: Timestamp) {
        let mut known = self.lock();
        let agent = known.agent(agent, now);
        agent.own.retain(|(_, issued)| issued.not_after > now);
        agent.own.push((svid.serial.clone(), Issued::of(svid)));
        agent.alive_until = agent.alive_until.max(svid.not_after);
    }

    /// An agent got an SVID for a workload; it is to replace the one before.
    pub(crate) fn svid_issued(&self, agent: &SpiffeId, entry: &EntryId, svid: &X509Svid, now: Timestamp) {
        let mut known = self.lock();
        let agent = known.agent(agent, now);
        agent.alive_until = agent.alive_until.max(svid.not_after);
        let issued = Issued::of(svid);
        let before = agent.svids.insert(entry.clone(), issued.clone());
        agent.replace(entry, before, &issued, now);
        if agent.svids.len() > agent.look_again_at {
            agent.svids.retain(|_, issued| issued.not_after > now);
            agent.look_again_at = agent.svids.len() * 2 + SLACK;
        }
    }

    /// A token went out; who has it isn't known.
    pub(crate) fn token_issued(&self, token: &SignedJwt, now: Timestamp) {
        note(
            &mut self.lock().tokens,
            token.key_id.as_bytes(),
            token.expires_at,
            now,
        );
    }

    /// A certificate went out to an operator or a downstream server; who has it isn't known.
    pub(crate) fn minted(&self, authority: Option<&[u8]>, end: Timestamp, now: Timestamp) {
        if let Some(authority) = authority {
            note(&mut self.lock().minted, authority, end, now);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Issued {
    fn of(svid: &X509Svid) -> Self {
        Self {
            authority: svid.authority_key_id.clone().unwrap_or_else(|| Arc::from([])),
            not_after: svid.not_after,
        }
    }
}

impl Known {
    fn agent(&mut self, id: &SpiffeId, now: Timestamp) -> &mut Agent {
        if self.agents.len() > self.look_again_at {
            self.agents.retain(|_, agent| agent.alive_until > now);
            self.look_again_at = self.agents.len() * 2 + SLACK;
        }
        self.agents.entry(id.clone()).or_default()
    }
}

/// The later end counts. There is one entry for each authority with something valid.
fn note(ends: &mut HashMap<KeyId, Timestamp>, authority: &[u8], end: Timestamp, now: Timestamp) {
    match ends.get_mut(authority) {
        Some(known) => *known = end.max(*known),
        None => {
            ends.retain(|_, end| *end > now);
            ends.insert(authority.into(), end);
        }
    }
}

#[cfg(test)]
mod tests;
