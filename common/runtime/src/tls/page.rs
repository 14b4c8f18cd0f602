//! TLS for a page that people's tools read (Prometheus): they know host names and PEM files as well as SPIFFE IDs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::{self, PemObject};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{RootCertStore, ServerConfig};

use super::own::OwnCertificate;
use super::verify::AnyMember;
use super::{KeyExchange, TlsError, provider};
use crate::clock::Clock;
use crate::config::{PrometheusTls, TlsCertificate, TlsReaders};
use crate::telemetry::Identity;

/// Why a page can't be protected as configured.
#[derive(Debug, thiserror::Error)]
pub enum PageTlsError {
    /// A file can't be read, or isn't what it should be.
    #[error("unable to read {}", path.display())]
    File {
        /// The file of the configuration.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: pem::Error,
    },
    /// The certificate and the key don't go together, or the library doesn't take them.
    #[error("unable to use the certificate")]
    Certificate(#[source] rustls::Error),
    /// The authorities of readers are of no use.
    #[error("unable to use the authorities of {}", path.display())]
    Authorities {
        /// The file of the configuration.
        path: PathBuf,
        /// What the library says.
        #[source]
        source: VerifierBuilderError,
    },
    /// The rest.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The SVID isn't known yet.
    #[error("the own SVID is not known yet")]
    NoIdentity,
}

/// Opens the files that the configuration names. Blocks on the file system for a moment.
///
/// # Errors
/// [`PageTlsError`].
pub fn page_config(
    wanted: &PrometheusTls,
    key_exchange: KeyExchange,
    identity: Option<&Identity>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<ServerConfig>, PageTlsError> {
    let builder = ServerConfig::builder_with_provider(key_exchange.provider())
        .with_protocol_versions(key_exchange.versions())
        .map_err(TlsError::Configuration)?;
    let builder = match &wanted.readers {
        TlsReaders::Anyone => builder.with_no_client_auth(),
        TlsReaders::Authorities(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in certificates(path)? {
                roots.add(certificate).map_err(PageTlsError::Certificate)?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|source| PageTlsError::Authorities {
                path: path.clone(),
                source,
            })?)
        }
        TlsReaders::Ids(ids) => {
            let bundles = identity.ok_or(PageTlsError::NoIdentity)?.bundles.clone();
            builder
                .with_client_cert_verifier(Arc::new(AnyMember::new(bundles, clock.clone()).only(ids.clone())))
        }
    };
    let mut config = match &wanted.own {
        TlsCertificate::Svid => {
            let svid = identity.ok_or(PageTlsError::NoIdentity)?.svid.clone();
            builder.with_cert_resolver(Arc::new(OwnCertificate::new(svid)?))
        }
        TlsCertificate::Files { certificate, key } => {
            let chain = certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key).map_err(|source| PageTlsError::File {
                path: key.clone(),
                source,
            })?;
            let certified =
                CertifiedKey::from_der(chain, key, &provider()).map_err(PageTlsError::Certificate)?;
            builder.with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Arc::new(config))
}

pub(super) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, PageTlsError> {
    let failed = |source| PageTlsError::File {
        path: path.to_owned(),
        source,
    };
    let all: Vec<_> = CertificateDer::pem_file_iter(path)
        .map_err(failed)?
        .collect::<Result<_, _>>()
        .map_err(failed)?;
    if all.is_empty() {
        return Err(failed(pem::Error::NoItemsFound));
    }
    Ok(all)
}
