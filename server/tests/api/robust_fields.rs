//! Arbitrary values in every field of every unary method: no panic, no `Internal` but those that SPIRE answers too, and
//! nothing changed by what was refused.

use std::sync::LazyLock;

use credence_proto::spire::api::server::agent::v1::ListAgentsRequest;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::bundle::v1::{GetBundleRequest, ListFederatedBundlesRequest};
use credence_proto::spire::api::server::entry::v1::ListEntriesRequest;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::server::trustdomain::v1::ListFederationRelationshipsRequest;
use credence_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use credence_proto::spire::api::types;
use credence_test_support::arbitrary::{Values, unary};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};
use tonic::transport::Channel;
use tonic::{Code, Request};

use crate::authorization::{allowed, methods};
use crate::fixtures::{Foreign, expired_p521};
use crate::harness::{Lab, csr_of, entry, new_key, soon, wire_id};

/// Requests of each method.
const CASES: usize = 24;

/// `Internal` answers that SPIRE gives too: the methods, and a part of their text. Clients may look for them.
const INTERNAL: &[(&[&str], &str)] = &[
    (
        &[
            "ListEntries",
            "ListAgents",
            "ListFederatedBundles",
            "ListFederationRelationships",
        ],
        "could not parse token",
    ),
    (
        &["BatchCreateEntry", "BatchUpdateEntry"],
        "unable to find federated bundle",
    ),
    (
        &["ListEntries", "CountEntries"],
        "unhandled selectors match behavior",
    ),
    (&["ListEntries", "CountEntries"], "unhandled by behavior"),
    (
        &["ListAgents", "CountAgents"],
        "unhandled selectors match behavior",
    ),
    (
        &["ListAgents", "CountAgents"],
        "cannot list by empty selectors set",
    ),
    (&["CreateJoinToken"], "failed to create join token ID"),
    (&["CreateJoinToken"], "the token exists already"),
    (
        &["CreateJoinToken", "BatchCreateFederationRelationship"],
        "UNIQUE constraint failed",
    ),
    (&["MintJWTSVID", "NewJWTSVID"], "audience: cannot be empty"),
    (&["BatchUpdateFederationRelationship"], "record not found"),
    (&["TaintX509Authority", "TaintJWTAuthority"], "already tainted"),
    (
        &["RevokeX509Authority", "RevokeJWTAuthority"],
        "not possible to revoke an untainted",
    ),
    (
        &["MintWITSVID", "BatchNewWITSVID"],
        "WIT key is not available for signing",
    ),
];

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(credence_proto::FILE_DESCRIPTOR_SET).unwrap());

/// Everything that is registered.
async fn state(local: &Channel) -> String {
    let entries = EntryClient::new(local.clone())
        .list_entries(ListEntriesRequest::default())
        .await;
    let agents = AgentClient::new(local.clone())
        .list_agents(ListAgentsRequest::default())
        .await;
    let mut bundles = BundleClient::new(local.clone());
    let own = bundles.get_bundle(GetBundleRequest::default()).await;
    let federated = bundles
        .list_federated_bundles(ListFederatedBundlesRequest::default())
        .await;
    let relationships = TrustDomainClient::new(local.clone())
        .list_federation_relationships(ListFederationRelationshipsRequest::default())
        .await;
    format!(
        "{:?}\n{:?}\n{:?}\n{:?}\n{:?}",
        entries.unwrap().into_inner(),
        agents.unwrap().into_inner(),
        own.unwrap().into_inner(),
        federated.unwrap().into_inner(),
        relationships.unwrap().into_inner()
    )
}

/// The statuses of the items of a batch's answer.
pub(crate) fn statuses(answer: &DynamicMessage) -> Vec<(i32, String)> {
    let Some(results) = answer.get_field_by_name("results") else {
        return Vec::new();
    };
    let items = results
        .as_list()
        .into_iter()
        .flatten()
        .filter_map(Value::as_message);
    let status = |item: &DynamicMessage| {
        let status = item.get_field_by_name("status")?;
        let status = types::Status::decode(status.as_message()?.encode_to_vec().as_slice()).ok()?;
        Some((status.code, status.message))
    };
    items.filter_map(status).collect()
}

pub(crate) fn described(path: &str) -> MethodDescriptor {
    let (service, method) = path.trim_start_matches('/').split_once('/').unwrap();
    let service = POOL.get_service_by_name(service).unwrap();
    service.methods().find(|found| found.name() == method).unwrap()
}

/// Whether a method may not answer with this code and text.
fn fault(path: &str, code: i32, text: &str) -> bool {
    let broken = code == Code::Internal as i32 || code == Code::Unknown as i32;
    let method = path.rsplit('/').next().unwrap();
    let may = |(methods, part): &(&[&str], &str)| methods.contains(&method) && text.contains(part);
    broken && !INTERNAL.iter().any(may)
}

#[tokio::test]
async fn arbitrary_fields_are_answered_and_what_is_refused_changes_nothing() {
    let lab = Lab::start().await;
    let (agent, victim) = (lab.agent().await, lab.agent().await);
    let downstream = types::Entry {
        downstream: true,
        ..entry(&wire_id("/node"), "/nested")
    };
    let made = lab
        .create(vec![
            entry(&agent.id, "/workload"),
            entry(&agent.id, "/other"),
            downstream,
        ])
        .await;
    let channels = [
        ("agent", agent.channel.clone()),
        ("downstream", lab.peer(&lab.mint("/nested").await).await),
        ("local", lab.local().await),
    ];
    let local = lab.local().await;
    let mut texts: Vec<String> = [
        "",
        "x",
        "1",
        "-1",
        "example.org",
        "Example.org",
        "b.test",
        "é\u{0}\n",
        "/a//b",
        "/../a",
        "%41",
        "sha256",
    ]
    .map(str::to_owned)
    .into();
    texts.extend(
        [
            "spiffe://example.org/workload",
            "spiffe://b.test",
            "https://b.test/bundle",
            "ES256",
        ]
        .map(str::to_owned),
    );
    texts.extend([
        "a".repeat(3000),
        made[0].id.clone(),
        made[1].id.clone(),
        victim.id.path.clone(),
    ]);
    let bytes = vec![
        Vec::new(),
        vec![0xff; 40],
        csr_of(&new_key()),
        Foreign::new("b.test").root().asn1,
        expired_p521().asn1,
        credence_crypto::Signer::public_key(&new_key())
            .spki_der()
            .to_vec(),
    ];
    let mut values = Values::new(4, texts, bytes);
    // Those who throw agents out come last.
    let mut paths: Vec<String> = methods()
        .into_iter()
        .filter(|path| {
            let method = described(path);
            !method.is_client_streaming() && !method.is_server_streaming()
        })
        .collect();
    paths.sort_by_key(|path| {
        let class = channels.iter().position(|(class, _)| allowed(class, path));
        (
            ["BanAgent", "DeleteAgent", "PurgeAgents"]
                .iter()
                .any(|last| path.ends_with(last)),
            class,
        )
    });
    let (mut faults, mut calls, mut refusals, mut before) = (Vec::new(), 0, 0, state(&local).await);
    for path in &paths {
        let Some((_, channel)) = channels.iter().find(|(class, _)| allowed(class, path)) else {
            continue;
        };
        let method = described(path);
        let reads = ["Get", "List", "Count"]
            .iter()
            .any(|verb| method.name().starts_with(verb));
        for _ in 0..CASES {
            let request = values.message(&method.input(), 0);
            let answer = soon(unary(
                channel.clone(),
                path,
                Request::new(request.encode_to_vec()),
            ))
            .await;
            let after = state(&local).await;
            let (found, refused) = match answer {
                Err(status) => (vec![(status.code() as i32, status.message().to_owned())], true),
                Ok(answer) => {
                    let answer = DynamicMessage::decode(method.output(), answer).unwrap();
                    let found = statuses(&answer);
                    let refused = !found.is_empty() && found.iter().all(|(code, _)| *code != 0);
                    (found, refused)
                }
            };
            calls += 1;
            refusals += usize::from(refused);
            for (code, text) in found.iter().filter(|(code, text)| fault(path, *code, text)) {
                faults.push(format!("{path}: {code} {text}\n    {request:?}"));
            }
            if (refused || reads) && after != before {
                faults.push(format!("{path} changed something: {found:?}\n    {request:?}"));
            }
            before = after;
        }
    }
    assert!(
        faults.is_empty(),
        "{} faults\n{}",
        faults.len(),
        faults.join("\n")
    );
    // Neither all pass nor all fail at the first check.
    assert!(
        calls > 1000 && (calls / 10..calls * 9 / 10).contains(&refusals),
        "{refusals} of {calls} refused"
    );
}
