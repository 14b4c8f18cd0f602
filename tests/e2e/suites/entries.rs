//! entries, events-based-entries, sync-authorized-entries: what an operator does to entries reaches the workload, by each
//! way in which agents learn of it.

use credence_test_support::Settings;

use super::*;
use crate::CREDENCE;

/// Creates, changes and deletes; the workload has at each time what it should.
fn entries_reach_workloads(settings: Settings) {
    let lab = Lab::with(CREDENCE, settings);
    let _server = lab.server();
    let _agent = lab.agent("node");
    let (first, second) = ("spiffe://example.org/first", "spiffe://example.org/second");
    let entry = lab.entry("node", "first", &[]);
    wait_for(&lab, "node", first, true);
    let uid = format!("unix:uid:{}", nix::unistd::geteuid());
    let parent = "spiffe://example.org/node/node";
    let update = |id: &str, selector: &str| {
        let line = [
            "entry",
            "update",
            "-entryID",
            &entry,
            "-parentID",
            parent,
            "-spiffeID",
            id,
            "-selector",
            selector,
        ];
        drop(lab.ok(&line));
    };
    update(second, &uid);
    wait_for(&lab, "node", second, true);
    assert!(!fetched(&lab, "node").contains(first));
    // It isn't this process's any more, and then again.
    update(second, "unix:uid:4294967290");
    wait_for(&lab, "node", second, false);
    update(second, &uid);
    wait_for(&lab, "node", second, true);
    lab.entry("elsewhere", "far", &[]);
    drop(lab.ok(&["entry", "delete", "-entryID", &entry]));
    wait_for(&lab, "node", second, false);
    assert!(
        !fetched(&lab, "node").contains("spiffe://example.org/far"),
        "another node's"
    );
}

#[test]
fn as_they_happen() {
    entries_reach_workloads(Settings::default());
}

#[test]
fn from_a_server_told_to_keep_events() {
    entries_reach_workloads(Settings {
        server: "experimental { events_based_cache = true }".to_owned(),
        ..Settings::default()
    });
}

#[test]
fn to_an_agent_that_asks_for_whole_sets() {
    entries_reach_workloads(Settings {
        agent: "experimental { use_sync_authorized_entries = false sync_interval = \"1s\" }".to_owned(),
        ..Settings::default()
    });
}
