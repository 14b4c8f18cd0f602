//! Who may call what, over the wire: every method of the descriptors for every class of caller.

use std::collections::HashMap;

use credence_proto::spire::api::server::entry::v1::GetAuthorizedEntriesRequest;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::types;
use credence_proto::spire::api::types::permission_denied_details::Reason;
use http::uri::PathAndQuery;
use prost::Message;
use prost_types::FileDescriptorSet;
use tonic::client::Grpc;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};
use tonic_prost::ProstCodec;

use crate::harness::{Lab, entry, reason, refused, wire_id};

const ANYONE: &[&str] = &["Bundle/GetBundle", "Agent/AttestAgent"];
const AGENT: &[&str] = &[
    "Agent/RenewAgent",
    "Agent/PostStatus",
    "Entry/GetAuthorizedEntries",
    "Entry/SyncAuthorizedEntries",
    "SVID/BatchNewX509SVID",
    "SVID/NewJWTSVID",
    "SVID/BatchNewWITSVID",
    "Sync/Subscribe",
    "Matching/Match",
];
const DOWNSTREAM: &[&str] = &[
    "SVID/NewDownstreamX509CA",
    "Bundle/PublishJWTAuthority",
    "Bundle/PublishWITAuthority",
];
const SHARED: &str = "Bundle/GetFederatedBundle";
pub(crate) const LOCAL_ONLY: &[&str] = &["Registry", "Debug", "Logger", "Health"];

/// Paths of all methods of the server.
pub(crate) fn methods() -> Vec<String> {
    let set = FileDescriptorSet::decode(credence_proto::FILE_DESCRIPTOR_SET).unwrap();
    let ours = |package: &str| {
        package.starts_with("spire.api.server.")
            || package == "credence.explain.v1"
            || package == "credence.sync.v1"
            || package == "credence.authority.v1"
            || package == "grpc.health.v1"
    };
    let files = set.file.iter().filter(|file| ours(file.package()));
    let paths = files.flat_map(|file| {
        // What the agent serves of our own package.
        let of_server = file.service.iter().filter(|service| service.name() != "Node");
        of_server.flat_map(|service| {
            let methods = service.method.iter();
            methods.map(|method| format!("/{}.{}/{}", file.package(), service.name(), method.name()))
        })
    });
    paths.collect()
}

/// Whether a class of caller may call a method, as SPIRE's documentation has it.
pub(crate) fn allowed(class: &str, path: &str) -> bool {
    let short = path.rsplit('.').next().unwrap();
    let service = short.split('/').next().unwrap();
    if ANYONE.contains(&short) {
        return true;
    }
    match class {
        "agent" => AGENT.contains(&short) || short == SHARED,
        "downstream" => DOWNSTREAM.contains(&short),
        "local" | "admin by entry" | "admin by configuration" => {
            let operator = !AGENT.contains(&short) && !DOWNSTREAM.contains(&short);
            operator && (class == "local" || !LOCAL_ONLY.contains(&service))
        }
        _ => false,
    }
}

/// A call with an empty message.
pub(crate) async fn call(channel: &Channel, path: &str) -> Result<(), Status> {
    let mut client = Grpc::new(channel.clone());
    client
        .ready()
        .await
        .map_err(|error| Status::unknown(error.to_string()))?;
    let path: PathAndQuery = path.parse().unwrap();
    client
        .unary(Request::new(()), path, ProstCodec::<(), ()>::default())
        .await
        .map(drop)
}

#[tokio::test]
async fn every_method_for_every_class() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let admin = types::Entry {
        admin: true,
        ..entry(&agent.id, "/admin")
    };
    let downstream = types::Entry {
        downstream: true,
        ..entry(&agent.id, "/downstream")
    };
    lab.create(vec![admin, downstream]).await;
    let callers = HashMap::from([
        ("local", lab.local().await),
        ("anonymous", lab.anonymous().await),
        ("workload", lab.peer(&lab.mint("/workload").await).await),
        ("admin by entry", lab.peer(&lab.mint("/admin").await).await),
        (
            "admin by configuration",
            lab.peer(&lab.mint("/operator").await).await,
        ),
        ("downstream", lab.peer(&lab.mint("/downstream").await).await),
        ("agent", agent.channel.clone()),
    ]);
    let methods = methods();
    assert_eq!(methods.len(), 71);
    for path in &methods {
        for (class, channel) in &callers {
            let outcome = call(channel, path).await;
            let (service, _) = path[1..].split_once('/').unwrap();
            let unregistered = *class != "local" && LOCAL_ONLY.iter().any(|name| service.ends_with(name));
            let denied = Status::permission_denied(format!("authorization denied for method {path}"));
            match outcome {
                Err(status) if unregistered => {
                    assert_eq!(status.code(), Code::Unimplemented, "{class} {path}");
                    assert_eq!(status.message(), format!("unknown service {service}"));
                }
                Err(status) if status.message() == denied.message() => {
                    assert!(!allowed(class, path), "{class} was denied {path}");
                    assert_eq!(status.code(), Code::PermissionDenied);
                    let agents = AGENT.contains(&path.rsplit('.').next().unwrap()) || path.ends_with(SHARED);
                    let no_svid = ["local", "anonymous"].contains(class);
                    let expected = Some(Reason::AgentNotAttested).filter(|_| agents && !no_svid);
                    assert_eq!(reason(&status), expected, "{class} {path}");
                }
                other => assert!(allowed(class, path), "{class} was let in to {path}: {other:?}"),
            }
        }
    }
}

#[tokio::test]
async fn unknown_methods_and_services() {
    let lab = Lab::start().await;
    for channel in [lab.local().await, lab.anonymous().await] {
        refused(
            call(&channel, "/no.such.Service/Do").await,
            Code::Unimplemented,
            "unknown service no.such.Service",
        );
        let text = "unknown method Nope for service spire.api.server.entry.v1.Entry";
        refused(
            call(&channel, "/spire.api.server.entry.v1.Entry/Nope").await,
            Code::Unimplemented,
            text,
        );
    }
    let text = "unknown service grpc.reflection.v1.ServerReflection";
    let path = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    refused(call(&lab.local().await, path).await, Code::Unimplemented, text);
}

#[tokio::test]
async fn methods_of_later_versions_say_so_to_those_who_may_call_them() {
    let lab = Lab::start().await;
    let local = lab.local().await;
    for (path, text) in [
        (
            "/spire.api.server.trustdomain.v1.TrustDomain/RefreshBundle",
            "method RefreshBundle not implemented",
        ),
        ("/grpc.health.v1.Health/List", "method List not implemented"),
    ] {
        refused(call(&local, path).await, Code::Unimplemented, text);
    }
}

/// An entry that expired makes nobody an admin, from its second on.
#[tokio::test]
async fn an_expired_entry_makes_no_admin() {
    let lab = Lab::start().await;
    let expires_at = crate::harness::NOW.unix_seconds() + 3600;
    let admin = types::Entry {
        admin: true,
        expires_at,
        ..entry(&wire_id("/node"), "/admin")
    };
    lab.create(vec![admin]).await;
    lab.clock.step_forward(std::time::Duration::from_secs(3000));
    let channel = lab.peer(&lab.mint("/admin").await).await;
    let path = "/spire.api.server.agent.v1.Agent/CountAgents";
    call(&channel, path).await.unwrap();
    lab.clock.step_forward(std::time::Duration::from_secs(600));
    let denied = format!("authorization denied for method {path}");
    refused(call(&channel, path).await, Code::PermissionDenied, &denied);
}

/// The connection outlives the SVID it was made with; the right to call doesn't.
#[tokio::test]
async fn an_expired_agent_is_refused_on_its_old_connection() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let mut client = EntryClient::new(agent.channel.clone());
    client
        .get_authorized_entries(GetAuthorizedEntriesRequest::default())
        .await
        .unwrap();
    lab.clock.step_forward(std::time::Duration::from_secs(3601));
    let status = client
        .get_authorized_entries(GetAuthorizedEntriesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(reason(&status), Some(Reason::AgentExpired));
}

#[tokio::test]
async fn a_refusal_carries_a_request_id_and_the_text_stays() {
    let lab = Lab::start().await;
    let mut client = EntryClient::new(lab.local().await);
    let refused = client
        .get_authorized_entries(GetAuthorizedEntriesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        refused.message(),
        "authorization denied for method /spire.api.server.entry.v1.Entry/GetAuthorizedEntries"
    );
    assert!(
        credence_runtime::grpc::RequestId::of(&refused).is_some(),
        "{refused:?}"
    );
}
