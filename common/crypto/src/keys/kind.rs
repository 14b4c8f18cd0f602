//! The kinds of public key that are known, and why others are refused.

use std::fmt;

use crate::der::DerError;

/// What kind of key a [`PublicKey`](super::PublicKey) is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PublicKeyKind {
    /// NIST P-256
    EcP256,
    /// NIST P-384
    EcP384,
    /// NIST P-521
    EcP521,
    /// Ed25519
    Ed25519,
    /// RSA, with the length of the modulus
    Rsa {
        /// Length of the modulus in bits.
        bits: usize,
    },
}

impl fmt::Display for PublicKeyKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EcP256 => f.write_str("EC P-256"),
            Self::EcP384 => f.write_str("EC P-384"),
            Self::EcP521 => f.write_str("EC P-521"),
            Self::Ed25519 => f.write_str("Ed25519"),
            Self::Rsa { bits } => write!(f, "RSA with {bits} bits"),
        }
    }
}

/// Why a public key is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PublicKeyError {
    /// Not a SubjectPublicKeyInfo.
    #[error("malformed public key: {0}")]
    Malformed(#[from] DerError),
    /// A key type that nothing here can verify with.
    #[error("unsupported key type {0}")]
    UnsupportedAlgorithm(String),
    /// An elliptic curve other than P-256, P-384 and P-521.
    #[error("unsupported elliptic curve {0}")]
    UnsupportedCurve(String),
    /// An RSA modulus outside of 1024 to 8192 bits.
    #[error("unsupported RSA key size of {0} bits")]
    UnsupportedRsaSize(usize),
    /// The point isn't on the curve, or the RSA numbers are no key.
    #[error("public key is not valid")]
    Invalid,
}
