//! X.509 certificates: parsing, the profiles that are issued, X.509-SVIDs, and path validation.
//!
//! Owns certificates as values. Never decides who gets one. Invariants: a [`Certificate`] was read strictly to its last
//! byte; what an [`X509Ca`] signs conforms to the X509-SVID standard; a chain is trusted only by [`verify_svid`] or
//! [`verify_chain`], which refuse whatever they don't understand and is marked critical.

mod certificate;
mod constraints;
mod extensions;
mod issue;
mod path;
mod subject;
mod svid;

pub use certificate::{Certificate, CertificateError};
pub use extensions::{ExtensionError, KeyUsage};
pub use issue::{CaSubject, IssueError, LeafParams, X509Ca};
pub use path::{MAX_CHAIN, PathError, verify_chain};
pub use subject::Subject;
pub use svid::{
    SvidError, VerifiedSvid, X509Svid, X509SvidKey, chain_with_root, verify_svid, verify_svid_in,
};

pub(crate) use extensions::{Extensions, write_subject_alt_name};
