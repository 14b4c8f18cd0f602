//! `agent purge`: deletes the records of agents that expired long ago, if they can attest again.

use std::io::Write;

use clap::Args;
use credence_command::{CommandError, Console, Format, GoDuration, output::Output, output::plural};
use credence_identity::Timestamp;
use credence_proto::spire::api::{
    server::agent::v1::{
        DeleteAgentRequest, ListAgentsRequest, agent_client::AgentClient, list_agents_request,
    },
    types,
};
use credence_runtime::clock::{Clock, SystemClock};
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::list;
use crate::cli::{RemoteCommand, request::id_text};

#[derive(Args, Debug)]
pub(in crate::cli) struct Purge {
    /// How long ago the agent's SVID must have expired
    #[arg(long = "expiredFor", value_name = "DURATION", default_value = "720h")]
    expired_for: GoDuration,
    /// Only show what would be purged
    #[arg(long = "dryRun")]
    dry_run: bool,
    #[command(flatten)]
    output: Output,
}

/// What became of one expired agent.
pub(super) struct Expired {
    pub(super) id: String,
    /// Nothing in a dry run.
    pub(super) outcome: Option<Result<(), CommandError>>,
}

impl RemoteCommand for Purge {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        if self.expired_for.is_negative() {
            return Err(CommandError::new(
                "invalid value for -expiredFor: agents that have not expired can't be purged",
            ));
        }
        let mut client = AgentClient::new(channel);
        let agents = self.expired(&mut client, SystemClock.now()).await?;
        let mut expired = Vec::with_capacity(agents.len());
        for agent in agents {
            let id = id_text(agent.id.as_ref());
            let outcome = if self.dry_run {
                None
            } else {
                let deleted = client.delete_agent(DeleteAgentRequest { id: agent.id }).await;
                Some(deleted.map(drop).map_err(CommandError::from))
            };
            expired.push(Expired { id, outcome });
        }
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => {
                let agents: Vec<Value> = expired.iter().map(Expired::json).collect();
                data.print(console.out, &[json!({ "expired_agents": agents })])
            }
            Format::Pretty => print(console.out, &expired, self.dry_run),
        }
    }
}

impl Purge {
    async fn expired(
        &self,
        client: &mut AgentClient<Channel>,
        now: Timestamp,
    ) -> Result<Vec<types::Agent>, CommandError> {
        let request = ListAgentsRequest {
            filter: Some(list_agents_request::Filter {
                by_can_reattest: Some(true),
                ..Default::default()
            }),
            output_mask: Some(types::AgentMask {
                x509svid_expires_at: true,
                ..Default::default()
            }),
            ..Default::default()
        };
        let mut agents = list::all(client, request)
            .await
            .map_err(|error| error.context("failed to list agents"))?;
        agents.retain(|agent| {
            let expired = Timestamp::from_unix_seconds(agent.x509svid_expires_at);
            now > expired && expired.until(now) > self.expired_for.to_std()
        });
        Ok(agents)
    }
}

impl Expired {
    pub(super) fn json(&self) -> Value {
        let mut object = json!({ "agent_id": self.id, "deleted": matches!(self.outcome, Some(Ok(()))) });
        if let (Some(Err(error)), Some(object)) = (&self.outcome, object.as_object_mut()) {
            object.insert("error".to_owned(), Value::from(error.to_string()));
        }
        object
    }
}

pub(super) fn print(out: &mut dyn Write, expired: &[Expired], dry_run: bool) -> Result<(), CommandError> {
    let count = expired.len();
    if count == 0 {
        return Ok(writeln!(out, "No agents to purge.")?);
    }
    writeln!(
        out,
        "Found {count} expired {}\n",
        plural(count, "agent", "agents")
    )?;
    if dry_run {
        writeln!(out, "\nAgents that can be purged:")?;
        return print_ids(out, expired.iter());
    }
    let (purged, kept): (Vec<_>, Vec<_>) = expired
        .iter()
        .partition(|agent| matches!(agent.outcome, Some(Ok(()))));
    for (title, agents) in [("Agents purged:", purged), ("Agents not purged:", kept)] {
        if !agents.is_empty() {
            writeln!(out, "{title}")?;
            print_ids(out, agents.into_iter())?;
        }
    }
    Ok(())
}

fn print_ids<'a>(out: &mut dyn Write, agents: impl Iterator<Item = &'a Expired>) -> Result<(), CommandError> {
    for agent in agents {
        writeln!(out, "SPIFFE ID         : {}", agent.id)?;
        if let Some(Err(error)) = &agent.outcome {
            writeln!(out, "Error             : {error}")?;
        }
    }
    Ok(())
}
