//! Issuing: for agents by entry, for operators without.

use std::time::Duration;

use credence_crypto::x509::verify_svid;
use credence_crypto::{KeyType, PrivateKey, csr};
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1::GetAuthorizedEntriesRequest;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::server::svid::v1 as pb;
use credence_proto::spire::api::server::svid::v1::svid_client::SvidClient;
use credence_proto::spire::api::types;
use credence_runtime::clock::Clock;
use tonic::Code;

use crate::harness::{Agent, Lab, NOW, csr_of, entry, id, new_key, ok, refused, refused_with, wire_id};

async fn batch(
    agent: &Agent,
    params: Vec<pb::NewX509svidParams>,
) -> Vec<pb::batch_new_x509svid_response::Result> {
    let mut client = SvidClient::new(agent.channel.clone());
    let request = pb::BatchNewX509svidRequest { params };
    client
        .batch_new_x509svid(request)
        .await
        .unwrap()
        .into_inner()
        .results
}

fn wish(entry_id: &str, csr: Vec<u8>) -> pb::NewX509svidParams {
    pb::NewX509svidParams {
        entry_id: entry_id.to_owned(),
        csr,
    }
}

#[tokio::test]
async fn an_agent_gets_svids_for_its_entries_that_verify() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let asked = types::Entry {
        x509_svid_ttl: 120,
        hint: "web".to_owned(),
        dns_names: vec!["web.example.org".to_owned()],
        ..entry(&agent.id, "/web")
    };
    let made = lab.create(vec![asked]).await.remove(0);
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(key_type).unwrap();
        let result = batch(&agent, vec![wish(&made.id, csr_of(&key))]).await.remove(0);
        assert_eq!(result.status, Some(ok()));
        let svid = result.svid.unwrap();
        assert_eq!(
            (svid.id.as_ref(), svid.hint.as_str()),
            (Some(&wire_id("/web")), "")
        );
        assert!((svid.expires_at - NOW.unix_seconds() - 120).abs() < 60);
        let bundle = lab.bundle().await;
        let verified = verify_svid(&svid.cert_chain, &bundle.x509_authorities, lab.clock.now()).unwrap();
        assert_eq!(verified.id, id("/web"));
        assert_eq!(verified.leaf.dns_names(), ["web.example.org"]);
    }
}

#[tokio::test]
async fn a_batch_of_many_keeps_its_order_and_its_failures_to_themselves() {
    let lab = Lab::start().await;
    let (agent, other) = (lab.agent().await, lab.agent().await);
    let mine = lab
        .create((0..60).map(|at| entry(&agent.id, &format!("/w{at}"))).collect())
        .await;
    let theirs = lab.create(vec![entry(&other.id, "/theirs")]).await.remove(0);
    let csr = csr_of(&new_key());
    let mut tampered = csr.clone();
    *tampered.last_mut().unwrap() ^= 1;
    let mut params: Vec<_> = mine.iter().map(|entry| wish(&entry.id, csr.clone())).collect();
    params.insert(3, wish("", csr.clone()));
    params.insert(10, wish(&mine[0].id, Vec::new()));
    params.insert(20, wish(&theirs.id, csr.clone()));
    params.insert(30, wish(&mine[0].id, b"junk".to_vec()));
    params.insert(40, wish(&mine[0].id, tampered));
    params.insert(50, wish("no/such", csr));
    let results = batch(&agent, params).await;
    let mut failures = Vec::new();
    let mut issued = Vec::new();
    for (at, result) in results.into_iter().enumerate() {
        let status = result.status.unwrap();
        match result.svid {
            Some(svid) => issued.push(svid.id.unwrap().path),
            None => failures.push((
                at,
                status.code,
                status.message.split(": ").next().unwrap().to_owned(),
            )),
        }
    }
    assert_eq!(issued, (0..60).map(|at| format!("/w{at}")).collect::<Vec<_>>());
    let (invalid, missing) = (Code::InvalidArgument as i32, Code::NotFound as i32);
    let expected = [
        (3, invalid, "missing entry ID"),
        (10, invalid, "missing CSR"),
        (20, missing, "entry not found or not authorized"),
        (30, invalid, "malformed CSR"),
        (40, invalid, "invalid CSR signature"),
        (50, missing, "entry not found or not authorized"),
    ];
    let expected: Vec<_> = expected
        .into_iter()
        .map(|(at, code, text)| (at, code, text.to_owned()))
        .collect();
    assert_eq!(failures, expected);
    let mut client = SvidClient::new(agent.channel.clone());
    let outcome = client
        .batch_new_x509svid(pb::BatchNewX509svidRequest::default())
        .await;
    refused(outcome, Code::InvalidArgument, "missing parameters");
}

#[tokio::test]
async fn nothing_is_issued_for_an_expired_entry() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let expires_at = NOW.unix_seconds() + 600;
    let made = lab
        .create(vec![types::Entry {
            expires_at,
            ..entry(&agent.id, "/w")
        }])
        .await
        .remove(0);
    lab.clock.step_forward(Duration::from_secs(600));
    let result = batch(&agent, vec![wish(&made.id, csr_of(&new_key()))])
        .await
        .remove(0);
    assert_eq!(result.status.unwrap().code, Code::NotFound as i32);
    let request = pb::NewJwtsvidRequest {
        entry_id: made.id,
        audience: vec!["a".to_owned()],
    };
    let outcome = SvidClient::new(agent.channel.clone()).new_jwtsvid(request).await;
    refused(outcome, Code::NotFound, "entry not found or not authorized");
}

#[tokio::test]
async fn more_csrs_than_the_limit_are_refused_at_once() {
    let lab = Lab::start_with(|plan| plan.limit_signing = true).await;
    let agent = lab.agent().await;
    let request = pb::BatchNewX509svidRequest {
        params: vec![wish("x", vec![1]); 501],
    };
    let outcome = SvidClient::new(agent.channel.clone())
        .batch_new_x509svid(request)
        .await;
    let text =
        "rejecting request due to certificate signing rate limiting: rate (501) exceeds burst size (500)";
    refused(outcome, Code::ResourceExhausted, text);
}

/// Conforms: JWS-11, JWS-12
#[tokio::test]
async fn an_agent_gets_tokens_for_its_entries() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let asked = types::Entry {
        jwt_svid_ttl: 30,
        hint: "h".to_owned(),
        ..entry(&agent.id, "/w")
    };
    let made = lab.create(vec![asked]).await.remove(0);
    let mut client = SvidClient::new(agent.channel.clone());
    let request = |entry_id: &str, audience: &[&str]| pb::NewJwtsvidRequest {
        entry_id: entry_id.to_owned(),
        audience: audience.iter().map(|text| (*text).to_owned()).collect(),
    };
    let issued = client
        .new_jwtsvid(request(&made.id, &["a", "b"]))
        .await
        .unwrap()
        .into_inner()
        .svid
        .unwrap();
    assert_eq!((issued.id, issued.hint.as_str()), (Some(wire_id("/w")), ""));
    assert_eq!(issued.expires_at - issued.issued_at, 30);
    let parsed =
        credence_crypto::jwt::JwtSvid::parse_insecure(&issued.token, &["b"], lab.clock.now()).unwrap();
    assert_eq!(
        (parsed.id, parsed.audience),
        (id("/w"), vec!["a".to_owned(), "b".to_owned()])
    );
    refused(
        client.new_jwtsvid(request("", &["a"])).await,
        Code::NotFound,
        "entry not found or not authorized",
    );
    refused(
        client.new_jwtsvid(request("x", &[])).await,
        Code::NotFound,
        "entry not found or not authorized",
    );
    let outcome = client.new_jwtsvid(request(&made.id, &[])).await;
    refused(
        outcome,
        Code::InvalidArgument,
        "at least one audience is required",
    );
    let outcome = client.new_jwtsvid(request(&made.id, &[""])).await;
    let text = "failed to sign JWT-SVID: invalid JWT-SVID audience: cannot be empty";
    refused(outcome, Code::Internal, text);
}

#[tokio::test]
async fn without_jwt_svids_there_is_neither_key_nor_token() {
    let lab = Lab::start_with(|plan| plan.authorities.disable_jwt_svids = true).await;
    let agent = lab.agent().await;
    let request = pb::NewJwtsvidRequest {
        entry_id: "x".to_owned(),
        audience: vec!["a".to_owned()],
    };
    let outcome = SvidClient::new(agent.channel.clone()).new_jwtsvid(request).await;
    refused(outcome, Code::Unimplemented, "JWT functionality is disabled");
    let outcome = SvidClient::new(lab.local().await)
        .mint_jwtsvid(pb::MintJwtsvidRequest::default())
        .await;
    refused(outcome, Code::Unimplemented, "JWT functionality is disabled");
    let mut client = BundleClient::new(lab.local().await);
    let bundle = client
        .get_bundle(GetBundleRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(bundle.jwt_authorities.is_empty());
}

#[tokio::test]
async fn an_operator_mints_what_the_csr_asks_for() {
    let lab = Lab::start().await;
    let mut client = SvidClient::new(lab.local().await);
    let mut mint = async |csr: Vec<u8>, ttl: i32| {
        client
            .mint_x509svid(pb::MintX509svidRequest { csr, ttl })
            .await
            .map(|answer| answer.into_inner().svid.unwrap())
    };
    let key = new_key();
    let of = |path: &str, dns: &[&str]| csr::create(&key, Some(&id(path)), dns).unwrap();
    let minted = mint(of("/w", &["w.example.org"]), 60).await.unwrap();
    assert_eq!(minted.id, Some(wire_id("/w")));
    assert!((minted.expires_at - NOW.unix_seconds() - 60).abs() < 60);
    assert!(
        mint(of("/w", &[]), -1).await.unwrap().expires_at > NOW.unix_seconds() + 3000,
        "less than zero: default"
    );
    let none = csr::create(&key, None, &[]).unwrap();
    refused(mint(Vec::new(), 0).await, Code::InvalidArgument, "missing CSR");
    refused_with(
        mint(b"junk".to_vec(), 0).await,
        Code::InvalidArgument,
        "malformed CSR: ",
    );
    refused(
        mint(none, 0).await,
        Code::InvalidArgument,
        "CSR URI SAN is required",
    );
    let text = "CSR URI SAN is invalid: \"spiffe://example.org/spire/server\" is not a workload";
    refused_with(
        mint(of("/spire/server", &[]), 0).await,
        Code::InvalidArgument,
        text,
    );
    let text = "CSR DNS name contains a wildcard that covers another non-wildcard name: name \"a.example.org\" overlaps \
                with an existing wildcard name in the list: wildcard overlap";
    refused(
        mint(of("/w", &["*.example.org", "a.example.org"]), 0).await,
        Code::InvalidArgument,
        text,
    );
    let mut tampered = of("/w", &[]);
    *tampered.last_mut().unwrap() ^= 1;
    refused_with(
        mint(tampered, 0).await,
        Code::InvalidArgument,
        "failed to verify CSR signature",
    );
}

#[tokio::test]
async fn an_operator_mints_tokens() {
    let lab = Lab::start().await;
    let mut client = SvidClient::new(lab.local().await);
    let mut mint = async |path: &str, audience: &[&str]| {
        let audience = audience.iter().map(|text| (*text).to_owned()).collect();
        let request = pb::MintJwtsvidRequest {
            id: Some(wire_id(path)),
            audience,
            ttl: 60,
        };
        client
            .mint_jwtsvid(request)
            .await
            .map(|answer| answer.into_inner().svid.unwrap())
    };
    let minted = mint("/w", &["a"]).await.unwrap();
    assert_eq!(
        (minted.expires_at - minted.issued_at, minted.id),
        (60, Some(wire_id("/w")))
    );
    refused(
        mint("/w", &[]).await,
        Code::InvalidArgument,
        "at least one audience is required",
    );
    refused_with(
        mint("/spire/agent/x", &["a"]).await,
        Code::InvalidArgument,
        "invalid SPIFFE ID: ",
    );
}

/// Conforms: SID-21
#[tokio::test]
async fn an_id_of_2048_bytes_is_stored_listed_and_signed() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let path = format!("/{}", "a".repeat(2048 - "spiffe://example.org/".len()));
    let made = lab.create(vec![entry(&agent.id, &path)]).await.remove(0);
    let listed = EntryClient::new(agent.channel.clone())
        .get_authorized_entries(GetAuthorizedEntriesRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(listed.entries[0].spiffe_id, Some(wire_id(&path)));
    let result = batch(&agent, vec![wish(&made.id, csr_of(&new_key()))])
        .await
        .remove(0);
    let chain = result.svid.unwrap().cert_chain;
    let authorities = lab.bundle().await.x509_authorities;
    let verified = verify_svid(&chain, &authorities, lab.clock.now()).unwrap();
    assert_eq!(verified.id.as_str().len(), 2048);
    let request = pb::NewJwtsvidRequest {
        entry_id: made.id,
        audience: vec!["a".to_owned()],
    };
    let issued = SvidClient::new(agent.channel).new_jwtsvid(request).await.unwrap();
    let token = issued.into_inner().svid.unwrap().token;
    let parsed = credence_crypto::jwt::JwtSvid::parse_insecure(&token, &["a"], lab.clock.now()).unwrap();
    assert_eq!(parsed.id, verified.id);
}
