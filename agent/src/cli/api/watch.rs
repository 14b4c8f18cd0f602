//! `api watch`: prints each update of the caller's X509-SVIDs until it is interrupted.
//!
//! Invariant: it outlives the agent and a missing identity. Whatever goes wrong is told on stderr and tried again.

use std::time::Duration;

use clap::Args;
use credence_command::{CommandError, Console, GoDuration, address::SocketFlags};
use credence_proto::spiffe_workload::{X509svidRequest, spiffe_workload_api_client::SpiffeWorkloadApiClient};
use credence_runtime::backoff::Backoff;
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{Instant, sleep},
};

use super::{received::Received, request};
use crate::cli::SOCKET;

/// Delays between attempts, as go-spiffe has them.
const FIRST_DELAY: Duration = Duration::from_secs(1);
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
            outcome = self.forever(console) => outcome,
            _ = interrupt.recv() => Ok(()),
            _ = terminate.recv() => Ok(()),
        }
    }

    async fn forever(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
        let mut updated = Instant::now();
        loop {
            if let Err(error) = self.stream(&mut backoff, &mut updated, console).await {
                writeln!(console.err, "{error}")?;
            }
            sleep(backoff.next_delay()).await;
        }
    }

    /// One stream to its end.
    async fn stream(
        &self,
        backoff: &mut Backoff,
        updated: &mut Instant,
        console: &mut Console<'_>,
    ) -> Result<(), CommandError> {
        let mut client = SpiffeWorkloadApiClient::new(self.socket.connect(&SOCKET).await?);
        let stream = client.fetch_x509svid(request(X509svidRequest {})).await?;
        let mut stream = stream.into_inner();
        while let Some(response) = stream.message().await? {
            backoff.reset();
            let received = Received::parse(&response)?;
            received.print(console.out, GoDuration::from(updated.elapsed()))?;
            *updated = Instant::now();
        }
        Ok(())
    }
}
