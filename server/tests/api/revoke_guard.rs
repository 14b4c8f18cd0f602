//! What stands in the way of a step of a forced rotation, and how our command line heeds it.

use std::time::Duration;

use credence_proto::credence::authority::v1 as pb;
use credence_proto::credence::authority::v1::authority_client::AuthorityClient;
use credence_proto::credence::authority::v1::check_step_request::{Kind, Step};
use credence_proto::spire::api::server::agent::v1 as agent_pb;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1::GetAuthorizedEntriesRequest;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::server::svid::v1 as svid_pb;
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;

use credence_runtime::grpc::KEY_ELSEWHERE;
use tonic::Request;

use crate::harness::{Agent, Lab, NOW, csr_of, entry, new_key, wire_id};
use crate::push::Subscription;

/// From when an agent has something until it counts that its workloads have it too.
const SETTLES: Duration = Duration::from_secs(2);

/// A round of polling, as SPIRE's agents and ours do it: the entries, then the bundle.
async fn poll(agent: &Agent) {
    let mut client = EntryClient::new(agent.channel.clone());
    let request = GetAuthorizedEntriesRequest::default();
    client.get_authorized_entries(request).await.unwrap();
    let mut client = BundleClient::new(agent.channel.clone());
    client.get_bundle(GetBundleRequest::default()).await.unwrap();
}

/// The agent has taken over what it was given, and its workloads have it.
async fn settle(lab: &Lab, agent: &Agent) {
    poll(agent).await;
    lab.clock.step_forward(SETTLES);
}

/// What the agent is told by poll, taken over.
async fn fetch_bundle(lab: &Lab, agent: &Agent) {
    poll(agent).await;
    settle(lab, agent).await;
}

async fn sign_x509(agent: &Agent, entry_id: &str) {
    sign(agent, x509_request(entry_id)).await;
}

fn x509_request(entry_id: &str) -> Request<svid_pb::BatchNewX509svidRequest> {
    let params = svid_pb::NewX509svidParams {
        entry_id: entry_id.to_owned(),
        csr: csr_of(&new_key()),
    };
    Request::new(svid_pb::BatchNewX509svidRequest { params: vec![params] })
}

async fn sign(agent: &Agent, request: Request<svid_pb::BatchNewX509svidRequest>) {
    let mut client = SvidClient::new(agent.channel.clone());
    let answer = client.batch_new_x509svid(request).await.unwrap().into_inner();
    let result = answer.results.first().unwrap();
    assert_eq!(result.status.as_ref().unwrap().code, 0);
}

/// The agent with a new SVID of its own, in use.
async fn renewed(lab: &Lab, agent: &Agent) -> Agent {
    let key = new_key();
    let params = Some(agent_pb::AgentX509svidParams { csr: csr_of(&key) });
    let mut client = AgentClient::new(agent.channel.clone());
    let request = agent_pb::RenewAgentRequest { params };
    let svid = client
        .renew_agent(request)
        .await
        .unwrap()
        .into_inner()
        .svid
        .unwrap();
    let renewed = lab.agent_of(svid, key).await;
    let mut client = AgentClient::new(renewed.channel.clone());
    let request = agent_pb::PostStatusRequest {
        agent_version: "1".to_owned(),
        ..Default::default()
    };
    client.post_status(request).await.unwrap();
    renewed
}

async fn obstacles(lab: &Lab, kind: Kind, step: Step, id: &str) -> Vec<String> {
    let request = pb::CheckStepRequest {
        kind: kind.into(),
        step: step.into(),
        authority_id: id.to_owned(),
    };
    let mut client = AuthorityClient::new(lab.local().await);
    let answer = client.check_step(request).await.unwrap().into_inner();
    assert_eq!(
        usize::try_from(answer.obstacle_count).unwrap(),
        answer.obstacles.len()
    );
    answer
        .obstacles
        .into_iter()
        .map(|obstacle| obstacle.reason)
        .collect()
}

async fn authority(lab: &Lab, kind: &str, which: &str) -> String {
    let shown = lab
        .command(&format!("localauthority {kind} show -output json"))
        .await;
    let shown = shown.json();
    let id = shown.pointer(&format!("/{which}/authority_id")).unwrap();
    id.as_str().unwrap().to_owned()
}

const LACKS: &str = "it doesn't hold the bundle with the new authority";
const UNAWARE: &str = "it doesn't know that the authority is tainted";

#[tokio::test]
async fn an_x509_authority_is_revoked_once_nothing_of_an_agents_is_under_it() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let created = lab.create(vec![entry(&agent.id, "/w")]).await;
    let entry_id = created[0].id.clone();
    sign_x509(&agent, &entry_id).await;
    fetch_bundle(&lab, &agent).await;

    let run = async |step: &str, id: &str| {
        let line = format!("localauthority x509 {step} -authorityID {id}");
        lab.command(&line).await
    };
    lab.command("localauthority x509 prepare").await.ok();
    let old = authority(&lab, "x509", "active").await;
    let new = authority(&lab, "x509", "prepared").await;
    assert_eq!(obstacles(&lab, Kind::X509, Step::Activate, &new).await, [LACKS]);
    // SPIRE's scripts activate at once, so this is said and done.
    let activated = run("activate", &new).await;
    assert_eq!(activated.status, 0);
    assert!(
        activated.err.starts_with("Warning: ") && activated.err.contains(LACKS),
        "{}",
        activated.err
    );

    let err = run("taint", &old).await.failed();
    let name = format!("spiffe://example.org{}", agent.id.path);
    let start = format!("Error: it is too early to taint X.509 authority {old}; wait, or use -force:");
    assert_eq!(err, format!("{start}\n  {name}: {LACKS}\n"));
    fetch_bundle(&lab, &agent).await;
    run("taint", &old).await.ok();

    let reasons = async || obstacles(&lab, Kind::X509, Step::Revoke, &old).await;
    assert_eq!(reasons().await, [UNAWARE]);
    fetch_bundle(&lab, &agent).await;
    let own = reasons().await;
    assert!(own.len() == 1 && own[0].starts_with("its own SVID"), "{own:?}");
    let agent = renewed(&lab, &agent).await;
    let svids = reasons().await;
    assert!(svids.len() == 1 && svids[0].starts_with("1 SVIDs"), "{svids:?}");
    let err = run("revoke", &old).await.failed();
    assert!(
        err.contains("too early to revoke") && err.contains(&name),
        "{err}"
    );
    sign_x509(&agent, &entry_id).await;
    settle(&lab, &agent).await;
    assert_eq!(reasons().await, [""; 0]);
    run("revoke", &old).await.ok();
}

/// The agent passed on a CSR, and can't replace what came of it: the operator is told how long that lasts.
#[tokio::test]
async fn a_certificate_for_somebody_elses_key_is_spoken_of_and_is_none_of_the_agents() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let created = lab.create(vec![entry(&agent.id, "/w")]).await;
    let mut request = x509_request(&created[0].id);
    request
        .metadata_mut()
        .insert(KEY_ELSEWHERE, "true".parse().unwrap());
    sign(&agent, request).await;
    let old = authority(&lab, "x509", "active").await;
    lab.command("localauthority x509 prepare").await.ok();
    let new = authority(&lab, "x509", "prepared").await;
    lab.command(&format!("localauthority x509 activate -authorityID {new}"))
        .await;
    lab.command(&format!("localauthority x509 taint -force -authorityID {old}"))
        .await
        .ok();
    sign_x509(&agent, &created[0].id).await;
    settle(&lab, &agent).await;

    let request = pb::CheckStepRequest {
        kind: Kind::X509.into(),
        step: Step::Revoke.into(),
        authority_id: old,
    };
    let answer = AuthorityClient::new(lab.local().await)
        .check_step(request)
        .await
        .unwrap()
        .into_inner();
    assert!(
        answer.notes[0].contains("callers of an agent's Istio listener"),
        "{answer:?}"
    );
    let of_workloads = |obstacle: &pb::check_step_response::Obstacle| obstacle.reason.contains("workloads");
    assert!(!answer.obstacles.iter().any(of_workloads), "{answer:?}");
}

#[tokio::test]
async fn a_jwt_authority_is_revoked_once_agents_have_dropped_its_tokens() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let created = lab.create(vec![entry(&agent.id, "/w")]).await;
    let request = svid_pb::NewJwtsvidRequest {
        entry_id: created[0].id.clone(),
        audience: vec!["db".to_owned()],
    };
    let mut client = SvidClient::new(agent.channel.clone());
    client.new_jwtsvid(request).await.unwrap();
    lab.command("localauthority jwt prepare").await.ok();
    let old = authority(&lab, "jwt", "active").await;
    let new = authority(&lab, "jwt", "prepared").await;
    fetch_bundle(&lab, &agent).await;
    lab.command(&format!("localauthority jwt activate -authorityID {new}"))
        .await
        .ok();
    lab.command(&format!("localauthority jwt taint -authorityID {old}"))
        .await
        .ok();
    assert_eq!(obstacles(&lab, Kind::Jwt, Step::Revoke, &old).await, [UNAWARE]);
    fetch_bundle(&lab, &agent).await;
    let revoked = lab
        .command(&format!("localauthority jwt revoke -authorityID {old}"))
        .await;
    assert_eq!(revoked.status, 0, "{}", revoked.err);
    assert!(
        revoked.err.contains("JWT-SVIDs that workloads may still hold"),
        "{}",
        revoked.err
    );
}

#[tokio::test]
async fn what_nobody_can_wait_for_can_be_forced_and_what_is_refused_anyway_isnt_held_up() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    lab.create(vec![entry(&wire_id("/elsewhere"), "/w")]).await;
    lab.command("localauthority x509 prepare").await.ok();
    let old = authority(&lab, "x509", "active").await;
    let new = authority(&lab, "x509", "prepared").await;
    for step in [Step::Activate, Step::Taint, Step::Revoke] {
        assert_eq!(obstacles(&lab, Kind::X509, step, &old).await, [""; 0], "{step:?}");
    }
    let activated = lab
        .command(&format!("localauthority x509 activate -authorityID {new}"))
        .await;
    assert_eq!(activated.status, 0);
    let err = lab
        .command(&format!("localauthority x509 revoke -authorityID {old}"))
        .await
        .failed();
    assert!(
        err.contains("it is not possible to revoke an untainted root CA"),
        "{err}"
    );
    for step in ["taint", "revoke"] {
        lab.command(&format!("localauthority x509 {step} -authorityID {old} -force"))
            .await
            .ok();
    }
    drop(agent);
}

/// A restart forgets what was given: it counts as held for as long as it can be valid.
#[tokio::test]
async fn after_a_restart_nothing_counts_as_done_until_it_must_have_ended() {
    let folder = tempfile::tempdir().unwrap();
    let database = folder.path().join("kept.sqlite3");
    let keys = std::sync::Arc::new(credence_server::keymanager::MemoryKeyManager::default());
    let start = async || {
        Lab::start_with(|plan| {
            plan.database = credence_server::store::SqliteOptions::new(database.clone());
            plan.keys = keys.clone();
        })
        .await
    };
    let lab = start().await;
    let agent = lab.agent().await;
    let created = lab.create(vec![entry(&agent.id, "/w")]).await;
    lab.command("localauthority x509 prepare").await.ok();
    let old = authority(&lab, "x509", "active").await;
    let new = authority(&lab, "x509", "prepared").await;
    fetch_bundle(&lab, &agent).await;
    for (step, id) in [("activate", &new), ("taint", &old)] {
        let line = format!("localauthority x509 {step} -authorityID {id}");
        assert_eq!(lab.command(&line).await.status, 0);
    }
    lab.supervisor.shutdown();
    lab.supervisor.wait().await.unwrap();

    let lab = start().await;
    let started = NOW;
    let reasons = async || obstacles(&lab, Kind::X509, Step::Revoke, &old).await;
    assert_eq!(reasons().await, [UNAWARE]);
    let agent = Agent {
        channel: lab.peer(&agent.svid).await,
        ..agent
    };
    fetch_bundle(&lab, &agent).await;
    let unknown = reasons().await;
    let end = started + Duration::from_secs(3600);
    assert_eq!(
        unknown,
        [format!(
            "what it was given before the server started may be under the authority until {end}"
        )]
    );
    // What is given anew is known.
    let agent = renewed(&lab, &agent).await;
    assert_eq!(reasons().await, unknown);
    sign_x509(&agent, &created[0].id).await;
    assert_eq!(reasons().await, unknown, "it may not have it yet");
    settle(&lab, &agent).await;
    assert_eq!(reasons().await, [""; 0]);
}

/// A revocation at the first yes lost calls behind an agent that had been sent the taint and was still at work on it.
#[tokio::test]
async fn what_an_agent_was_given_counts_from_its_next_call_and_not_before_its_workloads_can_have_it() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let created = lab.create(vec![entry(&agent.id, "/w")]).await;
    sign_x509(&agent, &created[0].id).await;
    settle(&lab, &agent).await;
    for kind in ["x509", "jwt"] {
        lab.command(&format!("localauthority {kind} prepare")).await.ok();
    }
    let (old, new) = (
        authority(&lab, "x509", "active").await,
        authority(&lab, "x509", "prepared").await,
    );
    let reasons = async |step, id: &str| obstacles(&lab, Kind::X509, step, id).await;
    // Given, then being worked on, then known to be there, then with the workloads.
    poll(&agent).await;
    assert_eq!(reasons(Step::Activate, &new).await, [LACKS]);
    lab.clock.step_forward(60 * SETTLES);
    assert_eq!(reasons(Step::Activate, &new).await, [LACKS]);
    poll(&agent).await;
    lab.clock.step_forward(SETTLES);
    assert_eq!(reasons(Step::Activate, &new).await, [""; 0]);

    for (step, id) in [("activate", &new), ("taint", &old)] {
        let line = format!("localauthority x509 {step} -authorityID {id}");
        assert_eq!(lab.command(&line).await.status, 0);
    }
    fetch_bundle(&lab, &agent).await;
    let agent = renewed(&lab, &agent).await;
    settle(&lab, &agent).await;
    sign_x509(&agent, &created[0].id).await;
    let held = reasons(Step::Revoke, &old).await;
    assert!(held.len() == 1 && held[0].starts_with("1 SVIDs"), "{held:?}");
    lab.clock.step_forward(60 * SETTLES);
    assert_eq!(
        reasons(Step::Revoke, &old).await,
        held,
        "it may not have the new one"
    );
    settle(&lab, &agent).await;
    assert_eq!(reasons(Step::Revoke, &old).await, [""; 0]);
}

/// Our agents say by their stream what they have taken over; what they haven't may be lost with the stream.
#[tokio::test]
async fn on_a_stream_what_was_given_counts_from_the_agents_word() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    lab.create(vec![entry(&agent.id, "/w")]).await;
    let mut stream = Subscription::open(&agent, &[]).await;
    stream.delta().await;
    let opened = stream.revision;
    stream.revisions().await;
    stream.taken(opened, false).await;
    lab.command("localauthority jwt prepare").await.ok();
    let new = authority(&lab, "jwt", "prepared").await;
    let reasons = async || {
        lab.clock.step_forward(SETTLES);
        obstacles(&lab, Kind::Jwt, Step::Activate, &new).await
    };
    assert_eq!(stream.delta().await.bundles.len(), 1);
    assert!(stream.revision > opened);
    assert_eq!(reasons().await, [LACKS]);
    stream.taken(opened, true).await;
    assert_eq!(reasons().await, [LACKS], "that was the bundle before");
    drop(stream);

    let mut stream = Subscription::open(&agent, &[]).await;
    stream.delta().await;
    let again = stream.revision;
    stream.revisions().await;
    assert_eq!(reasons().await, [LACKS], "this one may be lost as well");
    stream.taken(again, false).await;
    assert_eq!(reasons().await, [""; 0]);
}
