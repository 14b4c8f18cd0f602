//! SIGUSR1: a plugin whose data is in a file of its own has new options while the agent goes on serving.

use std::fs;

use credence_test_support::{Lab, Settings};
use nix::sys::signal::Signal;

use crate::CREDENCE;

const PATH: &str = "spiffe://example.org/by-path";

fn fetched(lab: &Lab) -> String {
    let output = lab.agent_cli("node", &["api", "fetch", "x509"]);
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn at_sigusr1_the_agent_reads_the_data_of_its_attestor_again() {
    let settings = Settings {
        discover_workload_path: false,
        log_level: "INFO",
        ..Settings::default()
    };
    let lab = Lab::with(CREDENCE, settings);
    let _server = lab.server();
    let printed = lab.ok(&["token", "generate", "-spiffeID", "spiffe://example.org/node/node"]);
    let token = printed.split_whitespace().nth(1).expect("a token");
    let more = format!("join_token = \"{token}\"");
    let config = lab.agent_config("node", "NodeAttestor \"join_token\" { plugin_data {} }", &more);
    let data = lab.dir().join("unix.conf");
    fs::write(&data, "").expect("write the plugin's data");
    let text = fs::read_to_string(&config).expect("read agent.conf");
    let inline = "plugin_data { discover_workload_path = false }";
    assert!(text.contains(inline), "{text}");
    let file = format!("plugin_data_file = \"{}\"", data.display());
    fs::write(&config, text.replace(inline, &file)).expect("write agent.conf");
    let mut agent = lab.agent_again("node");
    agent.wait_for_line("Starting agent APIs", 1);

    let program = fs::canonicalize(CREDENCE).expect("the binary is there");
    let selector = format!("unix:path:{}", program.display());
    let parent = "spiffe://example.org/node/node";
    let entry = [
        "entry",
        "create",
        "-parentID",
        parent,
        "-spiffeID",
        PATH,
        "-selector",
        &selector,
    ];
    drop(lab.ok(&entry));
    // This one shows that the agent has caught up.
    lab.entry("node", "by-uid", &[]);
    agent.wait_for("the other entry", || {
        fetched(&lab).contains("spiffe://example.org/by-uid")
    });
    assert!(!fetched(&lab).contains(PATH), "paths aren't looked at");

    for (failures, nonsense) in [(1, "discover_workload_path = ["), (2, "discover_path = true")] {
        fs::write(&data, nonsense).expect("write the plugin's data");
        agent.signal(Signal::SIGUSR1);
        agent.wait_for_line("Failed to reconfigure plugin", failures);
    }
    assert!(
        !fetched(&lab).contains(PATH),
        "what makes no sense changes nothing"
    );
    fs::write(&data, "discover_workload_path = true").expect("write the plugin's data");
    agent.signal(Signal::SIGUSR1);
    agent.wait_for_line("Plugin reconfigured", 1);
    assert!(fetched(&lab).contains(PATH), "paths are looked at");
}
