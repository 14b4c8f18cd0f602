//! An agent's files under one make and then the other.

use credence_dropin::{Programs, Site, spire};
use credence_test_support::Process;

use crate::{credence, passed};

/// What an agent of either make says when it proves its node anew.
const ATTESTS: &str = "Node attestation was successful";

/// Starts the agent on what the one before it left; it goes on as the same node.
fn goes_on(site: &Site, agent: &Programs) -> Process {
    let process = site.start_agent(agent, "node");
    drop(site.wait_for_svid(agent, "node", "web"));
    assert!(!process.output().contains(ATTESTS), "{}", process.output());
    process
}

/// The agent's own SVID is renewed within seconds, into the files.
fn renews(site: &Site, mut process: Process) -> Process {
    let file = site.folder().join("node/data/agent-data.json");
    let held = || std::fs::read(&file).expect("the agent's state");
    let before = held();
    process.wait_for("the agent's renewal", || held() != before);
    process
}

fn there_and_back(server: &Programs, name: &str) {
    let Some(spire) = spire(name) else { return };
    let (site, ours) = (Site::new("agent_ttl = \"24s\""), credence());
    let _server = site.start_server(server);
    let first = site.join(server, &spire, "node", "");
    drop(site.entry(server, "node", "web", &[]));
    drop(site.wait_for_svid(&spire, "node", "web"));
    assert!(first.stop().success());
    for agent in [&ours, &spire, &ours] {
        let process = renews(&site, goes_on(&site, agent));
        assert!(process.stop().success());
    }
    let listed = site.server_ok(server, &["agent", "count"]);
    assert!(listed.starts_with("1 attested agent"), "{listed}");
    passed(name, 4, &spire);
}

#[test]
fn agents_of_both_makes_go_on_with_each_others_files_at_our_server() {
    there_and_back(&credence(), "agent's files, our server");
}

#[test]
fn agents_of_both_makes_go_on_with_each_others_files_at_a_server_of_spire() {
    if let Some(server) = spire("agent's files, SPIRE's server") {
        there_and_back(&server, "agent's files, SPIRE's server");
    }
}
