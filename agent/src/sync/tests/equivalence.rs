//! Push against poll: after any changes both end with the same set, and with what the server says.

use std::collections::BTreeMap;

use credence_runtime::tls::KeyExchange;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use super::*;
use crate::cache::EntryVersion;

#[derive(Debug, Clone)]
enum Change {
    Put(u8, u8),
    Delete(u8),
    /// The agent that polls does so now.
    Poll,
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0_u8..6, 0_u8..4).prop_map(|(id, name)| Change::Put(id, name)),
        2 => (0_u8..6).prop_map(Change::Delete),
        1 => Just(Change::Poll),
    ]
}

/// A second cache on the identity of an agent, that is kept in step by polls alone.
pub(super) struct Poller {
    pub(super) synchroniser: Synchroniser,
    // An agent that is refused isn't this test's business.
    _refused: mpsc::Receiver<Refused>,
}

impl Poller {
    pub(super) fn of(agent: &Agent, lab: &Lab) -> Self {
        let (bundle, own_bundle) = watch::channel(agent.synced.cache.bundle());
        let (refusals, refused) = mpsc::channel(1);
        let connector = Connector {
            address: ServerAddress {
                host: "127.0.0.1".to_owned(),
                port: lab.port,
            },
            trust_domain: trust_domain(),
            bundle: own_bundle.clone(),
            clock: lab.clock.clone(),
            key_exchange: KeyExchange::Any,
        };
        let server = Server::new(connector, agent.synced.svid.borrow().clone(), refusals).unwrap();
        let issuer = Arc::new(ServerTokenIssuer {
            server: server.clone(),
            key_type: KeyType::EcP256,
        });
        let bundle_held = Arc::new(Bundle::empty(trust_domain()));
        let synchroniser = Synchroniser {
            server,
            svid: agent.synced.svid.clone(),
            cache: Cache::new(lab.clock.clone(), bundle_held, CacheLimits::default(), issuer),
            trust: fake::trust(&lab.path("poller"), lab.clock.clone()),
            bundle,
            in_step: watch::channel(0).0,
            last_sync: watch::channel(None).0,
            clock: lab.clock.clone(),
            interval: Duration::from_secs(5),
            whole_sets: false,
            version: "poller",
            signing: watch::channel(Signing::default()).1,
            journal: Journal::new(lab.clock.clone()),
        };
        Self {
            synchroniser,
            _refused: refused,
        }
    }
}

/// Entries by id with their version and identity.
fn held(cache: &Cache) -> BTreeMap<String, (EntryVersion, String)> {
    let all: SelectorSet = selectors(&(0..9).collect::<Vec<_>>()).into_iter().collect();
    let entries = cache.matching(&all);
    let versions = cache.versions();
    assert_eq!(entries.len(), versions.len());
    entries
        .iter()
        .map(|entry| {
            (
                entry.id.to_string(),
                (EntryVersion::of(entry), entry.spiffe_id.path().to_owned()),
            )
        })
        .collect()
}

async fn wait_until_held(cache: &Cache, expected: &BTreeMap<String, (EntryVersion, String)>) {
    let mut subscription = cache.subscribe(selectors(&(0..9).collect::<Vec<_>>()).into_iter().collect());
    let wait = async {
        while held(cache) != *expected {
            subscription.changed().await;
        }
    };
    let in_time = timeout(PATIENCE, wait).await;
    assert!(in_time.is_ok(), "pushed {:?}, polled {expected:?}", held(cache));
}

#[test]
fn push_and_poll_end_with_the_same_set() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let (lab, agent, poller) = runtime.block_on(async {
        let lab = Lab::new().await;
        let agent = Agent::new(&lab).await;
        let poller = Poller::of(&agent, &lab);
        (lab, agent, poller)
    });
    let config = ProptestConfig {
        cases: 24,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let outcome = TestRunner::new(config).run(&prop::collection::vec(change(), 1..25), |changes| {
        runtime.block_on(async {
            let mut registered: BTreeMap<u8, u8> = held(&agent.synced.cache)
                .keys()
                .map(|id| (id.trim_start_matches('e').parse().unwrap(), 0))
                .collect();
            for change in changes {
                match change {
                    Change::Put(id, name) => {
                        let (key, spiffe) = (format!("e{id}"), format!("name-{id}-{name}"));
                        if registered.insert(id, name).is_some() {
                            lab.update(&agent.id, &key, &spiffe, id).await;
                        } else {
                            lab.create(&agent.id, &[(&key, &spiffe, id)]).await;
                        }
                    }
                    Change::Delete(id) => {
                        if registered.remove(&id).is_some() {
                            lab.delete(&format!("e{id}")).await;
                            // Polls tell an entry that was made anew by the second of its creation.
                            lab.clock.step_forward(Duration::from_secs(1));
                        }
                    }
                    Change::Poll => poller.synchroniser.poll().await.unwrap(),
                }
            }
            poller.synchroniser.poll().await.unwrap();
            let polled = held(&poller.synchroniser.cache);
            assert_eq!(polled.len(), registered.len());
            wait_until_held(&agent.synced.cache, &polled).await;
            assert_eq!(agent.synced.cache.digest(), poller.synchroniser.cache.digest());
            assert_eq!(agent.synced.cache.bundle(), poller.synchroniser.cache.bundle());
        });
        Ok(())
    });
    outcome.unwrap();
}

/// More entries than a page: revisions, then bodies in batches, by either way.
#[tokio::test]
async fn a_large_set_comes_in_pages_both_ways() {
    let lab = Lab::new().await;
    let agent = Agent::new(&lab).await;
    let names: Vec<(String, String)> = (0..1203).map(|n| (format!("e{n:04}"), format!("w{n}"))).collect();
    for part in names.chunks(400) {
        let entries: Vec<_> = part
            .iter()
            .map(|(id, name)| (id.as_str(), name.as_str(), 1))
            .collect();
        lab.create(&agent.id, &entries).await;
    }
    let poller = Poller::of(&agent, &lab);
    poller.synchroniser.poll().await.unwrap();
    let polled = held(&poller.synchroniser.cache);
    assert_eq!(polled.len(), names.len());
    wait_until_held(&agent.synced.cache, &polled).await;

    lab.delete("e0007").await;
    lab.update(&agent.id, "e0900", "changed", 1).await;
    poller.synchroniser.poll().await.unwrap();
    let polled = held(&poller.synchroniser.cache);
    assert_eq!(
        (polled.len(), polled["e0900"].1.as_str()),
        (names.len() - 1, "/changed")
    );
    wait_until_held(&agent.synced.cache, &polled).await;

    // A new subscriber that holds nothing gets the whole set by pages and wants.
    let fresh = Poller::of(&agent, &lab);
    let in_step = fresh.synchroniser.in_step.subscribe();
    let cache = fresh.synchroniser.cache.clone();
    let Poller {
        synchroniser,
        _refused,
    } = fresh;
    tokio::select! {
        _ = synchroniser.run() => {}
        () = wait_until_held(&cache, &polled) => {}
    }
    drop(in_step);
}
