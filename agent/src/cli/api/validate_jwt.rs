//! `api validate jwt`.

use clap::Args;
use credence_command::{CommandError, Console, json, output::Output};
use credence_proto::spiffe_workload::{ValidateJwtsvidRequest, ValidateJwtsvidResponse};
use tonic::Code;

use super::{Client, Connection, request};

#[derive(Args, Debug)]
pub(in crate::cli) struct ValidateJwt {
    /// Whom the token must be for
    #[arg(
        long = "audience",
        value_name = "AUDIENCE",
        default_value = "",
        hide_default_value = true
    )]
    audience: String,
    /// The token
    #[arg(
        long = "svid",
        value_name = "TOKEN",
        default_value = "",
        hide_default_value = true
    )]
    svid: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

impl ValidateJwt {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        for (value, name) in [(&self.audience, "audience"), (&self.svid, "svid")] {
            if value.is_empty() {
                return Err(CommandError::new(format!("{name} must be specified")));
            }
        }
        let mut client = self.connection.client().await?;
        let response = self.connection.in_time(self.validate(&mut client)).await?;
        let value = json::message(&response)?;
        if self.output.format.is_data() {
            return self.output.format.print(console.out, &[value]);
        }
        let claims = value.get("claims").cloned().unwrap_or_default();
        writeln!(console.out, "SVID is valid.")?;
        writeln!(console.out, "SPIFFE ID : {}", response.spiffe_id)?;
        Ok(writeln!(console.out, "Claims    : {claims}")?)
    }

    async fn validate(&self, client: &mut Client) -> Result<ValidateJwtsvidResponse, CommandError> {
        let message = ValidateJwtsvidRequest {
            audience: self.audience.clone(),
            svid: self.svid.clone(),
        };
        let answer = client.validate_jwtsvid(request(message)).await;
        answer.map(tonic::Response::into_inner).map_err(|status| {
            if status.code() == Code::InvalidArgument {
                CommandError::new(format!("SVID is not valid: {}", status.message()))
            } else {
                CommandError::from(status).context("unable to validate JWT SVID")
            }
        })
    }
}
