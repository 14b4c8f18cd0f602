//! What hostile or broken peers do, and what the server makes of it.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use credence_proto::grpc::health::v1::HealthCheckRequest;
use credence_proto::grpc::health::v1::health_client::HealthClient;
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1 as pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_runtime::config::HealthChecks;
use sqlx::ConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
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

/// The last good state keeps serving, health says what is wrong, and nothing that was refused is there afterwards.
#[tokio::test]
async fn a_locked_store_degrades_the_server_and_no_more() {
    let mut path = std::path::PathBuf::new();
    let lab = Lab::start_with(|plan| {
        plan.database.busy_timeout = Duration::from_millis(100);
        path.clone_from(&plan.database.path);
    })
    .await;
    let agent = lab.agent().await;
    lab.create(vec![entry(&agent.id, "/before")]).await;
    let mut health = HealthClient::new(lab.local().await);
    let mut serving = async || {
        health
            .check(HealthCheckRequest::default())
            .await
            .unwrap()
            .into_inner()
            .status
            == 1
    };
    assert!(serving().await);

    let mut locker = SqliteConnectOptions::new()
        .filename(&path)
        .connect()
        .await
        .unwrap();
    sqlx::query("BEGIN EXCLUSIVE").execute(&mut locker).await.unwrap();
    let mut client = EntryClient::new(lab.local().await);
    let wanted = || pb::BatchCreateEntryRequest {
        entries: vec![entry(&agent.id, "/after")],
        output_mask: None,
    };
    let result = soon(client.batch_create_entry(wanted()))
        .await
        .unwrap()
        .into_inner()
        .results
        .remove(0);
    let status = result.status.unwrap();
    let text = "failed to create entry: datastore is unavailable";
    assert_eq!(
        (status.code, status.message.as_str()),
        (Code::Internal as i32, text)
    );
    assert!(!serving().await);
    let request = pb::GetAuthorizedEntriesRequest::default();
    let held = EntryClient::new(agent.channel.clone())
        .get_authorized_entries(request)
        .await
        .unwrap();
    assert_eq!(held.into_inner().entries.len(), 1);

    sqlx::query("ROLLBACK").execute(&mut locker).await.unwrap();
    let result = soon(client.batch_create_entry(wanted()))
        .await
        .unwrap()
        .into_inner()
        .results
        .remove(0);
    assert_eq!(result.status, Some(crate::harness::ok()));
    assert!(serving().await);
}
