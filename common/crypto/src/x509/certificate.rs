//! One certificate, parsed strictly (RFC 5280, 4.1).

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use credence_identity::{SpiffeId, Timestamp};

use super::constraints::Names;
use super::{ExtensionError, Extensions, KeyUsage, Subject, SvidError};
use crate::der::{self, DerError, Reader, read_time};
use crate::digest::sha1_hex;
use crate::keys::{PublicKey, PublicKeyError, SignatureAlgorithm, SignatureForm, VerifyError};

/// Longer certificates are refused unread.
const MAX_BYTES: usize = 64 * 1024;
/// Longer serial numbers are refused; RFC 5280 allows 20 bytes.
const MAX_SERIAL_BYTES: usize = 64;

/// Why bytes are no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CertificateError {
    /// Longer than 64 KiB.
    #[error("certificate of {0} bytes is too large")]
    TooLarge(usize),
    /// No X.509 certificate in DER, or one with something after it.
    #[error("malformed certificate: {0}")]
    Malformed(#[from] DerError),
    /// An extension can't be read.
    #[error("malformed certificate: {0}")]
    Extension(#[from] ExtensionError),
    /// The key in it can't be used.
    #[error("certificate: {0}")]
    PublicKey(#[from] PublicKeyError),
    /// The PEM text can't be read, or holds no certificate.
    #[error("no PEM blocks")]
    NoPemCertificate,
}

/// A parsed certificate. Cheap to clone; equal when the bytes are equal.
#[derive(Clone)]
pub struct Certificate(Arc<Fields>);

struct Fields {
    der: Arc<[u8]>,
    /// Where the signed part begins and ends in `der`.
    signed: std::ops::Range<usize>,
    signature_algorithm: Result<SignatureAlgorithm, String>,
    signature: Box<[u8]>,
    serial: Box<[u8]>,
    issuer: Subject,
    subject: Subject,
    not_before: Timestamp,
    not_after: Timestamp,
    public_key: PublicKey,
    extensions: Extensions,
}

impl Certificate {
    /// Parses one DER certificate with nothing after it. The signature is not checked: see [`super::verify_chain`].
    pub fn from_der(der: &[u8]) -> Result<Self, CertificateError> {
        let mut reader = Reader::new(der);
        let certificate = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(certificate)
    }

    /// Parses certificates that follow each other without a gap, as the Workload API has them. No bytes, no certificates.
    pub fn parse_concatenated(der: &[u8]) -> Result<Vec<Self>, CertificateError> {
        let mut reader = Reader::new(der);
        let mut certificates = Vec::new();
        while !reader.is_empty() {
            certificates.push(Self::read(&mut reader)?);
        }
        Ok(certificates)
    }

    /// All certificates of a PEM text; other blocks and text between blocks are skipped. At least one must be there.
    pub fn parse_pem(text: &str) -> Result<Vec<Self>, CertificateError> {
        let blocks = pem::parse_many(text).map_err(|_| CertificateError::NoPemCertificate)?;
        let certificates = blocks.iter().filter(|block| block.tag() == "CERTIFICATE");
        let certificates: Vec<Self> = certificates
            .map(|block| Self::from_der(block.contents()))
            .collect::<Result<_, _>>()?;
        if certificates.is_empty() {
            Err(CertificateError::NoPemCertificate)
        } else {
            Ok(certificates)
        }
    }

    fn read(reader: &mut Reader<'_>) -> Result<Self, CertificateError> {
        let outer = reader.element(der::SEQUENCE)?;
        if outer.raw.len() > MAX_BYTES {
            return Err(CertificateError::TooLarge(outer.raw.len()));
        }
        let mut body = Reader::new(outer.content);
        let signed = body.element(der::SEQUENCE)?;
        let algorithm = body.element(der::SEQUENCE)?;
        let signature = body.bit_string()?;
        body.finish()?;
        let start = outer.raw.len() - outer.content.len();
        Self::read_signed(signed.content, algorithm.raw, |signature_algorithm, fields| {
            Fields {
                der: outer.raw.into(),
                signed: start..start + signed.raw.len(),
                signature_algorithm,
                signature: signature.into(),
                ..fields
            }
        })
    }

    fn read_signed(
        signed: &[u8],
        algorithm: &[u8],
        complete: impl FnOnce(Result<SignatureAlgorithm, String>, Fields) -> Fields,
    ) -> Result<Self, CertificateError> {
        let mut tbs = Reader::new(signed);
        let version = match tbs.optional(der::context_constructed(0))? {
            None => 0,
            Some(version) => {
                let mut version = Reader::new(version);
                let number = version.small()?;
                version.finish()?;
                number
            }
        };
        let serial = tbs.unsigned()?;
        // RFC 5280, 4.1.1.2: the algorithm inside must be the one outside.
        if version > 2 || serial.len() > MAX_SERIAL_BYTES || tbs.element(der::SEQUENCE)?.raw != algorithm {
            return Err(DerError::Value.into());
        }
        let issuer = Subject::read(&mut tbs)?;
        let (not_before, not_after) =
            tbs.sequence(|validity| Ok::<_, DerError>((read_time(validity)?, read_time(validity)?)))?;
        let subject = Subject::read(&mut tbs)?;
        let public_key = PublicKey::from_spki_shape(tbs.element(der::SEQUENCE)?.raw)?;
        tbs.optional(der::context(1))?;
        tbs.optional(der::context(2))?;
        let extensions = match tbs.optional(der::context_constructed(3))? {
            None => Extensions::default(),
            Some(_) if version != 2 => return Err(DerError::Value.into()),
            Some(list) => {
                let mut list = Reader::new(list);
                let extensions = Extensions::read(&mut list)?;
                list.finish()?;
                extensions
            }
        };
        tbs.finish()?;
        let signature_algorithm = SignatureAlgorithm::read(&mut Reader::new(algorithm))?;
        let fields = Fields {
            der: Arc::from([]),
            signed: 0..0,
            signature_algorithm: Err(String::new()),
            signature: Box::default(),
            serial: serial.into(),
            issuer,
            subject,
            not_before,
            not_after,
            public_key,
            extensions,
        };
        Ok(Self(Arc::new(complete(signature_algorithm, fields))))
    }

    /// The certificate's bytes.
    pub fn der(&self) -> &Arc<[u8]> {
        &self.0.der
    }

    /// The serial number in decimal, as the APIs show it.
    pub fn serial(&self) -> String {
        decimal(&self.0.serial)
    }

    /// The serial number in hexadecimal without padding, as selectors show it.
    pub fn serial_hex(&self) -> String {
        let text = crate::digest::hex(&self.0.serial);
        let trimmed = text.trim_start_matches('0');
        if trimmed.is_empty() {
            "0".to_owned()
        } else {
            trimmed.to_owned()
        }
    }

    /// SHA-1 of the certificate in hexadecimal.
    pub fn sha1_fingerprint(&self) -> String {
        sha1_hex(&self.0.der)
    }

    /// First second of validity.
    pub fn not_before(&self) -> Timestamp {
        self.0.not_before
    }

    /// Last second of validity.
    pub fn not_after(&self) -> Timestamp {
        self.0.not_after
    }

    /// Who it is for; may be empty.
    pub fn subject(&self) -> &Subject {
        &self.0.subject
    }

    /// Who signed it, as the certificate says.
    pub fn issuer(&self) -> &Subject {
        &self.0.issuer
    }

    /// The URI names, in order, unchecked.
    pub fn uri_sans(&self) -> &[String] {
        &self.0.extensions.uri_sans
    }

    /// The DNS names, in order, unchecked.
    pub fn dns_names(&self) -> &[String] {
        &self.0.extensions.dns_names
    }

    /// The IP addresses, in order, unchecked.
    pub fn ip_addresses(&self) -> &[IpAddr] {
        &self.0.extensions.ip_addresses
    }

    /// The SPIFFE ID of a leaf or CA: the one URI name there is (X509-SVID, section 2).
    pub fn spiffe_id(&self) -> Result<SpiffeId, SvidError> {
        match self.uri_sans() {
            [] => Err(SvidError::MissingUriSan),
            [uri] => SpiffeId::parse(uri).map_err(SvidError::BadSpiffeId),
            more => Err(SvidError::MultipleUriSans(more.len())),
        }
    }

    /// The key that is certified.
    pub fn public_key(&self) -> &PublicKey {
        &self.0.public_key
    }

    /// The subject key identifier, if there is one.
    pub fn subject_key_id(&self) -> Option<&[u8]> {
        self.0.extensions.subject_key_id.as_deref()
    }

    /// The key identifier of the issuer, if there is one.
    pub fn authority_key_id(&self) -> Option<&[u8]> {
        self.0.extensions.authority_key_id.as_deref()
    }

    /// Whether basic constraints say that this is a CA.
    pub fn is_ca(&self) -> bool {
        self.0
            .extensions
            .basic_constraints
            .is_some_and(|constraints| constraints.ca)
    }

    /// The key usage, if it says any.
    pub fn key_usage(&self) -> Option<KeyUsage> {
        self.0.extensions.key_usage
    }

    pub(super) fn extensions(&self) -> &Extensions {
        &self.0.extensions
    }

    pub(super) fn names(&self) -> Names<'_> {
        Names {
            uris: self.uri_sans(),
            dns: self.dns_names(),
            others: &self.0.extensions.other_names,
            has_subject: !self.subject().is_empty(),
        }
    }

    /// Whether issuer and subject are one name.
    pub fn is_self_issued(&self) -> bool {
        self.0.issuer == self.0.subject
    }

    /// Checks the signature with the issuer's key. Says nothing about whether that issuer may sign.
    pub(super) fn verify_signature(&self, issuer: &PublicKey) -> Result<(), SignatureFault> {
        let algorithm = self
            .0
            .signature_algorithm
            .clone()
            .map_err(SignatureFault::Unsupported)?;
        let message = self.0.der.get(self.0.signed.clone()).unwrap_or_default();
        issuer
            .verify(algorithm, SignatureForm::X509, message, &self.0.signature)
            .map_err(SignatureFault::Invalid)
    }
}

pub(super) enum SignatureFault {
    Unsupported(String),
    Invalid(VerifyError),
}

impl PartialEq for Certificate {
    fn eq(&self, other: &Self) -> bool {
        self.0.der == other.0.der
    }
}

impl Eq for Certificate {}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate")
            .field("serial", &self.serial())
            .field("subject", &self.0.subject)
            .field("uri_sans", &self.0.extensions.uri_sans)
            .field("not_after", &self.0.not_after)
            .finish_non_exhaustive()
    }
}

/// A big-endian number in decimal.
pub(super) fn decimal(magnitude: &[u8]) -> String {
    let mut number = magnitude.to_vec();
    let mut digits = Vec::new();
    while number.iter().any(|byte| *byte != 0) {
        let mut remainder = 0_u16;
        for byte in &mut number {
            let value = (remainder << 8) | u16::from(*byte);
            *byte = u8::try_from(value / 10).unwrap_or(u8::MAX);
            remainder = value % 10;
        }
        digits.push(char::from_digit(u32::from(remainder), 10).unwrap_or('0'));
    }
    if digits.is_empty() {
        "0".to_owned()
    } else {
        digits.into_iter().rev().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::decimal;

    #[test]
    fn serials_in_decimal() {
        assert_eq!(decimal(&[]), "0");
        assert_eq!(decimal(&[0x01, 0x00]), "256");
        assert_eq!(decimal(&[0xff; 16]), u128::MAX.to_string());
    }
}
