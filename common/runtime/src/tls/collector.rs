//! TLS towards a collector of measurements: a host that is judged by its name, as the web does, and not by a SPIFFE ID.

use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier;
use rustls::{ClientConfig, RootCertStore};
use rustls_platform_verifier::Verifier;

use super::page::certificates;
use super::{KeyExchange, PageTlsError, TlsError, finished, provider};

/// For a client of a host that has a certificate of these authorities, or of those that the system trusts if none are
/// given. Blocks on the file system for a moment.
///
/// # Errors
/// [`PageTlsError`], if the authorities can't be used.
pub fn collector_config(
    authorities: Option<&Path>,
    key_exchange: KeyExchange,
) -> Result<Arc<ClientConfig>, PageTlsError> {
    let verifier: Arc<dyn ServerCertVerifier> = match authorities {
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(PageTlsError::Certificate)?;
            }
            let verifier = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            verifier.map_err(|source| PageTlsError::Authorities {
                path: path.to_owned(),
                source,
            })?
        }
        None => Arc::new(Verifier::new(provider()).map_err(TlsError::Configuration)?),
    };
    let config = ClientConfig::builder_with_provider(key_exchange.provider())
        .with_protocol_versions(key_exchange.versions())
        .map_err(TlsError::Configuration)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    Ok(finished(config))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use credence_crypto::bundle::certificate_to_pem;
    use credence_crypto::x509::{CaSubject, LeafParams, X509Ca};
    use credence_crypto::{KeyType, PrivateKey, Signer as _};
    use credence_identity::{SpiffeId, TrustDomain};
    use rustls::ServerConfig;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
    use tokio_rustls::{TlsAcceptor, TlsConnector};

    use super::*;
    use crate::clock::{Clock as _, SystemClock};

    /// Whether the host is believed to have that name.
    async fn is_believed(client: Arc<ClientConfig>, server: Arc<ServerConfig>, name: &'static str) -> bool {
        let (near, far) = tokio::io::duplex(1 << 16);
        let name = ServerName::try_from(name).unwrap();
        let connecting = TlsConnector::from(client).connect(name, near);
        tokio::join!(connecting, TlsAcceptor::from(server).accept(far))
            .0
            .is_ok()
    }

    #[tokio::test]
    async fn a_collector_needs_its_name_and_an_authority_that_is_trusted() {
        let (trust_domain, now) = (TrustDomain::parse("example.org").unwrap(), SystemClock.now());
        let end = now + Duration::from_secs(600);
        let ca = || {
            let key = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
            X509Ca::self_sign(key, &trust_domain, &CaSubject::default(), now, end).unwrap()
        };
        let (own, other) = (ca(), ca());
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let leaf = LeafParams {
            id: &SpiffeId::from_path(&trust_domain, "/collector").unwrap(),
            public_key: key.public_key(),
            dns_names: &["collector.test".into()],
            subject: None,
            not_before: now,
            not_after: end,
        };
        let chain = own.sign_svid(&leaf).unwrap().chain;
        let chain = chain
            .iter()
            .map(|der| CertificateDer::from(der.to_vec()))
            .collect();
        let key = PrivateKeyDer::try_from(key.pkcs8_der().to_vec()).unwrap();
        let server = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .unwrap();
        let server = Arc::new(server);

        let folder = tempfile::tempdir().unwrap();
        let config = |ca: &X509Ca| {
            let path = folder.path().join("ca.pem");
            std::fs::write(&path, certificate_to_pem(ca.certificate().der())).unwrap();
            collector_config(Some(&path), KeyExchange::Any).unwrap()
        };
        assert!(is_believed(config(&own), server.clone(), "collector.test").await);
        assert!(!is_believed(config(&own), server.clone(), "other.test").await);
        assert!(!is_believed(config(&other), server.clone(), "collector.test").await);
        let of_the_system = collector_config(None, KeyExchange::Any);
        if let Ok(of_the_system) = of_the_system {
            assert!(!is_believed(of_the_system, server, "collector.test").await);
        }
        let missing = folder.path().join("none.pem");
        collector_config(Some(&missing), KeyExchange::Any).unwrap_err();
    }
}
