//! The server's messages as domain types.

use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::X509Svid;
use credence_identity::{
    Bundle, Entry, EntryId, JwtAuthority, Selector, SpiffeId, Timestamp, TrustDomain, X509Authority,
};
use credence_proto::spire::api::server::entry::v1::EntryRevision;
use credence_proto::spire::api::types;

use crate::cache::EntryVersion;

/// What is wrong with a message.
type Fault = String;

fn field<E: ToString>(name: &'static str) -> impl Fn(E) -> Fault {
    move |error| format!("{name}: {}", error.to_string())
}

pub(super) fn spiffe_id(id: Option<types::Spiffeid>) -> Result<SpiffeId, Fault> {
    let id = id.ok_or("SPIFFE ID is missing")?;
    let trust_domain = TrustDomain::parse_lenient(&id.trust_domain).map_err(field("trust domain"))?;
    SpiffeId::from_path(&trust_domain, &id.path).map_err(field("path"))
}

/// An entry of which the server may have left out the fields that only it needs.
pub(super) fn entry(entry: types::Entry) -> Result<Arc<Entry>, Fault> {
    let spiffe_id = spiffe_id(entry.spiffe_id)?;
    let parent_id = match entry.parent_id {
        Some(parent) => self::spiffe_id(Some(parent)).map_err(field("parent ID"))?,
        None => spiffe_id.trust_domain().id(),
    };
    let selectors = entry
        .selectors
        .iter()
        .map(|s| Selector::new(&s.r#type, &s.value))
        .collect::<Result<_, _>>();
    let federates_with = entry
        .federates_with
        .iter()
        .map(|name| TrustDomain::parse_lenient(name))
        .collect::<Result<_, _>>();
    let attributes = entry.additional_attributes.unwrap_or_default();
    Ok(Arc::new(Entry {
        id: EntryId::parse(&entry.id).map_err(field("id"))?,
        spiffe_id,
        parent_id,
        selectors: selectors.map_err(field("selectors"))?,
        x509_svid_ttl: u32::try_from(entry.x509_svid_ttl).unwrap_or(0),
        jwt_svid_ttl: u32::try_from(entry.jwt_svid_ttl).unwrap_or(0),
        federates_with: federates_with.map_err(field("federated trust domain"))?,
        admin: entry.admin,
        downstream: entry.downstream,
        store_svid: entry.store_svid,
        expires_at: (entry.expires_at != 0).then(|| Timestamp::from_unix_seconds(entry.expires_at)),
        dns_names: entry.dns_names.iter().map(|name| name.as_str().into()).collect(),
        hint: entry.hint.into(),
        disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti: attributes.jwt_svid_include_jti,
        revision_number: entry.revision_number,
        created_at: Timestamp::from_unix_seconds(entry.created_at),
    }))
}

pub(super) fn revision(revision: &EntryRevision) -> Result<(EntryId, EntryVersion), Fault> {
    if revision.revision_number < 0 {
        return Err(format!(
            "revision number {} is negative",
            revision.revision_number
        ));
    }
    let version = EntryVersion {
        revision_number: revision.revision_number,
        created_at: Timestamp::from_unix_seconds(revision.created_at),
    };
    Ok((EntryId::parse(&revision.id).map_err(field("id"))?, version))
}

pub(super) fn bundle(bundle: types::Bundle) -> Result<Arc<Bundle>, Fault> {
    let trust_domain = TrustDomain::parse_lenient(&bundle.trust_domain).map_err(field("trust domain"))?;
    let x509_authorities = bundle
        .x509_authorities
        .into_iter()
        .map(|authority| X509Authority {
            der: authority.asn1.into(),
            tainted: authority.tainted,
        });
    let end = |seconds: i64| (seconds != 0).then(|| Timestamp::from_unix_seconds(seconds));
    let jwt_authorities = bundle.jwt_authorities.into_iter().map(|authority| JwtAuthority {
        key_id: authority.key_id.into(),
        public_key: authority.public_key.into(),
        expires_at: end(authority.expires_at),
        tainted: authority.tainted,
    });
    let wit_authorities = bundle.wit_authorities.into_iter().map(|authority| JwtAuthority {
        key_id: authority.key_id.into(),
        public_key: authority.public_key.into(),
        expires_at: end(authority.expires_at),
        tainted: authority.tainted,
    });
    let hint = u64::try_from(bundle.refresh_hint)
        .ok()
        .filter(|seconds| *seconds > 0);
    Ok(Arc::new(Bundle {
        trust_domain,
        x509_authorities: x509_authorities.collect(),
        jwt_authorities: jwt_authorities.collect(),
        wit_authorities: wit_authorities.collect(),
        refresh_hint: hint.map(Duration::from_secs),
        sequence_number: bundle.sequence_number,
    }))
}

pub(super) fn x509_svid(svid: Option<types::X509svid>) -> Result<X509Svid, Fault> {
    let svid = svid.ok_or("X509-SVID is missing")?;
    X509Svid::from_der_chain(&svid.cert_chain).map_err(field("chain"))
}

/// An entry that can't be read is left out, as if the agent weren't authorised for it, and the log says so.
pub(super) fn entry_or_warn(message: types::Entry) -> Option<Arc<Entry>> {
    let (id, revision) = (message.id.clone(), message.revision_number);
    entry(message)
        .inspect_err(|fault| {
            tracing::warn!(
                error = fault,
                registration_id = id,
                revision_number = revision,
                "Received malformed entry from SPIRE server; are the server and agent versions compatible?"
            );
        })
        .ok()
}

/// A bundle that can't be read is left out, and the log says so.
pub(super) fn bundle_or_warn(message: types::Bundle) -> Option<Arc<Bundle>> {
    let name = message.trust_domain.clone();
    bundle(message)
        .inspect_err(|fault| {
            tracing::warn!(
                error = fault,
                trust_domain_id = name,
                "Received malformed bundle from SPIRE server; are the server and agent versions compatible?"
            );
        })
        .ok()
}
