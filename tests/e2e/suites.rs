//! The scenarios that operators know from SPIRE's integration suites, each by its name there, on real processes.
//!
//! | Scenario | Where |
//! |---|---|
//! | admin-endpoints | `endpoints::admin` |
//! | agent-cli | `agent_admin`, `golden`, `clients` |
//! | debug-endpoints | `agent_admin`, `golden` |
//! | delegatedidentity | `agent_admin::a_delegate_gets_what_its_charges_have` |
//! | downstream-endpoints | `endpoints::downstream` |
//! | entries, events-based-entries, sync-authorized-entries | `suites::entries` |
//! | envoy-sds-v3, envoy-sds-v3-spiffe-auth | `envoy` |
//! | evict-agent, node-re-attestation | `agent_admin::thrown_out_agents_end_or_attest_again_as_they_may`, `node_certificate` |
//! | fetch-jwt-svids | `clients`, `forced_rotation::a_jwt_authority_is_replaced_by_hand` |
//! | fetch-wit-svids | `suites::fetch_wit_svids` |
//! | fetch-x509-svids | `suites::fetch_x509_svids` |
//! | force-rotation-jwt-authority, force-rotation-self-signed | `forced_rotation` |
//! | join-token | `suites::join_token` |
//! | node-attestation | `suites::node_attestation`, `node_certificate` |
//! | rotation | `rotation` |
//! | spire-server-cli | `golden`, and the command lines of `tests/dropin` |

mod entries;
mod fetch_wit_svids;
mod fetch_x509_svids;
mod join_token;
mod node_attestation;

use std::fs;
use std::time::Duration;

use credence_test_support::{Lab, Process, wait_until};

const SOON: Duration = Duration::from_secs(20);

/// What `api fetch x509` prints for this process.
fn fetched(lab: &Lab, agent: &str) -> String {
    let output = lab.agent_cli(agent, &["api", "fetch", "x509"]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits until this process has the identity, or hasn't got it any more.
fn wait_for(lab: &Lab, agent: &str, id: &str, there: bool) {
    wait_until(&format!("{id} is there: {there}"), SOON, || {
        (fetched(lab, agent).contains(id) == there).then_some(())
    });
}

/// Starts agent `name` with that join token, and doesn't wait.
fn agent_with_token(lab: &Lab, name: &str, token: &str) -> Process {
    let attestor = "NodeAttestor \"join_token\" { plugin_data {} }";
    drop(lab.agent_config(name, attestor, &format!("join_token = \"{token}\"")));
    lab.agent_again(name)
}

/// A new join token.
fn token(lab: &Lab, more: &[&str]) -> String {
    let printed = lab.ok(&[&["token", "generate"], more].concat());
    printed.split_whitespace().nth(1).expect("a token").to_owned()
}

/// Demands that the agent ends, and says why.
fn refused(mut agent: Process, why: &str) {
    assert!(!agent.wait(SOON).success());
    assert!(agent.output().contains(why), "no {why:?} in {}", agent.output());
}

/// The agent loses what it saved.
fn forget(lab: &Lab, agent: &str) {
    fs::remove_dir_all(lab.dir().join(agent).join("data")).expect("lose the agent's state");
}
