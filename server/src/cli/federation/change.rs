//! `federation create`, `federation update`, `federation delete`.

use clap::Args;
use credence_command::{CommandError, Console, output::Output};
use credence_proto::spire::api::{
    server::trustdomain::v1::{
        BatchCreateFederationRelationshipRequest, BatchDeleteFederationRelationshipRequest,
        BatchUpdateFederationRelationshipRequest, trust_domain_client::TrustDomainClient,
    },
    types::{FederationRelationship, Status},
};
use tonic::transport::Channel;

use super::fields::{Fields, Source};
use super::file;
use crate::cli::{RemoteCommand, bundle::document, request::failure};

/// What says what a relationship is to be.
#[derive(Args, Debug)]
struct Wanted {
    /// A JSON file with relationships, or - for stdin; instead of the other flags
    #[arg(
        long = "data",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    data: String,
    /// The trust domain to federate with, such as example.org
    #[arg(
        long = "trustDomain",
        value_name = "TRUST_DOMAIN",
        default_value = "",
        hide_default_value = true
    )]
    trust_domain: String,
    /// Where its bundle is served: an https URL
    #[arg(
        long = "bundleEndpointURL",
        value_name = "URL",
        default_value = "",
        hide_default_value = true
    )]
    url: String,
    /// How the endpoint proves who it is: https_web or https_spiffe
    #[arg(
        long = "bundleEndpointProfile",
        value_name = "PROFILE",
        default_value = "",
        hide_default_value = true
    )]
    profile: String,
    /// The SPIFFE ID of the endpoint, with https_spiffe
    #[arg(
        long = "endpointSpiffeID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    endpoint_spiffe_id: String,
    /// A file with the trust domain's bundle to begin with
    #[arg(
        long = "trustDomainBundlePath",
        value_name = "FILE",
        default_value = "",
        hide_default_value = true
    )]
    bundle_path: String,
    /// Form of that bundle: pem or spiffe
    #[arg(long = "trustDomainBundleFormat", value_name = "FORMAT", default_value = document::PEM)]
    bundle_format: String,
}

impl Wanted {
    fn relationships(&self, console: &mut Console<'_>) -> Result<Vec<FederationRelationship>, CommandError> {
        let flags = [
            &self.trust_domain,
            &self.url,
            &self.profile,
            &self.endpoint_spiffe_id,
            &self.bundle_path,
        ];
        if self.data.is_empty() {
            let bundle = Some(Source::Path(&self.bundle_path)).filter(|_| !self.bundle_path.is_empty());
            let fields = Fields {
                trust_domain: &self.trust_domain,
                url: &self.url,
                profile: &self.profile,
                endpoint_spiffe_id: &self.endpoint_spiffe_id,
                bundle,
                bundle_format: &self.bundle_format,
            };
            Ok(vec![fields.relationship()?])
        } else if flags.iter().any(|flag| !flag.is_empty()) || self.bundle_format != document::PEM {
            Err(CommandError::new(
                "cannot use other flags to specify relationship fields when 'data' flag is set",
            ))
        } else {
            file::read(&self.data, console)
        }
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Create {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Create {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let wanted = self.wanted.relationships(console)?;
        let request = BatchCreateFederationRelationshipRequest {
            federation_relationships: wanted.clone(),
            output_mask: None,
        };
        let response = TrustDomainClient::new(channel)
            .batch_create_federation_relationship(request)
            .await
            .map_err(|status| CommandError::from(status).context("request failed"))?
            .into_inner();
        if self.output.print_data(console, &response)? {
            return Ok(());
        }
        let results = response.results.into_iter();
        let results = results.map(|result| (result.status, result.federation_relationship));
        report("create", results.zip(wanted).collect(), console)
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Update {
    #[command(flatten)]
    wanted: Wanted,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Update {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let wanted = self.wanted.relationships(console)?;
        let request = BatchUpdateFederationRelationshipRequest {
            federation_relationships: wanted.clone(),
            ..Default::default()
        };
        let response = TrustDomainClient::new(channel)
            .batch_update_federation_relationship(request)
            .await
            .map_err(|status| CommandError::from(status).context("request failed"))?
            .into_inner();
        if self.output.print_data(console, &response)? {
            return Ok(());
        }
        let results = response.results.into_iter();
        let results = results.map(|result| (result.status, result.federation_relationship));
        report("update", results.zip(wanted).collect(), console)
    }
}

type Answer = (Option<Status>, Option<FederationRelationship>);

/// Prints what succeeded, then on stderr what was asked for and didn't.
fn report(
    verb: &str,
    results: Vec<(Answer, FederationRelationship)>,
    console: &mut Console<'_>,
) -> Result<(), CommandError> {
    let mut failed = Vec::new();
    for ((status, made), wanted) in &results {
        match failure(status.as_ref()) {
            None => {
                writeln!(console.out)?;
                super::print(console.out, made.as_ref().unwrap_or(wanted))?;
            }
            Some(fault) => failed.push((fault, wanted)),
        }
    }
    for ((code, message), wanted) in &failed {
        writeln!(console.out)?;
        writeln!(
            console.err,
            "Failed to {verb} the following federation relationship (code: {code}, msg: {message:?}):"
        )?;
        super::print(console.err, wanted)?;
    }
    if failed.is_empty() {
        Ok(())
    } else {
        let text = format!("failed to {verb} one or more federation relationships");
        Err(CommandError::new(text))
    }
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Delete {
    /// The trust domain of the relationship
    #[arg(
        long = "id",
        value_name = "TRUST_DOMAIN",
        default_value = "",
        hide_default_value = true
    )]
    id: String,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Delete {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        const WHAT: &str = "failed to delete federation relationship";
        if self.id.is_empty() {
            return Err(CommandError::new("id is required"));
        }
        let request = BatchDeleteFederationRelationshipRequest {
            trust_domains: vec![self.id.clone()],
        };
        let response = TrustDomainClient::new(channel)
            .batch_delete_federation_relationship(request)
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
        Ok(writeln!(console.out, "federation relationship deleted.")?)
    }
}
