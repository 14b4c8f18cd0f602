//! `entry create` and `entry update`.

use clap::Args;
use credence_command::{CommandError, Console, Format, json, output::Output};
use credence_proto::spire::api::{
    server::entry::v1::{
        BatchCreateEntryRequest, BatchUpdateEntryRequest, GetEntryRequest, entry_client::EntryClient,
    },
    types,
};
use tonic::transport::Channel;

use super::{attributes::Attributes, doubts, file, print};
use crate::cli::{RemoteCommand, request::failure};

#[derive(Args, Debug)]
pub(in crate::cli) struct Create {
    /// An ID of your own for the entry (optional)
    #[arg(
        long = "entryID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    entry_id: String,
    /// A JSON file with entries, or - for stdin; the other flags are then ignored
    #[arg(
        long = "data",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    data: String,
    /// The entry is for nodes, under the server itself
    #[arg(long = "node")]
    node: bool,
    #[command(flatten)]
    pub(super) attributes: Attributes,
    #[command(flatten)]
    output: Output,
}

impl Create {
    pub(super) fn entries(&self, console: &mut Console<'_>) -> Result<Vec<types::Entry>, CommandError> {
        if !self.data.is_empty() {
            return file::read(&self.data, console);
        }
        let fault = if self.attributes.selectors.is_empty() {
            "at least one selector is required"
        } else if self.node && !self.attributes.federates_with.is_empty() {
            "node entries can not federate"
        } else if self.attributes.parent_id.is_empty() && !self.node {
            "a parent ID is required if the node flag is not set"
        } else {
            self.attributes.check()?;
            return Ok(vec![self.attributes.entry(&self.entry_id, self.node)?]);
        };
        Err(CommandError::new(fault))
    }
}

impl RemoteCommand for Create {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let entries = self.entries(console)?;
        let request = BatchCreateEntryRequest {
            entries: entries.clone(),
            ..Default::default()
        };
        let response = EntryClient::new(channel.clone())
            .batch_create_entry(request)
            .await?;
        let mut response = response.into_inner();
        // What could not be made is what was asked for, not what the answer may hold instead.
        for (result, entry) in response.results.iter_mut().zip(entries) {
            if failure(result.status.as_ref()).is_some() {
                result.entry = Some(entry);
            }
        }
        let results = response.results.iter();
        let results = results.map(|result| (&result.status, &result.entry));
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => {
                data.print(console.out, &[json::message(&response)?])?;
            }
            Format::Pretty => report("create", results.clone(), console)?,
        }
        doubts::tell(&succeeded(results), channel, console).await;
        Ok(())
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Update {
    /// The ID of the entry
    #[arg(
        long = "entryID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    entry_id: String,
    /// A JSON file with entries, or - for stdin; the other flags are then ignored
    #[arg(
        long = "data",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    data: String,
    #[command(flatten)]
    pub(super) attributes: Attributes,
    #[command(flatten)]
    output: Output,
}

impl Update {
    pub(super) fn entries(&self, console: &mut Console<'_>) -> Result<Vec<types::Entry>, CommandError> {
        if !self.data.is_empty() {
            return file::read(&self.data, console);
        }
        let fault = if self.entry_id.is_empty() {
            "entry ID is required"
        } else if self.attributes.selectors.is_empty() {
            "at least one selector is required"
        } else if self.attributes.parent_id.is_empty() {
            "a parent ID is required"
        } else {
            self.attributes.check()?;
            return Ok(vec![self.attributes.entry(&self.entry_id, false)?]);
        };
        Err(CommandError::new(fault))
    }

    /// An update replaces these attributes as one, so those no flag speaks of are taken from the stored entry.
    async fn keep_stored_attributes(
        &self,
        client: &mut EntryClient<Channel>,
        entries: &mut [types::Entry],
    ) -> Result<(), CommandError> {
        if !self.data.is_empty() || !self.attributes.has_additional() {
            return Ok(());
        }
        let request = GetEntryRequest {
            id: self.entry_id.clone(),
            output_mask: None,
        };
        let stored = client.get_entry(request).await.map_err(|status| {
            CommandError::from(status)
                .context("failed to fetch existing entry to merge additional attributes")
        })?;
        let attributes = self
            .attributes
            .additional(stored.into_inner().additional_attributes);
        for entry in entries {
            entry.additional_attributes = attributes;
        }
        Ok(())
    }
}

impl RemoteCommand for Update {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let mut entries = self.entries(console)?;
        let mut client = EntryClient::new(channel.clone());
        self.keep_stored_attributes(&mut client, &mut entries).await?;
        let request = BatchUpdateEntryRequest {
            entries: entries.clone(),
            ..Default::default()
        };
        let mut response = client.batch_update_entry(request).await?.into_inner();
        for (result, entry) in response.results.iter_mut().zip(entries) {
            if failure(result.status.as_ref()).is_some() {
                result.entry = Some(entry);
            }
        }
        let results = response.results.iter();
        let results = results.map(|result| (&result.status, &result.entry));
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => {
                data.print(console.out, &[json::message(&response)?])?;
            }
            Format::Pretty => report("update", results.clone(), console)?,
        }
        doubts::tell(&succeeded(results), channel, console).await;
        Ok(())
    }
}

/// The entries that were made.
fn succeeded<'a>(
    results: impl Iterator<Item = (&'a Option<types::Status>, &'a Option<types::Entry>)>,
) -> Vec<&'a types::Entry> {
    results
        .filter(|(status, _)| failure(status.as_ref()).is_none())
        .filter_map(|(_, entry)| entry.as_ref())
        .collect()
}

/// Prints what succeeded, then on stderr what didn't.
pub(super) fn report<'a>(
    verb: &str,
    results: impl Iterator<Item = (&'a Option<types::Status>, &'a Option<types::Entry>)> + Clone,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let none = types::Entry::default();
    let mut failed = false;
    for (status, entry) in results.clone() {
        if failure(status.as_ref()).is_none() {
            print::entry(console.out, entry.as_ref().unwrap_or(&none))?;
        }
    }
    for (status, entry) in results {
        if let Some((code, message)) = failure(status.as_ref()) {
            failed = true;
            writeln!(
                console.err,
                "Failed to {verb} the following entry (code: {code}, msg: {message:?}):"
            )?;
            print::entry(console.err, entry.as_ref().unwrap_or(&none))?;
        }
    }
    if failed {
        return Err(CommandError::new(format!("failed to {verb} one or more entries")));
    }
    Ok(())
}
