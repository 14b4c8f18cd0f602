//! What a delegate may have, and what operators see and change. This test process is the delegate.

use std::io;
use std::time::Duration;

use credence_identity::{Bundle, Entry, Selector};
use credence_proto::credence::explain::v1 as explain_pb;
use credence_proto::credence::explain::v1::node_client::NodeClient;
use credence_proto::spire::agent::debug::v1 as debug_pb;
use credence_proto::spire::agent::debug::v1::debug_client::DebugClient;
use credence_proto::spire::api::agent::delegatedidentity::v1 as pb;
use credence_proto::spire::api::agent::delegatedidentity::v1::delegated_identity_client::DelegatedIdentityClient;
use credence_proto::spire::api::agent::logger::v1 as logger_pb;
use credence_proto::spire::api::agent::logger::v1::logger_client::LoggerClient;
use credence_proto::spire::api::types;
use credence_runtime::grpc::connect_unix;
use credence_runtime::log::{LogOptions, layer_writing_to};
use tokio::net::UnixListener;
use tokio::time::timeout;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::*;
use crate::api::lab::*;
use crate::cache::CacheUpdate;

const SOON: Duration = Duration::from_secs(1);
const DELEGATE: &str = "spiffe://example.org/delegate";

/// The admin socket of a lab in which `/delegate` is a delegate.
async fn admin(lab: &Lab) -> Channel {
    let socket = lab.folder.path().join("admin.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let (_, log) = layer_writing_to(&LogOptions::default(), Box::new(io::sink()));
    let own = svid(&entry("agent"), START, TTL);
    let api = AdminApi {
        delegates: [spiffe_id(DELEGATE)].into(),
        log,
        svid: watch::channel(Arc::new(own)).1,
        last_sync: watch::channel(Some(START)).1,
        started: Instant::now(),
        explain: lab.node(),
    };
    lab.supervisor
        .spawn_graceful("admin socket", serve_admin(listener, lab.ground.clone(), api));
    connect_unix(&socket).await.unwrap()
}

/// A lab whose caller is a delegate, with its client.
async fn delegate() -> (Lab, DelegatedIdentityClient<Channel>) {
    let lab = Lab::new(Setup::default());
    lab.put(own_entry("delegate"));
    let client = DelegatedIdentityClient::new(admin(&lab).await);
    (lab, client)
}

/// The selectors of nobody on this machine.
fn of_others() -> Vec<types::Selector> {
    vec![types::Selector {
        r#type: "k8s".into(),
        value: "ns:shop".into(),
    }]
}

/// An entry that has them.
fn others_entry(id: &str) -> Entry {
    Entry {
        selectors: vec![Selector::parse("k8s:ns:shop").unwrap()],
        ..entry(id)
    }
}

fn by_selectors() -> pb::SubscribeToX509sviDsRequest {
    pb::SubscribeToX509sviDsRequest {
        selectors: of_others(),
        pid: 0,
    }
}

fn tokens_by_selectors() -> pb::FetchJwtsviDsRequest {
    pb::FetchJwtsviDsRequest {
        audience: vec!["a".into()],
        selectors: of_others(),
        pid: 0,
    }
}

fn paths(message: &pb::SubscribeToX509sviDsResponse) -> Vec<String> {
    let ids = message
        .x509_svids
        .iter()
        .map(|svid| svid.x509_svid.as_ref().unwrap().id.as_ref().unwrap());
    ids.map(|id| id.path.clone()).collect()
}

async fn next<M>(stream: &mut Streaming<M>) -> M {
    stream.message().await.unwrap().unwrap()
}

fn refusal<T>(answer: Result<T, Status>) -> (Code, String) {
    let status = answer.err().unwrap();
    (status.code(), status.message().to_owned())
}

#[tokio::test(start_paused = true)]
async fn who_is_no_delegate_gets_nothing() {
    let lab = Lab::new(Setup::default());
    let mut client = DelegatedIdentityClient::new(admin(&lab).await);
    lab.put(others_entry("shop"));
    lab.sign(others_entry("shop"));
    for (registered, text) in [
        (false, "no identity issued"),
        (true, "caller not configured as an authorized delegate"),
    ] {
        if registered {
            lab.put(own_entry("one"));
        }
        let refused = (Code::PermissionDenied, text.to_owned());
        assert_eq!(
            refusal(client.subscribe_to_x509svi_ds(by_selectors()).await),
            refused
        );
        let request = pb::SubscribeToX509BundlesRequest {};
        assert_eq!(refusal(client.subscribe_to_x509_bundles(request).await), refused);
        let request = pb::SubscribeToJwtBundlesRequest {};
        assert_eq!(refusal(client.subscribe_to_jwt_bundles(request).await), refused);
        assert_eq!(
            refusal(client.fetch_jwtsvi_ds(tokens_by_selectors()).await),
            refused
        );
        // The audience is looked at first.
        let request = pb::FetchJwtsviDsRequest::default();
        let missing = (Code::InvalidArgument, "audience must be specified".to_owned());
        assert_eq!(refusal(client.fetch_jwtsvi_ds(request).await), missing);
    }
}

#[tokio::test(start_paused = true)]
async fn a_subject_is_named_in_one_way() {
    let (_lab, mut client) = delegate().await;
    let both = "must provide either selectors or non-zero PID, but not both";
    let nameless = types::Selector {
        r#type: "k8s:x".into(),
        value: String::new(),
    };
    for (selectors, pid, code, text) in [
        (of_others(), 1, Code::InvalidArgument, both),
        (Vec::new(), 0, Code::InvalidArgument, both),
        (
            vec![nameless],
            0,
            Code::InvalidArgument,
            "could not parse provided selectors",
        ),
        (Vec::new(), -1, Code::Unavailable, "workload attestation failed"),
        (
            Vec::new(),
            i32::MAX,
            Code::Unavailable,
            "workload attestation failed",
        ),
    ] {
        let request = pb::SubscribeToX509sviDsRequest {
            selectors: selectors.clone(),
            pid,
        };
        let answer = client.subscribe_to_x509svi_ds(request).await;
        assert_eq!(refusal(answer), (code, text.to_owned()));
        let request = pb::FetchJwtsviDsRequest {
            audience: vec!["a".into()],
            selectors,
            pid,
        };
        assert_eq!(
            refusal(client.fetch_jwtsvi_ds(request).await),
            (code, text.to_owned())
        );
    }
}

#[tokio::test(start_paused = true)]
async fn svids_come_without_admins_and_with_each_hint() {
    let (lab, mut client) = delegate().await;
    let mut stream = client
        .subscribe_to_x509svi_ds(by_selectors())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        next(&mut stream).await,
        pb::SubscribeToX509sviDsResponse::default(),
        "nobody is registered"
    );

    let powers = [(true, false), (false, true)];
    for (index, (admin, downstream)) in powers.into_iter().enumerate() {
        let entry = Entry {
            admin,
            downstream,
            ..others_entry(&format!("power{index}"))
        };
        lab.put(entry.clone());
        lab.sign(entry);
    }
    assert!(
        timeout(SOON, stream.message()).await.is_err(),
        "admins are no news"
    );
    let jwt = refusal(client.fetch_jwtsvi_ds(tokens_by_selectors()).await);
    assert_eq!(jwt, (Code::PermissionDenied, "no identity issued".to_owned()));

    for id in ["shop", "till"] {
        let entry = Entry {
            hint: "db".into(),
            federates_with: vec![trust_domain("other.test")],
            ..others_entry(id)
        };
        lab.put(entry.clone());
        lab.sign(entry);
    }
    let both = next(&mut stream).await;
    let both = if both.x509_svids.len() < 2 {
        next(&mut stream).await
    } else {
        both
    };
    assert_eq!(paths(&both), ["/shop", "/till"]);
    let [shop, _] = &both.x509_svids[..] else {
        panic!("not two")
    };
    let public = shop.x509_svid.as_ref().unwrap();
    assert_eq!(public.hint, "db");
    let end = (START + TTL).unix_seconds();
    assert!((end..end + 5).contains(&public.expires_at), "{public:?}");
    X509SvidKey::parse(&public.cert_chain.concat(), &shop.x509_svid_key).unwrap();
    lab.put_bundle(foreign_bundle("other.test", &TokenKey::new("other")));
    assert_eq!(next(&mut stream).await.federates_with, ["spiffe://other.test"]);

    let tokens = client
        .fetch_jwtsvi_ds(tokens_by_selectors())
        .await
        .unwrap()
        .into_inner()
        .svids;
    let ids: Vec<_> = tokens
        .iter()
        .map(|token| token.id.as_ref().unwrap().path.as_str())
        .collect();
    assert_eq!(ids, ["/shop", "/till"]);
    assert_eq!(tokens[0].expires_at - tokens[0].issued_at, 300);

    for id in ["shop", "till"] {
        lab.remove(id);
    }
    let none = next(&mut stream).await;
    let none = if none.x509_svids.is_empty() {
        none
    } else {
        next(&mut stream).await
    };
    assert!(none.x509_svids.is_empty());
}

#[tokio::test(start_paused = true)]
async fn what_is_not_signed_yet_is_waited_for_without_end() {
    let (lab, mut client) = delegate().await;
    lab.put(others_entry("shop"));
    let call = client.subscribe_to_x509svi_ds(by_selectors());
    let signing = async {
        tokio::time::sleep(Duration::from_secs(60)).await;
        lab.sign(others_entry("shop"));
    };
    let (stream, ()) = tokio::join!(call, signing);
    assert_eq!(paths(&next(&mut stream.unwrap().into_inner()).await), ["/shop"]);
}

#[tokio::test(start_paused = true)]
async fn a_stream_ends_when_its_caller_is_a_delegate_no_more() {
    let (lab, mut client) = delegate().await;
    lab.put(others_entry("shop"));
    lab.sign(others_entry("shop"));
    let mut stream = client
        .subscribe_to_x509svi_ds(by_selectors())
        .await
        .unwrap()
        .into_inner();
    next(&mut stream).await;
    lab.remove("delegate");
    lab.sign(others_entry("shop"));
    let end = stream.message().await.unwrap_err();
    assert_eq!(
        (end.code(), end.message()),
        (Code::PermissionDenied, "no identity issued")
    );
}

#[tokio::test(start_paused = true)]
async fn bundles_are_all_there_are_and_one_that_is_gone_is_withdrawn() {
    let (lab, mut client) = delegate().await;
    lab.put_bundle(foreign_bundle("other.test", &TokenKey::new("other")));
    let request = pb::SubscribeToX509BundlesRequest {};
    let mut x509 = client
        .subscribe_to_x509_bundles(request)
        .await
        .unwrap()
        .into_inner();
    let request = pb::SubscribeToJwtBundlesRequest {};
    let mut jwt = client
        .subscribe_to_jwt_bundles(request)
        .await
        .unwrap()
        .into_inner();
    let first = next(&mut x509).await.ca_certificates;
    // No entry of the delegate's names the other trust domain.
    assert_eq!(
        first.keys().collect::<Vec<_>>(),
        ["spiffe://example.org", "spiffe://other.test"]
    );
    assert_eq!(first["spiffe://example.org"], b"own root");
    let keys = next(&mut jwt).await.bundles;
    assert!(String::from_utf8_lossy(&keys["spiffe://other.test"]).contains("\"other\""));

    lab.put_bundle(foreign_bundle("third.test", &TokenKey::new("third")));
    assert_eq!(next(&mut x509).await.ca_certificates.len(), 3);
    assert_eq!(next(&mut jwt).await.bundles.len(), 3);
    let removed_bundles = vec![trust_domain("other.test"), trust_domain("third.test")];
    lab.cache.apply(CacheUpdate {
        removed_bundles,
        ..CacheUpdate::default()
    });
    assert_eq!(
        next(&mut x509)
            .await
            .ca_certificates
            .into_keys()
            .collect::<Vec<_>>(),
        ["spiffe://example.org"]
    );
    assert_eq!(next(&mut jwt).await.bundles.len(), 1);
    let bundle = Bundle {
        refresh_hint: Some(SOON),
        ..Bundle::clone(&lab.cache.bundle())
    };
    lab.put_bundle(bundle);
    assert!(
        timeout(SOON, x509.message()).await.is_err(),
        "the roots are the same"
    );
}

#[tokio::test]
async fn a_process_is_attested_for_its_delegate_until_it_ends() {
    let (lab, mut client) = delegate().await;
    lab.sign(own_entry("delegate"));
    let mut child = tokio::process::Command::new("cat")
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let pid = i32::try_from(child.id().unwrap()).unwrap();
    let request = pb::SubscribeToX509sviDsRequest {
        selectors: Vec::new(),
        pid,
    };
    let mut stream = client
        .subscribe_to_x509svi_ds(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        paths(&next(&mut stream).await),
        ["/delegate"],
        "the child is of the same user"
    );
    drop(child.stdin.take());
    child.wait().await.unwrap();
    let end = timeout(Duration::from_secs(60), stream.message())
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (end.code(), end.message()),
        (Code::Unavailable, "workload attestation failed")
    );
}

#[tokio::test(start_paused = true)]
async fn operators_see_what_is_held_and_set_the_log_level() {
    let lab = Lab::with_identities(2);
    let channel = admin(&lab).await;
    tokio::time::sleep(Duration::from_secs(90)).await;
    let info = DebugClient::new(channel.clone())
        .get_info(debug_pb::GetInfoRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!((info.uptime, info.last_sync_success), (90, START.unix_seconds()));
    assert_eq!(
        (info.cached_x509_svids_count, info.cached_jwt_svids_count),
        (2, 0)
    );
    assert_eq!(info.svid_chain[0].id.as_ref().unwrap().path, "/agent");
    assert_eq!(info.svid_chain[0].expires_at, (START + TTL).unix_seconds());

    let mut logger = LoggerClient::new(channel);
    let shown = |answer: Result<tonic::Response<types::Logger>, Status>| {
        let logger = answer.unwrap().into_inner();
        (
            logger.current_level().as_str_name(),
            logger.launch_level().as_str_name(),
        )
    };
    let debug = i32::from(types::LogLevel::Debug);
    assert_eq!(
        shown(logger.get_logger(logger_pb::GetLoggerRequest {}).await),
        ("INFO", "INFO")
    );
    let request = logger_pb::SetLogLevelRequest { new_level: debug };
    assert_eq!(shown(logger.set_log_level(request).await), ("DEBUG", "INFO"));
    assert_eq!(
        shown(logger.reset_log_level(logger_pb::ResetLogLevelRequest {}).await),
        ("INFO", "INFO")
    );
    for (new_level, text) in [
        (0, "newLevel value cannot be LogLevel_UNSPECIFIED"),
        (8, "unsupported log level"),
    ] {
        let refused = logger
            .set_log_level(logger_pb::SetLogLevelRequest { new_level })
            .await;
        assert_eq!(refusal(refused), (Code::InvalidArgument, text.to_owned()));
    }
}

#[tokio::test(start_paused = true)]
async fn operators_may_ask_why_here_too() {
    let lab = Lab::new(Setup::default());
    let mut client = NodeClient::new(admin(&lab).await);
    let request = explain_pb::ExplainProcessRequest {
        pid: i32::MAX,
        spiffe_id: String::new(),
    };
    let explained = client.explain_process(request).await.unwrap().into_inner();
    assert_eq!(explained.findings[0].cause, "no-process");
}
