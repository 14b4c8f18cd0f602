//! FetchSecrets where we aren't SPIRE, and what any answer holds.

use credence_identity::X509Authority;
use credence_runtime::grpc::RequestId;
use tokio::time::Instant;

use super::*;
use crate::api::limits::RateLimits;
use crate::cache::testing::{START, authority};
use crate::explain::Stage;

async fn fetch(lab: &Lab, names: &[&str]) -> Result<DiscoveryResponse, Status> {
    let answer = envoy(lab).await.fetch_secrets(request(names)).await;
    answer.map(Response::into_inner)
}

#[tokio::test(start_paused = true)]
async fn all_names_of_one_thing_are_answered() {
    let lab = lab_with(Setup::default(), &[WORKLOAD, SECOND], &["otherdomain.test"]);
    let all = ["ALL", "ROOTCA", "default", OWN, WORKLOAD];
    let answer = fetch(&lab, &all).await.unwrap();
    assert_eq!(names_of(&answer), ["ALL", "ROOTCA", OWN, "default", WORKLOAD]);
    let [all, root, own, default, workload] = answer.resources.try_into().unwrap();
    assert_eq!(validator_of(&all).len(), 2);
    assert_eq!(validator_of(&root), validator_of(&own));
    assert_eq!(
        svid_of(&default).svid.chain_der(),
        svid_of(&workload).svid.chain_der()
    );
}

#[tokio::test(start_paused = true)]
async fn two_entries_of_one_identity_are_one_secret() {
    let lab = lab_with(Setup::default(), &[WORKLOAD, WORKLOAD], &[]);
    let answer = fetch(&lab, &[]).await.unwrap();
    assert_eq!(names_of(&answer), [OWN, WORKLOAD]);
    assert_eq!(names_of(&fetch(&lab, &["", ""]).await.unwrap()), [OWN, WORKLOAD]);
}

#[tokio::test(start_paused = true)]
async fn a_hint_that_two_identities_share_hides_none() {
    let lab = lab();
    let hinted = |number, id| Entry {
        hint: "internal".into(),
        ..numbered(number, id)
    };
    for entry in [hinted(1, WORKLOAD), hinted(2, SECOND)] {
        lab.put(entry.clone());
        lab.sign(entry);
    }
    let answer = fetch(&lab, &[WORKLOAD, SECOND]).await.unwrap();
    assert_eq!(names_of(&answer), [SECOND, WORKLOAD]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_signed_yet_is_waited_for_and_nothing_else_stands_in_for_it() {
    let lab = lab_with(Setup::default(), &[], &[]);
    lab.put(numbered(1, WORKLOAD));
    lab.put(numbered(2, SECOND));
    lab.sign(numbered(2, SECOND));
    let began = Instant::now();
    for name in ["default", WORKLOAD] {
        let refused = fetch(&lab, &[name]).await.unwrap_err();
        assert_eq!(refused.code(), Code::Unavailable, "{name}");
    }
    assert_eq!(began.elapsed().as_secs(), 8);
    for known in [&[SECOND, OWN][..], &["nobody"]] {
        drop(fetch(&lab, known).await);
    }
    assert_eq!(began.elapsed().as_secs(), 8, "nobody waits for others");
    let signing = async {
        tokio::time::sleep(SOON).await;
        lab.sign(numbered(1, WORKLOAD));
    };
    let (answer, ()) = tokio::join!(fetch(&lab, &["default"]), signing);
    let answer = answer.unwrap();
    assert_eq!(svid_of(&answer.resources[0]).svid.id.as_str(), WORKLOAD);
}

/// An authority for that long.
fn authority_until(days: u64) -> X509Authority {
    use credence_crypto::x509::{CaSubject, X509Ca};
    let key = PrivateKey::generate(credence_crypto::KeyType::EcP256).unwrap();
    let end = START + Duration::from_secs(days * 86_400);
    let name = trust_domain("otherdomain.test");
    let ca = X509Ca::self_sign(Arc::new(key), &name, &CaSubject::default(), START, end).unwrap();
    X509Authority {
        der: ca.certificate().der().clone(),
        tainted: false,
    }
}

#[tokio::test(start_paused = true)]
async fn nothing_expired_is_sent() {
    let lab = lab_with(Setup::default(), &[WORKLOAD], &["otherdomain.test"]);
    let foreign = |authorities| Bundle {
        x509_authorities: authorities,
        ..Bundle::empty(trust_domain("otherdomain.test"))
    };
    let (short, long) = (authority_until(1), authority_until(10));
    lab.put_bundle(foreign(vec![short.clone(), long.clone()]));
    let count = |answer: &DiscoveryResponse, name: &str| {
        let pem = validator_of(&answer.resources[0]).remove(name);
        pem.map(|pem| pem.matches("BEGIN").count())
    };
    let answer = fetch(&lab, &[FOREIGN]).await.unwrap();
    assert_eq!(count(&answer, "otherdomain.test"), Some(2));

    lab.clock.step_forward(Duration::from_secs(2 * 86_400));
    let answer = fetch(&lab, &[FOREIGN]).await.unwrap();
    assert_eq!(count(&answer, "otherdomain.test"), Some(1));
    let expired = fetch(&lab, &[WORKLOAD]).await.unwrap_err();
    assert_eq!(expired.code(), Code::Unavailable, "its SVID has ended too");

    lab.clock.step_forward(Duration::from_secs(20 * 86_400));
    let gone = fetch(&lab, &[FOREIGN]).await.unwrap_err();
    assert_eq!(gone.code(), Code::InvalidArgument);
    lab.put_bundle(Bundle {
        x509_authorities: vec![X509Authority {
            der: authority(),
            tainted: true,
        }],
        ..Bundle::empty(trust_domain("example.org"))
    });
    let answer = fetch(&lab, &["ALL"]).await.unwrap();
    assert_eq!(
        (count(&answer, "example.org"), count(&answer, "otherdomain.test")),
        (Some(1), None),
        "a tainted authority is believed until it is revoked"
    );
}

#[tokio::test(start_paused = true)]
async fn a_refusal_can_be_explained() {
    let lab = lab();
    let stage = |status: &Status| {
        let id = RequestId::of(status).unwrap();
        lab.ground.refusals.find(id).unwrap().stage.clone()
    };
    let refused = fetch(&lab, &[OWN, SECOND, "rootca"]).await.unwrap_err();
    let id = SpiffeId::parse(SECOND).unwrap();
    assert_eq!(stage(&refused), Stage::NoIdentity(Some(id)));
    let refused = fetch(&lab, &["rootca"]).await.unwrap_err();
    assert_eq!(stage(&refused), Stage::Request);
    let many: Vec<String> = (0..2000).map(|number| number.to_string()).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let refused = fetch(&lab, &many).await.unwrap_err();
    assert_eq!(
        (refused.code(), refused.message()),
        (Code::InvalidArgument, "more than 1000 resource names")
    );
}

#[tokio::test(start_paused = true)]
async fn the_methods_have_limits_of_their_own_and_can_be_switched_off() {
    let rate_limits = RateLimits {
        stream_secrets: Some(1),
        fetch_secrets: Some(1),
        ..RateLimits::default()
    };
    let limited = |sds| {
        lab_with(
            Setup {
                sds,
                ..Setup::default()
            },
            &[WORKLOAD],
            &[],
        )
    };
    let lab = limited(Some(SdsOptions {
        rate_limits,
        ..SdsOptions::default()
    }));
    assert!(fetch(&lab, &[OWN]).await.is_ok());
    let refused = fetch(&lab, &[OWN]).await.unwrap_err();
    let text = "rate limit exceeded for /envoy.service.secret.v3.SecretDiscoveryService/FetchSecrets";
    assert_eq!((refused.code(), refused.message()), (Code::Unavailable, text));
    // Of a stream its opening counts, not its requests.
    let mut stream = Stream::open(&lab).await;
    stream.ask(&[OWN]).await;
    stream.send(request(&[WORKLOAD])).await;
    let second = envoy(&lab).await.stream_secrets(tokio_stream::pending()).await;
    assert_eq!(second.unwrap_err().code(), Code::Unavailable);

    let off = fetch(&limited(None), &[OWN]).await.unwrap_err();
    assert_eq!(off.code(), Code::Unimplemented);
}

#[tokio::test(start_paused = true)]
async fn tools_learn_the_service_by_reflection() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    let lab = lab();
    // The types of its fields are in files that its own file doesn't import.
    for name in [
        "envoy.service.secret.v3.SecretDiscoveryService",
        "envoy.type.v3.SemanticVersion",
        "google.rpc.Status",
        "google.protobuf.Struct",
    ] {
        let asked = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::FileContainingSymbol(name.to_owned())),
        };
        let mut client = ServerReflectionClient::new(lab.channel().await);
        let answers = client.server_reflection_info(tokio_stream::iter([asked])).await;
        let answer = answers.unwrap().into_inner().message().await.unwrap().unwrap();
        let text = format!("{answer:?}");
        assert!(text.contains("FileDescriptorResponse"), "{name}: {text}");
    }
}
