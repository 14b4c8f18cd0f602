//! `entry show` and `entry count`.

use clap::Args;
use credence_command::{CommandError, Console, Format, json, output::Output, output::plural};
use credence_proto::spire::api::{
    server::entry::v1::{
        CountEntriesRequest, GetEntryRequest, ListEntriesRequest, ListEntriesResponse, count_entries_request,
        entry_client::EntryClient, list_entries_request,
    },
    types,
};
use tonic::transport::Channel;

use super::print;
use crate::cli::{
    RemoteCommand,
    request::{federates_with_match, filter_id, selector_match},
};

/// Entries per page: far from the limit of a message.
const PAGE: i32 = 500;

#[derive(Args, Debug)]
struct Filter {
    /// Only entries below this parent
    #[arg(
        long = "parentID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    parent_id: String,
    /// Only entries for this SPIFFE ID
    #[arg(
        long = "spiffeID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    spiffe_id: String,
    /// Only entries for downstream servers
    #[arg(long = "downstream")]
    downstream: bool,
    /// A selector, type:value; may be repeated
    #[arg(long = "selector", value_name = "SELECTOR")]
    selectors: Vec<String>,
    /// A federated trust domain; may be repeated
    #[arg(long = "federatesWith", value_name = "ID")]
    federates_with: Vec<String>,
    /// How trust domains compare: exact, any, superset or subset
    #[arg(
        long = "matchFederatesWithOn",
        value_name = "MATCH",
        default_value = "superset"
    )]
    match_federates_with_on: String,
    /// How selectors compare: exact, any, superset or subset
    #[arg(long = "matchSelectorsOn", value_name = "MATCH", default_value = "superset")]
    match_selectors_on: String,
    /// Only entries with this hint
    #[arg(
        long = "hint",
        value_name = "HINT",
        default_value = "",
        hide_default_value = true
    )]
    hint: String,
}

impl Filter {
    fn build(&self) -> Result<list_entries_request::Filter, CommandError> {
        Ok(list_entries_request::Filter {
            by_spiffe_id: filter_id("SPIFFE ID", &self.spiffe_id)?,
            by_parent_id: filter_id("parent ID", &self.parent_id)?,
            by_selectors: selector_match(&self.selectors, &self.match_selectors_on)?,
            by_federates_with: federates_with_match(&self.federates_with, &self.match_federates_with_on)?,
            by_hint: Some(self.hint.clone()).filter(|hint| !hint.is_empty()),
            // Without the flag all entries are meant, not those that are not downstream.
            by_downstream: self.downstream.then_some(true),
        })
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Show {
    /// The ID of the entry
    #[arg(
        long = "entryID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    entry_id: String,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Show {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let mut client = EntryClient::new(channel);
        let mut entries = if self.entry_id.is_empty() {
            list(&mut client, self.filter.build()?).await?
        } else {
            vec![self.one(&mut client).await?]
        };
        sort(&mut entries);
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => {
                let response = ListEntriesResponse {
                    entries,
                    ..Default::default()
                };
                data.print(console.out, &[json::message(&response)?])
            }
            Format::Pretty => {
                if let Some(width) = console.terminal
                    && self.entry_id.is_empty()
                    && !entries.is_empty()
                {
                    return Ok(print::table(console.out, width, &entries)?);
                }
                let count = entries.len();
                writeln!(console.out, "Found {count} {}", plural(count, "entry", "entries"))?;
                for entry in &entries {
                    print::entry(console.out, entry)?;
                }
                Ok(())
            }
        }
    }
}

impl Show {
    async fn one(&self, client: &mut EntryClient<Channel>) -> Result<types::Entry, CommandError> {
        let filter = &self.filter;
        if !filter.parent_id.is_empty() || !filter.spiffe_id.is_empty() || !filter.selectors.is_empty() {
            return Err(CommandError::new(
                "the -entryID flag can't be combined with others",
            ));
        }
        let id = &self.entry_id;
        let request = GetEntryRequest {
            id: id.clone(),
            output_mask: None,
        };
        let response = client.get_entry(request).await.map_err(|status| {
            CommandError::from(status).context(format_args!("error fetching entry ID {id}"))
        })?;
        Ok(response.into_inner())
    }
}

async fn list(
    client: &mut EntryClient<Channel>,
    filter: list_entries_request::Filter,
) -> Result<Vec<types::Entry>, CommandError> {
    let mut entries = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = ListEntriesRequest {
            filter: Some(filter.clone()),
            output_mask: None,
            page_size: PAGE,
            page_token,
        };
        let page = client
            .list_entries(request)
            .await
            .map_err(|status| CommandError::from(status).context("error fetching entries"))?
            .into_inner();
        entries.extend(page.entries);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(entries);
        }
    }
}

/// By SPIFFE ID, parent, lifetimes and selectors, the selectors of each sorted too.
pub(super) fn sort(entries: &mut [types::Entry]) {
    let selector =
        |a: &types::Selector, b: &types::Selector| (&a.r#type, &a.value).cmp(&(&b.r#type, &b.value));
    for entry in &mut *entries {
        entry.selectors.sort_by(selector);
    }
    let id = |id: &Option<types::Spiffeid>| {
        let id = id.clone().unwrap_or_default();
        (id.trust_domain, id.path)
    };
    entries.sort_by_cached_key(|entry| {
        let selectors: Vec<_> = entry
            .selectors
            .iter()
            .map(|selector| (selector.r#type.clone(), selector.value.clone()))
            .collect();
        (
            (id(&entry.spiffe_id), id(&entry.parent_id)),
            (entry.x509_svid_ttl, entry.jwt_svid_ttl),
            (selectors.len(), selectors),
        )
    });
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Count {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Count {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let filter = self.filter.build()?;
        let request = CountEntriesRequest {
            filter: Some(count_entries_request::Filter {
                by_spiffe_id: filter.by_spiffe_id,
                by_parent_id: filter.by_parent_id,
                by_selectors: filter.by_selectors,
                by_federates_with: filter.by_federates_with,
                by_hint: filter.by_hint,
                by_downstream: filter.by_downstream,
            }),
        };
        let response = EntryClient::new(channel)
            .count_entries(request)
            .await?
            .into_inner();
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => data.print(console.out, &[json::message(&response)?]),
            Format::Pretty => {
                let count = response.count;
                let entries = if count == 1 { "entry" } else { "entries" };
                Ok(writeln!(console.out, "{count} registration {entries}")?)
            }
        }
    }
}
