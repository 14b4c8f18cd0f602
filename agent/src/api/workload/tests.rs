mod logged;
mod others;
mod vectors;

use std::time::Duration;

use credence_identity::{Bundle, Entry, EntryId, Timestamp, X509Authority};
use credence_test_support::arbitrary::follow;
use futures_util::StreamExt as _;
use tokio::time::{Instant, timeout};
use tonic::Code;

use super::*;
use crate::api::lab::*;
use crate::attestor::workload::ProcFs;
use crate::cache::TokenError;

const SOON: Duration = Duration::from_secs(1);

fn ids(message: &X509svidResponse) -> Vec<&str> {
    message.svids.iter().map(|svid| svid.spiffe_id.as_str()).collect()
}

/// Conforms: WEP-20
#[tokio::test(start_paused = true)]
async fn a_pending_identity_is_waited_for() {
    let lab = Lab::new(Setup::default());
    lab.put(own_entry("one"));
    let mut client = lab.client().await;
    let began = Instant::now();
    let refused = client
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap_err();
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(began.elapsed().as_secs(), 4);

    let call = client.fetch_x509svid(with_header(X509svidRequest {}));
    let signing = async {
        tokio::time::sleep(SOON).await;
        lab.sign(own_entry("one"));
    };
    let (answer, ()) = tokio::join!(call, signing);
    let first = answer.unwrap().into_inner().message().await.unwrap().unwrap();
    assert_eq!(ids(&first), ["spiffe://example.org/one"]);
}

/// Conforms: WAP-48
#[tokio::test(start_paused = true)]
async fn what_is_signed_is_served_when_the_rest_is_late() {
    let lab = Lab::with_identities(1);
    lab.put(own_entry("two"));
    let began = Instant::now();
    let mut stream = lab
        .client()
        .await
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        ids(&stream.message().await.unwrap().unwrap()),
        ["spiffe://example.org/one"]
    );
    assert_eq!(began.elapsed().as_secs(), 4);
    lab.sign(own_entry("two"));
    let both = stream.message().await.unwrap().unwrap();
    assert_eq!(
        ids(&both),
        ["spiffe://example.org/one", "spiffe://example.org/two"]
    );
}

/// Conforms: WAP-07
#[tokio::test(start_paused = true)]
async fn the_first_message_of_each_stream_comes_at_once() {
    let lab = Lab::with_wit(&["one"]);
    let began = Instant::now();
    for method in [
        "FetchX509SVID",
        "FetchX509Bundles",
        "FetchJWTBundles",
        "FetchWITSVID",
        "FetchWITBundles",
    ] {
        let path = format!("/SpiffeWorkloadAPI/{method}");
        // Each of them takes a request without fields.
        let stream = follow(lab.channel().await, &path, with_header(Vec::new())).await;
        assert!(stream.unwrap().message().await.unwrap().is_some(), "{method}");
    }
    assert_eq!(began.elapsed().as_millis(), 0, "nothing was waited for");
}

/// Conforms: WAP-22, WAP-30, WAP-35, WEP-18
#[tokio::test(start_paused = true)]
async fn a_caller_without_entry_is_refused_at_once() {
    let lab = Lab::new(Setup::default());
    lab.put(Entry {
        selectors: crate::cache::testing::selectors(&[250]),
        ..entry("one")
    });
    let mut client = lab.client().await;
    let began = Instant::now();
    let refusals = [
        client
            .fetch_x509svid(with_header(X509svidRequest {}))
            .await
            .unwrap_err(),
        client
            .fetch_x509_bundles(with_header(X509BundlesRequest {}))
            .await
            .unwrap_err(),
        client
            .fetch_jwt_bundles(with_header(JwtBundlesRequest {}))
            .await
            .unwrap_err(),
        {
            let request = JwtsvidRequest {
                audience: vec!["a".into()],
                spiffe_id: String::new(),
            };
            client.fetch_jwtsvid(with_header(request)).await.unwrap_err()
        },
    ];
    for refused in refusals {
        assert_eq!(
            (refused.code(), refused.message()),
            (Code::PermissionDenied, "no identity issued")
        );
    }
    assert_eq!(began.elapsed().as_millis(), 0);
}

/// Conforms: WAP-08, WAP-25, WAP-33, WAP-51
#[tokio::test(start_paused = true)]
async fn bundle_streams_need_no_signature_and_repeat_nothing() {
    let lab = Lab::new(Setup::default());
    lab.put(own_entry("one"));
    let mut client = lab.client().await;
    let mut x509 = client
        .fetch_x509_bundles(with_header(X509BundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    let mut jwt = client
        .fetch_jwt_bundles(with_header(JwtBundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        x509.message().await.unwrap().unwrap().bundles["spiffe://example.org"],
        b"own root"
    );
    jwt.message().await.unwrap().unwrap();

    // News of one kind is none of the other.
    lab.sign(own_entry("one"));
    let mut bundle = Bundle::clone(&lab.cache.bundle());
    bundle.jwt_authorities.push(TokenKey::new("next").authority());
    lab.put_bundle(bundle.clone());
    jwt.message().await.unwrap().unwrap();
    assert!(
        timeout(SOON, x509.message()).await.is_err(),
        "the X.509 roots are the same"
    );
    bundle.x509_authorities.push(X509Authority {
        der: b", next".as_slice().into(),
        tainted: false,
    });
    lab.put_bundle(bundle);
    assert_eq!(
        x509.message().await.unwrap().unwrap().bundles["spiffe://example.org"],
        b"own root, next"
    );
    assert!(
        timeout(SOON, jwt.message()).await.is_err(),
        "the JWT keys are the same"
    );
}

/// Conforms: WAP-06, WAP-08, WAP-48
#[tokio::test(start_paused = true)]
async fn renewals_and_only_changes_are_pushed() {
    let lab = Lab::with_identities(2);
    let mut stream = lab
        .client()
        .await
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    let first = stream.message().await.unwrap().unwrap();
    assert_eq!(first.svids[0].bundle, b"own root");
    assert!(timeout(SOON, stream.message()).await.is_err());
    // A new revision with the same documents.
    lab.put(Entry {
        revision_number: 7,
        ..own_entry("one")
    });
    lab.cache.apply(crate::cache::CacheUpdate::default());
    if let Ok(again) = timeout(SOON, stream.message()).await {
        panic!("pushed the same: {again:?}");
    }
    lab.sign(Entry {
        revision_number: 7,
        ..own_entry("one")
    });
    let next = stream.message().await.unwrap().unwrap();
    assert_eq!(ids(&next), ids(&first));
    assert_ne!(next.svids[0].x509_svid, first.svids[0].x509_svid);
    assert_eq!(next.svids[1], first.svids[1]);
}

#[tokio::test(start_paused = true)]
async fn what_expired_is_withheld_while_the_stream_lives_on() {
    let lab = Lab::with_identities(1);
    let mut stream = lab
        .client()
        .await
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    lab.clock.step_forward(2 * TTL);
    let mut bundle = Bundle::clone(&lab.cache.bundle());
    bundle.x509_authorities.push(X509Authority {
        der: b", next".as_slice().into(),
        tainted: false,
    });
    lab.put_bundle(bundle);
    assert!(timeout(Duration::from_secs(60), stream.message()).await.is_err());
    lab.sign(own_entry("one"));
    assert_eq!(
        stream.message().await.unwrap().unwrap().svids[0].bundle,
        b"own root, next"
    );
}

/// Conforms: WAP-22
#[tokio::test(start_paused = true)]
async fn a_stream_ends_with_the_last_entry_and_with_the_agent() {
    let lab = Lab::with_identities(1);
    let mut client = lab.client().await;
    let mut streams = [(); 2].map(|()| None);
    for stream in &mut streams {
        let opened = client
            .fetch_x509svid(with_header(X509svidRequest {}))
            .await
            .unwrap();
        stream
            .insert(opened.into_inner())
            .message()
            .await
            .unwrap()
            .unwrap();
    }
    let [mut stream, _] = streams.map(Option::unwrap);
    lab.remove("one");
    let end = stream.message().await.unwrap_err();
    assert_eq!(
        (end.code(), end.message()),
        (Code::PermissionDenied, "no identity issued")
    );

    lab.put(own_entry("two"));
    lab.sign(own_entry("two"));
    let mut stream = client
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    stream.message().await.unwrap().unwrap();
    lab.supervisor.shutdown();
    assert_eq!(stream.message().await.unwrap_err().code(), Code::Unavailable);
    lab.supervisor.wait().await.unwrap();
}

/// A `/proc` in which this process has the user id `uid` and the groups given.
fn pretend(root: &tempfile::TempDir, groups: &str) -> ProcFs {
    let folder = root.path().join(std::process::id().to_string());
    std::fs::create_dir_all(&folder).unwrap();
    let (uid, gid) = (nix::unistd::geteuid(), nix::unistd::getegid());
    std::fs::write(
        folder.join("stat"),
        "1 (x) S 1 1 1 0 -1 0 0 0 0 0 1 2 3 4 20 0 1 0 4711 0\n",
    )
    .unwrap();
    let status = format!("Uid:\t0\t{uid}\t0\t0\nGid:\t0\t{gid}\t0\t0\nGroups:\t{groups}\n");
    std::fs::write(folder.join("status"), status).unwrap();
    ProcFs::at(root.path())
}

/// Conforms: WEP-10
#[tokio::test(start_paused = true)]
async fn a_caller_is_attested_again_before_each_push() {
    let root = tempfile::tempdir().unwrap();
    let lab = Lab::new(Setup {
        proc: pretend(&root, "4000001"),
        ..Setup::default()
    });
    let group = |gid: u32| Entry {
        selectors: vec![
            credence_identity::Selector::new("unix", &format!("supplementary_gid:{gid}")).unwrap(),
        ],
        ..entry(&format!("g{gid}"))
    };
    for gid in [4_000_001, 4_000_002] {
        lab.put(group(gid));
        lab.sign(group(gid));
    }
    let mut stream = lab
        .client()
        .await
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        ids(&stream.message().await.unwrap().unwrap()),
        ["spiffe://example.org/g4000001"]
    );
    pretend(&root, "4000002");
    lab.sign(group(4_000_001));
    assert_eq!(
        ids(&stream.message().await.unwrap().unwrap()),
        ["spiffe://example.org/g4000002"]
    );
    // The stream follows what the caller is now.
    lab.sign(group(4_000_002));
    assert_eq!(
        ids(&stream.message().await.unwrap().unwrap()),
        ["spiffe://example.org/g4000002"]
    );
    std::fs::remove_dir_all(root.path().join(std::process::id().to_string())).unwrap();
    lab.sign(group(4_000_002));
    let end = stream.message().await.unwrap_err();
    assert_eq!(
        (end.code(), end.message()),
        (Code::Unavailable, "workload attestation failed")
    );
}

/// Conforms: WEP-27
#[tokio::test]
async fn a_stream_ends_with_its_process() {
    let lab = Lab::with_identities(1);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("api.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let script =
        "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); sys.stdin.read()";
    let mut process = tokio::process::Command::new("python3")
        .args(["-c", script])
        .arg(&path)
        .stdin(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let (connection, _) = listener.accept().await.unwrap();
    let mut stream = lab.open_as(&connection).await.unwrap();
    let first = stream.next().await.unwrap().unwrap();
    assert_eq!(ids(&first), ["spiffe://example.org/one"]);
    drop(process.stdin.take());
    let end = timeout(Duration::from_secs(60), stream.next())
        .await
        .unwrap()
        .unwrap()
        .unwrap_err();
    assert_eq!(
        (end.code(), end.message()),
        (Code::Unavailable, "workload attestation failed")
    );
    assert!(stream.next().await.is_none());
    process.wait().await.unwrap();
    let refused = lab.open_as(&connection).await.err().unwrap();
    assert_eq!(
        refused.code(),
        Code::Unavailable,
        "its connection is of no use to whoever holds it"
    );
}

#[tokio::test(start_paused = true)]
async fn a_request_of_ten_megabytes_is_refused_and_the_connection_lives_on() {
    let lab = Lab::with_identities(1);
    let mut client = lab.client().await;
    let request = ValidateJwtsvidRequest {
        audience: "a".into(),
        svid: "x".repeat(10_000_000),
    };
    let refused = client.validate_jwtsvid(with_header(request)).await.unwrap_err();
    assert!(refused.message().contains("too large"), "{refused:?}");
    let request = JwtsvidRequest {
        audience: vec!["a".into()],
        spiffe_id: String::new(),
    };
    client.fetch_jwtsvid(with_header(request)).await.unwrap();
}

/// Conforms: WAP-52
#[tokio::test(start_paused = true)]
async fn unauthenticated_verifiers_get_the_own_bundle_alone() {
    let workload = WorkloadOptions {
        allow_unauthenticated_verifiers: true,
        ..WorkloadOptions::default()
    };
    let lab = Lab::new(Setup {
        workload: Some(workload),
        ..Setup::default()
    });
    lab.put_bundle(foreign_bundle("other.test", &TokenKey::new("other")));
    let mut client = lab.client().await;
    let mut x509 = client
        .fetch_x509_bundles(with_header(X509BundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    let shown = x509.message().await.unwrap().unwrap().bundles;
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
    let mut jwt = client
        .fetch_jwt_bundles(with_header(JwtBundlesRequest {}))
        .await
        .unwrap()
        .into_inner();
    let shown = jwt.message().await.unwrap().unwrap().bundles;
    assert_eq!(shown.keys().collect::<Vec<_>>(), ["spiffe://example.org"]);
    let svids = client
        .fetch_x509svid(with_header(X509svidRequest {}))
        .await
        .unwrap_err();
    assert_eq!(svids.code(), Code::PermissionDenied);
    // One that gets an identity sees more on the same stream.
    lab.put(Entry {
        federates_with: vec![trust_domain("other.test")],
        ..own_entry("one")
    });
    let shown = x509.message().await.unwrap().unwrap().bundles;
    assert_eq!(
        shown.keys().collect::<Vec<_>>(),
        ["spiffe://example.org", "spiffe://other.test"]
    );
}

/// Conforms: WAP-49
#[tokio::test(start_paused = true)]
async fn jwt_failures_have_their_codes() {
    let lab = Lab::with_identities(2);
    let mut client = lab.client().await;
    let mut fetch = async |audience: &str, failure: Option<TokenError>| {
        let fails = failure.map(|failure| (EntryId::parse("two").unwrap(), failure));
        *lab.issuer.fails_for.lock().unwrap() = fails.into_iter().collect();
        let request = JwtsvidRequest {
            audience: vec![audience.into()],
            spiffe_id: String::new(),
        };
        client
            .fetch_jwtsvid(with_header(request))
            .await
            .map(|answer| answer.into_inner().svids.len())
    };
    let away = TokenError::Unavailable("server is away".into());
    let off = TokenError::Unsupported("JWT functionality is disabled".into());
    assert_eq!(fetch("a", None).await.unwrap(), 2);
    let failed = fetch("b", Some(away.clone())).await.unwrap_err();
    assert_eq!(
        (failed.code(), failed.message()),
        (Code::Unavailable, "could not fetch JWT-SVID: server is away")
    );
    let failed = fetch("c", Some(off)).await.unwrap_err();
    assert_eq!(
        (failed.code(), failed.message()),
        (Code::Unimplemented, "JWT functionality is disabled")
    );
    assert_eq!(fetch("a", Some(away)).await.unwrap(), 2, "from the cache");
    let failed = fetch("", None).await.unwrap_err();
    assert_eq!(
        (failed.code(), failed.message()),
        (Code::InvalidArgument, "audience must not be empty")
    );
}

/// Conforms: SID-29, WAP-38
#[tokio::test(start_paused = true)]
async fn foreign_tokens_show_the_claims_allowed() {
    let allowed = ["team".to_owned()].into();
    let workload = WorkloadOptions {
        allowed_foreign_jwt_claims: allowed,
        ..WorkloadOptions::default()
    };
    let lab = Lab::new(Setup {
        workload: Some(workload),
        ..Setup::default()
    });
    let key = TokenKey::new("other");
    lab.put_bundle(foreign_bundle("other.test", &key));
    lab.put(Entry {
        federates_with: vec![trust_domain("other.test")],
        ..own_entry("one")
    });
    let mut client = lab.client().await;
    let mut names = async |svid: String| {
        let request = ValidateJwtsvidRequest {
            audience: "a".into(),
            svid,
        };
        let answer = client
            .validate_jwtsvid(with_header(request))
            .await
            .unwrap()
            .into_inner();
        answer.claims.unwrap().fields.into_keys().collect::<Vec<_>>()
    };
    let more = serde_json::json!({"team": "red", "secret": 1});
    let foreign = key.token(&claims("spiffe://other.test/x", more.clone()));
    assert_eq!(names(foreign).await, ["aud", "exp", "sub", "team"]);
    assert_eq!(
        names(lab.own_token(more)).await,
        ["aud", "exp", "iat", "secret", "sub", "team"]
    );
}
