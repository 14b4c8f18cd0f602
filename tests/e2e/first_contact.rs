//! By what an agent trusts its server at first, and again when the server was set up anew.

use std::fs;
use std::path::Path;
use std::time::Duration;

use credence_test_support::{Lab, counterparts, wait_until};

use crate::node_certificate::make_certificates;
use crate::{CREDENCE, said};

fn serves(lab: &Lab, agent: &str, id: &str) -> bool {
    let fetched = lab.agent_cli(agent, &["api", "fetch", "x509"]);
    fetched.status.success() && String::from_utf8_lossy(&fetched.stdout).contains(id)
}

fn wait_for(lab: &Lab, agent: &str, id: &str) {
    wait_until(&format!("{agent} serves {id}"), Duration::from_secs(20), || {
        serves(lab, agent, id).then_some(())
    });
}

/// An identity for this user on all nodes with the certificate.
fn register(lab: &Lab, id: &str) {
    let group = "spiffe://example.org/cluster/gpu";
    let uid = format!("unix:uid:{}", nix::unistd::geteuid());
    let alias = "entry create -node -selector x509pop:san:cluster:gpu -spiffeID";
    let entry = format!("entry create -parentID {group} -selector {uid} -spiffeID");
    for (command, id) in [(alias, group), (&entry, id)] {
        let arguments: Vec<_> = command.split_whitespace().chain([id]).collect();
        drop(lab.ok(&arguments));
    }
}

#[test]
fn an_agent_comes_back_by_itself_when_its_server_was_set_up_anew_if_it_may() {
    if !counterparts::installed("openssl", "openssl") {
        return;
    }
    let lab = Lab::new(CREDENCE);
    let certificates = lab.dir().join("certificates");
    make_certificates(&certificates);
    fs::copy(certificates.join("ca.pem"), lab.dir().join("x509pop-ca.pem")).expect("trust the root");
    let server = lab.server();
    let attestor = format!(
        "NodeAttestor \"x509pop\" {{ plugin_data {{ private_key_path = \"{0}/leaf.key\" certificate_path = \
         \"{0}/leaf.pem\" }} }}",
        certificates.display()
    );
    let mode = "rebootstrap_mode = \"auto\"\n  rebootstrap_delay = \"2s\"";
    drop(lab.agent_config("auto", &attestor, mode));
    let mut auto = lab.agent_again("auto");
    auto.wait_for_line("Starting agent APIs", 1);
    register(&lab, "spiffe://example.org/old");
    let mut never = lab.agent("never");
    lab.entry("never", "kept", &[]);
    wait_for(&lab, "auto", "spiffe://example.org/old");
    wait_for(&lab, "never", "spiffe://example.org/kept");

    assert!(server.stop().success());
    fs::remove_dir_all(lab.server_data()).expect("lose the server's data");
    let _server = lab.server();
    register(&lab, "spiffe://example.org/new");
    auto.wait_for_line("Trust Bundle and Server don't agree, rebootstrapping", 1);
    // What its source has now is what went before: the agent drops nothing for that.
    auto.wait_for_line("doesn't prove the server either", 1);
    assert!(serves(&lab, "auto", "spiffe://example.org/old"));

    fs::write(lab.dir().join("bundle.pem"), lab.ok(&["bundle", "show"])).expect("write the bundle");
    assert!(!auto.wait(Duration::from_secs(20)).success());
    assert!(
        auto.output().contains("shutting down for rebootstrapping"),
        "{}",
        auto.output()
    );
    let _auto = lab.agent_again("auto");
    wait_for(&lab, "auto", "spiffe://example.org/new");

    assert!(never.is_running());
    assert!(serves(&lab, "never", "spiffe://example.org/kept"));
    counterparts::record("openssl", "ran");
}

#[test]
fn an_agent_gets_its_first_bundle_from_another_agent() {
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let _first = lab.agent("first");
    lab.entry("first", "web", &[]);
    wait_for(&lab, "first", "spiffe://example.org/web");

    let printed = lab.ok(&[
        "token",
        "generate",
        "-spiffeID",
        "spiffe://example.org/node/second",
    ]);
    let token = printed.split_whitespace().nth(1).expect("a token");
    let attestor = "NodeAttestor \"join_token\" { plugin_data {} }";
    let path = lab.agent_config("second", attestor, &format!("join_token = \"{token}\""));
    let text = fs::read_to_string(&path).expect("read the configuration");
    let source = format!(
        "trust_bundle_spiffe_workload_api = \"{}\"",
        lab.workload_api("first")
    );
    let bundle = format!("trust_bundle_path = \"{}\"", bundle_path(lab.dir()));
    assert!(text.contains(&bundle), "{text}");
    fs::write(&path, text.replace(&bundle, &source)).expect("write the configuration");
    let mut second = lab.agent_again("second");
    second.wait_for_line("Starting agent APIs", 1);
    let fetched = lab.agent_cli("second", &["healthcheck"]);
    assert!(fetched.status.success(), "{}", said(&fetched));
}

fn bundle_path(dir: &Path) -> String {
    dir.join("bundle.pem").display().to_string()
}
