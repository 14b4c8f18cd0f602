//! What a nested server asks for: a CA, and to have its JWT keys published.

use std::sync::Arc;

use credence_crypto::x509::{Certificate, LeafParams, X509Ca, verify_svid};
use credence_crypto::{KeyType, PrivateKey, Signer as _};
use credence_identity::X509Authority;
use credence_proto::spire::api::server::bundle::v1 as bundle_pb;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::svid::v1 as pb;
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use credence_proto::spire::api::types;
use credence_runtime::clock::Clock;
use tonic::Code;
use tonic::transport::Channel;

use crate::fixtures::jwt_key;
use crate::harness::{Lab, NOW, csr_of, entry, id, new_key, refused, refused_with, wire_id};

const HOUR: i64 = 3600;

/// The channel of a downstream server.
async fn downstream(lab: &Lab) -> Channel {
    let entry = types::Entry {
        downstream: true,
        ..entry(&wire_id("/node"), "/nested")
    };
    lab.create(vec![entry]).await;
    lab.peer(&lab.mint("/nested").await).await
}

fn wish(csr: Vec<u8>, preferred_ttl: i32) -> pb::NewDownstreamX509caRequest {
    pb::NewDownstreamX509caRequest { csr, preferred_ttl }
}

#[tokio::test]
async fn a_downstream_ca_signs_svids_that_the_roots_verify() {
    let lab = Lab::start().await;
    let mut client = SvidClient::new(downstream(&lab).await);
    let key = PrivateKey::generate(KeyType::EcP384).unwrap();
    let answer = client.new_downstream_x509ca(wish(csr_of(&key), 7200)).await;
    let answer = answer.unwrap().into_inner();
    let roots = lab.bundle().await.x509_authorities;
    let ders: Vec<&[u8]> = roots.iter().map(|root| &*root.der).collect();
    assert_eq!(answer.x509_authorities, ders);
    assert_eq!(answer.ca_cert_chain.len(), 1);
    let made = Certificate::from_der(&answer.ca_cert_chain[0]).unwrap();
    let start = NOW.unix_seconds();
    assert!((made.not_before().unix_seconds() - start + 10).abs() < 60);
    assert!((made.not_after().unix_seconds() - start - 2 * HOUR).abs() < 60);
    assert_eq!(made.public_key(), key.public_key());
    assert_eq!(made.uri_sans(), ["spiffe://example.org"]);
    assert!(
        made.subject()
            .to_string()
            .contains("OU=DOWNSTREAM-1,O=SPIFFE,C=US")
    );

    let nested = X509Ca::new(Arc::new(key), made.clone(), vec![made.der().clone()]).unwrap();
    let workload = new_key();
    let svid = nested.sign_svid(&LeafParams {
        id: &id("/below"),
        public_key: workload.public_key(),
        dns_names: &[],
        subject: None,
        not_before: NOW,
        not_after: NOW + std::time::Duration::from_secs(600),
    });
    let authorities: Vec<X509Authority> = answer
        .x509_authorities
        .iter()
        .map(|der| X509Authority {
            der: der.as_slice().into(),
            tainted: false,
        })
        .collect();
    verify_svid(&svid.unwrap().chain, &authorities, lab.clock.now()).unwrap();
}

#[tokio::test]
async fn a_downstream_ca_never_outlives_the_one_above() {
    let lab = Lab::start().await;
    let mut client = SvidClient::new(downstream(&lab).await);
    let root = Certificate::from_der(&lab.bundle().await.x509_authorities[0].der).unwrap();
    for preferred_ttl in [0, -1, i32::MIN, i32::MAX] {
        let request = wish(csr_of(&new_key()), preferred_ttl);
        let answer = client.new_downstream_x509ca(request).await.unwrap().into_inner();
        let made = Certificate::from_der(&answer.ca_cert_chain[0]).unwrap();
        assert_eq!(made.not_after(), root.not_after(), "{preferred_ttl}");
    }
}

#[tokio::test]
async fn of_a_bad_request_nothing_is_signed() {
    let lab = Lab::start().await;
    let mut client = SvidClient::new(downstream(&lab).await);
    let outcome = client.new_downstream_x509ca(wish(Vec::new(), 0)).await;
    refused_with(outcome, Code::InvalidArgument, "malformed CSR: ");
    let mut csr = csr_of(&new_key());
    if let Some(last) = csr.last_mut() {
        *last ^= 1;
    }
    let outcome = client.new_downstream_x509ca(wish(csr, 0)).await;
    refused_with(outcome, Code::InvalidArgument, "invalid CSR signature: ");
}

/// Authorization comes before validation, and an admin is no downstream server.
#[tokio::test]
async fn others_are_refused() {
    let lab = Lab::start().await;
    let callers = [
        lab.local().await,
        lab.anonymous().await,
        lab.peer(&lab.mint("/workload").await).await,
        lab.peer(&lab.mint("/operator").await).await,
        lab.agent().await.channel,
    ];
    for channel in callers {
        let outcome = SvidClient::new(channel.clone())
            .new_downstream_x509ca(wish(Vec::new(), 0))
            .await;
        let text = "authorization denied for method /spire.api.server.svid.v1.SVID/NewDownstreamX509CA";
        refused(outcome, Code::PermissionDenied, text);
        let outcome = BundleClient::new(channel)
            .publish_jwt_authority(bundle_pb::PublishJwtAuthorityRequest::default())
            .await;
        let text = "authorization denied for method /spire.api.server.bundle.v1.Bundle/PublishJWTAuthority";
        refused(outcome, Code::PermissionDenied, text);
    }
}

#[tokio::test]
async fn a_published_key_comes_back_among_the_rest() {
    let lab = Lab::start().await;
    let mut client = BundleClient::new(downstream(&lab).await);
    let publish = |key: &types::JwtKey| bundle_pb::PublishJwtAuthorityRequest {
        jwt_authority: Some(key.clone()),
    };
    let mut expired = jwt_key("old");
    expired.expires_at = 1;
    let mut endless = jwt_key("endless");
    endless.expires_at = 0;
    let twin = jwt_key("old");
    for (at, key) in [&expired, &endless, &twin].into_iter().enumerate() {
        let answer = client
            .publish_jwt_authority(publish(key))
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.jwt_authorities.len(), at + 2, "beside the server's own");
        assert_eq!(answer.jwt_authorities.last(), Some(key));
    }
    let again = client
        .publish_jwt_authority(publish(&endless))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        again.jwt_authorities.len(),
        4,
        "what is there already isn't added again"
    );
    let published = client.get_bundle(bundle_pb::GetBundleRequest::default()).await;
    assert_eq!(
        published.unwrap().into_inner().jwt_authorities,
        again.jwt_authorities
    );

    let outcome = client
        .publish_jwt_authority(bundle_pb::PublishJwtAuthorityRequest::default())
        .await;
    refused(outcome, Code::InvalidArgument, "missing JWT authority");
    let mut nameless = jwt_key("");
    let outcome = client.publish_jwt_authority(publish(&nameless)).await;
    refused(
        outcome,
        Code::InvalidArgument,
        "invalid JWT authority: missing key ID",
    );
    nameless.public_key.clear();
    let outcome = client.publish_jwt_authority(publish(&nameless)).await;
    refused_with(outcome, Code::InvalidArgument, "invalid JWT authority: malformed");
    let outcome = client
        .publish_wit_authority(bundle_pb::PublishWitAuthorityRequest::default())
        .await;
    let text = "WIT-SVID functionality is not yet implemented";
    refused(outcome, Code::Unimplemented, text);
}

#[tokio::test]
async fn keys_are_published_with_jwt_svids_switched_off() {
    let lab = Lab::start_with(|plan| plan.authorities.disable_jwt_svids = true).await;
    let mut client = BundleClient::new(downstream(&lab).await);
    let key = jwt_key("of a nested server");
    let request = bundle_pb::PublishJwtAuthorityRequest {
        jwt_authority: Some(key.clone()),
    };
    let answer = client.publish_jwt_authority(request).await.unwrap().into_inner();
    assert_eq!(answer.jwt_authorities, [key]);
}
