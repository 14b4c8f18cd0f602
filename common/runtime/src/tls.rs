//! TLS between SPIFFE peers: own certificate from a live SVID, peers judged by live bundles.
//!
//! Owns the rustls configurations; nothing else sets one up. Verification itself is `credence_crypto`'s. Invariants:
//! TLS 1.2 or 1.3, ALPN `h2`, X25519MLKEM768 preferred, or required; no session is ever resumed, so no peer outlives its certificate;
//! a connection that was made keeps its certificate, the next one shows the SVID of that moment.

mod bootstrap;
mod collector;
mod own;
mod page;
mod verify;

use std::error::Error;
use std::io;
use std::sync::{Arc, OnceLock};

use credence_crypto::x509::{SvidError, X509SvidKey};
use credence_identity::{Bundle, SpiffeId, TrustDomain};
use rustls::client::Resumption;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{self, kx_group};
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{CertificateError, ClientConfig, ServerConfig, SupportedProtocolVersion};
use tokio::sync::watch;

use crate::clock::Clock;
pub use bootstrap::RecordedChain;
pub use collector::collector_config;
use own::{LiveCertificate, NoCertificate, OwnCertificate};
pub use page::{PageTlsError, page_config};
pub use verify::UnexpectedPeer;
use verify::{AnyMember, ExpectedServer};

/// The bundle of a trust domain at this moment, if peers of it are to be accepted.
pub type BundleLookup = Arc<dyn Fn(&TrustDomain) -> Option<Arc<Bundle>> + Send + Sync>;

/// Which key exchanges are agreed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyExchange {
    /// X25519MLKEM768 before all others, and classic ones with peers that have none like it.
    #[default]
    Any,
    /// Only those whose recordings a quantum computer of tomorrow can't open (`require_pq_kem`): ML-KEM together with a
    /// classic one, over TLS 1.3.
    QuantumSafe,
}

/// A TLS configuration that could not be made.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The SVID's key or chain is of no use to rustls.
    #[error("unable to use the X509-SVID for TLS")]
    OwnCertificate(#[source] rustls::Error),
    /// The library refuses the protocol versions.
    #[error("unable to configure TLS")]
    Configuration(#[source] rustls::Error),
}

/// For a server: shows the SVID that `own` holds at each handshake, asks for a client certificate, accepts callers
/// without one, and refuses one that isn't a valid X509-SVID by the bundle of its trust domain.
///
/// # Errors
/// [`TlsError`], when the first SVID can't be used.
pub fn server_config(
    own: watch::Receiver<Arc<X509SvidKey>>,
    bundles: BundleLookup,
    clock: Arc<dyn Clock>,
    key_exchange: KeyExchange,
) -> Result<Arc<ServerConfig>, TlsError> {
    let config = ServerConfig::builder_with_provider(key_exchange.provider())
        .with_protocol_versions(key_exchange.versions())
        .map_err(TlsError::Configuration)?
        .with_client_cert_verifier(Arc::new(AnyMember::new(bundles, clock)))
        .with_cert_resolver(Arc::new(OwnCertificate::new(own)?));
    Ok(answering(config))
}

/// For a server that knows all its callers: as [`server_config`], but a caller needs a certificate, and while `own` holds
/// no SVID that is live no handshake succeeds.
///
/// # Errors
/// [`TlsError::Configuration`].
pub fn mutual_config(
    own: watch::Receiver<Option<Arc<X509SvidKey>>>,
    bundles: BundleLookup,
    clock: Arc<dyn Clock>,
    key_exchange: KeyExchange,
) -> Result<Arc<ServerConfig>, TlsError> {
    let callers = AnyMember::new(bundles, clock.clone()).demanded();
    let config = ServerConfig::builder_with_provider(key_exchange.provider())
        .with_protocol_versions(key_exchange.versions())
        .map_err(TlsError::Configuration)?
        .with_client_cert_verifier(Arc::new(callers))
        .with_cert_resolver(Arc::new(LiveCertificate::new(own, clock)));
    Ok(answering(config))
}

/// For a client: accepts the server with exactly the SPIFFE ID `expected`, shows the SVID of `own` if there is one.
///
/// # Errors
/// [`TlsError`], when the first SVID can't be used.
pub fn client_config(
    own: Option<watch::Receiver<Arc<X509SvidKey>>>,
    expected: SpiffeId,
    bundles: BundleLookup,
    clock: Arc<dyn Clock>,
    key_exchange: KeyExchange,
) -> Result<Arc<ClientConfig>, TlsError> {
    let verifier = Arc::new(ExpectedServer::new(expected, bundles, clock));
    let builder = ClientConfig::builder_with_provider(key_exchange.provider())
        .with_protocol_versions(key_exchange.versions())
        .map_err(TlsError::Configuration)?
        .dangerous()
        .with_custom_certificate_verifier(verifier);
    Ok(finished(match own {
        Some(own) => builder.with_client_cert_resolver(Arc::new(OwnCertificate::new(own)?)),
        None => builder.with_client_cert_resolver(Arc::new(NoCertificate)),
    }))
}

/// For the first contact under `insecure_bootstrap` ONLY: accepts whatever server answers, without any proof of who it
/// is, and records the chain it showed.
///
/// # Errors
/// [`TlsError::Configuration`].
pub fn client_config_that_trusts_anyone(
    key_exchange: KeyExchange,
) -> Result<(Arc<ClientConfig>, RecordedChain), TlsError> {
    let recorded = RecordedChain::default();
    let config = ClientConfig::builder_with_provider(key_exchange.provider())
        .with_protocol_versions(key_exchange.versions())
        .map_err(TlsError::Configuration)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(recorded.clone()))
        .with_client_cert_resolver(Arc::new(NoCertificate));
    Ok((finished(config), recorded))
}

/// Whether somewhere in the chain of causes stands that the peer's certificate comes from an authority we don't know:
/// our bundle is out of date, or the server is another trust domain's.
pub fn is_unknown_authority(error: &(dyn Error + 'static)) -> bool {
    let unknown = rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer);
    find_rustls_error(error).is_some_and(|found| *found == unknown)
}

/// Why a handshake failed, as far as it was for a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerFault {
    /// The peer's certificate comes from an authority we don't know.
    UnknownAuthority,
    /// The peer is of a trust domain that we have no bundle of.
    OtherTrustDomain(String),
    /// The peer's certificate has expired, by our clock.
    Expired,
    /// The peer's certificate isn't valid yet, by our clock.
    NotYetValid,
    /// The peer refused our certificate.
    RefusedOurs,
    /// Something else is wrong with the peer's certificate.
    Other,
}

/// What stands in the chain of causes about a certificate, if anything.
pub fn peer_fault(error: &(dyn Error + 'static)) -> Option<PeerFault> {
    let fault = match find_rustls_error(error)? {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => PeerFault::UnknownAuthority,
        rustls::Error::InvalidCertificate(CertificateError::Expired) => PeerFault::Expired,
        rustls::Error::InvalidCertificate(CertificateError::NotValidYet) => PeerFault::NotYetValid,
        rustls::Error::InvalidCertificate(CertificateError::Other(other)) => {
            match other.0.downcast_ref::<SvidError>() {
                Some(SvidError::NoBundle(name)) => PeerFault::OtherTrustDomain(name.to_string()),
                _ => PeerFault::Other,
            }
        }
        rustls::Error::InvalidCertificate(_) => PeerFault::Other,
        rustls::Error::AlertReceived(_) => PeerFault::RefusedOurs,
        _ => return None,
    };
    Some(fault)
}

fn find_rustls_error<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = error.downcast_ref() {
            return Some(found);
        }
        // The source of an I/O error is that of the error inside it, not the error inside it.
        next = match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
            Some(inner) => Some(inner),
            None => error.source(),
        };
    }
    None
}

fn answering(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Arc::new(config)
}

fn finished(mut config: ClientConfig) -> Arc<ClientConfig> {
    config.alpn_protocols = vec![b"h2".to_vec()];
    config.resumption = Resumption::disabled();
    Arc::new(config)
}

impl KeyExchange {
    fn provider(self) -> Arc<CryptoProvider> {
        static QUANTUM_SAFE: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
        match self {
            Self::Any => provider(),
            Self::QuantumSafe => QUANTUM_SAFE
                .get_or_init(|| {
                    Arc::new(CryptoProvider {
                        kx_groups: vec![kx_group::X25519MLKEM768, kx_group::SECP256R1MLKEM768],
                        ..aws_lc_rs::default_provider()
                    })
                })
                .clone(),
        }
    }

    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static ANY: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        // TLS 1.2 knows no quantum-safe key exchange.
        static NEWEST: [&SupportedProtocolVersion; 1] = [&TLS13];
        match self {
            Self::Any => &ANY,
            Self::QuantumSafe => &NEWEST,
        }
    }
}

fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: OnceLock<Arc<CryptoProvider>> = OnceLock::new();
    PROVIDER
        .get_or_init(|| Arc::new(aws_lc_rs::default_provider()))
        .clone()
}

#[cfg(test)]
pub(crate) mod tests;
