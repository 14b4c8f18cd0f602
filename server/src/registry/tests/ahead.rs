//! Transactions that share a commit.

use std::time::Duration;

use proptest::prelude::*;
use tokio::time::timeout;

use super::super::ahead::Ahead;
use super::*;
use crate::store::{Row, Snapshot, conformance};

/// Tells whether the node is there and puts it.
async fn put_node(registry: &Registry, id: &'static str) -> Result<bool, TransactError<&'static str>> {
    let decide = move |state: &State| {
        let known = state.node(&spiffe(id)).is_some();
        Ok((vec![node_put(id, &[])], known))
    };
    registry.transact(decide).await
}

/// Refuses if the node is there, else has nothing to do.
async fn refuse_node(registry: &Registry, id: &'static str) -> Result<(), TransactError<&'static str>> {
    let decide = move |state: &State| match state.node(&spiffe(id)) {
        Some(_) => Err("there"),
        None => Ok((Vec::new(), ())),
    };
    registry.transact(decide).await
}

#[tokio::test(start_paused = true)]
async fn those_that_wait_share_a_commit_that_readers_see_when_it_is_done() {
    let fixture = Fixture::open().await;
    let registry = &fixture.registry;
    let held = fixture.store.hold().await;
    let all = async {
        tokio::join!(
            put_node(registry, AGENT),
            put_node(registry, "/spire/agent/b"),
            put_node(registry, AGENT),
            refuse_node(registry, AGENT),
            refuse_node(registry, "/spire/agent/c"),
        )
    };
    tokio::pin!(all);
    assert!(timeout(Duration::from_secs(1), &mut all).await.is_err());
    assert_eq!(fixture.store.commits(), 1);
    assert_eq!(
        (registry.read().node_count(), registry.read().revision()),
        (0, Revision(0))
    );
    drop(held);
    let (first, other, again, refused, nothing) = all.await;
    assert_eq!(
        (first.unwrap(), other.unwrap(), again.unwrap()),
        (false, false, true)
    );
    assert!(
        matches!(refused, Err(TransactError::Refused("there"))),
        "{refused:?}"
    );
    nothing.unwrap();
    assert_eq!(fixture.store.commits(), 1);
    assert_eq!(
        (registry.read().node_count(), registry.read().revision()),
        (2, Revision(3))
    );
    assert_eq!(fixture.reopen().await.read().node_count(), 2);
}

#[tokio::test(start_paused = true)]
async fn those_that_share_a_commit_fail_with_it() {
    let fixture = Fixture::open().await;
    let registry = &fixture.registry;
    fixture.store.fail(true);
    let (first, again, refused) = tokio::join!(
        put_node(registry, AGENT),
        put_node(registry, AGENT),
        refuse_node(registry, AGENT)
    );
    for failed in [first.map(drop), again.map(drop), refused] {
        assert!(
            matches!(failed, Err(TransactError::Store(StoreError::Failed(_)))),
            "{failed:?}"
        );
    }
    assert_eq!(
        (registry.read().node_count(), registry.read().revision()),
        (0, Revision(0))
    );
    fixture.store.fail(false);
    assert!(!put_node(registry, AGENT).await.unwrap());
}

#[tokio::test(start_paused = true)]
async fn more_than_fit_take_several_commits() {
    let fixture = Fixture::open().await;
    let put = |n| {
        fixture.put([entry_put(entry(
            &format!("e{n}"),
            AGENT,
            &format!("/w{n}"),
            &["a:b"],
        ))])
    };
    futures_util::future::join_all((0..200).map(put)).await;
    assert_eq!(fixture.registry.read().entry_count(), 200);
    let commits = fixture.store.commits();
    assert!((4..20).contains(&commits), "{commits}");
}

/// All that is in a state, by every index.
fn seen(state: &State) -> String {
    let ids = [
        "/p",
        "/w",
        "/a",
        "/b",
        "/c",
        "/g1",
        "/g2",
        "/g3",
        "/g4",
        "/spire/server",
    ];
    let agents = ["/spire/agent/a", "/spire/agent/b", "/spire/agent/c"];
    let by_id = ids.into_iter().chain(agents).map(spiffe).map(|id| {
        let parented: Vec<_> = state.entries_by_parent(&id).collect();
        let named: Vec<_> = state.entries_by_spiffe_id(&id).collect();
        format!(
            "{:?}",
            (
                parented,
                named,
                state.node(&id),
                state.authorized_entries(&id, START)
            )
        )
    });
    let by_selector = ["a:b", "n:1", "n:2", "n:3"].map(|text| {
        let selectors = [text.parse().unwrap()];
        let nodes: Vec<_> = state.nodes.with_all(&selectors).collect();
        let aliases: Vec<_> = state.entries.aliases_of(&selectors).collect();
        format!("{:?}", (nodes, aliases))
    });
    let by_domain = ["x.test", "y.test", "far.test"].map(|name| {
        let federated: Vec<_> = state.entries_by_federation(&domain(name)).collect();
        format!("{federated:?}")
    });
    let mut tokens: Vec<_> = state.join_tokens().map(|t| (&t.token, t.expires_at)).collect();
    tokens.sort_unstable();
    let expiring: Vec<_> = state.entries.expiring(START, START + 2 * MINUTE).collect();
    let lists = (
        state.entries().collect::<Vec<_>>(),
        state.nodes().collect::<Vec<_>>(),
        state.bundles().collect::<Vec<_>>(),
        state.federated_bundles_after(Row(0)).collect::<Vec<_>>(),
        state.relationships_after(Row(0)).collect::<Vec<_>>(),
    );
    let rest = (
        state.revision(),
        tokens,
        expiring,
        state.journal().map(|j| j.0.to_vec()),
    );
    format!(
        "{:?}",
        (by_id.collect::<Vec<_>>(), by_selector, by_domain, lists, rest)
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn looking_ahead_leaves_no_trace(
        past in prop::collection::vec(prop_oneof![conformance::change(), walk::change()], 0..30),
        coming in prop::collection::vec(prop_oneof![conformance::change(), walk::change()], 1..30),
    ) {
        let mut state = State::build(domain("td.test"), Snapshot::default());
        past.into_iter().for_each(|change| state.apply(change));
        let before = seen(&state);
        let state = RwLock::new(state);
        let mut ahead = Ahead::of(&state);
        let looked: Vec<_> = (1..=coming.len()).map(|n| seen(ahead.after(&coming[..n]))).collect();
        drop(ahead);
        prop_assert_eq!(seen(&state.read().unwrap()), before);
        let mut state = state.into_inner().unwrap();
        for (change, looked) in coming.into_iter().zip(looked) {
            state.apply(change);
            prop_assert_eq!(seen(&state), looked);
        }
    }
}
