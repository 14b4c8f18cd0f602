//! What hostile or broken peers do, and what the server makes of it.

use std::os::unix::fs::PermissionsExt;

use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1 as pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_runtime::config::HealthChecks;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tonic::Code;

use crate::harness::{Lab, entry, refused_with, soon, wire_id};

async fn answers(lab: &Lab) {
    let mut client = BundleClient::new(lab.anonymous().await);
    soon(client.get_bundle(GetBundleRequest::default()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_request_of_ten_megabytes_is_refused_with_gos_code() {
    let lab = Lab::start().await;
    let huge = credence_proto::spire::api::types::Entry {
        hint: "x".repeat(10 * 1024 * 1024),
        ..entry(&wire_id("/node"), "/w")
    };
    let request = pb::BatchCreateEntryRequest {
        entries: vec![huge],
        output_mask: None,
    };
    let mut client = EntryClient::new(lab.local().await).max_encoding_message_size(usize::MAX);
    let outcome = soon(client.batch_create_entry(request)).await;
    refused_with(
        outcome,
        Code::ResourceExhausted,
        "grpc: received message larger than max",
    );
    let count = client
        .count_entries(pb::CountEntriesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .count;
    assert_eq!(count, 0);
    let agent = lab.agent().await;
    let ids = vec!["x".repeat(5 * 1024 * 1024)];
    let request = pb::SyncAuthorizedEntriesRequest {
        output_mask: None,
        ids,
    };
    let outcome = EntryClient::new(agent.channel)
        .sync_authorized_entries(tokio_stream::iter([request]))
        .await;
    refused_with(
        outcome,
        Code::ResourceExhausted,
        "grpc: received message larger than max",
    );
}

#[tokio::test]
async fn half_open_connections_delay_nobody() {
    let lab = Lab::start().await;
    let mut silent = Vec::new();
    for _ in 0..50 {
        silent.push(TcpStream::connect(lab.bound.tcp).await.unwrap());
    }
    let mut local = Vec::new();
    for _ in 0..50 {
        let mut stream = UnixStream::connect(&lab.bound.socket).await.unwrap();
        stream.write_all(b"PRI * HT").await.unwrap();
        local.push(stream);
    }
    answers(&lab).await;
    soon(BundleClient::new(lab.local().await).get_bundle(GetBundleRequest::default()))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_peer_that_speaks_no_http2_is_let_go() {
    let lab = Lab::start().await;
    let mut stream = UnixStream::connect(&lab.bound.socket).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    drop(soon(stream.read_to_end(&mut answer)).await);
    assert!(answer.is_empty());
    let mut stream = TcpStream::connect(lab.bound.tcp).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .await
        .unwrap();
    drop(soon(stream.read_to_end(&mut answer)).await);
    answers(&lab).await;
}

#[tokio::test]
async fn the_socket_is_for_owner_and_group() {
    let lab = Lab::start().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&lab.bound.socket), 0o770);
    assert_eq!(mode(lab.bound.socket.parent().unwrap()), 0o750);
}

#[tokio::test]
async fn http_health_answers_two_paths() {
    let lab = Lab::start_with(|plan| {
        plan.health = Some(HealthChecks {
            bind_address: "127.0.0.1".to_owned(),
            bind_port: 0,
            live_path: "/live".to_owned(),
            ready_path: "/ready".to_owned(),
        });
    })
    .await;
    for (path, status) in [("/live", "200"), ("/ready", "200"), ("/nope", "404")] {
        let mut stream = TcpStream::connect(lab.bound.health.unwrap()).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        soon(stream.read_to_string(&mut answer)).await.unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
    }
}

/// Many connections at once, each with a call, none of which is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_connections_at_once_are_all_served() {
    let lab = std::sync::Arc::new(Lab::start().await);
    let calls = (0..50).map(|_| {
        let lab = std::sync::Arc::clone(&lab);
        tokio::spawn(async move { answers(&lab).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.unwrap();
    }
}
