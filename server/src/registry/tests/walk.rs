//! The registry against a model that knows no index and no shortcut: whatever happens, an agent's entries are those
//! that the rules say, and whoever's view changed has been told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use credence_identity::{Bundle, Entry, Selector, SpiffeId, Timestamp, TrustDomain};
use credence_runtime::clock::Clock;
use proptest::prelude::*;

use super::*;
use crate::store::Node;

const AGENTS: [&str; 3] = ["/spire/agent/a", "/spire/agent/b", "/spire/agent/c"];
const SELECTORS: [&str; 3] = ["n:1", "n:2", "n:3"];

#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<Change>),
    Wait(Duration),
    Forward(Duration),
    Back(Duration),
}

/// What an agent is to be told of: if this differs, something of its own has changed.
#[derive(Debug, PartialEq)]
struct View {
    entries: Vec<Arc<Entry>>,
    node: Option<Arc<Node>>,
    bundles: BTreeMap<TrustDomain, Arc<Bundle>>,
}

fn view(state: &State, agent: &SpiffeId, now: Timestamp) -> View {
    let entries = naive(state, agent, now);
    let domains = entries
        .iter()
        .flat_map(|entry| entry.federates_with.clone())
        .chain([domain("td.test")]);
    let bundles = domains
        .filter_map(|td| Some((td.clone(), state.bundle(&td)?.clone())))
        .collect();
    View {
        entries,
        node: state.node(agent).cloned(),
        bundles,
    }
}

/// The rules as they are written: go on until nothing new is held.
fn naive(state: &State, agent: &SpiffeId, now: Timestamp) -> Vec<Arc<Entry>> {
    let Some((_, node)) = state
        .nodes()
        .find(|(_, node)| node.id == *agent && !node.serial.is_empty())
    else {
        return Vec::new();
    };
    let live: Vec<_> = state
        .entries()
        .map(|(_, entry)| entry)
        .filter(|e| !e.is_expired_at(now))
        .collect();
    let has: BTreeSet<&Selector> = node.selectors.iter().collect();
    let mut held = BTreeSet::from([agent.clone()]);
    for entry in &live {
        let applies = !entry.selectors.is_empty() && entry.selectors.iter().all(|s| has.contains(s));
        if entry.parent_id == spiffe("/spire/server") && applies {
            held.insert(entry.spiffe_id.clone());
        }
    }
    loop {
        let before = held.len();
        held.extend(
            live.iter()
                .filter(|e| held.contains(&e.parent_id))
                .map(|e| e.spiffe_id.clone())
                .collect::<Vec<_>>(),
        );
        if held.len() == before {
            return live
                .into_iter()
                .filter(|e| held.contains(&e.parent_id))
                .cloned()
                .collect();
        }
    }
}

pub(super) fn change() -> impl Strategy<Value = Change> {
    let id = || prop::sample::select(vec!["e0", "e1", "e2", "e3", "e4", "e5", "e6", "e7", "e8", "e9"]);
    let selectors = || prop::sample::subsequence(SELECTORS.to_vec(), 0..=3);
    let groups = || prop::sample::select(vec!["/g1", "/g2", "/g3", "/g4"]);
    let agents = || prop::sample::select(AGENTS.to_vec());
    let parent = prop_oneof![2 => agents(), 4 => groups(), 2 => Just("/spire/server")];
    let spiffe_id = prop_oneof![3 => groups(), 1 => Just("/w")];
    let expiry = prop::option::weighted(0.3, 1..60u64);
    let put = (id(), parent, spiffe_id, selectors(), expiry, any::<bool>());
    let put = put.prop_map(|(id, parent, spiffe_id, selectors, expiry, federates)| {
        let mut put = entry(id, parent, spiffe_id, &selectors);
        put.expires_at = expiry.map(|seconds| START + Duration::from_secs(seconds));
        put.federates_with = if federates {
            vec![domain("far.test")]
        } else {
            Vec::new()
        };
        entry_put(put)
    });
    let node = (agents(), selectors(), prop::bool::weighted(0.1)).prop_map(|(id, selectors, banned)| {
        let mut put = node(id, &selectors);
        if banned {
            put.serial.clear();
        }
        Change::NodePut(Arc::new(put))
    });
    let bundle = (prop::sample::select(vec!["far.test", "td.test"]), 0..9u64).prop_map(|(name, sequence)| {
        let mut bundle = Bundle::empty(domain(name));
        bundle.sequence_number = sequence;
        Change::BundlePut(Arc::new(bundle))
    });
    prop_oneof![
        12 => put,
        4 => id().prop_map(delete),
        3 => node,
        1 => agents().prop_map(|id| Change::NodeDelete(spiffe(id))),
        1 => bundle,
    ]
}

fn step() -> impl Strategy<Value = Step> {
    let span = |least| (least..40u64).prop_map(Duration::from_secs);
    // Steps of two seconds or less pass unnoticed, and an expiry is told of that much later.
    prop_oneof![
        8 => prop::collection::vec(change(), 1..6).prop_map(Step::Commit),
        2 => span(1).prop_map(Step::Wait),
        1 => span(3).prop_map(Step::Forward),
        1 => span(3).prop_map(Step::Back),
    ]
}

async fn play(steps: Vec<Step>) -> Result<(), TestCaseError> {
    let fixture = Fixture::open().await;
    fixture
        .put([Change::BundlePut(Arc::new(Bundle::empty(domain("far.test"))))])
        .await;
    let agents = AGENTS.map(spiffe);
    for step in steps {
        let look = || {
            let (state, now) = (fixture.registry.read(), fixture.clock.now());
            agents
                .iter()
                .map(|agent| view(&state, agent, now))
                .collect::<Vec<_>>()
        };
        let before = look();
        let subscriptions = agents.each_ref().map(|agent| fixture.registry.subscribe(agent));
        match step.clone() {
            Step::Commit(changes) => fixture.put(changes).await,
            Step::Wait(span) => tokio::time::sleep(span).await,
            Step::Forward(span) => fixture.clock.step_forward(span),
            Step::Back(span) => fixture.clock.step_back(span),
        }
        if !matches!(step, Step::Commit(_)) {
            // A step of the clock is looked for once a second. The odd end keeps this from looking at the very
            // moment of an expiry, when either task may come first.
            tokio::time::sleep(Duration::from_millis(3_007)).await;
        }
        let after = look();
        for ((agent, subscription), views) in agents.iter().zip(&subscriptions).zip(before.iter().zip(&after))
        {
            let told = subscription.has_changed();
            prop_assert!(
                told || views.0 == views.1,
                "{agent} was not told that {:?} became {:?}",
                views.0,
                views.1
            );
        }
        prop_assert_eq!(check(&fixture.registry, &agents, fixture.clock.now()), None);
    }
    // What changes have made of the indexes is what loading makes of them.
    let reopened = fixture.reopen().await;
    prop_assert_eq!(check(&reopened, &agents, fixture.clock.now()), None);
    Ok(())
}

/// The first disagreement with the rules.
fn check(registry: &Registry, agents: &[SpiffeId], now: Timestamp) -> Option<String> {
    let state = registry.read();
    agents.iter().find_map(|agent| {
        let wanted = naive(&state, agent, now);
        let found = state.authorized_entries(agent, now);
        if found != wanted {
            return Some(format!("{agent} may have {wanted:?}, but gets {found:?}"));
        }
        let differs = |entry: &Entry| {
            state.authorized_entry(agent, &entry.id, now).is_some() != wanted.iter().any(|w| w.id == entry.id)
        };
        let (_, entry) = state.entries().find(|(_, entry)| differs(entry))?;
        Some(format!(
            "{agent} and {entry:?} do not find each other as they should"
        ))
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn entries_and_notifications_are_those_of_the_rules(steps in prop::collection::vec(step(), 1..24)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
        runtime.block_on(play(steps))?;
    }
}
