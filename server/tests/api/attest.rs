//! Agents: attestation, renewal, ban, eviction, join tokens.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credence_crypto::PopSignature;
use credence_proto::spire::api::server::agent::v1 as pb;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::agent::v1::{attest_agent_request, attest_agent_response};
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::types;
use credence_proto::spire::api::types::permission_denied_details::Reason;
use credence_server::attestor::x509pop::X509PopConfig;
use tonic::transport::Channel;
use tonic::{Code, Status};

use crate::harness::{
    Agent, Lab, attest, csr_of, new_key, params, reason, refused, refused_with, soon, wire_id,
};

async fn admin(lab: &Lab) -> AgentClient<Channel> {
    AgentClient::new(lab.local().await)
}

async fn get(lab: &Lab, id: &types::Spiffeid) -> Result<types::Agent, Status> {
    let request = pb::GetAgentRequest {
        id: Some(id.clone()),
        output_mask: None,
    };
    admin(lab)
        .await
        .get_agent(request)
        .await
        .map(tonic::Response::into_inner)
}

/// A call that only an agent in good standing may make.
async fn works(channel: &Channel) -> Result<(), Status> {
    let request = entry_pb::GetAuthorizedEntriesRequest::default();
    EntryClient::new(channel.clone())
        .get_authorized_entries(request)
        .await
        .map(drop)
}

async fn renew(lab: &Lab, agent: &Agent) -> Result<Agent, Status> {
    let key = new_key();
    let params = Some(pb::AgentX509svidParams { csr: csr_of(&key) });
    let mut client = AgentClient::new(agent.channel.clone());
    let renewed = client
        .renew_agent(pb::RenewAgentRequest { params })
        .await?
        .into_inner()
        .svid
        .unwrap();
    Ok(lab.agent_of(renewed, key).await)
}

#[tokio::test]
async fn a_join_token_admits_one_agent_once() {
    let lab = Lab::start().await;
    let token = lab.token().await;
    let key = new_key();
    let svid = attest(
        lab.anonymous().await,
        "join_token",
        token.as_bytes(),
        &csr_of(&key),
    )
    .await
    .unwrap();
    assert_eq!(
        svid.id,
        Some(wire_id(&format!("/spire/agent/join_token/{token}")))
    );
    let agent = lab.agent_of(svid, key).await;
    works(&agent.channel).await.unwrap();
    let node = get(&lab, &agent.id).await.unwrap();
    assert_eq!(
        (node.attestation_type.as_str(), node.banned, node.can_reattest),
        ("join_token", false, false)
    );
    assert_eq!(node.x509svid_serial_number, agent.svid.svid.serial);
    assert_eq!(node.x509svid_expires_at, agent.svid.svid.not_after.unix_seconds());
    let again = attest(
        lab.anonymous().await,
        "join_token",
        token.as_bytes(),
        &csr_of(&new_key()),
    )
    .await;
    let text = "failed to attest: join token does not exist or has already been used";
    refused(again, Code::InvalidArgument, text);
}

#[tokio::test]
async fn of_two_racing_attestations_exactly_one_wins() {
    let lab = Arc::new(Lab::start().await);
    for _ in 0..10 {
        let token = lab.token().await;
        let race = || {
            let (lab, token) = (Arc::clone(&lab), token.clone());
            tokio::spawn(async move {
                let csr = csr_of(&new_key());
                attest(lab.anonymous().await, "join_token", token.as_bytes(), &csr).await
            })
        };
        let (first, second) = tokio::join!(race(), race());
        let outcomes = [first.unwrap(), second.unwrap()];
        let won: Vec<_> = outcomes
            .iter()
            .filter_map(|outcome| outcome.as_ref().ok())
            .collect();
        assert_eq!(won.len(), 1, "{outcomes:?}");
        let serial = credence_crypto::x509::Certificate::from_der(&won[0].cert_chain[0])
            .unwrap()
            .serial();
        let node = get(&lab, won[0].id.as_ref().unwrap()).await.unwrap();
        assert_eq!(
            node.x509svid_serial_number, serial,
            "the node's SVID is the winner's"
        );
    }
}

#[tokio::test]
async fn a_bad_request_burns_no_token() {
    let lab = Lab::start().await;
    let token = lab.token().await;
    let mut tampered = csr_of(&new_key());
    *tampered.last_mut().unwrap() ^= 1;
    for (csr, start) in [
        (&b"junk"[..], "failed to parse CSR: "),
        (&b""[..], "malformed param: missing CSR"),
        (&tampered[..], "failed to parse CSR: "),
    ] {
        let outcome = attest(lab.anonymous().await, "join_token", token.as_bytes(), csr).await;
        refused_with(outcome, Code::InvalidArgument, start);
    }
    attest(
        lab.anonymous().await,
        "join_token",
        token.as_bytes(),
        &csr_of(&new_key()),
    )
    .await
    .unwrap();
}

#[tokio::test]
async fn malformed_attestations_name_the_field() {
    let lab = Lab::start().await;
    let channel = lab.anonymous().await;
    let csr = csr_of(&new_key());
    let outcome = attest(channel.clone(), "", b"x", &csr).await;
    refused(
        outcome,
        Code::InvalidArgument,
        "malformed param: missing attestation data type",
    );
    let outcome = attest(channel.clone(), "join_token", b"", &csr).await;
    refused(
        outcome,
        Code::InvalidArgument,
        "malformed param: missing attestation data payload",
    );
    let outcome = attest(channel.clone(), "sshpop", b"x", &csr).await;
    let text = "error getting node attestor: could not find node attestor type \"sshpop\"";
    refused(outcome, Code::FailedPrecondition, text);
    let nothing = tokio_stream::iter(Vec::<pb::AttestAgentRequest>::new());
    let outcome = AgentClient::new(channel.clone()).attest_agent(nothing).await;
    refused(
        outcome,
        Code::InvalidArgument,
        "failed to receive request from stream: EOF",
    );
    let empty = tokio_stream::iter([pb::AttestAgentRequest { step: None }]);
    let outcome = AgentClient::new(channel).attest_agent(empty).await;
    refused(outcome, Code::InvalidArgument, "malformed param: missing params");
}

#[tokio::test]
async fn an_expired_token_admits_nobody() {
    let lab = Lab::start().await;
    let token = lab.token().await;
    lab.clock.step_forward(Duration::from_secs(601));
    let outcome = attest(
        lab.anonymous().await,
        "join_token",
        token.as_bytes(),
        &csr_of(&new_key()),
    )
    .await;
    refused(outcome, Code::InvalidArgument, "join token expired");
}

#[tokio::test]
async fn join_tokens_are_checked_and_may_bring_an_alias() {
    let lab = Lab::start().await;
    let mut client = admin(&lab).await;
    let request = |ttl, token: &str, agent_id| pb::CreateJoinTokenRequest {
        ttl,
        token: token.to_owned(),
        agent_id,
    };
    let outcome = client.create_join_token(request(0, "", None)).await;
    refused(
        outcome,
        Code::InvalidArgument,
        "ttl is required, you must provide one",
    );
    let outcome = client
        .create_join_token(request(1, "", Some(wire_id("/spire/x"))))
        .await;
    refused_with(
        outcome,
        Code::InvalidArgument,
        "invalid agent ID: \"spiffe://example.org/spire/x\" is not a workload",
    );
    let token = client
        .create_join_token(request(60, "mine", Some(wire_id("/node"))))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (token.value.as_str(), token.expires_at),
        ("mine", crate::harness::NOW.unix_seconds() + 60)
    );
    let outcome = client.create_join_token(request(60, "mine", None)).await;
    refused(
        outcome,
        Code::Internal,
        "failed to create token: the token exists already",
    );

    let key = new_key();
    let svid = attest(lab.anonymous().await, "join_token", b"mine", &csr_of(&key))
        .await
        .unwrap();
    let agent = lab.agent_of(svid, key).await;
    lab.create(vec![crate::harness::entry(&wire_id("/node"), "/workload")])
        .await;
    let mut entries = EntryClient::new(agent.channel.clone());
    let request = entry_pb::GetAuthorizedEntriesRequest::default();
    let held = entries
        .get_authorized_entries(request)
        .await
        .unwrap()
        .into_inner()
        .entries;
    let mut paths: Vec<_> = held
        .iter()
        .map(|entry| entry.spiffe_id.as_ref().unwrap().path.as_str())
        .collect();
    paths.sort_unstable();
    assert_eq!(
        paths,
        ["/node", "/workload"],
        "the alias itself, and what hangs below it"
    );

    client
        .delete_agent(pb::DeleteAgentRequest {
            id: Some(agent.id.clone()),
        })
        .await
        .unwrap();
    let mut entries = EntryClient::new(lab.local().await);
    let left = entries
        .list_entries(entry_pb::ListEntriesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .entries;
    assert_eq!(left.len(), 1, "the alias goes with its agent: {left:?}");
}

#[tokio::test]
async fn a_renewed_svid_takes_over_on_its_first_use() {
    let lab = Lab::start().await;
    let old = lab.agent().await;
    let lost = renew(&lab, &old).await.unwrap();
    let new = renew(&lab, &old).await.unwrap();
    works(&old.channel)
        .await
        .expect("the old SVID works until the new one was used");
    let refusal = works(&lost.channel).await.unwrap_err();
    assert_eq!(
        reason(&refusal),
        Some(Reason::AgentNotActive),
        "a second renewal replaces the first"
    );
    works(&new.channel).await.unwrap();
    let refusal = works(&old.channel).await.unwrap_err();
    assert_eq!(reason(&refusal), Some(Reason::AgentNotActive));
    assert_eq!(
        refusal.message(),
        "authorization denied for method /spire.api.server.entry.v1.Entry/GetAuthorizedEntries"
    );
    let node = get(&lab, &old.id).await.unwrap();
    assert_eq!(node.x509svid_serial_number, new.svid.svid.serial);
    assert_eq!(node.x509svid_expires_at, new.svid.svid.not_after.unix_seconds());
}

#[tokio::test]
async fn renewal_needs_a_csr() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let mut client = AgentClient::new(agent.channel.clone());
    let outcome = client.renew_agent(pb::RenewAgentRequest { params: None }).await;
    refused(outcome, Code::InvalidArgument, "params cannot be nil");
    let params = Some(pb::AgentX509svidParams { csr: Vec::new() });
    let outcome = client.renew_agent(pb::RenewAgentRequest { params }).await;
    refused(outcome, Code::InvalidArgument, "missing CSR");
    let params = Some(pb::AgentX509svidParams {
        csr: b"junk".to_vec(),
    });
    let outcome = client.renew_agent(pb::RenewAgentRequest { params }).await;
    refused_with(outcome, Code::InvalidArgument, "failed to parse CSR: ");
}

#[tokio::test]
async fn a_banned_agent_is_told_so_and_keeps_its_row() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let mut client = admin(&lab).await;
    for _ in 0..2 {
        client
            .ban_agent(pb::BanAgentRequest {
                id: Some(agent.id.clone()),
            })
            .await
            .unwrap();
    }
    assert_eq!(
        reason(&works(&agent.channel).await.unwrap_err()),
        Some(Reason::AgentBanned)
    );
    let node = get(&lab, &agent.id).await.unwrap();
    assert!(node.banned && node.x509svid_serial_number.is_empty());
    let filter = |banned| {
        let filter = pb::count_agents_request::Filter {
            by_banned: Some(banned),
            ..Default::default()
        };
        pb::CountAgentsRequest { filter: Some(filter) }
    };
    assert_eq!(
        client
            .count_agents(filter(true))
            .await
            .unwrap()
            .into_inner()
            .count,
        1
    );
    assert_eq!(
        client
            .count_agents(filter(false))
            .await
            .unwrap()
            .into_inner()
            .count,
        0
    );
    let outcome = client
        .ban_agent(pb::BanAgentRequest {
            id: Some(wire_id("/spire/agent/x/y")),
        })
        .await;
    refused(outcome, Code::NotFound, "agent not found");
    let outcome = client
        .ban_agent(pb::BanAgentRequest {
            id: Some(wire_id("/workload")),
        })
        .await;
    refused_with(outcome, Code::InvalidArgument, "invalid agent ID: ");
}

#[tokio::test]
async fn an_evicted_agent_is_gone() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let mut client = admin(&lab).await;
    client
        .delete_agent(pb::DeleteAgentRequest {
            id: Some(agent.id.clone()),
        })
        .await
        .unwrap();
    assert_eq!(
        reason(&works(&agent.channel).await.unwrap_err()),
        Some(Reason::AgentNotAttested)
    );
    refused(get(&lab, &agent.id).await, Code::NotFound, "agent not found");
    let outcome = client
        .delete_agent(pb::DeleteAgentRequest { id: Some(agent.id) })
        .await;
    refused(outcome, Code::NotFound, "agent not found");
}

#[tokio::test]
async fn agents_are_listed_in_pages() {
    let lab = Lab::start().await;
    for _ in 0..3 {
        lab.agent().await;
    }
    let mut client = admin(&lab).await;
    let (mut token, mut sizes) = (String::new(), Vec::new());
    loop {
        let request = pb::ListAgentsRequest {
            page_size: 2,
            page_token: token,
            ..Default::default()
        };
        let page = client.list_agents(request).await.unwrap().into_inner();
        sizes.push(page.agents.len());
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    assert_eq!(sizes, [2, 1, 0]);
    let request = pb::ListAgentsRequest {
        page_size: 2,
        page_token: "x".to_owned(),
        ..Default::default()
    };
    let outcome = client.list_agents(request).await;
    refused(
        outcome,
        Code::Internal,
        "failed to list agents: could not parse token 'x'",
    );
    let filter = pb::list_agents_request::Filter {
        by_selector_match: Some(types::SelectorMatch::default()),
        ..Default::default()
    };
    let outcome = client
        .list_agents(pb::ListAgentsRequest {
            filter: Some(filter),
            ..Default::default()
        })
        .await;
    refused(
        outcome,
        Code::Internal,
        "failed to list agents: cannot list by empty selectors set",
    );
}

#[tokio::test]
async fn an_agent_reports_its_version() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let mut client = AgentClient::new(agent.channel.clone());
    let request = |version: &str| pb::PostStatusRequest {
        agent_version: version.to_owned(),
        ..Default::default()
    };
    client.post_status(request("0.1.0")).await.unwrap();
    assert_eq!(get(&lab, &agent.id).await.unwrap().agent_version, "0.1.0");
    let outcome = client.post_status(request(&"x".repeat(256))).await;
    refused(
        outcome,
        Code::InvalidArgument,
        "agent version is longer than 255 bytes",
    );
}

/// The whole exchange of x509pop, with a certificate of the server's own authority as the machine's.
#[tokio::test]
async fn x509pop_attests_again_and_again_and_never_renews() {
    let machines = Lab::start().await;
    let machine = machines.mint("/machine").await;
    let root = credence_crypto::x509::Certificate::from_der(&machines.bundle().await.x509_authorities[0].der)
        .unwrap();
    let lab = Lab::start_with(|plan| {
        let config = X509PopConfig::external(vec![root]);
        plan.x509pop = Some(config);
    })
    .await;
    let certificates: Vec<_> = machine
        .svid
        .chain
        .iter()
        .map(|der| STANDARD.encode(der))
        .collect();
    let payload = serde_json::json!({ "certificates": certificates }).to_string();
    let prove = |challenge: &[u8]| {
        let challenge: serde_json::Value = serde_json::from_slice(challenge).unwrap();
        let nonce = STANDARD
            .decode(challenge["ecdsa_signature"]["nonce"].as_str().unwrap())
            .unwrap();
        let proof = machine
            .key
            .prove_possession(&[nonce.as_slice(), &[9; 32]].concat())
            .unwrap();
        let PopSignature::Ecdsa { r, s } = proof else {
            panic!("not ECDSA")
        };
        let text = |bytes: &[u8]| STANDARD.encode(bytes);
        let member = serde_json::json!({ "nonce": text(&[9; 32]), "r": text(&r), "s": text(&s) });
        serde_json::json!({ "ecdsa_signature": member }).to_string()
    };
    let exchange = async || -> Result<Agent, Status> {
        let (send, receive) = tokio::sync::mpsc::channel(2);
        let key = new_key();
        send.send(params("x509pop", payload.as_bytes(), &csr_of(&key)))
            .await
            .unwrap();
        let requests = tokio_stream::wrappers::ReceiverStream::new(receive);
        let mut client = AgentClient::new(lab.anonymous().await);
        let mut answers = client.attest_agent(requests).await?.into_inner();
        let Some(attest_agent_response::Step::Challenge(challenge)) = answers.message().await?.unwrap().step
        else {
            panic!("no challenge")
        };
        let response = attest_agent_request::Step::ChallengeResponse(prove(&challenge).into_bytes());
        send.send(pb::AttestAgentRequest { step: Some(response) })
            .await
            .unwrap();
        let Some(attest_agent_response::Step::Result(result)) = answers.message().await?.unwrap().step else {
            panic!("no result")
        };
        assert!(result.reattestable);
        assert!(answers.message().await?.is_none());
        Ok(lab.agent_of(result.svid.unwrap(), key).await)
    };
    let first = soon(exchange()).await.unwrap();
    works(&first.channel).await.unwrap();
    let refusal = renew(&lab, &first).await.map(|_| ()).unwrap_err();
    assert_eq!(reason(&refusal), Some(Reason::AgentMustReattest));
    assert_eq!(refusal.message(), "agent must reattest instead of renew");
    let second = soon(exchange()).await.unwrap();
    works(&second.channel).await.unwrap();
    assert_eq!(
        reason(&works(&first.channel).await.unwrap_err()),
        Some(Reason::AgentNotActive)
    );
    admin(&lab)
        .await
        .ban_agent(pb::BanAgentRequest {
            id: Some(second.id.clone()),
        })
        .await
        .unwrap();
    let refusal = soon(exchange()).await.map(|_| ());
    refused(
        refusal,
        Code::PermissionDenied,
        "failed to attest: agent is banned",
    );
    let request = pb::DeleteAgentRequest { id: Some(second.id) };
    admin(&lab).await.delete_agent(request).await.unwrap();
    soon(exchange()).await.unwrap();
}
