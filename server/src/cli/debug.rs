//! `debug`: facts about the running server.

use std::fmt::Display;
use std::time::Duration;

use clap::{Args, Subcommand};
use credence_command::running::{ShownCertificate, print_chain};
use credence_command::{CommandError, Console, GoDuration, output::Output};
use credence_proto::spire::api::server::debug::v1::{GetInfoRequest, debug_client::DebugClient};
use tonic::transport::Channel;

use super::{Remote, RemoteCommand};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prints debug information about the server
    Getinfo(Remote<GetInfo>),
}

#[derive(Args, Debug)]
pub(super) struct GetInfo {
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for GetInfo {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let mut client = DebugClient::new(channel);
        let info = client.get_info(GetInfoRequest {}).await?.into_inner();
        if self.output.print_data(console, &info)? {
            return Ok(());
        }
        let out = &mut *console.out;
        let uptime = Duration::from_secs(u64::try_from(info.uptime).unwrap_or_default());
        writeln!(out, "Server Debug Info:")?;
        let mut line = |label: &str, value: &dyn Display| writeln!(out, "  {label:<25}{value}");
        line("Uptime:", &GoDuration::from(uptime))?;
        line("Registered Agents:", &info.agents_count)?;
        line("Registration Entries:", &info.entries_count)?;
        line("Federated Bundles:", &info.federated_bundles_count)?;
        let chain = info.svid_chain.iter().map(|certificate| ShownCertificate {
            id: certificate.id.as_ref(),
            subject: &certificate.subject,
            expires_at: certificate.expires_at,
        });
        Ok(print_chain(out, chain)?)
    }
}
