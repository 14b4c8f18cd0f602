//! The real Envoy takes its certificates and what it verifies by from the agent, by both of its protocols, and calls go on
//! whatever changes.

mod config;
mod proxy;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use credence_test_support::{Lab, counterparts, wait_until};
use serde_json::Value;
use spiffe::{WorkloadApiClient, X509Context};
use tokio_stream::StreamExt as _;

use crate::{CREDENCE, cache, said};
use config::{Config, End, Protocol};
use proxy::{Envoy, Load, call, ports};

const SERVER: &str = "spiffe://example.org/server";
const CLIENT: &str = "spiffe://example.org/client";
const OTHER: &str = "spiffe://example.org/other";
const PARTNER: &str = "spiffe://partner.test";
const PATIENCE: Duration = Duration::from_secs(10);
const SECOND: Duration = Duration::from_secs(1);
const ROTATIONS: usize = 50;

/// The program, if it can be had.
fn program() -> Option<PathBuf> {
    counterparts::envoy(cache())
}

fn wait_for_calls(port: u16) {
    wait_until("a call to succeed", PATIENCE, || call(port).ok());
}

/// Has the SVIDs of an entry signed anew: a change of its DNS names asks for that.
fn reissue(lab: &Lab, entry: &str, spiffe_id: &str, round: usize) {
    let selector = format!("unix:uid:{}", nix::unistd::geteuid());
    let dns = format!("r{round}.example.org");
    let update = ["entry", "update", "-parentID", "spiffe://example.org/node/node"];
    let more = [
        "-entryID",
        entry,
        "-spiffeID",
        spiffe_id,
        "-selector",
        &selector,
        "-dns",
        &dns,
    ];
    drop(lab.ok(&[&update[..], &more[..]].concat()));
}

fn json(lab: &Lab, arguments: &str) -> Value {
    let arguments: Vec<&str> = arguments.split(' ').chain(["-output", "json"]).collect();
    serde_json::from_str(&lab.ok(&arguments)).expect("JSON")
}

/// A serves by DeltaSecrets, B calls it by StreamSecrets: through fifty rotations of both certificates, then through a
/// new authority and the taint of the old one, while calls never cease.
#[test]
fn envoys_call_each_other_through_rotations_and_no_call_fails() {
    let Some(program) = program() else { return };
    let lab = Lab::new(CREDENCE);
    let _running = (lab.server(), lab.agent("node"));
    let entries = ["server", "client", "other"].map(|name| lab.entry("node", name, &[]));
    let socket = lab.agent_socket("node");
    let [tls, plain, other] = ports();
    let serving = End::new(SERVER, "ROOTCA", Protocol::Delta).with_peer(CLIENT);
    let calling = |svid| End::new(svid, "spiffe://example.org", Protocol::Whole).with_peer(SERVER);
    let back = Envoy::start(&program, lab.dir(), "back", |admin| {
        Config::new(admin, &socket).serve(tls, &serving)
    });
    let front = Envoy::start(&program, lab.dir(), "front", |admin| {
        let config = Config::new(admin, &socket);
        config
            .call(plain, tls, &calling(CLIENT))
            .call(other, tls, &calling(OTHER))
    });
    let (back, front) = (back.ready(), front.ready());
    wait_for_calls(plain);
    let refused = call(other).expect_err("a peer of another identity");
    assert!(refused.contains("503"), "{refused}");

    let load = Load::on(plain);
    let mut slowest = Duration::ZERO;
    for round in 0..ROTATIONS {
        let before = (back.updates(SERVER), front.updates(CLIENT));
        reissue(&lab, &entries[0], SERVER, round);
        reissue(&lab, &entries[1], CLIENT, round);
        let began = Instant::now();
        back.wait_for_update(SERVER, before.0, PATIENCE);
        front.wait_for_update(CLIENT, before.1, PATIENCE);
        slowest = slowest.max(began.elapsed());
    }
    let taken = taint_under_load(&lab, &back, &front);
    let calls = load.none_failed();
    assert!(calls > 2 * ROTATIONS, "{calls} calls");
    let refused = [
        back.stat(SERVER, "update_rejected"),
        back.stat("ROOTCA", "update_rejected"),
        front.stat(CLIENT, "update_rejected"),
        front.stat("spiffe://example.org", "update_rejected"),
    ];
    assert_eq!(refused, ["0"; 4]);
    counterparts::record(
        "envoy",
        &format!("ran: {calls} calls, slowest of {ROTATIONS} rotations {slowest:?}, {taken}"),
    );
}

/// A bundle with the next authority is there within a second, and so is each SVID after the taint of the old one.
fn taint_under_load(lab: &Lab, back: &Envoy, front: &Envoy) -> String {
    let own = "spiffe://example.org";
    let before = (back.updates("ROOTCA"), front.updates(own));
    let prepared = json(lab, "localauthority x509 prepare");
    let began = Instant::now();
    back.wait_for_update("ROOTCA", before.0, SECOND);
    front.wait_for_update(own, before.1, SECOND);
    let bundle = began.elapsed();
    let id = prepared["prepared_authority"]["authority_id"]
        .as_str()
        .expect("an id");
    drop(json(
        lab,
        &format!("localauthority x509 activate -authorityID {id}"),
    ));
    let shown = json(lab, "localauthority x509 show");
    let old = shown["old"]["authority_id"].as_str().expect("an id").to_owned();

    let before = (back.updates(SERVER), front.updates(CLIENT));
    let runtime = tokio::runtime::Runtime::new().expect("start a runtime");
    let signed = runtime.block_on(async {
        let client = WorkloadApiClient::connect_to(lab.workload_api("node")).await;
        let client = client.expect("connect");
        let mut stream = client.stream_x509_contexts().await.expect("a stream");
        let first = stream.next().await.expect("a message").expect("SVIDs");
        let taint = ["localauthority", "x509", "taint", "-authorityID", &old];
        // Refused until the agent has said that it holds the new authority.
        wait_until("the taint", PATIENCE, || {
            lab.cli(&taint).status.success().then_some(())
        });
        let leaves = |context: &X509Context| -> Vec<Vec<u8>> {
            let svids = context.svids().iter();
            svids.map(|svid| svid.leaf().as_bytes().to_vec()).collect()
        };
        let first = leaves(&first);
        // All of them, for one answer may come before the next is signed.
        loop {
            let next = stream.next().await.expect("a message").expect("SVIDs");
            if leaves(&next).iter().all(|leaf| !first.contains(leaf)) {
                break Instant::now();
            }
        }
    });
    back.wait_for_update(SERVER, before.0, SECOND);
    front.wait_for_update(CLIENT, before.1, SECOND);
    format!(
        "bundle {bundle:?}, SVIDs {:?} after their signing",
        signed.elapsed()
    )
}

#[test]
fn an_agent_that_dies_and_returns_costs_no_call_and_repeats_nothing() {
    let Some(program) = program() else { return };
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let mut agent = lab.agent("node");
    lab.entry("node", "server", &[]);
    lab.entry("node", "client", &[]);
    let socket = lab.agent_socket("node");
    for protocol in [Protocol::Whole, Protocol::Delta] {
        let [tls, plain, late_tls, late] = ports();
        let name = format!("late-{protocol:?}").to_lowercase();
        let late_id = format!("spiffe://example.org/{name}");
        let serving = End::new(SERVER, "ROOTCA", protocol).with_peer(CLIENT);
        let calling = End::new(CLIENT, "ROOTCA", protocol);
        let envoy = Envoy::start(&program, lab.dir(), &format!("{protocol:?}"), |admin| {
            Config::new(admin, &socket)
                .serve(tls, &serving)
                .call(plain, tls, &calling.clone().with_peer(SERVER))
                .serve(late_tls, &End::new(&late_id, "ROOTCA", protocol))
                .call(late, late_tls, &calling.clone().with_peer(&late_id))
        });
        let envoy = envoy.ready();
        wait_for_calls(plain);
        call(late).expect_err("an identity that the workload hasn't got");

        let load = Load::on(plain);
        let (version, svid) = (envoy.version("ROOTCA"), envoy.version(SERVER));
        let before = ["ROOTCA", SERVER].map(|secret| envoy.updates(secret));
        agent.kill();
        std::thread::sleep(SECOND);
        agent = lab.agent_again("node");
        envoy.wait_for_update(SERVER, before[1], 2 * PATIENCE);
        assert_ne!(envoy.version(SERVER), svid, "a new process has new keys");
        let asked = "resource_names=\"[ROOTCA]\"";
        agent.wait_for_line(asked, 1);
        assert_eq!(
            (envoy.updates("ROOTCA"), envoy.version("ROOTCA")),
            (before[0], version)
        );

        lab.entry("node", &name, &[]);
        wait_for_calls(late);
        load.none_failed();
        counterparts::record("envoy", &format!("ran: an agent that dies, {protocol:?}"));
    }
}

/// A root of another trust domain, and a certificate of it with its key, in `folder`.
fn partner(folder: &Path) {
    let openssl = |arguments: &str| {
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config none.cnf -days 1";
        let output = Command::new("openssl")
            .args(format!("req -x509 {key} {arguments}").split(' '))
            .current_dir(folder)
            .output()
            .expect("run openssl");
        assert!(output.status.success(), "{}", said(&output));
    };
    fs::create_dir_all(folder).expect("make a folder");
    fs::write(
        folder.join("none.cnf"),
        "[req]\ndistinguished_name = name\n[name]\n",
    )
    .expect("write");
    openssl(&format!(
        "-keyout ca.key -out ca.pem -subj /CN=partner -addext basicConstraints=critical,CA:TRUE \
         -addext keyUsage=critical,keyCertSign,cRLSign -addext subjectAltName=URI:{PARTNER}"
    ));
    openssl(&format!(
        "-CA ca.pem -CAkey ca.key -keyout leaf.key -out leaf.pem -subj /CN=peer \
         -addext basicConstraints=critical,CA:FALSE -addext keyUsage=critical,digitalSignature \
         -addext subjectAltName=URI:{PARTNER}/peer"
    ));
}

/// Four doors for a peer of a federated trust domain: `ROOTCA` and `ALL`, each alone and with the peer's name.
#[test]
fn a_federated_peer_is_refused_by_one_name_and_taken_by_the_other() {
    let Some(program) = program() else { return };
    if !counterparts::installed("openssl", "openssl") {
        return;
    }
    let lab = Lab::new(CREDENCE);
    let (_server, mut agent) = (lab.server(), lab.agent("node"));
    let entry = lab.entry("node", "server", &[]);
    let (socket, files) = (lab.agent_socket("node"), lab.dir().join("partner"));
    partner(&files);
    for protocol in [Protocol::Whole, Protocol::Delta] {
        let end = |bundle| End::new(SERVER, bundle, protocol);
        let peer = format!("{PARTNER}/peer");
        let doors = [
            end("ROOTCA"),
            end("ROOTCA").with_peer(&peer),
            end("ALL"),
            end("ALL").with_peer(&peer),
        ];
        let (tls, foreign, [own, wrong]) = (ports::<4>(), ports::<4>(), ports());
        let envoy = Envoy::start(&program, lab.dir(), &format!("doors-{protocol:?}"), |admin| {
            let caller = end("ROOTCA").with_files(&files);
            let config = Config::new(admin, &socket).call(own, tls[2], &end("ROOTCA"));
            // A bundle is no certificate.
            let config = config.serve(wrong, &End::new("ROOTCA", "ROOTCA", protocol));
            let doors = doors.iter().zip(tls).zip(foreign);
            doors.fold(config, |config, ((door, tls), foreign)| {
                config.serve(tls, door).call(foreign, tls, &caller)
            })
        });
        let envoy = envoy.ready();
        wait_for_calls(own);
        for port in foreign {
            call(port).expect_err("no bundle of the partner's is there");
        }
        agent.wait_for_line("Envoy reported errors applying secrets", 1);
        let before = envoy.updates("ALL");
        federate(&lab, &entry, &files.join("ca.pem"));
        envoy.wait_for_update("ALL", before, PATIENCE);
        let taken = foreign.map(|port| call(port).is_ok());
        assert_eq!(taken, [false, false, true, true], "{protocol:?}");
        drop(lab.ok(&["bundle", "delete", "-id", PARTNER, "-mode", "dissociate"]));
        wait_until("the partner to be refused again", PATIENCE, || {
            foreign.iter().all(|port| call(*port).is_err()).then_some(())
        });
        wait_for_calls(own);
        counterparts::record("envoy", &format!("ran: a federated peer, {protocol:?}"));
    }
}

fn federate(lab: &Lab, entry: &str, roots: &Path) {
    let roots = roots.display().to_string();
    drop(lab.ok(&["bundle", "set", "-id", PARTNER, "-path", &roots]));
    let selector = format!("unix:uid:{}", nix::unistd::geteuid());
    let update = ["entry", "update", "-parentID", "spiffe://example.org/node/node"];
    let more = ["-entryID", entry, "-spiffeID", SERVER, "-selector", &selector];
    drop(lab.ok(&[&update[..], &more[..], &["-federatesWith", PARTNER]].concat()));
}
