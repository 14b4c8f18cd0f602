//! `federation`: relationships with other trust domains. Those of the configuration file aren't shown here, as in SPIRE.

mod change;
mod fields;
mod file;
mod read;

use std::io::Write;

use clap::Subcommand;
use credence_command::{CommandError, Console};
use credence_proto::spire::api::types::{
    FederationRelationship, federation_relationship::BundleEndpointProfile as Profile,
};

use super::Remote;

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Creates a relationship
    Create(Remote<change::Create>),
    /// Updates a relationship
    Update(Remote<change::Update>),
    /// Deletes a relationship; the bundle stays
    Delete(Remote<change::Delete>),
    /// Lists all relationships
    List(Remote<read::List>),
    /// Shows one relationship
    Show(Remote<read::Show>),
}

impl Command {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        match self {
            Self::Create(command) => command.call(console).await,
            Self::Update(command) => command.call(console).await,
            Self::Delete(command) => command.call(console).await,
            Self::List(command) => command.call(console).await,
            Self::Show(command) => command.call(console).await,
        }
    }
}

/// A relationship in pretty output.
fn print(out: &mut (dyn Write + Send), held: &FederationRelationship) -> Result<(), CommandError> {
    writeln!(out, "Trust domain              : {}", held.trust_domain)?;
    writeln!(out, "Bundle endpoint URL       : {}", held.bundle_endpoint_url)?;
    match &held.bundle_endpoint_profile {
        Some(Profile::HttpsWeb(_)) => writeln!(out, "Bundle endpoint profile   : {}", fields::HTTPS_WEB)?,
        Some(Profile::HttpsSpiffe(profile)) => {
            writeln!(out, "Bundle endpoint profile   : {}", fields::HTTPS_SPIFFE)?;
            writeln!(out, "Endpoint SPIFFE ID        : {}", profile.endpoint_spiffe_id)?;
        }
        None => {}
    }
    Ok(())
}
