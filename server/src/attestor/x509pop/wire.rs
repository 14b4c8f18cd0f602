//! The JSON that x509pop's two halves exchange: bytes are base64, and unknown members are ignored, as Go does both.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::Error;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// What an agent shows.
#[derive(Debug, Deserialize)]
pub(super) struct AttestationData {
    /// Leaf first.
    #[serde(default, alias = "Certificates")]
    pub(super) certificates: Vec<Bytes>,
}

/// What it has to sign. The unused member is `null`.
#[derive(Debug, Serialize)]
pub(super) struct Challenge {
    pub(super) rsa_signature: Option<Nonce>,
    pub(super) ecdsa_signature: Option<Nonce>,
}

/// The server's nonce.
#[derive(Debug, Serialize)]
pub(super) struct Nonce {
    nonce: Bytes,
}

impl Nonce {
    pub(super) fn new(nonce: &[u8]) -> Self {
        Self {
            nonce: Bytes(nonce.to_vec()),
        }
    }
}

/// The agent's answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Response {
    #[serde(default)]
    pub(super) rsa_signature: Option<RsaSignature>,
    #[serde(default)]
    pub(super) ecdsa_signature: Option<EcdsaSignature>,
}

impl Response {
    /// As Go reads it: `null` says nothing, and only an object says something.
    pub(super) fn parse(bytes: &[u8]) -> serde_json::Result<Self> {
        match serde_json::from_slice::<Option<serde_json::Map<String, serde_json::Value>>>(bytes)? {
            Some(members) => serde_json::from_value(members.into()),
            None => Ok(Self::default()),
        }
    }
}

/// RSASSA-PSS with SHA-256 over both nonces.
#[derive(Debug, Deserialize)]
pub(super) struct RsaSignature {
    pub(super) nonce: Bytes,
    pub(super) signature: Bytes,
}

/// ECDSA with SHA-256 over both nonces, as two big-endian numbers.
#[derive(Debug, Deserialize)]
pub(super) struct EcdsaSignature {
    pub(super) nonce: Bytes,
    pub(super) r: Bytes,
    pub(super) s: Bytes,
}

/// Bytes as base64 text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bytes(pub(super) Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        STANDARD
            .decode(text.as_bytes())
            .map(Self)
            .map_err(D::Error::custom)
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(&self.0))
    }
}
