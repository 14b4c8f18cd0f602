//! `credence explain` on real processes: misconfigurations made by changing one thing in a working set-up, of each of which
//! the right cause is named, and the set-up without it, of which no fault is.

mod agents;
mod entries;
mod world;

use std::collections::BTreeSet;

use agents::Working;
use world::World;

/// One misconfiguration and its twin.
struct Case {
    /// What it is about.
    area: &'static str,
    name: &'static str,
    run: fn(&mut World, &str),
}

/// What the misconfigurations go across.
const AREAS: [&str; 10] = [
    "attestation",
    "bundle",
    "clock",
    "configuration",
    "entry",
    "parent chain",
    "selectors",
    "signing",
    "socket",
    "sync",
];

#[test]
fn the_right_cause_is_named_for_each_misconfiguration_and_none_for_its_twin() {
    let cases = || entries::CASES.iter().chain(agents::CASES);
    let changes = agents::CHANGES;
    let areas = cases()
        .map(|case| case.area)
        .chain(changes.iter().map(|change| change.area));
    let areas: BTreeSet<&str> = areas.collect();
    assert!(areas.iter().eq(AREAS.iter()), "{areas:?}");
    let mut world = World::new();
    for case in entries::CASES {
        (case.run)(&mut world, case.name);
    }
    let mut working = Working::new(&world);
    for change in changes {
        working.run(&world, change);
    }
    world.working = Some(working);
    for case in agents::CASES {
        (case.run)(&mut world, case.name);
    }
    let all = cases().count() + changes.len();
    let named = all - world.skipped.len();
    assert!(all >= 30, "{all} misconfigurations");
    credence_test_support::counterparts::record(
        "explain",
        &format!("ran: {named} of {all} misconfigurations"),
    );
}
