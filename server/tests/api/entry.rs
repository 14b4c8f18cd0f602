//! Registration entries: what operators do with them, and what agents see.

use credence_proto::spire::api::server::entry::v1 as pb;
use credence_proto::spire::api::server::entry::v1::entry_client::EntryClient;
use credence_proto::spire::api::types;
use credence_proto::spire::api::types::selector_match::MatchBehavior;
use tonic::Code;
use tonic::transport::Channel;

use crate::harness::{Lab, NOW, entry, ok, refused, refused_with, selector, wire_id};

const PARENT: &str = "/spire/agent/join_token/x";

async fn client(lab: &Lab) -> EntryClient<Channel> {
    EntryClient::new(lab.local().await)
}

async fn try_create(lab: &Lab, entry: types::Entry) -> pb::batch_create_entry_response::Result {
    let request = pb::BatchCreateEntryRequest {
        entries: vec![entry],
        output_mask: None,
    };
    let answer = client(lab).await.batch_create_entry(request).await.unwrap();
    answer.into_inner().results.into_iter().next().unwrap()
}

async fn count(lab: &Lab) -> i32 {
    client(lab)
        .await
        .count_entries(pb::CountEntriesRequest::default())
        .await
        .unwrap()
        .into_inner()
        .count
}

fn valid() -> types::Entry {
    entry(&wire_id(PARENT), "/workload")
}

#[tokio::test]
async fn an_entry_comes_back_as_it_was_made() {
    let lab = Lab::start().await;
    let asked = types::Entry {
        id: "chosen.id_1".to_owned(),
        selectors: vec![selector("unix:uid:2"), selector("unix:gid:1")],
        x509_svid_ttl: 60,
        jwt_svid_ttl: 30,
        federates_with: vec!["spiffe://example.org".to_owned()],
        admin: true,
        downstream: true,
        expires_at: NOW.unix_seconds() + 100,
        dns_names: vec!["b.example.org".to_owned(), "a.example.org".to_owned()],
        hint: "primary".to_owned(),
        revision_number: 7,
        created_at: 7,
        additional_attributes: Some(types::entry::AdditionalAttributes {
            disable_x509_svid_prefetch: true,
            jwt_svid_include_jti: false,
        }),
        ..valid()
    };
    let created = try_create(&lab, asked.clone()).await;
    assert_eq!(created.status, Some(ok()));
    let stored = types::Entry {
        federates_with: vec!["example.org".to_owned()],
        revision_number: 0,
        created_at: NOW.unix_seconds(),
        ..asked
    };
    let sorted = types::Entry {
        selectors: vec![selector("unix:gid:1"), selector("unix:uid:2")],
        dns_names: vec!["a.example.org".to_owned(), "b.example.org".to_owned()],
        ..stored.clone()
    };
    let created = created.entry.unwrap();
    assert!((created.created_at - NOW.unix_seconds()).abs() < 60);
    let stored = types::Entry {
        created_at: created.created_at,
        ..stored
    };
    assert_eq!(
        created,
        types::Entry {
            created_at: created.created_at,
            ..sorted
        }
    );
    let request = pb::GetEntryRequest {
        id: "chosen.id_1".to_owned(),
        output_mask: None,
    };
    assert_eq!(
        client(&lab).await.get_entry(request).await.unwrap().into_inner(),
        stored
    );
    let mask = Some(types::EntryMask {
        hint: true,
        ..Default::default()
    });
    let request = pb::GetEntryRequest {
        id: "chosen.id_1".to_owned(),
        output_mask: mask,
    };
    let masked = client(&lab).await.get_entry(request).await.unwrap().into_inner();
    let expected = types::Entry {
        id: stored.id,
        hint: stored.hint,
        ..Default::default()
    };
    assert_eq!(masked, expected);
}

/// Conforms: SID-22, SID-34, WAP-21
#[tokio::test]
async fn bad_input_names_the_field_and_changes_nothing() {
    let lab = Lab::start().await;
    let long_path = format!("/{}", "a".repeat(2049 - "spiffe://example.org/".len()));
    let at = |change: fn(&mut types::Entry)| {
        let mut entry = valid();
        change(&mut entry);
        entry
    };
    let cases = [
        (
            at(|e| e.spiffe_id = None),
            "failed to convert entry: invalid spiffe ID: request must specify SPIFFE ID",
        ),
        (
            at(|e| e.spiffe_id = Some(types::Spiffeid::default())),
            "failed to convert entry: invalid spiffe ID: trust domain is missing",
        ),
        (
            types::Entry {
                spiffe_id: Some(wire_id(&long_path)),
                ..valid()
            },
            "failed to convert entry: invalid spiffe ID: SPIFFE ID is longer than 2048 bytes",
        ),
        (
            types::Entry {
                spiffe_id: Some(wire_id("/spire/server")),
                ..valid()
            },
            "failed to convert entry: invalid spiffe ID: \"spiffe://example.org/spire/server\" is not a workload",
        ),
        (
            at(|e| e.spiffe_id.as_mut().unwrap().trust_domain = "other.org".to_owned()),
            "failed to convert entry: invalid spiffe ID: \"spiffe://other.org/workload\" is not a member of trust domain \"example.org\"",
        ),
        (
            at(|e| e.spiffe_id.as_mut().unwrap().trust_domain = "EXAMPLE.org".to_owned()),
            "failed to convert entry: invalid spiffe ID: trust domain characters are limited",
        ),
        (
            at(|e| e.parent_id = None),
            "failed to convert entry: invalid parent ID: request must specify SPIFFE ID",
        ),
        (
            types::Entry {
                parent_id: Some(wire_id("")),
                ..valid()
            },
            "failed to convert entry: invalid parent ID: \"spiffe://example.org\" is not a member",
        ),
        (
            at(|e| e.selectors.clear()),
            "failed to convert entry: selector list is empty",
        ),
        (
            at(|e| {
                e.selectors = vec![types::Selector {
                    r#type: "a:b".to_owned(),
                    value: "c".to_owned(),
                }]
            }),
            "failed to convert entry: selector type contains ':'",
        ),
        (
            at(|e| {
                e.selectors = vec![types::Selector {
                    r#type: String::new(),
                    value: "c".to_owned(),
                }]
            }),
            "failed to convert entry: missing selector type",
        ),
        (
            at(|e| {
                e.selectors = vec![types::Selector {
                    r#type: "unix".to_owned(),
                    value: String::new(),
                }]
            }),
            "failed to convert entry: missing selector value",
        ),
        (
            at(|e| e.dns_names = vec!["a..b".to_owned()]),
            "failed to convert entry: invalid DNS name: ",
        ),
        (
            at(|e| e.federates_with = vec!["Bad".to_owned()]),
            "failed to convert entry: invalid federated trust domain: ",
        ),
        (
            at(|e| e.hint = "x".repeat(1025)),
            "failed to convert entry: hint is too long",
        ),
        (
            at(|e| e.id = "no/slash".to_owned()),
            "failed to create entry: datastore-validation: invalid registration entry: entry ID",
        ),
        (
            at(|e| e.id = "x".repeat(256)),
            "failed to create entry: datastore-validation: invalid registration entry: entry ID too long",
        ),
        (
            at(|e| e.x509_svid_ttl = -1),
            "failed to create entry: datastore-validation: invalid registration entry: X509SvidTtl",
        ),
        (
            at(|e| e.jwt_svid_ttl = -1),
            "failed to create entry: datastore-validation: invalid registration entry: JwtSvidTtl",
        ),
    ];
    for (entry, text) in cases {
        let result = try_create(&lab, entry).await;
        let status = result.status.unwrap();
        assert_eq!(status.code, Code::InvalidArgument as i32, "{status:?}");
        assert!(status.message.starts_with(text), "{}\n{text}", status.message);
        assert!(result.entry.is_none());
    }
    let unknown = types::Entry {
        federates_with: vec!["other.org".to_owned()],
        ..valid()
    };
    let status = try_create(&lab, unknown).await.status.unwrap();
    let text = "failed to create entry: unable to find federated bundle \"spiffe://other.org\"";
    assert_eq!(
        (status.code, status.message.as_str()),
        (Code::Internal as i32, text)
    );
    let twice = types::Entry {
        selectors: vec![selector("a:b"), selector("a:b")],
        ..valid()
    };
    let status = try_create(&lab, twice).await.status.unwrap();
    assert_eq!(status.code, Code::AlreadyExists as i32, "{status:?}");
    assert_eq!(count(&lab).await, 0);
    // The longest ID there may be.
    let longest = types::Entry {
        spiffe_id: Some(wire_id(&long_path[..long_path.len() - 1])),
        ..valid()
    };
    assert_eq!(try_create(&lab, longest).await.status, Some(ok()));
}

#[tokio::test]
async fn a_similar_entry_is_answered_with_the_one_there_is() {
    let lab = Lab::start().await;
    let two = types::Entry {
        selectors: vec![selector("a:1"), selector("b:2")],
        ..valid()
    };
    let first = lab.create(vec![two.clone()]).await.remove(0);
    let turned = types::Entry {
        selectors: vec![selector("b:2"), selector("a:1")],
        ..two.clone()
    };
    let exists = types::Status {
        code: Code::AlreadyExists as i32,
        message: "similar entry already exists".to_owned(),
    };
    let again = try_create(&lab, turned).await;
    assert_eq!(again.status, Some(exists.clone()));
    assert_eq!(again.entry.unwrap().id, first.id);
    let taken = types::Entry {
        id: first.id.clone(),
        ..valid()
    };
    let result = try_create(&lab, taken).await;
    assert_eq!(result.status.unwrap().code, Code::AlreadyExists as i32);
    assert!(result.entry.is_none(), "an ID that is taken shows no entry");
    let other = types::Entry {
        spiffe_id: Some(wire_id("/other")),
        ..valid()
    };
    let request = pb::BatchCreateEntryRequest {
        entries: vec![other.clone(), other],
        output_mask: None,
    };
    let results = client(&lab)
        .await
        .batch_create_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    assert_eq!(
        (&results[0].status, &results[1].status),
        (&Some(ok()), &Some(exists)),
        "within a batch too"
    );
    assert_eq!(results[0].entry, results[1].entry);
}

#[tokio::test]
async fn an_update_changes_what_its_mask_names_and_the_revision() {
    let lab = Lab::start().await;
    let made = lab
        .create(vec![types::Entry {
            hint: "old".to_owned(),
            admin: true,
            ..valid()
        }])
        .await
        .remove(0);
    let update = async |entry: types::Entry, mask: Option<types::EntryMask>| {
        let request = pb::BatchUpdateEntryRequest {
            entries: vec![entry],
            input_mask: mask,
            output_mask: None,
        };
        let answer = client(&lab).await.batch_update_entry(request).await.unwrap();
        answer.into_inner().results.into_iter().next().unwrap()
    };
    let hint = types::Entry {
        id: made.id.clone(),
        hint: "new".to_owned(),
        ..Default::default()
    };
    let mask = types::EntryMask {
        hint: true,
        ..Default::default()
    };
    let updated = update(hint, Some(mask)).await;
    assert_eq!(updated.status, Some(ok()));
    let expected = types::Entry {
        hint: "new".to_owned(),
        revision_number: 1,
        ..made.clone()
    };
    assert_eq!(updated.entry, Some(expected.clone()));
    let nothing = types::Entry {
        id: made.id.clone(),
        ..Default::default()
    };
    let updated = update(nothing.clone(), Some(types::EntryMask::default()))
        .await
        .entry
        .unwrap();
    assert_eq!(
        updated,
        types::Entry {
            revision_number: 2,
            ..expected
        },
        "an empty mask still counts"
    );
    let status = update(nothing, None).await.status.unwrap();
    assert_eq!(
        status.code,
        Code::InvalidArgument as i32,
        "without a mask everything is replaced: {status:?}"
    );
    let status = update(
        types::Entry {
            id: "unknown".to_owned(),
            ..valid()
        },
        None,
    )
    .await
    .status
    .unwrap();
    assert_eq!(
        (status.code, status.message.as_str()),
        (Code::NotFound as i32, "failed to update entry")
    );
    let whole = types::Entry {
        id: made.id.clone(),
        ..valid()
    };
    let updated = update(whole, None).await.entry.unwrap();
    assert_eq!(
        (updated.revision_number, updated.admin, updated.hint.as_str()),
        (3, false, "")
    );
}

#[tokio::test]
async fn deletions_are_answered_one_by_one() {
    let lab = Lab::start().await;
    let made = lab.create(vec![valid()]).await.remove(0);
    let ids = vec![
        made.id.clone(),
        made.id.clone(),
        "unknown".to_owned(),
        String::new(),
    ];
    let request = pb::BatchDeleteEntryRequest { ids: ids.clone() };
    let results = client(&lab)
        .await
        .batch_delete_entry(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    let codes: Vec<_> = results
        .iter()
        .map(|result| result.status.as_ref().unwrap().code)
        .collect();
    let (missing, invalid) = (Code::NotFound as i32, Code::InvalidArgument as i32);
    assert_eq!(codes, [0, missing, missing, invalid]);
    assert_eq!(
        results.into_iter().map(|result| result.id).collect::<Vec<_>>(),
        ids
    );
    let outcome = client(&lab)
        .await
        .get_entry(pb::GetEntryRequest {
            id: made.id,
            output_mask: None,
        })
        .await;
    refused(outcome, Code::NotFound, "entry not found");
    let outcome = client(&lab).await.get_entry(pb::GetEntryRequest::default()).await;
    refused(outcome, Code::InvalidArgument, "missing ID");
}

#[tokio::test]
async fn listings_filter_and_page() {
    let lab = Lab::start().await;
    let of = |path: &str, selectors: &[&str], hint: &str| types::Entry {
        spiffe_id: Some(wire_id(path)),
        selectors: selectors.iter().map(|text| selector(text)).collect(),
        hint: hint.to_owned(),
        downstream: hint == "d",
        ..valid()
    };
    let made = vec![
        of("/a", &["s:1"], ""),
        of("/b", &["s:1", "s:2"], "h"),
        of("/c", &["s:3"], "d"),
        types::Entry {
            parent_id: Some(wire_id("/node")),
            ..of("/a", &["s:9"], "")
        },
    ];
    lab.create(made).await;
    let list = async |filter: pb::list_entries_request::Filter| {
        let request = pb::ListEntriesRequest {
            filter: Some(filter),
            ..Default::default()
        };
        let found = client(&lab)
            .await
            .list_entries(request)
            .await?
            .into_inner()
            .entries;
        let paths = found
            .iter()
            .map(|entry| entry.spiffe_id.as_ref().unwrap().path.clone())
            .collect::<Vec<_>>();
        Ok::<_, tonic::Status>(paths.concat())
    };
    let by = pb::list_entries_request::Filter::default;
    assert_eq!(
        list(by()).await.unwrap(),
        "/a/b/c/a",
        "in the order of their creation"
    );
    let filter = pb::list_entries_request::Filter {
        by_spiffe_id: Some(wire_id("/a")),
        ..by()
    };
    assert_eq!(list(filter).await.unwrap(), "/a/a");
    let filter = pb::list_entries_request::Filter {
        by_parent_id: Some(wire_id("/node")),
        ..by()
    };
    assert_eq!(list(filter).await.unwrap(), "/a");
    let selectors = |names: &[&str], behavior: i32| pb::list_entries_request::Filter {
        by_selectors: Some(types::SelectorMatch {
            selectors: names.iter().map(|text| selector(text)).collect(),
            r#match: behavior,
        }),
        ..by()
    };
    for (behavior, expected) in [
        (MatchBehavior::MatchExact, "/b"),
        (MatchBehavior::MatchSubset, "/a/b"),
        (MatchBehavior::MatchSuperset, "/b"),
        (MatchBehavior::MatchAny, "/a/b"),
    ] {
        assert_eq!(
            list(selectors(&["s:2", "s:1"], behavior as i32)).await.unwrap(),
            expected,
            "{behavior:?}"
        );
    }
    refused(
        list(selectors(&["s:1"], 9)).await,
        Code::Internal,
        "failed to list entries: unhandled selectors match behavior \"9\"",
    );
    refused(
        list(selectors(&[], 0)).await,
        Code::InvalidArgument,
        "malformed selectors filter: empty selector set",
    );
    let filter = pb::list_entries_request::Filter {
        by_hint: Some("h".to_owned()),
        ..by()
    };
    assert_eq!(list(filter).await.unwrap(), "/b");
    let filter = pb::list_entries_request::Filter {
        by_downstream: Some(true),
        ..by()
    };
    assert_eq!(list(filter).await.unwrap(), "/c");
    let filter = pb::list_entries_request::Filter {
        by_downstream: Some(false),
        ..by()
    };
    assert_eq!(list(filter).await.unwrap(), "/a/b/c/a", "false is not asked");
    let filter = pb::list_entries_request::Filter {
        by_spiffe_id: Some(wire_id("/spire/server")),
        ..by()
    };
    refused_with(
        list(filter).await,
        Code::InvalidArgument,
        "malformed SPIFFE ID filter: ",
    );

    let (mut token, mut pages) = (String::new(), Vec::new());
    loop {
        let request = pb::ListEntriesRequest {
            page_size: 2,
            page_token: token,
            ..Default::default()
        };
        let page = client(&lab)
            .await
            .list_entries(request)
            .await
            .unwrap()
            .into_inner();
        pages.push(page.entries.len());
        if page.next_page_token.is_empty() {
            break;
        }
        token = page.next_page_token;
    }
    assert_eq!(pages, [2, 2, 0], "a full page always has a token");
    let request = pb::ListEntriesRequest {
        page_size: 2,
        page_token: "1.5".to_owned(),
        ..Default::default()
    };
    let outcome = client(&lab).await.list_entries(request).await;
    refused(
        outcome,
        Code::Internal,
        "failed to list entries: could not parse token '1.5'",
    );
}

#[tokio::test]
async fn an_agent_syncs_as_spires_do() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let mut of_agent = EntryClient::new(agent.channel.clone());
    let exchange = async |client: &mut EntryClient<Channel>, ids: Vec<String>| {
        let mask = types::EntryMask {
            spiffe_id: true,
            revision_number: true,
            ..Default::default()
        };
        let first = pb::SyncAuthorizedEntriesRequest {
            output_mask: Some(mask),
            ids: Vec::new(),
        };
        let second = pb::SyncAuthorizedEntriesRequest {
            output_mask: None,
            ids,
        };
        let mut answers = client
            .sync_authorized_entries(tokio_stream::iter([first, second]))
            .await?
            .into_inner();
        let mut all = Vec::new();
        while let Some(answer) = answers.message().await? {
            all.push(answer);
        }
        Ok::<_, tonic::Status>(all)
    };
    lab.create(vec![entry(&agent.id, "/w")]).await;
    let whole = exchange(&mut of_agent, Vec::new()).await.unwrap();
    assert_eq!(
        (whole.len(), whole[0].entries.len(), whole[0].more),
        (1, 1, false)
    );
    assert!(whole[0].entry_revisions.is_empty() && whole[0].entries[0].selectors.is_empty());

    lab.create((0..600).map(|at| entry(&agent.id, &format!("/w{at}"))).collect())
        .await;
    let first = exchange(&mut of_agent, Vec::new()).await.unwrap();
    assert_eq!((first[0].entry_revisions.len(), first[0].more), (500, true));
    assert_eq!((first[1].entry_revisions.len(), first[1].more), (101, false));
    assert_eq!(
        (first[2].entries.len(), first[2].more),
        (0, false),
        "an empty wish is answered too"
    );
    let mut ids: Vec<_> = first
        .iter()
        .flat_map(|page| &page.entry_revisions)
        .map(|revision| revision.id.clone())
        .collect();
    ids.push("unknown".to_owned());
    let second = exchange(&mut of_agent, ids).await.unwrap();
    let bodies: Vec<_> = second[2..]
        .iter()
        .map(|page| (page.entries.len(), page.more))
        .collect();
    assert_eq!(bodies, [(500, true), (101, false)]);

    let request = pb::SyncAuthorizedEntriesRequest {
        output_mask: None,
        ids: vec!["x".to_owned()],
    };
    let outcome = of_agent
        .sync_authorized_entries(tokio_stream::iter([request]))
        .await;
    refused_with(
        outcome,
        Code::InvalidArgument,
        "specifying IDs on initial request",
    );
    let mask = Some(types::EntryMask::default());
    let request = pb::SyncAuthorizedEntriesRequest {
        output_mask: mask,
        ids: Vec::new(),
    };
    let outcome = of_agent
        .sync_authorized_entries(tokio_stream::iter([request]))
        .await;
    refused(outcome, Code::InvalidArgument, "revision number cannot be masked");
    let nothing = tokio_stream::iter(Vec::<pb::SyncAuthorizedEntriesRequest>::new());
    refused(
        of_agent.sync_authorized_entries(nothing).await,
        Code::Unknown,
        "EOF",
    );
}

#[tokio::test]
async fn an_expired_entry_authorizes_nothing_though_lists_show_it() {
    let lab = Lab::start().await;
    let agent = lab.agent().await;
    let expires_at = NOW.unix_seconds() + 600;
    lab.create(vec![
        types::Entry {
            expires_at,
            ..entry(&agent.id, "/w")
        },
        entry(&agent.id, "/stays"),
    ])
    .await;
    let mut client = EntryClient::new(agent.channel.clone());
    let mut held = async || {
        let request = pb::GetAuthorizedEntriesRequest::default();
        client
            .get_authorized_entries(request)
            .await
            .unwrap()
            .into_inner()
            .entries
            .len()
    };
    assert_eq!(held().await, 2);
    lab.clock.step_forward(std::time::Duration::from_secs(600));
    assert_eq!(held().await, 1);
    assert_eq!(count(&lab).await, 2);
}
