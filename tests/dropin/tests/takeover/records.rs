//! What SPIRE's commands say of SPIRE's server, they say of ours in its place.

use std::time::Duration;

use credence_dropin::{Programs, Site, spire};

use super::spires_files;
use crate::{credence, passed};

/// What is compared: commands whose JSON shows all that is taken over.
const SHOWN: [&[&str]; 7] = [
    &["entry", "show"],
    &["agent", "list"],
    &["bundle", "show"],
    &["bundle", "list"],
    &["federation", "list"],
    &["bundle", "count"],
    &["agent", "count"],
];

fn create(site: &Site, spire: &Programs, arguments: &[&str]) {
    drop(site.server_ok(spire, &[&["entry", "create"], arguments].concat()));
}

/// One of everything that a trust domain may hold.
fn fill(site: &Site, spire: &Programs) {
    let document = site.server_ok(spire, &["bundle", "show", "-format", "spiffe"]);
    for domain in ["spiffe://zwei.test", "spiffe://acht.test", "spiffe://drei.test"] {
        let set = ["bundle", "set", "-id", domain, "-format", "spiffe"];
        assert!(site.server_cli_with(spire, &set, &document).status.success());
    }
    let create_relationship = [
        "federation",
        "create",
        "-bundleEndpointURL",
        "https://drei.test:8443/x",
    ];
    let spiffe = [
        "-trustDomain",
        "drei.test",
        "-bundleEndpointProfile",
        "https_spiffe",
        "-endpointSpiffeID",
        "spiffe://drei.test/spire/server",
    ];
    drop(site.server_ok(spire, &[&create_relationship[..], &spiffe].concat()));
    let web = ["-trustDomain", "vier.test", "-bundleEndpointProfile", "https_web"];
    drop(site.server_ok(spire, &[&create_relationship[..], &web].concat()));

    let parent = ["-parentID", "spiffe://example.org/node/joined"];
    let plain = [
        "-spiffeID",
        "spiffe://example.org/plain",
        "-selector",
        "unix:uid:1",
        "-selector",
        "unix:gid:1",
        "-selector",
        "k8s:pod-label:a:b",
    ];
    create(site, spire, &[&parent[..], &plain].concat());
    let full = [
        "-entryID",
        "an.entry-of_mine",
        "-spiffeID",
        "spiffe://example.org/full",
        "-selector",
        "aws:tag:x",
        "-selector",
        "aws:id:y",
        "-dns",
        "z.example.org",
        "-dns",
        "a.example.org",
        "-federatesWith",
        "spiffe://zwei.test",
        "-federatesWith",
        "spiffe://drei.test",
        "-federatesWith",
        "spiffe://acht.test",
        "-admin",
        "-downstream",
        "-hint",
        "external",
        "-entryExpiry",
        "4000000000",
        "-x509SVIDTTL",
        "77",
        "-jwtSVIDTTL",
        "88",
        "-disableX509SVIDPrefetch",
        "-jwtSVIDIncludeJTI",
    ];
    create(site, spire, &[&parent[..], &full].concat());
    let stored = [
        "-spiffeID",
        "spiffe://example.org/stored",
        "-storeSVID",
        "-selector",
        "aws:b",
    ];
    create(
        site,
        spire,
        &[&parent[..], &stored, &["-selector", "aws:a"]].concat(),
    );
    let node = ["-node", "-spiffeID", "spiffe://example.org/group"];
    create(
        site,
        spire,
        &[&node[..], &["-selector", "x509pop:san:cluster:test"]].concat(),
    );
    let changed = [
        "-entryID",
        "changed",
        "-spiffeID",
        "spiffe://example.org/changed",
        "-selector",
        "a:b",
    ];
    let changed = [&parent[..], &changed].concat();
    create(site, spire, &changed);
    for hint in ["first", "second"] {
        let update = [&["entry", "update", "-hint", hint], &changed[..]].concat();
        drop(site.server_ok(spire, &update));
    }
}

#[test]
fn everything_in_spires_datastore_reads_the_same_from_our_server() {
    let Some(spire) = spire("records taken over") else {
        return;
    };
    let (site, ours) = (Site::new(""), credence());
    let server = site.start_server(&spire);
    let joined = site.join(&spire, &spire, "joined", "");
    site.configure_agent(&spire, "banned", &site.certificates().attestor(), "");
    let banned = site.start_agent(&spire, "banned");
    fill(&site, &spire);
    let listed = site.server_ok(&spire, &["agent", "list", "-output", "json"]);
    let path = listed
        .split("\"path\":\"")
        .find(|path| path.starts_with("/spire/agent/x509pop/"));
    let path = path
        .and_then(|rest| rest.split('"').next())
        .expect("the agent's path");
    assert!(joined.stop().success() && banned.stop().success());
    let id = format!("spiffe://example.org{path}");
    drop(site.server_ok(&spire, &["agent", "ban", "-spiffeID", &id]));
    let token = site.server_ok(
        &spire,
        &["token", "generate", "-spiffeID", "spiffe://example.org/node/late"],
    );
    let token = token.split_whitespace().nth(1).expect("a token").to_owned();

    let ask = |arguments: &&[&str]| {
        let said = site.server_ok(&spire, &[*arguments, &["-output", "json"]].concat());
        (arguments.join(" "), said)
    };
    let of_spire: Vec<_> = SHOWN.iter().map(ask).collect();
    assert!(server.stop().success());
    let files = spires_files(&site);
    let server = site.start_server(&ours);
    assert!(
        server.output().contains("Took SPIRE's datastore over"),
        "{}",
        server.output()
    );
    for (of_spire, of_ours) in of_spire.iter().zip(SHOWN.iter().map(ask)) {
        assert_eq!(*of_spire, of_ours);
    }

    // A token that SPIRE generated admits an agent, and one that SPIRE banned stays out.
    let attestor = "NodeAttestor \"join_token\" { plugin_data {} }";
    site.configure_agent(&spire, "late", attestor, &format!("join_token = \"{token}\""));
    drop(site.start_agent(&spire, "late"));
    let mut banned = site.start_agent_unready(&spire, "banned");
    assert!(!banned.wait(Duration::from_secs(30)).success());

    assert!(server.stop().success());
    assert_eq!(spires_files(&site), files, "SPIRE's files were written");
    let mut server = site.start_server_unready(&ours);
    server.wait_for_line("Using the database that was taken over from SPIRE's", 1);
    server.wait_for_line("Starting Server APIs", 2);
    drop(server);
    let _server = site.start_server(&spire);
    assert_eq!(of_spire, SHOWN.iter().map(ask).collect::<Vec<_>>());
    passed("records taken over", 2 * SHOWN.len(), &spire);
}

#[test]
fn a_server_of_spires_that_still_runs_is_read_whole() {
    let Some(spire) = spire("live datastore") else {
        return;
    };
    let (site, ours) = (Site::new(""), credence());
    let mut server = site.start_server(&spire);
    drop(site.entry(&spire, "node", "web", &[]));
    server.kill();
    assert!(
        spires_files(&site).contains_key("datastore.sqlite3-wal"),
        "all is in the log"
    );
    let files = spires_files(&site);
    let server = site.start_server(&ours);
    assert!(
        server.output().contains("SPIRE has not closed its datastore"),
        "{}",
        server.output()
    );
    let shown = site.server_ok(&ours, &["entry", "show"]);
    assert!(shown.contains("spiffe://example.org/web"), "{shown}");
    assert!(server.stop().success());
    assert_eq!(spires_files(&site), files);

    // SPIRE goes on, so does ours: the next start must not choose.
    let server = site.start_server(&spire);
    drop(site.entry(&spire, "node", "more", &[]));
    assert!(server.stop().success());
    let server = site.start_server(&ours);
    drop(site.entry(&ours, "node", "ours", &[]));
    assert!(server.stop().success());
    let server = site.start_server(&spire);
    drop(site.entry(&spire, "node", "theirs", &[]));
    assert!(server.stop().success());
    let mut server = site.start_server_unready(&ours);
    assert!(!server.wait(Duration::from_secs(30)).success());
    assert!(
        server.output().contains("has changes of its own"),
        "{}",
        server.output()
    );
    passed("live datastore", 3, &spire);
}
