//! The audit log and the operator's own policy, over the wire.

use std::collections::BTreeMap;
use std::path::Path;

use credence_proto::spire::api::server::agent::v1 as agent_pb;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::server::svid::v1 as svid_pb;
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use credence_proto::spire::api::types;
use credence_runtime::audit::AuditSink;
use credence_server::api::Policy;
use serde_json::{Value, json};
use tonic::Code;

use crate::authorization::{LOCAL_ONLY, call, methods};
use crate::harness::{Lab, csr_of, entry, id, new_key, refused};

async fn audited(path: &Path) -> Lab {
    let to = AuditSink::File(path.to_owned());
    Lab::start_with(|plan| plan.operations.audit = Some(to)).await
}

/// The events of a server that has ended.
async fn events(lab: Lab, path: &Path) -> Vec<Value> {
    lab.supervisor.shutdown();
    lab.supervisor.wait().await.unwrap();
    let text = std::fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[tokio::test]
async fn every_call_of_every_method_leaves_one_event() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.json");
    let lab = audited(&path).await;
    let agent = lab.agent().await;
    let operator = lab.peer(&lab.mint("/operator").await).await;
    let local = lab.local().await;
    let methods = methods();
    let mut expected: BTreeMap<(String, String), usize> = BTreeMap::new();
    let agent_id = format!("spiffe://{}{}", agent.id.trust_domain, agent.id.path);
    for method in &methods {
        let (service, name) = method.trim_start_matches('/').split_once('/').unwrap();
        let callers = if LOCAL_ONLY.iter().any(|only| service.ends_with(only)) {
            vec![(&local, "local".to_owned())]
        } else {
            vec![
                (&operator, id("/operator").to_string()),
                (&agent.channel, agent_id.clone()),
            ]
        };
        for (channel, who) in callers {
            drop(call(channel, method).await);
            expected.insert((who, name.to_owned()), 1);
        }
    }
    assert_eq!(methods.len(), 71);
    drop((operator, local));
    drop(agent);
    let mut found: BTreeMap<(String, String), usize> = BTreeMap::new();
    for event in events(lab, &path).await {
        assert_eq!(
            (&event["type"], &event["msg"]),
            (&json!("audit"), &json!("API accessed"))
        );
        assert!(event["request_id"].as_str().unwrap().len() == 36, "{event}");
        let failed = event["status"] == "error";
        assert!(failed || event["status"] == "success", "{event}");
        assert_eq!(failed, event.get("status_code").is_some(), "{event}");
        let who = event["caller_id"].as_str().unwrap_or("local").to_owned();
        let name = event["method"].as_str().unwrap().to_owned();
        *found.entry((who, name)).or_default() += 1;
    }
    for (key, count) in expected {
        assert_eq!(found.get(&key), Some(&count), "{key:?}");
    }
}

#[tokio::test]
async fn events_say_who_did_what_and_no_secret() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("audit.json");
    let lab = audited(&path).await;
    let token = lab.token().await;
    let agent = lab.agent().await;
    let made = lab
        .create(vec![entry(&agent.id, "/web"), entry(&agent.id, "/db")])
        .await;
    let params = [made[0].id.as_str(), "unknown"].map(|id| svid_pb::NewX509svidParams {
        entry_id: id.to_owned(),
        csr: csr_of(&new_key()),
    });
    let mut svids = SvidClient::new(agent.channel.clone());
    let issued = svids
        .batch_new_x509svid(svid_pb::BatchNewX509svidRequest {
            params: params.to_vec(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(issued.results.len(), 2);
    let jwt = svids
        .new_jwtsvid(svid_pb::NewJwtsvidRequest {
            entry_id: made[0].id.clone(),
            audience: vec!["a".to_owned(), "b".to_owned()],
        })
        .await
        .unwrap()
        .into_inner()
        .svid
        .unwrap();
    let banned = agent_pb::BanAgentRequest {
        id: Some(agent.id.clone()),
    };
    AgentClient::new(lab.local().await)
        .ban_agent(banned)
        .await
        .unwrap();
    drop(svids);
    let id_text = format!("spiffe://{}{}", agent.id.trust_domain, agent.id.path);
    drop(agent);

    let all = events(lab, &path).await;
    let text = std::fs::read_to_string(&path).unwrap();
    // The second token is in the ID of its agent, where it is of no more use; the first is still a secret.
    assert!(!text.contains(&token) && !text.contains(&jwt.token));
    let of = |method: &str| -> Vec<&Value> { all.iter().filter(|event| event["method"] == method).collect() };
    let batch = of("BatchNewX509SVID");
    assert_eq!(batch.len(), 2);
    assert_eq!(batch[0]["request_id"], batch[1]["request_id"]);
    assert_eq!(batch[0]["entry_id"], made[0].id);
    assert_eq!(batch[0]["spiffe_id"], "spiffe://example.org/web");
    assert_eq!(batch[0]["caller_id"], id_text);
    assert_eq!(
        (&batch[0]["authorized_as"], &batch[0]["authorized_via"]),
        (&json!("agent"), &json!("datastore"))
    );
    assert!(batch[0]["serial_number"].is_string() && batch[0]["expires_at"].is_number());
    assert_eq!(batch[0]["csr"].as_str().unwrap().len(), 64);
    assert_eq!(
        (
            &batch[1]["status"],
            &batch[1]["status_code"],
            &batch[1]["status_message"]
        ),
        (
            &json!("error"),
            &json!("NotFound"),
            &json!("entry not found or not authorized")
        )
    );
    let created = of("BatchCreateEntry");
    assert_eq!(created.len(), 2);
    assert_eq!(created[1]["entry_id"], made[1].id);
    assert_eq!(created[1]["selectors"], "unix:uid:1000");
    assert_eq!(created[1]["parent_id"], id_text);
    assert_eq!(
        (&created[1]["admin"], &created[1]["x509_svid_ttl"]),
        (&json!(false), &json!(0))
    );
    assert_eq!(created[1]["authorized_as"], "local");
    assert!(created[1]["caller_uid"].is_number());
    assert_eq!(
        created[1]["caller_path"],
        std::env::current_exe().unwrap().display().to_string()
    );
    assert_eq!(of("NewJWTSVID")[0]["audience"], "a,b");
    assert_eq!(of("BanAgent")[0]["spiffe_id"], id_text);
    let attested = of("AttestAgent");
    assert_eq!(
        (
            &attested[0]["agent_id"],
            &attested[0]["node_attestor_type"],
            &attested[0]["status"]
        ),
        (&json!(id_text), &json!("join_token"), &json!("success"))
    );
}

fn policy(rego: &str, data: &Value) -> Policy {
    let dir = tempfile::tempdir().unwrap();
    let (rego_path, data_path) = (dir.path().join("policy.rego"), dir.path().join("data.json"));
    std::fs::write(&rego_path, rego).unwrap();
    std::fs::write(&data_path, data.to_string()).unwrap();
    Policy::load(&rego_path, Some(&data_path)).unwrap()
}

#[tokio::test]
async fn a_policy_of_ones_own_takes_the_place_of_the_table() {
    let own_program = std::env::current_exe().unwrap();
    let policy = policy(
        r#"package spire
result := { "allow": allow, "allow_if_local": allow_if_local, "allow_if_admin": false, "allow_if_downstream": false, "allow_if_agent": true }
default allow := false
allow if input.full_method == "/spire.api.server.agent.v1.Agent/AttestAgent"
allow if input.full_method == "/spire.api.server.bundle.v1.Bundle/GetBundle"
default allow_if_local := false
allow_if_local if input.full_method == data.tokens
allow_if_local if {
    input.caller_file_path == data.program
    input.full_method == "/spire.api.server.entry.v1.Entry/BatchCreateEntry"
    every entry in input.req.entries { startswith(entry.spiffe_id.path, "/ok/") }
}
"#,
        &json!({
            "tokens": "/spire.api.server.agent.v1.Agent/CreateJoinToken",
            "program": own_program.display().to_string(),
        }),
    );
    let lab = Lab::start_with(|plan| plan.operations.policy = Some(policy)).await;
    let agent = lab.agent().await;
    lab.create(vec![entry(&agent.id, "/ok/web")]).await;
    let mut local = EntryClient::new(lab.local().await);
    let mixed = entry_pb::BatchCreateEntryRequest {
        entries: vec![entry(&agent.id, "/ok/a"), entry(&agent.id, "/other")],
        output_mask: None,
    };
    let denied = "authorization denied for method /spire.api.server.entry.v1.Entry/";
    refused(
        local.batch_create_entry(mixed).await,
        Code::PermissionDenied,
        &format!("{denied}BatchCreateEntry"),
    );
    refused(
        local.list_entries(entry_pb::ListEntriesRequest::default()).await,
        Code::PermissionDenied,
        &format!("{denied}ListEntries"),
    );
    // The table lets agents make few calls; this policy all. Whether the caller is one is still the server's to say.
    let mut by_agent = EntryClient::new(agent.channel.clone());
    let listed = by_agent
        .list_entries(entry_pb::ListEntriesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.entries.len(), 1);
    let mut anonymous = EntryClient::new(lab.anonymous().await);
    refused(
        anonymous
            .list_entries(entry_pb::ListEntriesRequest::default())
            .await,
        Code::PermissionDenied,
        &format!("{denied}ListEntries"),
    );
    let huge = entry_pb::GetEntryRequest {
        id: "x".repeat(100_000),
        output_mask: None,
    };
    let status = anonymous.get_entry(huge).await.unwrap_err();
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
}

#[tokio::test]
async fn a_policy_that_fails_lets_nobody_in() {
    let rego = r#"package spire
result := { "allow": true, "allow_if_local": false, "allow_if_admin": false, "allow_if_downstream": false, "allow_if_agent": false } if {
    not input.req.id == "broken"
}
"#;
    let lab = Lab::start_with(|plan| plan.operations.policy = Some(policy(rego, &json!({})))).await;
    let mut entries = EntryClient::new(lab.local().await);
    let get = |id: &str| entry_pb::GetEntryRequest {
        id: id.to_owned(),
        output_mask: None,
    };
    let status = entries.get_entry(get("none")).await.unwrap_err();
    assert_eq!(status.code(), Code::NotFound);
    refused(
        entries.get_entry(get("broken")).await,
        Code::Internal,
        "authorization policy failed",
    );
}

#[tokio::test]
async fn nodes_get_their_own_id_as_a_selector_where_that_is_on() {
    let lab = Lab::start_with(|plan| plan.operations.agent_id_as_selector = true).await;
    let agent = lab.agent().await;
    let shown = AgentClient::new(lab.local().await)
        .get_agent(agent_pb::GetAgentRequest {
            id: Some(agent.id.clone()),
            output_mask: None,
        })
        .await
        .unwrap()
        .into_inner();
    let own = types::Selector {
        r#type: "spiffe_id".to_owned(),
        value: format!("spiffe://{}{}", agent.id.trust_domain, agent.id.path),
    };
    assert_eq!(shown.selectors, [own]);
}
