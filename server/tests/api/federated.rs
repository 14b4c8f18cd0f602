//! Bundles of other trust domains: set by hand, listed, deleted, and handed to agents.

use credence_proto::spire::api::server::bundle::v1 as pb;
use credence_proto::spire::api::server::bundle::v1::bundle_client::BundleClient;
use credence_proto::spire::api::server::entry::v1::GetEntryRequest;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::types;
use pb::batch_delete_federated_bundle_request::Mode;
use tonic::Code;
use tonic::transport::Channel;

use crate::fixtures::{Foreign, certificate, expired_p521, jwt_key};
use crate::harness::{Lab, entry, ok, refused, refused_with, wire_id};

type Client = BundleClient<Channel>;

async fn client(lab: &Lab) -> Client {
    BundleClient::new(lab.local().await)
}

fn status(code: Code, message: &str) -> types::Status {
    types::Status {
        code: code.into(),
        message: message.to_owned(),
    }
}

async fn set(client: &mut Client, bundle: Vec<types::Bundle>) -> Vec<types::Status> {
    let request = pb::BatchSetFederatedBundleRequest {
        bundle,
        output_mask: None,
    };
    let answer = client.batch_set_federated_bundle(request).await.unwrap();
    let results = answer.into_inner().results.into_iter();
    results.map(|result| result.status.unwrap()).collect()
}

async fn get(client: &mut Client, name: &str) -> types::Bundle {
    let request = pb::GetFederatedBundleRequest {
        trust_domain: name.to_owned(),
        output_mask: None,
    };
    client.get_federated_bundle(request).await.unwrap().into_inner()
}

async fn delete(client: &mut Client, names: &[&str], mode: Mode) -> Vec<(String, types::Status)> {
    let request = pb::BatchDeleteFederatedBundleRequest {
        trust_domains: names.iter().map(|name| (*name).to_owned()).collect(),
        mode: mode.into(),
    };
    let answer = client.batch_delete_federated_bundle(request).await.unwrap();
    let results = answer.into_inner().results.into_iter();
    results
        .map(|result| (result.trust_domain, result.status.unwrap()))
        .collect()
}

/// The pages of a listing: names and the token of each.
async fn pages(client: &mut Client, page_size: i32) -> Vec<(Vec<String>, String)> {
    let (mut pages, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListFederatedBundlesRequest {
            page_size,
            page_token,
            output_mask: None,
        };
        let answer = client.list_federated_bundles(request).await.unwrap().into_inner();
        let names = answer.bundles.into_iter().map(|bundle| bundle.trust_domain);
        pages.push((names.collect(), answer.next_page_token.clone()));
        page_token = answer.next_page_token;
        if page_token.is_empty() {
            return pages;
        }
    }
}

#[tokio::test]
async fn a_bundle_is_created_once_and_read_back_as_it_was_sent() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let foreign = Foreign::new("b.test");
    let mut sent = foreign.bundle();
    sent.trust_domain = "spiffe://b.test".to_owned();
    sent.x509_authorities = vec![foreign.root(), foreign.root(), expired_p521()];
    sent.x509_authorities[0].tainted = true;
    sent.jwt_authorities[0].tainted = true;
    sent.jwt_authorities.push(jwt_key("kid-1"));
    sent.refresh_hint = -5;
    sent.sequence_number = u64::MAX;
    let request = pb::BatchCreateFederatedBundleRequest {
        bundle: vec![sent.clone(), sent.clone()],
        output_mask: None,
    };
    let answer = client
        .batch_create_federated_bundle(request)
        .await
        .unwrap()
        .into_inner();
    let [created, again] = &answer.results[..] else {
        panic!("{answer:?}");
    };
    let mut held = sent;
    held.trust_domain = "b.test".to_owned();
    held.x509_authorities[0].tainted = false;
    held.jwt_authorities[0].tainted = false;
    held.refresh_hint = 0;
    assert_eq!(
        (created.status.clone(), created.bundle.clone()),
        (Some(ok()), Some(held.clone()))
    );
    let exists = status(Code::AlreadyExists, "bundle already exists");
    assert_eq!((again.status.clone(), again.bundle.clone()), (Some(exists), None));
    assert_eq!(get(&mut client, "spiffe://b.test/any/path").await, held);
}

#[tokio::test]
async fn each_kind_of_write_names_what_is_wrong() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let good = Foreign::new("b.test").bundle();
    let bad = |change: fn(&mut types::Bundle)| {
        let mut bundle = good.clone();
        change(&mut bundle);
        bundle
    };
    let bundles = vec![
        bad(|bundle| bundle.trust_domain = "B.test".to_owned()),
        bad(|bundle| bundle.trust_domain.clear()),
        bad(|bundle| bundle.trust_domain = "example.org".to_owned()),
        bad(|bundle| bundle.x509_authorities.push(certificate(b"junk"))),
        bad(|bundle| bundle.jwt_authorities[0].key_id.clear()),
        bad(|bundle| bundle.jwt_authorities[0].public_key = b"junk".to_vec()),
    ];
    let wanted = |doing: &str| {
        [
            "trust domain argument is not valid: trust domain characters are limited to".to_owned(),
            "trust domain argument is not valid: trust domain is missing".to_owned(),
            format!("{doing} a federated bundle for the server's own trust domain is not allowed"),
            "failed to convert bundle: unable to parse X.509 authority: ".to_owned(),
            "failed to convert bundle: unable to parse JWT authority: missing key ID".to_owned(),
            "failed to convert bundle: unable to parse JWT authority: malformed".to_owned(),
        ]
    };
    let check = |doing: &str, found: Vec<Option<types::Status>>| {
        assert_eq!(found.len(), bundles.len(), "{doing}");
        for (found, wanted) in found.into_iter().flatten().zip(wanted(doing)) {
            assert_eq!(found.code, i32::from(Code::InvalidArgument), "{doing}: {found:?}");
            assert!(found.message.starts_with(&wanted), "{doing}: {found:?}");
        }
    };
    let request = pb::BatchCreateFederatedBundleRequest {
        bundle: bundles.clone(),
        output_mask: None,
    };
    let answer = client
        .batch_create_federated_bundle(request)
        .await
        .unwrap()
        .into_inner();
    check(
        "creating",
        answer.results.into_iter().map(|result| result.status).collect(),
    );
    let request = pb::BatchSetFederatedBundleRequest {
        bundle: bundles.clone(),
        output_mask: None,
    };
    let answer = client
        .batch_set_federated_bundle(request)
        .await
        .unwrap()
        .into_inner();
    check(
        "setting",
        answer.results.into_iter().map(|result| result.status).collect(),
    );
    let request = pb::BatchUpdateFederatedBundleRequest {
        bundle: bundles.clone(),
        ..Default::default()
    };
    let answer = client
        .batch_update_federated_bundle(request)
        .await
        .unwrap()
        .into_inner();
    check(
        "updating",
        answer.results.into_iter().map(|result| result.status).collect(),
    );
    assert_eq!(
        pages(&mut client, 0).await,
        [(vec![], String::new())],
        "nothing was written"
    );
}

/// Conforms: FED-29
#[tokio::test]
async fn an_update_changes_what_its_mask_names() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let (one, two) = (Foreign::new("b.test"), Foreign::new("b.test"));
    assert_eq!(set(&mut client, vec![one.bundle()]).await, [ok()]);
    let old = get(&mut client, "b.test").await;
    let new = types::Bundle {
        refresh_hint: 7,
        sequence_number: 1,
        ..two.bundle()
    };
    let mut update = async |bundle: types::Bundle, input_mask| {
        let request = pb::BatchUpdateFederatedBundleRequest {
            bundle: vec![bundle],
            input_mask,
            output_mask: None,
        };
        let answer = client.batch_update_federated_bundle(request).await.unwrap();
        let result = answer.into_inner().results.remove(0);
        (result.status.unwrap(), result.bundle)
    };
    let nothing = types::BundleMask::default();
    let none = update(new.clone(), Some(nothing)).await;
    assert_eq!(none, (ok(), Some(old.clone())));
    let hint = types::BundleMask {
        refresh_hint: true,
        ..nothing
    };
    let mut wanted = types::Bundle {
        refresh_hint: 7,
        ..old
    };
    assert_eq!(update(new.clone(), Some(hint)).await.1, Some(wanted.clone()));
    let roots = types::BundleMask {
        x509_authorities: true,
        ..nothing
    };
    wanted.x509_authorities = new.x509_authorities.clone();
    assert_eq!(update(new.clone(), Some(roots)).await.1, Some(wanted.clone()));
    // Without authorities the mask clears them.
    let bare = types::Bundle {
        trust_domain: "b.test".to_owned(),
        ..Default::default()
    };
    wanted.x509_authorities.clear();
    assert_eq!(update(bare, Some(roots)).await.1, Some(wanted.clone()));
    wanted.jwt_authorities = new.jwt_authorities.clone();
    let keys = types::BundleMask {
        jwt_authorities: true,
        ..nothing
    };
    assert_eq!(update(new.clone(), Some(keys)).await.1, Some(wanted));
    assert_eq!(update(new.clone(), None).await.1, Some(new));
    let unknown = Foreign::new("unknown.test").bundle();
    let missing = status(Code::NotFound, "bundle not found");
    assert_eq!(update(unknown, None).await, (missing, None));
}

/// Conforms: BND-20
#[tokio::test]
async fn output_masks_leave_the_name() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let sent = Foreign::new("b.test").bundle();
    let output_mask = Some(types::BundleMask {
        refresh_hint: true,
        ..Default::default()
    });
    let wanted = types::Bundle {
        trust_domain: "b.test".to_owned(),
        refresh_hint: 60,
        ..Default::default()
    };
    let request = pb::BatchSetFederatedBundleRequest {
        bundle: vec![sent],
        output_mask,
    };
    let answer = client
        .batch_set_federated_bundle(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.results[0].bundle, Some(wanted.clone()));
    let request = pb::ListFederatedBundlesRequest {
        output_mask,
        ..Default::default()
    };
    let answer = client.list_federated_bundles(request).await.unwrap().into_inner();
    assert_eq!(answer.bundles, [wanted]);
}

/// SPIRE drops the own bundle from a page that is made already; here pages are as long as they can be.
#[tokio::test]
async fn pages_are_in_the_order_of_creation_and_the_last_is_empty() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let bundles = ["c.test", "a.test", "b.test"].map(|name| Foreign::new(name).bundle());
    assert_eq!(set(&mut client, bundles.to_vec()).await, [ok(), ok(), ok()]);
    // Setting it again doesn't move it.
    assert_eq!(
        set(&mut client, vec![Foreign::new("c.test").bundle()]).await,
        [ok()]
    );
    let listed = pages(&mut client, 2).await;
    let names: Vec<Vec<&str>> = listed
        .iter()
        .map(|(names, _)| names.iter().map(String::as_str).collect())
        .collect();
    assert_eq!(names, [vec!["c.test", "a.test"], vec!["b.test"], vec![]]);
    assert_eq!(pages(&mut client, -1).await.len(), 1);
    let count = client.count_bundles(pb::CountBundlesRequest::default()).await;
    assert_eq!(count.unwrap().into_inner().count, 4, "the own one counts too");
    let request = pb::ListFederatedBundlesRequest {
        page_size: 1,
        page_token: "x".to_owned(),
        output_mask: None,
    };
    let text = "failed to list bundles: could not parse token 'x'";
    refused(client.list_federated_bundles(request).await, Code::Internal, text);
}

#[tokio::test]
async fn reading_one_bundle() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let foreign = Foreign::new("b.test");
    let mut local = client(&lab).await;
    let bundle = foreign.bundle();
    assert_eq!(set(&mut local, vec![bundle.clone()]).await, [ok()]);
    let mut of_agent = BundleClient::new(agent.channel);
    assert_eq!(get(&mut of_agent, "b.test").await, bundle);
    let ask = |name: &str| pb::GetFederatedBundleRequest {
        trust_domain: name.to_owned(),
        output_mask: None,
    };
    refused(
        local.get_federated_bundle(ask("")).await,
        Code::InvalidArgument,
        "trust domain argument is not valid: trust domain is missing",
    );
    refused_with(
        local.get_federated_bundle(ask("no domain")).await,
        Code::InvalidArgument,
        "trust domain argument is not valid: ",
    );
    refused(
        local.get_federated_bundle(ask("example.org")).await,
        Code::InvalidArgument,
        "getting a federated bundle for the server's own trust domain is not allowed",
    );
    let outcome = local.get_federated_bundle(ask("c.test")).await;
    refused(outcome, Code::NotFound, "bundle not found");
}

/// A lab with two bundles and entries that federate with one, the other and both.
async fn federating() -> (Lab, Client, Vec<types::Entry>) {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let bundles = ["a.test", "b.test"].map(|name| Foreign::new(name).bundle());
    assert_eq!(set(&mut client, bundles.to_vec()).await, [ok(), ok()]);
    let federating = |path: &str, names: &[&str]| types::Entry {
        federates_with: names.iter().map(|name| (*name).to_owned()).collect(),
        ..entry(&wire_id("/node"), path)
    };
    let entries = vec![
        federating("/a", &["a.test"]),
        federating("/b", &["b.test"]),
        federating("/both", &["a.test", "b.test"]),
        federating("/none", &[]),
    ];
    let entries = lab.create(entries).await;
    (lab, client, entries)
}

async fn held(lab: &Lab, entry: &types::Entry) -> Option<types::Entry> {
    let request = GetEntryRequest {
        id: entry.id.clone(),
        output_mask: None,
    };
    let found = EntryClient::new(lab.local().await).get_entry(request).await;
    found.ok().map(tonic::Response::into_inner)
}

#[tokio::test]
async fn restrict_keeps_what_entries_federate_with() {
    let (lab, mut client, entries) = federating().await;
    let text = "failed to delete federated bundle: datastore-sql: cannot delete bundle; federated with 2 registration entries";
    let deleted = delete(&mut client, &["a.test", "spiffe://b.test"], Mode::Restrict).await;
    let kept = status(Code::FailedPrecondition, text);
    assert_eq!(
        deleted,
        [
            ("a.test".to_owned(), kept.clone()),
            ("spiffe://b.test".to_owned(), kept)
        ]
    );
    assert_eq!(held(&lab, &entries[2]).await, Some(entries[2].clone()));
    assert_eq!(
        set(&mut client, vec![Foreign::new("c.test").bundle()]).await,
        [ok()]
    );
    let deleted = delete(&mut client, &["c.test", "c.test"], Mode::Restrict).await;
    let gone = status(Code::NotFound, "bundle not found");
    assert_eq!(
        deleted,
        [("c.test".to_owned(), ok()), ("c.test".to_owned(), gone)]
    );
}

/// SPIRE leaves the revision as it was, so its agents go on asking for a bundle that is gone.
#[tokio::test]
async fn dissociate_unlinks_and_raises_the_revision() {
    let (lab, mut client, entries) = federating().await;
    let deleted = delete(&mut client, &["a.test", "b.test"], Mode::Dissociate).await;
    assert!(deleted.iter().all(|(_, status)| *status == ok()), "{deleted:?}");
    for (entry, revision_number) in entries.iter().zip([1, 1, 2, 0]) {
        let wanted = types::Entry {
            federates_with: Vec::new(),
            revision_number,
            ..entry.clone()
        };
        assert_eq!(held(&lab, entry).await, Some(wanted));
    }
    assert_eq!(pages(&mut client, 0).await, [(vec![], String::new())]);
}

#[tokio::test]
async fn delete_takes_the_entries_along() {
    let (lab, mut client, entries) = federating().await;
    let deleted = delete(&mut client, &["b.test", "a.test"], Mode::Delete).await;
    assert!(deleted.iter().all(|(_, status)| *status == ok()), "{deleted:?}");
    for (entry, left) in entries.iter().zip([false, false, false, true]) {
        assert_eq!(held(&lab, entry).await.is_some(), left, "{entry:?}");
    }
}

#[tokio::test]
async fn a_refused_deletion_says_why() {
    let lab = Lab::start().await;
    let mut client = client(&lab).await;
    let deleted = delete(&mut client, &["", "example.org"], Mode::Delete).await;
    let empty = status(
        Code::InvalidArgument,
        "trust domain argument is not valid: trust domain is missing",
    );
    let own = status(
        Code::InvalidArgument,
        "removing the bundle for the server trust domain is not allowed",
    );
    assert_eq!(deleted, [(String::new(), empty), ("example.org".to_owned(), own)]);
    let request = pb::BatchDeleteFederatedBundleRequest {
        trust_domains: vec!["b.test".to_owned()],
        mode: 9,
    };
    let text = "failed to parse deletion mode: unhandled delete mode \"9\"";
    let outcome = client.batch_delete_federated_bundle(request).await;
    refused(outcome, Code::InvalidArgument, text);
}

/// An admin of another trust domain comes in by that domain's bundle, and not without it.
#[tokio::test]
async fn a_foreign_admin_is_known_by_its_bundle() {
    let foreign = Foreign::new("b.test");
    let admin = credence_identity::SpiffeId::parse("spiffe://b.test/admin").unwrap();
    let lab = Lab::start_with(|plan| {
        plan.admin_ids.insert(admin);
    })
    .await;
    let svid = foreign.svid("/admin");
    let count = async |channel: Channel| {
        let mut client = BundleClient::new(channel);
        client.count_bundles(pb::CountBundlesRequest::default()).await
    };
    count(lab.peer(&svid).await).await.unwrap_err();
    let mut local = client(&lab).await;
    assert_eq!(set(&mut local, vec![foreign.bundle()]).await, [ok()]);
    let counted = count(lab.peer(&svid).await).await.unwrap().into_inner();
    assert_eq!(counted.count, 2);
    // Nobody else of that trust domain is let in at all.
    count(lab.peer(&foreign.svid("/other")).await).await.unwrap_err();
}
