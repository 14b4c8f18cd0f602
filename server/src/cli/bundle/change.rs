//! `bundle set` and `bundle delete`.

use clap::Args;
use credence_command::{CommandError, Console, output::Output};
use credence_proto::spire::api::server::bundle::v1::{
    BatchDeleteFederatedBundleRequest, BatchSetFederatedBundleRequest,
    batch_delete_federated_bundle_request::Mode, bundle_client::BundleClient,
};
use tonic::transport::Channel;

use super::document::{self, Form};
use crate::cli::{
    RemoteCommand,
    request::{bytes, failure},
};

#[derive(Args, Debug)]
pub(in crate::cli) struct Set {
    /// The trust domain whose bundle it is
    #[arg(
        long = "id",
        value_name = "TRUST_DOMAIN",
        default_value = "",
        hide_default_value = true
    )]
    id: String,
    /// The file with the bundle; stdin without it
    #[arg(
        long = "path",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    path: String,
    /// Form of the bundle: pem or spiffe
    #[arg(long = "format", value_name = "FORMAT", default_value = document::PEM)]
    format: String,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Set {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        const WHAT: &str = "failed to set federated bundle";
        if self.id.is_empty() {
            return Err(CommandError::new("id flag is required"));
        }
        let form = Form::parse(&self.format)?;
        let path = match self.path.as_str() {
            "" => "-",
            path => path,
        };
        let bytes = bytes(path, console).map_err(|error| error.context("unable to load bundle data"))?;
        let request = BatchSetFederatedBundleRequest {
            bundle: vec![document::read(&bytes, form, &self.id)?],
            output_mask: None,
        };
        let response = BundleClient::new(channel)
            .batch_set_federated_bundle(request)
            .await
            .map_err(|status| CommandError::from(status).context(WHAT))?
            .into_inner();
        if self.output.print_data(console, &response)? {
            return Ok(());
        }
        for result in &response.results {
            if let Some((_, message)) = failure(result.status.as_ref()) {
                return Err(CommandError::new(message).context(WHAT));
            }
        }
        Ok(writeln!(console.out, "bundle set.")?)
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Delete {
    /// The trust domain whose bundle it is
    #[arg(
        long = "id",
        value_name = "TRUST_DOMAIN",
        default_value = "",
        hide_default_value = true
    )]
    id: String,
    /// What becomes of entries that federate with it: restrict (then it stays), dissociate or delete
    #[arg(long = "mode", value_name = "MODE", default_value = "restrict")]
    mode: String,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Delete {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        const WHAT: &str = "failed to delete federated bundle";
        if self.id.is_empty() {
            return Err(CommandError::new("id is required"));
        }
        let mode = match self.mode.as_str() {
            "" | "restrict" => Mode::Restrict,
            "dissociate" => Mode::Dissociate,
            "delete" => Mode::Delete,
            other => return Err(CommandError::new(format!("unsupported mode {other:?}"))),
        };
        let request = BatchDeleteFederatedBundleRequest {
            trust_domains: vec![self.id.clone()],
            mode: mode.into(),
        };
        let response = BundleClient::new(channel)
            .batch_delete_federated_bundle(request)
            .await
            .map_err(|status| CommandError::from(status).context(WHAT))?
            .into_inner();
        if self.output.print_data(console, &response)? {
            return Ok(());
        }
        for result in &response.results {
            if let Some((_, message)) = failure(result.status.as_ref()) {
                let what = format!("{WHAT} {:?}", result.trust_domain);
                return Err(CommandError::new(message).context(what));
            }
        }
        Ok(writeln!(console.out, "bundle deleted.")?)
    }
}
