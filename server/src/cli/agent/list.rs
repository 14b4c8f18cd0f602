//! `agent list` and `agent count`.

use std::io::{self, Write};

use clap::Args;
use credence_command::{CommandError, Console, Format, date, json, output::Output, output::plural, table};
use credence_proto::spire::api::{
    server::agent::v1::{
        CountAgentsRequest, ListAgentsRequest, ListAgentsResponse, agent_client::AgentClient,
        count_agents_request, list_agents_request,
    },
    types,
};
use tonic::transport::Channel;

use crate::cli::{
    RemoteCommand,
    request::{date, id_text, selector_match},
};

/// Agents per page: far from the limit of a message.
const PAGE: i32 = 1000;

#[derive(Args, Debug)]
pub(super) struct Filter {
    /// A selector, type:value; may be repeated
    #[arg(long = "selector", value_name = "SELECTOR")]
    selectors: Vec<String>,
    /// How selectors compare: exact, any, superset or subset
    #[arg(long = "matchSelectorsOn", value_name = "MATCH", default_value = "superset")]
    match_selectors_on: String,
    /// Only agents of this attestor, as join_token or x509pop
    #[arg(
        long = "attestationType",
        value_name = "TYPE",
        default_value = "",
        hide_default_value = true
    )]
    attestation_type: String,
    /// true: only agents that can attest again; false: only those that can't
    #[arg(
        long = "canReattest",
        value_name = "BOOL",
        default_value = "",
        hide_default_value = true
    )]
    can_reattest: String,
    /// true: only banned agents; false: only those that aren't
    #[arg(
        long = "banned",
        value_name = "BOOL",
        default_value = "",
        hide_default_value = true
    )]
    banned: String,
    /// Only agents that expire before this date, as "2006-01-02 15:04:05 -0700 -07"
    #[arg(
        long = "expiresBefore",
        value_name = "DATE",
        default_value = "",
        hide_default_value = true
    )]
    expires_before: String,
}

impl Filter {
    pub(super) fn build(&self) -> Result<list_agents_request::Filter, CommandError> {
        if !self.expires_before.is_empty() {
            date::check_expires_before(&self.expires_before)?;
        }
        Ok(list_agents_request::Filter {
            by_attestation_type: self.attestation_type.clone(),
            by_selector_match: self.selector_match()?,
            by_banned: tri_state(&self.banned),
            by_can_reattest: tri_state(&self.can_reattest),
            by_expires_before: self.expires_before.clone(),
        })
    }
}

impl Filter {
    /// SPIRE's words for nodes differ from those for entries.
    fn selector_match(&self) -> Result<Option<types::SelectorMatch>, CommandError> {
        const BEHAVIORS: [&str; 4] = ["exact", "any", "superset", "subset"];
        if !BEHAVIORS.contains(&self.match_selectors_on.as_str()) {
            return Err(CommandError::new("unsupported match behavior"));
        }
        if let Some(bad) = self.selectors.iter().find(|text| !text.contains(':')) {
            return Err(CommandError::new(format!(
                "error parsing selector {bad:?}: selector {bad:?} must be formatted as type:value"
            )));
        }
        selector_match(&self.selectors, &self.match_selectors_on)
    }
}

/// Anything but the two words means all, as in SPIRE.
fn tri_state(text: &str) -> Option<bool> {
    match text {
        "true" => Some(true),
        "false" => Some(false),
        _ => None,
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    pub(super) filter: Filter,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for List {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let request = ListAgentsRequest {
            filter: Some(self.filter.build()?),
            ..Default::default()
        };
        let agents = all(&mut AgentClient::new(channel), request).await?;
        if self.output.format.is_data() {
            let response = ListAgentsResponse {
                agents,
                ..Default::default()
            };
            return self
                .output
                .format
                .print(console.out, &[json::message(&response)?]);
        }
        let count = agents.len();
        if count == 0 {
            return Ok(writeln!(console.out, "No attested agents found")?);
        }
        if let Some(width) = console.terminal {
            return Ok(table(console.out, width, &agents)?);
        }
        writeln!(
            console.out,
            "Found {count} attested {}:\n",
            plural(count, "agent", "agents")
        )?;
        for agent in &agents {
            print(console.out, agent)?;
        }
        Ok(())
    }
}

fn table(out: &mut dyn Write, width: u16, agents: &[types::Agent]) -> io::Result<()> {
    let row = |agent: &types::Agent| {
        let state = match (agent.banned, agent.can_reattest) {
            (true, _) => "banned",
            (false, true) => "can re-attest",
            (false, false) => "",
        };
        vec![
            id_text(agent.id.as_ref()),
            agent.attestation_type.clone(),
            date(agent.x509svid_expires_at),
            state.to_owned(),
            agent.agent_version.clone(),
        ]
    };
    let rows: Vec<_> = agents.iter().map(row).collect();
    table::print(
        out,
        width,
        &["SPIFFE ID", "ATTESTED BY", "EXPIRES", "STATE", "VERSION"],
        &rows,
    )
}

/// The agents of all pages.
pub(super) async fn all(
    client: &mut AgentClient<Channel>,
    mut request: ListAgentsRequest,
) -> Result<Vec<types::Agent>, CommandError> {
    request.page_size = PAGE;
    let mut agents = Vec::new();
    loop {
        let page = client.list_agents(request.clone()).await?.into_inner();
        agents.extend(page.agents);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return Ok(agents);
        }
    }
}

/// Writes one agent and an empty line.
pub(super) fn print(out: &mut dyn Write, agent: &types::Agent) -> io::Result<()> {
    let mut line = |name: &str, value: &str| writeln!(out, "{name:<18}: {value}");
    line("SPIFFE ID", &id_text(agent.id.as_ref()))?;
    line("Attestation type", &agent.attestation_type)?;
    line("Expiration time", &date(agent.x509svid_expires_at))?;
    if agent.banned {
        line("Banned", "true")?;
    } else {
        line("Serial number", &agent.x509svid_serial_number)?;
    }
    line("Can re-attest", if agent.can_reattest { "true" } else { "false" })?;
    if !agent.agent_version.is_empty() {
        line("Agent version", &agent.agent_version)?;
    }
    writeln!(out)
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Count {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Count {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let filter = self.filter.build()?;
        let request = CountAgentsRequest {
            filter: Some(count_agents_request::Filter {
                by_attestation_type: filter.by_attestation_type,
                by_selector_match: filter.by_selector_match,
                by_banned: filter.by_banned,
                by_can_reattest: filter.by_can_reattest,
                by_expires_before: filter.by_expires_before,
            }),
        };
        let response = AgentClient::new(channel)
            .count_agents(request)
            .await?
            .into_inner();
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => data.print(console.out, &[json::message(&response)?]),
            Format::Pretty => {
                let count = response.count;
                let agents = if count == 1 { "agent" } else { "agents" };
                Ok(writeln!(console.out, "{count} attested {agents}")?)
            }
        }
    }
}
