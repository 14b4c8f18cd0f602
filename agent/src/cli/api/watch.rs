//! `api watch`: prints each update of the caller's X509-SVIDs until it is interrupted.
//!
//! Invariant: it outlives the agent, a missing identity and a message that can't be read; each is told on stderr. Only a
//! call that could never succeed ends it (SPIFFE Workload Endpoint, appendix A).

use std::time::Duration;

use clap::Args;
use credence_command::{CommandError, Console, GoDuration, address::SocketFlags};
use credence_proto::spiffe_workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep, sleep_until},
};
use tonic::{Code, Status, transport::Channel};

use super::{Client, received::Received, request};
use crate::cli::SOCKET;

/// The delay after each failure is longer by this, as go-spiffe has it.
const STEP: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);

#[derive(Args, Debug)]
pub(in crate::cli) struct Watch {
    #[command(flatten)]
    socket: SocketFlags,
}

impl Watch {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            outcome = watch(async || self.socket.connect(&SOCKET).await, console) => outcome,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    }
}

/// How a stream ended.
enum End {
    /// In good order.
    Closed,
    /// With a status, or there was no connection: it may be otherwise later.
    Failed(CommandError),
    /// In a way that would repeat itself.
    Final(CommandError),
}

/// Watches for ever, but for a call that could never succeed. `connect` makes a connection for each stream.
pub(super) async fn watch(
    connect: impl AsyncFn() -> Result<Channel, CommandError>,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let mut failures = 0_u32;
    let mut updated = Instant::now();
    loop {
        let opened = Instant::now();
        let end = match connect().await {
            Ok(channel) => {
                let client = SpiffeWorkloadApiClient::new(channel);
                stream(client, &mut failures, &mut updated, console).await?
            }
            Err(error) => End::Failed(error),
        };
        match end {
            // The next stream follows at once, but none sooner than a second after the one before.
            End::Closed => sleep_until(opened + STEP).await,
            End::Failed(error) => {
                writeln!(console.err, "{error}")?;
                failures = failures.saturating_add(1);
                sleep(STEP.saturating_mul(failures).min(LONGEST_DELAY)).await;
            }
            End::Final(error) => return Err(error),
        }
    }
}

/// One stream to its end. Any message makes an end of the failures before it.
async fn stream(
    mut client: Client,
    failures: &mut u32,
    updated: &mut Instant,
    console: &mut Console<'_>,
) -> Result<End, CommandError> {
    let mut stream = match client.fetch_x509svid(request(X509svidRequest {})).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return Ok(End::of(status)),
    };
    loop {
        let response = match stream.message().await {
            Ok(Some(response)) => response,
            Ok(None) => return Ok(End::Closed),
            Err(status) => return Ok(End::of(status)),
        };
        *failures = 0;
        match Received::parse(&response) {
            Ok(received) => {
                received.print(console.out, GoDuration::from(updated.elapsed()))?;
                *updated = Instant::now();
            }
            Err(error) => writeln!(console.err, "{error}")?,
        }
    }
}

impl End {
    fn of(status: Status) -> Self {
        match status.code() {
            Code::InvalidArgument | Code::Cancelled => Self::Final(status.into()),
            _ => Self::Failed(status.into()),
        }
    }
}

#[cfg(test)]
mod tests;
