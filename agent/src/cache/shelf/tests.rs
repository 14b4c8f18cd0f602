use credence_runtime::clock::ManualClock;
use proptest::prelude::*;

use super::*;
use crate::cache::testing::{START, entry};

#[derive(Debug)]
struct Paper {
    id: SpiffeId,
    not_after: Timestamp,
}

impl Document for Paper {
    fn spiffe_id(&self) -> &SpiffeId {
        &self.id
    }

    fn not_after(&self) -> Timestamp {
        self.not_after
    }

    fn authority(&self) -> Option<&[u8]> {
        None
    }
}

fn kept(entry: &Entry, now: Moment, ttl: u64, jitter: f64) -> Kept<Paper> {
    let paper = Paper {
        id: entry.spiffe_id.clone(),
        not_after: now.wall + Duration::from_secs(ttl),
    };
    Kept::new(Arc::new(paper), EntryVersion::of(entry), now, jitter)
}

fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

#[tokio::test(start_paused = true)]
async fn due_at_half_of_the_time_left_and_served_to_the_end() {
    let (clock, entry) = (ManualClock::new(START), entry("a"));
    let paper = kept(&entry, Moment::now(&clock), 100, 0.0);
    tokio::time::advance(seconds(49)).await;
    assert!(!paper.is_due_at(&entry, Moment::now(&clock)));
    tokio::time::advance(seconds(1)).await;
    assert!(paper.is_due_at(&entry, Moment::now(&clock)));
    tokio::time::advance(seconds(49)).await;
    assert!(paper.serves_at(&entry, clock.now()));
    tokio::time::advance(seconds(1)).await;
    assert!(!paper.serves_at(&entry, clock.now()), "it has ended");
}

#[tokio::test(start_paused = true)]
async fn a_step_forwards_makes_due_at_once_and_a_step_back_doesnt_put_off() {
    let (clock, entry) = (ManualClock::new(START), entry("a"));
    let paper = kept(&entry, Moment::now(&clock), 3600, 0.0);
    tokio::time::advance(seconds(2)).await;
    clock.step_forward(seconds(3600));
    assert!(paper.is_due_at(&entry, Moment::now(&clock)));
    clock.step_back(seconds(7200));
    assert!(!paper.is_due_at(&entry, Moment::now(&clock)));
    assert!(paper.serves_at(&entry, clock.now()), "nothing is dropped");
    tokio::time::advance(seconds(1798)).await;
    assert!(
        paper.is_due_at(&entry, Moment::now(&clock)),
        "half an hour is over all the same"
    );
}

#[tokio::test(start_paused = true)]
async fn never_due_twice_within_a_second() {
    let (clock, entry) = (ManualClock::new(START), entry("a"));
    let dead_on_arrival = kept(&entry, Moment::now(&clock), 0, -1.0);
    assert!(!dead_on_arrival.is_due_at(&entry, Moment::now(&clock)));
    clock.step_forward(seconds(3600));
    assert!(!dead_on_arrival.is_due_at(&entry, Moment::now(&clock)));
    tokio::time::advance(seconds(1)).await;
    assert!(dead_on_arrival.is_due_at(&entry, Moment::now(&clock)));
}

#[tokio::test(start_paused = true)]
async fn another_version_is_due_and_another_identity_is_not_served() {
    let (clock, old) = (ManualClock::new(START), entry("a"));
    let now = Moment::now(&clock);
    let paper = kept(&old, now, 100, 0.0);
    let updated = Entry {
        revision_number: 1,
        ..old.clone()
    };
    assert!(paper.is_due_at(&updated, now) && paper.serves_at(&updated, now.wall));
    let recreated = Entry {
        created_at: START + seconds(1),
        ..old.clone()
    };
    assert!(paper.is_due_at(&recreated, now));
    let renamed = Entry {
        spiffe_id: entry("b").spiffe_id,
        revision_number: 1,
        ..old
    };
    assert!(!paper.serves_at(&renamed, now.wall));
}

#[derive(Debug, Clone)]
enum Step {
    Put(u8),
    Touch(u8),
    Remove(u8),
    Evict(Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let key = 0_u8..12;
    prop_oneof![
        4 => key.clone().prop_map(Step::Put),
        2 => key.clone().prop_map(Step::Touch),
        1 => key.clone().prop_map(Step::Remove),
        2 => prop::collection::vec(key, 0..6).prop_map(Step::Evict),
    ]
}

proptest! {
    /// The model: keys in a list, the least recently used first.
    #[test]
    fn lets_the_least_recently_used_go_as_a_list_would(limit in 0_usize..8, steps in prop::collection::vec(step(), 0..80)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let _in_runtime = runtime.enter();
        let now = Moment::now(&ManualClock::new(START));
        let mut shelf: Shelf<u8, Paper> = Shelf::new(limit);
        let mut model: Vec<u8> = Vec::new();
        for step in steps {
            match step {
                Step::Put(key) => {
                    shelf.put(key, kept(&entry("a"), now, 100, 0.0));
                    if !model.contains(&key) {
                        model.push(key);
                    }
                }
                Step::Touch(key) => {
                    shelf.touch(&key);
                    if let Some(at) = model.iter().position(|held| *held == key) {
                        model.remove(at);
                        model.push(key);
                    }
                }
                Step::Remove(key) => {
                    shelf.remove(&key);
                    model.retain(|held| *held != key);
                }
                Step::Evict(pinned) => {
                    let mut expected = Vec::new();
                    while model.len() > limit {
                        let Some(at) = model.iter().position(|held| !pinned.contains(held)) else { break };
                        expected.push(model.remove(at));
                    }
                    prop_assert_eq!(shelf.evict(|key, _| pinned.contains(key)), expected);
                }
            }
            let mut held = model.clone();
            held.sort_unstable();
            prop_assert_eq!(shelf.iter().map(|(key, _)| *key).collect::<Vec<_>>(), held);
            prop_assert_eq!(shelf.room(), limit.saturating_sub(model.len()));
            prop_assert_eq!(shelf.is_over_limit(), model.len() > limit);
        }
    }
}
