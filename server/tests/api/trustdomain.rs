//! Federation relationships: created, updated, listed and deleted.

use credence_proto::spire::api::server::bundle::v1 as bundle_pb;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::trustdomain::v1 as pb;
use credence_proto::spire::api::server::trustdomain::v1::trust_domain_client::TrustDomainClient;
use credence_proto::spire::api::types;
use tonic::Code;
use tonic::transport::Channel;
use types::federation_relationship::BundleEndpointProfile as Profile;

use crate::fixtures::Foreign;
use crate::harness::{Lab, ok, refused, refused_with};

type Client = TrustDomainClient<Channel>;
type Answer = (types::Status, Option<types::FederationRelationship>);

async fn client(lab: &Lab) -> Client {
    TrustDomainClient::new(lab.local().await)
}

fn status(code: Code, message: &str) -> types::Status {
    types::Status {
        code: code.into(),
        message: message.to_owned(),
    }
}

fn web(name: &str) -> types::FederationRelationship {
    types::FederationRelationship {
        trust_domain: name.to_owned(),
        bundle_endpoint_url: format!("https://{name}/bundle"),
        bundle_endpoint_profile: Some(Profile::HttpsWeb(types::HttpsWebProfile {})),
        trust_domain_bundle: None,
    }
}

fn spiffe(name: &str, endpoint: &str) -> types::FederationRelationship {
    let profile = types::HttpsspiffeProfile {
        endpoint_spiffe_id: endpoint.to_owned(),
    };
    types::FederationRelationship {
        bundle_endpoint_profile: Some(Profile::HttpsSpiffe(profile)),
        ..web(name)
    }
}

async fn create(client: &mut Client, sent: Vec<types::FederationRelationship>) -> Vec<Answer> {
    let request = pb::BatchCreateFederationRelationshipRequest {
        federation_relationships: sent,
        output_mask: None,
    };
    let answer = client
        .batch_create_federation_relationship(request)
        .await
        .unwrap();
    let results = answer.into_inner().results.into_iter();
    results
        .map(|result| (result.status.unwrap(), result.federation_relationship))
        .collect()
}

async fn update(
    client: &mut Client,
    sent: types::FederationRelationship,
    input_mask: Option<types::FederationRelationshipMask>,
) -> Answer {
    let request = pb::BatchUpdateFederationRelationshipRequest {
        federation_relationships: vec![sent],
        input_mask,
        output_mask: None,
    };
    let answer = client
        .batch_update_federation_relationship(request)
        .await
        .unwrap();
    let result = answer.into_inner().results.remove(0);
    (result.status.unwrap(), result.federation_relationship)
}

async fn get(client: &mut Client, name: &str) -> types::FederationRelationship {
    let request = pb::GetFederationRelationshipRequest {
        trust_domain: name.to_owned(),
        output_mask: None,
    };
    client
        .get_federation_relationship(request)
        .await
        .unwrap()
        .into_inner()
}

/// Conforms: FED-06, FED-08
#[tokio::test]
async fn relationships_come_back_as_they_were_sent() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let bundle = Foreign::new("c.test").bundle();
    let sent = vec![
        types::FederationRelationship {
            bundle_endpoint_url: "HTTPS://b.test:8443/Bundle?x=%20".to_owned(),
            ..web("spiffe://b.test")
        },
        types::FederationRelationship {
            trust_domain_bundle: Some(bundle.clone()),
            ..spiffe("c.test", "spiffe://other.test/endpoint")
        },
    ];
    let created = create(&mut client, sent).await;
    let first = types::FederationRelationship {
        bundle_endpoint_url: "https://b.test:8443/Bundle?x=%20".to_owned(),
        ..web("b.test")
    };
    let second = types::FederationRelationship {
        trust_domain_bundle: Some(bundle.clone()),
        ..spiffe("c.test", "spiffe://other.test/endpoint")
    };
    assert_eq!(
        created,
        [(ok(), Some(first.clone())), (ok(), Some(second.clone()))]
    );
    assert_eq!(get(&mut client, "spiffe://b.test").await, first);
    assert_eq!(get(&mut client, "c.test").await, second);
    // The bundle that came with it is the federated bundle.
    let request = bundle_pb::GetFederatedBundleRequest {
        trust_domain: "c.test".to_owned(),
        output_mask: None,
    };
    let mut bundles = BundleClient::new(lab.local().await);
    let stored = bundles.get_federated_bundle(request).await.unwrap().into_inner();
    assert_eq!(stored, bundle);

    let output_mask = Some(types::FederationRelationshipMask::default());
    let request = pb::GetFederationRelationshipRequest {
        trust_domain: "c.test".to_owned(),
        output_mask,
    };
    let masked = client
        .get_federation_relationship(request)
        .await
        .unwrap()
        .into_inner();
    let bare = types::FederationRelationship {
        trust_domain: "c.test".to_owned(),
        ..Default::default()
    };
    assert_eq!(masked, bare);
}

/// Conforms: FED-01, FED-05, FED-07, FED-42
#[tokio::test]
async fn what_is_wrong_with_a_relationship() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let url = |url: &str| types::FederationRelationship {
        bundle_endpoint_url: url.to_owned(),
        ..web("b.test")
    };
    let bundle = |bundle: types::Bundle| types::FederationRelationship {
        trust_domain_bundle: Some(bundle),
        ..web("b.test")
    };
    let mut junk = Foreign::new("b.test").bundle();
    junk.x509_authorities[0].asn1.push(0);
    let cases = [
        (web(""), "failed to parse trust domain: trust domain is missing"),
        (url(""), "bundle endpoint URL must use the https scheme"),
        (
            url("http://b.test"),
            "bundle endpoint URL must use the https scheme",
        ),
        (url("https://"), "bundle endpoint URL must specify the host"),
        (url("https://:8443"), "bundle endpoint URL must specify the host"),
        (
            url("https://me@b.test"),
            "bundle endpoint URL must not contain user info",
        ),
        (url("https://b.test/%zz"), "failed to parse bundle endpoint URL: "),
        (
            types::FederationRelationship {
                bundle_endpoint_profile: None,
                ..web("b.test")
            },
            "unsupported bundle endpoint profile type: <nil>",
        ),
        (
            spiffe("b.test", ""),
            "failed to parse endpoint SPIFFE ID: cannot be empty",
        ),
        (spiffe("b.test", "b.test"), "failed to parse endpoint SPIFFE ID: "),
        (
            bundle(Foreign::new("c.test").bundle()),
            "trust domain bundle (\"c.test\") must match the trust domain of the federation relationship (\"b.test\")",
        ),
        (
            bundle(types::Bundle::default()),
            "failed to parse bundle: invalid trust domain: ",
        ),
        (
            bundle(junk),
            "failed to parse bundle: unable to parse X.509 authority: ",
        ),
    ];
    let sent = cases.iter().map(|(sent, _)| sent.clone()).collect();
    let answers = create(&mut client, sent).await;
    for ((sent, wanted), (found, none)) in cases.iter().zip(answers) {
        let wanted = format!("failed to convert federation relationship: {wanted}");
        assert_eq!(
            (found.code, none),
            (Code::InvalidArgument.into(), None),
            "{sent:?}"
        );
        assert!(found.message.starts_with(&wanted), "{found:?}, not {wanted}");
        // An update checks the whole, whatever its mask.
        let nothing = types::FederationRelationshipMask::default();
        assert_eq!(update(&mut client, sent.clone(), Some(nothing)).await.0, found);
    }
    let own = create(&mut client, vec![web("example.org")]).await;
    let text = "unable to create federation relationship for server trust domain";
    assert_eq!(own, [(status(Code::InvalidArgument, text), None)]);
    let listed = client
        .list_federation_relationships(pb::ListFederationRelationshipsRequest::default())
        .await;
    assert!(listed.unwrap().into_inner().federation_relationships.is_empty());
}

/// Conforms: FED-42
#[tokio::test]
async fn one_relationship_per_trust_domain() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let other = types::FederationRelationship {
        bundle_endpoint_url: "https://elsewhere.test".to_owned(),
        trust_domain_bundle: Some(Foreign::new("b.test").bundle()),
        ..web("b.test")
    };
    let answers = create(&mut client, vec![web("b.test"), other]).await;
    assert_eq!(answers[0], (ok(), Some(web("b.test"))));
    assert_eq!(answers[1].0.code, i32::from(Code::Internal));
    assert!(
        answers[1]
            .0
            .message
            .starts_with("failed to create federation relationship: ")
    );
    assert_eq!(
        get(&mut client, "b.test").await,
        web("b.test"),
        "not even its bundle"
    );
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    create(&mut client, vec![web("b.test")]).await;
    let bundle = Foreign::new("b.test").bundle();
    let new = types::FederationRelationship {
        bundle_endpoint_url: "https://new.test".to_owned(),
        trust_domain_bundle: Some(bundle.clone()),
        ..spiffe("b.test", "spiffe://b.test/endpoint")
    };
    let nothing = types::FederationRelationshipMask::default();
    let same = update(&mut client, new.clone(), Some(nothing)).await;
    assert_eq!(same, (ok(), Some(web("b.test"))));
    let mut wanted = web("b.test");
    wanted.bundle_endpoint_profile = new.bundle_endpoint_profile.clone();
    let mask = types::FederationRelationshipMask {
        bundle_endpoint_profile: true,
        ..nothing
    };
    assert_eq!(
        update(&mut client, new.clone(), Some(mask)).await.1,
        Some(wanted.clone())
    );
    wanted.trust_domain_bundle = Some(bundle);
    let mask = types::FederationRelationshipMask {
        trust_domain_bundle: true,
        ..nothing
    };
    assert_eq!(update(&mut client, new.clone(), Some(mask)).await.1, Some(wanted));
    assert_eq!(update(&mut client, new.clone(), None).await.1, Some(new.clone()));
    // Without a bundle in the request the stored one stays.
    let bare = types::FederationRelationship {
        trust_domain_bundle: None,
        ..new.clone()
    };
    assert_eq!(update(&mut client, bare, None).await.1, Some(new));
    let text =
        "failed to update federation relationship: unable to fetch federation relationship: record not found";
    for name in ["unknown.test", "example.org"] {
        let missing = update(&mut client, web(name), None).await;
        assert_eq!(missing, (status(Code::Internal, text), None));
    }
}

#[tokio::test]
async fn deletions_are_complete_but_for_the_bundle() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let with_bundle = types::FederationRelationship {
        trust_domain_bundle: Some(Foreign::new("b.test").bundle()),
        ..web("b.test")
    };
    create(&mut client, vec![with_bundle.clone()]).await;
    let request = pb::BatchDeleteFederationRelationshipRequest {
        trust_domains: ["spiffe://b.test", "b.test", "", "B.test"]
            .map(str::to_owned)
            .to_vec(),
    };
    let answer = client
        .batch_delete_federation_relationship(request)
        .await
        .unwrap();
    let results: Vec<(String, types::Status)> = answer
        .into_inner()
        .results
        .into_iter()
        .map(|result| (result.trust_domain, result.status.unwrap()))
        .collect();
    let gone = status(Code::NotFound, "federation relationship not found");
    let empty = status(Code::InvalidArgument, "missing trust domain");
    assert_eq!(results[0], ("b.test".to_owned(), ok()));
    assert_eq!(results[1], ("b.test".to_owned(), gone));
    assert_eq!(results[2], (String::new(), empty));
    assert_eq!(results[3].0, "B.test");
    assert!(results[3].1.message.starts_with("failed to parse trust domain: "));
    let count = BundleClient::new(lab.local().await)
        .count_bundles(bundle_pb::CountBundlesRequest::default())
        .await;
    assert_eq!(count.unwrap().into_inner().count, 2);
    // So the same can be done again; what is shown is what came with the request.
    assert_eq!(
        create(&mut client, vec![web("b.test")]).await,
        [(ok(), Some(web("b.test")))]
    );
    assert_eq!(get(&mut client, "b.test").await, with_bundle);
}

#[tokio::test]
async fn pages_and_refusals() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    create(&mut client, ["c.test", "a.test", "b.test"].map(web).to_vec()).await;
    let mut list = async |page_size, page_token: &str| {
        let request = pb::ListFederationRelationshipsRequest {
            page_size,
            page_token: page_token.to_owned(),
            output_mask: None,
        };
        client.list_federation_relationships(request).await.map(|answer| {
            let answer = answer.into_inner();
            let held = answer.federation_relationships.into_iter();
            let names: Vec<String> = held.map(|held| held.trust_domain).collect();
            (names, answer.next_page_token)
        })
    };
    let (names, token) = list(2, "").await.unwrap();
    assert_eq!(names, ["c.test", "a.test"]);
    let (names, token) = list(2, &token).await.unwrap();
    assert_eq!(names, ["b.test"]);
    assert_eq!(list(2, &token).await.unwrap(), (vec![], String::new()));
    let (names, token) = list(0, "junk").await.unwrap();
    assert_eq!((names.len(), token.as_str()), (3, ""));
    let text = "failed to list federation relationships: could not parse token 'junk'";
    refused(list(1, "junk").await, Code::Internal, text);

    let ask = |name: &str| pb::GetFederationRelationshipRequest {
        trust_domain: name.to_owned(),
        output_mask: None,
    };
    let outcome = client.get_federation_relationship(ask("")).await;
    refused_with(outcome, Code::InvalidArgument, "failed to parse trust domain: ");
    let outcome = client.get_federation_relationship(ask("unknown.test")).await;
    refused(outcome, Code::NotFound, "federation relationship does not exist");
}
