//! Nodes that prove themselves by a certificate (x509pop), the odd ones of the field included: a notBefore in the year 1
//! and the serial number 0.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use credence_test_support::{Lab, counterparts, wait_until};

use crate::{CREDENCE, said};

const CONFIGURATION: &str = "[ca]\ndefault_ca = lab\n[lab]\ndatabase = index.txt\nserial = serial\nnew_certs_dir = .\n\
    default_md = sha256\npolicy = any\nx509_extensions = leaf\n[any]\ncommonName = supplied\n[leaf]\n\
    keyUsage = critical, digitalSignature\nsubjectAltName = URI:x509pop://example.org/cluster/gpu\n\
    [req]\ndistinguished_name = name\nx509_extensions = root\n[name]\n[root]\nbasicConstraints = critical, CA:TRUE\n";

/// Runs openssl in `dir`.
fn openssl(dir: &Path, arguments: &str) {
    let output = Command::new("openssl")
        .args(arguments.split_whitespace())
        .current_dir(dir)
        .output()
        .expect("run openssl");
    assert!(output.status.success(), "openssl {arguments}: {}", said(&output));
}

/// Makes `ca.pem`, and `leaf.pem` with `leaf.key`, in `dir`.
pub(crate) fn make_certificates(dir: &Path) {
    fs::create_dir_all(dir).expect("make a folder");
    fs::write(dir.join("ca.cnf"), CONFIGURATION).expect("write the configuration");
    fs::write(dir.join("index.txt"), "").expect("write the index");
    fs::write(dir.join("serial"), "00\n").expect("write the serial number");
    let key = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -config ca.cnf";
    openssl(
        dir,
        &format!("req -x509 {key} -keyout ca.key -out ca.pem -subj /CN=root -days 1"),
    );
    openssl(
        dir,
        &format!("req -new {key} -keyout leaf.key -out leaf.csr -subj /CN=agent"),
    );
    openssl(
        dir,
        "ca -batch -notext -config ca.cnf -cert ca.pem -keyfile ca.key -in leaf.csr -out leaf.pem \
         -startdate 00010101000000Z -enddate 20490101000000Z",
    );
}

#[test]
fn a_certificate_from_the_year_1_attests_and_attests_again() {
    if !counterparts::installed("openssl", "openssl") {
        return;
    }
    let lab = Lab::new(CREDENCE);
    let certificates = lab.dir().join("certificates");
    make_certificates(&certificates);
    fs::copy(certificates.join("ca.pem"), lab.dir().join("x509pop-ca.pem")).expect("trust the root");
    let _server = lab.server();
    let attestor = format!(
        "NodeAttestor \"x509pop\" {{ plugin_data {{ private_key_path = \"{0}/leaf.key\" certificate_path = \
         \"{0}/leaf.pem\" }} }}",
        certificates.display()
    );
    drop(lab.agent_config("node", &attestor, ""));
    let mut agent = lab.agent_again("node");
    agent.wait_for_line("Starting agent APIs", 1);

    let listed = lab.ok(&["agent", "list"]);
    let line = listed
        .lines()
        .find(|line| line.starts_with("SPIFFE ID"))
        .expect("an agent");
    let id = line.split_once(": ").expect("a value").1.to_owned();
    let hash = id
        .strip_prefix("spiffe://example.org/spire/agent/x509pop/")
        .expect("an x509pop agent");
    assert!(
        hash.len() == 40 && hash.bytes().all(|byte| byte.is_ascii_hexdigit()),
        "{id}"
    );
    let shown = lab.ok(&["agent", "show", "-spiffeID", &id]);
    assert!(shown.contains("x509pop:subject:cn:agent"), "{shown}");
    assert!(shown.contains("x509pop:san:cluster:gpu"), "{shown}");

    // An alias groups nodes by what attestation found; workloads hang below it.
    let group = "spiffe://example.org/cluster/gpu";
    drop(lab.ok(&[
        "entry",
        "create",
        "-node",
        "-spiffeID",
        group,
        "-selector",
        "x509pop:san:cluster:gpu",
    ]));
    let uid = format!("unix:uid:{}", nix::unistd::geteuid());
    let web = "spiffe://example.org/web";
    drop(lab.ok(&[
        "entry",
        "create",
        "-parentID",
        group,
        "-spiffeID",
        web,
        "-selector",
        &uid,
    ]));
    wait_until("the workload gets its identity", Duration::from_secs(10), || {
        let fetched = lab.agent_cli("node", &["api", "fetch", "x509"]);
        String::from_utf8_lossy(&fetched.stdout)
            .contains(web)
            .then_some(())
    });

    // A node with a certificate may attest again: an agent that lost its state comes back as the same node.
    agent.kill();
    fs::remove_dir_all(lab.dir().join("node/data")).expect("lose the agent's state");
    let mut agent = lab.agent_again("node");
    agent.wait_for_line("Starting agent APIs", 1);
    assert!(lab.ok(&["agent", "count"]).starts_with("1 attested agent"));

    // Banned, it is out: the running agent ends, and a new one is refused.
    assert!(
        lab.ok(&["agent", "ban", "-spiffeID", &id])
            .contains("Agent banned successfully")
    );
    assert!(
        !agent.wait(Duration::from_secs(20)).success(),
        "a banned agent must end"
    );
    let mut again = lab.agent_again("node");
    assert!(!again.wait(Duration::from_secs(20)).success());
    assert!(again.output().contains("agent is banned"), "{}", again.output());
    counterparts::record("openssl", "ran");
}
