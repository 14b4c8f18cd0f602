//! Authorities of other trust domains, for bundles set by hand.

use std::sync::Arc;

use credence_crypto::bundle::x509_from_pem;
use credence_crypto::x509::{CaSubject, LeafParams, X509Ca, X509SvidKey};
use credence_crypto::{KeyType, PrivateKey, Signer as _};
use credence_identity::{SpiffeId, TrustDomain};
use credence_proto::spire::api::types;

use crate::harness::NOW;

/// A P-521 root that expired in 2016.
pub(crate) const EXPIRED_P521: &str = "-----BEGIN CERTIFICATE-----
MIIB9jCCAVigAwIBAgIBBzAKBggqhkjOPQQDBDAfMQswCQYDVQQGEwJERTEQMA4G
A1UECgwHUmV0aXJlZDAeFw0xNTAxMDEwMDAwMDBaFw0xNjAxMDEwMDAwMDBaMB8x
CzAJBgNVBAYTAkRFMRAwDgYDVQQKDAdSZXRpcmVkMIGbMBAGByqGSM49AgEGBSuB
BAAjA4GGAAQBuotNyL0j2vebjOsZTbq69db81i75UirilYvGjd0+dEwDFL5h2WES
snWCywN6DjPZiBi4dZrCSw9qPgWzsoKtv4UAd6Snn3SlhhS66lJyKDqXrgBtLZu+
S6ueWTUY1FkrFLPS2rKk3VQOUYrwMT6aX9N1fk1UrYXeHJP92ZEB15Kc/t+jQjBA
MA8GA1UdEwEB/wQFMAMBAf8wDgYDVR0PAQH/BAQDAgEGMB0GA1UdDgQWBBRegNEH
m2mTVBC9mVfHhjJOsbt6HDAKBggqhkjOPQQDBAOBiwAwgYcCQVDHxd2FQyThdHfi
WxJgdmLE76r2nH6wtzlUpkiDoLD9kHjXOVJaEZUmzbn6V+PM65AR771tYU0/fOST
GCarNxjyAkIBrGyfziRUlyG0JFFlynsE7RUN1EAZbjXrUaSClVePBHJlqjjzz/rG
usnuCD8igihY/Ex4xrnbxFGa6bA3GvM6P8E=
-----END CERTIFICATE-----
";

/// A trust domain with one authority.
pub(crate) struct Foreign {
    pub(crate) name: &'static str,
    pub(crate) ca: X509Ca,
}

impl Foreign {
    pub(crate) fn new(name: &'static str) -> Self {
        let key = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
        let domain = TrustDomain::parse(name).unwrap();
        let day = std::time::Duration::from_secs(86_400);
        let ca = X509Ca::self_sign(key, &domain, &CaSubject::default(), NOW - day, NOW + day).unwrap();
        Self { name, ca }
    }

    pub(crate) fn root(&self) -> types::X509Certificate {
        certificate(self.ca.certificate().der())
    }

    /// A bundle with everything in it.
    pub(crate) fn bundle(&self) -> types::Bundle {
        types::Bundle {
            trust_domain: self.name.to_owned(),
            x509_authorities: vec![self.root()],
            jwt_authorities: vec![jwt_key("kid-1")],
            refresh_hint: 60,
            sequence_number: 42,
            wit_authorities: Vec::new(),
        }
    }

    /// An SVID of this trust domain.
    pub(crate) fn svid(&self, path: &str) -> Arc<X509SvidKey> {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let id = SpiffeId::from_path(&TrustDomain::parse(self.name).unwrap(), path).unwrap();
        let svid = self.ca.sign_svid(&LeafParams {
            id: &id,
            public_key: key.public_key(),
            dns_names: &[],
            subject: None,
            not_before: NOW,
            not_after: NOW + std::time::Duration::from_secs(3600),
        });
        Arc::new(X509SvidKey::new(svid.unwrap(), key).unwrap())
    }
}

pub(crate) fn certificate(der: &[u8]) -> types::X509Certificate {
    types::X509Certificate {
        asn1: der.to_vec(),
        tainted: false,
    }
}

pub(crate) fn expired_p521() -> types::X509Certificate {
    certificate(&x509_from_pem(EXPIRED_P521).unwrap().remove(0).der)
}

/// A JWT key that expires at 4 o'clock after the start of the tests.
pub(crate) fn jwt_key(key_id: &str) -> types::JwtKey {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    types::JwtKey {
        public_key: key.public_key().spki_der().to_vec(),
        key_id: key_id.to_owned(),
        expires_at: NOW.unix_seconds() + 4 * 3600,
        tainted: false,
    }
}
