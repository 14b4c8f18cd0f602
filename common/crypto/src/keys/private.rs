//! Private keys held in memory.

use std::fmt;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest::{Digest, SHA256, SHA384, digest};
use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING,
    ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, EcdsaSigningAlgorithm, KeyPair, RSA_PKCS1_SHA256,
    RSA_PSS_SHA256, RsaEncoding, RsaKeyPair,
};
use zeroize::Zeroizing;

use super::kind::PublicKeyKind;
use super::public::PublicKey;
use super::{KeyType, SignError, SignatureForm, Signer};
use crate::der::{self, DerError, Reader};

/// Smallest RSA key that is taken in.
const MIN_RSA_BITS: usize = 2048;

/// Why bytes are no private key that is used here. Never shows any of them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PrivateKeyError {
    /// Not unencrypted PKCS#8.
    #[error("private key is not unencrypted PKCS#8 of a P-256, P-384 or RSA key")]
    Unusable,
    /// An RSA key of less than 2048 bits.
    #[error("RSA key of {0} bits is too small")]
    WeakRsa(usize),
    /// No private key in the PEM text.
    #[error("PEM text holds no private key")]
    NoPemKey,
    /// The library could not make a key.
    #[error("key generation failed")]
    Generation,
}

/// A private key: ECDSA on P-256 or P-384, or RSA. Clones share the key; the last one erases it.
#[derive(Clone)]
pub struct PrivateKey(Arc<Inner>);

struct Inner {
    key_type: KeyType,
    public: PublicKey,
    pkcs8: Zeroizing<Vec<u8>>,
    pair: Pair,
}

enum Pair {
    Ecdsa {
        asn1: EcdsaKeyPair,
        /// Made when the first token is signed: certificates never need it.
        fixed: OnceLock<EcdsaKeyPair>,
    },
    Rsa(Box<RsaKeyPair>),
}

impl PrivateKey {
    /// A new random key. RSA takes between 0.1 and several seconds of CPU.
    pub fn generate(key_type: KeyType) -> Result<Self, PrivateKeyError> {
        let failed = |_| PrivateKeyError::Generation;
        match key_type {
            KeyType::EcP256 | KeyType::EcP384 => {
                let (asn1, _) = ecdsa_algorithms(key_type).ok_or(PrivateKeyError::Generation)?;
                let pair = EcdsaKeyPair::generate(asn1).map_err(failed)?;
                let pkcs8 = Zeroizing::new(pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec());
                Self::from_ecdsa(key_type, pair, pkcs8)
            }
            KeyType::Rsa2048 => Self::from_rsa(RsaKeyPair::generate(KeySize::Rsa2048).map_err(failed)?),
            KeyType::Rsa4096 => Self::from_rsa(RsaKeyPair::generate(KeySize::Rsa4096).map_err(failed)?),
        }
    }

    /// Parses an unencrypted PKCS#8 key (RFC 5208): nothing else, as the Workload API has it. An RSA key of another
    /// size than 2048 or 4096 bits, which an operator may bring, counts as the next smaller [`KeyType`].
    pub fn from_pkcs8_der(pkcs8: &[u8]) -> Result<Self, PrivateKeyError> {
        if !is_pkcs8(pkcs8) {
            return Err(PrivateKeyError::Unusable);
        }
        for key_type in [KeyType::EcP256, KeyType::EcP384] {
            if let Some((asn1, _)) = ecdsa_algorithms(key_type)
                && let Ok(pair) = EcdsaKeyPair::from_pkcs8(asn1, pkcs8)
            {
                return Self::from_ecdsa(key_type, pair, Zeroizing::new(pkcs8.to_vec()));
            }
        }
        let pair = RsaKeyPair::from_pkcs8(pkcs8).map_err(|_| PrivateKeyError::Unusable)?;
        Self::from_rsa(pair)
    }

    /// The first private key of a PEM text: PKCS#8, SEC1 (`EC PRIVATE KEY`) or PKCS#1 (`RSA PRIVATE KEY`).
    pub fn from_pem(text: &str) -> Result<Self, PrivateKeyError> {
        let blocks = pem::parse_many(text).map_err(|_| PrivateKeyError::NoPemKey)?;
        let block = blocks
            .into_iter()
            .find(|block| block.tag().ends_with("PRIVATE KEY"));
        let block = block.ok_or(PrivateKeyError::NoPemKey)?;
        let (tag, contents) = (block.tag().to_owned(), Zeroizing::new(block.into_contents()));
        match tag.as_str() {
            "PRIVATE KEY" => Self::from_pkcs8_der(&contents),
            "EC PRIVATE KEY" => Self::from_sec1(&contents),
            "RSA PRIVATE KEY" => RsaKeyPair::from_der(&contents)
                .map_err(|_| PrivateKeyError::Unusable)
                .and_then(Self::from_rsa),
            _ => Err(PrivateKeyError::Unusable),
        }
    }

    fn from_sec1(sec1: &[u8]) -> Result<Self, PrivateKeyError> {
        for key_type in [KeyType::EcP256, KeyType::EcP384] {
            if let Some((asn1, _)) = ecdsa_algorithms(key_type)
                && let Ok(pair) = EcdsaKeyPair::from_private_key_der(asn1, sec1)
            {
                let pkcs8 = pair.to_pkcs8v1().map_err(|_| PrivateKeyError::Unusable)?;
                return Self::from_ecdsa(key_type, pair, Zeroizing::new(pkcs8.as_ref().to_vec()));
            }
        }
        Err(PrivateKeyError::Unusable)
    }

    fn from_ecdsa(
        key_type: KeyType,
        pair: EcdsaKeyPair,
        pkcs8: Zeroizing<Vec<u8>>,
    ) -> Result<Self, PrivateKeyError> {
        let kind = match key_type {
            KeyType::EcP384 => PublicKeyKind::EcP384,
            _ => PublicKeyKind::EcP256,
        };
        let public = PublicKey::from_ec_point(kind, pair.public_key().as_ref());
        let public = public.map_err(|_| PrivateKeyError::Unusable)?;
        let pair = Pair::Ecdsa {
            asn1: pair,
            fixed: OnceLock::new(),
        };
        Ok(Self(Arc::new(Inner {
            key_type,
            public,
            pkcs8,
            pair,
        })))
    }

    fn from_rsa(pair: RsaKeyPair) -> Result<Self, PrivateKeyError> {
        let bits = pair.public_modulus_len() * 8;
        if bits < MIN_RSA_BITS {
            return Err(PrivateKeyError::WeakRsa(bits));
        }
        let key_type = if bits < 4096 {
            KeyType::Rsa2048
        } else {
            KeyType::Rsa4096
        };
        let public = PublicKey::from_rsa_pkcs1(pair.public_key().as_ref());
        let public = public.map_err(|_| PrivateKeyError::Unusable)?;
        let pkcs8 = Zeroizing::new(
            pair.as_der()
                .map_err(|_| PrivateKeyError::Unusable)?
                .as_ref()
                .to_vec(),
        );
        Ok(Self(Arc::new(Inner {
            key_type,
            public,
            pkcs8,
            pair: Pair::Rsa(Box::new(pair)),
        })))
    }

    /// The key as unencrypted PKCS#8 DER, erased with the last clone of the key.
    pub fn pkcs8_der(&self) -> &Zeroizing<Vec<u8>> {
        &self.0.pkcs8
    }

    fn sign_rsa(
        pair: &RsaKeyPair,
        encoding: &'static dyn RsaEncoding,
        message: &[u8],
    ) -> Result<Vec<u8>, SignError> {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), message, &mut signature)
            .map_err(|_| SignError::Failed)?;
        Ok(signature)
    }

    /// RSASSA-PSS with SHA-256; fails for an EC key.
    pub(super) fn sign_pss(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        match &self.0.pair {
            Pair::Rsa(pair) => Self::sign_rsa(pair, &RSA_PSS_SHA256, message),
            Pair::Ecdsa { .. } => Err(SignError::Failed),
        }
    }

    /// ECDSA's two numbers in a row over the SHA-256 of `message`, also on P-384; fails for an RSA key.
    pub(super) fn sign_ecdsa_sha256(&self, message: &[u8]) -> Result<Vec<u8>, SignError> {
        let Pair::Ecdsa { fixed, .. } = &self.0.pair else {
            return Err(SignError::Failed);
        };
        // The library signs with P-384 over SHA-384 only. ECDSA takes a hash for a number (FIPS 186-5, 6.4.1), to which
        // leading zeros add nothing.
        let algorithm = match self.0.key_type {
            KeyType::EcP384 => &SHA384,
            _ => &SHA256,
        };
        let hash = digest(&SHA256, message);
        let mut padded = vec![0; algorithm.output_len().saturating_sub(hash.as_ref().len())];
        padded.extend_from_slice(hash.as_ref());
        let hash = Digest::import_less_safe(&padded, algorithm).map_err(|_| SignError::Failed)?;
        let signature = self.0.fixed(fixed)?.sign_digest(&hash);
        Ok(signature.map_err(|_| SignError::Failed)?.as_ref().to_vec())
    }
}

impl Inner {
    fn fixed<'a>(&'a self, cell: &'a OnceLock<EcdsaKeyPair>) -> Result<&'a EcdsaKeyPair, SignError> {
        if let Some(pair) = cell.get() {
            return Ok(pair);
        }
        let (_, fixed) = ecdsa_algorithms(self.key_type).ok_or(SignError::Failed)?;
        let pair = EcdsaKeyPair::from_pkcs8(fixed, &self.pkcs8).map_err(|_| SignError::Failed)?;
        Ok(cell.get_or_init(|| pair))
    }
}

impl Signer for PrivateKey {
    fn public_key(&self) -> &PublicKey {
        &self.0.public
    }

    fn key_type(&self) -> KeyType {
        self.0.key_type
    }

    fn sign(&self, message: &[u8], form: SignatureForm) -> Result<Vec<u8>, SignError> {
        match (&self.0.pair, form) {
            (Pair::Ecdsa { asn1, .. }, SignatureForm::X509) => ecdsa_sign(asn1, message),
            (Pair::Ecdsa { fixed, .. }, SignatureForm::Jose) => ecdsa_sign(self.0.fixed(fixed)?, message),
            (Pair::Rsa(pair), _) => Self::sign_rsa(pair, &RSA_PKCS1_SHA256, message),
        }
    }
}

fn ecdsa_sign(pair: &EcdsaKeyPair, message: &[u8]) -> Result<Vec<u8>, SignError> {
    let signature = pair
        .sign(&SystemRandom::new(), message)
        .map_err(|_| SignError::Failed)?;
    Ok(signature.as_ref().to_vec())
}

type EcdsaAlgorithms = (&'static EcdsaSigningAlgorithm, &'static EcdsaSigningAlgorithm);

/// For X.509 and for JOSE.
fn ecdsa_algorithms(key_type: KeyType) -> Option<EcdsaAlgorithms> {
    match key_type {
        KeyType::EcP256 => Some((&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_FIXED_SIGNING)),
        KeyType::EcP384 => Some((&ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P384_SHA384_FIXED_SIGNING)),
        KeyType::Rsa2048 | KeyType::Rsa4096 => None,
    }
}

/// Tells PKCS#8 (`version, AlgorithmIdentifier, OCTET STRING …`) from PKCS#1, SEC1 and encrypted PKCS#8, which
/// libraries accept silently.
fn is_pkcs8(bytes: &[u8]) -> bool {
    let shape = |bytes| {
        let mut reader = Reader::new(der::single(bytes, der::SEQUENCE)?.content);
        reader.small()?;
        reader.content(der::SEQUENCE)?;
        reader.content(der::OCTET_STRING)
    };
    let shape: Result<&[u8], DerError> = shape(bytes);
    shape.is_ok()
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PrivateKey({}, redacted)", self.0.key_type)
    }
}
