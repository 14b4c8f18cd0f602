//! The JSON files of `-data`: `{"entries": [{…}]}`, where IDs are texts and names are those SPIRE stores entries under.

use std::collections::BTreeMap;

use credence_command::{CommandError, Console};
use credence_proto::spire::api::types;
use serde::{Deserialize, de::IgnoredAny};

use super::attributes::trust_domain;
use crate::cli::request::{bytes, id};

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct File {
    entries: Vec<FileEntry>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileEntry {
    selectors: Vec<FileSelector>,
    parent_id: String,
    spiffe_id: String,
    x509_svid_ttl: i32,
    jwt_svid_ttl: i32,
    federates_with: Vec<String>,
    entry_id: String,
    admin: bool,
    downstream: bool,
    #[serde(rename = "entryExpiry")]
    entry_expiry: i64,
    dns_names: Vec<String>,
    revision_number: i64,
    store_svid: bool,
    hint: String,
    created_at: i64,
    additional_attributes: Option<FileAttributes>,
    #[serde(flatten)]
    unknown: BTreeMap<String, IgnoredAny>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileSelector {
    r#type: String,
    value: String,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct FileAttributes {
    disable_x509_svid_prefetch: bool,
    jwt_svid_include_jti: bool,
}

/// The entries of a file. Names nobody knows are told of and ignored.
pub(super) fn read(path: &str, console: &mut Console<'_>) -> Result<Vec<types::Entry>, CommandError> {
    let bytes = bytes(path, console)?;
    let file: File = serde_json::from_slice(&bytes)?;
    let mut entries = Vec::with_capacity(file.entries.len());
    for (index, entry) in file.entries.into_iter().enumerate() {
        for name in entry.unknown.keys() {
            writeln!(console.err, "Warning: field {name:?} of entry {index} is ignored")?;
        }
        entries.push(convert(entry).map_err(|error| error.context(format_args!("entry {index}")))?);
    }
    Ok(entries)
}

fn convert(entry: FileEntry) -> Result<types::Entry, CommandError> {
    let spiffe_id = id(&entry.spiffe_id).map_err(|error| error.context("invalid SPIFFE ID"))?;
    let parent_id = id(&entry.parent_id).map_err(|error| error.context("invalid parent ID"))?;
    let federates_with = entry.federates_with.iter().map(|text| trust_domain(text));
    let selector = |selector: FileSelector| types::Selector {
        r#type: selector.r#type,
        value: selector.value,
    };
    Ok(types::Entry {
        id: entry.entry_id,
        spiffe_id: Some(spiffe_id),
        parent_id: Some(parent_id),
        selectors: entry.selectors.into_iter().map(selector).collect(),
        x509_svid_ttl: entry.x509_svid_ttl,
        federates_with: federates_with.collect::<Result<_, _>>()?,
        admin: entry.admin,
        downstream: entry.downstream,
        expires_at: entry.entry_expiry,
        dns_names: entry.dns_names,
        revision_number: entry.revision_number,
        store_svid: entry.store_svid,
        jwt_svid_ttl: entry.jwt_svid_ttl,
        hint: entry.hint,
        created_at: entry.created_at,
        additional_attributes: entry.additional_attributes.map(|attributes| {
            types::entry::AdditionalAttributes {
                disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
                jwt_svid_include_jti: attributes.jwt_svid_include_jti,
            }
        }),
    })
}
