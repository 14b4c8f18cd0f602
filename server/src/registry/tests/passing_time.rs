//! Expiry, pruning and steps of the clock.

use std::time::Duration;

use tokio::time::sleep;

use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn expiring(id: &str, parent: &str, after: Duration) -> Change {
    let mut expiring = entry(id, parent, &format!("/{id}"), &["a:b"]);
    expiring.expires_at = Some(START + after);
    entry_put(expiring)
}

fn authorized(fixture: &Fixture) -> usize {
    use credence_runtime::clock::Clock;
    fixture
        .registry
        .read()
        .authorized_entries(&spiffe(AGENT), fixture.clock.now())
        .len()
}

#[tokio::test(start_paused = true)]
async fn an_expiry_is_told_at_its_second_and_pruned_later() {
    let fixture = Fixture::open().await;
    fixture
        .put([node_put(AGENT, &[]), expiring("later", AGENT, 40 * SECOND)])
        .await;
    sleep(SECOND).await;
    // Put while the wait for the other goes on.
    fixture.put([expiring("sooner", AGENT, 20 * SECOND)]).await;
    let mut told = fixture.registry.subscribe(&spiffe(AGENT));
    let started = tokio::time::Instant::now();
    for (at, left) in [(19, 1), (39, 0)] {
        told.changed().await;
        assert_eq!((started.elapsed().as_secs(), authorized(&fixture)), (at, left));
    }
    assert_eq!(
        fixture.registry.read().entry_count(),
        2,
        "lists show them until they are pruned"
    );
    sleep(5 * MINUTE).await;
    assert_eq!(fixture.registry.read().entry_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn an_expired_parent_or_alias_takes_the_entries_below_along() {
    let fixture = Fixture::open().await;
    let mut alias = entry("alias", "/spire/server", "/group", &["n:1"]);
    alias.expires_at = Some(START + 10 * SECOND);
    let mut changes = vec![
        node_put(AGENT, &["n:1"]),
        entry_put(alias),
        expiring("parent", AGENT, 20 * SECOND),
    ];
    changes.push(entry_put(entry("below-alias", "/group", "/w", &["a:b"])));
    changes.push(entry_put(entry("below-parent", "/parent", "/w", &["a:b"])));
    fixture.put(changes).await;
    let mut told = fixture.registry.subscribe(&spiffe(AGENT));
    assert_eq!(authorized(&fixture), 3);
    for left in [2, 0] {
        told.changed().await;
        assert_eq!(authorized(&fixture), left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_step_over_an_expiry_is_told_in_both_directions() {
    let fixture = Fixture::open().await;
    fixture
        .put([node_put(AGENT, &[]), expiring("e", AGENT, 30 * MINUTE)])
        .await;
    let mut told = fixture.registry.subscribe(&spiffe(AGENT));
    fixture.clock.step_forward(60 * MINUTE);
    told.changed().await;
    assert_eq!(authorized(&fixture), 0);
    fixture.clock.step_back(60 * MINUTE);
    told.changed().await;
    assert_eq!(authorized(&fixture), 1);
}

#[tokio::test(start_paused = true)]
async fn expired_tokens_are_cleaned_and_others_stay() {
    let fixture = Fixture::open().await;
    let token = |token: &str, after| {
        Change::JoinTokenPut(JoinToken {
            token: token.to_owned(),
            expires_at: START + after,
        })
    };
    fixture
        .put([token("short", MINUTE), token("long", 60 * MINUTE)])
        .await;
    sleep(6 * MINUTE).await;
    let state = fixture.registry.read();
    assert_eq!(
        (
            state.join_token("short").is_some(),
            state.join_token("long").is_some()
        ),
        (false, true)
    );
}

#[tokio::test(start_paused = true)]
async fn many_expired_entries_are_pruned_in_one_go() {
    let fixture = Fixture::open().await;
    fixture
        .put((0..1201).map(|n| expiring(&format!("e{n}"), AGENT, SECOND)))
        .await;
    sleep(5 * MINUTE + SECOND).await;
    assert_eq!(fixture.registry.read().entry_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_pruner_that_fails_tries_again() {
    let fixture = Fixture::open().await;
    fixture.put([expiring("e", AGENT, SECOND)]).await;
    fixture.store.fail(true);
    sleep(6 * MINUTE).await;
    fixture.store.fail(false);
    sleep(5 * MINUTE).await;
    assert_eq!(fixture.registry.read().entry_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn nodes_are_pruned_as_configured_and_banned_ones_never() {
    for (include_tofu, left) in [
        (false, vec!["banned", "live", "tofu"]),
        (true, vec!["banned", "live"]),
    ] {
        let pruning = NodePruning {
            expired_for: 30 * MINUTE,
            batch: 100,
            include_tofu,
        };
        let fixture = Fixture::open_with(Some(pruning)).await;
        let put = |name: &str, can_reattest: bool, serial: &str, life: Duration| {
            let mut put = node(&format!("/spire/agent/{name}"), &[]);
            (put.can_reattest, put.serial, put.not_after) = (can_reattest, serial.to_owned(), START + life);
            Change::NodePut(Arc::new(put))
        };
        let nodes = [
            put("dead", true, "1", MINUTE),
            put("tofu", false, "1", MINUTE),
            put("banned", true, "", MINUTE),
            put("live", true, "1", 60 * MINUTE),
        ];
        fixture.put(nodes).await;
        sleep(76 * MINUTE).await;
        let state = fixture.registry.read();
        let mut held: Vec<_> = state.nodes().map(|(_, node)| node.id.to_string()).collect();
        held.sort();
        let left = left
            .into_iter()
            .map(|name| spiffe(&format!("/spire/agent/{name}")).to_string());
        assert_eq!(held, left.collect::<Vec<_>>());
    }
}
