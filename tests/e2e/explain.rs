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
    // Each team has a set-up of its own and waits for it most of the time.
    let (changes_one, changes_two) = changes.split_at(changes.len() / 2);
    let (cases_one, cases_two) = agents::CASES.split_at(agents::CASES.len() / 2);
    let (entries_one, entries_two) = entries::CASES.split_at(entries::CASES.len() / 2);
    let teams: [Team; 4] = [
        (&[], entries_one),
        (&[], entries_two),
        (changes_one, cases_one),
        (changes_two, cases_two),
    ];
    let skipped: usize = std::thread::scope(|scope| {
        let teams = teams.map(|team| scope.spawn(move || run(team)));
        teams
            .into_iter()
            .map(|team| match team.join() {
                Ok(skipped) => skipped,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .sum()
    });
    let all = cases().count() + changes.len();
    let named = all - skipped;
    assert!(all >= 30, "{all} misconfigurations");
    credence_test_support::counterparts::record(
        "explain",
        &format!("ran: {named} of {all} misconfigurations"),
    );
}

/// Changes of an agent's configuration, and other cases.
type Team = (&'static [agents::Change], &'static [Case]);

/// Runs them one after the other; the number of those that were skipped.
fn run((changes, cases): Team) -> usize {
    let mut world = World::new();
    if !changes.is_empty() {
        let mut working = Working::new(&world);
        for change in changes {
            working.run(&world, change);
        }
        world.working = Some(working);
    }
    for case in cases {
        (case.run)(&mut world, case.name);
    }
    world.skipped.len()
}
