//! `api`: calls of the Workload API, as a workload would make them.

mod fetch_jwt;
mod fetch_x509;
mod received;
mod validate_jwt;
mod watch;

use std::time::Duration;

use clap::{Args, Subcommand};
use credence_command::{CommandError, Console, GoDuration, address::SocketFlags, error::in_time};
use credence_proto::spiffe_workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use tonic::{Request, metadata::MetadataValue, transport::Channel};

use super::SOCKET;

type Client = SpiffeWorkloadApiClient<Channel>;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Fetches SVIDs; X509-SVIDs unless told otherwise
    Fetch(Fetch),
    /// Validates SVIDs
    #[command(subcommand)]
    Validate(Validate),
    /// Attaches to the Workload API and prints updates as they're received
    Watch(watch::Watch),
}

#[derive(Args, Debug)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct Fetch {
    #[command(subcommand)]
    document: Option<Document>,
    #[command(flatten)]
    x509: fetch_x509::FetchX509,
}

#[derive(Debug, Subcommand)]
enum Document {
    /// Fetches X509-SVIDs from the Workload API
    X509(fetch_x509::FetchX509),
    /// Fetches a JWT-SVID from the Workload API
    Jwt(fetch_jwt::FetchJwt),
}

#[derive(Debug, Subcommand)]
pub(super) enum Validate {
    /// Validates a JWT-SVID
    Jwt(validate_jwt::ValidateJwt),
}

impl Command {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        match self {
            Self::Fetch(Fetch { document: None, x509 }) => x509.call(console).await,
            Self::Fetch(Fetch {
                document: Some(Document::X509(command)),
                ..
            }) => command.call(console).await,
            Self::Fetch(Fetch {
                document: Some(Document::Jwt(command)),
                ..
            }) => command.call(console).await,
            Self::Validate(Validate::Jwt(command)) => command.call(console).await,
            Self::Watch(command) => command.call(console).await,
        }
    }
}

/// Where the agent is, and how long to wait for it.
#[derive(Args, Debug)]
struct Connection {
    #[command(flatten)]
    socket: SocketFlags,
    /// How long to wait for a response; 0 for ever
    #[arg(long = "timeout", value_name = "DURATION", default_value = "5s")]
    timeout: GoDuration,
}

impl Connection {
    async fn client(&self) -> Result<Client, CommandError> {
        let channel = self.in_time(self.socket.connect(&SOCKET)).await?;
        Ok(SpiffeWorkloadApiClient::new(channel))
    }

    /// Runs one call within the time that each call has.
    async fn in_time<T>(
        &self,
        call: impl Future<Output = Result<T, CommandError>>,
    ) -> Result<T, CommandError> {
        match self.timeout.to_std() {
            Duration::ZERO => call.await,
            limit => in_time(limit, call).await,
        }
    }
}

/// A request with the header that the Workload API demands (SPIFFE Workload Endpoint, section 3).
pub(super) fn request<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", MetadataValue::from_static("true"));
    request
}

/// The first message of a stream.
fn first<T>(message: Option<T>) -> Result<T, CommandError> {
    message.ok_or_else(|| CommandError::new("EOF"))
}

#[cfg(test)]
mod tests;
