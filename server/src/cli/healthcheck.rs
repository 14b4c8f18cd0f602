//! `healthcheck`.

use clap::Args;
use credence_command::{CommandError, Console};
use credence_proto::grpc::health::v1::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};
use tonic::transport::Channel;

use super::RemoteCommand;

#[derive(Args, Debug)]
pub(super) struct Healthcheck {
    /// Accepted for the sake of scripts; there is one kind of check
    #[arg(long = "shallow")]
    _shallow: bool,
    /// Says more
    #[arg(long = "verbose")]
    verbose: bool,
}

impl RemoteCommand for Healthcheck {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        if self.verbose {
            writeln!(console.out, "Checking server health...")?;
        }
        let answer = HealthClient::new(channel)
            .check(HealthCheckRequest::default())
            .await;
        match answer {
            Ok(response) if response.get_ref().status() == ServingStatus::Serving => {
                Ok(writeln!(console.out, "Server is healthy.")?)
            }
            Ok(response) => Err(CommandError::new(format!(
                "server is unhealthy: server returned status {:?}",
                response.get_ref().status().as_str_name()
            ))),
            Err(status) => Err(self.undetermined(&status.into(), console)),
        }
    }

    fn unreachable(&self, error: CommandError, console: &mut Console<'_>) -> CommandError {
        if self.verbose {
            // Nothing better can be done when stdout is gone.
            drop(writeln!(console.out, "Checking server health..."));
        }
        self.undetermined(&error, console)
    }
}

impl Healthcheck {
    fn undetermined(&self, error: &CommandError, console: &mut Console<'_>) -> CommandError {
        if self.verbose {
            // Nothing better can be done when stderr is gone.
            drop(writeln!(console.err, "Failed to check health: {error}"));
        }
        CommandError::new("server is unhealthy: unable to determine health")
    }
}
