//! Trust bundles: the authorities by which the SVIDs of a trust domain are verified. Their documents are
//! `credence_crypto::bundle`'s business.

use std::sync::Arc;
use std::time::Duration;

use crate::{Timestamp, TrustDomain};

/// A root certificate of a trust domain.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct X509Authority {
    /// The certificate, DER.
    pub der: Arc<[u8]>,
    /// Whether what it signed is to be replaced, since its key may be known to others.
    pub tainted: bool,
}

/// A public key that verifies tokens: JWT-SVIDs or WIT-SVIDs, according to the list of the bundle that it is in.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct JwtAuthority {
    /// The `kid` in the header of the tokens it verifies.
    pub key_id: Arc<str>,
    /// SubjectPublicKeyInfo, DER.
    pub public_key: Arc<[u8]>,
    /// When it stops signing and verifying, if it does.
    pub expires_at: Option<Timestamp>,
    /// Whether what it signed is to be replaced, since its key may be known to others.
    pub tainted: bool,
}

/// What a verifier needs to know of a trust domain (SPIFFE Trust Domain and Bundle, section 4).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Whose authorities these are.
    pub trust_domain: TrustDomain,
    /// Roots of X.509-SVIDs, the oldest first.
    pub x509_authorities: Vec<X509Authority>,
    /// Keys of JWT-SVIDs, the oldest first.
    pub jwt_authorities: Vec<JwtAuthority>,
    /// Keys of WIT-SVIDs, the oldest first. No `kid` stands in both lists (WIT-SVID, 6.1).
    pub wit_authorities: Vec<JwtAuthority>,
    /// How often a holder should look for a new version.
    pub refresh_hint: Option<Duration>,
    /// Grows with each change of the content.
    pub sequence_number: u64,
}

impl Bundle {
    /// The bundle of a trust domain without any authority yet.
    pub fn empty(trust_domain: TrustDomain) -> Self {
        Self {
            trust_domain,
            x509_authorities: Vec::new(),
            jwt_authorities: Vec::new(),
            wit_authorities: Vec::new(),
            refresh_hint: None,
            sequence_number: 0,
        }
    }

    /// The JWT authorities with that `kid`; there can be more than one, since nothing stops two servers of SPIRE's from
    /// choosing the same.
    pub fn jwt_authorities_by_key_id<'a>(
        &'a self,
        key_id: &'a str,
    ) -> impl Iterator<Item = &'a JwtAuthority> {
        self.jwt_authorities
            .iter()
            .filter(move |authority| &*authority.key_id == key_id)
    }
}
