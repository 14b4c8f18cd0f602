//! Keys: what may sign, what may be certified, and how signatures are made and checked.
//!
//! Owns parsing, generation and use of keys. Never writes a private key anywhere, and never lets one into `Debug` or an
//! error. Invariant: a [`PrivateKey`] can sign, and a [`PublicKey`] names an algorithm that this crate can verify.

mod kind;
mod pop;
mod private;
mod public;
mod signature;

use std::fmt;
use std::str::FromStr;

pub use kind::{PublicKeyError, PublicKeyKind};
pub use pop::PopSignature;
pub use private::{PrivateKey, PrivateKeyError};
pub use public::PublicKey;
pub use signature::{Hash, SignatureAlgorithm, VerifyError};

/// The types of key that an authority or an agent can be told to use, by SPIRE's configuration names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyType {
    /// `ec-p256`
    EcP256,
    /// `ec-p384`
    EcP384,
    /// `rsa-2048`
    Rsa2048,
    /// `rsa-4096`
    Rsa4096,
}

impl KeyType {
    /// The algorithm that this type of key signs with: SHA-384 for P-384, SHA-256 for all others (as SPIRE does).
    pub fn signature_algorithm(self) -> SignatureAlgorithm {
        match self {
            Self::EcP256 => SignatureAlgorithm::Ecdsa(Hash::Sha256),
            Self::EcP384 => SignatureAlgorithm::Ecdsa(Hash::Sha384),
            Self::Rsa2048 | Self::Rsa4096 => SignatureAlgorithm::RsaPkcs1(Hash::Sha256),
        }
    }

    /// The JWS `alg` of signatures by this type of key (RFC 7518, 3.1).
    pub fn jws_algorithm(self) -> &'static str {
        match self {
            Self::EcP256 => "ES256",
            Self::EcP384 => "ES384",
            Self::Rsa2048 | Self::Rsa4096 => "RS256",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::EcP256 => "ec-p256",
            Self::EcP384 => "ec-p384",
            Self::Rsa2048 => "rsa-2048",
            Self::Rsa4096 => "rsa-4096",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The text names no key type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("key type {0:?} is unknown; must be one of [rsa-2048, rsa-4096, ec-p256, ec-p384]")]
pub struct UnknownKeyType(pub String);

impl FromStr for KeyType {
    type Err = UnknownKeyType;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        [Self::EcP256, Self::EcP384, Self::Rsa2048, Self::Rsa4096]
            .into_iter()
            .find(|key_type| key_type.name().eq_ignore_ascii_case(text))
            .ok_or_else(|| UnknownKeyType(text.to_owned()))
    }
}

/// How a signature is laid out. RSA signatures look the same in both.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SignatureForm {
    /// ECDSA as `SEQUENCE { r, s }` (RFC 5480), for certificates and CSRs.
    X509,
    /// ECDSA as `r || s` of fixed size (RFC 7518, 3.4), for JWS.
    Jose,
}

/// The key could not sign. Says nothing about the key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// The cryptographic library refused.
    #[error("signing failed")]
    Failed,
    /// A remote or stored key is not available now.
    #[error("key is not available: {0}")]
    Unavailable(String),
}

/// Something that can sign with one key: a [`PrivateKey`], or a key kept elsewhere.
pub trait Signer: Send + Sync + fmt::Debug {
    /// The public half.
    fn public_key(&self) -> &PublicKey;

    /// The type of key, which decides the signature algorithm ([`KeyType::signature_algorithm`]).
    fn key_type(&self) -> KeyType;

    /// Signs `message` (not a digest of it).
    fn sign(&self, message: &[u8], form: SignatureForm) -> Result<Vec<u8>, SignError>;
}

#[cfg(test)]
mod tests;
