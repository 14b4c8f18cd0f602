//! `agent show`, `agent ban` and `agent evict`: one agent by its SPIFFE ID.

use clap::Args;
use credence_command::{CommandError, Console, Format, json, output::Output};
use credence_proto::spire::api::server::agent::v1::{
    BanAgentRequest, DeleteAgentRequest, GetAgentRequest, agent_client::AgentClient,
};
use tonic::transport::Channel;

use super::list;
use crate::cli::{RemoteCommand, request::required_id};

#[derive(Args, Debug)]
struct Target {
    /// The SPIFFE ID of the agent
    #[arg(
        long = "spiffeID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    spiffe_id: String,
    #[command(flatten)]
    output: Output,
}

impl Target {
    /// Says that it is done. The answers to these calls are empty.
    fn done(&self, text: &str, console: &mut Console<'_>) -> Result<(), CommandError> {
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => data.print(console.out, &[json::message(&())?]),
            Format::Pretty => Ok(writeln!(console.out, "{text}")?),
        }
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Show {
    #[command(flatten)]
    target: Target,
}

impl RemoteCommand for Show {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let request = GetAgentRequest {
            id: Some(required_id(&self.target.spiffe_id)?),
            output_mask: None,
        };
        let agent = AgentClient::new(channel).get_agent(request).await?.into_inner();
        if self.target.output.print_data(console, &agent)? {
            return Ok(());
        }
        writeln!(console.out, "Found an attested agent given its SPIFFE ID\n")?;
        list::print(console.out, &agent)?;
        for selector in &agent.selectors {
            writeln!(
                console.out,
                "Selectors         : {}:{}",
                selector.r#type, selector.value
            )?;
        }
        Ok(())
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Ban {
    #[command(flatten)]
    target: Target,
}

impl RemoteCommand for Ban {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let id = Some(required_id(&self.target.spiffe_id)?);
        AgentClient::new(channel)
            .ban_agent(BanAgentRequest { id })
            .await?;
        self.target.done("Agent banned successfully", console)
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Evict {
    #[command(flatten)]
    target: Target,
}

impl RemoteCommand for Evict {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let id = Some(required_id(&self.target.spiffe_id)?);
        AgentClient::new(channel)
            .delete_agent(DeleteAgentRequest { id })
            .await?;
        self.target.done("Agent evicted successfully", console)
    }
}
