//! Node attestor `x509pop`: the host holds the key of a certificate that the server's operator trusts.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use credence_crypto::x509::Certificate;
use credence_crypto::{PopSignature, PrivateKey, Signer};
use serde::{Deserialize, Serialize};

use super::{Attempt, NodeAttestor, NodeAttestorError};

const NONCE_BYTES: usize = 32;

/// The files of the attestor, read afresh for each attempt, so that they can be replaced while the agent runs.
#[derive(Debug, Clone)]
pub struct X509Pop {
    /// PEM: the key of the certificate.
    pub private_key_path: PathBuf,
    /// PEM: the certificate, intermediates may follow it.
    pub certificate_path: PathBuf,
    /// PEM: further intermediates.
    pub intermediates_path: Option<PathBuf>,
}

struct PopAttempt {
    key: PrivateKey,
    certificates: Vec<Vec<u8>>,
}

#[derive(Serialize)]
struct Payload {
    certificates: Vec<String>,
}

#[derive(Deserialize)]
struct Challenge {
    rsa_signature: Option<Nonce>,
    ecdsa_signature: Option<Nonce>,
}

#[derive(Deserialize)]
struct Nonce {
    nonce: String,
}

#[derive(Serialize, Default)]
struct Response {
    rsa_signature: Option<RsaResponse>,
    ecdsa_signature: Option<EcdsaResponse>,
}

#[derive(Serialize)]
struct RsaResponse {
    nonce: String,
    signature: String,
}

#[derive(Serialize)]
struct EcdsaResponse {
    nonce: String,
    r: String,
    s: String,
}

impl X509Pop {
    /// Reads key and chain, and checks that they belong together.
    fn load(&self) -> Result<PopAttempt, NodeAttestorError> {
        let key = PrivateKey::from_pem(&read(&self.private_key_path)?)
            .map_err(|source| unusable(&self.private_key_path, "private key", Some(Box::new(source))))?;
        let mut certificates = read_certificates(&self.certificate_path)?;
        if let Some(path) = &self.intermediates_path {
            certificates.extend(read_certificates(path)?);
        }
        let leaf = certificates.first().map(|der| Certificate::from_der(der));
        let leaf = match leaf {
            Some(Ok(leaf)) => leaf,
            Some(Err(error)) => {
                return Err(unusable(
                    &self.certificate_path,
                    "certificate",
                    Some(Box::new(error)),
                ));
            }
            None => return Err(unusable(&self.certificate_path, "certificate", None)),
        };
        if leaf.public_key() != key.public_key() {
            return Err(NodeAttestorError::KeyMismatch {
                certificate: self.certificate_path.clone(),
            });
        }
        Ok(PopAttempt { key, certificates })
    }
}

impl NodeAttestor for X509Pop {
    fn attestation_type(&self) -> &'static str {
        "x509pop"
    }

    fn is_repeatable(&self) -> bool {
        true
    }

    fn begin(&self) -> Result<Box<dyn Attempt>, NodeAttestorError> {
        Ok(Box::new(self.load()?))
    }
}

impl Attempt for PopAttempt {
    fn payload(&self) -> Vec<u8> {
        let certificates = self.certificates.iter().map(|der| STANDARD.encode(der)).collect();
        json(&Payload { certificates })
    }

    fn respond(&mut self, challenge: &[u8]) -> Result<Vec<u8>, NodeAttestorError> {
        let failed = |what: &str| NodeAttestorError::Challenge(what.to_owned());
        let challenge: Challenge =
            serde_json::from_slice(challenge).map_err(|_| failed("it is not the JSON of x509pop"))?;
        let ours = credence_crypto::digest::random_bytes::<NONCE_BYTES>()
            .map_err(|error| NodeAttestorError::Challenge(error.to_string()))?;
        let is_rsa = self.key.public_key().pop_is_rsa() == Some(true);
        let theirs = if is_rsa {
            challenge.rsa_signature
        } else {
            challenge.ecdsa_signature
        };
        let theirs = theirs.ok_or_else(|| failed("it is meant for another type of key"))?;
        let theirs = STANDARD
            .decode(theirs.nonce)
            .map_err(|_| failed("its nonce is not base64"))?;
        // With a nonce of another length the server could choose where its part of the signed text ends.
        if theirs.len() != NONCE_BYTES {
            return Err(failed("its nonce is not 32 bytes long"));
        }
        let nonce = STANDARD.encode(ours);
        let proof = self
            .key
            .prove_possession(&[theirs.as_slice(), &ours].concat())
            .map_err(|error| NodeAttestorError::Challenge(error.to_string()))?;
        Ok(json(&match proof {
            PopSignature::Rsa(signature) => Response {
                rsa_signature: Some(RsaResponse {
                    nonce,
                    signature: STANDARD.encode(signature),
                }),
                ..Response::default()
            },
            PopSignature::Ecdsa { r, s } => Response {
                ecdsa_signature: Some(EcdsaResponse {
                    nonce,
                    r: STANDARD.encode(r),
                    s: STANDARD.encode(s),
                }),
                ..Response::default()
            },
        }))
    }
}

fn json(value: &impl Serialize) -> Vec<u8> {
    // Text and lists of text always have a JSON form; an empty payload would be refused by the server.
    serde_json::to_vec(value).unwrap_or_default()
}

fn read(path: &Path) -> Result<String, NodeAttestorError> {
    fs::read_to_string(path).map_err(|source| NodeAttestorError::Read {
        path: path.to_owned(),
        source,
    })
}

fn read_certificates(path: &Path) -> Result<Vec<Vec<u8>>, NodeAttestorError> {
    let blocks = pem::parse_many(read(path)?)
        .map_err(|source| unusable(path, "certificate", Some(Box::new(source))))?;
    let certificates = blocks.into_iter().filter(|block| block.tag() == "CERTIFICATE");
    Ok(certificates.map(pem::Pem::into_contents).collect())
}

fn unusable(
    path: &Path,
    what: &'static str,
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
) -> NodeAttestorError {
    NodeAttestorError::Unusable {
        path: path.to_owned(),
        what,
        source,
    }
}

#[cfg(test)]
mod tests;
