//! The nouns of SPIFFE as types that cannot hold an invalid value, and the rules of time that need nothing else.
//!
//! Owns: [`TrustDomain`], [`SpiffeId`], [`Selector`], [`Entry`], [`Bundle`], [`FederationRelationship`], [`Timestamp`],
//! the rotation rules and the addresses of the SPIFFE endpoints. Never does I/O, reads a clock, spawns a task or touches a key.
//! Invariant: a value of these types was checked when it was made, so nothing that holds one checks again.

mod bundle;
pub mod diagnosis;
pub mod endpoint;
mod entry;
mod federation;
mod id;
pub mod rotation;
mod selector;
pub mod slots;
mod time;

pub use bundle::{Bundle, JwtAuthority, X509Authority};
pub use entry::{Entry, EntryId, EntryIdError, SimilarKey};
pub use federation::{
    BundleEndpointProfile, BundleEndpointUrl, BundleEndpointUrlError, FederationRelationship,
};
pub use id::{MAX_ID_BYTES, MAX_TRUST_DOMAIN_BYTES, SpiffeId, SpiffeIdError, TrustDomain};
pub use selector::{Selector, SelectorError, SelectorSet};
pub use time::Timestamp;
