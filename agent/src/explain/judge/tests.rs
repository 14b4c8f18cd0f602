use std::sync::Arc;
use std::time::Duration;

use credence_identity::{Selector, TrustDomain};

use super::*;
use crate::cache::testing::{START, entry, svid};
use crate::explain::journal::Note;
use crate::explain::{Trouble, TroubleKind};

struct World {
    survey: Survey,
    notes: Notes,
    answer: Option<Answer>,
    now: Timestamp,
}

fn offers() -> Vec<Offer> {
    vec![Offer {
        selector_type: "unix",
        kinds: vec!["uid", "user"],
        off: vec![("path", "switch it on")],
    }]
}

fn with(id: &str, selectors: &[&str]) -> Entry {
    Entry {
        selectors: selectors
            .iter()
            .map(|text| Selector::parse(text).unwrap())
            .collect(),
        ..entry(id)
    }
}

fn trouble(kind: TroubleKind) -> Note {
    Note {
        at: START,
        trouble: Trouble::new(kind, "said the test"),
    }
}

impl World {
    fn new() -> Self {
        Self {
            survey: Survey::default(),
            notes: Notes {
                in_step: Some(START),
                ..Notes::default()
            },
            answer: Some(Answer::default()),
            now: START,
        }
    }

    fn holding(entry: Entry) -> Self {
        let mut world = Self::new();
        world.hold(entry);
        world
    }

    fn hold(&mut self, entry: Entry) {
        self.survey.entries.push(HeldEntry {
            svid: Some(Arc::new(svid(&entry, START, Duration::from_secs(60)))),
            entry: Arc::new(entry),
            serves: true,
        });
    }

    fn causes_for(&self, wanted: Option<&SpiffeId>) -> Vec<&'static str> {
        let selectors: SelectorSet = ["unix:uid:0", "unix:user:root"]
            .iter()
            .map(|text| Selector::parse(text).unwrap())
            .collect();
        let mut explanation = Explanation::of("a test");
        let facts = Facts {
            selectors: &selectors,
            offers: &offers(),
            wanted,
            survey: &self.survey,
            notes: &self.notes,
            answer: self.answer.as_ref(),
            now: self.now,
        };
        judge(&facts, &mut explanation);
        explanation.findings.iter().map(|finding| finding.cause).collect()
    }

    fn causes(&self) -> Vec<&'static str> {
        self.causes_for(None)
    }
}

#[test]
fn who_is_served_gets_no_finding() {
    let mut world = World::holding(with("web", &["unix:uid:0"]));
    world.hold(with("other", &["unix:uid:7"]));
    assert!(world.causes().is_empty());
    // A server that is away takes nothing from those who are served.
    world.notes.synchronisation = Some(trouble(TroubleKind::ServerUnreachable));
    assert!(world.causes().is_empty());
}

#[test]
fn a_federated_bundle_that_is_missing_is_named_though_the_workload_is_served() {
    let foreign = TrustDomain::parse("b.test").unwrap();
    let mut world = World::holding(Entry {
        federates_with: [foreign.clone()].into(),
        ..with("web", &["unix:uid:0"])
    });
    assert_eq!(world.causes(), ["bundle-missing"]);
    world.survey.federated.push(foreign);
    assert!(world.causes().is_empty());
}

#[test]
fn a_near_miss_is_named_with_its_reason() {
    for (selector, cause) in [
        ("unix:uid:1000", "selector-missing"),
        ("unx:uid:0", "selector-type-unknown"),
        ("unix:usr:root", "selector-kind-unknown"),
        ("unix:path:/bin/a", "selector-switched-off"),
    ] {
        let world = World::holding(with("web", &["unix:user:root", selector]));
        assert_eq!(world.causes(), [cause], "{selector}");
    }
}

#[test]
fn the_entrys_own_state_comes_before_near_misses() {
    let expired = Entry {
        expires_at: Some(START),
        ..with("web", &["unix:uid:0"])
    };
    assert_eq!(World::holding(expired.clone()).causes(), ["entry-expired"]);
    let store = Entry {
        store_svid: true,
        ..with("web", &["unix:uid:0"])
    };
    assert_eq!(World::holding(store).causes(), ["store-svid"]);
    let mut world = World::new();
    world.survey.gone.push(Arc::new(expired));
    assert_eq!(world.causes(), ["entry-expired"]);
    world.survey.gone = vec![Arc::new(with("web", &["unix:uid:0"]))];
    assert_eq!(world.causes(), ["entry-removed"]);
    // One that was removed and would have matched any process of the user says nothing of this one.
    world.hold(with("own", &["unix:user:root", "unix:uid:7"]));
    assert_eq!(world.causes(), ["selector-missing"]);
}

#[test]
fn of_two_with_one_hint_the_younger_is_told_why() {
    let hinted = |id: &str, created: i64| Entry {
        hint: "db".into(),
        created_at: Timestamp::from_unix_seconds(created),
        ..with(id, &["unix:uid:0"])
    };
    let mut world = World::holding(hinted("old", 1));
    world.hold(hinted("young", 2));
    let young = entry("young").spiffe_id;
    assert_eq!(world.causes_for(Some(&young)), ["hint-taken"]);
}

#[test]
fn the_servers_answer_tells_where_the_entry_is() {
    let mut world = World::new();
    assert_eq!(world.causes(), ["no-entry"]);
    world.answer = Some(Answer {
        elsewhere: true,
        ..Answer::default()
    });
    assert_eq!(world.causes(), ["other-parent"]);
    world.answer = Some(Answer {
        authorized: vec![EntryId::parse("late").unwrap()],
        ..Answer::default()
    });
    assert_eq!(world.causes(), ["not-yet-here"]);
    world.answer = Some(Answer {
        clock_apart_seconds: -60,
        ..Answer::default()
    });
    assert_eq!(world.causes(), ["no-entry", "clock"]);
    let mut served = World::holding(with("web", &["unix:uid:0"]));
    served.answer = world.answer;
    assert_eq!(served.causes(), ["clock"]);
}

#[test]
fn an_agent_out_of_step_says_so_first() {
    let mut world = World::holding(with("web", &["unix:uid:1000"]));
    world.answer = None;
    world.notes.synchronisation = Some(trouble(TroubleKind::ServerUnreachable));
    assert_eq!(world.causes(), ["out-of-step", "selector-missing"]);
}

#[test]
fn what_is_not_signed_has_the_signers_trouble() {
    let mut world = World::holding(with("web", &["unix:uid:0"]));
    world.survey.entries[0].svid = None;
    assert_eq!(world.causes(), ["not-signed-yet"]);
    world.notes.signing = Some(trouble(TroubleKind::ServerUnreachable));
    assert_eq!(world.causes(), ["not-signed"]);
    let mut world = World::holding(with("web", &["unix:uid:0"]));
    world.now = START - Duration::from_secs(3600);
    assert_eq!(world.causes(), ["svid-out-of-time"]);
}
