//! node-attestation: certificates and join tokens admit the nodes they belong to, and nobody else.

use credence_test_support::counterparts;

use super::*;
use crate::CREDENCE;
use crate::node_certificate::make_certificates;

#[test]
fn certificates_and_tokens_admit_their_nodes_and_wrong_ones_admit_nobody() {
    if !counterparts::installed("openssl", "openssl") {
        return;
    }
    let lab = Lab::new(CREDENCE);
    let (ours, theirs) = (lab.dir().join("ours"), lab.dir().join("theirs"));
    make_certificates(&ours);
    make_certificates(&theirs);
    fs::copy(ours.join("ca.pem"), lab.dir().join("x509pop-ca.pem")).expect("trust the root");
    let _server = lab.server();
    let start = |name: &str, key: &std::path::Path, certificate: &std::path::Path| {
        let attestor = format!(
            "NodeAttestor \"x509pop\" {{ plugin_data {{ private_key_path = \"{}/leaf.key\" certificate_path = \
             \"{}/leaf.pem\" }} }}",
            key.display(),
            certificate.display()
        );
        drop(lab.agent_config(name, &attestor, ""));
        lab.agent_again(name)
    };
    let mut certified = start("certified", &ours, &ours);
    certified.wait_for_line("Starting agent APIs", 1);
    // By a root that the server doesn't trust; and a certificate that was found, without its key.
    refused(
        start("foreign", &theirs, &theirs),
        "nodeattestor(x509pop): certificate verification failed",
    );
    let mut finder = start("finder", &theirs, &ours);
    finder.wait_for_line("private key does not match the certificate", 1);
    drop(finder);

    let mut tokened = agent_with_token(&lab, "tokened", &token(&lab, &[]));
    tokened.wait_for_line("Starting agent APIs", 1);
    refused(agent_with_token(&lab, "guesser", "made-up"), "failed to attest");
    let listed = lab.ok(&["agent", "list"]);
    assert!(
        listed.contains("/spire/agent/x509pop/") && listed.contains("/spire/agent/join_token/"),
        "{listed}"
    );
    assert!(lab.ok(&["agent", "count"]).starts_with("2 attested agents"));
    counterparts::record("openssl", "ran");
}
