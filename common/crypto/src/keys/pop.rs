//! Proof of possession as node attestor `x509pop` has it: the peer signs the SHA-256 of both nonces.

use super::signature::verify_pss_longest_salt;
use super::{Hash, KeyType, PrivateKey, PublicKey, PublicKeyKind, SignatureAlgorithm, SignatureForm};
use super::{SignError, Signer, VerifyError};
use crate::der::{self, Writer};

/// A proof: RSASSA-PSS with SHA-256, or ECDSA's two numbers over SHA-256, big-endian.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PopSignature {
    /// By an RSA key.
    Rsa(Vec<u8>),
    /// By an EC key of any supported curve.
    Ecdsa {
        /// The number r.
        r: Vec<u8>,
        /// The number s.
        s: Vec<u8>,
    },
}

impl PrivateKey {
    /// Signs `message` (both nonces in a row) for x509pop.
    pub fn prove_possession(&self, message: &[u8]) -> Result<PopSignature, SignError> {
        match self.key_type() {
            KeyType::Rsa2048 | KeyType::Rsa4096 => Ok(PopSignature::Rsa(self.sign_pss(message)?)),
            KeyType::EcP256 | KeyType::EcP384 => {
                let both = self.sign_ecdsa_sha256(message)?;
                let (r, s) = both.split_at(both.len() / 2);
                Ok(PopSignature::Ecdsa {
                    r: r.to_vec(),
                    s: s.to_vec(),
                })
            }
        }
    }
}

impl PublicKey {
    /// Whether this key can be asked for a proof, and if so, whether for the RSA form of it.
    pub fn pop_is_rsa(&self) -> Option<bool> {
        match self.kind() {
            PublicKeyKind::Rsa { .. } => Some(true),
            PublicKeyKind::EcP256 | PublicKeyKind::EcP384 | PublicKeyKind::EcP521 => Some(false),
            PublicKeyKind::Ed25519 => None,
        }
    }

    /// Checks a proof over `message` (both nonces in a row). An RSA proof has a salt of the hash's size, as ours do, or the
    /// longest there can be, as those of SPIRE's agents do.
    pub fn verify_possession(&self, message: &[u8], proof: &PopSignature) -> Result<(), VerifyError> {
        match proof {
            PopSignature::Rsa(signature) => self
                .verify(
                    SignatureAlgorithm::RsaPss(Hash::Sha256),
                    SignatureForm::X509,
                    message,
                    signature,
                )
                .or_else(|fault| match fault {
                    VerifyError::BadSignature => verify_pss_longest_salt(self.key_bits(), message, signature),
                    other => Err(other),
                }),
            PopSignature::Ecdsa { r, s } => {
                // Longer numbers can't be valid; the bound keeps a peer from sending megabytes through the writer.
                if r.len() > 66 || s.len() > 66 {
                    return Err(VerifyError::BadSignature);
                }
                let signature = Writer::build(|w| {
                    w.nested(der::SEQUENCE, |w| {
                        w.unsigned(r);
                        w.unsigned(s);
                    });
                });
                self.verify(
                    SignatureAlgorithm::Ecdsa(Hash::Sha256),
                    SignatureForm::X509,
                    message,
                    &signature,
                )
            }
        }
    }
}
