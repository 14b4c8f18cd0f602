//! The JSON files of `-data`: `{"federationRelationships": [{…}]}`.

use std::collections::BTreeMap;

use credence_command::{CommandError, Console};
use credence_proto::spire::api::types::FederationRelationship;
use serde::{Deserialize, de::IgnoredAny};

use super::fields::{Fields, Source};
use crate::cli::request::bytes;

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct File {
    federation_relationships: Vec<Relationship>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Relationship {
    trust_domain: String,
    #[serde(rename = "bundleEndpointURL")]
    bundle_endpoint_url: String,
    bundle_endpoint_profile: String,
    #[serde(rename = "endpointSPIFFEID")]
    endpoint_spiffe_id: String,
    trust_domain_bundle: Option<serde_json::Value>,
    trust_domain_bundle_format: String,
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

/// The relationships of a file. Names nobody knows are told of and ignored.
pub(super) fn read(
    path: &str,
    console: &mut Console<'_>,
) -> Result<Vec<FederationRelationship>, CommandError> {
    let bytes = bytes(path, console)?;
    let file: File = serde_json::from_slice(&bytes)
        .map_err(|error| CommandError::from(error).context("failed to parse JSON"))?;
    let mut relationships = Vec::with_capacity(file.federation_relationships.len());
    for (index, item) in file.federation_relationships.iter().enumerate() {
        for name in item.unknown.keys() {
            writeln!(console.err, "Warning: field {name:?} of item {index} is ignored")?;
        }
        let fields = Fields {
            trust_domain: &item.trust_domain,
            url: &item.bundle_endpoint_url,
            profile: &item.bundle_endpoint_profile,
            endpoint_spiffe_id: &item.endpoint_spiffe_id,
            bundle: item.trust_domain_bundle.as_ref().map(Source::Value),
            bundle_format: &item.trust_domain_bundle_format,
        };
        let relationship = fields
            .relationship()
            .map_err(|error| error.context(format_args!("could not parse item {index}")))?;
        relationships.push(relationship);
    }
    Ok(relationships)
}
