//! Bundle, debug, logger and health.

use credence_proto::grpc::health::v1::HealthCheckRequest;
use credence_proto::grpc::health::v1::health_client::HealthClient;
use credence_proto::spire::api::server::bundle::v1 as pb;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::debug::v1::GetInfoRequest;
use credence_proto::spire::api::server::debug::v1::debug_client::DebugClient;
use credence_proto::spire::api::server::logger::v1 as logger_pb;
use credence_proto::spire::api::server::logger::v1::logger_client::LoggerClient;
use credence_proto::spire::api::types::{self, LogLevel};
use tonic::Code;

use crate::fixtures::{expired_p521, jwt_key};
use crate::harness::{Lab, entry, refused, refused_with, wire_id};

/// Conforms: BND-07, BND-20, BND-22
#[tokio::test]
async fn the_bundle_is_everybodys_and_grows_by_appending() {
    let (lab, other) = (Lab::start().await, Lab::start().await);
    let mut client = BundleClient::new(lab.anonymous().await);
    let own = client
        .get_bundle(pb::GetBundleRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            own.trust_domain.as_str(),
            own.x509_authorities.len(),
            own.jwt_authorities.len()
        ),
        ("example.org", 1, 1)
    );
    let output_mask = Some(types::BundleMask {
        sequence_number: true,
        ..Default::default()
    });
    let masked = client
        .get_bundle(pb::GetBundleRequest { output_mask })
        .await
        .unwrap()
        .into_inner();
    assert!(masked.x509_authorities.is_empty() && masked.trust_domain == "example.org");

    let mut client = BundleClient::new(lab.local().await);
    let foreign = BundleClient::new(other.local().await)
        .get_bundle(pb::GetBundleRequest::default())
        .await;
    let foreign = foreign.unwrap().into_inner();
    let tainted = types::X509Certificate {
        tainted: true,
        ..foreign.x509_authorities[0].clone()
    };
    let append = pb::AppendBundleRequest {
        x509_authorities: vec![tainted],
        jwt_authorities: foreign.jwt_authorities.clone(),
        ..Default::default()
    };
    let grown = client.append_bundle(append.clone()).await.unwrap().into_inner();
    assert_eq!(
        (grown.x509_authorities.len(), grown.jwt_authorities.len()),
        (2, 2)
    );
    assert!(!grown.x509_authorities[1].tainted, "nobody taints by appending");
    assert_eq!(grown.sequence_number, own.sequence_number + 1);
    let again = client.append_bundle(append).await.unwrap().into_inner();
    assert_eq!(again, grown, "what is there already changes nothing");
    assert_eq!(
        client
            .count_bundles(pb::CountBundlesRequest::default())
            .await
            .unwrap()
            .into_inner()
            .count,
        1
    );

    let outcome = client.append_bundle(pb::AppendBundleRequest::default()).await;
    refused(outcome, Code::InvalidArgument, "no authorities to append");
    let junk = types::X509Certificate {
        asn1: b"junk".to_vec(),
        tainted: false,
    };
    let outcome = client.append_bundle(pb::AppendBundleRequest {
        x509_authorities: vec![junk],
        ..Default::default()
    });
    refused_with(
        outcome.await,
        Code::InvalidArgument,
        "failed to convert X.509 authority: ",
    );
    for (key_id, public_key, text) in [
        (
            "",
            foreign.jwt_authorities[0].public_key.clone(),
            "failed to convert JWT authority: missing key ID",
        ),
        (
            "k",
            b"junk".to_vec(),
            "failed to convert JWT authority: malformed",
        ),
    ] {
        let key = types::JwtKey {
            key_id: key_id.to_owned(),
            public_key,
            ..Default::default()
        };
        let request = pb::AppendBundleRequest {
            jwt_authorities: vec![key],
            ..Default::default()
        };
        refused_with(client.append_bundle(request).await, Code::InvalidArgument, text);
    }
}

#[tokio::test]
async fn an_authority_that_expired_is_appended_all_the_same() {
    let lab = Lab::start().await;
    let mut client = BundleClient::new(lab.local().await);
    let mut key = jwt_key("authority1");
    key.tainted = true;
    let request = pb::AppendBundleRequest {
        x509_authorities: vec![expired_p521()],
        jwt_authorities: vec![key.clone()],
        output_mask: Some(types::BundleMask {
            x509_authorities: true,
            jwt_authorities: true,
            ..Default::default()
        }),
        ..Default::default()
    };
    let grown = client.append_bundle(request).await.unwrap().into_inner();
    assert_eq!(grown.x509_authorities[1], expired_p521());
    key.tainted = false;
    assert_eq!(grown.jwt_authorities[1], key);
    assert_eq!((grown.sequence_number, grown.refresh_hint), (0, 0));
}

/// Two faults in one key: SPIRE names the key before its ID.
#[tokio::test]
async fn a_refused_append_changes_nothing() {
    let lab = Lab::start().await;
    let before = lab.bundle().await;
    let mut client = BundleClient::new(lab.local().await);
    let request = pb::AppendBundleRequest {
        x509_authorities: vec![expired_p521()],
        jwt_authorities: vec![types::JwtKey::default()],
        ..Default::default()
    };
    let text = "failed to convert JWT authority: malformed";
    refused_with(client.append_bundle(request).await, Code::InvalidArgument, text);
    assert_eq!(lab.bundle().await, before);
}

#[tokio::test]
async fn debug_tells_the_chain_and_the_counts() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    lab.create(vec![entry(&agent.id, "/w")]).await;
    let mut client = DebugClient::new(lab.local().await);
    let info = client
        .get_info(GetInfoRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (
            info.agents_count,
            info.entries_count,
            info.federated_bundles_count
        ),
        (1, 1, 1)
    );
    let ids: Vec<_> = info
        .svid_chain
        .iter()
        .map(|found| found.id.clone().unwrap())
        .collect();
    assert_eq!(ids, [wire_id("/spire/server"), wire_id("")], "leaf and root");
    assert_eq!(info.svid_chain[0].subject, "O=SPIRE,C=US");
}

#[tokio::test]
async fn the_log_level_can_be_set_and_reset() {
    let lab = Lab::start().await;
    let mut client = LoggerClient::new(lab.local().await);
    let set = |level: i32| logger_pb::SetLogLevelRequest { new_level: level };
    let now = client
        .set_log_level(set(LogLevel::Debug.into()))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (now.current_level(), now.launch_level()),
        (LogLevel::Debug, LogLevel::Info)
    );
    let now = client
        .get_logger(logger_pb::GetLoggerRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(now.current_level(), LogLevel::Debug);
    let now = client
        .reset_log_level(logger_pb::ResetLogLevelRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(now.current_level(), LogLevel::Info);
    refused_with(
        client.set_log_level(set(0)).await,
        Code::InvalidArgument,
        "newLevel value cannot be",
    );
    refused(
        client.set_log_level(set(99)).await,
        Code::InvalidArgument,
        "unsupported log level",
    );
}

#[tokio::test]
async fn health_is_serving() {
    let lab = Lab::start().await;
    let mut client = HealthClient::new(lab.local().await);
    let answer = client
        .check(HealthCheckRequest {
            service: String::new(),
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.status, 1);
    let outcome = client
        .check(HealthCheckRequest {
            service: "x".to_owned(),
        })
        .await;
    refused(
        outcome,
        Code::InvalidArgument,
        "per-service health is not supported",
    );
}
