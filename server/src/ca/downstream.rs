//! CA certificates for servers downstream of this one.

use credence_crypto::csr::VerifiedCsr;
use credence_crypto::x509::Certificate;

use super::sign::or_default;
use super::{Authority, BACKDATE, SigningError};

impl Authority {
    /// Signs the CA certificate of a downstream server; of the request only the key counts. `ttl` in seconds, cut to what
    /// this authority has left; 0 for `ca_ttl`. The answer is the chain, without a root.
    ///
    /// # Errors
    /// Says why; nothing was signed.
    pub fn sign_downstream_ca(&self, csr: &VerifiedCsr, ttl: u32) -> Result<Vec<Certificate>, SigningError> {
        let active = self.issuers.x509.load();
        let active = active.as_ref().ok_or(SigningError::NoX509Authority)?;
        let (own, now) = (&self.settings.trust_domain, self.clock.now());
        let until = now + or_default(ttl, self.settings.ca_ttl);
        let chain = active
            .signer
            .sign_downstream(own, csr.public_key(), now - BACKDATE, until)?;
        self.issuers.measured.count("server_ca.sign.x509_ca_svid", 1);
        if let Some(made) = chain.first() {
            tracing::debug!(spiffe_id = %own.id(), expiration = %made.not_after(), "Signed X509 CA SVID");
        }
        Ok(chain)
    }
}
