//! `api fetch jwt`.

use std::io::{self, Write};

use clap::Args;
use credence_command::{CommandError, Console, Format, json, output::Output};
use credence_proto::spiffe_workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse,
};

use super::{Client, Connection, first, request};

#[derive(Args, Debug)]
pub(super) struct FetchJwt {
    /// Whom the token is for; several with commas between them
    #[arg(
        long = "audience",
        value_name = "LIST",
        default_value = "",
        hide_default_value = true
    )]
    audience: String,
    /// Only the identity with this SPIFFE ID
    #[arg(
        long = "spiffeID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    spiffe_id: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
    /// The older name of -output
    #[arg(long = "format", value_name = "FORMAT", value_parser = Format::parse, hide = true)]
    older_format: Option<Format>,
}

impl FetchJwt {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        if self.audience.is_empty() {
            return Err(CommandError::new("audience must be specified"));
        }
        let mut client = self.connection.client().await?;
        let bundles = self.connection.in_time(bundles(&mut client)).await?;
        let svids = self.connection.in_time(self.svids(&mut client)).await?;
        match self.older_format.unwrap_or(self.output.format) {
            data @ (Format::Json | Format::Yaml) => {
                data.print(console.out, &[json::message(&svids)?, json::message(&bundles)?])
            }
            Format::Pretty => Ok(print(console.out, &svids, &bundles)?),
        }
    }

    async fn svids(&self, client: &mut Client) -> Result<JwtsvidResponse, CommandError> {
        let message = JwtsvidRequest {
            audience: self.audience.split(',').map(str::to_owned).collect(),
            spiffe_id: self.spiffe_id.clone(),
        };
        Ok(client.fetch_jwtsvid(request(message)).await?.into_inner())
    }
}

async fn bundles(client: &mut Client) -> Result<JwtBundlesResponse, CommandError> {
    let mut stream = client
        .fetch_jwt_bundles(request(JwtBundlesRequest {}))
        .await?
        .into_inner();
    first(stream.message().await?)
}

pub(super) fn print(
    out: &mut dyn Write,
    svids: &JwtsvidResponse,
    bundles: &JwtBundlesResponse,
) -> io::Result<()> {
    for svid in &svids.svids {
        writeln!(out, "token({}):\n\t{}", svid.spiffe_id, svid.svid)?;
        if !svid.hint.is_empty() {
            writeln!(out, "hint({}):\n\t{}", svid.spiffe_id, svid.hint)?;
        }
    }
    for (trust_domain, keys) in &bundles.bundles {
        writeln!(
            out,
            "bundle({trust_domain}):\n\t{}",
            String::from_utf8_lossy(keys)
        )?;
    }
    Ok(())
}
