//! The page for Prometheus under the calls of agents and operators: SPIRE's names, each of which some dashboard asks for.

use credence_crypto::csr;
use credence_proto::spire::api::server::agent::v1 as agent_pb;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::bundle::v1::{
    CountBundlesRequest, GetBundleRequest, ListFederatedBundlesRequest,
};
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::server::svid::v1 as svid_pb;
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use credence_proto::spire::api::server::trustdomain::v1::ListFederationRelationshipsRequest;
use credence_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use credence_runtime::config::{
    PrometheusConfig, PrometheusTls, TelemetryConfig, TlsCertificate, TlsReaders,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

use crate::harness::{Lab, csr_of, entry, id, new_key};

fn prometheus(tls: Option<PrometheusTls>) -> TelemetryConfig {
    TelemetryConfig {
        prometheus: Some(PrometheusConfig {
            host: "localhost".to_owned(),
            port: 0,
            tls,
        }),
        ..TelemetryConfig::default()
    }
}

async fn page(lab: &Lab) -> String {
    let mut stream = TcpStream::connect(lab.bound.prometheus.unwrap()).await.unwrap();
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    answer
}

fn has(page: &str, name: &str) -> bool {
    page.lines().any(|line| {
        let rest = line.strip_prefix(name);
        rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
    })
}

/// What operators and an agent do in a day.
async fn load(lab: &Lab) {
    let agent = lab.agent().await;
    let made = lab
        .create(vec![entry(&agent.id, "/a"), entry(&agent.id, "/b")])
        .await;
    let mut svids = SvidClient::new(agent.channel.clone());
    let params = svid_pb::NewX509svidParams {
        entry_id: made[0].id.clone(),
        csr: csr_of(&new_key()),
    };
    let request = svid_pb::BatchNewX509svidRequest { params: vec![params] };
    svids.batch_new_x509svid(request).await.unwrap();
    let request = svid_pb::NewJwtsvidRequest {
        entry_id: made[0].id.clone(),
        audience: vec!["db".to_owned()],
    };
    svids.new_jwtsvid(request).await.unwrap();
    let mut entries = EntryClient::new(agent.channel.clone());
    entries
        .get_authorized_entries(entry_pb::GetAuthorizedEntriesRequest::default())
        .await
        .unwrap();
    let refused = entries
        .list_entries(entry_pb::ListEntriesRequest::default())
        .await;
    assert_eq!(refused.unwrap_err().code(), Code::PermissionDenied);
    let mut agents = AgentClient::new(agent.channel.clone());
    let renewed = agent_pb::RenewAgentRequest {
        params: Some(agent_pb::AgentX509svidParams {
            csr: csr::create(&new_key(), None, &[]).unwrap(),
        }),
    };
    agents.renew_agent(renewed).await.unwrap();

    let mut entries = EntryClient::new(lab.local().await);
    entries
        .list_entries(entry_pb::ListEntriesRequest::default())
        .await
        .unwrap();
    entries
        .count_entries(entry_pb::CountEntriesRequest::default())
        .await
        .unwrap();
    let request = entry_pb::GetEntryRequest {
        id: made[0].id.clone(),
        output_mask: None,
    };
    entries.get_entry(request).await.unwrap();
    let request = entry_pb::BatchUpdateEntryRequest {
        entries: vec![made[0].clone()],
        ..Default::default()
    };
    entries.batch_update_entry(request).await.unwrap();
    lab.delete(vec![made[1].id.clone()]).await;
    let mut agents = AgentClient::new(lab.local().await);
    agents
        .list_agents(agent_pb::ListAgentsRequest::default())
        .await
        .unwrap();
    agents
        .count_agents(agent_pb::CountAgentsRequest::default())
        .await
        .unwrap();
    let node = Some(agent.id.clone());
    let request = agent_pb::GetAgentRequest {
        id: node.clone(),
        output_mask: None,
    };
    agents.get_agent(request).await.unwrap();
    agents
        .ban_agent(agent_pb::BanAgentRequest { id: node.clone() })
        .await
        .unwrap();
    agents
        .delete_agent(agent_pb::DeleteAgentRequest { id: node })
        .await
        .unwrap();
    let mut bundles = BundleClient::new(lab.local().await);
    bundles.get_bundle(GetBundleRequest::default()).await.unwrap();
    bundles
        .count_bundles(CountBundlesRequest::default())
        .await
        .unwrap();
    let all = ListFederatedBundlesRequest::default();
    bundles.list_federated_bundles(all).await.unwrap();
    let all = ListFederationRelationshipsRequest::default();
    TrustDomainClient::new(lab.local().await)
        .list_federation_relationships(all)
        .await
        .unwrap();
}

#[tokio::test]
async fn every_series_of_spires_server_that_has_a_meaning_here_is_on_the_page() {
    let lab = Lab::start_with(|plan| {
        plan.telemetry = prometheus(None);
        plan.limit_attestation = true;
        plan.limit_signing = true;
    })
    .await;
    load(&lab).await;
    let page = page(&lab).await;
    // By the groups of SPIRE's list of metrics.
    let plain = [
        "started",
        "uptime_in_ms",
        "ca_manager_x509_ca_activate",
        "manager_jwt_key_activate",
        "manager_x509_ca_rotate_expiration",
        "manager_x509_ca_rotate_ttl",
        "server_ca_sign_x509_svid",
        "server_ca_sign_jwt_svid",
        "entry_deleted",
        "node_agents_by_id_cache_count",
        "node_agents_by_expiresat_cache_count",
        "node_skipped_node_event_ids_count",
        "entry_nodealiases_by_entryid_cache_count",
        "entry_nodealiases_by_selector_cache_count",
        "entry_entries_by_entryid_cache_count",
        "entry_skipped_entry_event_ids_count",
        "runtime_alloc_bytes",
        "runtime_heap_objects",
    ];
    let calls = [
        "rpc_agent_v1_agent_attest_agent",
        "rpc_agent_v1_agent_renew_agent",
        "rpc_entry_v1_entry_batch_create_entry",
        "rpc_entry_v1_entry_batch_delete_entry",
        "rpc_entry_v1_entry_get_authorized_entries",
        "rpc_entry_v1_entry_list_entries",
        "rpc_bundle_v1_bundle_get_bundle",
        "rpc_svid_v1_svid_new_jwtsvid",
        "rpc_svid_v1_svid_batch_new_x509svid",
        "rateLimit_agent_v1_agent_attest_agent",
        "rateLimit_agent_v1_agent_renew_agent",
        "rateLimit_svid_v1_svid_batch_new_x509svid",
        "rateLimit_svid_v1_svid_new_jwtsvid",
        "ca_manager_x509_ca_prepare",
        "ca_manager_jwt_key_prepare",
        "server_key_manager_generate_key",
        "server_key_manager_get_public_key",
        "server_key_manager_sign_data",
        "svid_rotate",
        "datastore_bundle_create",
        "datastore_bundle_append",
        "datastore_bundle_fetch",
        "datastore_bundle_count",
        "datastore_bundle_list",
        "datastore_federation_relationship_list",
        "datastore_node_count",
        "datastore_node_create",
        "datastore_node_delete",
        "datastore_node_fetch",
        "datastore_node_list",
        "datastore_node_update",
        "datastore_node_selectors_set",
        "datastore_registration_entry_count",
        "datastore_registration_entry_create",
        "datastore_registration_entry_delete",
        "datastore_registration_entry_fetch",
        "datastore_registration_entry_list",
        "datastore_registration_entry_update",
        "datastore_join_token_create",
        "datastore_join_token_delete",
        "datastore_ca_journal_set",
        "entry_cache_reload",
    ];
    let calls = calls.iter().flat_map(|name| {
        let parts = ["", "_elapsed_time", "_elapsed_time_sum", "_elapsed_time_count"];
        parts.map(|part| format!("spire_server_{name}{part}"))
    });
    let plain = plain.iter().map(|name| format!("spire_server_{name}"));
    let missing: Vec<_> = plain.chain(calls).filter(|name| !has(&page, name)).collect();
    assert_eq!(missing, Vec::<String>::new(), "{page}");
    let refused = "spire_server_rpc_entry_v1_entry_list_entries{host=";
    let refused = page.lines().filter(|line| line.starts_with(refused));
    let codes: Vec<_> = refused
        .map(|line| line.split_once("status=").unwrap().1)
        .collect();
    assert_eq!(codes, ["\"OK\"} 1", "\"PermissionDenied\"} 1"]);
    let created = page
        .lines()
        .find(|line| line.starts_with("spire_server_entry_entries_by_entryid_cache_count"));
    assert!(
        created.unwrap().ends_with(" 1"),
        "the page shows the moment: {created:?}"
    );
}

/// A stream counts when it is over, with the code in its trailers.
#[tokio::test]
async fn a_stream_counts_with_the_code_it_ended_with() {
    let lab = Lab::start_with(|plan| plan.telemetry = prometheus(None)).await;
    let agent = lab.agent().await;
    let requests = tokio_stream::iter([entry_pb::SyncAuthorizedEntriesRequest::default()]);
    let mut answers = EntryClient::new(agent.channel.clone())
        .sync_authorized_entries(requests)
        .await
        .unwrap()
        .into_inner();
    while answers.message().await.unwrap().is_some() {}
    let wanted = "spire_server_rpc_entry_v1_entry_sync_authorized_entries{";
    let page = page(&lab).await;
    let line = page.lines().find(|line| line.starts_with(wanted)).unwrap();
    assert!(line.ends_with("status=\"OK\"} 1"), "{line}");
}

#[tokio::test]
async fn a_page_protected_by_spiffe_shows_itself_to_the_ids_it_is_for() {
    let lab = Lab::start_with(|plan| {
        plan.telemetry = prometheus(Some(PrometheusTls {
            own: TlsCertificate::Svid,
            readers: TlsReaders::Ids(vec![id("/prometheus")]),
        }));
    })
    .await;
    let address = lab.bound.prometheus.unwrap();
    for (path, welcome) in [("/prometheus", true), ("/other", false)] {
        let svid = lab.mint(path).await;
        let config = lab.client_config(Some(svid)).await;
        let answer = read(address, config).await;
        assert_eq!(
            answer.is_some_and(|page| has(&page, "spire_server_started")),
            welcome,
            "{path}"
        );
    }
    assert_eq!(read(address, lab.client_config(None).await).await, None);
}

async fn read(address: std::net::SocketAddr, config: std::sync::Arc<rustls::ClientConfig>) -> Option<String> {
    let mut config = rustls::ClientConfig::clone(&config);
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(std::sync::Arc::new(config));
    let mut stream = connector
        .connect("localhost".try_into().unwrap(), stream)
        .await
        .ok()?;
    let asked = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    stream.write_all(asked).await.ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.ok()?;
    Some(answer)
}
