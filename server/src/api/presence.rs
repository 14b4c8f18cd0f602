//! When each agent was last here.
//!
//! Owns the notes; they decide nothing but what `explain` says. Invariant: there are no more of them than agents that
//! were here within the last hour, and some.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use credence_identity::{SpiffeId, Timestamp};
use credence_runtime::clock::Clock;

use crate::explain::Seen;

/// Beyond so many, those that weren't here for an hour are forgotten.
const MANY: usize = 10_000;
const LONG_SECONDS: u64 = 3600;

/// The notes; clones share them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Presence {
    agents: Arc<Mutex<HashMap<SpiffeId, Note>>>,
}

#[derive(Clone, Copy, Debug)]
struct Note {
    at: Timestamp,
    streams: u32,
    polls: bool,
}

/// An agent's open stream; its end is noted when this is dropped.
#[derive(Debug)]
pub(crate) struct Stream {
    presence: Presence,
    agent: SpiffeId,
    clock: Arc<dyn Clock>,
}

impl Presence {
    /// The agent asked what changed.
    pub(crate) fn polled(&self, agent: &SpiffeId, now: Timestamp) {
        let mut agents = self.lock();
        make_room(&mut agents, now);
        let note = agents.entry(agent.clone()).or_insert(Note {
            at: now,
            streams: 0,
            polls: true,
        });
        (note.at, note.polls) = (now, true);
    }

    /// The agent opened a stream.
    pub(crate) fn subscribed(&self, agent: &SpiffeId, clock: &Arc<dyn Clock>) -> Stream {
        let now = clock.now();
        let mut agents = self.lock();
        make_room(&mut agents, now);
        let note = agents.entry(agent.clone()).or_insert(Note {
            at: now,
            streams: 0,
            polls: false,
        });
        note.streams += 1;
        (note.at, note.polls) = (now, false);
        Stream {
            presence: self.clone(),
            agent: agent.clone(),
            clock: Arc::clone(clock),
        }
    }

    /// When the agent was here last, if it was.
    pub(crate) fn of(&self, agent: &SpiffeId) -> Option<Seen> {
        self.lock().get(agent).map(|note| Seen {
            at: note.at,
            connected: note.streams > 0,
            polls: note.polls,
        })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<SpiffeId, Note>> {
        self.agents.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn make_room(agents: &mut HashMap<SpiffeId, Note>, now: Timestamp) {
    // The next look is as far off as this one brought: otherwise each call of a large fleet would look at all.
    if agents.len() >= MANY && agents.len().is_power_of_two() {
        agents.retain(|_, note| note.streams > 0 || note.at.until(now).as_secs() < LONG_SECONDS);
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let now = self.clock.now();
        if let Some(note) = self.presence.lock().get_mut(&self.agent) {
            note.streams = note.streams.saturating_sub(1);
            note.at = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use credence_runtime::clock::ManualClock;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_agent_is_there_while_one_of_its_streams_is() {
        let start = Timestamp::from_unix_seconds(1_700_000_000);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(start));
        let agent = SpiffeId::parse("spiffe://example.org/spire/agent/a").unwrap();
        let presence = Presence::default();
        assert_eq!(presence.of(&agent), None);
        let streams = [(); 2].map(|()| presence.subscribed(&agent, &clock));
        let [one, other] = streams;
        drop(one);
        assert!(presence.of(&agent).is_some_and(|seen| seen.connected));
        drop(other);
        let seen = Seen {
            at: start,
            connected: false,
            polls: false,
        };
        assert_eq!(presence.of(&agent), Some(seen));
    }
}
