mod taint;

use credence_identity::Selector;
use credence_runtime::clock::ManualClock;
use tokio::time::{advance, timeout};

use super::testing::{START, bundle, entry, selectors, svid, trust_domain};
use super::*;

struct Fixture {
    clock: Arc<ManualClock>,
    cache: Cache,
}

impl Fixture {
    fn new(x509_svids: usize) -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let limits = CacheLimits {
            x509_svids,
            ..CacheLimits::default()
        };
        let cache = Cache::new(
            clock.clone(),
            bundle(),
            limits,
            Arc::new(tokens::tests::Issuer::default()),
        );
        Self { clock, cache }
    }

    fn with_entries(x509_svids: usize, entries: Vec<Entry>) -> Self {
        let fixture = Self::new(x509_svids);
        fixture.put(entries);
        fixture
    }

    fn put(&self, entries: Vec<Entry>) {
        let entries = entries.into_iter().map(Arc::new).collect();
        self.cache.apply(CacheUpdate {
            entries,
            ..CacheUpdate::default()
        });
    }

    fn wanted(&self) -> Vec<String> {
        self.cache
            .wanted()
            .iter()
            .map(|wanted| wanted.entry.id.to_string())
            .collect()
    }

    /// Signs all that is wanted now, for an hour.
    fn sign(&self) {
        let now = self.clock.now();
        let hour = Duration::from_secs(3600);
        let sign = |wanted: Wanted| (wanted.entry.clone(), svid(&wanted.entry, now, hour));
        self.cache
            .put_x509_svids(self.cache.wanted().into_iter().map(sign).collect());
    }
}

fn caller(uids: &[u8]) -> SelectorSet {
    selectors(uids).into_iter().collect()
}

fn ids(update: &WorkloadUpdate) -> Vec<&str> {
    update
        .identities
        .iter()
        .map(|identity| identity.entry.id.as_str())
        .collect()
}

/// Whether the subscription has been told of a change since it last asked.
async fn was_told(subscription: &mut Subscription) -> bool {
    timeout(Duration::from_millis(1), subscription.changed())
        .await
        .is_ok()
}

#[tokio::test(start_paused = true)]
async fn a_caller_gets_what_all_its_selectors_cover_once_it_is_signed() {
    let two = Entry {
        selectors: selectors(&[1, 2]),
        ..entry("b")
    };
    let fixture = Fixture::with_entries(
        10,
        vec![
            two,
            entry("a"),
            Entry {
                store_svid: true,
                ..entry("stored")
            },
        ],
    );
    assert!(fixture.cache.identities(&caller(&[3])).is_unregistered());
    let before = fixture.cache.identities(&caller(&[1]));
    assert!(before.is_pending() && before.identities.is_empty() && !before.is_unregistered());
    fixture.sign();
    assert_eq!(ids(&fixture.cache.identities(&caller(&[1]))), ["a"]);
    let both = fixture.cache.identities(&caller(&[1, 2, 3]));
    assert_eq!(ids(&both), ["a", "b"]);
    assert!(!both.is_pending());
    assert_eq!(fixture.wanted(), [] as [&str; 0]);
    assert_eq!(fixture.cache.x509_svid_count(), 2, "the stored one isn't served");
}

#[tokio::test(start_paused = true)]
async fn nothing_expired_is_served_and_a_forward_step_renews_at_once() {
    let fixture = Fixture::with_entries(10, vec![entry("a")]);
    fixture.sign();
    advance(Duration::from_secs(2)).await;
    fixture.clock.step_forward(Duration::from_secs(3600));
    let update = fixture.cache.identities(&caller(&[1]));
    assert!(update.identities.is_empty() && update.is_pending());
    assert_eq!(fixture.wanted(), ["a"]);
    fixture.clock.step_back(Duration::from_secs(7200));
    assert_eq!(
        ids(&fixture.cache.identities(&caller(&[1]))),
        ["a"],
        "nothing was dropped"
    );
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_has_expired_serves_nobody() {
    let ends = Entry {
        expires_at: Some(START + Duration::from_secs(60)),
        ..entry("a")
    };
    let fixture = Fixture::with_entries(10, vec![ends]);
    fixture.sign();
    advance(Duration::from_secs(59)).await;
    assert_eq!(ids(&fixture.cache.identities(&caller(&[1]))), ["a"]);
    advance(Duration::from_secs(1)).await;
    assert!(fixture.cache.identities(&caller(&[1])).is_unregistered());
    assert!(fixture.cache.matching(&caller(&[1])).is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_renewal_is_due_at_half_of_the_life_and_has_the_old_end() {
    let fixture = Fixture::with_entries(10, vec![entry("a")]);
    fixture.sign();
    let due = fixture.cache.due_in().unwrap();
    assert!((1620..=1980).contains(&due.as_secs()), "{due:?}");
    advance(due).await;
    assert_eq!(fixture.cache.due_in(), Some(Duration::ZERO));
    let wanted = fixture.cache.wanted();
    assert_eq!(wanted[0].expires_at, Some(START + Duration::from_secs(3600)));
    fixture.sign();
    assert!(fixture.cache.due_in().unwrap() > Duration::from_secs(1600));
}

#[tokio::test(start_paused = true)]
async fn prefetch_stops_at_the_limit_and_subscribers_come_first_beyond_it() {
    let entry_for = |id: &str, uid: u8| Entry {
        selectors: selectors(&[uid]),
        ..entry(id)
    };
    let lazy = Entry {
        disable_x509_svid_prefetch: true,
        ..entry_for("lazy", 9)
    };
    let entries = vec![
        entry_for("a", 1),
        entry_for("b", 1),
        entry_for("c", 2),
        entry_for("d", 2),
        lazy,
    ];
    let fixture = Fixture::with_entries(2, entries);
    assert_eq!(fixture.wanted(), ["a", "b"]);
    fixture.sign();
    assert_eq!(fixture.wanted(), [] as [&str; 0]);

    let two = fixture.cache.subscribe(caller(&[2]));
    let nine = fixture.cache.subscribe(caller(&[9]));
    assert_eq!(fixture.wanted(), ["c", "d", "lazy"]);
    fixture.sign();
    assert_eq!(
        fixture.cache.x509_svid_count(),
        3,
        "the unused ones had to go, none of a subscriber"
    );
    assert_eq!((ids(&two.update()).len(), ids(&nine.update()).len()), (2, 1));

    drop(two);
    fixture.cache.evict();
    assert_eq!(fixture.cache.x509_svid_count(), 2);
    assert_eq!(ids(&nine.update()), ["lazy"]);
    assert_eq!(fixture.wanted(), [] as [&str; 0]);
}

#[tokio::test(start_paused = true)]
async fn a_subscriber_is_told_of_its_own_changes_only_and_once_for_several() {
    let fixture = Fixture::new(10);
    let mut one = fixture.cache.subscribe(caller(&[1]));
    let mut two = fixture.cache.subscribe(caller(&[2]));
    fixture.put(vec![entry("a")]);
    fixture.sign();
    assert!(was_told(&mut one).await);
    assert!(!was_told(&mut one).await, "both changes were one");
    assert!(!was_told(&mut two).await);

    let moved = Entry {
        selectors: selectors(&[2]),
        revision_number: 1,
        ..entry("a")
    };
    fixture.put(vec![moved]);
    assert!(was_told(&mut one).await && was_told(&mut two).await);
    assert!(one.update().is_unregistered());
    assert_eq!(
        ids(&two.update()),
        ["a"],
        "the old SVID serves until the new one comes"
    );

    let removed_entries = vec![entry("a").id];
    fixture.cache.apply(CacheUpdate {
        removed_entries,
        ..CacheUpdate::default()
    });
    assert!(was_told(&mut two).await && !was_told(&mut one).await);
    assert_eq!(fixture.cache.x509_svid_count(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_first_answer_waits_for_all_signatures() {
    let fixture = Fixture::with_entries(10, vec![entry("a")]);
    fixture.sign();
    fixture.put(vec![entry("b")]);
    let mut subscription = fixture.cache.subscribe(caller(&[1]));
    assert!(
        timeout(Duration::from_secs(5), subscription.settled())
            .await
            .is_err()
    );
    fixture.sign();
    assert_eq!(ids(&subscription.settled().await), ["a", "b"]);
}

#[tokio::test(start_paused = true)]
async fn an_svid_that_comes_too_late_for_its_entry_is_dropped() {
    let fixture = Fixture::with_entries(10, vec![entry("a")]);
    let late = fixture.cache.wanted();
    let removed_entries = vec![entry("a").id];
    fixture.cache.apply(CacheUpdate {
        removed_entries,
        ..CacheUpdate::default()
    });
    let signed = svid(&late[0].entry, START, Duration::from_secs(60));
    fixture
        .cache
        .put_x509_svids(vec![(late[0].entry.clone(), signed)]);
    assert_eq!(fixture.cache.x509_svid_count(), 0);

    // And one for an older state of its entry serves, but is replaced at once.
    fixture.put(vec![Entry {
        revision_number: 7,
        ..entry("a")
    }]);
    let signed = svid(&late[0].entry, START, Duration::from_secs(60));
    fixture
        .cache
        .put_x509_svids(vec![(late[0].entry.clone(), signed)]);
    assert_eq!(ids(&fixture.cache.identities(&caller(&[1]))), ["a"]);
    assert_eq!(fixture.wanted(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn bundles_reach_those_whose_entries_federate() {
    let foreign = TrustDomain::parse("other.org").unwrap();
    let federated = Entry {
        federates_with: vec![foreign.clone()],
        ..entry("a")
    };
    let fixture = Fixture::with_entries(
        10,
        vec![
            federated,
            Entry {
                selectors: selectors(&[2]),
                ..entry("b")
            },
        ],
    );
    let mut one = fixture.cache.subscribe(caller(&[1]));
    let mut two = fixture.cache.subscribe(caller(&[2]));
    let theirs = Arc::new(Bundle::empty(foreign.clone()));
    let update = CacheUpdate {
        bundles: vec![theirs.clone()],
        ..CacheUpdate::default()
    };
    fixture.cache.apply(update.clone());
    assert!(was_told(&mut one).await && !was_told(&mut two).await);
    assert_eq!(one.update().federated.get(&foreign), Some(&theirs));
    assert!(two.update().federated.is_empty());
    fixture.cache.apply(update);
    assert!(!was_told(&mut one).await, "the same bundle is no change");

    let ours = Arc::new(Bundle {
        sequence_number: 1,
        ..Bundle::empty(trust_domain())
    });
    fixture.cache.apply(CacheUpdate {
        bundles: vec![ours.clone()],
        ..CacheUpdate::default()
    });
    assert!(was_told(&mut one).await && was_told(&mut two).await);
    assert_eq!(fixture.cache.bundle(), ours);
    assert_eq!(fixture.cache.bundle_of(&trust_domain()), Some(ours));

    fixture.cache.apply(CacheUpdate {
        removed_bundles: vec![foreign.clone()],
        ..CacheUpdate::default()
    });
    assert!(was_told(&mut one).await);
    assert!(fixture.cache.bundle_of(&foreign).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_removed_selector_in_an_entry_without_any_serves_nobody() {
    let fixture = Fixture::with_entries(
        10,
        vec![Entry {
            selectors: Vec::<Selector>::new(),
            ..entry("a")
        }],
    );
    assert!(fixture.cache.identities(&caller(&[1])).is_unregistered());
    assert!(fixture.cache.identities(&caller(&[])).is_unregistered());
}

/// An entry that is deleted and made anew within a second has the version that it had.
#[tokio::test(start_paused = true)]
async fn another_entry_of_the_same_version_is_signed_anew() {
    let fixture = Fixture::with_entries(10, vec![entry("a")]);
    fixture.sign();
    fixture.put(vec![entry("a")]);
    assert_eq!(fixture.wanted(), [] as [&str; 0], "nothing has changed");
    let names = Entry {
        dns_names: vec!["db".into()],
        ..entry("a")
    };
    fixture.put(vec![names.clone()]);
    assert_eq!(fixture.wanted(), ["a"]);
    fixture.sign();
    fixture.put(vec![Entry {
        spiffe_id: entry("b").spiffe_id,
        ..names
    }]);
    assert_eq!(fixture.wanted(), ["a"]);
    assert!(fixture.cache.identities(&caller(&[1])).is_pending());
}

#[test]
fn power_is_never_lent_and_of_several_entries_the_oldest_is() {
    let fixture = Fixture::new(10);
    let id = entry("plain").spiffe_id;
    let named = |name: &str| Entry {
        spiffe_id: id.clone(),
        ..entry(name)
    };
    for unfit in [
        Entry {
            admin: true,
            ..named("a")
        },
        Entry {
            downstream: true,
            ..named("b")
        },
        Entry {
            store_svid: true,
            ..named("c")
        },
        Entry {
            expires_at: Some(START),
            ..named("d")
        },
    ] {
        fixture.put(vec![unfit]);
        assert_eq!(fixture.cache.entry_to_lend(&id), None);
    }
    let younger = Entry {
        created_at: START + Duration::from_secs(1),
        ..named("e")
    };
    for (new, lent) in [(younger, "e"), (named("z"), "z"), (named("f"), "f")] {
        fixture.put(vec![new]);
        let found = fixture.cache.entry_to_lend(&id).unwrap();
        assert_eq!(found.id.as_str(), lent);
    }
}
