//! What is probably a mistake in an entry: a parent that nobody is, a selector that nobody makes.
//!
//! It only warns, on stderr, and never fails a command or delays it by more than a moment: entries may well be created
//! before their parent. It asks what SPIRE's server answers too, and what can't be found out is no doubt.

use std::collections::BTreeSet;
use std::time::Duration;

use credence_command::Console;
use credence_proto::spire::api::server::agent::v1::{
    GetAgentRequest, ListAgentsRequest, agent_client::AgentClient,
};
use credence_proto::spire::api::server::entry::v1::{
    ListEntriesRequest, entry_client::EntryClient, list_entries_request,
};
use credence_proto::spire::api::types;
use tonic::Code;
use tonic::transport::Channel;

use crate::cli::request::id_text;

/// What the questions may take together.
const LIMIT: Duration = Duration::from_secs(2);
/// Parents that are asked for; a large file repeats a few.
const PARENTS: usize = 20;
/// Agents that are looked at.
const AGENTS: i32 = 1000;

/// Types of selectors that agents make of workloads.
const OF_WORKLOADS: [&str; 5] = ["docker", "k8s", "systemd", "unix", "windows"];
/// The type that servers make of any node.
const OF_ANY_NODE: &str = "spiffe_id";

/// Says on stderr what is doubtful in entries that were created or updated.
pub(super) async fn tell(entries: &[&types::Entry], channel: Channel, console: &mut Console<'_>) {
    let Ok(doubts) = tokio::time::timeout(LIMIT, doubts(entries, &channel)).await else {
        return;
    };
    for doubt in doubts {
        // The command has succeeded, whether or not stderr takes it.
        drop(writeln!(console.err, "Warning: {doubt}"));
    }
}

async fn doubts(entries: &[&types::Entry], channel: &Channel) -> Vec<String> {
    let made: BTreeSet<String> = entries
        .iter()
        .map(|entry| id_text(entry.spiffe_id.as_ref()))
        .collect();
    let mut parents: Vec<&types::Spiffeid> = Vec::new();
    for parent in entries.iter().filter_map(|entry| entry.parent_id.as_ref()) {
        if !parents.contains(&parent) && !is_server(parent) && !made.contains(&id_text(Some(parent))) {
            parents.push(parent);
        }
    }
    let mut doubts = Vec::new();
    for parent in parents.into_iter().take(PARENTS) {
        if exists(parent, channel).await == Some(false) {
            let parent = id_text(Some(parent));
            doubts.push(format!("no agent and no entry has the parent ID {parent}"));
        }
    }
    for kind in selector_types(entries, false) {
        if !OF_WORKLOADS.contains(&kind) {
            doubts.push(format!("no workload attestor makes selectors of type {kind:?}"));
        }
    }
    let of_nodes = selector_types(entries, true);
    if !of_nodes.is_empty()
        && let Some(in_use) = in_use(channel).await
    {
        for kind in of_nodes.into_iter().filter(|kind| !in_use.contains(*kind)) {
            doubts.push(format!("no attested agent has selectors of type {kind:?}"));
        }
    }
    doubts
}

fn is_server(id: &types::Spiffeid) -> bool {
    id.path == "/spire/server"
}

/// The types of selectors of entries for nodes, or of those for workloads.
fn selector_types<'a>(entries: &[&'a types::Entry], of_nodes: bool) -> BTreeSet<&'a str> {
    let of_kind = entries
        .iter()
        .filter(|entry| entry.parent_id.as_ref().is_some_and(is_server) == of_nodes)
        // What is stored by a plugin has selectors of that plugin.
        .filter(|entry| !entry.store_svid);
    let selectors = of_kind.flat_map(|entry| &entry.selectors);
    selectors.map(|selector| selector.r#type.as_str()).collect()
}

/// Whether an agent or an entry has the ID; nothing if the server doesn't say. Each is asked for only where it can be,
/// since a refusal stands in the server's log.
async fn exists(id: &types::Spiffeid, channel: &Channel) -> Option<bool> {
    if id.path.starts_with("/spire/agent/") {
        let request = GetAgentRequest {
            id: Some(id.clone()),
            output_mask: Some(types::AgentMask::default()),
        };
        return match AgentClient::new(channel.clone()).get_agent(request).await {
            Ok(_) => Some(true),
            Err(status) if status.code() == Code::NotFound => Some(false),
            Err(_) => None,
        };
    }
    let filter = list_entries_request::Filter {
        by_spiffe_id: Some(id.clone()),
        ..Default::default()
    };
    let request = ListEntriesRequest {
        filter: Some(filter),
        output_mask: Some(types::EntryMask::default()),
        page_size: 1,
        ..Default::default()
    };
    let listed = EntryClient::new(channel.clone()).list_entries(request).await;
    Some(!listed.ok()?.get_ref().entries.is_empty())
}

/// The types of selectors that the attested agents have; nothing without an agent, or with too many to look at.
async fn in_use(channel: &Channel) -> Option<BTreeSet<String>> {
    let mask = types::AgentMask {
        attestation_type: true,
        selectors: true,
        ..Default::default()
    };
    let request = ListAgentsRequest {
        output_mask: Some(mask),
        page_size: AGENTS,
        ..Default::default()
    };
    let listed = AgentClient::new(channel.clone())
        .list_agents(request)
        .await
        .ok()?
        .into_inner();
    if listed.agents.is_empty() || listed.agents.len() >= usize::try_from(AGENTS).unwrap_or(0) {
        return None;
    }
    let mut found = BTreeSet::from([OF_ANY_NODE.to_owned()]);
    for agent in listed.agents {
        found.insert(agent.attestation_type);
        found.extend(agent.selectors.into_iter().map(|selector| selector.r#type));
    }
    Some(found)
}
