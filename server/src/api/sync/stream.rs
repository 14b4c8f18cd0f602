//! One subscription.
//!
//! It is polled by the connection alone: an agent that doesn't read holds nothing but its queue of work, which is
//! bounded by its authorised set, and gets the sum of what it missed when it reads on.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use credence_identity::{Bundle, Entry, EntryId, SpiffeId, Timestamp, TrustDomain};
use credence_proto::credence::sync::v1 as pb;
use credence_proto::credence::sync::v1::subscribe_request::{Step, Taken, Want};
use credence_proto::credence::sync::v1::subscribe_response::{Delta, Event, Heartbeat, Revisions, Unchanged};
use credence_proto::spire::api::server::entry::v1::EntryRevision;
use credence_runtime::clock::sleep_until;
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};
use tonic::{Status, Streaming};

use super::sent::{Difference, Sent, View};
use crate::api::authz::decision::standing;
use crate::api::call::Call;
use crate::api::caller::Caller;
use crate::api::context::Context;
use crate::api::convert::entry::PAGE;
use crate::api::convert::{bundle, entry};
use crate::api::gate::{mend, refuse};
use crate::api::presence;
use crate::holdings::Way;
use crate::registry::Subscription;

/// How often a stream shows that it lives.
const HEARTBEAT: Duration = Duration::from_secs(15);

/// The server's end of a subscription.
pub(super) struct Subscriber {
    context: Arc<Context>,
    call: Call,
    agent: SpiffeId,
    serial: Arc<str>,
    not_after: Timestamp,
    requests: Streaming<pb::SubscribeRequest>,
    subscription: Subscription,
    steps: watch::Receiver<u64>,
    heartbeat: Interval,
    sent: Sent,
    revision: u64,
    work: VecDeque<Work>,
    /// That the agent is here.
    _presence: presence::Stream,
}

/// What is still to be sent, a message at a time.
enum Work {
    Event(Event),
    /// Bundles, and the own one if it is among them.
    Bundles(Delta, Option<Arc<Bundle>>),
    /// The rest of the revisions, in reverse.
    Revisions(Vec<Arc<Entry>>),
    /// The rest of the bodies, in reverse.
    Bodies(Vec<Arc<Entry>>),
    /// The rest of the removed ids, in reverse.
    Removed(Vec<EntryId>),
}

/// What woke the subscriber.
enum Wake {
    Closing,
    Changed,
    Time,
    Heartbeat,
    Request(Option<pb::SubscribeRequest>),
}

impl Subscriber {
    /// Reads the agent's first message and prepares the answer to it.
    pub(super) async fn open(
        context: &Arc<Context>,
        call: &Call,
        mut requests: Streaming<pb::SubscribeRequest>,
    ) -> Result<Self, Status> {
        let Caller::Peer {
            id,
            serial,
            not_after,
            ..
        } = call.caller()
        else {
            return Err(Status::internal("caller ID missing from request context"));
        };
        let first = requests
            .message()
            .await
            .map_err(|status| mend(&status).unwrap_or(status))?;
        let Some(Step::Hold(hold)) = first.and_then(|first| first.step) else {
            return Err(Status::invalid_argument("the first message must be hold"));
        };
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut subscriber = Self {
            // Before the first look at the state, so that no change is missed.
            subscription: context.registry.subscribe(id),
            context: Arc::clone(context),
            agent: id.clone(),
            serial: Arc::clone(serial),
            not_after: *not_after,
            call: call.clone(),
            requests,
            steps: context.steps.subscribe(),
            heartbeat,
            sent: Sent::default(),
            revision: 0,
            work: VecDeque::new(),
            _presence: context.presence.subscribed(id, &context.clock),
        };
        context.holdings.stream_opened(id);
        let view = subscriber.view();
        let Difference { bundles, .. } = subscriber.sent.advance(&view);
        subscriber.queue_bundles(&bundles, &[]);
        subscriber.work.push_back(if view.is_held(&hold.entries_digest) {
            Work::Event(Event::Unchanged(Unchanged {}))
        } else {
            Work::Revisions(reversed(view.entries))
        });
        Ok(subscriber)
    }

    /// The next message; none when the connection closes or the agent is done. Cancel safe: what is lost by dropping it
    /// is sent again by nobody, since the stream is gone then.
    pub(super) async fn next(&mut self) -> Result<Option<pb::SubscribeResponse>, Status> {
        loop {
            if self.subscription.has_changed() {
                self.check_standing()?;
            }
            if let Some(event) = self.next_event() {
                return Ok(Some(pb::SubscribeResponse {
                    revision: self.revision,
                    event: Some(event),
                }));
            }
            match self.wake().await? {
                Wake::Closing | Wake::Request(None) => return Ok(None),
                Wake::Changed => {
                    self.check_standing()?;
                    self.refresh();
                }
                Wake::Time => self.check_standing()?,
                Wake::Heartbeat => self.work.push_back(Work::Event(Event::Heartbeat(Heartbeat {}))),
                Wake::Request(Some(request)) => match request.step {
                    Some(Step::Want(want)) => self.answer(&want)?,
                    Some(Step::Taken(taken)) => self.taken(&taken),
                    _ => {
                        return Err(Status::invalid_argument(
                            "a message after the first must be want or taken",
                        ));
                    }
                },
            }
        }
    }

    async fn wake(&mut self) -> Result<Wake, Status> {
        tokio::select! {
            biased;
            () = self.call.connection.closing.cancelled() => Ok(Wake::Closing),
            () = self.subscription.changed() => Ok(Wake::Changed),
            () = sleep_until(&*self.context.clock, &mut self.steps, self.not_after) => Ok(Wake::Time),
            request = self.requests.message() => match request {
                Ok(request) => Ok(Wake::Request(request)),
                Err(status) => Err(mend(&status).unwrap_or(status)),
            },
            _ = self.heartbeat.tick() => Ok(Wake::Heartbeat),
        }
    }

    /// The right to be here, asked again.
    fn check_standing(&self) -> Result<(), Status> {
        let now = self.context.clock.now();
        let state = self.context.registry.read();
        standing(&state, &self.agent, &self.serial, self.not_after, now)
            .map(drop)
            .map_err(|reason| refuse(&self.call, Some(reason)))
    }

    fn view(&mut self) -> View {
        let now = self.context.clock.now();
        let state = self.context.registry.read();
        let view = View::new(&state, state.authorized_entries(&self.agent, now));
        self.revision = view.revision;
        view
    }

    /// Queues what changed since it was last told.
    fn refresh(&mut self) {
        let view = self.view();
        let difference = self.sent.advance(&view);
        if difference.is_empty() {
            return;
        }
        let Difference {
            entries,
            removed,
            bundles,
            removed_domains,
        } = difference;
        // Bundles first: an entry may need a new one.
        if !bundles.is_empty() || !removed_domains.is_empty() {
            self.queue_bundles(&bundles, &removed_domains);
        }
        if !removed.is_empty() {
            self.work.push_back(Work::Removed(reversed(removed)));
        }
        if !entries.is_empty() {
            self.work.push_back(Work::Bodies(reversed(entries)));
        }
    }

    fn queue_bundles(&mut self, bundles: &[Arc<Bundle>], removed: &[TrustDomain]) {
        let is_own = |bundle: &&Arc<Bundle>| bundle.trust_domain == self.context.trust_domain;
        let own = bundles.iter().find(is_own).cloned();
        let delta = Delta {
            bundles: bundles
                .iter()
                .map(|told| bundle::to_proto(told, &bundle::ALL))
                .collect(),
            removed_trust_domains: removed.iter().map(|name| name.as_str().to_owned()).collect(),
            ..Delta::default()
        };
        self.work.push_back(Work::Bundles(delta, own));
    }

    /// Queues the bodies an agent wants, those it may not have left out.
    fn answer(&mut self, want: &Want) -> Result<(), Status> {
        if want.ids.len() > PAGE {
            return Err(Status::invalid_argument(format!(
                "want names more than {PAGE} ids"
            )));
        }
        let now = self.context.clock.now();
        let bodies: Vec<_> = {
            let state = self.context.registry.read();
            let known = want.ids.iter().rev().filter_map(|id| EntryId::parse(id).ok());
            let authorized = known.filter_map(|id| state.authorized_entry(&self.agent, &id, now));
            authorized
                .map(|authorized| Arc::clone(authorized.entry()))
                .collect()
        };
        if bodies.is_empty() {
            self.work.push_back(Work::Event(Event::Delta(Delta::default())));
        } else {
            self.work.push_back(Work::Bodies(bodies));
        }
        Ok(())
    }

    fn taken(&self, taken: &Taken) {
        let (holdings, now) = (&self.context.holdings, self.context.clock.now());
        holdings.told(&self.agent, taken.revision, now);
        if taken.svids {
            holdings.svids_taken(&self.agent, now);
        }
    }

    fn next_event(&mut self) -> Option<Event> {
        let (event, rest) = match self.work.pop_front()? {
            Work::Event(event) => (event, None),
            Work::Bundles(delta, own) => {
                if let Some(own) = own {
                    let holdings = &self.context.holdings;
                    holdings.bundle_given(&self.agent, self.not_after, &own, Way::Push(self.revision));
                }
                (Event::Delta(delta), None)
            }
            Work::Revisions(mut rest) => {
                let entries = page(&mut rest).iter().map(|entry| revision(entry)).collect();
                let more = !rest.is_empty();
                (
                    Event::Revisions(Revisions { entries, more }),
                    more.then_some(Work::Revisions(rest)),
                )
            }
            Work::Bodies(mut rest) => {
                let entries = entry::take_page(&mut rest, &entry::ALL);
                let delta = Delta {
                    entries,
                    ..Delta::default()
                };
                (
                    Event::Delta(delta),
                    (!rest.is_empty()).then_some(Work::Bodies(rest)),
                )
            }
            Work::Removed(mut rest) => {
                let removed_ids = page(&mut rest).iter().map(|id| id.as_str().to_owned()).collect();
                let delta = Delta {
                    removed_ids,
                    ..Delta::default()
                };
                (
                    Event::Delta(delta),
                    (!rest.is_empty()).then_some(Work::Removed(rest)),
                )
            }
        };
        if let Some(rest) = rest {
            self.work.push_front(rest);
        }
        Some(event)
    }
}

fn reversed<T>(mut items: Vec<T>) -> Vec<T> {
    items.reverse();
    items
}

/// Takes a page off the end of what stands in reverse.
fn page<T>(rest: &mut Vec<T>) -> Vec<T> {
    reversed(rest.split_off(rest.len().saturating_sub(PAGE)))
}

fn revision(entry: &Entry) -> EntryRevision {
    EntryRevision {
        id: entry.id.as_str().to_owned(),
        revision_number: entry.revision_number,
        created_at: entry.created_at.unix_seconds(),
    }
}
