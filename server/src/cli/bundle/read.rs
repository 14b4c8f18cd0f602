//! `bundle count`, `bundle show`, `bundle list`.

use clap::Args;
use credence_command::{
    CommandError, Console, Format, json,
    output::{Output, plural},
};
use credence_proto::spire::api::server::bundle::v1::{
    CountBundlesRequest, GetBundleRequest, GetFederatedBundleRequest, ListFederatedBundlesRequest,
    bundle_client::BundleClient,
};
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
        if self.output.format == Format::Json {
            return json::print(console.out, &[json::message(&counted)?]);
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
            Format::Json => json::print(console.out, &[json::message(response.get_ref())?]),
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
    /// Form of the bundles in pretty output: pem or spiffe
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
                Format::Json => json::print(console.out, &[json::message(&bundle)?]),
                Format::Pretty => document::print(bundle, form, false, console),
            };
        }
        let request = ListFederatedBundlesRequest::default();
        let listed = client.list_federated_bundles(request).await?.into_inner();
        if self.output.format == Format::Json {
            return json::print(console.out, &[json::message(&listed)?]);
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
