//! Proves this host to the server.
//!
//! Owns what an attestor says; the exchange itself is `sync`'s. Never keeps a secret longer than one attempt.

mod x509pop;

use std::fmt;
use std::path::PathBuf;

pub use x509pop::X509Pop;

/// Why this host couldn't make its proof.
#[derive(Debug, thiserror::Error)]
pub enum NodeAttestorError {
    /// A file of the attestor's can't be read.
    #[error("unable to read {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file of the attestor's doesn't hold what it should.
    #[error("{} holds no usable {what}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What is wrong, if a parser said so.
        #[source]
        source: Option<Box<dyn std::error::Error + Send + Sync>>,
    },
    /// The certificate isn't the key's.
    #[error("private key does not match the certificate in {}", certificate.display())]
    KeyMismatch {
        /// The certificate's file.
        certificate: PathBuf,
    },
    /// No join token was configured, and no live SVID saved.
    #[error("join token was not provided")]
    NoToken,
    /// The server's challenge can't be answered.
    #[error("unable to answer the challenge: {0}")]
    Challenge(String),
}

/// A way to prove a host. One attempt may take several exchanges.
pub trait NodeAttestor: Send + Sync + fmt::Debug {
    /// The name by which the server knows the method.
    fn attestation_type(&self) -> &'static str;

    /// Whether a node that has attested may attest again, as far as it is for the method.
    fn is_repeatable(&self) -> bool;

    /// Begins an attempt, with files read afresh.
    ///
    /// # Errors
    /// [`NodeAttestorError`] when the proof can't be made here; nothing was sent then.
    fn begin(&self) -> Result<Box<dyn Attempt>, NodeAttestorError>;
}

/// One attempt to prove the host.
pub trait Attempt: Send {
    /// What opens the exchange.
    fn payload(&self) -> Vec<u8>;

    /// Answers a challenge of the server's.
    ///
    /// # Errors
    /// [`NodeAttestorError::Challenge`] when the method has no answer to it.
    fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, NodeAttestorError>;
}

/// A token that the server made for this host. It can be used once; the server has no challenge.
#[derive(Clone)]
pub struct JoinToken(String);

impl JoinToken {
    /// The attestor that shows this token.
    pub fn new(token: String) -> Self {
        Self(token)
    }
}

impl NodeAttestor for JoinToken {
    fn attestation_type(&self) -> &'static str {
        "join_token"
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    fn begin(&self) -> Result<Box<dyn Attempt>, NodeAttestorError> {
        Ok(Box::new(self.clone()))
    }
}

impl Attempt for JoinToken {
    fn payload(&self) -> Vec<u8> {
        self.0.clone().into_bytes()
    }

    fn respond(&mut self, _challenge: &[u8]) -> Result<Vec<u8>, NodeAttestorError> {
        Err(NodeAttestorError::Challenge(
            "a join token has no answer to a challenge".to_owned(),
        ))
    }
}

/// Stands where a join token would: an agent whose SVID was saved needs none.
#[derive(Debug, Clone, Copy)]
pub struct NoJoinToken;

impl NodeAttestor for NoJoinToken {
    fn attestation_type(&self) -> &'static str {
        "join_token"
    }

    fn is_repeatable(&self) -> bool {
        false
    }

    fn begin(&self) -> Result<Box<dyn Attempt>, NodeAttestorError> {
        Err(NodeAttestorError::NoToken)
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(…)")
    }
}
