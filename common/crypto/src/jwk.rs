//! JSON Web Keys (RFC 7517, 7518 section 6; RFC 8037): public keys, and the private key that a workload gets beside its
//! WIT-SVID.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::der::{self, DerError, Reader, Writer};
use crate::keys::{PrivateKey, PublicKey, PublicKeyKind, Signer as _};
use crate::oid;

/// Members of private and symmetric keys: a document that has them was never meant to be published.
pub(crate) const PRIVATE_MEMBERS: [&str; 2] = ["d", "k"];

/// A key as it is published, its members in the order of Go's encoder.
#[derive(Debug, Serialize)]
pub(crate) struct Jwk {
    #[serde(rename = "use", skip_serializing_if = "Option::is_none")]
    pub(crate) key_use: Option<&'static str>,
    pub(crate) kty: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) kid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) crv: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) x: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) y: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) n: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) e: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) x5c: Option<[String; 1]>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) alg: Option<&'static str>,
}

impl Jwk {
    pub(crate) fn new(key: &PublicKey) -> Option<Self> {
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
            alg: None,
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
pub(crate) fn public_key(jwk: &Map<String, Value>) -> Option<PublicKey> {
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

/// The private members of a JWK, erased when dropped (RFC 7518, 6.2.2 and 6.3.2).
#[derive(Serialize)]
struct PrivateMembers {
    #[serde(serialize_with = "text")]
    d: Zeroizing<String>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
    p: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
    q: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
    dp: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
    dq: Option<Zeroizing<String>>,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "optional_text")]
    qi: Option<Zeroizing<String>>,
}

fn text<S: Serializer>(secret: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(secret)
}

fn optional_text<S: Serializer>(
    secret: &Option<Zeroizing<String>>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    secret
        .as_ref()
        .map(|secret| secret.as_str())
        .serialize(serializer)
}

/// A private key as the text of a JWK, with the algorithm that it signs proofs with. `None` if its PKCS#8 form isn't one of
/// the two that are generated here.
pub fn private_jwk(key: &PrivateKey) -> Option<Zeroizing<String>> {
    #[derive(Serialize)]
    struct Whole {
        #[serde(flatten)]
        public: Jwk,
        #[serde(flatten)]
        private: PrivateMembers,
    }
    let public = Jwk {
        alg: Some(key.key_type().jws_algorithm()),
        ..Jwk::new(key.public_key())?
    };
    let private = private_members(key.pkcs8_der(), public.kty).ok()?;
    let whole = Whole { public, private };
    Some(Zeroizing::new(serde_json::to_string(&whole).ok()?))
}

/// PKCS#8 (RFC 5208): version, algorithm, and the key: `ECPrivateKey` (RFC 5915) or `RSAPrivateKey` (RFC 8017, A.1.2).
fn private_members(pkcs8: &[u8], kty: &str) -> Result<PrivateMembers, DerError> {
    let secret = |bytes: &[u8]| Zeroizing::new(encode(bytes));
    Reader::new(pkcs8).sequence(|info| {
        info.any()?;
        info.element(der::SEQUENCE)?;
        let mut inner = Reader::new(info.content(der::OCTET_STRING)?);
        while !info.is_empty() {
            info.any()?;
        }
        inner.sequence(|key| {
            key.any()?;
            if kty == "EC" {
                let d = secret(key.content(der::OCTET_STRING)?);
                while !key.is_empty() {
                    key.any()?;
                }
                return Ok(PrivateMembers {
                    d,
                    p: None,
                    q: None,
                    dp: None,
                    dq: None,
                    qi: None,
                });
            }
            let mut number = || key.unsigned().map(secret);
            let (_n, _e) = (number()?, number()?);
            Ok(PrivateMembers {
                d: number()?,
                p: Some(number()?),
                q: Some(number()?),
                dp: Some(number()?),
                dq: Some(number()?),
                qi: Some(number()?),
            })
        })
    })
}

fn encode(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
