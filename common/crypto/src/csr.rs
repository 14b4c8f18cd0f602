//! Certificate signing requests (PKCS #10, RFC 2986).
//!
//! Owns their making and checking. Never decides what the requester is entitled to. Invariant: a [`VerifiedCsr`] exists
//! only for a request whose signature was checked with the key in it, and that key is of a kind we certify.

use credence_identity::SpiffeId;

use crate::der::{self, DerError, Reader, Writer};
use crate::keys::{
    PublicKey, PublicKeyError, PublicKeyKind, SignError, SignatureAlgorithm, SignatureForm, Signer,
    VerifyError,
};
use crate::oid;
use crate::x509::{ExtensionError, Extensions, Subject, write_subject_alt_name};

/// Longer requests are refused unread. An RSA-4096 request with a 2048-byte SPIFFE ID takes 4 KiB.
const MAX_BYTES: usize = 64 * 1024;
/// RSA keys outside of this range are not certified.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=4096;

/// Why a request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// Longer than 64 KiB.
    #[error("request of {0} bytes is too large")]
    TooLarge(usize),
    /// No PKCS #10 request.
    #[error("malformed request: {0}")]
    Malformed(#[from] DerError),
    /// A requested extension can't be read.
    #[error("malformed request: {0}")]
    Extension(#[from] ExtensionError),
    /// The key can't be read.
    #[error(transparent)]
    PublicKey(#[from] PublicKeyError),
    /// The key is valid but none that is certified.
    #[error("unsupported key: {0}; must be EC P-256, P-384 or P-521, Ed25519, or RSA with 2048 to 4096 bits")]
    UnsupportedKey(PublicKeyKind),
    /// Signed with an algorithm that is not verified, SHA-1 above all.
    #[error("unsupported signature algorithm {0}")]
    UnsupportedSignature(String),
    /// The signature isn't by the key in the request.
    #[error("signature check failed: {0}")]
    Signature(VerifyError),
}

/// A request whose signature holds: the requester has the private key.
#[derive(Debug, Clone)]
pub struct VerifiedCsr {
    public_key: PublicKey,
    uri_sans: Vec<String>,
    dns_names: Vec<String>,
    subject: Subject,
}

impl VerifiedCsr {
    /// Parses the DER of a request, strictly and to its last byte, and checks key type and signature.
    ///
    /// The certificate-to-be takes its key from the request's key, whatever algorithm signed the request.
    pub fn from_der(der: &[u8]) -> Result<Self, CsrError> {
        if der.len() > MAX_BYTES {
            return Err(CsrError::TooLarge(der.len()));
        }
        let mut reader = Reader::new(der);
        let csr = reader.sequence(|request| {
            let info = request.element(der::SEQUENCE)?;
            let algorithm = SignatureAlgorithm::read(request)?;
            let signature = request.bit_string()?;
            let csr = Self::read_info(info.content)?;
            let algorithm = algorithm.map_err(CsrError::UnsupportedSignature)?;
            csr.public_key
                .verify(algorithm, SignatureForm::X509, info.raw, signature)
                .map_err(CsrError::Signature)?;
            Ok::<_, CsrError>(csr)
        })?;
        reader.finish()?;
        Ok(csr)
    }

    fn read_info(info: &[u8]) -> Result<Self, CsrError> {
        let mut info = Reader::new(info);
        if info.small()? != 0 {
            return Err(DerError::Value.into());
        }
        let subject = Subject::read(&mut info)?;
        let public_key = PublicKey::from_spki_shape(info.element(der::SEQUENCE)?.raw)?;
        check_certifiable(public_key.kind())?;
        let mut extensions = Extensions::default();
        let mut requested = false;
        if let Some(attributes) = info.optional(der::context_constructed(0))? {
            let mut attributes = Reader::new(attributes);
            while !attributes.is_empty() {
                attributes.sequence(|attribute| {
                    let kind = attribute.content(der::OID)?;
                    let mut values = Reader::new(attribute.content(der::SET)?);
                    if kind == oid::EXTENSION_REQUEST {
                        if std::mem::replace(&mut requested, true) {
                            return Err(DerError::Value.into());
                        }
                        extensions = Extensions::read(&mut values)?;
                        values.finish()?;
                    }
                    Ok::<_, CsrError>(())
                })?;
            }
        }
        info.finish()?;
        Ok(Self {
            public_key,
            uri_sans: extensions.uri_sans,
            dns_names: extensions.dns_names,
            subject,
        })
    }

    /// The requester's key.
    pub fn public_key(&self) -> &PublicKey {
        &self.public_key
    }

    /// The URI names asked for, in order, unchecked.
    pub fn uri_sans(&self) -> &[String] {
        &self.uri_sans
    }

    /// The DNS names asked for, in order, unchecked.
    pub fn dns_names(&self) -> &[String] {
        &self.dns_names
    }

    /// The subject asked for; may be empty.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }
}

fn check_certifiable(kind: PublicKeyKind) -> Result<(), CsrError> {
    match kind {
        PublicKeyKind::Rsa { bits } if !RSA_BITS.contains(&bits) => Err(CsrError::UnsupportedKey(kind)),
        _ => Ok(()),
    }
}

/// A request for `key`, with the SPIFFE ID as URI name and the DNS names, if any, beside it. Its subject is empty.
pub fn create(key: &dyn Signer, id: Option<&SpiffeId>, dns_names: &[&str]) -> Result<Vec<u8>, SignError> {
    create_with_subject(key, &Subject::empty(), id, dns_names)
}

/// As [`create`], asking for a subject as well.
pub fn create_with_subject(
    key: &dyn Signer,
    subject: &Subject,
    id: Option<&SpiffeId>,
    dns_names: &[&str],
) -> Result<Vec<u8>, SignError> {
    let info = Writer::build(|w| {
        w.sequence(|w| {
            w.unsigned(&[0]);
            w.raw(&subject.to_der());
            w.raw(key.public_key().spki_der());
            w.nested(der::context_constructed(0), |w| {
                if id.is_none() && dns_names.is_empty() {
                    return;
                }
                w.sequence(|w| {
                    w.oid(oid::EXTENSION_REQUEST);
                    w.nested(der::SET, |w| {
                        w.sequence(|w| {
                            write_subject_alt_name(
                                w,
                                false,
                                id.map(SpiffeId::as_str),
                                dns_names.iter().copied(),
                            );
                        });
                    });
                });
            });
        });
    });
    let signature = key.sign(&info, SignatureForm::X509)?;
    Ok(Writer::build(|w| {
        w.sequence(|w| {
            w.raw(&info);
            key.key_type().signature_algorithm().write(w);
            w.bit_string(&signature);
        });
    }))
}

#[cfg(test)]
mod tests;
