//! join-token: it admits one agent, once, while it is young; its vanity ID is the parent of entries; a ban is for good.

use super::*;
use crate::CREDENCE;

#[test]
fn a_join_token_admits_one_agent_once_and_while_it_is_young() {
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let first = token(&lab, &["-spiffeID", "spiffe://example.org/node/first"]);
    let mut agent = agent_with_token(&lab, "first", &first);
    agent.wait_for_line("Starting agent APIs", 1);
    // The ID that the token was given is the agent's second name.
    lab.entry("first", "web", &[]);
    wait_for(&lab, "first", "spiffe://example.org/web", true);

    let spent = "failed to attest: join token does not exist or has already been used";
    refused(agent_with_token(&lab, "second", &first), spent);
    refused(agent_with_token(&lab, "second", "made-up"), spent);
    let short = token(&lab, &["-ttl", "1"]);
    std::thread::sleep(Duration::from_millis(1100));
    refused(
        agent_with_token(&lab, "second", &short),
        "desc = join token expired",
    );
    assert!(lab.ok(&["agent", "count"]).starts_with("1 attested agent"));

    // Banned, it ends; neither its token nor its saved SVID brings it back, a new token makes it another agent.
    let id = format!("spiffe://example.org/spire/agent/join_token/{first}");
    drop(lab.ok(&["agent", "ban", "-spiffeID", &id]));
    refused(agent, "Agent is banned");
    refused(lab.agent_again("first"), spent);
    forget(&lab, "first");
    refused(lab.agent_again("first"), spent);
    let mut agent = agent_with_token(&lab, "first", &token(&lab, &[]));
    agent.wait_for_line("Starting agent APIs", 1);
    assert!(
        !fetched(&lab, "first").contains("spiffe://example.org/web"),
        "that was the other's"
    );
}
