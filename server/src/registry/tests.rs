//! What the registry promises its callers. The clock and tokio's time are the tests' own.

mod ahead;
mod fixture;
mod passing_time;
mod walk;

use std::convert::Infallible;

use credence_identity::EntryId;

use super::*;
use crate::store::conformance::{domain, entry, entry_put, node, spiffe};
use crate::store::{JoinToken, Revision, Row};
use fixture::{Fixture, MINUTE, START};

const AGENT: &str = "/spire/agent/a";

fn node_put(id: &str, selectors: &[&str]) -> Change {
    Change::NodePut(Arc::new(node(id, selectors)))
}

fn delete(id: &str) -> Change {
    Change::EntryDelete(EntryId::parse(id).unwrap())
}

#[tokio::test(start_paused = true)]
async fn what_was_transacted_is_there_before_the_answer_and_after_a_restart() {
    let fixture = Fixture::open().await;
    let at = fixture.registry.read().revision();
    fixture
        .put([
            node_put(AGENT, &["n:1"]),
            entry_put(entry("e", AGENT, "/w", &["a:b"])),
        ])
        .await;
    for registry in [fixture.registry.clone(), fixture.reopen().await] {
        let state = registry.read();
        assert_eq!(state.revision(), at.plus(2));
        assert_eq!((state.entry_count(), state.node_count()), (1, 1));
        assert_eq!(state.authorized_entries(&spiffe(AGENT), START).len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_and_an_empty_decision_change_nothing() {
    let fixture = Fixture::open().await;
    let refused = fixture
        .registry
        .transact(|_| Err::<(Vec<Change>, ()), _>("no"))
        .await;
    assert!(matches!(refused, Err(TransactError::Refused("no"))));
    let answer = fixture
        .registry
        .transact(|_| Ok::<_, Infallible>((Vec::new(), 7)))
        .await;
    assert_eq!(answer.unwrap(), 7);
    assert_eq!(fixture.registry.read().revision(), Revision(0));
    assert_eq!(fixture.store.commits(), 0);
}

#[tokio::test(start_paused = true)]
async fn of_two_who_race_for_a_token_one_wins() {
    let fixture = Fixture::open().await;
    let token = JoinToken {
        token: "t".to_owned(),
        expires_at: START + MINUTE,
    };
    fixture.put([Change::JoinTokenPut(token)]).await;
    let spend = |id: &'static str| {
        fixture
            .registry
            .transact(move |state| match state.join_token("t") {
                Some(_) => Ok((
                    vec![Change::JoinTokenDelete("t".to_owned()), node_put(id, &[])],
                    (),
                )),
                None => Err("taken"),
            })
    };
    let (one, two) = tokio::join!(spend("/spire/agent/1"), spend("/spire/agent/2"));
    assert!(one.is_ok() != two.is_ok());
    let state = fixture.registry.read();
    assert_eq!((state.node_count(), state.join_tokens().count()), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_fails_degrades_and_recovers_without_a_restart() {
    let fixture = Fixture::open().await;
    fixture.put([node_put(AGENT, &[])]).await;
    fixture.store.fail(true);
    let mut told = fixture.registry.subscribe(&spiffe(AGENT));
    let failed = fixture
        .try_put([entry_put(entry("e", AGENT, "/w", &["a:b"]))])
        .await;
    assert!(
        matches!(failed, Err(TransactError::Store(StoreError::Failed(_)))),
        "{failed:?}"
    );
    assert_eq!(
        fixture.registry.health(),
        Health::Degraded("the database failed: out of order".to_owned())
    );
    assert!(!told.has_changed());
    assert_eq!(
        (
            fixture.registry.read().entry_count(),
            fixture.registry.read().node_count()
        ),
        (0, 1)
    );
    fixture.store.fail(false);
    // No commit is needed for it to notice.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    assert_eq!(fixture.registry.health(), Health::Ready);
    fixture.put([entry_put(entry("e", AGENT, "/w", &["a:b"]))]).await;
    told.changed().await;
}

#[tokio::test(start_paused = true)]
async fn a_change_that_the_store_refuses_does_not_degrade_it() {
    let fixture = Fixture::open().await;
    let mut federated = entry("e", AGENT, "/w", &["a:b"]);
    federated.federates_with = vec![domain("unknown.test")];
    let refused = fixture.try_put([entry_put(federated)]).await;
    assert!(matches!(
        refused,
        Err(TransactError::Store(StoreError::Constraint(_)))
    ));
    assert_eq!(fixture.registry.health(), Health::Ready);
}

#[tokio::test(start_paused = true)]
async fn another_writer_ends_the_process() {
    let fixture = Fixture::open().await;
    let other = fixture.reopen().await;
    other
        .transact(|_| Ok::<_, Infallible>((vec![node_put(AGENT, &[])], ())))
        .await
        .unwrap();
    let failed = fixture.try_put([node_put(AGENT, &[])]).await;
    assert!(matches!(
        failed,
        Err(TransactError::Store(StoreError::Moved { .. }))
    ));
    let failure = fixture.supervisor.wait().await.unwrap_err();
    assert_eq!(failure.task, "registry");
}

#[tokio::test(start_paused = true)]
async fn shutdown_closes_it_for_changes_only() {
    let fixture = Fixture::open().await;
    fixture.put([node_put(AGENT, &[])]).await;
    fixture.supervisor.shutdown();
    fixture.supervisor.wait().await.unwrap();
    assert!(matches!(
        fixture.try_put([node_put(AGENT, &[])]).await,
        Err(TransactError::Closed)
    ));
    assert_eq!(fixture.registry.read().node_count(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_of_another_trust_domain_is_refused() {
    let fixture = Fixture::open().await;
    fixture.put([node_put(AGENT, &[])]).await;
    let error = fixture.open_as("other.test").await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "the store holds spiffe://td.test/spire/agent/a, which is no member of trust domain other.test"
    );
}

#[tokio::test(start_paused = true)]
async fn listings_go_on_after_any_row() {
    let fixture = Fixture::open().await;
    let put = |n: u32| entry_put(entry(&format!("e{n}"), AGENT, &format!("/w{}", n % 2), &["a:b"]));
    fixture.put((1..=5).map(put)).await;
    fixture.put([delete("e2"), put(4)]).await;
    let state = fixture.registry.read();
    let ids = |page: &mut dyn Iterator<Item = (Row, &Arc<credence_identity::Entry>)>| {
        page.map(|(row, entry)| (row.0, entry.id.to_string()))
            .collect::<Vec<_>>()
    };
    let (one, three, four, five) = (
        (1, "e1".into()),
        (3, "e3".into()),
        (4, "e4".into()),
        (5, "e5".to_owned()),
    );
    assert_eq!(
        ids(&mut state.entries_after(Row(2))),
        [three.clone(), four.clone(), five.clone()]
    );
    assert_eq!(ids(&mut state.entries_after(Row(5))), []);
    assert_eq!(
        ids(&mut state.entries_by_parent(&spiffe(AGENT))),
        [one.clone(), three.clone(), four, five.clone()]
    );
    assert_eq!(
        ids(&mut state.entries_by_spiffe_id(&spiffe("/w1"))),
        [one, three, five]
    );
}

#[tokio::test(start_paused = true)]
async fn similar_entries_are_those_of_the_same_triple() {
    let fixture = Fixture::open().await;
    fixture
        .put([entry_put(entry("e", AGENT, "/w", &["a:b", "c:d"]))])
        .await;
    let state = fixture.registry.read();
    let similar = |parent, id, selectors: &[&str]| {
        state
            .similar_entry(&entry("new", parent, id, selectors))
            .map(|entry| entry.id.to_string())
    };
    assert_eq!(similar(AGENT, "/w", &["c:d", "a:b"]).as_deref(), Some("e"));
    assert_eq!(similar(AGENT, "/w", &["a:b"]), None);
    assert_eq!(similar("/spire/agent/b", "/w", &["a:b", "c:d"]), None);
    assert_eq!(similar(AGENT, "/v", &["a:b", "c:d"]), None);
}

#[tokio::test(start_paused = true)]
async fn evicting_a_node_takes_the_alias_entry_of_its_token_along() {
    let fixture = Fixture::open().await;
    let own = format!("spiffe_id:{}", spiffe(AGENT));
    let changes = [
        node_put(AGENT, &[]),
        entry_put(entry("alias", AGENT, "/cluster", &[&own])),
        entry_put(entry("workload", AGENT, "/w", &["a:b"])),
        entry_put(entry("both", AGENT, "/w", &["a:b", &own])),
    ];
    fixture.put(changes).await;
    let eviction = fixture.registry.read().eviction_of(&spiffe(AGENT));
    fixture.put(eviction).await;
    let state = fixture.registry.read();
    assert!(state.node(&spiffe(AGENT)).is_none());
    let left = state
        .entries()
        .map(|(_, entry)| entry.id.to_string())
        .collect::<Vec<_>>();
    assert_eq!(left, ["workload", "both"]);
}

#[tokio::test(start_paused = true)]
async fn subscribers_hear_of_their_own_changes_once_and_of_no_others() {
    let fixture = Fixture::open().await;
    let bundle = |name| Change::BundlePut(Arc::new(credence_identity::Bundle::empty(domain(name))));
    let mut federated = entry("e-federated", "/group", "/w", &["a:b"]);
    federated.federates_with = vec![domain("far.test")];
    let changes = [
        node_put(AGENT, &["n:1"]),
        node_put("/spire/agent/b", &["n:2"]),
        bundle("far.test"),
        bundle("td.test"),
        entry_put(entry("alias", "/spire/server", "/group", &["n:1"])),
        entry_put(federated),
    ];
    fixture.put(changes).await;
    let mut a = fixture.registry.subscribe(&spiffe(AGENT));
    let mut b = fixture.registry.subscribe(&spiffe("/spire/agent/b"));
    assert_eq!((a.has_changed(), b.has_changed()), (false, false));
    let below_alias = || entry_put(entry("e", "/group", "/v", &["a:b"]));
    let cases: [(&str, Vec<Change>, (bool, bool)); 9] = [
        (
            "two of one",
            vec![below_alias(), entry_put(entry("e2", AGENT, "/v2", &["a:b"]))],
            (true, false),
        ),
        ("deletion", vec![delete("e2")], (true, false)),
        ("bundle", vec![bundle("far.test")], (true, false)),
        ("own bundle", vec![bundle("td.test")], (true, true)),
        ("node", vec![node_put("/spire/agent/b", &["n:2"])], (false, true)),
        (
            "moved",
            vec![entry_put(entry("e", "/spire/agent/b", "/v", &["a:b"]))],
            (true, true),
        ),
        ("node selectors", vec![node_put(AGENT, &[])], (true, false)),
        ("alias no more theirs", vec![delete("alias")], (false, false)),
        (
            "nobody's",
            vec![entry_put(entry("x", "/nowhere", "/v", &["a:b"]))],
            (false, false),
        ),
    ];
    for (case, changes, told) in cases {
        fixture.put(changes).await;
        assert_eq!((a.has_changed(), b.has_changed()), told, "{case}");
        for (subscription, told) in [(&mut a, told.0), (&mut b, told.1)] {
            if told {
                subscription.changed().await;
                assert!(!subscription.has_changed(), "{case}: several changes are one");
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_subscription_that_is_gone_leaves_nothing_behind() {
    let fixture = Fixture::open().await;
    fixture.put([node_put(AGENT, &[])]).await;
    let one = fixture.registry.subscribe(&spiffe(AGENT));
    let two = fixture.registry.subscribe(&spiffe(AGENT));
    drop(one);
    fixture.put([node_put(AGENT, &["n:1"])]).await;
    assert!(two.has_changed());
    drop(two);
    assert_eq!(fixture.registry.shared.subscribers.len(), 0);
}
