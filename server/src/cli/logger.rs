//! `logger`: the level of the running server's log.

use clap::{Args, Subcommand};
use credence_command::running::{LevelFlag, show_logger};
use credence_command::{CommandError, Console, output::Output};
use credence_proto::spire::api::server::logger::v1::{
    GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest, logger_client::LoggerClient,
};
use tonic::transport::Channel;

use super::{Remote, RemoteCommand};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Gets the logger details
    Get(Remote<Get>),
    /// Sets the log level
    Set(Remote<Set>),
    /// Resets the log level to that of the launch
    Reset(Remote<Reset>),
}

impl Command {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        match self {
            Self::Get(command) => command.call(console).await,
            Self::Set(command) => command.call(console).await,
            Self::Reset(command) => command.call(console).await,
        }
    }
}

#[derive(Args, Debug)]
pub(super) struct Get {
    #[command(flatten)]
    output: Output,
}

#[derive(Args, Debug)]
pub(super) struct Set {
    #[command(flatten)]
    level: LevelFlag,
    #[command(flatten)]
    output: Output,
}

#[derive(Args, Debug)]
pub(super) struct Reset {
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Get {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let answer = LoggerClient::new(channel).get_logger(GetLoggerRequest {}).await;
        let logger = answer.map_err(|error| failed("error fetching logger", error))?;
        show_logger(console, self.output, logger.get_ref())
    }
}

impl RemoteCommand for Set {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let new_level = self.level.number()?;
        let request = SetLogLevelRequest { new_level };
        let answer = LoggerClient::new(channel).set_log_level(request).await;
        let logger = answer.map_err(|error| failed("failed to set log level", error))?;
        show_logger(console, self.output, logger.get_ref())
    }
}

impl RemoteCommand for Reset {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let answer = LoggerClient::new(channel)
            .reset_log_level(ResetLogLevelRequest {})
            .await;
        let logger = answer.map_err(|error| failed("failed to reset logger", error))?;
        show_logger(console, self.output, logger.get_ref())
    }
}

fn failed(what: &str, status: tonic::Status) -> CommandError {
    CommandError::from(status).context(what)
}
