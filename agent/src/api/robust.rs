//! Arbitrary values in every field of every method of the agent's: no panic, no `Internal`, and nothing changed by what
//! was refused.

use std::io;
use std::sync::LazyLock;

use credence_proto::spire::api::agent::logger::v1::logger_client::LoggerClient;
use credence_proto::spire::api::agent::logger::v1::{GetLoggerRequest, ResetLogLevelRequest};
use credence_runtime::grpc::connect_unix;
use credence_runtime::log::{LogOptions, layer_writing_to};
use credence_test_support::arbitrary::{Values, converse, follow, unary};
use prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use serde_json::json;
use tokio::net::UnixListener;
use tokio::sync::watch;
use tokio::time::{Instant, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status};

use super::admin::{AdminApi, serve_admin};
use super::lab::*;
use super::*;

/// Requests of each method.
const CASES: usize = 40;
/// A stream that says nothing for so long waits for a change.
const SILENCE: Duration = Duration::from_secs(5);

static POOL: LazyLock<DescriptorPool> =
    LazyLock::new(|| DescriptorPool::decode(credence_proto::FILE_DESCRIPTOR_SET).unwrap());

/// The methods of the services that the agent serves, and whether on the admin socket.
fn methods() -> Vec<(MethodDescriptor, bool)> {
    let is_admin =
        |package: &str| package.starts_with("spire.api.agent.") || package == "spire.agent.debug.v1";
    let services = POOL.services().filter_map(|service| {
        let package = service.package_name().to_owned();
        let is_public = service.full_name() == "SpiffeWorkloadAPI"
            || ["grpc.health.v1", "envoy.service.secret.v3"].contains(&&*package);
        let is_admin = is_admin(&package) || service.full_name() == "credence.explain.v1.Node";
        (is_public || is_admin).then_some((service, is_admin))
    });
    services
        .flat_map(|(service, admin)| {
            service
                .methods()
                .map(move |method| (method, admin))
                .collect::<Vec<_>>()
        })
        .collect()
}

/// Everything that a call could change.
async fn state(lab: &Lab, admin: &Channel) -> String {
    let mut logger = LoggerClient::new(admin.clone());
    let level = logger.get_logger(GetLoggerRequest {}).await.unwrap().into_inner();
    let cache = &lab.cache;
    format!(
        "{level:?} {:?} {:?} {:?} {}",
        cache.versions(),
        cache.federated(),
        cache.bundle(),
        cache.entry_count()
    )
}

/// The first answer of a method; none if it waits.
async fn call(
    channel: Channel,
    method: &MethodDescriptor,
    request: &DynamicMessage,
) -> Option<Result<(), Status>> {
    let path = format!("/{}/{}", method.parent_service().full_name(), method.name());
    let request = with_header(request.encode_to_vec());
    let first = async {
        if method.is_client_streaming() {
            converse(channel, &path, request).await?.message().await.map(drop)
        } else if method.is_server_streaming() {
            follow(channel, &path, request).await?.message().await.map(drop)
        } else {
            unary(channel, &path, request).await.map(drop)
        }
    };
    timeout(SILENCE, first).await.ok()
}

#[tokio::test(start_paused = true)]
async fn arbitrary_fields_are_answered_and_what_is_refused_changes_nothing() {
    let lab = Lab::with_wit(&["one", "two"]);
    let foreign = TokenKey::new("foreign");
    lab.put_bundle(foreign_bundle("b.test", &foreign));
    let socket = lab.folder.path().join("admin.sock");
    let (_, log) = layer_writing_to(&LogOptions::default(), Box::new(io::sink()));
    let api = AdminApi {
        delegates: [spiffe_id("spiffe://example.org/one")].into(),
        log,
        svid: watch::channel(Arc::new(svid(&entry("agent"), START, TTL))).1,
        last_sync: watch::channel(Some(START)).1,
        started: Instant::now(),
        explain: lab.node(),
    };
    let listener = UnixListener::bind(&socket).unwrap();
    lab.supervisor
        .spawn_graceful("admin socket", serve_admin(listener, lab.ground.clone(), api));
    let admin = connect_unix(&socket).await.unwrap();
    let public = lab.channel().await;

    let mut texts: Vec<String> = [
        "",
        "a",
        "-1",
        "é\u{0}\n",
        "/../a",
        "a:b",
        "uid:0",
        "x.y.z",
        "e30.e30.e30",
        "default",
        "ROOTCA",
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
    ]
    .map(str::to_owned)
    .into();
    texts.extend(
        [
            "spiffe://example.org/one",
            "spiffe://example.org/nobody",
            "spiffe://b.test",
        ]
        .map(str::to_owned),
    );
    texts.extend([
        "a".repeat(3000),
        lab.own_token(json!({})),
        lab.own_token(json!({"exp": -1, "sub": 7})),
    ]);
    let uid = format!("uid:{}", nix::unistd::geteuid());
    texts.extend([uid, foreign.token(&claims("spiffe://b.test/x", json!({})))]);
    let mut values = Values::new(4, texts, vec![Vec::new(), vec![0xff; 40]]);

    let (mut faults, mut calls, mut refusals) = (Vec::new(), 0, 0);
    let mut before = state(&lab, &admin).await;
    for (method, is_admin) in methods() {
        let channel = if is_admin { &admin } else { &public };
        for _ in 0..CASES {
            let request = values.message(&method.input(), 0);
            let answer = call(channel.clone(), &method, &request).await;
            let after = state(&lab, &admin).await;
            let refused = matches!(answer, Some(Err(_)));
            calls += 1;
            refusals += usize::from(refused);
            if let Some(Err(status)) = &answer
                && matches!(status.code(), Code::Internal | Code::Unknown)
            {
                faults.push(format!("{}: {status:?}\n    {request:?}", method.full_name()));
            }
            let changes = ["SetLogLevel", "ResetLogLevel"].contains(&method.name());
            if (refused || !changes) && after != before {
                faults.push(format!(
                    "{} changed something\n    {request:?}",
                    method.full_name()
                ));
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
        calls > 500 && (calls / 10..calls * 9 / 10).contains(&refusals),
        "{refusals} of {calls} refused"
    );
    let mut logger = LoggerClient::new(admin);
    logger.reset_log_level(ResetLogLevelRequest {}).await.unwrap();
}
