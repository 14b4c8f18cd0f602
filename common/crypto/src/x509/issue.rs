//! What is signed: X509-SVIDs and CA certificates in SPIRE's profile.
//!
//! Never looks at requests or entries: whoever calls has checked both. Invariants: a leaf has one URI name, no CA bit, a
//! random serial number and no more time than its issuer; only key usage and basic constraints are critical in it.

mod downstream;

use std::fmt;
use std::sync::Arc;

use credence_identity::{SpiffeId, Timestamp, TrustDomain};

use super::certificate::decimal;
use super::extensions::write_extension;
use super::{Certificate, CertificateError, KeyUsage, Subject, X509Svid, write_subject_alt_name};
use crate::der::{self, Writer, write_time};
use crate::digest::{RandomError, random_bytes};
use crate::keys::{PublicKey, SignError, SignatureForm, Signer};
use crate::oid;

/// Why nothing was issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum IssueError {
    /// The CA's key failed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// No serial number could be drawn.
    #[error(transparent)]
    Random(#[from] RandomError),
    /// The CA certificate is for another key than the signer's.
    #[error("CA certificate is not for the CA key")]
    KeyMismatch,
    /// The certificate given for a CA is none of a CA.
    #[error("certificate is not a CA certificate")]
    NotACa,
    /// Nothing is left of the lifetime within that of the CA.
    #[error("lifetime is empty: from {from} to {to}")]
    EmptyLifetime {
        /// Start of validity.
        from: Timestamp,
        /// End of validity, capped by the CA's.
        to: Timestamp,
    },
    /// The ID of a leaf must have a path (X509-SVID, 3.1).
    #[error("SPIFFE ID {0} has no path")]
    RootPath(SpiffeId),
    /// A DNS name that can't stand in a certificate.
    #[error("DNS name {0:?} is not ASCII")]
    DnsName(String),
    /// What was signed doesn't parse: a fault of this program.
    #[error("issued certificate is not valid")]
    Unparsable(#[source] CertificateError),
}

/// What goes into a leaf.
#[derive(Debug, Clone)]
pub struct LeafParams<'a> {
    /// The identity; must have a path.
    pub id: &'a SpiffeId,
    /// The workload's key.
    pub public_key: &'a PublicKey,
    /// DNS names in order; the first is the common name as well.
    pub dns_names: &'a [Arc<str>],
    /// The subject; [`Subject::spire`] if `None`.
    pub subject: Option<&'a Subject>,
    /// Start of validity.
    pub not_before: Timestamp,
    /// End of validity; cut to the CA's.
    pub not_after: Timestamp,
}

/// The subject of CA certificates, as `ca_subject` configures it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaSubject {
    /// Countries.
    pub country: Vec<String>,
    /// Organizations.
    pub organization: Vec<String>,
    /// Common name; none if empty.
    pub common_name: String,
}

impl Default for CaSubject {
    /// `C=US, O=SPIFFE`, as SPIRE has it.
    fn default() -> Self {
        Self {
            country: vec!["US".to_owned()],
            organization: vec!["SPIFFE".to_owned()],
            common_name: String::new(),
        }
    }
}

impl CaSubject {
    /// The name with the certificate's serial number in it, so that no two CAs share a name.
    fn with_serial(&self, serial: &[u8]) -> Subject {
        let mut subject = Subject::empty()
            .with_all(oid::COUNTRY, &self.country)
            .with_all(oid::ORGANIZATION, &self.organization);
        if !self.common_name.is_empty() {
            subject = subject.with_common_name(&self.common_name);
        }
        subject.with(oid::SERIAL_NUMBER, &decimal(serial))
    }
}

/// A certificate authority: a key, its certificate and what leads from there to the root.
#[derive(Clone)]
pub struct X509Ca {
    signer: Arc<dyn Signer>,
    certificate: Certificate,
    /// CA certificates that a peer needs to reach a root: this CA's own first, unless it is a root itself.
    upstream_chain: Vec<Arc<[u8]>>,
    issuer: Vec<u8>,
    key_id: Vec<u8>,
    /// The key ID of the root, as the last certificate of each chain names it.
    root_key_id: Option<Arc<[u8]>>,
}

impl X509Ca {
    /// An authority with a certificate that exists. `upstream_chain` goes into each chain after the leaf: this CA's own
    /// certificate first, then those above it without the root; empty if this CA is a root.
    pub fn new(
        signer: Arc<dyn Signer>,
        certificate: Certificate,
        upstream_chain: Vec<Arc<[u8]>>,
    ) -> Result<Self, IssueError> {
        if certificate.public_key() != signer.public_key() {
            return Err(IssueError::KeyMismatch);
        }
        if !certificate.is_ca() {
            return Err(IssueError::NotACa);
        }
        let key_id = certificate
            .subject_key_id()
            .map_or_else(|| signer.public_key().key_id().to_vec(), <[u8]>::to_vec);
        let root_key_id = match upstream_chain.last() {
            None => Some(key_id.as_slice().into()),
            Some(last) => Certificate::from_der(last)
                .map_err(IssueError::Unparsable)?
                .authority_key_id()
                .map(Arc::from),
        };
        Ok(Self {
            issuer: certificate.subject().to_der(),
            signer,
            certificate,
            upstream_chain,
            key_id,
            root_key_id,
        })
    }

    /// A new root for the trust domain, valid over exactly that time.
    pub fn self_sign(
        signer: Arc<dyn Signer>,
        trust_domain: &TrustDomain,
        subject: &CaSubject,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<Self, IssueError> {
        let serial = random_serial()?;
        let subject = subject.with_serial(&serial).to_der();
        let template = Template {
            serial: &serial,
            issuer: &subject,
            subject: &subject,
            not_before,
            not_after,
            public_key: signer.public_key(),
        };
        let der = template.sign(signer.as_ref(), |w| {
            write_key_usage(w, KeyUsage::KEY_CERT_SIGN | KeyUsage::CRL_SIGN);
            write_extension(w, oid::BASIC_CONSTRAINTS, true, |w| {
                w.sequence(|w| w.boolean(true))
            });
            write_subject_key_id(w, signer.public_key());
            write_subject_alt_name(w, false, Some(trust_domain.id().as_str()), std::iter::empty());
        })?;
        let certificate = Certificate::from_der(&der).map_err(IssueError::Unparsable)?;
        Self::new(signer, certificate, Vec::new())
    }

    /// The CA's own certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The key that signs.
    pub fn signer(&self) -> &Arc<dyn Signer> {
        &self.signer
    }

    /// What follows the leaf in each chain.
    pub fn upstream_chain(&self) -> &[Arc<[u8]>] {
        &self.upstream_chain
    }

    /// Signs an X509-SVID in SPIRE's profile.
    pub fn sign_svid(&self, leaf: &LeafParams<'_>) -> Result<X509Svid, IssueError> {
        if leaf.id.path().is_empty() {
            return Err(IssueError::RootPath(leaf.id.clone()));
        }
        if let Some(name) = leaf.dns_names.iter().find(|name| !name.is_ascii()) {
            return Err(IssueError::DnsName(name.to_string()));
        }
        let (not_before, not_after) = self.within(leaf.not_before, leaf.not_after)?;
        let serial = random_serial()?;
        let mut subject = leaf.subject.cloned().unwrap_or_else(Subject::spire);
        if let Some(name) = leaf.dns_names.first() {
            subject = subject.with_common_name(name);
        }
        let template = Template {
            serial: &serial,
            issuer: &self.issuer,
            subject: &subject.to_der(),
            not_before,
            not_after,
            public_key: leaf.public_key,
        };
        let der = template.sign(self.signer.as_ref(), |w| {
            write_key_usage(
                w,
                KeyUsage::DIGITAL_SIGNATURE | KeyUsage::KEY_ENCIPHERMENT | KeyUsage::KEY_AGREEMENT,
            );
            write_extension(w, oid::EXTENDED_KEY_USAGE, false, |w| {
                w.sequence(|w| {
                    w.oid(oid::SERVER_AUTH);
                    w.oid(oid::CLIENT_AUTH);
                });
            });
            write_extension(w, oid::BASIC_CONSTRAINTS, true, |w| w.sequence(|_| {}));
            write_subject_key_id(w, leaf.public_key);
            self.write_authority_key_id(w);
            // RFC 5280, 4.1.2.6: without a subject the alternative name is critical.
            let names = leaf.dns_names.iter().map(AsRef::as_ref);
            write_subject_alt_name(w, subject.is_empty(), Some(leaf.id.as_str()), names);
        })?;
        let mut chain = Vec::with_capacity(1 + self.upstream_chain.len());
        chain.push(Arc::from(der));
        chain.extend(self.upstream_chain.iter().cloned());
        Ok(X509Svid {
            id: leaf.id.clone(),
            chain,
            not_before,
            not_after,
            serial: decimal(&serial),
            authority_key_id: self.root_key_id.clone(),
        })
    }

    /// A lifetime in whole seconds, cut to this CA's.
    fn within(
        &self,
        not_before: Timestamp,
        not_after: Timestamp,
    ) -> Result<(Timestamp, Timestamp), IssueError> {
        let from = not_before.floor_to_second();
        let to = not_after.floor_to_second().min(self.certificate.not_after());
        if from < to {
            Ok((from, to))
        } else {
            Err(IssueError::EmptyLifetime { from, to })
        }
    }

    fn write_authority_key_id(&self, w: &mut Writer) {
        write_extension(w, oid::AUTHORITY_KEY_ID, false, |w| {
            w.sequence(|w| w.element(der::context(0), &self.key_id));
        });
    }
}

impl fmt::Debug for X509Ca {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("X509Ca")
            .field("certificate", &self.certificate)
            .finish_non_exhaustive()
    }
}

/// The parts that every certificate has.
pub(super) struct Template<'a> {
    pub(super) serial: &'a [u8],
    pub(super) issuer: &'a [u8],
    pub(super) subject: &'a [u8],
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) public_key: &'a PublicKey,
}

impl Template<'_> {
    pub(super) fn sign(
        &self,
        signer: &dyn Signer,
        write_extensions: impl FnOnce(&mut Writer),
    ) -> Result<Vec<u8>, SignError> {
        let algorithm = signer.key_type().signature_algorithm();
        let signed = Writer::build(|w| {
            w.sequence(|w| {
                w.nested(der::context_constructed(0), |w| w.unsigned(&[2]));
                w.unsigned(self.serial);
                algorithm.write(w);
                w.raw(self.issuer);
                w.sequence(|w| {
                    write_time(w, self.not_before);
                    write_time(w, self.not_after);
                });
                w.raw(self.subject);
                w.raw(self.public_key.spki_der());
                w.nested(der::context_constructed(3), |w| w.sequence(write_extensions));
            });
        });
        let signature = signer.sign(&signed, SignatureForm::X509)?;
        Ok(Writer::build(|w| {
            w.sequence(|w| {
                w.raw(&signed);
                algorithm.write(w);
                w.bit_string(&signature);
            });
        }))
    }
}

fn write_key_usage(w: &mut Writer, bits: u8) {
    write_extension(w, oid::KEY_USAGE, true, |w| w.named_bits(bits));
}

fn write_subject_key_id(w: &mut Writer, key: &PublicKey) {
    write_extension(w, oid::SUBJECT_KEY_ID, false, |w| {
        w.element(der::OCTET_STRING, &key.key_id())
    });
}

/// A random number from 1 to 2^128 - 1, big-endian.
fn random_serial() -> Result<[u8; 16], RandomError> {
    loop {
        let serial = random_bytes::<16>()?;
        if serial != [0; 16] {
            return Ok(serial);
        }
    }
}

#[cfg(test)]
mod tests;
