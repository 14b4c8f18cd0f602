//! CA certificates for servers downstream of this one, in SPIRE's profile.

use super::*;

impl X509Ca {
    /// Signs the CA certificate of a server of the same trust domain, which then signs SVIDs by itself. The answer is its
    /// chain: that certificate, then what leads from this CA to the root, which is left out.
    ///
    /// The name is this CA's with `OU=DOWNSTREAM-<n>`, where n is the number of CAs above it short of a root: as SPIRE.
    ///
    /// # Errors
    /// As [`X509Ca::sign_svid`].
    pub fn sign_downstream(
        &self,
        trust_domain: &TrustDomain,
        public_key: &PublicKey,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Vec<Certificate>, IssueError> {
        let (not_before, not_after) = self.within(not_before, not_after)?;
        let above = self.upstream_chain.len().max(1);
        let subject = self
            .certificate
            .subject()
            .clone()
            .with_organizational_unit(&format!("DOWNSTREAM-{above}"));
        let serial = random_serial()?;
        let template = Template {
            serial: &serial,
            issuer: &self.issuer,
            subject: &subject.to_der(),
            not_before,
            not_after,
            public_key,
        };
        let der = template.sign(self.signer.as_ref(), |w| {
            write_key_usage(w, KeyUsage::KEY_CERT_SIGN | KeyUsage::CRL_SIGN);
            write_extension(w, oid::BASIC_CONSTRAINTS, true, |w| {
                w.sequence(|w| w.boolean(true))
            });
            write_subject_key_id(w, public_key);
            self.write_authority_key_id(w);
            write_subject_alt_name(w, false, Some(trust_domain.id().as_str()), std::iter::empty());
        })?;
        let chain = std::iter::once(&*der).chain(self.upstream_chain.iter().map(|der| &**der));
        chain
            .map(|der| Certificate::from_der(der).map_err(IssueError::Unparsable))
            .collect()
    }
}
