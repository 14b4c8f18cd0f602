//! `jwt`: JWT-SVIDs for operators, without an entry.

use std::path::Path;

use clap::{Args, Subcommand};
use credence_command::{CommandError, Console, Format, GoDuration, json, output::Output};
use credence_proto::spire::api::server::svid::v1::{MintJwtsvidRequest, svid_client::SvidClient};
use credence_runtime::{
    clock::{Clock, SystemClock},
    fs::write_atomic,
};
use tonic::transport::Channel;

use super::{
    Remote, RemoteCommand,
    request::{id, ttl},
    x509::capped,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mints a JWT-SVID
    Mint(Remote<Mint>),
}

#[derive(Args, Debug)]
pub(super) struct Mint {
    /// SPIFFE ID of the JWT-SVID
    #[arg(
        long = "spiffeID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    spiffe_id: String,
    /// Lifetime of the JWT-SVID; 0 for the server's default
    #[arg(long = "ttl", value_name = "DURATION", default_value = "0s")]
    ttl: GoDuration,
    /// Whom the JWT-SVID is for; may be repeated
    #[arg(long = "audience", value_name = "AUDIENCE")]
    audience: Vec<String>,
    /// File to write the token to instead of stdout
    #[arg(
        long = "write",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    write: String,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Mint {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        if self.spiffe_id.is_empty() {
            return Err(CommandError::new("spiffeID must be specified"));
        }
        if self.audience.is_empty() {
            return Err(CommandError::new("at least one audience must be specified"));
        }
        let request = MintJwtsvidRequest {
            id: Some(id(&self.spiffe_id)?),
            audience: self.audience.clone(),
            ttl: ttl(self.ttl)?,
        };
        let (asked, ttl) = (SystemClock.now(), request.ttl);
        let response = SvidClient::new(channel)
            .mint_jwtsvid(request)
            .await
            .map_err(|status| CommandError::from(status).context("unable to mint SVID"))?
            .into_inner();
        let svid = response.svid.as_ref().filter(|svid| !svid.token.is_empty());
        let svid = svid.ok_or_else(|| CommandError::new("server response missing token"))?;
        if let Some(end) = capped(asked, ttl, svid.expires_at) {
            writeln!(
                console.err,
                "JWT-SVID lifetime was capped shorter than specified ttl; expires {end:?}"
            )?;
        }
        if !self.write.is_empty() {
            write_atomic(Path::new(&self.write), svid.token.as_bytes(), 0o600)
                .map_err(|error| CommandError::chain(&error).context("unable to write token"))?;
            return Ok(writeln!(console.out, "JWT-SVID written to {}", self.write)?);
        }
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => data.print(console.out, &[json::message(&response)?]),
            Format::Pretty => Ok(writeln!(console.out, "{}", svid.token)?),
        }
    }
}
