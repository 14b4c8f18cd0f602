//! Peers that don't do their part, and connections that grow old, on paused time.

use std::collections::HashSet;
use std::convert::Infallible;

use credence_identity::{SpiffeId, Timestamp, TrustDomain};
use credence_proto::credence::sync::v1::SubscribeRequest;
use credence_proto::credence::sync::v1::subscribe_request::{Hold, Step};
use credence_proto::credence::sync::v1::subscribe_response::Event;
use credence_proto::credence::sync::v1::sync_client::SyncClient;
use credence_proto::grpc::health::v1::HealthCheckRequest;
use credence_proto::grpc::health::v1::health_client::HealthClient;
use credence_runtime::clock::{Clock, ManualClock, StepWatch};
use credence_runtime::log::{LogOptions, layer_writing_to};
use credence_runtime::supervisor::Supervisor;
use tokio::io::{AsyncWriteExt, DuplexStream, duplex};
use tokio::time::Instant;
use tokio_stream::StreamExt;
use tonic::transport::{Channel, Endpoint};
use tower::service_fn;

use super::*;
use crate::api;
use crate::attestor::Attestors;
use crate::ca::{self, Authority};
use crate::keymanager::MemoryKeyManager;
use crate::registry::{self, Registry, State};
use crate::store::{Change, MemoryStore, Node};

async fn services() -> Arc<Services> {
    parts().await.0
}

async fn parts() -> (Arc<Services>, Registry) {
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1_700_000_000)));
    let (supervisor, steps) = (Supervisor::new(), StepWatch::never());
    let settings = registry::Settings {
        trust_domain: trust_domain.clone(),
        node_pruning: None,
    };
    let registry = Registry::open(
        MemoryStore::default(),
        settings,
        clock.clone(),
        &steps,
        &supervisor,
    )
    .await
    .unwrap();
    let authority = Authority::start(
        ca::Settings::defaults(trust_domain.clone()),
        registry.clone(),
        Arc::new(MemoryKeyManager::default()),
        clock.clone(),
        &steps,
        &supervisor,
    )
    .await
    .unwrap();
    let services = Services::new(Arc::new(api::Context {
        trust_domain,
        registry: registry.clone(),
        server_svid: authority.server_svid(),
        authority,
        holdings: crate::holdings::Holdings::new(clock.now()),
        clock,
        steps,
        admin_ids: HashSet::new(),
        jwt_disabled: false,
        agent_id_as_selector: false,
        audit: None,
        policy: None,
        attestors: Attestors::default(),
        limits: api::Limits::new(true, true),
        refusals: api::Refusals::default(),
        presence: api::Presence::default(),
        log: layer_writing_to(&LogOptions::default(), Box::new(io::sink())).1,
        started: Instant::now(),
    }));
    (Arc::new(services), registry)
}

fn local() -> Caller {
    Caller::Local {
        uid: 0,
        gid: 0,
        pid: None,
    }
}

/// How long the connection of a peer that does `what` is kept.
async fn kept<F: Future<Output = ()>>(what: impl FnOnce(DuplexStream) -> F) -> Duration {
    let (theirs, ours) = duplex(64 * 1024);
    let began = Instant::now();
    let served = serve(ours, local(), services().await, CancellationToken::new());
    let peer = what(theirs);
    tokio::select! {
        () = served => began.elapsed(),
        () = async {
            peer.await;
            std::future::pending::<()>().await;
        } => Duration::MAX,
    }
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_says_nothing_or_too_little_is_let_go_after_ten_seconds() {
    assert_eq!(kept(hold).await.as_secs(), 10);
    let half = async |mut stream: DuplexStream| {
        stream.write_all(&PREFACE[..12]).await.unwrap();
        hold(stream).await;
    };
    assert_eq!(kept(half).await.as_secs(), 10);
}

async fn hold(stream: DuplexStream) {
    std::future::pending::<()>().await;
    drop(stream);
}

#[tokio::test(start_paused = true)]
async fn another_protocol_is_refused_at_once() {
    let other = async |mut stream: DuplexStream| {
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .await
            .unwrap();
        hold(stream).await;
    };
    assert_eq!(kept(other).await, Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn a_peer_that_answers_no_ping_is_let_go() {
    let mute = async |mut stream: DuplexStream| {
        stream.write_all(&PREFACE).await.unwrap();
        // An empty SETTINGS frame: HTTP/2 has begun.
        stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap();
        hold(stream).await;
    };
    let kept = kept(mute).await;
    assert!((79..=82).contains(&kept.as_secs()), "{kept:?}");
}

async fn connect(stream: DuplexStream) -> Channel {
    let mut stream = Some(TokioIo::new(stream));
    let connector = service_fn(move |_| {
        let stream = stream.take();
        async move { stream.ok_or_else(|| io::Error::other("one connection only")) }
    });
    Endpoint::from_static("http://localhost")
        .connect_with_connector(connector)
        .await
        .unwrap()
}

/// A client that stays connected is told to go after three minutes, give or take a tenth, and its calls still work.
#[tokio::test(start_paused = true)]
async fn a_connection_grows_old() {
    let (theirs, ours) = duplex(64 * 1024);
    let began = Instant::now();
    let served = serve(ours, local(), services().await, CancellationToken::new());
    let client = async {
        let channel = connect(theirs).await;
        let mut client = HealthClient::new(channel);
        loop {
            let answer = client
                .check(HealthCheckRequest {
                    service: String::new(),
                })
                .await;
            if began.elapsed() < Duration::from_secs(160) {
                answer.unwrap();
            }
            sleep(Duration::from_secs(7)).await;
        }
    };
    tokio::select! {
        () = served => {}
        () = client => {}
    }
    let age = began.elapsed().as_secs();
    assert!((162..=205).contains(&age), "{age} s");
}

#[tokio::test(start_paused = true)]
async fn a_stopping_server_lets_its_peers_go() {
    let stop = CancellationToken::new();
    let (theirs, ours) = duplex(64 * 1024);
    let served = serve(ours, local(), services().await, stop.clone());
    let client = async {
        let channel = connect(theirs).await;
        HealthClient::new(channel.clone())
            .check(HealthCheckRequest::default())
            .await
            .unwrap();
        stop.cancel();
        std::future::pending::<()>().await;
        drop(channel);
    };
    let began = Instant::now();
    tokio::select! {
        () = served => {}
        () = client => {}
    }
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
}

/// An agent's subscription shows that it lives every 15 seconds, and ends with its connection, without an error.
#[tokio::test(start_paused = true)]
async fn a_subscription_beats_and_ends_with_its_connection() {
    let (services, registry) = parts().await;
    let id = SpiffeId::parse("spiffe://example.org/spire/agent/join_token/x").unwrap();
    let not_after = Timestamp::from_unix_seconds(1_800_000_000);
    let node = Node {
        id: id.clone(),
        attestation_type: Arc::from("join_token"),
        serial: "7".to_owned(),
        not_after,
        new_serial: None,
        new_not_after: None,
        can_reattest: false,
        selectors: Vec::new(),
        agent_version: Arc::from(""),
    };
    let put = move |_: &State| Ok::<_, Infallible>((vec![Change::NodePut(Arc::new(node))], ()));
    registry.transact(put).await.unwrap();
    let address = ([192, 0, 2, 1], 1).into();
    let caller = Caller::Peer {
        id,
        serial: Arc::from("7"),
        not_after,
        address,
    };
    let (theirs, ours) = duplex(64 * 1024);
    let served = serve(ours, caller, services, CancellationToken::new());
    let began = Instant::now();
    let client = async {
        let mut client = SyncClient::new(connect(theirs).await);
        let hold = Step::Hold(Hold {
            entries_digest: Vec::new(),
        });
        let first = tokio_stream::iter([SubscribeRequest { step: Some(hold) }]);
        let requests = first.chain(tokio_stream::pending());
        let mut events = client.subscribe(requests).await.unwrap().into_inner();
        let mut beats = Vec::new();
        while let Some(event) = events.message().await.unwrap() {
            if let Some(Event::Heartbeat(_)) = event.event {
                beats.push(began.elapsed().as_secs());
            }
        }
        (beats, began.elapsed().as_secs())
    };
    let ((), (beats, ended)) = tokio::join!(served, client);
    assert!((162..=199).contains(&ended), "{ended} s");
    // A beat due in the very second of the end is told or not; `starts_with` and the one that may lack allow both.
    let expected: Vec<u64> = (1..)
        .map(|beat| beat * 15)
        .take_while(|at| *at <= ended)
        .collect();
    assert!(
        beats.len() + 1 >= expected.len() && expected.starts_with(&beats),
        "{beats:?}"
    );
}
