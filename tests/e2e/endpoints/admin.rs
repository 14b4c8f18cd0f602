//! Administration over mTLS: by an entry that says `admin`, and by `admin_ids` with the admin of another trust domain. Each
//! does all that an admin may and leaves nothing behind, so that the next can do the same; a plain workload may do none of
//! it.

use std::time::{Duration, SystemTime};

use credence_crypto::x509::{CaSubject, LeafParams, X509Ca};
use credence_crypto::{KeyType, Signer as _, csr};
use credence_identity::Timestamp;
use credence_proto::spire::api::server::agent::v1 as agent_pb;
use credence_proto::spire::api::server::agent::v1::agent_client::AgentClient;
use credence_proto::spire::api::server::bundle::v1 as bundle_pb;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::server::svid::v1 as svid_pb;
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use credence_proto::spire::api::server::trustdomain::v1 as trustdomain_pb;
use credence_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use credence_proto::spire::api::types;
use credence_test_support::Settings;
use tonic::Code;
use types::federation_relationship::BundleEndpointProfile as Profile;

use super::*;
use crate::CREDENCE;

fn key() -> PrivateKey {
    PrivateKey::generate(KeyType::EcP256).expect("a key")
}

fn now() -> Timestamp {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    Timestamp::from_unix_seconds(i64::try_from(since.expect("after 1970").as_secs()).expect("seconds"))
}

fn wire(path: &str) -> Option<types::Spiffeid> {
    Some(types::Spiffeid {
        trust_domain: "example.org".to_owned(),
        path: path.to_owned(),
    })
}

fn ok(status: Option<types::Status>) {
    let status = status.expect("a status");
    assert_eq!((status.code, status.message.as_str()), (0, "OK"));
}

/// The authority of another trust domain, which no server of ours runs.
fn foreign_authority() -> X509Ca {
    let domain = TrustDomain::parse("domain-b.test").expect("a name");
    let hour = Duration::from_secs(3600);
    X509Ca::self_sign(
        Arc::new(key()),
        &domain,
        &CaSubject::default(),
        now() - hour,
        now() + hour,
    )
    .expect("an authority")
}

fn foreign_admin(authority: &X509Ca) -> Arc<X509SvidKey> {
    let key = key();
    let id = SpiffeId::parse("spiffe://domain-b.test/admin").expect("an ID");
    let svid = authority.sign_svid(&LeafParams {
        id: &id,
        public_key: key.public_key(),
        dns_names: &[],
        subject: None,
        not_before: now() - Duration::from_secs(10),
        not_after: now() + Duration::from_secs(600),
    });
    Arc::new(X509SvidKey::new(svid.expect("an SVID"), key).expect("the SVID's key"))
}

#[test]
fn an_admin_may_all_and_a_workload_nothing() {
    let settings = Settings {
        server: "admin_ids = [\"spiffe://domain-b.test/admin\"]\n  federation { federates_with \"domain-b.test\" {\n    \
                 bundle_endpoint_url = \"https://b.test:8443\"\n    bundle_endpoint_profile \"https_spiffe\" { \
                 endpoint_spiffe_id = \"spiffe://domain-b.test/spire/server\" }\n  } }"
            .to_owned(),
        ..Settings::default()
    };
    let lab = Lab::with(CREDENCE, settings);
    let _server = lab.server();
    let authority = foreign_authority();
    let path = lab.dir().join("domain-b.pem");
    let pem = credence_crypto::bundle::certificate_to_pem(authority.certificate().der());
    fs::write(&path, pem).expect("write a bundle");
    let path = path.display().to_string();
    assert_eq!(
        lab.ok(&["bundle", "set", "-id", "spiffe://domain-b.test", "-path", &path]),
        "bundle set.\n"
    );
    let parent = "spiffe://example.org/spire/server";
    drop(lab.ok(&[
        "entry",
        "create",
        "-parentID",
        parent,
        "-spiffeID",
        "spiffe://example.org/admin",
        "-selector",
        "a:b",
        "-admin",
    ]));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        for svid in [minted(&lab, "/admin"), foreign_admin(&authority)] {
            let admin = connect(&lab, Some(svid)).await;
            mint(&admin).await;
            bundles(&admin, &authority).await;
            entries(&admin).await;
            agents(&admin).await;
            relationships(&admin).await;
        }
        refused(connect(&lab, Some(minted(&lab, "/workload"))).await).await;
    });
}

async fn mint(admin: &Channel) {
    let mut client = SvidClient::new(admin.clone());
    let id = SpiffeId::parse("spiffe://example.org/new-workload").expect("an ID");
    let csr = csr::create(&key(), Some(&id), &[]).expect("a CSR");
    let minted = client
        .mint_x509svid(svid_pb::MintX509svidRequest { csr, ttl: 0 })
        .await;
    assert_eq!(
        minted.expect("minted").into_inner().svid.expect("an SVID").id,
        wire("/new-workload")
    );
    let request = svid_pb::MintJwtsvidRequest {
        id: wire("/new-workload"),
        audience: vec!["myAud".to_owned()],
        ttl: 0,
    };
    let minted = client.mint_jwtsvid(request).await.expect("minted").into_inner();
    assert_eq!(minted.svid.expect("a token").id, wire("/new-workload"));
}

async fn bundles(admin: &Channel, authority: &X509Ca) {
    let mut client = BundleClient::new(admin.clone());
    let root = types::X509Certificate {
        asn1: authority.certificate().der().to_vec(),
        tainted: false,
    };
    let jwt = types::JwtKey {
        public_key: key().public_key().spki_der().to_vec(),
        key_id: "authority1".to_owned(),
        ..Default::default()
    };
    let request = bundle_pb::AppendBundleRequest {
        x509_authorities: vec![root.clone()],
        jwt_authorities: vec![jwt.clone()],
        ..Default::default()
    };
    let grown = client
        .append_bundle(request)
        .await
        .expect("appended")
        .into_inner();
    assert!(grown.x509_authorities.contains(&root) && grown.jwt_authorities.contains(&jwt));

    let bundle = |name: &str| types::Bundle {
        trust_domain: name.to_owned(),
        x509_authorities: vec![root.clone()],
        refresh_hint: 60,
        sequence_number: 42,
        ..Default::default()
    };
    let request = bundle_pb::BatchCreateFederatedBundleRequest {
        bundle: vec![bundle("another-td.test")],
        output_mask: None,
    };
    let created = client
        .batch_create_federated_bundle(request)
        .await
        .expect("created")
        .into_inner();
    for result in created.results {
        ok(result.status);
        assert_eq!(result.bundle, Some(bundle("another-td.test")));
    }
    // Without authorities of a kind, an update clears them.
    let bare = types::Bundle {
        x509_authorities: Vec::new(),
        jwt_authorities: vec![jwt.clone()],
        ..bundle("another-td.test")
    };
    let request = bundle_pb::BatchUpdateFederatedBundleRequest {
        bundle: vec![bare.clone()],
        ..Default::default()
    };
    let updated = client
        .batch_update_federated_bundle(request)
        .await
        .expect("updated")
        .into_inner();
    for result in updated.results {
        ok(result.status);
        assert_eq!(result.bundle, Some(bare.clone()));
    }
    let request = bundle_pb::BatchSetFederatedBundleRequest {
        bundle: vec![bundle("set-td.test")],
        output_mask: None,
    };
    let set = client
        .batch_set_federated_bundle(request)
        .await
        .expect("set")
        .into_inner();
    set.results.into_iter().for_each(|result| ok(result.status));
    let request = bundle_pb::GetFederatedBundleRequest {
        trust_domain: "set-td.test".to_owned(),
        output_mask: None,
    };
    let held = client
        .get_federated_bundle(request)
        .await
        .expect("held")
        .into_inner();
    assert_eq!(held, bundle("set-td.test"));
    let count = client
        .count_bundles(bundle_pb::CountBundlesRequest {})
        .await
        .expect("counted");
    assert_eq!(count.into_inner().count, 4);
    let listed = client
        .list_federated_bundles(bundle_pb::ListFederatedBundlesRequest::default())
        .await;
    assert_eq!(listed.expect("listed").into_inner().bundles.len(), 3);
    let request = bundle_pb::BatchDeleteFederatedBundleRequest {
        trust_domains: vec!["another-td.test".to_owned(), "set-td.test".to_owned()],
        ..Default::default()
    };
    let deleted = client
        .batch_delete_federated_bundle(request)
        .await
        .expect("deleted")
        .into_inner();
    deleted.results.into_iter().for_each(|result| ok(result.status));
}

async fn entries(admin: &Channel) {
    let mut client = EntryClient::new(admin.clone());
    let wanted = types::Entry {
        parent_id: wire("/foo"),
        spiffe_id: wire("/bar"),
        selectors: vec![types::Selector {
            r#type: "unix".to_owned(),
            value: "uid:1000".to_owned(),
        }],
        x509_svid_ttl: 60,
        federates_with: vec!["domain-b.test".to_owned()],
        expires_at: now().unix_seconds() + 60,
        dns_names: vec!["dns1".to_owned()],
        downstream: true,
        ..Default::default()
    };
    let request = entry_pb::BatchCreateEntryRequest {
        entries: vec![wanted.clone()],
        output_mask: None,
    };
    let mut created = client
        .batch_create_entry(request)
        .await
        .expect("created")
        .into_inner();
    let result = created.results.remove(0);
    ok(result.status);
    let made = result.entry.expect("an entry");
    let same = types::Entry {
        id: made.id.clone(),
        created_at: made.created_at,
        ..wanted
    };
    assert_eq!(made, same);
    let listed = client
        .list_entries(entry_pb::ListEntriesRequest::default())
        .await
        .expect("listed");
    assert!(listed.into_inner().entries.contains(&made));
    let request = entry_pb::GetEntryRequest {
        id: made.id.clone(),
        output_mask: None,
    };
    assert_eq!(client.get_entry(request).await.expect("held").into_inner(), made);
    let request = entry_pb::BatchUpdateEntryRequest {
        entries: vec![types::Entry {
            dns_names: vec!["dns2".to_owned()],
            ..made.clone()
        }],
        ..Default::default()
    };
    let updated = client
        .batch_update_entry(request)
        .await
        .expect("updated")
        .into_inner();
    for result in updated.results {
        ok(result.status);
        let entry = result.entry.expect("an entry");
        assert_eq!(
            (entry.dns_names, entry.revision_number),
            (vec!["dns2".to_owned()], 1)
        );
    }
    let request = entry_pb::BatchDeleteEntryRequest { ids: vec![made.id] };
    let deleted = client
        .batch_delete_entry(request)
        .await
        .expect("deleted")
        .into_inner();
    deleted.results.into_iter().for_each(|result| ok(result.status));
}

/// An agent that attests over the admin's own connection, is banned and deleted.
async fn agents(admin: &Channel) {
    let mut client = AgentClient::new(admin.clone());
    let request = agent_pb::CreateJoinTokenRequest {
        ttl: 60,
        agent_id: wire("/agent-alias"),
        ..Default::default()
    };
    let token = client
        .create_join_token(request)
        .await
        .expect("a token")
        .into_inner();
    let csr = csr::create(&key(), None, &[]).expect("a CSR");
    let params = agent_pb::attest_agent_request::Params {
        data: Some(types::AttestationData {
            r#type: "join_token".to_owned(),
            payload: token.value.into_bytes(),
        }),
        params: Some(agent_pb::AgentX509svidParams { csr }),
    };
    let request = agent_pb::AttestAgentRequest {
        step: Some(agent_pb::attest_agent_request::Step::Params(params)),
    };
    // The server ends the stream after its result; ours stays open until then.
    let (requests, stream) = tokio::sync::mpsc::channel(1);
    requests.send(request).await.expect("room for one");
    let stream = tokio_stream::wrappers::ReceiverStream::new(stream);
    let mut answers = client.attest_agent(stream).await.expect("attested").into_inner();
    let answer = answers.message().await.expect("an answer").expect("a result");
    let Some(agent_pb::attest_agent_response::Step::Result(result)) = answer.step else {
        unreachable!("a join token is not challenged");
    };
    assert!(answers.message().await.expect("the end").is_none());
    let id = result.svid.expect("an SVID").id;

    let count = client
        .count_agents(agent_pb::CountAgentsRequest::default())
        .await
        .expect("counted");
    assert_eq!(count.into_inner().count, 1);
    let request = agent_pb::ListAgentsRequest {
        filter: Some(agent_pb::list_agents_request::Filter {
            by_attestation_type: "join_token".to_owned(),
            ..Default::default()
        }),
        ..Default::default()
    };
    let listed = client.list_agents(request).await.expect("listed").into_inner();
    assert_eq!(
        listed
            .agents
            .iter()
            .map(|agent| agent.id.clone())
            .collect::<Vec<_>>()
            .as_slice(),
        std::slice::from_ref(&id)
    );
    client
        .ban_agent(agent_pb::BanAgentRequest { id: id.clone() })
        .await
        .expect("banned");
    let get = || agent_pb::GetAgentRequest {
        id: id.clone(),
        output_mask: None,
    };
    assert!(client.get_agent(get()).await.expect("held").into_inner().banned);
    client
        .delete_agent(agent_pb::DeleteAgentRequest { id: id.clone() })
        .await
        .expect("deleted");
    assert_eq!(
        client.get_agent(get()).await.expect_err("gone").code(),
        Code::NotFound
    );
}

async fn relationships(admin: &Channel) {
    let mut client = TrustDomainClient::new(admin.clone());
    let relationship = |url: &str| types::FederationRelationship {
        trust_domain: "federated.test".to_owned(),
        bundle_endpoint_url: url.to_owned(),
        bundle_endpoint_profile: Some(Profile::HttpsWeb(types::HttpsWebProfile {})),
        trust_domain_bundle: None,
    };
    let (first, second) = (
        relationship("https://federated.test/a"),
        relationship("https://federated.test/b"),
    );
    let request = trustdomain_pb::BatchCreateFederationRelationshipRequest {
        federation_relationships: vec![first.clone()],
        output_mask: None,
    };
    let created = client
        .batch_create_federation_relationship(request)
        .await
        .expect("created")
        .into_inner();
    for result in created.results {
        ok(result.status);
        assert_eq!(result.federation_relationship, Some(first.clone()));
    }
    let get = trustdomain_pb::GetFederationRelationshipRequest {
        trust_domain: "federated.test".to_owned(),
        output_mask: None,
    };
    let held = client
        .get_federation_relationship(get.clone())
        .await
        .expect("held")
        .into_inner();
    assert_eq!(held, first);
    let request = trustdomain_pb::BatchUpdateFederationRelationshipRequest {
        federation_relationships: vec![second.clone()],
        ..Default::default()
    };
    let updated = client
        .batch_update_federation_relationship(request)
        .await
        .expect("updated")
        .into_inner();
    updated.results.into_iter().for_each(|result| ok(result.status));
    let listed = client
        .list_federation_relationships(trustdomain_pb::ListFederationRelationshipsRequest::default())
        .await;
    assert_eq!(
        listed.expect("listed").into_inner().federation_relationships,
        [second]
    );
    let request = trustdomain_pb::BatchDeleteFederationRelationshipRequest {
        trust_domains: vec!["federated.test".to_owned()],
    };
    let deleted = client
        .batch_delete_federation_relationship(request)
        .await
        .expect("deleted")
        .into_inner();
    deleted.results.into_iter().for_each(|result| ok(result.status));
    let gone = client.get_federation_relationship(get).await.expect_err("gone");
    assert_eq!(gone.code(), Code::NotFound);
}

/// The messages are empty, so authorization comes before they are looked at.
async fn refused(workload: Channel) {
    denied!(
        SvidClient::new(workload.clone()),
        mint_x509svid,
        mint_jwtsvid,
        batch_new_x509svid,
        new_jwtsvid
    );
    denied!(
        BundleClient::new(workload.clone()),
        append_bundle,
        count_bundles,
        list_federated_bundles,
        get_federated_bundle,
        batch_create_federated_bundle,
        batch_update_federated_bundle,
        batch_set_federated_bundle,
        batch_delete_federated_bundle,
    );
    denied!(
        EntryClient::new(workload.clone()),
        count_entries,
        list_entries,
        get_entry,
        batch_create_entry,
        batch_update_entry,
        batch_delete_entry,
        get_authorized_entries,
    );
    denied!(
        AgentClient::new(workload.clone()),
        count_agents,
        list_agents,
        get_agent,
        delete_agent,
        ban_agent,
        create_join_token,
        renew_agent,
    );
    denied!(
        TrustDomainClient::new(workload),
        list_federation_relationships,
        get_federation_relationship,
        batch_create_federation_relationship,
        batch_update_federation_relationship,
        batch_delete_federation_relationship,
        refresh_bundle,
    );
}
