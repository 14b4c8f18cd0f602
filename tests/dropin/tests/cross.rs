//! Servers and agents of different makes work together.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use credence_dropin::{Programs, ServedJwt, ServedX509, Site, said, spire};
use credence_test_support::{Process, wait_until};
use serde_json::Value;

use crate::{credence, passed};

/// Runs `test` with our server and SPIRE's agent, then the other way round.
fn both_ways(name: &str, test: impl Fn(&Programs, &Programs, &Programs) -> usize) {
    let Some(spire) = spire(name) else {
        return;
    };
    let ours = credence();
    for (server, agent, who) in [(&ours, &spire, "our server"), (&spire, &ours, "our agent")] {
        // The command line is the agent's make: each make's administers the server of the other.
        let compared = test(server, agent, agent);
        passed(&format!("{name}: {who}"), compared, &spire);
    }
}

/// An agent of one make joins a server of the other by a token, another by a certificate, and each serves a workload.
#[test]
fn an_agent_attests_to_the_other_server_and_serves_its_workloads() {
    both_ways("attestation", |server, agent, cli| {
        let site = Site::new("");
        let _server = site.start_server(server);
        let _joined = site.join(cli, agent, "joined", "");
        drop(site.entry(cli, "joined", "web", &["-dns", "web.example.org"]));
        site.configure_agent(cli, "certified", &site.certificates().attestor(), "");
        let _certified = site.start_agent(agent, "certified");
        let group = "spiffe://example.org/node/certified";
        let selector = "x509pop:san:cluster:test";
        drop(site.server_ok(
            cli,
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
        drop(site.entry(cli, "certified", "db", &[]));
        for (name, id) in [("joined", "web"), ("certified", "db")] {
            drop(site.wait_for_svid(agent, name, id));
            let served = site.x509(agent, name).expect("an X.509-SVID that verifies");
            assert_eq!(served.id, format!("spiffe://example.org/{id}"));
            drop(site.jwt(agent, name).expect("a JWT-SVID that validates"));
        }
        let listed = site.server_ok(cli, &["agent", "list"]);
        assert!(listed.contains("Found 2 attested agents"), "{listed}");
        5
    });
}

/// A workload keeps its identity while its SVIDs are renewed, and while server and agent are restarted.
#[test]
fn an_agent_serves_through_renewals_and_restarts() {
    both_ways("renewal and restarts", |server, agent, cli| {
        let site = Site::new("default_x509_svid_ttl = \"8s\"\n  agent_ttl = \"40s\"");
        let mut running = site.start_server(server);
        let mut node = site.join(cli, agent, "node", "");
        drop(site.entry(cli, "node", "web", &[]));
        drop(site.wait_for_svid(agent, "node", "web"));
        let mut serials = BTreeSet::new();
        let mut fetches = 0;
        let mut fetch_for = |site: &Site, seconds: u64| {
            let until = Instant::now() + Duration::from_secs(seconds);
            while Instant::now() < until {
                let x509 = site.x509(agent, "node").expect("an X.509-SVID that verifies");
                drop(site.jwt(agent, "node").expect("a JWT-SVID that validates"));
                serials.insert(x509.serial);
                fetches += 2;
                std::thread::sleep(Duration::from_millis(250));
            }
        };
        fetch_for(&site, 5);
        assert!(running.stop().success(), "the server ends cleanly");
        fetch_for(&site, 2);
        running = site.start_server(server);
        fetch_for(&site, 6);
        assert!(node.stop().success(), "the agent ends cleanly");
        node = site.start_agent(agent, "node");
        drop(site.wait_for_svid(agent, "node", "web"));
        fetch_for(&site, 3);
        assert!(serials.len() > 2, "renewed: {serials:?}");
        // It is the same node: a token attests once.
        let listed = site.server_ok(cli, &["agent", "list"]);
        assert!(listed.contains("Found 1 attested agent"), "{listed}");
        drop((running, node));
        fetches
    });
}

/// What `what` is waited for in the log of `process`, in the words that others wait for.
fn logged(process: &mut Process, lines: &[&str]) -> usize {
    for line in lines {
        process.wait_for_line(line, 1);
    }
    lines.len()
}

/// A member of what a `localauthority` command prints as JSON.
fn authority(site: &Site, cli: &Programs, words: &[&str], path: &str) -> String {
    let mut words = words.to_vec();
    words.extend(["-output", "json"]);
    let printed = site.server_ok(cli, &words);
    let printed: Value = serde_json::from_str(&printed).expect("JSON");
    let id = printed.pointer(path).and_then(Value::as_str);
    id.unwrap_or_else(|| panic!("no {path} in {printed}")).to_owned()
}

/// Authorities are prepared, activated, tainted and revoked; what they had signed is issued anew, and the log says so.
#[test]
fn an_agent_serves_through_a_taint() {
    both_ways("taint", |server, agent, cli| {
        let site = Site::new("");
        let mut running = site.start_server(server);
        let mut node = site.join(cli, agent, "node", "");
        drop(site.entry(cli, "node", "web", &[]));
        drop(site.wait_for_svid(agent, "node", "web"));
        let x509 = |wanted: &dyn Fn(&ServedX509) -> bool, what: &str| {
            wait_until(what, Duration::from_secs(30), || {
                let served = site.x509(agent, "node").expect("an X.509-SVID that verifies");
                wanted(&served).then_some(served)
            })
        };
        let jwt = |wanted: &dyn Fn(&ServedJwt) -> bool, what: &str| {
            wait_until(what, Duration::from_secs(30), || {
                let served = site.jwt(agent, "node").expect("a JWT-SVID that validates");
                wanted(&served).then_some(served)
            })
        };
        let mut checks = 0;
        let step = |kind: &str, step: &str, id: &str| {
            drop(site.server_ok(cli, &["localauthority", kind, step, "-authorityID", id]));
        };

        let old = authority(
            &site,
            cli,
            &["localauthority", "x509", "show"],
            "/active/authority_id",
        );
        assert_eq!(x509(&|_| true, "an SVID").authority, old);
        let new = authority(
            &site,
            cli,
            &["localauthority", "x509", "prepare"],
            "/prepared_authority/authority_id",
        );
        x509(
            &|served| served.authorities == 2,
            "the prepared authority in the bundle",
        );
        step("x509", "activate", &new);
        step("x509", "taint", &old);
        x509(&|served| served.authority == new, "an SVID of the new authority");
        checks += logged(
            &mut running,
            &[
                "X509 CA prepared",
                "X509 CA activated",
                "Successfully rotated X.509 CA",
                "X.509 authority tainted successfully",
                "Server SVID signed using a tainted authority, forcing rotation of the Server SVID",
            ],
        );
        checks += logged(
            &mut node,
            &[
                "New tainted X.509 authorities found",
                "Scheduled rotation for SVID entries due to tainted X.509 authorities",
                "Agent SVID is tainted by a root authority, forcing rotation",
            ],
        );
        wait_until(
            "the agent's own SVID of the new authority",
            Duration::from_secs(30),
            || {
                let log = node.output();
                log.contains("Successfully rotated agent SVID").then_some(())
            },
        );
        step("x509", "revoke", &old);
        x509(&|served| served.authorities == 1, "the revoked authority gone");
        checks += logged(&mut running, &["X.509 authority revoked successfully"]);

        let old = jwt(&|_| true, "a token").key_id;
        let new = authority(
            &site,
            cli,
            &["localauthority", "jwt", "prepare"],
            "/prepared_authority/authority_id",
        );
        jwt(&|served| served.keys == 2, "the prepared key in the bundle");
        step("jwt", "activate", &new);
        step("jwt", "taint", &old);
        jwt(&|served| served.key_id == new, "a token of the new key");
        step("jwt", "revoke", &old);
        jwt(&|served| served.keys == 1, "the revoked key gone");
        checks += logged(
            &mut running,
            &[
                "JWT key prepared",
                "JWT key activated",
                "JWT authority tainted successfully",
                "JWT authority revoked successfully",
            ],
        );
        checks += logged(
            &mut node,
            &["JWT-SVIDs were removed from the JWT cache because they were issued by a tainted authority"],
        );
        checks + 8
    });
}

/// The lines that those who watch a start wait for, in the logs of both makes.
#[test]
fn starts_are_logged_in_the_same_words() {
    let Some(spire) = spire("log lines") else {
        return;
    };
    let mut compared = 0;
    for make in [&credence(), &spire] {
        let site = Site::new("");
        let server = site.start_server(make);
        assert!(server.stop().success());
        // Two more after a restart.
        let mut server = site.start_server(make);
        let mut node = site.join(make, make, "node", "");
        let id = site.entry(make, "node", "web", &[]);
        drop(site.wait_for_svid(make, "node", "web"));
        drop(site.agent_cli(make, "node", &["api", "fetch", "jwt", "-audience", "test"]));
        compared += logged(
            &mut node,
            &[
                "SVID is not found. Starting node attestation",
                "Node attestation was successful",
                "Starting agent APIs",
                "Entry created",
                &format!("entry={id}"),
                "spiffe_id=\"spiffe://example.org/web\"",
                "method=FetchJWTSVID",
            ],
        );
        let healthy = site.agent_cli(make, "node", &["healthcheck"]);
        assert!(healthy.status.success(), "{}", said(&healthy));
        let log = site.server_ok(make, &["agent", "list", "-output", "json"]);
        let listed: Value = serde_json::from_str(&log).expect("JSON");
        let path = listed
            .pointer("/agents/0/id/path")
            .and_then(Value::as_str)
            .expect("a path");
        let agent = format!("spiffe://example.org{path}");
        drop(site.server_ok(make, &["agent", "ban", "-spiffeID", &agent]));
        compared += logged(&mut server, &["Agent banned"]);
        assert!(
            !node.wait(Duration::from_secs(20)).success(),
            "a banned agent ends"
        );
        let log = node.output();
        for line in [
            "Agent is banned: removing SVID and shutting down",
            "failed to fetch authorized entries:",
        ] {
            assert!(log.contains(line), "{line}:\n{log}");
            compared += 1;
        }
        drop(site.server_ok(make, &["agent", "evict", "-spiffeID", &agent]));
        compared += logged(&mut server, &["Agent deleted"]);
    }
    passed("log lines", compared, &spire);
}
