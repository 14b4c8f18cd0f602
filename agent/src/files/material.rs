//! What a source says: an X.509-SVID with the bundles beside it.

use std::collections::BTreeMap;
use std::sync::Arc;

use credence_crypto::x509::{Certificate, CertificateError, X509SvidKey};
use credence_identity::Bundle;

/// One identity as it is to be on disk.
#[derive(Debug, Clone)]
pub(crate) struct Material {
    /// The certificates and the key.
    pub(crate) svid: Arc<X509SvidKey>,
    /// Leaf first.
    pub(crate) chain: Vec<Certificate>,
    /// The authorities of its own trust domain.
    pub(crate) bundle: Vec<Certificate>,
    /// Those of others, by the name of the trust domain.
    pub(crate) federated: BTreeMap<String, Vec<Certificate>>,
}

impl Material {
    pub(crate) fn new(
        svid: Arc<X509SvidKey>,
        bundle: Vec<Certificate>,
        federated: BTreeMap<String, Vec<Certificate>>,
    ) -> Result<Self, CertificateError> {
        let chain = svid.svid.chain.iter().map(|der| Certificate::from_der(der));
        Ok(Self {
            chain: chain.collect::<Result<_, _>>()?,
            svid,
            bundle,
            federated,
        })
    }

    /// Whether both would be written the same.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let ders = |certificates: &[Certificate]| -> Vec<Arc<[u8]>> {
            let ders = certificates.iter().map(|certificate| certificate.der().clone());
            ders.collect()
        };
        let alike = |one: &[Certificate], other: &[Certificate]| ders(one) == ders(other);
        self.svid.svid.chain == other.svid.svid.chain
            && self.svid.key.pkcs8_der() == other.svid.key.pkcs8_der()
            && alike(&self.bundle, &other.bundle)
            && self.federated.len() == other.federated.len()
            && self
                .federated
                .iter()
                .zip(&other.federated)
                .all(|((a, one), (b, other))| a == b && alike(one, other))
    }
}

/// The X.509 authorities of a bundle.
pub(crate) fn authorities(bundle: &Bundle) -> Result<Vec<Certificate>, CertificateError> {
    let ders = bundle.x509_authorities.iter();
    ders.map(|authority| Certificate::from_der(&authority.der))
        .collect()
}
