//! What a nested server asks of the one above it: a CA, and to have its JWT keys published.

use credence_crypto::x509::{LeafParams, X509Ca};
use credence_crypto::{KeyType, Signer as _, csr};
use credence_proto::spire::api::server::bundle::v1 as bundle_pb;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::svid::v1 as svid_pb;
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use credence_proto::spire::api::types;

use super::*;
use crate::CREDENCE;

#[test]
fn a_downstream_server_gets_a_ca_and_publishes_its_keys() {
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let parent = "spiffe://example.org/spire/server";
    let id = "spiffe://example.org/nested";
    drop(lab.ok(&[
        "entry",
        "create",
        "-parentID",
        parent,
        "-spiffeID",
        id,
        "-selector",
        "a:b",
        "-downstream",
    ]));
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let nested = connect(&lab, Some(minted(&lab, "/nested"))).await;
        below_verifies_above(&nested).await;
        let key = publish(&nested).await;
        let published = lab.ok(&["bundle", "show", "-output", "json"]);
        assert!(published.contains(&key.key_id), "{published}");
        for channel in [
            connect(&lab, Some(minted(&lab, "/workload"))).await,
            connect(&lab, None).await,
        ] {
            denied!(SvidClient::new(channel.clone()), new_downstream_x509ca);
            denied!(
                BundleClient::new(channel),
                publish_jwt_authority,
                publish_wit_authority
            );
        }
    });
}

/// An SVID that the nested CA signs counts where the upper server's bundle is trusted.
async fn below_verifies_above(nested: &Channel) {
    let key = Arc::new(PrivateKey::generate(KeyType::EcP256).expect("a key"));
    let request = svid_pb::NewDownstreamX509caRequest {
        csr: csr::create(&*key, None, &[]).expect("a CSR"),
        preferred_ttl: 0,
    };
    let answer = SvidClient::new(nested.clone())
        .new_downstream_x509ca(request)
        .await;
    let answer = answer.expect("a CA").into_inner();
    let [certificate] = answer.ca_cert_chain.as_slice() else {
        unreachable!("the root isn't in the chain: {}", answer.ca_cert_chain.len());
    };
    let certificate = credence_crypto::x509::Certificate::from_der(certificate).expect("a certificate");
    let (from, until) = (certificate.not_before(), certificate.not_after());
    let ca = X509Ca::new(key, certificate.clone(), vec![certificate.der().clone()]).expect("a CA");
    let workload = PrivateKey::generate(KeyType::EcP256).expect("a key");
    let svid = ca.sign_svid(&LeafParams {
        id: &SpiffeId::parse("spiffe://example.org/below").expect("an ID"),
        public_key: workload.public_key(),
        dns_names: &[],
        subject: None,
        not_before: from,
        not_after: until,
    });
    let roots: Vec<_> = answer
        .x509_authorities
        .iter()
        .flat_map(|der| credence_crypto::bundle::x509_from_der(der).expect("a root"))
        .collect();
    let moment = from + std::time::Duration::from_secs(20);
    credence_crypto::x509::verify_svid(&svid.expect("an SVID").chain, &roots, moment).expect("it verifies");
}

async fn publish(nested: &Channel) -> types::JwtKey {
    let key = PrivateKey::generate(KeyType::EcP256).expect("a key");
    let key = types::JwtKey {
        public_key: key.public_key().spki_der().to_vec(),
        key_id: "key-of-the-nested-server".to_owned(),
        expires_at: 2_000_000_000,
        tainted: false,
    };
    let request = bundle_pb::PublishJwtAuthorityRequest {
        jwt_authority: Some(key.clone()),
    };
    let answer = BundleClient::new(nested.clone())
        .publish_jwt_authority(request)
        .await;
    let answer = answer.expect("published").into_inner();
    assert!(answer.jwt_authorities.contains(&key) && answer.jwt_authorities.len() == 2);
    key
}
