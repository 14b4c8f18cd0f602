//! JSON Web Keys (RFC 7517, 7518 section 6; RFC 8037): public keys only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::der::{self, DerError, Reader, Writer};
use crate::keys::{PublicKey, PublicKeyKind};
use crate::oid;

/// Members of private and symmetric keys: a document that has them was never meant to be published.
const PRIVATE_MEMBERS: [&str; 2] = ["d", "k"];

/// A key as it is published, its members in the order of Go's encoder.
#[derive(Debug, Serialize)]
pub(super) struct Jwk {
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub(super) key_use: Option<&'static str>,
    pub(super) kty: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) crv: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) x5c: Option<[String; 1]>,
}

impl Jwk {
    pub(super) fn new(key: &PublicKey) -> Option<Self> {
        let empty = Self {
            key_use: None,
            kty: "EC",
            kid: None,
            crv: None,
            x: None,
            y: None,
            n: None,
            e: None,
            x5c: None,
        };
        let bits = key.key_bits();
        let curve = match key.kind() {
            PublicKeyKind::EcP256 => "P-256",
            PublicKeyKind::EcP384 => "P-384",
            PublicKeyKind::EcP521 => "P-521",
            PublicKeyKind::Ed25519 => {
                return Some(Self {
                    kty: "OKP",
                    crv: Some("Ed25519"),
                    x: Some(encode(bits)),
                    ..empty
                });
            }
            PublicKeyKind::Rsa { .. } => {
                let mut reader = Reader::new(bits);
                let numbers = reader.sequence(|key| Ok::<_, DerError>((key.unsigned()?, key.unsigned()?)));
                let (n, e) = numbers.ok()?;
                return Some(Self {
                    kty: "RSA",
                    n: Some(encode(n)),
                    e: Some(encode(e)),
                    ..empty
                });
            }
        };
        let (_, point) = bits.split_first()?;
        let (x, y) = point.split_at_checked(point.len() / 2)?;
        Some(Self {
            crv: Some(curve),
            x: Some(encode(x)),
            y: Some(encode(y)),
            ..empty
        })
    }
}

/// The public key of a JWK; `None` if its type, its curve or its numbers are none that can be used.
pub(super) fn public_key(jwk: &Map<String, Value>) -> Option<PublicKey> {
    if PRIVATE_MEMBERS.iter().any(|member| jwk.contains_key(*member)) {
        return None;
    }
    let bytes = |member: &str| URL_SAFE_NO_PAD.decode(jwk.get(member)?.as_str()?).ok();
    let text = |member: &str| jwk.get(member).and_then(Value::as_str);
    match text("kty")? {
        "EC" => {
            let (kind, size) = match text("crv")? {
                "P-256" => (PublicKeyKind::EcP256, 32),
                "P-384" => (PublicKeyKind::EcP384, 48),
                "P-521" => (PublicKeyKind::EcP521, 66),
                _ => return None,
            };
            let (x, y) = (bytes("x")?, bytes("y")?);
            if x.len() != size || y.len() != size {
                return None;
            }
            PublicKey::from_ec_point(kind, &[&[4][..], &x, &y].concat()).ok()
        }
        "RSA" => {
            let (n, e) = (bytes("n")?, bytes("e")?);
            let key = Writer::build(|w| {
                w.sequence(|w| {
                    w.unsigned(&n);
                    w.unsigned(&e);
                });
            });
            PublicKey::from_rsa_pkcs1(&key).ok()
        }
        "OKP" if text("crv") == Some("Ed25519") => {
            let point = bytes("x")?;
            let spki = Writer::build(|w| {
                w.nested(der::SEQUENCE, |w| {
                    w.sequence(|w| w.oid(oid::ED25519));
                    w.bit_string(&point);
                });
            });
            PublicKey::from_spki_der(&spki).ok()
        }
        _ => None,
    }
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
