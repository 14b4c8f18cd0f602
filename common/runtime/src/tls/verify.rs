//! Judging the peer's chain by the bundles of the moment.

use std::fmt;
use std::sync::Arc;

use credence_crypto::x509::{Certificate, PathError, SvidError, VerifiedSvid, verify_svid_in};
use credence_identity::SpiffeId;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{
    CertificateError, DigitallySignedStruct, DistinguishedName, Error, OtherError, SignatureScheme,
};

use super::{BundleLookup, provider};
use crate::clock::Clock;

/// A peer that is who it says, but not whom we want.
#[derive(Debug, thiserror::Error)]
#[error("unexpected peer {found}, want {expected}")]
pub struct UnexpectedPeer {
    /// The ID that was wanted.
    pub expected: SpiffeId,
    /// The ID that the peer proved.
    pub found: SpiffeId,
}

/// The server's view: any SVID whose trust domain has a bundle.
pub(super) struct AnyMember {
    bundles: BundleLookup,
    clock: Arc<dyn Clock>,
    /// Whether callers need a certificate.
    demanded: bool,
    /// If there, callers need one of these IDs.
    only: Option<Vec<SpiffeId>>,
}

impl AnyMember {
    pub(super) fn new(bundles: BundleLookup, clock: Arc<dyn Clock>) -> Self {
        AnyMember {
            bundles,
            clock,
            demanded: false,
            only: None,
        }
    }

    /// Callers need a certificate.
    pub(super) fn demanded(self) -> Self {
        AnyMember {
            demanded: true,
            ..self
        }
    }

    /// Callers need a certificate, and one of these IDs.
    pub(super) fn only(self, ids: Vec<SpiffeId>) -> Self {
        AnyMember {
            demanded: true,
            only: Some(ids),
            ..self
        }
    }

    fn verify(&self, leaf: &CertificateDer<'_>, rest: &[CertificateDer<'_>]) -> Result<VerifiedSvid, Error> {
        let chain: Vec<&CertificateDer<'_>> = std::iter::once(leaf).chain(rest).collect();
        let verified = verify_svid_in(
            &chain,
            |trust_domain| (self.bundles)(trust_domain),
            self.clock.now(),
        );
        verified.map_err(|error| {
            tracing::debug!(
                error = &error as &(dyn std::error::Error + 'static),
                "Refused the certificate of a TLS peer"
            );
            Error::InvalidCertificate(as_alert(error))
        })
    }
}

/// What the peer is told by the alert; others than these get "certificate unknown".
fn as_alert(error: SvidError) -> CertificateError {
    match error {
        SvidError::NoBundle(_) | SvidError::Path(PathError::UnknownAuthority { .. }) => {
            CertificateError::UnknownIssuer
        }
        SvidError::Path(PathError::Expired { .. }) => CertificateError::Expired,
        SvidError::Path(PathError::NotYetValid { .. }) => CertificateError::NotValidYet,
        SvidError::Certificate(_) => CertificateError::BadEncoding,
        other => CertificateError::Other(OtherError(Arc::new(other))),
    }
}

impl ClientCertVerifier for AnyMember {
    fn client_auth_mandatory(&self) -> bool {
        self.demanded
    }

    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        let verified = self.verify(leaf, intermediates)?;
        match &self.only {
            Some(ids) if !ids.contains(&verified.id) => Err(Error::InvalidCertificate(
                CertificateError::ApplicationVerificationFailure,
            )),
            _ => Ok(ClientCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

impl fmt::Debug for AnyMember {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AnyMember")
    }
}

/// The client's view: one SPIFFE ID and no other; host names mean nothing.
#[derive(Debug)]
pub(super) struct ExpectedServer {
    expected: SpiffeId,
    member: AnyMember,
}

impl ExpectedServer {
    pub(super) fn new(expected: SpiffeId, bundles: BundleLookup, clock: Arc<dyn Clock>) -> Self {
        ExpectedServer {
            expected,
            member: AnyMember::new(bundles, clock),
        }
    }
}

impl ExpectedServer {
    /// For a server of another trust domain, whose authorities can't be known: that says more than that they aren't.
    fn other_trust_domain(&self, leaf: &CertificateDer<'_>) -> Option<Error> {
        let found = Certificate::from_der(leaf).ok()?.spiffe_id().ok()?.trust_domain();
        (found != self.expected.trust_domain()).then(|| {
            let error = SvidError::NoBundle(found);
            Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(error))))
        })
    }
}

impl ServerCertVerifier for ExpectedServer {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verified = self.member.verify(leaf, intermediates);
        let found = verified
            .map_err(|error| self.other_trust_domain(leaf).unwrap_or(error))?
            .id;
        if found == self.expected {
            return Ok(ServerCertVerified::assertion());
        }
        let unexpected = UnexpectedPeer {
            expected: self.expected.clone(),
            found,
        };
        Err(Error::InvalidCertificate(CertificateError::Other(OtherError(
            Arc::new(unexpected),
        ))))
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        schemes()
    }
}

pub(super) fn tls12_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls12_signature(
        message,
        certificate,
        signature,
        &provider().signature_verification_algorithms,
    )
}

pub(super) fn tls13_signature(
    message: &[u8],
    certificate: &CertificateDer<'_>,
    signature: &DigitallySignedStruct,
) -> Result<HandshakeSignatureValid, Error> {
    verify_tls13_signature(
        message,
        certificate,
        signature,
        &provider().signature_verification_algorithms,
    )
}

pub(super) fn schemes() -> Vec<SignatureScheme> {
    provider().signature_verification_algorithms.supported_schemes()
}
