//! Batches of which some items are refused: those change nothing, and their neighbours are carried out.

use std::collections::{BTreeMap, BTreeSet};

use credence_crypto::{KeyType, Signer as _};
use credence_proto::spire::api::server::bundle::v1 as bundle_pb;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::server::svid::v1 as svid_pb;
use credence_proto::spire::api::server::trustdomain::v1 as domain_pb;
use credence_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use credence_proto::spire::api::types;
use credence_server::ca::WitSettings;
use credence_test_support::arbitrary::unary;
use prost::Message;
use prost_reflect::{DynamicMessage, Value};
use tonic::Code::{self, AlreadyExists, FailedPrecondition, Internal, InvalidArgument, NotFound, Ok};
use tonic::Request;
use tonic::transport::Channel;

use crate::authorization::methods;
use crate::fixtures::Foreign;
use crate::harness::{Lab, csr_of, entry, new_key, selector, wire_id};
use crate::robust_fields::{described, statuses};

/// Everything that batches change, by its name.
async fn objects(local: &Channel) -> BTreeMap<String, String> {
    let entries = EntryClient::new(local.clone())
        .list_entries(entry_pb::ListEntriesRequest::default())
        .await
        .unwrap();
    let bundles = BundleClient::new(local.clone())
        .list_federated_bundles(bundle_pb::ListFederatedBundlesRequest::default())
        .await
        .unwrap();
    let relationships = TrustDomainClient::new(local.clone())
        .list_federation_relationships(domain_pb::ListFederationRelationshipsRequest {
            // Without the bundle, which stands for itself.
            output_mask: Some(types::FederationRelationshipMask {
                bundle_endpoint_url: true,
                bundle_endpoint_profile: true,
                trust_domain_bundle: false,
            }),
            ..Default::default()
        })
        .await
        .unwrap();
    let entries = entries.into_inner().entries.into_iter();
    let bundles = bundles.into_inner().bundles.into_iter();
    let relationships = relationships.into_inner().federation_relationships.into_iter();
    entries
        .map(|entry| (entry.id.clone(), format!("{entry:?}")))
        .chain(bundles.map(|bundle| (bundle.trust_domain.clone(), format!("{bundle:?}"))))
        .chain(relationships.map(|held| (format!("to {}", held.trust_domain), format!("{held:?}"))))
        .collect()
}

/// One lab, and which methods were tried on it.
struct Bench {
    lab: Lab,
    local: Channel,
    tried: BTreeSet<&'static str>,
}

impl Bench {
    /// Sends a batch; its items end with these codes, and nothing but `touched` is different afterwards.
    async fn send(
        &mut self,
        channel: &Channel,
        path: &'static str,
        request: impl Message,
        codes: &[Code],
        touched: &[&str],
    ) -> DynamicMessage {
        self.tried.insert(path);
        let before = objects(&self.local).await;
        let answer = unary(channel.clone(), path, Request::new(request.encode_to_vec())).await;
        let answer = DynamicMessage::decode(described(path).output(), answer.unwrap()).unwrap();
        let found = statuses(&answer);
        let ended: Vec<_> = found.iter().map(|(code, _)| Code::from(*code)).collect();
        assert_eq!(ended, codes, "{path}: {found:?}");
        let after = objects(&self.local).await;
        let names: BTreeSet<_> = before.keys().chain(after.keys()).collect();
        let changed = names
            .into_iter()
            .filter(|name| before.get(*name) != after.get(*name));
        assert_eq!(changed.collect::<Vec<_>>(), touched, "{path}: {found:?}");
        answer
    }

    async fn send_local(
        &mut self,
        path: &'static str,
        request: impl Message,
        codes: &[Code],
        touched: &[&str],
    ) {
        let local = self.local.clone();
        self.send(&local, path, request, codes, touched).await;
    }
}

/// Which items of the answer hold something.
fn held(answer: &DynamicMessage, field: &str) -> Vec<bool> {
    let results = answer.get_field_by_name("results").unwrap();
    let items = results.as_list().unwrap().iter().filter_map(Value::as_message);
    items.map(|item| item.has_field_by_name(field)).collect()
}

fn named(id: &str, path: &str) -> types::Entry {
    types::Entry {
        id: id.to_owned(),
        ..entry(&wire_id("/node"), path)
    }
}

fn relationship(name: &str, url: &str) -> types::FederationRelationship {
    types::FederationRelationship {
        trust_domain: name.to_owned(),
        bundle_endpoint_url: url.to_owned(),
        bundle_endpoint_profile: Some(types::federation_relationship::BundleEndpointProfile::HttpsWeb(
            types::HttpsWebProfile {},
        )),
        trust_domain_bundle: None,
    }
}

async fn entries(bench: &mut Bench) {
    let elsewhere = |id: &str| types::Entry {
        spiffe_id: Some(types::Spiffeid {
            trust_domain: "b.test".to_owned(),
            path: "/x".to_owned(),
        }),
        ..named(id, "/x")
    };
    let befriended = |id: &str, path: &str, with: &str| types::Entry {
        federates_with: vec![with.to_owned()],
        ..named(id, path)
    };
    let create = |entries| entry_pb::BatchCreateEntryRequest {
        entries,
        output_mask: None,
    };
    let sent = vec![
        named("one", "/one"),
        elsewhere("bad"),
        named("again", "/one"),
        named("one", "/other"),
        befriended("lonely", "/lonely", "nobody.test"),
        named("two", "/two"),
        befriended("three", "/three", "c.test"),
    ];
    let codes = [
        Ok,
        InvalidArgument,
        AlreadyExists,
        AlreadyExists,
        Internal,
        Ok,
        Ok,
    ];
    let path = "/spire.api.server.entry.v1.Entry/BatchCreateEntry";
    bench
        .send_local(path, create(sent), &codes, &["one", "three", "two"])
        .await;

    let update = entry_pb::BatchUpdateEntryRequest {
        entries: vec![
            types::Entry {
                hint: "h".to_owned(),
                ..named("one", "/one")
            },
            elsewhere("two"),
            named("nobody", "/nobody"),
            befriended("three", "/three", "nobody.test"),
            types::Entry {
                selectors: vec![selector("unix:uid:2")],
                ..named("two", "/two")
            },
        ],
        ..Default::default()
    };
    let codes = [Ok, InvalidArgument, NotFound, Internal, Ok];
    let path = "/spire.api.server.entry.v1.Entry/BatchUpdateEntry";
    bench.send_local(path, update, &codes, &["one", "two"]).await;

    let ids = ["one", "nobody", "", "one", "two"].map(str::to_owned).into();
    let codes = [Ok, NotFound, InvalidArgument, NotFound, Ok];
    let path = "/spire.api.server.entry.v1.Entry/BatchDeleteEntry";
    let request = entry_pb::BatchDeleteEntryRequest { ids };
    bench.send_local(path, request, &codes, &["one", "two"]).await;
}

async fn bundles(bench: &mut Bench) {
    let bundle = |name| Foreign::new(name).bundle();
    let broken = |name| types::Bundle {
        x509_authorities: vec![types::X509Certificate {
            asn1: vec![0xff; 40],
            tainted: false,
        }],
        ..bundle(name)
    };
    let create = bundle_pb::BatchCreateFederatedBundleRequest {
        bundle: vec![
            bundle("b.test"),
            bundle("example.org"),
            bundle("b.test"),
            broken("bad.test"),
            bundle("c.test"),
        ],
        output_mask: None,
    };
    let codes = [Ok, InvalidArgument, AlreadyExists, InvalidArgument, Ok];
    let path = "/spire.api.server.bundle.v1.Bundle/BatchCreateFederatedBundle";
    bench
        .send_local(path, create, &codes, &["b.test", "c.test"])
        .await;

    let update = bundle_pb::BatchUpdateFederatedBundleRequest {
        bundle: vec![bundle("b.test"), bundle("nobody.test"), broken("c.test")],
        ..Default::default()
    };
    let path = "/spire.api.server.bundle.v1.Bundle/BatchUpdateFederatedBundle";
    bench
        .send_local(path, update, &[Ok, NotFound, InvalidArgument], &["b.test"])
        .await;

    let set = bundle_pb::BatchSetFederatedBundleRequest {
        bundle: vec![
            broken("c.test"),
            bundle("d.test"),
            bundle("example.org"),
            bundle("b.test"),
        ],
        output_mask: None,
    };
    let codes = [InvalidArgument, Ok, InvalidArgument, Ok];
    let path = "/spire.api.server.bundle.v1.Bundle/BatchSetFederatedBundle";
    bench.send_local(path, set, &codes, &["b.test", "d.test"]).await;
}

/// After the entries: one of them is in the way.
async fn bundles_deleted(bench: &mut Bench) {
    let names = ["b.test", "nobody.test", "c.test", "example.org", "", "d.test"];
    let delete = bundle_pb::BatchDeleteFederatedBundleRequest {
        trust_domains: names.map(str::to_owned).into(),
        mode: bundle_pb::batch_delete_federated_bundle_request::Mode::Restrict.into(),
    };
    let codes = [
        Ok,
        NotFound,
        FailedPrecondition,
        InvalidArgument,
        InvalidArgument,
        Ok,
    ];
    let path = "/spire.api.server.bundle.v1.Bundle/BatchDeleteFederatedBundle";
    bench
        .send_local(path, delete, &codes, &["b.test", "d.test"])
        .await;
}

async fn relationships(bench: &mut Bench) {
    let good = |name: &str| relationship(name, &format!("https://{name}/bundle"));
    let create = domain_pb::BatchCreateFederationRelationshipRequest {
        federation_relationships: vec![
            good("b.test"),
            relationship("bad.test", "http://bad.test"),
            good("example.org"),
            good("b.test"),
            good("c.test"),
        ],
        output_mask: None,
    };
    let codes = [Ok, InvalidArgument, InvalidArgument, Internal, Ok];
    let path = "/spire.api.server.trustdomain.v1.TrustDomain/BatchCreateFederationRelationship";
    bench
        .send_local(path, create, &codes, &["to b.test", "to c.test"])
        .await;

    let update = domain_pb::BatchUpdateFederationRelationshipRequest {
        federation_relationships: vec![
            relationship("c.test", "http://c.test"),
            relationship("b.test", "https://b.test/new"),
            good("nobody.test"),
        ],
        ..Default::default()
    };
    let path = "/spire.api.server.trustdomain.v1.TrustDomain/BatchUpdateFederationRelationship";
    bench
        .send_local(path, update, &[InvalidArgument, Ok, Internal], &["to b.test"])
        .await;

    let names = ["b.test", "nobody.test", "", "c.test"];
    let delete = domain_pb::BatchDeleteFederationRelationshipRequest {
        trust_domains: names.map(str::to_owned).into(),
    };
    let codes = [Ok, NotFound, InvalidArgument, Ok];
    let path = "/spire.api.server.trustdomain.v1.TrustDomain/BatchDeleteFederationRelationship";
    bench
        .send_local(path, delete, &codes, &["to b.test", "to c.test"])
        .await;
}

async fn svids(bench: &mut Bench) {
    let agent = bench.lab.agent().await;
    let made = bench
        .lab
        .create(vec![entry(&agent.id, "/a"), entry(&agent.id, "/b")])
        .await;
    let ids = [
        made[0].id.as_str(),
        made[0].id.as_str(),
        "three",
        "",
        made[1].id.as_str(),
    ];
    let codes = [Ok, InvalidArgument, NotFound, InvalidArgument, Ok];
    let whole = [true, false, false, false, true];

    let csrs = [
        csr_of(&new_key()),
        vec![0xff; 40],
        csr_of(&new_key()),
        Vec::new(),
        csr_of(&new_key()),
    ];
    let params = ids.iter().zip(csrs).map(|(id, csr)| svid_pb::NewX509svidParams {
        entry_id: (*id).to_owned(),
        csr,
    });
    let request = svid_pb::BatchNewX509svidRequest {
        params: params.collect(),
    };
    let path = "/spire.api.server.svid.v1.SVID/BatchNewX509SVID";
    let answer = bench.send(&agent.channel, path, request, &codes, &[]).await;
    assert_eq!(held(&answer, "svid"), whole);

    let spki = || new_key().public_key().spki_der().to_vec();
    let keys = [spki(), vec![0xff; 40], spki(), Vec::new(), spki()];
    let params = ids
        .iter()
        .zip(keys)
        .map(|(id, public_key)| svid_pb::NewWitsvidParams {
            entry_id: (*id).to_owned(),
            public_key,
            signing_algorithm: "ES256".to_owned(),
        });
    let request = svid_pb::BatchNewWitsvidRequest {
        params: params.collect(),
    };
    let path = "/spire.api.server.svid.v1.SVID/BatchNewWITSVID";
    let answer = bench.send(&agent.channel, path, request, &codes, &[]).await;
    assert_eq!(held(&answer, "svid"), whole);
}

#[tokio::test]
async fn refused_items_of_a_batch_change_nothing_and_their_neighbours_are_carried_out() {
    let lab = Lab::start_with(|plan| {
        plan.authorities.wit = Some(WitSettings {
            key_type: KeyType::EcP256,
            issuer: None,
        });
    })
    .await;
    let mut bench = Bench {
        local: lab.local().await,
        lab,
        tried: BTreeSet::new(),
    };
    bundles(&mut bench).await;
    entries(&mut bench).await;
    bundles_deleted(&mut bench).await;
    relationships(&mut bench).await;
    svids(&mut bench).await;
    let all = methods();
    let batches: BTreeSet<_> = all
        .iter()
        .map(String::as_str)
        .filter(|path| path.contains("/Batch"))
        .collect();
    assert_eq!(bench.tried, batches, "every batch has its turn");
}
