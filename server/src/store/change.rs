//! The changes of a trust domain, and the records that only the server keeps.
//!
//! Owns their shape alone; what may be changed, and when, is decided by whoever makes a change.

use std::fmt;
use std::sync::Arc;

use credence_identity::{
    Bundle, Entry, EntryId, FederationRelationship, Selector, SpiffeId, Timestamp, TrustDomain,
};

/// One change of the trust domain. Puts replace the whole object.
#[derive(Debug, Clone)]
pub enum Change {
    /// Creates an entry or replaces the one of this id.
    EntryPut(Arc<Entry>),
    /// Deletes an entry.
    EntryDelete(EntryId),
    /// Creates a node or replaces the one of this ID.
    NodePut(Arc<Node>),
    /// Deletes (evicts) a node.
    NodeDelete(SpiffeId),
    /// Creates a join token.
    JoinTokenPut(JoinToken),
    /// Deletes a join token: it was spent, or has expired.
    JoinTokenDelete(String),
    /// Creates or replaces the bundle of a trust domain.
    BundlePut(Arc<Bundle>),
    /// Deletes a bundle. The store refuses it while an entry federates with it.
    BundleDelete(TrustDomain),
    /// Creates or replaces the federation relationship with a trust domain.
    RelationshipPut(Arc<FederationRelationship>),
    /// Deletes the federation relationship with a trust domain. Its bundle stays.
    RelationshipDelete(TrustDomain),
    /// Replaces the authorities' journal.
    JournalPut(Journal),
}

/// An attested node (agent).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// The agent's SPIFFE ID.
    pub id: SpiffeId,
    /// The type of the attestor that admitted it (`join_token`, `x509pop`).
    pub attestation_type: Arc<str>,
    /// Serial number of its current SVID, in decimal; empty if the node is banned.
    pub serial: String,
    /// When its current SVID expires.
    pub not_after: Timestamp,
    /// Serial number of a renewed SVID that was not used yet.
    pub new_serial: Option<String>,
    /// When the renewed SVID expires.
    pub new_not_after: Option<Timestamp>,
    /// Whether the node may attest again.
    pub can_reattest: bool,
    /// What attestation found out about it.
    pub selectors: Vec<Selector>,
    /// The version the agent reported; empty until it did.
    pub agent_version: Arc<str>,
}

impl Node {
    /// Whether the node was banned: it has a row without a serial number.
    pub fn is_banned(&self) -> bool {
        self.serial.is_empty()
    }
}

/// A join token that was not used yet.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The secret.
    pub token: String,
    /// From when on it admits nobody.
    pub expires_at: Timestamp,
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinToken")
            .field("expires_at", &self.expires_at)
            .finish_non_exhaustive()
    }
}

/// The authorities' journal, in the form of [`crate::ca`]; opaque here.
#[derive(Clone, PartialEq, Eq)]
pub struct Journal(pub Arc<[u8]>);

impl fmt::Debug for Journal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Journal({} bytes)", self.0.len())
    }
}
