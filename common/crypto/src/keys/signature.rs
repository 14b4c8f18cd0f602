//! Which signature algorithms are known, by their X.509 identifiers, and how each is verified.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA384_ASN1, ECDSA_P256_SHA512_ASN1,
    ECDSA_P384_SHA256_ASN1, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA512_ASN1,
    ECDSA_P521_SHA256_ASN1, ECDSA_P521_SHA384_ASN1, ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_FIXED, ED25519,
    RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384,
    RSA_PKCS1_2048_8192_SHA512, RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512,
    RsaPssSaltLength, UnparsedPublicKey, VerificationAlgorithm,
};

use super::SignatureForm;
use super::kind::{PublicKeyError, PublicKeyKind};
use crate::der::{self, DerError, Reader, Writer};
use crate::oid;

/// Smallest RSA key whose signatures count (RFC 7518, 3.3).
const MIN_RSA_BITS: usize = 2048;

/// The hash of a signature algorithm. SHA-1 isn't among them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Hash {
    /// SHA-256
    Sha256,
    /// SHA-384
    Sha384,
    /// SHA-512
    Sha512,
}

/// A signature algorithm that is verified here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureAlgorithm {
    /// ECDSA; the curve is that of the key.
    Ecdsa(Hash),
    /// RSASSA-PKCS1-v1_5
    RsaPkcs1(Hash),
    /// RSASSA-PSS with MGF1 over the same hash and a salt of the hash's size
    RsaPss(Hash),
    /// Ed25519
    Ed25519,
}

/// Why a signature doesn't hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The algorithm can't be used with this key.
    #[error("signature algorithm does not fit the key")]
    AlgorithmMismatch,
    /// An RSA key of less than 2048 bits.
    #[error("RSA key of {0} bits is too weak")]
    WeakKey(usize),
    /// The signature isn't by this key over this message.
    #[error("signature is not valid")]
    BadSignature,
}

impl SignatureAlgorithm {
    /// Reads an AlgorithmIdentifier; `None` if the algorithm is known to be none of ours.
    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Result<Self, String>, DerError> {
        reader.sequence(|identifier| {
            let algorithm = identifier.content(der::OID)?;
            let parameters = if identifier.is_empty() {
                None
            } else {
                Some(identifier.any()?)
            };
            let absent = parameters.is_none();
            let null = parameters.is_none_or(|p| p.tag == der::NULL && p.content.is_empty());
            let known = match algorithm {
                oid::ECDSA_SHA256 if absent => Self::Ecdsa(Hash::Sha256),
                oid::ECDSA_SHA384 if absent => Self::Ecdsa(Hash::Sha384),
                oid::ECDSA_SHA512 if absent => Self::Ecdsa(Hash::Sha512),
                oid::ED25519 if absent => Self::Ed25519,
                oid::RSA_SHA256 if null => Self::RsaPkcs1(Hash::Sha256),
                oid::RSA_SHA384 if null => Self::RsaPkcs1(Hash::Sha384),
                oid::RSA_SHA512 if null => Self::RsaPkcs1(Hash::Sha512),
                oid::RSA_PSS => match parameters.map(|p| read_pss(p.content)).transpose()?.flatten() {
                    Some(hash) => Self::RsaPss(hash),
                    None => return Ok(Err(format!("{} with these parameters", oid::dotted(algorithm)))),
                },
                other => return Ok(Err(oid::dotted(other))),
            };
            Ok(Ok(known))
        })
    }

    /// Writes the AlgorithmIdentifier. Only algorithms that keys of ours sign with are ever written.
    pub(crate) fn write(self, writer: &mut Writer) {
        writer.sequence(|w| match self {
            Self::Ecdsa(Hash::Sha256) => w.oid(oid::ECDSA_SHA256),
            Self::Ecdsa(Hash::Sha384) => w.oid(oid::ECDSA_SHA384),
            Self::Ecdsa(Hash::Sha512) => w.oid(oid::ECDSA_SHA512),
            Self::Ed25519 => w.oid(oid::ED25519),
            Self::RsaPss(_) => w.oid(oid::RSA_PSS),
            Self::RsaPkcs1(hash) => {
                w.oid(match hash {
                    Hash::Sha256 => oid::RSA_SHA256,
                    Hash::Sha384 => oid::RSA_SHA384,
                    Hash::Sha512 => oid::RSA_SHA512,
                });
                w.null();
            }
        });
    }
}

/// RSASSA-PSS-params (RFC 4055, 3.1): `None` unless hash, MGF1 hash and salt length agree on one of ours.
fn read_pss(params: &[u8]) -> Result<Option<Hash>, DerError> {
    let mut reader = Reader::new(params);
    let Some(hash) = reader.optional(der::context_constructed(0))? else {
        return Ok(None);
    };
    let Some(mask) = reader.optional(der::context_constructed(1))? else {
        return Ok(None);
    };
    let Some(salt) = reader.optional(der::context_constructed(2))? else {
        return Ok(None);
    };
    let trailer = reader.optional(der::context_constructed(3))?;
    reader.finish()?;
    let hash = read_hash(&mut Reader::new(hash))?;
    let mask = Reader::new(mask).sequence(|mask| {
        let function = mask.content(der::OID)?;
        Ok::<_, DerError>(if function == oid::MGF1 {
            read_hash(mask)?
        } else {
            None
        })
    })?;
    let salt = Reader::new(salt).small()?;
    let agreed = hash.filter(|hash| mask == Some(*hash) && salt == hash.length());
    Ok(agreed.filter(|_| trailer.is_none_or(|trailer| trailer == [2, 1, 1])))
}

fn read_hash(reader: &mut Reader<'_>) -> Result<Option<Hash>, DerError> {
    reader.sequence(|identifier| {
        let hash = match identifier.content(der::OID)? {
            oid::SHA256 => Some(Hash::Sha256),
            oid::SHA384 => Some(Hash::Sha384),
            oid::SHA512 => Some(Hash::Sha512),
            _ => None,
        };
        identifier.optional(der::NULL)?;
        Ok(hash)
    })
}

impl Hash {
    fn length(self) -> u32 {
        match self {
            Self::Sha256 => 32,
            Self::Sha384 => 48,
            Self::Sha512 => 64,
        }
    }
}

pub(super) fn verify(
    kind: PublicKeyKind,
    key: &[u8],
    algorithm: SignatureAlgorithm,
    form: SignatureForm,
    message: &[u8],
    signature: &[u8],
) -> Result<(), VerifyError> {
    let verifier = verifier(kind, algorithm, form).ok_or(VerifyError::AlgorithmMismatch)?;
    if let PublicKeyKind::Rsa { bits } = kind
        && bits < MIN_RSA_BITS
    {
        return Err(VerifyError::WeakKey(bits));
    }
    UnparsedPublicKey::new(verifier, key)
        .verify(message, signature)
        .map_err(|_| VerifyError::BadSignature)
}

/// RSASSA-PSS with SHA-256 and the longest salt that fits the key, which is what Go's library makes unless told otherwise.
pub(super) fn verify_pss_longest_salt(
    key: &[u8],
    message: &[u8],
    signature: &[u8],
) -> Result<(), VerifyError> {
    let verifier = &const { RSA_PSS_2048_8192_SHA256.with_pss_salt_length(RsaPssSaltLength::Max) };
    UnparsedPublicKey::new(verifier, key)
        .verify(message, signature)
        .map_err(|_| VerifyError::BadSignature)
}

/// Lets the library parse the key, which checks that an EC point is on its curve.
pub(super) fn check_key(kind: PublicKeyKind, key: &[u8]) -> Result<(), PublicKeyError> {
    let verifier: &'static dyn VerificationAlgorithm = match kind {
        PublicKeyKind::EcP256 => &ECDSA_P256_SHA256_ASN1,
        PublicKeyKind::EcP384 => &ECDSA_P384_SHA384_ASN1,
        PublicKeyKind::EcP521 => &ECDSA_P521_SHA512_ASN1,
        PublicKeyKind::Ed25519 => &ED25519,
        PublicKeyKind::Rsa { .. } => &RSA_PKCS1_1024_8192_SHA256_FOR_LEGACY_USE_ONLY,
    };
    UnparsedPublicKey::new(verifier, key)
        .parse()
        .map(|_| ())
        .map_err(|_| PublicKeyError::Invalid)
}

fn verifier(
    kind: PublicKeyKind,
    algorithm: SignatureAlgorithm,
    form: SignatureForm,
) -> Option<&'static dyn VerificationAlgorithm> {
    use SignatureForm::{Jose, X509};
    let verifier: &'static dyn VerificationAlgorithm = match (kind, algorithm, form) {
        (PublicKeyKind::EcP256, SignatureAlgorithm::Ecdsa(hash), X509) => match hash {
            Hash::Sha256 => &ECDSA_P256_SHA256_ASN1,
            Hash::Sha384 => &ECDSA_P256_SHA384_ASN1,
            Hash::Sha512 => &ECDSA_P256_SHA512_ASN1,
        },
        (PublicKeyKind::EcP384, SignatureAlgorithm::Ecdsa(hash), X509) => match hash {
            Hash::Sha256 => &ECDSA_P384_SHA256_ASN1,
            Hash::Sha384 => &ECDSA_P384_SHA384_ASN1,
            Hash::Sha512 => &ECDSA_P384_SHA512_ASN1,
        },
        (PublicKeyKind::EcP521, SignatureAlgorithm::Ecdsa(hash), X509) => match hash {
            Hash::Sha256 => &ECDSA_P521_SHA256_ASN1,
            Hash::Sha384 => &ECDSA_P521_SHA384_ASN1,
            Hash::Sha512 => &ECDSA_P521_SHA512_ASN1,
        },
        // RFC 7518, 3.4: one curve for each algorithm.
        (PublicKeyKind::EcP256, SignatureAlgorithm::Ecdsa(Hash::Sha256), Jose) => &ECDSA_P256_SHA256_FIXED,
        (PublicKeyKind::EcP384, SignatureAlgorithm::Ecdsa(Hash::Sha384), Jose) => &ECDSA_P384_SHA384_FIXED,
        (PublicKeyKind::EcP521, SignatureAlgorithm::Ecdsa(Hash::Sha512), Jose) => &ECDSA_P521_SHA512_FIXED,
        (PublicKeyKind::Rsa { .. }, SignatureAlgorithm::RsaPkcs1(hash), _) => match hash {
            Hash::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
            Hash::Sha384 => &RSA_PKCS1_2048_8192_SHA384,
            Hash::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
        },
        (PublicKeyKind::Rsa { .. }, SignatureAlgorithm::RsaPss(hash), _) => match hash {
            Hash::Sha256 => &RSA_PSS_2048_8192_SHA256,
            Hash::Sha384 => &RSA_PSS_2048_8192_SHA384,
            Hash::Sha512 => &RSA_PSS_2048_8192_SHA512,
        },
        (PublicKeyKind::Ed25519, SignatureAlgorithm::Ed25519, X509) => &ED25519,
        _ => return None,
    };
    Some(verifier)
}
