//! `token`: join tokens.

use clap::{Args, Subcommand};
use credence_command::{CommandError, Console, output::Output};
use credence_proto::spire::api::server::agent::v1::{CreateJoinTokenRequest, agent_client::AgentClient};
use tonic::transport::Channel;

use super::{Remote, RemoteCommand, request::id};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Generates a join token
    Generate(Remote<Generate>),
}

#[derive(Args, Debug)]
pub(super) struct Generate {
    /// How long the token can be used, in seconds
    #[arg(long = "ttl", value_name = "SECONDS", default_value_t = 600)]
    ttl: i32,
    /// A further SPIFFE ID for the node that uses the token
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

impl RemoteCommand for Generate {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let agent_id = match self.spiffe_id.as_str() {
            "" => None,
            text => Some(id(text)?),
        };
        let request = CreateJoinTokenRequest {
            ttl: self.ttl,
            agent_id,
            ..Default::default()
        };
        let token = AgentClient::new(channel)
            .create_join_token(request)
            .await?
            .into_inner();
        if self.output.print_data(console, &token)? {
            return Ok(());
        }
        writeln!(console.out, "Token: {}", token.value)?;
        if self.spiffe_id.is_empty() {
            writeln!(console.out, "Warning: Missing SPIFFE ID.")?;
        }
        Ok(())
    }
}
