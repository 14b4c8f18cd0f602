//! Streams of both kinds where they aren't SPIRE's.

use std::path::Path;

use credence_proto::envoy::config::core::v3::Node;
use credence_runtime::audit::AuditSink;
use credence_runtime::log::{LogOptions, layer_writing_to};
use prost_types::{Struct, Value as ProtoValue, value::Kind};
use tracing_subscriber::layer::SubscriberExt as _;

use super::*;

/// A stream of DeltaSecrets.
struct Deltas {
    requests: mpsc::Sender<DeltaDiscoveryRequest>,
    answers: Streaming<DeltaDiscoveryResponse>,
}

impl Deltas {
    async fn open(lab: &Lab) -> Self {
        let (requests, received) = mpsc::channel(8);
        let answers = envoy(lab)
            .await
            .delta_secrets(ReceiverStream::new(received))
            .await;
        Self {
            requests,
            answers: answers.unwrap().into_inner(),
        }
    }

    async fn send(&self, request: DeltaDiscoveryRequest) {
        self.requests.send(request).await.unwrap();
    }

    async fn next(&mut self) -> Option<DeltaDiscoveryResponse> {
        let next = timeout(SOON, self.answers.message()).await.ok()?;
        Some(next.unwrap().unwrap())
    }

    async fn names(&mut self) -> Vec<String> {
        let answer = self.next().await;
        let resources = answer.into_iter().flat_map(|answer| answer.resources);
        resources.map(|resource| resource.name).collect()
    }
}

fn subscribe(names: &[&str]) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: SECRET.to_owned(),
        resource_names_subscribe: texts(names),
        ..DeltaDiscoveryRequest::default()
    }
}

fn renew(lab: &Lab, number: u8, id: &str) {
    lab.put(numbered(number, id));
    lab.sign(numbered(number, id));
}

#[tokio::test(start_paused = true)]
async fn an_unknown_name_is_left_out_and_pushed_when_it_is_known() {
    let lab = lab();
    let mut stream = Stream::open(&lab).await;
    stream.send(request(&[SECOND])).await;
    assert!(stream.next().await.is_none(), "nothing to say yet");
    renew(&lab, 2, SECOND);
    let answer = stream.next().await.unwrap();
    assert_eq!(names_of(&answer), [SECOND]);

    let mut stream = Stream::open(&lab).await;
    stream.send(request(&["default", "x", FOREIGN])).await;
    assert_eq!(names_of(&stream.next().await.unwrap()), ["default"]);
    lab.put_bundle(foreign_bundle("otherdomain.test", &TokenKey::new("k")));
    let federated = Entry {
        federates_with: vec![trust_domain("otherdomain.test")],
        ..numbered(2, SECOND)
    };
    lab.put(federated);
    assert_eq!(names_of(&stream.next().await.unwrap()), [FOREIGN, "default"]);
}

#[tokio::test(start_paused = true)]
async fn an_identity_that_is_gone_leaves_the_stream_open() {
    let lab = lab();
    let mut stream = Stream::open(&lab).await;
    let first = stream.ask(&[WORKLOAD]).await;
    lab.remove("1");
    assert!(stream.next().await.is_none());
    renew(&lab, 1, WORKLOAD);
    let again = stream.next().await.unwrap();
    assert_ne!(again.version_info, first.version_info);
}

/// Conforms: SDS-19
#[tokio::test(start_paused = true)]
async fn another_list_is_answered_at_once_in_the_form_that_the_node_asked_for() {
    let lab = lab();
    let mut stream = Stream::open(&lab).await;
    let kind = Some(Kind::BoolValue(true));
    let fields = [("disable_spiffe_cert_validation".to_owned(), ProtoValue { kind })];
    let node = Node {
        metadata: Some(Struct {
            fields: fields.into(),
        }),
        ..Node::default()
    };
    stream
        .send(DiscoveryRequest {
            node: Some(node),
            ..request(&[WORKLOAD])
        })
        .await;
    let first = stream.next().await.unwrap();
    // Refused, and more asked for: the new list counts, without a node.
    stream
        .send(DiscoveryRequest {
            version_info: String::new(),
            error_detail: bad(),
            ..ack(&first, &[WORKLOAD, OWN])
        })
        .await;
    let second = stream.next().await.unwrap();
    assert_eq!(names_of(&second), [OWN, WORKLOAD]);
    assert!(trusted_ca_of(&second.resources[0]).contains("CERTIFICATE"));
    assert!(first.nonce != second.nonce && first.version_info != second.version_info);
    // The same content under a list that means the same is still an answer to a question.
    stream.send(ack(&second, &[WORKLOAD, OWN, "x"])).await;
    let third = stream.next().await.unwrap();
    assert_eq!(third.version_info, second.version_info);
    assert!(stream.next().await.is_none());
}

#[tokio::test(start_paused = true)]
async fn a_version_is_the_same_in_each_stream_and_each_run() {
    let (one, two) = (lab(), lab());
    let first = Stream::open(&one).await.ask(&["ROOTCA"]).await;
    let other = Stream::open(&two).await.ask(&["ROOTCA"]).await;
    assert_eq!(first.version_info, other.version_info);
    assert_ne!(
        first.version_info,
        Stream::open(&one).await.ask(&[OWN]).await.version_info
    );

    // The agent has been restarted: the Envoy says what it has, and is told nothing until there is news.
    let mut stream = Stream::open(&two).await;
    stream
        .send(DiscoveryRequest {
            version_info: first.version_info.clone(),
            ..request(&["ROOTCA"])
        })
        .await;
    assert!(stream.next().await.is_none());
    two.put_bundle(Bundle {
        x509_authorities: foreign_bundle("x.test", &TokenKey::new("k")).x509_authorities,
        ..Bundle::empty(trust_domain("example.org"))
    });
    assert_ne!(stream.next().await.unwrap().version_info, first.version_info);
}

#[tokio::test(start_paused = true)]
async fn what_does_not_concern_the_names_is_not_pushed() {
    let lab = lab();
    let mut stream = Stream::open(&lab).await;
    stream.ask(&["ROOTCA"]).await;
    renew(&lab, 1, WORKLOAD);
    renew(&lab, 2, SECOND);
    assert!(stream.next().await.is_none());
}

/// Conforms: SDS-21
#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_the_envoy_has_done_and_when_the_agent_stops() {
    let lab = lab();
    let mut done = Stream::open(&lab).await;
    done.ask(&[OWN]).await;
    let mut open = Stream::open(&lab).await;
    open.ask(&[OWN]).await;
    let Stream {
        requests,
        mut answers,
    } = done;
    drop(requests);
    assert!(answers.message().await.unwrap().is_none());
    lab.supervisor.shutdown();
    assert_eq!(open.end().await, Some(Code::Unavailable));
}

#[tokio::test(start_paused = true)]
async fn deltas_have_what_changed_of_what_is_subscribed() {
    let lab = lab_with(Setup::default(), &[WORKLOAD, SECOND], &[]);
    let mut deltas = Deltas::open(&lab).await;
    deltas.send(subscribe(&[WORKLOAD, OWN, "x"])).await;
    let first = deltas.next().await.unwrap();
    assert_eq!(first.type_url, SECRET);
    let names: Vec<&str> = first.resources.iter().map(|r| r.name.as_str()).collect();
    assert_eq!(names, [OWN, WORKLOAD]);
    let ack = |nonce: &str| DeltaDiscoveryRequest {
        response_nonce: nonce.to_owned(),
        ..subscribe(&[])
    };
    deltas.send(ack(&first.nonce)).await;
    assert!(deltas.next().await.is_none());
    renew(&lab, 1, WORKLOAD);
    assert_eq!(deltas.names().await, [WORKLOAD]);
    // Names count whatever the nonce: no request repeats them.
    let late = DeltaDiscoveryRequest {
        resource_names_subscribe: texts(&[SECOND]),
        resource_names_unsubscribe: texts(&[WORKLOAD]),
        ..ack(&first.nonce)
    };
    deltas.send(late).await;
    assert_eq!(deltas.names().await, [SECOND]);
    renew(&lab, 1, WORKLOAD);
    assert!(deltas.next().await.is_none(), "unsubscribed");
    // Who asks again has lost it.
    deltas.send(subscribe(&[SECOND])).await;
    assert_eq!(deltas.names().await, [SECOND]);
    renew(&lab, 3, "spiffe://example.org/x");
    assert!(deltas.next().await.is_none(), "another name");
    lab.remove("2");
    assert!(deltas.next().await.is_none(), "nothing is taken away");
    renew(&lab, 2, SECOND);
    assert_eq!(deltas.names().await, [SECOND]);
}

#[tokio::test(start_paused = true)]
async fn deltas_of_a_stream_that_goes_on_are_those_since_it_broke() {
    let lab = lab_with(Setup::default(), &[WORKLOAD, SECOND], &[]);
    let mut deltas = Deltas::open(&lab).await;
    deltas.send(subscribe(&[])).await;
    let first = deltas.next().await.unwrap();
    let versions: Vec<(String, String)> = first
        .resources
        .iter()
        .map(|Resource { name, version, .. }| (name.clone(), version.clone()))
        .collect();
    assert_eq!(versions.len(), 3, "everything");
    let again = DeltaDiscoveryRequest {
        initial_resource_versions: versions.into_iter().collect(),
        ..subscribe(&[WORKLOAD, SECOND, OWN])
    };
    let mut same = Deltas::open(&lab).await;
    same.send(again.clone()).await;
    assert!(same.next().await.is_none());
    renew(&lab, 2, SECOND);
    let mut later = Deltas::open(&lab).await;
    later.send(again).await;
    assert_eq!(later.names().await, [SECOND]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_delta_is_not_sent_again_until_it_changes() {
    let lab = lab();
    let mut deltas = Deltas::open(&lab).await;
    deltas.send(subscribe(&["default"])).await;
    let first = deltas.next().await.unwrap();
    deltas
        .send(DeltaDiscoveryRequest {
            response_nonce: first.nonce,
            error_detail: bad(),
            ..subscribe(&[])
        })
        .await;
    assert!(deltas.next().await.is_none());
    renew(&lab, 1, WORKLOAD);
    assert_eq!(deltas.names().await, ["default"]);
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_logged_with_the_envoys_reason_and_no_secret() {
    let sink = Sink::default();
    let options = LogOptions {
        level: "debug".parse().unwrap(),
        ..LogOptions::default()
    };
    let (layer, _handle) = layer_writing_to(&options, Box::new(sink.clone()));
    let _guard = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let lab = lab();
    let mut stream = Stream::open(&lab).await;
    stream.send(request(&[WORKLOAD, "x"])).await;
    let first = stream.next().await.unwrap();
    let refused = |answer: &DiscoveryResponse, names| DiscoveryRequest {
        version_info: String::new(),
        error_detail: bad(),
        ..ack(answer, names)
    };
    stream.send(refused(&first, &[WORKLOAD, "x"])).await;
    stream.send(request(&[WORKLOAD])).await;
    assert!(stream.next().await.is_none());
    let log = String::from_utf8(sink.0.lock().unwrap().clone()).unwrap();
    let has = |parts: &[&str]| {
        log.lines()
            .any(|line| parts.iter().all(|part| line.contains(part)))
    };
    let names = format!("resource_names=\"[{WORKLOAD} x]\"");
    for line in [
        &["level=debug", "Received StreamSecrets request", &names][..],
        &[
            "level=debug",
            "Sending StreamSecrets response",
            "count=1",
            "service=SDS.v3",
        ],
        &[
            "level=info",
            "Workload is not authorized for requested secrets",
            "\"[x]\"",
        ],
        &[
            "level=error",
            "Envoy reported errors applying secrets",
            "error=bad",
            &names,
        ],
        &[
            "level=warning",
            "Received unexpected nonce; ignoring request",
            &first.nonce,
        ],
    ] {
        assert!(has(line), "{line:?} in {log}");
    }
    assert!(!log.contains("PRIVATE") && !log.contains("BEGIN"), "{log}");
}

fn events(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().map(|line| serde_json::from_str(line).unwrap());
    lines.collect()
}

#[tokio::test]
async fn only_the_certificates_that_are_handed_out_are_recorded() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("audit.json");
    let setup = Setup {
        audit: Some(AuditSink::File(path.clone())),
        ..Setup::default()
    };
    let lab = lab_with(setup, &[WORKLOAD, SECOND], &[]);
    let mut stream = Stream::open(&lab).await;
    stream.ask(&[WORKLOAD, OWN]).await;
    let foreign = foreign_bundle("x.test", &TokenKey::new("k")).x509_authorities;
    lab.put_bundle(Bundle {
        x509_authorities: foreign,
        ..Bundle::empty(trust_domain("example.org"))
    });
    stream.next().await.unwrap();
    let names = &[SECOND][..];
    envoy(&lab).await.fetch_secrets(request(names)).await.unwrap();
    while events(&path).len() < 2 {
        tokio::task::yield_now().await;
    }
    let events = events(&path);
    let shown: Vec<_> = events
        .iter()
        .map(|event| {
            (
                event["method"].as_str().unwrap(),
                event["spiffe_id"].as_str().unwrap(),
            )
        })
        .collect();
    assert_eq!(shown, [("StreamSecrets", WORKLOAD), ("FetchSecrets", SECOND)]);
    assert_eq!(events[0]["service"], "SDS.v3");
}
