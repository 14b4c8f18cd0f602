//! A server and an agent that are measured: the page for Prometheus under load, and one trace from a workload's call to the
//! signature, as a collector of our own sees it.

mod collector;

use std::io;

use credence_proto::envoy::service::discovery::v3::DiscoveryRequest;
use credence_proto::envoy::service::secret::v3::secret_discovery_service_client::SecretDiscoveryServiceClient;
use credence_proto::google::rpc;
use credence_proto::spiffe_workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use credence_proto::spiffe_workload::{JwtsvidRequest, ValidateJwtsvidRequest, X509svidRequest};
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::types;
use credence_runtime::config::{OtlpConfig, PrometheusConfig, TelemetryConfig};
use credence_runtime::grpc::connect_unix;
use credence_runtime::log::{Level, LogOptions, layer_writing_to};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Request;
use tonic::transport::Channel;
use tracing_subscriber::layer::SubscriberExt;

use super::lab::id_of;
use super::*;
use crate::api::PublicApis;
use crate::api::sds::SdsOptions;
use crate::api::workload::WorkloadOptions;
use crate::app;
use crate::attestor::workload::{ProcFs, UnixOptions};
use collector::Collector;

/// What a workload says of its own trace.
const STRANGER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// An agent with all its APIs, and this process as its workload.
struct Whole {
    bound: app::Bound,
    supervisor: Supervisor,
    workload: SpiffeWorkloadApiClient<Channel>,
    secrets: SecretDiscoveryServiceClient<Channel>,
}

impl Whole {
    async fn start(lab: &Lab, telemetry: TelemetryConfig, log: credence_runtime::log::LogHandle) -> Self {
        let token = Arc::new(JoinToken::new(lab.token().await));
        let plan = app::Plan {
            sync: lab.plan(token, "agent", KeyManager::memory()),
            socket: Some(lab.path("agent.sock")),
            admin: None,
            apis: PublicApis {
                workload: Some(WorkloadOptions::default()),
                sds: Some(SdsOptions::default()),
            },
            istio: None,
            unix: Some(UnixOptions::default()),
            unix_file: None,
            proc: ProcFs::at("/proc"),
            files: Vec::new(),
            health: None,
            explain: lab.path("measured-explain.sock"),
            telemetry,
            audit: None,
        };
        let supervisor = Supervisor::new();
        let bound = app::start(plan, lab.clock.clone(), log, &supervisor)
            .await
            .unwrap();
        let channel = connect_unix(&lab.path("agent.sock")).await.unwrap();
        let agent = bound.svid.borrow().svid.id.clone();
        let entry = types::Entry {
            spiffe_id: Some(types::Spiffeid {
                trust_domain: "example.org".to_owned(),
                path: "/workload".to_owned(),
            }),
            parent_id: Some(id_of(&agent)),
            selectors: vec![types::Selector {
                r#type: "unix".to_owned(),
                value: format!("uid:{}", nix::unistd::geteuid()),
            }],
            ..types::Entry::default()
        };
        let request = entry_pb::BatchCreateEntryRequest {
            entries: vec![entry],
            output_mask: None,
        };
        EntryClient::new(lab.local())
            .batch_create_entry(request)
            .await
            .unwrap();
        let whole = Self {
            bound,
            supervisor,
            workload: SpiffeWorkloadApiClient::new(channel.clone()),
            secrets: SecretDiscoveryServiceClient::new(channel),
        };
        let mut in_cache = whole.bound.cache.subscribe(SelectorSet::default());
        while whole.bound.cache.entry_count() == 0 {
            tokio::select! {
                () = in_cache.changed() => {}
                () = tokio::time::sleep(Duration::from_millis(5)) => {}
            }
        }
        whole
    }

    async fn fetch_jwt(&mut self) -> String {
        let request = JwtsvidRequest {
            audience: vec!["db".to_owned()],
            spiffe_id: String::new(),
        };
        let answer = self.workload.fetch_jwtsvid(asked(request)).await.unwrap();
        answer.into_inner().svids.remove(0).svid
    }

    async fn stop(self) {
        self.supervisor.shutdown();
        self.supervisor.wait().await.unwrap();
    }
}

fn asked<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    let metadata = request.metadata_mut();
    metadata.insert("workload.spiffe.io", "true".parse().unwrap());
    metadata.insert("traceparent", STRANGER.parse().unwrap());
    request
}

#[tokio::test]
async fn every_series_of_spires_agent_that_has_a_meaning_here_is_on_the_page() {
    let lab = Lab::new().await;
    let telemetry = TelemetryConfig {
        prometheus: Some(PrometheusConfig {
            host: "127.0.0.1".to_owned(),
            port: 0,
            tls: None,
        }),
        ..TelemetryConfig::default()
    };
    let (_, log) = layer_writing_to(&LogOptions::default(), Box::new(io::sink()));
    let mut agent = Whole::start(&lab, telemetry, log).await;
    let svid = agent.fetch_jwt().await;
    let request = ValidateJwtsvidRequest {
        audience: "db".to_owned(),
        svid,
    };
    agent.workload.validate_jwtsvid(asked(request)).await.unwrap();
    refuse_a_secret(&mut agent).await;
    let stream = agent
        .workload
        .fetch_x509svid(asked(X509svidRequest {}))
        .await
        .unwrap();
    let mut stream = stream.into_inner();
    stream.message().await.unwrap().unwrap();
    let open = page(agent.bound.prometheus.unwrap()).await;
    let connections = "spire_agent_workload_api_connections{";
    let connections = open.lines().find(|line| line.starts_with(connections)).unwrap();
    assert!(connections.ends_with("} 1"), "{connections}");
    // The agent ends the stream, or nobody would know with which code it ended.
    let address = agent.bound.prometheus.unwrap();
    drop(stream);
    let page = loop {
        let page = page(address).await;
        if has(&page, "spire_agent_rpc_workload_api_fetch_x509svid") {
            break page;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    };
    let names = [
        "started",
        "uptime_in_ms",
        "runtime_alloc_bytes",
        "runtime_heap_objects",
        "bootstrapped",
        "bootstrap_seconds",
        "bootstrap_attempts",
        "node_attestor_new_svid",
        "node_attestor_new_svid_elapsed_time_sum",
        "agent_key_manager_generate_key",
        "agent_key_manager_get_keys",
        "manager_sync_fetch_entries_updates",
        "manager_sync_fetch_entries_updates_elapsed_time_sum",
        "manager_sync_fetch_svids_updates",
        "manager_sync_fetch_svids_updates_elapsed_time_sum",
        "sync_bundles_total",
        "sync_entries_total",
        "sync_entries_missing",
        "sync_entries_stale",
        "sync_entries_dropped",
        "cache_manager_expiring_svids_count",
        "cache_manager_outdated_svids_count",
        "lru_cache_entry_add",
        "lru_cache_entry_update",
        "lru_cache_entry_remove",
        "lru_cache_record_map_size",
        "lru_cache_svid_map_size",
        "jwt_svid_cache_size",
        "workload_api_connection",
        "workload_api_connections",
        "workload_api_discovered_selectors_count",
        "workload_api_workload_attestation",
        "workload_api_workload_attestation_elapsed_time_sum",
        "workload_api_workload_attestor",
        "sds_api_connection",
        "sds_api_connections",
        "sds_api_nack",
        "rpc_sds_v3_fetch_secrets",
        "rpc_sds_v3_stream_secrets",
        "rpc_workload_api_fetch_jwtsvid",
        "rpc_workload_api_fetch_jwtsvid_elapsed_time_sum",
        "rpc_workload_api_fetch_x509svid_elapsed_time_sum",
        "rpc_workload_api_validate_jwtsvid",
    ];
    let missing: Vec<_> = names
        .iter()
        .filter(|name| !has(&page, &format!("spire_agent_{name}")))
        .collect();
    assert!(missing.is_empty(), "{missing:?}: {page}");
    agent.stop().await;
}

/// As an Envoy does that can't use what it was sent.
async fn refuse_a_secret(agent: &mut Whole) {
    let (requests, sent) = mpsc::channel(2);
    let request = DiscoveryRequest {
        resource_names: vec!["default".to_owned()],
        ..DiscoveryRequest::default()
    };
    agent.secrets.fetch_secrets(request.clone()).await.unwrap();
    requests.send(request.clone()).await.unwrap();
    let sent = tokio_stream::wrappers::ReceiverStream::new(sent);
    let mut answers = agent.secrets.stream_secrets(sent).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap();
    let refusal = DiscoveryRequest {
        response_nonce: answer.nonce,
        error_detail: Some(rpc::Status {
            message: "KEY_VALUES_MISMATCH".to_owned(),
            ..rpc::Status::default()
        }),
        ..request
    };
    requests.send(refusal).await.unwrap();
    drop(requests);
    while answers.message().await.unwrap().is_some() {}
}

async fn page(address: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let asked = b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(asked).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

fn has(page: &str, name: &str) -> bool {
    let rest = |line: &str| {
        line.strip_prefix(name)
            .is_some_and(|rest| rest.starts_with(['{', ' ']))
    };
    page.lines().any(rest)
}

/// One trace goes from the Workload API's call on the agent to the signature on the server. The workload's own trace is
/// referred to and not gone on with, for the workload could say anything.
#[tokio::test]
async fn one_trace_goes_from_the_workloads_call_to_the_signature() {
    let supervisor = Supervisor::new();
    let collector = Collector::start(&supervisor).await;
    let telemetry = TelemetryConfig {
        otlp: Some(OtlpConfig {
            endpoint: collector.endpoint(),
            authorities: None,
            metrics: true,
            traces: true,
            logs: true,
        }),
        ..TelemetryConfig::default()
    };
    let mut lab = Lab::measured(telemetry.clone()).await;
    let options = LogOptions {
        level: Level::Debug,
        ..LogOptions::default()
    };
    let (layer, log) = layer_writing_to(&options, Box::new(io::sink()));
    // While a process has one subscriber only, tracing asks that of the thread which meets an event first: a test beside
    // this one, with none, would switch the event off.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let _subscriber = tracing::subscriber::set_default(tracing_subscriber::registry().with(layer));
    let mut agent = Whole::start(&lab, telemetry, log).await;
    agent.fetch_jwt().await;
    agent.stop().await;
    lab.stop().await;

    let call = collector.span("spire-agent", "SpiffeWorkloadAPI/FetchJWTSVID");
    let issue = collector.span("spire-server", "spire.api.server.svid.v1.SVID/NewJWTSVID");
    assert_eq!(call.parent_span_id, Vec::<u8>::new());
    let linked: Vec<_> = call.links.iter().map(|link| hex(&link.trace_id)).collect();
    assert_eq!(linked, ["4bf92f3577b34da6a3ce929d0e0e4736"]);
    assert_ne!(hex(&call.trace_id), linked[0]);
    assert_eq!(hex(&issue.trace_id), hex(&call.trace_id));
    assert_eq!(issue.parent_span_id, call.span_id);
    let signed = collector.spans_of("spire-server", "server_key_manager.sign_data");
    assert!(
        signed.iter().any(|span| span.parent_span_id == issue.span_id),
        "{signed:?}"
    );
    let attested = collector.spans_of("spire-agent", "workload_api.workload_attestation");
    assert!(
        attested.iter().any(|span| span.parent_span_id == call.span_id),
        "{attested:?}"
    );

    let metrics = collector.metrics();
    for name in [
        "spire_agent.rpc.workload_api.fetch_jwtsvid",
        "spire_server.server_ca.sign.jwt_svid",
    ] {
        assert!(metrics.iter().any(|metric| metric == name), "{name}: {metrics:?}");
    }
    let logged = collector.log("Fetched JWT SVID");
    assert_eq!(hex(&logged.trace_id), hex(&call.trace_id));
    supervisor.shutdown();
    supervisor.wait().await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    credence_crypto::hex(bytes)
}
