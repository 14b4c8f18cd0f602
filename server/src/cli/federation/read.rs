//! `federation list` and `federation show`.

use std::io::{self, Write};

use clap::Args;
use credence_command::{
    CommandError, Console,
    output::{Output, plural},
    table,
};
use credence_proto::spire::api::server::trustdomain::v1::{
    GetFederationRelationshipRequest, ListFederationRelationshipsRequest,
    trust_domain_client::TrustDomainClient,
};
use credence_proto::spire::api::types::{
    FederationRelationship, federation_relationship::BundleEndpointProfile as Profile,
};
use tonic::transport::Channel;

use super::{fields, print};
use crate::cli::RemoteCommand;

#[derive(Args, Debug)]
pub(in crate::cli) struct List {
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for List {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let listed = TrustDomainClient::new(channel)
            .list_federation_relationships(ListFederationRelationshipsRequest::default())
            .await
            .map_err(|status| CommandError::from(status).context("error listing federation relationship"))?
            .into_inner();
        if self.output.print_data(console, &listed)? {
            return Ok(());
        }
        let count = listed.federation_relationships.len();
        if let Some(width) = console.terminal
            && count > 0
        {
            return Ok(table(console.out, width, &listed.federation_relationships)?);
        }
        let noun = plural(count, "federation relationship", "federation relationships");
        writeln!(console.out, "Found {count} {noun}")?;
        for held in &listed.federation_relationships {
            writeln!(console.out)?;
            print(console.out, held)?;
        }
        Ok(())
    }
}

fn table(out: &mut dyn Write, width: u16, held: &[FederationRelationship]) -> io::Result<()> {
    let row = |held: &FederationRelationship| {
        let (profile, id) = match &held.bundle_endpoint_profile {
            Some(Profile::HttpsWeb(_)) => (fields::HTTPS_WEB, ""),
            Some(Profile::HttpsSpiffe(profile)) => {
                (fields::HTTPS_SPIFFE, profile.endpoint_spiffe_id.as_str())
            }
            None => ("", ""),
        };
        let (name, url) = (held.trust_domain.as_str(), held.bundle_endpoint_url.as_str());
        let cells = [name, url, profile, id];
        cells.map(str::to_owned).to_vec()
    };
    let rows: Vec<_> = held.iter().map(row).collect();
    let headings = ["TRUST DOMAIN", "BUNDLE ENDPOINT", "PROFILE", "ENDPOINT SPIFFE ID"];
    table::print(out, width, &headings, &rows)
}

#[derive(Args, Debug)]
pub(in crate::cli) struct Show {
    /// The trust domain of the relationship
    #[arg(
        long = "trustDomain",
        value_name = "TRUST_DOMAIN",
        default_value = "",
        hide_default_value = true
    )]
    trust_domain: String,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Show {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        if self.trust_domain.is_empty() {
            return Err(CommandError::new("a trust domain name is required"));
        }
        let request = GetFederationRelationshipRequest {
            trust_domain: self.trust_domain.clone(),
            output_mask: None,
        };
        let held = TrustDomainClient::new(channel)
            .get_federation_relationship(request)
            .await
            .map_err(|status| CommandError::from(status).context("error showing federation relationship"))?
            .into_inner();
        if self.output.print_data(console, &held)? {
            return Ok(());
        }
        writeln!(
            console.out,
            "Found a federation relationship with trust domain {}:\n",
            self.trust_domain
        )?;
        print(console.out, &held)
    }
}
