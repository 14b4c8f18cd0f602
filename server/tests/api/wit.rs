//! WIT-SVIDs: minted by operators, issued to agents by entry, verified by the bundle that is published.

use std::sync::Arc;
use std::time::Duration;

use credence_crypto::wit::{WitSvid, verify};
use credence_crypto::{KeyType, PrivateKey, Signer as _};
use credence_identity::{Bundle, JwtAuthority, TrustDomain};
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::svid::v1 as pb;
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use credence_proto::spire::api::types;
use credence_runtime::clock::Clock as _;
use credence_server::ca::WitSettings;
use tonic::Code;

use crate::harness::{Lab, entry, new_key, ok, refused, refused_with, wire_id};

async fn lab() -> Lab {
    Lab::start_with(|plan| {
        plan.authorities.wit = Some(WitSettings {
            key_type: KeyType::EcP256,
            issuer: None,
        });
    })
    .await
}

fn mint(key: &PrivateKey) -> pb::MintWitsvidRequest {
    pb::MintWitsvidRequest {
        id: Some(wire_id("/job")),
        public_key: key.public_key().spki_der().to_vec(),
        ttl: 0,
        signing_algorithm: key.key_type().jws_algorithm().to_owned(),
    }
}

async fn published(lab: &Lab) -> Arc<Bundle> {
    let bundle = BundleClient::new(lab.local().await)
        .get_bundle(GetBundleRequest { output_mask: None })
        .await
        .unwrap()
        .into_inner();
    let authorities = bundle.wit_authorities.iter().map(|key| JwtAuthority {
        key_id: key.key_id.as_str().into(),
        public_key: key.public_key.clone().into(),
        expires_at: None,
        tainted: key.tainted,
    });
    Arc::new(Bundle {
        wit_authorities: authorities.collect(),
        ..Bundle::empty(TrustDomain::parse(&bundle.trust_domain).unwrap())
    })
}

/// Conforms: WIT-08, WIT-17, WIT-18, WIT-33
#[tokio::test]
async fn what_an_operator_mints_is_bound_to_the_key_and_verifies_by_the_published_bundle() {
    let lab = lab().await;
    let bundle = published(&lab).await;
    assert_eq!(bundle.wit_authorities.len(), 1);
    let mut client = SvidClient::new(lab.local().await);
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(key_type).unwrap();
        let svid = client
            .mint_witsvid(mint(&key))
            .await
            .unwrap()
            .into_inner()
            .svid
            .unwrap();
        assert_eq!((svid.id, svid.hint.as_str()), (Some(wire_id("/job")), ""));
        assert_eq!(svid.expires_at - svid.issued_at, 3600);
        let now = lab.clock.now();
        verify(&svid.token, |_| Some(bundle.clone()), now).unwrap();
        let parsed = WitSvid::parse_insecure(&svid.token, now).unwrap();
        assert_eq!(&parsed.public_key, key.public_key());
        let claims: Vec<_> = parsed.claims.keys().map(String::as_str).collect();
        assert_eq!(claims, ["cnf", "exp", "iat", "sub"]);
    }
}

#[tokio::test]
async fn an_agent_gets_tokens_for_its_entries_alone_and_each_item_has_its_status() {
    let lab = lab().await;
    let agent = lab.agent().await;
    let asked = types::Entry {
        x509_svid_ttl: 120,
        ..entry(&agent.id, "/web")
    };
    let made = lab.create(vec![asked]).await.remove(0);
    let key = new_key();
    let spki = key.public_key().spki_der().to_vec();
    let item = |entry_id: &str, public_key: &[u8], algorithm: &str| pb::NewWitsvidParams {
        entry_id: entry_id.to_owned(),
        public_key: public_key.to_vec(),
        signing_algorithm: algorithm.to_owned(),
    };
    let request = pb::BatchNewWitsvidRequest {
        params: vec![
            item(&made.id, &spki, "ES256"),
            item("", &spki, "ES256"),
            item(&made.id, b"", "ES256"),
            item("nobody", &spki, "ES256"),
            item(&made.id, b"junk", "ES256"),
            item(&made.id, &spki, "RS256"),
        ],
    };
    let mut client = SvidClient::new(agent.channel.clone());
    let results = client
        .batch_new_witsvid(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let svid = results[0].svid.as_ref().unwrap();
    assert_eq!(results[0].status, Some(ok()));
    assert_eq!(svid.expires_at - svid.issued_at, 120);
    let bundle = published(&lab).await;
    verify(&svid.token, |_| Some(bundle.clone()), lab.clock.now()).unwrap();
    let codes: Vec<(i32, bool)> = results[1..]
        .iter()
        .map(|result| (result.status.as_ref().unwrap().code, result.svid.is_none()))
        .collect();
    let invalid = Code::InvalidArgument as i32;
    assert_eq!(
        codes,
        [invalid, invalid, Code::NotFound as i32, invalid, invalid].map(|code| (code, true))
    );
    let nothing = client
        .batch_new_witsvid(pb::BatchNewWitsvidRequest::default())
        .await;
    refused(nothing, Code::InvalidArgument, "missing parameters");
}

/// Conforms: WIT-09, WIT-10
#[tokio::test]
async fn what_does_not_fit_is_refused() {
    let lab = lab().await;
    let mut client = SvidClient::new(lab.local().await);
    let good = mint(&new_key());
    let mut ask = async |change: &dyn Fn(&mut pb::MintWitsvidRequest)| {
        let mut request = good.clone();
        change(&mut request);
        client.mint_witsvid(request).await
    };
    let outcome = ask(&|request| request.id = None).await;
    refused_with(outcome, Code::InvalidArgument, "invalid SPIFFE ID: ");
    let outcome = ask(&|request| request.id = Some(wire_id("/spire/agent/x"))).await;
    refused_with(outcome, Code::InvalidArgument, "invalid SPIFFE ID: ");
    let outcome = ask(&|request| request.public_key = vec![1]).await;
    refused_with(outcome, Code::InvalidArgument, "invalid public key: ");
    for algorithm in ["", "none", "HS256", "es256", "ES384", "RS256"] {
        let outcome = ask(&|request| request.signing_algorithm = algorithm.to_owned()).await;
        refused_with(
            outcome,
            Code::InvalidArgument,
            "invalid signing algorithm or key type: ",
        );
    }
}

/// Conforms: STB-01, WIT-33
#[tokio::test]
async fn without_the_feature_flag_nothing_is_published_or_signed() {
    let lab = Lab::start().await;
    assert!(published(&lab).await.wit_authorities.is_empty());
    let minted = SvidClient::new(lab.local().await)
        .mint_witsvid(mint(&new_key()))
        .await;
    refused(minted, Code::Unimplemented, "WIT functionality is disabled");
    let agent = lab.agent().await;
    let made = lab.create(vec![entry(&agent.id, "/web")]).await.remove(0);
    let request = pb::BatchNewWitsvidRequest {
        params: vec![pb::NewWitsvidParams {
            entry_id: made.id,
            public_key: new_key().public_key().spki_der().to_vec(),
            signing_algorithm: "ES256".to_owned(),
        }],
    };
    let mut client = SvidClient::new(agent.channel.clone());
    let results = client
        .batch_new_witsvid(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let status = results[0].status.clone().unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (
            Code::Internal as i32,
            "failed to sign WIT-SVID: WIT key is not available for signing"
        )
    );
}

/// The successor's key is in the bundle before it signs, as with every authority.
#[tokio::test]
async fn the_authority_rotates_like_the_others() {
    let lab = lab().await;
    let first = published(&lab).await.wit_authorities[0].key_id.clone();
    lab.clock.step_forward(Duration::from_secs(13 * 60 * 60));
    let both = crate::harness::soon(async {
        loop {
            let bundle = published(&lab).await;
            if bundle.wit_authorities.len() == 2 {
                break bundle;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    let token = SvidClient::new(lab.local().await)
        .mint_witsvid(mint(&new_key()))
        .await
        .unwrap()
        .into_inner()
        .svid
        .unwrap()
        .token;
    verify(&token, |_| Some(both.clone()), lab.clock.now()).unwrap();
    assert_eq!(both.wit_authorities[0].key_id, first);
}
