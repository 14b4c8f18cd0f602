//! Public keys: parsed SubjectPublicKeyInfo.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};

use super::SignatureForm;
use super::kind::{PublicKeyError, PublicKeyKind};
use super::signature::{self, SignatureAlgorithm, VerifyError};
use crate::der::{self, DerError, Reader, Writer};
use crate::oid;

/// RSA moduli outside of this range are refused even for foreign authorities: they are no keys, or cost too much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=8192;

/// A public key. Cheap to clone; equal when the encodings are equal.
#[derive(Clone)]
pub struct PublicKey {
    spki: Arc<[u8]>,
    /// Where the key bits begin in `spki`; they reach to its end.
    bits_at: usize,
    kind: PublicKeyKind,
}

impl PublicKey {
    /// Parses a DER SubjectPublicKeyInfo (RFC 5280, 4.1.2.7) and checks the key itself: the point is on the curve.
    pub fn from_spki_der(spki: &[u8]) -> Result<Self, PublicKeyError> {
        let key = Self::from_spki_shape(spki)?;
        signature::check_key(key.kind, key.key_bits())?;
        Ok(key)
    }

    /// As [`Self::from_spki_der`] without the cost of checking the point; whoever calls verifies a signature next.
    pub(crate) fn from_spki_shape(spki: &[u8]) -> Result<Self, PublicKeyError> {
        let mut reader = Reader::new(spki);
        let (kind, bits) = reader.sequence(|spki| {
            let (algorithm, parameters) = spki.sequence(|identifier| {
                let algorithm = identifier.content(der::OID)?;
                let parameters = if identifier.is_empty() {
                    None
                } else {
                    Some(identifier.any()?)
                };
                Ok::<_, PublicKeyError>((algorithm, parameters))
            })?;
            let bits = spki.bit_string()?;
            let kind = match algorithm {
                oid::EC_PUBLIC_KEY => {
                    let curve = parameters.filter(|p| p.tag == der::OID).ok_or(DerError::Value)?;
                    ec_kind(curve.content, bits)?
                }
                oid::ED25519 if parameters.is_none() && bits.len() == 32 => PublicKeyKind::Ed25519,
                oid::ED25519 => return Err(DerError::Value.into()),
                oid::RSA_ENCRYPTION => {
                    if parameters.is_some_and(|p| p.tag != der::NULL || !p.content.is_empty()) {
                        return Err(DerError::Value.into());
                    }
                    rsa_kind(bits)?
                }
                other => return Err(PublicKeyError::UnsupportedAlgorithm(oid::dotted(other))),
            };
            Ok((kind, bits))
        })?;
        reader.finish()?;
        Ok(Self {
            bits_at: spki.len() - bits.len(),
            spki: spki.into(),
            kind,
        })
    }

    /// An EC key from its uncompressed point.
    pub(crate) fn from_ec_point(kind: PublicKeyKind, point: &[u8]) -> Result<Self, PublicKeyError> {
        let curve = match kind {
            PublicKeyKind::EcP256 => oid::P256,
            PublicKeyKind::EcP384 => oid::P384,
            _ => oid::P521,
        };
        Self::from_spki_der(&Writer::build(|w| {
            w.sequence(|w| {
                w.sequence(|w| {
                    w.oid(oid::EC_PUBLIC_KEY);
                    w.oid(curve);
                });
                w.bit_string(point);
            });
        }))
    }

    /// An RSA key from the DER of its RSAPublicKey (RFC 8017, A.1.1).
    pub(crate) fn from_rsa_pkcs1(key: &[u8]) -> Result<Self, PublicKeyError> {
        Self::from_spki_der(&Writer::build(|w| {
            w.sequence(|w| {
                w.sequence(|w| {
                    w.oid(oid::RSA_ENCRYPTION);
                    w.null();
                });
                w.bit_string(key);
            });
        }))
    }

    /// The DER SubjectPublicKeyInfo.
    pub fn spki_der(&self) -> &[u8] {
        &self.spki
    }

    /// The type and size of the key.
    pub fn kind(&self) -> PublicKeyKind {
        self.kind
    }

    /// The content of the key's bit string: a point, or an RSAPublicKey.
    pub(crate) fn key_bits(&self) -> &[u8] {
        self.spki.get(self.bits_at..).unwrap_or_default()
    }

    /// SHA-1 of the key's bit string (RFC 5280, 4.2.1.2 (1)): the subject key identifier.
    pub fn key_id(&self) -> [u8; 20] {
        let mut id = [0; 20];
        id.copy_from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, self.key_bits()).as_ref());
        id
    }

    /// Checks a signature over `message`. The algorithm must fit the key, and an RSA key must have 2048 bits at least.
    pub fn verify(
        &self,
        algorithm: SignatureAlgorithm,
        form: SignatureForm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), VerifyError> {
        signature::verify(self.kind, self.key_bits(), algorithm, form, message, signature)
    }
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.spki == other.spki
    }
}

impl Eq for PublicKey {}

impl Hash for PublicKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.spki.hash(state);
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "PublicKey({}, {})",
            self.kind,
            crate::digest::hex(&self.key_id())
        )
    }
}

fn ec_kind(curve: &[u8], point: &[u8]) -> Result<PublicKeyKind, PublicKeyError> {
    let (kind, length) = match curve {
        oid::P256 => (PublicKeyKind::EcP256, 65),
        oid::P384 => (PublicKeyKind::EcP384, 97),
        oid::P521 => (PublicKeyKind::EcP521, 133),
        other => return Err(PublicKeyError::UnsupportedCurve(oid::dotted(other))),
    };
    if point.len() != length || point.first() != Some(&4) {
        return Err(PublicKeyError::Invalid);
    }
    Ok(kind)
}

fn rsa_kind(key: &[u8]) -> Result<PublicKeyKind, PublicKeyError> {
    let mut reader = Reader::new(key);
    let (modulus, exponent) = reader.sequence(|key| Ok::<_, DerError>((key.unsigned()?, key.unsigned()?)))?;
    reader.finish()?;
    let leading = modulus.first().map_or(0, |first| first.leading_zeros());
    let bits = (modulus.len() * 8).saturating_sub(usize::try_from(leading).unwrap_or(0));
    if !RSA_BITS.contains(&bits) {
        return Err(PublicKeyError::UnsupportedRsaSize(bits));
    }
    // An even or huge exponent is no RSA key, or one made to slow verifiers down.
    if exponent.len() > 4 || exponent.last().is_none_or(|last| last % 2 == 0) || exponent == [1] {
        return Err(PublicKeyError::Invalid);
    }
    Ok(PublicKeyKind::Rsa { bits })
}
