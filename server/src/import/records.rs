//! SPIRE's records to ours.
//!
//! Owns the check that each is valid: one that isn't is named, and then nothing is taken over. Invariant: what SPIRE's
//! API says of a record, ours will say too.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::Certificate;
use credence_crypto::{PublicKey, hex};
use credence_identity::slots::SlotName;
use credence_identity::{
    Bundle, BundleEndpointProfile, Entry, EntryId, FederationRelationship, JwtAuthority, Selector, SpiffeId,
    Timestamp, TrustDomain, X509Authority,
};
use prost::Message;
use time::OffsetDateTime;
use time::macros::format_description;

use super::wire;
use crate::ca::journal::{Journal, JournalEntry, Status};
use crate::store::{Change, JoinToken, Node};

/// What was read.
#[derive(Debug)]
pub(super) struct Records {
    /// In the order in which SPIRE made the objects.
    pub(super) changes: Vec<Change>,
    pub(super) counts: Counts,
}

/// How many of each.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Counts {
    pub(super) entries: usize,
    pub(super) nodes: usize,
    pub(super) bundles: usize,
    pub(super) relationships: usize,
    pub(super) join_tokens: usize,
    pub(super) x509_cas: usize,
    pub(super) jwt_keys: usize,
    pub(super) wit_keys: usize,
}

/// A row of `registered_entries` with what belongs to it.
#[derive(Debug)]
pub(super) struct EntryRow {
    pub(super) entry_id: String,
    pub(super) spiffe_id: String,
    pub(super) parent_id: String,
    pub(super) x509_svid_ttl: i64,
    pub(super) jwt_svid_ttl: i64,
    pub(super) admin: bool,
    pub(super) downstream: bool,
    pub(super) store_svid: bool,
    pub(super) expiry: i64,
    pub(super) hint: String,
    pub(super) revision_number: i64,
    pub(super) created_at: String,
    pub(super) additional_attributes: Vec<u8>,
    pub(super) selectors: Vec<(String, String)>,
    pub(super) dns_names: Vec<String>,
    /// Keys of rows of `bundles`.
    pub(super) bundles: Vec<i64>,
}

/// A row of `attested_node_entries` with its selectors.
#[derive(Debug)]
pub(super) struct NodeRow {
    pub(super) spiffe_id: String,
    pub(super) attestation_type: String,
    pub(super) serial: String,
    pub(super) not_after: String,
    pub(super) new_serial: String,
    pub(super) new_not_after: String,
    pub(super) can_reattest: bool,
    pub(super) agent_version: String,
    pub(super) selectors: Vec<(String, String)>,
}

/// Takes rows, the bundles before the entries.
#[derive(Debug)]
pub(super) struct Reader {
    trust_domain: TrustDomain,
    now: Timestamp,
    domains: HashMap<i64, TrustDomain>,
    changes: Vec<Change>,
    counts: Counts,
    faults: Vec<String>,
}

impl Reader {
    pub(super) fn new(trust_domain: TrustDomain, now: Timestamp) -> Self {
        Self {
            trust_domain,
            now,
            domains: HashMap::new(),
            changes: Vec::new(),
            counts: Counts::default(),
            faults: Vec::new(),
        }
    }

    /// What was read, or what is wrong with it.
    pub(super) fn finish(self) -> Result<Records, Vec<String>> {
        if self.faults.is_empty() {
            Ok(Records {
                changes: self.changes,
                counts: self.counts,
            })
        } else {
            Err(self.faults)
        }
    }

    /// Keeps the change that a row makes, or what is wrong with the row.
    fn keep(&mut self, name: impl Display, read: Result<Change, String>) -> bool {
        match read {
            Ok(change) => {
                self.changes.push(change);
                true
            }
            Err(fault) => {
                self.faults.push(format!("{name}: {fault}"));
                false
            }
        }
    }

    pub(super) fn bundle(&mut self, key: i64, trust_domain: &str, data: &[u8]) {
        let read = bundle(trust_domain, data).map(|bundle| {
            self.domains.insert(key, bundle.trust_domain.clone());
            Change::BundlePut(Arc::new(bundle))
        });
        self.counts.bundles += usize::from(self.keep(format_args!("bundle of {trust_domain:?}"), read));
    }

    pub(super) fn relationship(&mut self, trust_domain: &str, url: &str, profile: &str, endpoint: &str) {
        let read = relationship(trust_domain, url, profile, endpoint)
            .map(|relationship| Change::RelationshipPut(Arc::new(relationship)));
        let name = format_args!("federation relationship with {trust_domain:?}");
        self.counts.relationships += usize::from(self.keep(name, read));
    }

    pub(super) fn entry(&mut self, row: EntryRow) {
        let name = format!("entry {:?}", row.entry_id);
        let read = self
            .read_entry(row)
            .map(|entry| Change::EntryPut(Arc::new(entry)));
        self.counts.entries += usize::from(self.keep(name, read));
    }

    fn read_entry(&self, row: EntryRow) -> Result<Entry, String> {
        let attributes =
            wire::AdditionalAttributes::decode(row.additional_attributes.as_slice()).map_err(text)?;
        let domain = |key: &i64| {
            self.domains
                .get(key)
                .cloned()
                .ok_or("federates with a bundle that is gone")
        };
        let mut federates_with: Vec<TrustDomain> =
            row.bundles.iter().map(domain).collect::<Result<_, _>>()?;
        // The order in which SPIRE's lists have them.
        federates_with.sort();
        Ok(Entry {
            id: EntryId::parse(&row.entry_id).map_err(text)?,
            spiffe_id: self.member(&row.spiffe_id)?,
            parent_id: self.member(&row.parent_id)?,
            selectors: selectors(&row.selectors)?,
            x509_svid_ttl: u32::try_from(row.x509_svid_ttl).map_err(text)?,
            jwt_svid_ttl: u32::try_from(row.jwt_svid_ttl).map_err(text)?,
            federates_with,
            admin: row.admin,
            downstream: row.downstream,
            store_svid: row.store_svid,
            expires_at: seconds(row.expiry),
            dns_names: row.dns_names.into_iter().map(Arc::from).collect(),
            hint: row.hint.into(),
            disable_x509_svid_prefetch: attributes.disable_x509_svid_prefetch,
            jwt_svid_include_jti: attributes.jwt_svid_include_jti,
            revision_number: row.revision_number,
            created_at: moment(&row.created_at)?,
        })
    }

    pub(super) fn node(&mut self, row: NodeRow) {
        let name = format!("agent {:?}", row.spiffe_id);
        let read = self.read_node(row).map(|node| Change::NodePut(Arc::new(node)));
        self.counts.nodes += usize::from(self.keep(name, read));
    }

    fn read_node(&self, row: NodeRow) -> Result<Node, String> {
        let new_not_after = match row.new_not_after.as_str() {
            "" => None,
            given => Some(moment(given)?),
        };
        Ok(Node {
            id: self.member(&row.spiffe_id)?,
            attestation_type: row.attestation_type.into(),
            serial: row.serial,
            not_after: moment(&row.not_after)?,
            new_not_after: new_not_after.filter(|_| !row.new_serial.is_empty()),
            new_serial: Some(row.new_serial).filter(|serial| !serial.is_empty()),
            can_reattest: row.can_reattest,
            selectors: selectors(&row.selectors)?,
            agent_version: row.agent_version.into(),
        })
    }

    /// Takes a token that still admits someone.
    pub(super) fn join_token(&mut self, token: String, expiry: i64) {
        let expires_at = Timestamp::from_unix_seconds(expiry);
        if self.now < expires_at {
            self.changes
                .push(Change::JoinTokenPut(JoinToken { token, expires_at }));
            self.counts.join_tokens += 1;
        }
    }

    pub(super) fn journal(&mut self, data: &[u8]) {
        let read = journal(data).and_then(|journal| {
            self.counts.x509_cas = journal.x509.len();
            self.counts.jwt_keys = journal.jwt.len();
            self.counts.wit_keys = journal.wit.len();
            journal.put().map_err(text)
        });
        self.keep("the CA journal", read);
    }

    fn member(&self, id: &str) -> Result<SpiffeId, String> {
        let id = SpiffeId::parse(id).map_err(|fault| format!("{id:?}: {fault}"))?;
        if id.is_member_of(&self.trust_domain) {
            Ok(id)
        } else {
            Err(format!("{id} is no member of trust domain {}", self.trust_domain))
        }
    }
}

fn bundle(trust_domain: &str, data: &[u8]) -> Result<Bundle, String> {
    let held = wire::Bundle::decode(data).map_err(text)?;
    let mut x509_authorities = Vec::new();
    for root in &held.root_cas {
        let certificates = Certificate::parse_concatenated(&root.der_bytes).map_err(text)?;
        x509_authorities.extend(certificates.iter().map(|certificate| X509Authority {
            der: Arc::clone(certificate.der()),
            tainted: root.tainted_key,
        }));
    }
    Ok(Bundle {
        trust_domain: TrustDomain::parse_lenient(trust_domain).map_err(text)?,
        x509_authorities,
        jwt_authorities: token_authorities(&held.jwt_signing_keys)?,
        wit_authorities: token_authorities(&held.wit_signing_keys)?,
        refresh_hint: u64::try_from(held.refresh_hint)
            .ok()
            .filter(|seconds| *seconds > 0)
            .map(Duration::from_secs),
        sequence_number: held.sequence_number,
    })
}

fn token_authorities(keys: &[wire::PublicKey]) -> Result<Vec<JwtAuthority>, String> {
    let authority = |key: &wire::PublicKey| {
        PublicKey::from_spki_der(&key.pkix_bytes).map_err(|fault| format!("key {:?}: {fault}", key.kid))?;
        Ok(JwtAuthority {
            key_id: key.kid.as_str().into(),
            public_key: key.pkix_bytes.as_slice().into(),
            expires_at: seconds(key.not_after),
            tainted: key.tainted_key,
        })
    };
    keys.iter().map(authority).collect()
}

fn relationship(
    trust_domain: &str,
    url: &str,
    profile: &str,
    endpoint: &str,
) -> Result<FederationRelationship, String> {
    let bundle_endpoint_profile = match profile {
        "https_web" => BundleEndpointProfile::HttpsWeb,
        "https_spiffe" => BundleEndpointProfile::HttpsSpiffe {
            endpoint_spiffe_id: SpiffeId::parse(endpoint).map_err(text)?,
        },
        other => return Err(format!("unknown bundle endpoint profile {other:?}")),
    };
    Ok(FederationRelationship {
        trust_domain: TrustDomain::parse_lenient(trust_domain).map_err(text)?,
        bundle_endpoint_url: url.parse().map_err(text)?,
        bundle_endpoint_profile,
    })
}

fn journal(data: &[u8]) -> Result<Journal, String> {
    let held = wire::Journal::decode(data).map_err(text)?;
    let x509 = held.x509_cas.iter().filter_map(|entry| {
        let slot = slot(&entry.slot_id)?;
        Some(
            Certificate::from_der(&entry.certificate).map(|certificate| JournalEntry {
                authority_id: hex(&certificate.public_key().key_id()).into(),
                slot,
                status: status(entry.status),
                issued_at: Timestamp::from_unix_seconds(entry.issued_at),
                not_after: certificate.not_after(),
                retired_at: retired_at(entry.status, entry.issued_at),
                document: Arc::clone(certificate.der()),
            }),
        )
    });
    Ok(Journal {
        x509: x509.collect::<Result<_, _>>().map_err(text)?,
        jwt: token_keys(&held.jwt_keys),
        wit: token_keys(&held.wit_keys),
    })
}

fn token_keys(entries: &[wire::TokenKeyEntry]) -> Vec<JournalEntry> {
    let entries = entries.iter().filter_map(|entry| {
        Some(JournalEntry {
            authority_id: entry.kid.as_str().into(),
            slot: slot(&entry.slot_id)?,
            status: status(entry.status),
            issued_at: Timestamp::from_unix_seconds(entry.issued_at),
            not_after: Timestamp::from_unix_seconds(entry.not_after),
            retired_at: retired_at(entry.status, entry.issued_at),
            document: entry.public_key.as_slice().into(),
        })
    });
    entries.collect()
}

/// An entry without a slot has no key.
fn slot(id: &str) -> Option<SlotName> {
    match id {
        "A" => Some(SlotName::A),
        "B" => Some(SlotName::B),
        _ => None,
    }
}

/// One whose status is unknown may sign if no other does, as with SPIRE.
fn status(status: i32) -> Status {
    match status {
        wire::status::ACTIVE => Status::Active,
        wire::status::OLD => Status::Old,
        _ => Status::Prepared,
    }
}

/// Of one that has signed. SPIRE doesn't keep the moment; which retired last shows all the same.
fn retired_at(status: i32, issued_at: i64) -> Option<Timestamp> {
    (status == wire::status::OLD).then(|| Timestamp::from_unix_seconds(issued_at))
}

fn selectors(pairs: &[(String, String)]) -> Result<Vec<Selector>, String> {
    let selector = |(kind, value): &(String, String)| {
        Selector::new(kind, value).map_err(|fault| format!("selector {kind:?} {value:?}: {fault}"))
    };
    pairs.iter().map(selector).collect()
}

fn seconds(seconds: i64) -> Option<Timestamp> {
    (seconds != 0).then(|| Timestamp::from_unix_seconds(seconds))
}

/// A moment as Go's driver writes it, rounded to the second as SPIRE's API does.
fn moment(written: &str) -> Result<Timestamp, String> {
    let whole = format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second][offset_hour sign:mandatory]:[offset_minute]"
    );
    let parts = format_description!(
        "[year]-[month]-[day] [hour]:[minute]:[second].[subsecond][offset_hour sign:mandatory]:[offset_minute]"
    );
    let read = OffsetDateTime::parse(written, whole).or_else(|_| OffsetDateTime::parse(written, parts));
    let at = read.map_err(|fault| format!("{written:?} is no date: {fault}"))?;
    let late = i64::from(at.nanosecond() >= 500_000_000);
    Ok(Timestamp::from_unix_seconds(at.unix_timestamp() + late))
}

fn text(fault: impl Display) -> String {
    fault.to_string()
}
