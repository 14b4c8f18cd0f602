//! Registration entries: which workload gets which identity, and through which agents.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use crate::{Selector, SelectorSet, SpiffeId, Timestamp, TrustDomain};

/// Why a text is no entry ID.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EntryIdError {
    /// The text is empty.
    #[error("entry ID is empty")]
    Empty,
    /// More than 255 characters.
    #[error("entry ID too long")]
    TooLong,
    /// A character outside `- . 0-9 A-Z _ a-z`.
    #[error("entry ID contains invalid characters")]
    BadChar,
}

/// The key of an entry: 1 to 255 characters of `- . 0-9 A-Z _ a-z`; a UUID unless the operator chose another. Cheap to clone.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EntryId(Arc<str>);

impl EntryId {
    /// Checks the text.
    pub fn parse(text: &str) -> Result<Self, EntryIdError> {
        if text.is_empty() {
            Err(EntryIdError::Empty)
        } else if text.len() > 255 {
            Err(EntryIdError::TooLong)
        } else if text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
        {
            Ok(Self(text.into()))
        } else {
            Err(EntryIdError::BadChar)
        }
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for EntryId {
    type Err = EntryIdError;

    fn from_str(text: &str) -> Result<Self, EntryIdError> {
        Self::parse(text)
    }
}

impl fmt::Display for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for EntryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A registration entry: a workload with these selectors, below this parent, gets this SPIFFE ID.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub id: EntryId,
    /// The identity that a matching workload gets.
    pub spiffe_id: SpiffeId,
    /// The agent, or the entry whose holders, may serve it.
    pub parent_id: SpiffeId,
    /// All of these must be present; in the order in which they were stored.
    pub selectors: Vec<Selector>,
    /// Lifetime of the X.509-SVID in seconds; 0 for the server's default.
    pub x509_svid_ttl: u32,
    /// Lifetime of the JWT-SVID in seconds; 0 for the server's default.
    pub jwt_svid_ttl: u32,
    /// The foreign trust domains whose bundles the workload gets too.
    pub federates_with: Vec<TrustDomain>,
    /// Whether the identity may use the server's administrative APIs.
    pub admin: bool,
    /// Whether the identity is a nested server, which may ask for CA certificates.
    pub downstream: bool,
    /// Whether the SVID is pushed to a store instead of being served to a caller.
    pub store_svid: bool,
    /// From this second on the entry authorises nothing.
    pub expires_at: Option<Timestamp>,
    /// DNS names for the X.509-SVID; in stored order, of which the first becomes the common name.
    pub dns_names: Vec<Arc<str>>,
    /// Tells a workload with several identities which this is; at most 1,024 bytes.
    pub hint: Arc<str>,
    /// Whether agents leave the X.509-SVID unsigned until someone asks.
    pub disable_x509_svid_prefetch: bool,
    /// Whether JWT-SVIDs carry a `jti`.
    pub jwt_svid_include_jti: bool,
    /// Grows with each update; with `created_at` it tells an agent that its copy is stale.
    pub revision_number: i64,
    /// When it was created.
    pub created_at: Timestamp,
}

/// What makes two entries duplicates: the same identity, parent and set of selectors.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SimilarKey {
    spiffe_id: SpiffeId,
    parent_id: SpiffeId,
    selectors: SelectorSet,
}

impl Entry {
    /// Whether the entry authorises nothing any more.
    pub fn is_expired_at(&self, now: Timestamp) -> bool {
        self.expires_at.is_some_and(|end| now >= end)
    }

    /// The key by which a creation finds the entry that is already there.
    pub fn similar_key(&self) -> SimilarKey {
        SimilarKey {
            spiffe_id: self.spiffe_id.clone(),
            parent_id: self.parent_id.clone(),
            selectors: self.selectors.iter().cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entry_ids_take_the_255_characters_and_no_others() {
        assert!(EntryId::parse("-.0Z_z").is_ok());
        assert!(EntryId::parse(&"a".repeat(255)).is_ok());
        assert_eq!(EntryId::parse(&"a".repeat(256)), Err(EntryIdError::TooLong));
        assert_eq!(EntryId::parse(""), Err(EntryIdError::Empty));
        for bad in ["a b", "a/b", "é", "a\n", "a:b"] {
            assert_eq!(EntryId::parse(bad), Err(EntryIdError::BadChar), "{bad:?}");
        }
    }
}
