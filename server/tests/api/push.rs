//! `credence.sync.v1`: what a subscriber is told, and when it is told to go.

use std::time::Duration;

use credence_crypto::sha256;
use credence_proto::credence::sync::v1 as pb;
use credence_proto::credence::sync::v1::subscribe_request::{Hold, Step, Taken, Want};
use credence_proto::credence::sync::v1::subscribe_response::{Delta, Event, Revisions};
use credence_proto::credence::sync::v1::sync_client::SyncClient;
use credence_proto::spire::api::server::agent::v1 as agent_pb;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::types;
use credence_proto::spire::api::types::permission_denied_details::Reason;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Status, Streaming};

use crate::harness::{Agent, Lab, NOW, csr_of, entry, new_key, reason, refused, selector, soon, wire_id};

pub(crate) struct Subscription {
    requests: mpsc::Sender<pb::SubscribeRequest>,
    events: Streaming<pb::SubscribeResponse>,
    /// Of the last event.
    pub(crate) revision: u64,
}

fn request(step: Step) -> pb::SubscribeRequest {
    pb::SubscribeRequest { step: Some(step) }
}

impl Subscription {
    pub(crate) async fn open(agent: &Agent, digest: &[u8]) -> Self {
        let (requests, receiver) = mpsc::channel(4);
        requests
            .send(request(Step::Hold(Hold {
                entries_digest: digest.to_vec(),
            })))
            .await
            .unwrap();
        let mut client = SyncClient::new(agent.channel.clone());
        let events = client
            .subscribe(ReceiverStream::new(receiver))
            .await
            .unwrap()
            .into_inner();
        Self {
            requests,
            events,
            revision: 0,
        }
    }

    async fn next(&mut self) -> Result<Event, Status> {
        loop {
            let message = soon(self.events.message()).await?;
            let message = message.expect("the stream goes on");
            self.revision = message.revision;
            match message.event.unwrap() {
                Event::Heartbeat(_) => {}
                event => return Ok(event),
            }
        }
    }

    pub(crate) async fn delta(&mut self) -> Delta {
        match self.next().await.unwrap() {
            Event::Delta(delta) => delta,
            other => panic!("no delta: {other:?}"),
        }
    }

    pub(crate) async fn revisions(&mut self) -> Revisions {
        match self.next().await.unwrap() {
            Event::Revisions(revisions) => revisions,
            other => panic!("no revisions: {other:?}"),
        }
    }

    /// The bundles, and that an agent without entries holds what it may.
    async fn started(&mut self) {
        self.delta().await;
        assert!(matches!(self.next().await.unwrap(), Event::Unchanged(_)));
    }

    async fn want(&mut self, ids: Vec<String>) -> Delta {
        self.requests
            .send(request(Step::Want(Want { ids })))
            .await
            .unwrap();
        self.delta().await
    }

    /// Says what was taken over, and waits until the server has read it.
    pub(crate) async fn taken(&mut self, revision: u64, svids: bool) {
        let taken = request(Step::Taken(Taken { revision, svids }));
        self.requests.send(taken).await.unwrap();
        self.want(Vec::new()).await;
    }

    async fn ended(&mut self) -> Reason {
        let began = tokio::time::Instant::now();
        let refusal = self.next().await.unwrap_err();
        assert_eq!(refusal.code(), Code::PermissionDenied);
        assert_eq!(
            refusal.message(),
            "authorization denied for method /credence.sync.v1.Sync/Subscribe"
        );
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
        reason(&refusal).unwrap()
    }
}

fn paths(delta: &Delta) -> Vec<&str> {
    delta
        .entries
        .iter()
        .map(|entry| entry.spiffe_id.as_ref().unwrap().path.as_str())
        .collect()
}

#[tokio::test]
async fn a_subscriber_learns_its_set_and_then_what_changes() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let first = lab.create(vec![entry(&agent.id, "/first")]).await.remove(0);
    let mut subscription = Subscription::open(&agent, &[]).await;
    let bundles = subscription.delta().await.bundles;
    assert_eq!(
        (bundles.len(), bundles[0].trust_domain.as_str()),
        (1, "example.org")
    );
    let revisions = subscription.revisions().await;
    assert_eq!(
        (
            revisions.entries.len(),
            revisions.entries[0].id.as_str(),
            revisions.more
        ),
        (1, first.id.as_str(), false)
    );
    let bodies = subscription
        .want(vec![first.id.clone(), "unknown".to_owned()])
        .await;
    assert_eq!(paths(&bodies), ["/first"]);
    assert_eq!(bodies.entries[0].selectors, [selector("unix:uid:1000")], "whole");

    let began = tokio::time::Instant::now();
    let second = lab.create(vec![entry(&agent.id, "/second")]).await.remove(0);
    assert_eq!(paths(&subscription.delta().await), ["/second"]);
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    lab.create(vec![entry(&wire_id("/elsewhere"), "/not-ours")]).await;
    lab.create(vec![entry(&wire_id("/second"), "/below")]).await;
    assert_eq!(
        paths(&subscription.delta().await),
        ["/below"],
        "what is another's is not told"
    );
    lab.delete(vec![second.id]).await;
    let gone = subscription.delta().await;
    assert_eq!(
        (gone.removed_ids.len(), gone.entries.len()),
        (2, 0),
        "the entry, and what hung below it"
    );
}

#[tokio::test]
async fn who_holds_the_set_hears_unchanged() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let mut held = lab
        .create(vec![entry(&agent.id, "/a"), entry(&agent.id, "/b")])
        .await;
    held.sort_by(|a, b| a.id.cmp(&b.id));
    let text: String = held
        .iter()
        .map(|entry| format!("{}\0{}\0{}\n", entry.id, entry.revision_number, entry.created_at))
        .collect();
    let mut subscription = Subscription::open(&agent, &sha256(text.as_bytes())).await;
    subscription.delta().await;
    assert!(matches!(subscription.next().await.unwrap(), Event::Unchanged(_)));
    lab.delete(vec![held[0].id.clone()]).await;
    assert_eq!(subscription.delta().await.removed_ids, [held[0].id.clone()]);
}

#[tokio::test]
async fn a_large_set_comes_in_pages() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    lab.create((0..600).map(|at| entry(&agent.id, &format!("/w{at}"))).collect())
        .await;
    let mut subscription = Subscription::open(&agent, b"something else").await;
    subscription.delta().await;
    let (first, second) = (subscription.revisions().await, subscription.revisions().await);
    assert_eq!(
        (first.entries.len(), first.more, second.entries.len(), second.more),
        (500, true, 100, false)
    );
    let ids: Vec<_> = first.entries.into_iter().map(|revision| revision.id).collect();
    assert_eq!(subscription.want(ids.clone()).await.entries.len(), 500);
    assert!(subscription.want(Vec::new()).await.entries.is_empty());
    subscription
        .requests
        .send(request(Step::Want(Want {
            ids: [ids, vec!["x".to_owned()]].concat(),
        })))
        .await
        .unwrap();
    refused(
        subscription.next().await,
        Code::InvalidArgument,
        "want names more than 500 ids",
    );
}

#[tokio::test]
async fn removals_by_any_cause_are_told() {
    let lab = Lab::start().await;
    let token = agent_pb::CreateJoinTokenRequest {
        ttl: 600,
        token: "t".to_owned(),
        agent_id: Some(wire_id("/node")),
    };
    AgentClient::new(lab.local().await)
        .create_join_token(token)
        .await
        .unwrap();
    let key = new_key();
    let svid = crate::harness::attest(lab.anonymous().await, "join_token", b"t", &csr_of(&key))
        .await
        .unwrap();
    let agent = lab.agent_of(svid, key).await;
    let expires_at = NOW.unix_seconds() + 600;
    let made = vec![
        entry(&wire_id("/node"), "/by-alias"),
        types::Entry {
            expires_at,
            ..entry(&agent.id, "/expires")
        },
    ];
    lab.create(made).await;
    let mut subscription = Subscription::open(&agent, &[]).await;
    subscription.delta().await;
    let held = subscription.revisions().await.entries;
    assert_eq!(held.len(), 3);
    lab.clock.step_forward(Duration::from_secs(600));
    assert_eq!(
        subscription.delta().await.removed_ids.len(),
        1,
        "an expiry, though the clock was stepped"
    );
    let alias = subscription
        .want(held.iter().map(|revision| revision.id.clone()).collect())
        .await;
    let alias = alias
        .entries
        .iter()
        .find(|entry| entry.spiffe_id == Some(wire_id("/node")))
        .unwrap()
        .id
        .clone();
    lab.delete(vec![alias]).await;
    assert_eq!(
        subscription.delta().await.removed_ids.len(),
        2,
        "the alias, and what came by it"
    );
}

#[tokio::test]
async fn a_ban_an_eviction_a_newer_svid_and_expiry_end_the_stream() {
    let lab = Lab::start().await;
    let mut admin = AgentClient::new(lab.local().await);

    let banned = lab.agent().await;
    let mut subscription = Subscription::open(&banned, &[]).await;
    subscription.started().await;
    admin
        .ban_agent(agent_pb::BanAgentRequest {
            id: Some(banned.id.clone()),
        })
        .await
        .unwrap();
    assert_eq!(subscription.ended().await, Reason::AgentBanned);

    let evicted = lab.agent().await;
    let mut subscription = Subscription::open(&evicted, &[]).await;
    subscription.started().await;
    admin
        .delete_agent(agent_pb::DeleteAgentRequest {
            id: Some(evicted.id.clone()),
        })
        .await
        .unwrap();
    assert_eq!(subscription.ended().await, Reason::AgentNotAttested);

    let renewed = lab.agent().await;
    let mut subscription = Subscription::open(&renewed, &[]).await;
    subscription.started().await;
    let key = new_key();
    let params = Some(agent_pb::AgentX509svidParams { csr: csr_of(&key) });
    let mut client = AgentClient::new(renewed.channel.clone());
    let svid = client
        .renew_agent(agent_pb::RenewAgentRequest { params })
        .await
        .unwrap()
        .into_inner()
        .svid
        .unwrap();
    let newer = lab.agent_of(svid, key).await;
    let mut second = Subscription::open(&newer, &[]).await;
    second.started().await;
    assert_eq!(
        subscription.ended().await,
        Reason::AgentNotActive,
        "the newer SVID was used"
    );

    lab.clock.step_forward(Duration::from_secs(3700));
    assert_eq!(second.ended().await, Reason::AgentExpired);
}

#[tokio::test]
async fn the_first_message_must_be_hold_and_the_rest_want() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let mut client = SyncClient::new(agent.channel.clone());
    let want = request(Step::Want(Want::default()));
    let outcome = client.subscribe(tokio_stream::iter([want])).await;
    refused(outcome, Code::InvalidArgument, "the first message must be hold");
    let mut subscription = Subscription::open(&agent, &[]).await;
    subscription.started().await;
    subscription
        .requests
        .send(request(Step::Hold(Hold::default())))
        .await
        .unwrap();
    refused(
        subscription.next().await,
        Code::InvalidArgument,
        "a message after the first must be want or taken",
    );
}

/// A subscription has no end of its own: a server that stops must not wait for it.
#[tokio::test]
async fn a_stopping_server_ends_its_streams() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let mut subscription = Subscription::open(&agent, &[]).await;
    subscription.started().await;
    let began = tokio::time::Instant::now();
    lab.supervisor.shutdown();
    lab.supervisor.wait().await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert!(matches!(subscription.events.message().await, Ok(None) | Err(_)));
}
