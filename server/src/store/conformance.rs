//! The suite that every store passes. A store's own tests call [`all`] with a way to open it again.
//!
//! The memory store is the yardstick: after any sequence of commits, both hold the same.

use std::sync::Arc;
use std::time::Duration;

use credence_identity::{
    Bundle, BundleEndpointProfile, Entry, EntryId, FederationRelationship, JwtAuthority, Selector, SpiffeId,
    Timestamp, TrustDomain, X509Authority,
};
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

use super::{Change, JoinToken, Journal, MemoryStore, Node, Revision, Row, Snapshot, Store, StoreError};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

/// Runs every case on an empty store. `reopen` closes a store and opens it again, or an empty one for `None`.
pub(crate) async fn all<S: Store>(reopen: impl AsyncFn(Option<S>) -> S) {
    an_empty_store_is_at_revision_zero(&reopen).await;
    every_kind_survives(&reopen).await;
    an_object_keeps_its_row(&reopen).await;
    a_failed_commit_changes_nothing(&reopen).await;
    stale_knowledge_is_refused(&reopen).await;
    bundles_and_entries_that_refer_to_them_go_in_any_order(&reopen).await;
    large_batches_keep_their_order(&reopen).await;
    any_sequence_ends_as_in_memory(&reopen).await;
}

/// An entry with the least in it.
pub(crate) fn entry(id: &str, parent: &str, spiffe_id: &str, selectors: &[&str]) -> Entry {
    Entry {
        id: EntryId::parse(id).unwrap(),
        spiffe_id: spiffe(spiffe_id),
        parent_id: spiffe(parent),
        selectors: selectors
            .iter()
            .map(|text| Selector::parse(text).unwrap())
            .collect(),
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: None,
        dns_names: Vec::new(),
        hint: "".into(),
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: false,
        revision_number: 0,
        created_at: NOW,
    }
}

/// A node with these selectors.
pub(crate) fn node(id: &str, selectors: &[&str]) -> Node {
    Node {
        id: spiffe(id),
        attestation_type: "join_token".into(),
        serial: "1234567890123456789012345678901234567890".to_owned(),
        not_after: NOW + Duration::from_secs(3600),
        new_serial: None,
        new_not_after: None,
        can_reattest: false,
        selectors: selectors
            .iter()
            .map(|text| Selector::parse(text).unwrap())
            .collect(),
        agent_version: "".into(),
    }
}

/// An ID of the trust domain `td.test`.
pub(crate) fn spiffe(path: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://td.test{path}")).unwrap()
}

pub(crate) fn domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

pub(crate) fn entry_put(entry: Entry) -> Change {
    Change::EntryPut(Arc::new(entry))
}

/// A relationship with a domain, of the profile `https_spiffe` if there is an ID.
pub(crate) fn relationship_put(name: &str, path: &str, endpoint_spiffe_id: Option<SpiffeId>) -> Change {
    Change::RelationshipPut(Arc::new(FederationRelationship {
        trust_domain: domain(name),
        bundle_endpoint_url: format!("https://{name}:8443/{path}").parse().unwrap(),
        bundle_endpoint_profile: match endpoint_spiffe_id {
            None => BundleEndpointProfile::HttpsWeb,
            Some(endpoint_spiffe_id) => BundleEndpointProfile::HttpsSpiffe { endpoint_spiffe_id },
        },
    }))
}

fn bundle_put(name: &str) -> Change {
    Change::BundlePut(Arc::new(Bundle::empty(domain(name))))
}

async fn an_empty_store_is_at_revision_zero<S: Store>(reopen: &impl AsyncFn(Option<S>) -> S) {
    let mut store = reopen(None).await;
    assert_same(&store.load().await.unwrap(), &Snapshot::default());
    store.probe().await.unwrap();
    assert_eq!(store.load().await.unwrap().revision, Revision(0));
    assert_eq!(store.commit(Revision(0), &[], NOW).await.unwrap(), Revision(0));
}

async fn every_kind_survives<S: Store>(reopen: &impl AsyncFn(Option<S>) -> S) {
    let mut full = entry(
        "e-1",
        "/spire/agent/x",
        "/w",
        &["unix:uid:0", "k8s:ns:\"a\", b\n\u{1f980}"],
    );
    full.x509_svid_ttl = 60;
    full.jwt_svid_ttl = i32::MAX.unsigned_abs();
    full.federates_with = vec![
        domain("b.test"),
        domain("a.test"),
        domain("b.test"),
        domain("td.test"),
    ];
    (full.admin, full.store_svid, full.jwt_svid_include_jti) = (true, true, true);
    full.expires_at = Some(Timestamp::from_unix_millis(-1));
    full.dns_names = vec!["b.example".into(), "a.example".into()];
    full.hint = "internal".into();
    full.revision_number = 7;
    let mut flags = entry("e-2", "/spire/server", "/w", &["a:b"]);
    (flags.downstream, flags.disable_x509_svid_prefetch) = (true, true);
    let mut agent = node("/spire/agent/x", &["x509pop:subject:cn:a b", "a:b"]);
    agent.new_serial = Some("2".to_owned());
    agent.new_not_after = Some(NOW);
    agent.can_reattest = true;
    agent.agent_version = "1.2.3".into();
    let mut banned = node("/spire/agent/y", &[]);
    banned.serial.clear();
    let own = Bundle {
        trust_domain: domain("td.test"),
        x509_authorities: vec![
            X509Authority {
                der: vec![0, 1, 255].into(),
                tainted: true,
            },
            X509Authority {
                der: vec![].into(),
                tainted: false,
            },
        ],
        jwt_authorities: vec![
            JwtAuthority {
                key_id: "k".into(),
                public_key: vec![7].into(),
                expires_at: None,
                tainted: false,
            },
            JwtAuthority {
                key_id: "k".into(),
                public_key: vec![8].into(),
                expires_at: Some(NOW),
                tainted: true,
            },
        ],
        wit_authorities: vec![JwtAuthority {
            key_id: "w".into(),
            public_key: vec![9].into(),
            expires_at: Some(NOW),
            tainted: false,
        }],
        refresh_hint: Some(Duration::from_secs(300)),
        sequence_number: u64::MAX,
    };
    let changes = [
        Change::BundlePut(Arc::new(own)),
        bundle_put("a.test"),
        bundle_put("b.test"),
        entry_put(full),
        entry_put(flags),
        Change::NodePut(Arc::new(agent)),
        Change::NodePut(Arc::new(banned)),
        Change::JoinTokenPut(JoinToken {
            token: "any 'text'".to_owned(),
            expires_at: NOW,
        }),
        relationship_put("web.test", "", None),
        relationship_put("spiffe.test", "b?c=%20", Some(spiffe("/bundle"))),
        Change::JournalPut(Journal(vec![1].into())),
        Change::JournalPut(Journal(vec![0, 159, 146, 150].into())),
    ];
    let mut store = reopen(None).await;
    let mut model = MemoryStore::default();
    both(&mut store, &mut model, &changes).await;
    let mut store = reopen(Some(store)).await;
    assert_same(&store.load().await.unwrap(), &model.load().await.unwrap());
}

async fn an_object_keeps_its_row<S: Store>(reopen: &impl AsyncFn(Option<S>) -> S) {
    let mut store = reopen(None).await;
    let (a, b) = (entry("a", "/p", "/a", &["a:b"]), entry("b", "/p", "/b", &["a:b"]));
    let create = [
        entry_put(a.clone()),
        entry_put(b.clone()),
        Change::NodePut(Arc::new(node("/n", &[]))),
        bundle_put("z.test"),
        bundle_put("y.test"),
        relationship_put("z.test", "", None),
        relationship_put("y.test", "", None),
    ];
    store.commit(Revision(0), &create, NOW).await.unwrap();
    let again = [entry_put(a), Change::EntryDelete(b.id.clone()), entry_put(b)];
    let again = again
        .into_iter()
        .chain([Change::NodePut(Arc::new(node("/n", &["a:b"])))])
        .chain([
            bundle_put("z.test"),
            Change::BundleDelete(domain("y.test")),
            bundle_put("y.test"),
            relationship_put("z.test", "moved", Some(spiffe("/bundle"))),
            Change::RelationshipDelete(domain("y.test")),
            relationship_put("y.test", "", None),
        ]);
    let after = store
        .commit(Revision(7), &again.collect::<Vec<_>>(), NOW)
        .await
        .unwrap();
    assert_eq!(after, Revision(17));
    let held = store.load().await.unwrap();
    let rows = held
        .entries
        .iter()
        .map(|(row, entry)| (row.0, entry.id.to_string()));
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [(1, "a".to_owned()), (10, "b".to_owned())]
    );
    let rows = held
        .bundles
        .iter()
        .map(|(row, held)| (row.0, held.trust_domain.as_str()));
    assert_eq!(rows.collect::<Vec<_>>(), [(4, "z.test"), (14, "y.test")]);
    let rows = held
        .relationships
        .iter()
        .map(|(row, held)| (row.0, held.trust_domain.as_str()));
    assert_eq!(rows.collect::<Vec<_>>(), [(6, "z.test"), (17, "y.test")]);
    assert_eq!(
        held.nodes.iter().map(|(row, _)| *row).collect::<Vec<_>>(),
        [Row(3)]
    );
}

async fn a_failed_commit_changes_nothing<S: Store>(reopen: &impl AsyncFn(Option<S>) -> S) {
    let mut store = reopen(None).await;
    let mut federated = entry("b", "/p", "/b", &["a:b"]);
    federated.federates_with = vec![domain("unknown.test")];
    let batch = [entry_put(entry("a", "/p", "/a", &["a:b"])), entry_put(federated)];
    let error = store.commit(Revision(0), &batch, NOW).await.unwrap_err();
    assert!(error.is_refusal(), "{error:?}");
    assert_same(&store.load().await.unwrap(), &Snapshot::default());
    // And the store goes on.
    assert_eq!(
        store.commit(Revision(0), &batch[..1], NOW).await.unwrap(),
        Revision(1)
    );
}

async fn stale_knowledge_is_refused<S: Store>(reopen: &impl AsyncFn(Option<S>) -> S) {
    let mut store = reopen(None).await;
    store
        .commit(Revision(0), &[bundle_put("a.test")], NOW)
        .await
        .unwrap();
    for stale in [Revision(0), Revision(2)] {
        let error = store
            .commit(stale, &[bundle_put("b.test")], NOW)
            .await
            .unwrap_err();
        assert!(
            matches!(error, StoreError::Moved { expected } if expected == stale),
            "{error:?}"
        );
    }
    let held = store.load().await.unwrap();
    assert_eq!((held.revision, held.bundles.len()), (Revision(1), 1));
}

async fn bundles_and_entries_that_refer_to_them_go_in_any_order<S: Store>(
    reopen: &impl AsyncFn(Option<S>) -> S,
) {
    let mut store = reopen(None).await;
    let mut federated = entry("a", "/p", "/a", &["a:b"]);
    federated.federates_with = vec![domain("a.test")];
    let create = [entry_put(federated.clone()), bundle_put("a.test")];
    store.commit(Revision(0), &create, NOW).await.unwrap();
    let drop_bundle = Change::BundleDelete(domain("a.test"));
    let error = store
        .commit(Revision(2), std::slice::from_ref(&drop_bundle), NOW)
        .await
        .unwrap_err();
    assert!(error.is_refusal(), "{error:?}");
    // Putting the bundle again takes nothing from the entry.
    store
        .commit(Revision(2), &[bundle_put("a.test")], NOW)
        .await
        .unwrap();
    let held = store.load().await.unwrap();
    assert_eq!(held.entries[0].1.federates_with, [domain("a.test")]);
    federated.federates_with.clear();
    let both = [drop_bundle, entry_put(federated)];
    store.commit(Revision(3), &both, NOW).await.unwrap();
    assert!(store.load().await.unwrap().bundles.is_empty());
}

async fn large_batches_keep_their_order<S: Store>(reopen: &impl AsyncFn(Option<S>) -> S) {
    let mut store = reopen(None).await;
    let name = |n: usize| format!("e-{n}");
    let put = |n: usize| entry_put(entry(&name(n), "/p", &format!("/w{n}"), &["a:b", "c:d"]));
    let puts: Vec<_> = (0..1203).map(put).collect();
    store.commit(Revision(0), &puts, NOW).await.unwrap();
    let held = store.load().await.unwrap();
    let expected = (0..1203).map(|n| (Row(n as u64 + 1), name(n)));
    assert!(
        held.entries
            .iter()
            .map(|(row, entry)| (*row, entry.id.to_string()))
            .eq(expected)
    );
    let deletes = (0..1200).map(|n| Change::EntryDelete(EntryId::parse(&name(n)).unwrap()));
    store
        .commit(Revision(1203), &deletes.collect::<Vec<_>>(), NOW)
        .await
        .unwrap();
    let held = store.load().await.unwrap();
    assert_eq!((held.entries.len(), held.revision), (3, Revision(2403)));
}

async fn any_sequence_ends_as_in_memory<S: Store>(reopen: &impl AsyncFn(Option<S>) -> S) {
    let mut runner = TestRunner::deterministic();
    for _ in 0..12 {
        let sequence = prop::collection::vec(prop::collection::vec(change(), 0..8), 1..12);
        let sequence = sequence.new_tree(&mut runner).unwrap().current();
        let mut store = reopen(None).await;
        let mut model = MemoryStore::default();
        for changes in &sequence {
            both(&mut store, &mut model, changes).await;
        }
        assert_same(&store.load().await.unwrap(), &model.load().await.unwrap());
    }
}

/// Changes over few enough objects that they meet.
pub(crate) fn change() -> impl Strategy<Value = Change> {
    let id = || prop::sample::select(vec!["a", "b", "c"]);
    let td = || prop::sample::select(vec!["x.test", "y.test"]);
    let federated = (id(), prop::collection::vec(td(), 0..3), 0..9i64);
    prop_oneof![
        4 => federated.prop_map(|(id, domains, revision)| {
            let mut put = entry(id, "/p", "/w", &["a:b"]);
            put.federates_with = domains.into_iter().map(domain).collect();
            put.revision_number = revision;
            entry_put(put)
        }),
        2 => id().prop_map(|id| Change::EntryDelete(EntryId::parse(id).unwrap())),
        1 => (id(), 0..9u32).prop_map(|(id, version)| {
            let mut put = node(&format!("/{id}"), &["a:b"]);
            put.agent_version = version.to_string().into();
            Change::NodePut(Arc::new(put))
        }),
        1 => id().prop_map(|id| Change::NodeDelete(spiffe(&format!("/{id}")))),
        1 => (id(), 0..9i64).prop_map(|(id, seconds)| Change::JoinTokenPut(JoinToken {
            token: id.to_owned(),
            expires_at: Timestamp::from_unix_seconds(seconds),
        })),
        1 => id().prop_map(|id| Change::JoinTokenDelete(id.to_owned())),
        3 => td().prop_map(bundle_put),
        1 => td().prop_map(|name| Change::BundleDelete(domain(name))),
        1 => (td(), 0..9u32, any::<bool>()).prop_map(|(name, path, spiffe_profile)| {
            relationship_put(name, &path.to_string(), spiffe_profile.then(|| spiffe("/bundle")))
        }),
        1 => td().prop_map(|name| Change::RelationshipDelete(domain(name))),
        1 => any::<u8>().prop_map(|byte| Change::JournalPut(Journal(vec![byte].into()))),
    ]
}

/// Commits to both and demands that both take it or both refuse it.
async fn both<S: Store>(store: &mut S, model: &mut MemoryStore, changes: &[Change]) {
    let at = model.load().await.unwrap().revision;
    let (got, wanted) = (
        store.commit(at, changes, NOW).await,
        model.commit(at, changes, NOW).await,
    );
    match (&got, &wanted) {
        (Ok(got), Ok(wanted)) => assert_eq!(got, wanted),
        (Err(got), Err(wanted)) => assert_eq!((got.is_refusal(), wanted.is_refusal()), (true, true)),
        _ => panic!("{got:?} but {wanted:?} for {changes:?}"),
    }
}

/// Equal but for the order where a store promises none.
fn assert_same(held: &Snapshot, wanted: &Snapshot) {
    fn sorted<T: Clone, K: Ord>(all: &[T], key: impl Fn(&T) -> K) -> Vec<T> {
        let mut all = all.to_vec();
        all.sort_by_key(key);
        all
    }
    assert_eq!(held.revision, wanted.revision);
    assert_eq!(held.entries, wanted.entries);
    assert_eq!(held.nodes, wanted.nodes);
    let token = |token: &JoinToken| token.token.clone();
    assert_eq!(
        sorted(&held.join_tokens, token),
        sorted(&wanted.join_tokens, token)
    );
    assert_eq!(held.bundles, wanted.bundles);
    assert_eq!(held.relationships, wanted.relationships);
    assert_eq!(held.journal, wanted.journal);
}

#[tokio::test]
async fn the_memory_store_conforms() {
    all(async |store: Option<MemoryStore>| store.unwrap_or_default()).await;
}
