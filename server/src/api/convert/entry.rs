//! Registration entries on the wire.
//!
//! Owns masks, the shape of a message and the limits of its fields; what depends on other entries or bundles is
//! checked in the transaction that stores the entry.

use std::sync::Arc;

use credence_identity::{
    Entry, EntryId, EntryIdError, Selector, SelectorError, SpiffeId, SpiffeIdError, Timestamp, TrustDomain,
};
use credence_proto::spire::api::types::{self, entry::AdditionalAttributes};
use prost::Message;
use uuid::Uuid;

use super::dns::{self, DnsNameFault};
use super::{
    IdFault, id_to_proto, member_id_from_proto, selector_to_proto, selectors_from_proto,
    workload_id_from_proto,
};

/// Most bytes of a hint.
const MAX_HINT: usize = 1024;

/// Most entries of one message where a set comes in pages, as with SPIRE.
pub(crate) const PAGE: usize = 500;
/// Where a page ends though it holds fewer: gRPC clients take 4 MiB unless told otherwise.
const PAGE_BYTES: usize = 1024 * 1024;

/// What is wrong with an entry; the text follows "failed to convert entry: ".
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryFault {
    #[error("invalid parent ID: {0}")]
    ParentId(IdFault),
    #[error("invalid spiffe ID: {0}")]
    SpiffeId(IdFault),
    #[error("invalid DNS name: {0}")]
    DnsName(#[from] DnsNameFault),
    #[error("invalid federated trust domain: {0}")]
    FederatesWith(SpiffeIdError),
    #[error("selector list is empty")]
    NoSelectors,
    #[error("{0}")]
    Selector(#[from] SelectorError),
    #[error("hint is too long, max length is {MAX_HINT} characters")]
    Hint,
}

/// What the store would refuse in an entry that converts; the text follows "failed to create entry: " or "failed to
/// update entry: ".
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum EntryInvalid {
    #[error("datastore-validation: invalid registration entry: {0}")]
    Id(EntryIdError),
    #[error("datastore-validation: invalid registration entry: X509SvidTtl is not set")]
    X509SvidTtl,
    #[error("datastore-validation: invalid registration entry: JwtSvidTtl is not set")]
    JwtSvidTtl,
    #[error(
        "datastore-validation: invalid registration entry: selector types must be the same when store SVID is enabled"
    )]
    StoreSvid,
    #[error("datastore-validation: specifying cache behaviour is incompatible with storable SVIDs")]
    StoredPrefetch,
}

/// The mask of a request that has none: everything.
pub(crate) const ALL: types::EntryMask = types::EntryMask {
    spiffe_id: true,
    parent_id: true,
    selectors: true,
    x509_svid_ttl: true,
    federates_with: true,
    admin: true,
    downstream: true,
    expires_at: true,
    dns_names: true,
    revision_number: true,
    store_svid: true,
    jwt_svid_ttl: true,
    hint: true,
    created_at: true,
    additional_attributes: true,
};

/// The entry on the wire, with its id and what the mask asks for.
pub(crate) fn to_proto(entry: &Entry, mask: &types::EntryMask) -> types::Entry {
    let attributes = AdditionalAttributes {
        disable_x509_svid_prefetch: entry.disable_x509_svid_prefetch,
        jwt_svid_include_jti: entry.jwt_svid_include_jti,
    };
    let has_attributes = attributes != AdditionalAttributes::default();
    types::Entry {
        id: entry.id.as_str().to_owned(),
        spiffe_id: mask.spiffe_id.then(|| id_to_proto(&entry.spiffe_id)),
        parent_id: mask.parent_id.then(|| id_to_proto(&entry.parent_id)),
        selectors: list(mask.selectors, &entry.selectors, selector_to_proto),
        x509_svid_ttl: when(mask.x509_svid_ttl, || ttl_to_proto(entry.x509_svid_ttl)),
        federates_with: list(mask.federates_with, &entry.federates_with, |name| {
            name.as_str().to_owned()
        }),
        admin: mask.admin && entry.admin,
        downstream: mask.downstream && entry.downstream,
        expires_at: when(mask.expires_at, || {
            entry.expires_at.map_or(0, Timestamp::unix_seconds)
        }),
        dns_names: list(mask.dns_names, &entry.dns_names, |name| name.to_string()),
        revision_number: when(mask.revision_number, || entry.revision_number),
        store_svid: mask.store_svid && entry.store_svid,
        jwt_svid_ttl: when(mask.jwt_svid_ttl, || ttl_to_proto(entry.jwt_svid_ttl)),
        hint: when(mask.hint, || entry.hint.to_string()),
        created_at: when(mask.created_at, || entry.created_at.unix_seconds()),
        additional_attributes: (mask.additional_attributes && has_attributes).then_some(attributes),
    }
}

/// Takes the next message's worth of entries off the end of `rest`, which holds them in reverse: [`PAGE`] at most, and
/// fewer where they are so large that a client might refuse the message.
pub(crate) fn take_page(rest: &mut Vec<Arc<Entry>>, mask: &types::EntryMask) -> Vec<types::Entry> {
    let mut page = Vec::with_capacity(rest.len().min(PAGE));
    let mut bytes = 0;
    while page.len() < PAGE && bytes < PAGE_BYTES {
        let Some(entry) = rest.pop() else { break };
        let entry = to_proto(&entry, mask);
        bytes += entry.encoded_len();
        page.push(entry);
    }
    page
}

fn when<T: Default>(asked: bool, value: impl FnOnce() -> T) -> T {
    if asked { value() } else { T::default() }
}

fn list<T, U>(asked: bool, items: &[T], convert: impl Fn(&T) -> U) -> Vec<U> {
    if asked {
        items.iter().map(convert).collect()
    } else {
        Vec::new()
    }
}

fn ttl_to_proto(seconds: u32) -> i32 {
    i32::try_from(seconds).unwrap_or(i32::MAX)
}

/// The fields of an entry in a message, checked one by one; those the mask leaves out are at their defaults.
#[derive(Debug)]
pub(crate) struct EntryFields {
    spiffe_id: Option<SpiffeId>,
    parent_id: Option<SpiffeId>,
    selectors: Vec<Selector>,
    dns_names: Vec<Arc<str>>,
    federates_with: Vec<TrustDomain>,
    x509_svid_ttl: i32,
    jwt_svid_ttl: i32,
    expires_at: Option<Timestamp>,
    attributes: AdditionalAttributes,
    hint: Arc<str>,
    admin: bool,
    downstream: bool,
    store_svid: bool,
}

/// Reads and checks what `mask` names. `id`, `revision_number` and `created_at` are not part of it.
pub(crate) fn fields_from_proto(
    own: &TrustDomain,
    entry: &types::Entry,
    mask: &types::EntryMask,
) -> Result<EntryFields, EntryFault> {
    let parent_id = (mask
        .parent_id
        .then(|| member_id_from_proto(own, entry.parent_id.as_ref()))
        .transpose())
    .map_err(EntryFault::ParentId)?;
    let spiffe_id = (mask
        .spiffe_id
        .then(|| workload_id_from_proto(own, entry.spiffe_id.as_ref()))
        .transpose())
    .map_err(EntryFault::SpiffeId)?;
    let mut dns_names = Vec::new();
    for name in entry.dns_names.iter().filter(|_| mask.dns_names) {
        dns::check(name)?;
        dns_names.push(Arc::from(name.as_str()));
    }
    let mut federates_with = Vec::new();
    for name in entry.federates_with.iter().filter(|_| mask.federates_with) {
        let foreign = TrustDomain::parse_lenient(name).map_err(EntryFault::FederatesWith)?;
        if !federates_with.contains(&foreign) {
            federates_with.push(foreign);
        }
    }
    let mut selectors = Vec::new();
    if mask.selectors {
        if entry.selectors.is_empty() {
            return Err(EntryFault::NoSelectors);
        }
        selectors = selectors_from_proto(&entry.selectors)?;
    }
    if mask.hint && entry.hint.len() > MAX_HINT {
        return Err(EntryFault::Hint);
    }
    let expires_at = Some(entry.expires_at)
        .filter(|seconds| *seconds != 0)
        .map(Timestamp::from_unix_seconds);
    Ok(EntryFields {
        spiffe_id,
        parent_id,
        selectors,
        dns_names,
        federates_with,
        x509_svid_ttl: entry.x509_svid_ttl,
        jwt_svid_ttl: entry.jwt_svid_ttl,
        expires_at,
        attributes: entry.additional_attributes.unwrap_or_default(),
        hint: Arc::from(entry.hint.as_str()),
        admin: entry.admin,
        downstream: entry.downstream,
        store_svid: entry.store_svid,
    })
}

/// The new entry of a create request: an id of its own unless the caller chose one, revision 0.
pub(crate) fn create(id: &str, fields: EntryFields, now: Timestamp) -> Result<Entry, EntryInvalid> {
    let id = if id.is_empty() {
        Uuid::new_v4().to_string()
    } else {
        id.to_owned()
    };
    let (Some(spiffe_id), Some(parent_id)) = (fields.spiffe_id, fields.parent_id) else {
        return Err(EntryInvalid::Id(EntryIdError::Empty));
    };
    let entry = Entry {
        id: EntryId::parse(&id).map_err(EntryInvalid::Id)?,
        spiffe_id,
        parent_id,
        selectors: fields.selectors,
        x509_svid_ttl: ttl(fields.x509_svid_ttl, EntryInvalid::X509SvidTtl)?,
        jwt_svid_ttl: ttl(fields.jwt_svid_ttl, EntryInvalid::JwtSvidTtl)?,
        federates_with: fields.federates_with,
        admin: fields.admin,
        downstream: fields.downstream,
        store_svid: fields.store_svid,
        expires_at: fields.expires_at,
        dns_names: fields.dns_names,
        hint: fields.hint,
        disable_x509_svid_prefetch: fields.attributes.disable_x509_svid_prefetch,
        jwt_svid_include_jti: fields.attributes.jwt_svid_include_jti,
        revision_number: 0,
        created_at: now.floor_to_second(),
    };
    check_store_svid(&entry)?;
    Ok(entry)
}

/// `old` with the fields that `mask` names replaced, one revision further. An empty mask moves the revision on too.
pub(crate) fn update(
    old: &Entry,
    fields: &EntryFields,
    mask: &types::EntryMask,
) -> Result<Entry, EntryInvalid> {
    let mut entry = old.clone();
    entry.revision_number = old.revision_number.saturating_add(1);
    if let Some(id) = &fields.spiffe_id {
        entry.spiffe_id = id.clone();
    }
    if let Some(id) = &fields.parent_id {
        entry.parent_id = id.clone();
    }
    if mask.selectors {
        entry.selectors.clone_from(&fields.selectors);
    }
    if mask.dns_names {
        entry.dns_names.clone_from(&fields.dns_names);
    }
    if mask.federates_with {
        entry.federates_with.clone_from(&fields.federates_with);
    }
    if mask.x509_svid_ttl {
        entry.x509_svid_ttl = ttl(fields.x509_svid_ttl, EntryInvalid::X509SvidTtl)?;
    }
    if mask.jwt_svid_ttl {
        entry.jwt_svid_ttl = ttl(fields.jwt_svid_ttl, EntryInvalid::JwtSvidTtl)?;
    }
    if mask.expires_at {
        entry.expires_at = fields.expires_at;
    }
    if mask.hint {
        entry.hint = Arc::clone(&fields.hint);
    }
    if mask.additional_attributes {
        entry.disable_x509_svid_prefetch = fields.attributes.disable_x509_svid_prefetch;
        entry.jwt_svid_include_jti = fields.attributes.jwt_svid_include_jti;
    }
    entry.admin = if mask.admin { fields.admin } else { old.admin };
    entry.downstream = if mask.downstream {
        fields.downstream
    } else {
        old.downstream
    };
    entry.store_svid = if mask.store_svid {
        fields.store_svid
    } else {
        old.store_svid
    };
    check_store_svid(&entry)?;
    Ok(entry)
}

fn ttl(seconds: i32, negative: EntryInvalid) -> Result<u32, EntryInvalid> {
    u32::try_from(seconds).map_err(|_| negative)
}

/// A stored SVID goes to the one plugin that all its selectors name.
fn check_store_svid(entry: &Entry) -> Result<(), EntryInvalid> {
    let mut types = entry.selectors.iter().map(Selector::selector_type);
    let first = types.next();
    if entry.store_svid && types.any(|other| Some(other) != first) {
        return Err(EntryInvalid::StoreSvid);
    }
    if entry.store_svid && entry.disable_x509_svid_prefetch {
        return Err(EntryInvalid::StoredPrefetch);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: u32, hint: usize) -> Arc<Entry> {
        let own = TrustDomain::parse("example.org").unwrap();
        let id = format!("e{id}");
        let wire = |path: &str| {
            Some(types::Spiffeid {
                trust_domain: own.to_string(),
                path: path.to_owned(),
            })
        };
        let selectors = vec![types::Selector {
            r#type: "unix".to_owned(),
            value: "x".repeat(hint),
        }];
        let asked = types::Entry {
            spiffe_id: wire("/w"),
            parent_id: wire("/n"),
            selectors,
            ..Default::default()
        };
        let fields = fields_from_proto(&own, &asked, &ALL).unwrap();
        Arc::new(create(&id, fields, Timestamp::EPOCH).unwrap())
    }

    #[test]
    fn pages_are_bounded_by_count_and_by_bytes() {
        let pages = |mut rest: Vec<Arc<Entry>>| {
            rest.reverse();
            let mut pages = Vec::new();
            while !rest.is_empty() {
                pages.push(take_page(&mut rest, &ALL));
            }
            pages
        };
        let small = pages((0..1100).map(|id| entry(id, 1)).collect());
        assert_eq!(small.iter().map(Vec::len).collect::<Vec<_>>(), [500, 500, 100]);
        assert_eq!(
            (small[0][0].id.as_str(), small[2][99].id.as_str()),
            ("e0", "e1099"),
            "in order"
        );
        let large = pages((0..10).map(|id| entry(id, 300_000)).collect());
        assert_eq!(large.iter().map(Vec::len).collect::<Vec<_>>(), [4, 4, 2]);
    }
}
