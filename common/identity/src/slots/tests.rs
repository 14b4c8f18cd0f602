use super::*;
use proptest::prelude::*;
use std::time::Duration;

#[derive(Debug, Clone, PartialEq, Eq)]
struct Span(i64, i64);

impl Lifetime for Span {
    fn issued_at(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.0)
    }

    fn not_after(&self) -> Timestamp {
        Timestamp::from_unix_seconds(self.1)
    }
}

const DAY: i64 = 86_400;

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_seconds(seconds)
}

/// Conforms: FED-33
#[test]
fn a_day_of_rotation_prepares_at_half_and_activates_at_five_sixths() {
    let mut slots = Slots::default();
    assert_eq!(slots.tick(at(0)), Action::PrepareNext);
    slots.prepare(Span(0, DAY));
    assert_eq!(slots.tick(at(0)), Action::ActivateNext);
    slots.activate().unwrap();
    assert_eq!(slots.active_name(), SlotName::A);
    assert_eq!(slots.tick(at(DAY / 2 - 1)), Action::None);
    assert_eq!(slots.wake_at(), Some(at(DAY / 2)));
    assert_eq!(slots.tick(at(DAY / 2)), Action::PrepareNext);
    assert_eq!(slots.next_name(), SlotName::B);
    slots.prepare(Span(DAY / 2, DAY * 3 / 2));
    assert_eq!(slots.tick(at(DAY / 6 * 5 - 1)), Action::None);
    assert_eq!(slots.tick(at(DAY / 6 * 5)), Action::ActivateNext);
    slots.activate().unwrap();
    assert_eq!(slots.next(), Some((NextStatus::Old, &Span(0, DAY))));
    assert_eq!(slots.activate(), Err(NotPrepared));
    // The old one does not stand in the way of the next.
    assert_eq!(slots.tick(at(DAY)), Action::PrepareNext);
    assert_eq!(slots.prepare(Span(DAY, 2 * DAY)), Some(Span(0, DAY)));
}

#[test]
fn a_backward_step_replaces_no_authority() {
    let mut slots = Slots::restore(SlotName::A, Some(Span(0, DAY)), None);
    assert_eq!(slots.tick(at(-40 * DAY)), Action::None);
    slots.prepare(Span(DAY / 2, DAY * 3 / 2));
    assert_eq!(slots.tick(at(-40 * DAY)), Action::None);
}

#[test]
fn a_prepared_authority_can_be_forgotten_and_an_old_one_cannot() {
    let mut slots = Slots::restore(SlotName::A, Some(Span(0, DAY)), None);
    slots.prepare(Span(1, DAY));
    slots.forget_prepared();
    assert_eq!(slots.next(), None);
    assert_eq!(slots.activate(), Err(NotPrepared));
    slots.prepare(Span(2, DAY));
    slots.activate().unwrap();
    slots.forget_prepared();
    assert_eq!(slots.next(), Some((NextStatus::Old, &Span(0, DAY))));
}

/// Conforms: FED-32
#[test]
fn a_successor_prepared_late_waits_until_verifiers_have_seen_it() {
    let now = DAY * 9 / 10;
    let mut slots = Slots::restore(SlotName::A, Some(Span(0, DAY)), None);
    assert_eq!(slots.tick(at(now)), Action::PrepareNext);
    slots.prepare(Span(now, now + DAY));
    assert_eq!(slots.tick(at(now + 59)), Action::None);
    assert_eq!(slots.wake_at(), Some(at(now + 60)));
    assert_eq!(slots.tick(at(now + 60)), Action::ActivateNext);
}

#[test]
fn after_a_long_sleep_the_published_successor_takes_over_unless_it_expired_too() {
    let slots = Slots::restore(
        SlotName::A,
        Some(Span(0, DAY)),
        Some((NextStatus::Prepared, Span(DAY / 2, DAY * 3 / 2))),
    );
    assert_eq!(slots.tick(at(DAY * 5 / 4)), Action::ActivateNext);
    assert_eq!(slots.tick(at(DAY * 2)), Action::PrepareNext);
}

proptest! {
    /// Whatever the lifetimes, the times between looks, manual preparations and failures: what signs was prepared before,
    /// nothing takes over before its time, and once there is an active authority there always is one.
    #[test]
    fn the_machine_keeps_its_invariant(
        steps in prop::collection::vec((-7200i64..40_000, 600i64..200_000, 0u8..8), 1..200),
    ) {
        let mut slots: Slots<Span> = Slots::default();
        let mut published: Vec<Span> = Vec::new();
        let mut now = 1_000_000i64;
        for (elapsed, life, what) in steps {
            now += elapsed;
            let before = slots.active().cloned();
            match slots.tick(at(now)) {
                // An operator prepares and activates whenever they like.
                Action::None if what == 7 => {
                    let authority = Span(now, now + life);
                    published.push(authority.clone());
                    let displaced = slots.next().map(|(_, a)| a.clone());
                    prop_assert_eq!(slots.prepare(authority), displaced);
                    prop_assert_eq!(slots.active(), before.as_ref());
                }
                Action::None if what == 6 => {
                    let next = slots.next().map(|(status, a)| (status, a.clone()));
                    match (next, slots.activate().cloned()) {
                        (Some((NextStatus::Prepared, next)), activated) => {
                            prop_assert_eq!(activated, Ok(next));
                            prop_assert_eq!(slots.next(), before.as_ref().map(|b| (NextStatus::Old, b)));
                        }
                        (_, activated) => {
                            prop_assert_eq!(activated, Err(NotPrepared));
                            prop_assert_eq!(slots.active(), before.as_ref());
                        }
                    }
                }
                Action::PrepareNext if what > 1 => {
                    let authority = Span(now, now + life);
                    published.push(authority.clone());
                    slots.prepare(authority);
                    prop_assert_eq!(slots.active(), before.as_ref());
                }
                Action::ActivateNext if what > 0 => {
                    let next = slots.next().map(|(_, a)| a.clone()).unwrap();
                    prop_assert!(at(now) < next.not_after());
                    if let Some(before) = before.as_ref().filter(|before| at(now) < before.not_after()) {
                        prop_assert!(at(now) >= activate_at(before.issued_at(), before.not_after()));
                        prop_assert!(at(now) >= settled_at(next.issued_at(), before.not_after()));
                    }
                    let name = slots.active_name();
                    slots.activate().unwrap();
                    prop_assert_eq!(slots.active(), Some(&next));
                    prop_assert_eq!(slots.active_name(), name.other());
                    prop_assert_eq!(slots.next(), before.as_ref().map(|b| (NextStatus::Old, b)));
                }
                Action::None => {
                    prop_assert!(slots.active().is_some());
                    // It says when to look again, and says so truly.
                    let wake = slots.wake_at().unwrap();
                    prop_assert!(wake > at(now));
                    prop_assert_ne!(slots.tick(wake), Action::None);
                    prop_assert_eq!(slots.tick(wake - Duration::from_millis(1)), Action::None);
                }
                // The preparation or activation failed: everything stays.
                _ => prop_assert_eq!(slots.active(), before.as_ref()),
            }
            prop_assert!(before.is_none() || slots.active().is_some());
            if let Some(active) = slots.active() {
                prop_assert!(published.contains(active));
            }
        }
    }
}
