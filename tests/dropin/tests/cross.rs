//! Servers and agents of different makes work together.

use credence_dropin::{Programs, Site, said, spire};
use credence_test_support::counterparts;

use crate::credence;

/// An agent of one make joins a server of the other by a token, then one by a certificate, and each serves a workload.
fn attests_and_serves(server: &Programs, agent: &Programs) {
    let site = Site::new("");
    let _server = site.start_server(server);
    let _joined = site.join(server, agent, "joined", "");
    drop(site.entry(server, "joined", "web", &["-dns", "web.example.org"]));
    site.configure_agent(server, "certified", &site.certificates().attestor(), "");
    let _certified = site.start_agent(agent, "certified");
    let group = "spiffe://example.org/node/certified";
    let selector = "x509pop:san:cluster:test";
    drop(site.server_ok(
        server,
        &[
            "entry",
            "create",
            "-node",
            "-spiffeID",
            group,
            "-selector",
            selector,
        ],
    ));
    drop(site.entry(server, "certified", "db", &[]));
    for (name, id) in [("joined", "web"), ("certified", "db")] {
        drop(site.wait_for_svid(agent, name, id));
        let token = site.agent_cli(agent, name, &["api", "fetch", "jwt", "-audience", "test"]);
        let text = String::from_utf8_lossy(&token.stdout).into_owned();
        assert!(
            text.contains(&format!("token(spiffe://example.org/{id})"))
                && text.contains("bundle(spiffe://example.org)"),
            "{}",
            said(&token)
        );
    }
    let listed = site.server_ok(server, &["agent", "list"]);
    assert!(listed.contains("Found 2 attested agents"), "{listed}");
}

#[test]
fn an_agent_of_spire_attests_to_our_server_and_serves_its_workloads() {
    let Some(spire) = spire("agent at our server") else {
        return;
    };
    attests_and_serves(&credence(), &spire);
    counterparts::record("spire (agent at our server)", "ran");
}

#[test]
fn our_agent_attests_to_a_server_of_spire_and_serves_its_workloads() {
    let Some(spire) = spire("server of our agent") else {
        return;
    };
    attests_and_serves(&spire, &credence());
    counterparts::record("spire (server of our agent)", "ran");
}
