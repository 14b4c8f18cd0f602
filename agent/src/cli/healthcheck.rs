//! `healthcheck`.

use std::time::Duration;

use clap::Args;
use credence_command::{CommandError, Console, address::SocketFlags, error::in_time};
use credence_proto::grpc::health::v1::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use super::SOCKET;

/// An agent that takes longer is not healthy.
const DEADLINE: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub(super) struct Healthcheck {
    /// Accepted for the sake of scripts; there is one kind of check
    #[arg(long = "shallow")]
    _shallow: bool,
    /// Says more
    #[arg(long = "verbose")]
    verbose: bool,
    #[command(flatten)]
    socket: SocketFlags,
}

impl Healthcheck {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        if self.verbose {
            writeln!(console.out, "Checking agent health...")?;
        }
        let fault = match in_time(DEADLINE, self.check()).await {
            Ok(ServingStatus::Serving) => return Ok(writeln!(console.out, "Agent is healthy.")?),
            Ok(status) => format!("agent returned status {:?}", status.as_str_name()),
            Err(error) => {
                if self.verbose {
                    writeln!(console.err, "Failed to check health: {error}")?;
                }
                "unable to determine health".to_owned()
            }
        };
        Err(CommandError::new(format!("Agent is unhealthy: {fault}")))
    }

    async fn check(&self) -> Result<ServingStatus, CommandError> {
        let channel = self.socket.connect(&SOCKET).await?;
        let request = HealthCheckRequest::default();
        let response = HealthClient::new(channel).check(request).await?;
        Ok(response.get_ref().status())
    }
}
