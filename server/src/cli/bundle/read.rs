//! `bundle count`, `bundle show`, `bundle list`.

use std::io::{self, Write};

use clap::Args;
use credence_command::{
    CommandError, Console, Format, json,
    output::{Output, plural},
    table,
};
use credence_proto::spire::api::server::bundle::v1::{
    CountBundlesRequest, GetBundleRequest, GetFederatedBundleRequest, ListFederatedBundlesRequest,
    bundle_client::BundleClient,
};
use credence_proto::spire::api::types::Bundle;
use tonic::transport::Channel;

use super::document::{self, Form};
use crate::cli::RemoteCommand;

#[derive(Args, Debug)]
pub(in crate::cli) struct Count {
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Count {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let mut client = BundleClient::new(channel);
        let counted = client.count_bundles(CountBundlesRequest {}).await?.into_inner();
        if self.output.print_data(console, &counted)? {
            return Ok(());
        }
        let count = usize::try_from(counted.count).unwrap_or(0);
        writeln!(console.out, "{count} {}", plural(count, "bundle", "bundles"))?;
        Ok(())
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Show {
    /// Form of the bundle in pretty output: pem or spiffe
    #[arg(long = "format", value_name = "FORMAT", default_value = document::PEM)]
    format: String,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Show {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let form = Form::parse(&self.format)?;
        let response = BundleClient::new(channel)
            .get_bundle(GetBundleRequest::default())
            .await?;
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => {
                data.print(console.out, &[json::message(response.get_ref())?])
            }
            Format::Pretty => document::print(response.into_inner(), form, false, console),
        }
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct List {
    /// Only the bundle of this trust domain
    #[arg(
        long = "id",
        value_name = "TRUST_DOMAIN",
        default_value = "",
        hide_default_value = true
    )]
    id: String,
    /// Form of the bundles in pretty output: pem or spiffe; without -id a terminal shows a table instead of pem
    #[arg(long = "format", value_name = "FORMAT", default_value = document::PEM)]
    format: String,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for List {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let form = Form::parse(&self.format)?;
        let mut client = BundleClient::new(channel);
        if !self.id.is_empty() {
            let request = GetFederatedBundleRequest {
                trust_domain: self.id.clone(),
                output_mask: None,
            };
            let bundle = client.get_federated_bundle(request).await?.into_inner();
            return match self.output.format {
                data @ (Format::Json | Format::Yaml) => data.print(console.out, &[json::message(&bundle)?]),
                Format::Pretty => document::print(bundle, form, false, console),
            };
        }
        let request = ListFederatedBundlesRequest::default();
        let listed = client.list_federated_bundles(request).await?.into_inner();
        if self.output.print_data(console, &listed)? {
            return Ok(());
        }
        if let Some(width) = console.terminal
            && form == Form::Pem
            && !listed.bundles.is_empty()
        {
            return Ok(table(console.out, width, &listed.bundles)?);
        }
        for (index, bundle) in listed.bundles.into_iter().enumerate() {
            if index > 0 {
                writeln!(console.out)?;
            }
            document::print(bundle, form, true, console)?;
        }
        Ok(())
    }
}

/// How much of what each bundle holds: nobody reads PEM off a screen.
fn table(out: &mut dyn Write, width: u16, bundles: &[Bundle]) -> io::Result<()> {
    let row = |bundle: &Bundle| {
        vec![
            bundle.trust_domain.clone(),
            bundle.x509_authorities.len().to_string(),
            bundle.jwt_authorities.len().to_string(),
            bundle.sequence_number.to_string(),
            format!("{} s", bundle.refresh_hint),
        ]
    };
    let rows: Vec<_> = bundles.iter().map(row).collect();
    let headings = [
        "TRUST DOMAIN",
        "X.509 AUTHORITIES",
        "JWT AUTHORITIES",
        "SEQUENCE",
        "REFRESH HINT",
    ];
    table::print(out, width, &headings, &rows)
}
