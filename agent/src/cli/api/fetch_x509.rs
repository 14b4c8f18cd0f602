//! `api fetch` and `api fetch x509`.

use std::path::Path;

use clap::Args;
use credence_command::{CommandError, Console, GoDuration, output::Output};
use credence_proto::spiffe_workload::{X509svidRequest, X509svidResponse};
use credence_runtime::clock::{Clock, SystemClock};
use tokio::time::Instant;

use super::{Client, Connection, first, received::Received, request};

#[derive(Args, Debug)]
pub(super) struct FetchX509 {
    /// Writes nothing to stdout
    #[arg(long = "silent")]
    silent: bool,
    /// Folder to write certificates and keys to, as PEM (pretty output only)
    #[arg(
        long = "write",
        value_name = "DIR",
        default_value = "",
        hide_default_value = true
    )]
    write: String,
    #[command(flatten)]
    connection: Connection,
    #[command(flatten)]
    output: Output,
}

impl FetchX509 {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        let mut client = self.connection.client().await?;
        let start = Instant::now();
        let response = self.connection.in_time(fetch(&mut client)).await?;
        let took = GoDuration::from(start.elapsed());
        if self.output.print_data(console, &response)? {
            return Ok(());
        }
        let received = Received::parse(&response)?;
        received.verify(SystemClock.now())?;
        if !self.silent {
            received.print(console.out, took)?;
        }
        if !self.write.is_empty() {
            received.write(Path::new(&self.write), self.silent, console)?;
        }
        Ok(())
    }
}

async fn fetch(client: &mut Client) -> Result<X509svidResponse, CommandError> {
    let mut stream = client
        .fetch_x509svid(request(X509svidRequest {}))
        .await?
        .into_inner();
    first(stream.message().await?)
}
