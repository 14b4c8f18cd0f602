//! `entry delete`.

use clap::Args;
use credence_command::{CommandError, Console, Format, json, output::Output};
use credence_proto::spire::api::server::entry::v1::{
    BatchDeleteEntryRequest, BatchDeleteEntryResponse, entry_client::EntryClient,
};
use serde::Deserialize;
use tonic::transport::Channel;

use crate::cli::{
    RemoteCommand,
    request::{bytes, failure},
};

#[derive(Args, Debug)]
pub(in crate::cli) struct Delete {
    /// The ID of the entry
    #[arg(
        long = "entryID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    entry_id: String,
    /// A JSON file {"ids": […]}, or - for stdin
    #[arg(
        long = "file",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    file: String,
    #[command(flatten)]
    output: Output,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Ids {
    ids: Vec<String>,
}

impl RemoteCommand for Delete {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let ids = if !self.file.is_empty() {
            let bytes = bytes(&self.file, console)?;
            serde_json::from_slice::<Ids>(&bytes)?.ids
        } else if self.entry_id.is_empty() {
            return Err(CommandError::new("an entry ID is required"));
        } else {
            vec![self.entry_id.clone()]
        };
        let request = BatchDeleteEntryRequest { ids };
        let response = EntryClient::new(channel).batch_delete_entry(request).await?;
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => {
                data.print(console.out, &[json::message(response.get_ref())?])
            }
            Format::Pretty => report(response.get_ref(), console),
        }
    }
}

pub(super) fn report(
    response: &BatchDeleteEntryResponse,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let mut deleted = 0_usize;
    for result in &response.results {
        if failure(result.status.as_ref()).is_none() {
            writeln!(console.out, "Deleted entry with ID: {}", result.id)?;
            deleted += 1;
        }
    }
    if deleted > 0 {
        write!(console.out, "\n\n")?;
    }
    let failed = response.results.len() - deleted;
    for result in &response.results {
        if let Some((code, message)) = failure(result.status.as_ref()) {
            writeln!(
                console.err,
                "Failed to delete entry with ID {} (code: {code}, msg: {message:?})",
                result.id
            )?;
        }
    }
    match (deleted, failed) {
        (deleted, 0) => return Ok(writeln!(console.out, "Deleted {deleted} entries successfully")?),
        (0, failed) => writeln!(console.out, "\n\nFailed to delete {failed} entries")?,
        (deleted, failed) => writeln!(
            console.out,
            "\n\nDeleted {deleted} entries successfully, but failed to delete {failed} entries"
        )?,
    }
    Err(CommandError::new("failed to delete one or more entries"))
}
