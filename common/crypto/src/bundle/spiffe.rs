//! SPIFFE bundle documents and JWK Sets.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use credence_identity::{Bundle, JwtAuthority, TrustDomain};
use serde::Serialize;
use serde_json::{Map, Value};

use super::{BundleError, push_unique};
use crate::json;
use crate::jwk::{self, Jwk};
use crate::keys::{PublicKey, PublicKeyKind};
use crate::x509::Certificate;

const USE_X509: &str = "x509-svid";
const USE_JWT: &str = "jwt-svid";
const USE_WIT: &str = "wit-svid";

/// Parses a SPIFFE bundle document (Trust Domain and Bundle, section 4). The trust domain isn't in it: whoever fetched it
/// knows whose it is. Entries of unknown type or use are skipped, and an empty or useless list is a bundle that trusts
/// nothing. A `kid` names one key of the document: a WIT authority whose `kid` is taken is skipped (WIT-SVID, 6.1).
pub fn parse_spiffe(trust_domain: &TrustDomain, document: &[u8]) -> Result<Bundle, BundleError> {
    from_object(trust_domain, &parse_object(document)?)
}

/// The bundle in a document that was read.
pub(super) fn from_object(
    trust_domain: &TrustDomain,
    document: &Map<String, Value>,
) -> Result<Bundle, BundleError> {
    let mut bundle = Bundle::empty(trust_domain.clone());
    if let Some(sequence) = document.get("spiffe_sequence") {
        bundle.sequence_number = sequence.as_u64().ok_or(BundleError::BadSequence)?;
    }
    if let Some(hint) = document.get("spiffe_refresh_hint") {
        bundle.refresh_hint = Some(Duration::from_secs(
            hint.as_u64().ok_or(BundleError::BadRefreshHint)?,
        ));
    }
    for entry in keys(document)? {
        match entry.get("use").and_then(Value::as_str) {
            Some(USE_X509) => {
                if let Some(der) = x509_entry(entry) {
                    push_unique(&mut bundle.x509_authorities, der);
                }
            }
            Some(USE_JWT) => {
                if let (Some(kid), Some(key)) = (key_id(entry), jwt_key(entry)) {
                    push_jwt(&mut bundle.jwt_authorities, jwt_authority(kid, &key));
                }
            }
            Some(USE_WIT) => {
                if let (Some(kid), Some(key)) = (key_id(entry), jwt_key(entry)) {
                    push_jwt(&mut bundle.wit_authorities, jwt_authority(kid, &key));
                }
            }
            _ => {}
        }
    }
    let taken = |kid: &str| bundle.jwt_authorities.iter().any(|jwt| &*jwt.key_id == kid);
    bundle.wit_authorities.retain(|wit| !taken(&wit.key_id));
    Ok(bundle)
}

fn key_id(entry: &Map<String, Value>) -> Option<&str> {
    entry
        .get("kid")
        .and_then(Value::as_str)
        .filter(|kid| !kid.is_empty())
}

/// Parses a JWK Set of the Workload API: every key must be usable and have a `kid`, and `use` says nothing.
pub fn parse_jwks(document: &[u8]) -> Result<Vec<JwtAuthority>, BundleError> {
    let mut authorities = Vec::new();
    for (index, entry) in keys(&parse_object(document)?)?.into_iter().enumerate() {
        let kid = key_id(entry).ok_or(BundleError::MissingKeyId(index))?;
        let key = jwt_key(entry).ok_or(BundleError::BadKey(index))?;
        push_jwt(&mut authorities, jwt_authority(kid, &key));
    }
    Ok(authorities)
}

pub(super) fn parse_object(document: &[u8]) -> Result<Map<String, Value>, BundleError> {
    let object = json::object(document).map_err(|error| BundleError::NotABundle(error.to_string()))?;
    object.ok_or_else(|| BundleError::NotABundle("not a JSON object".to_owned()))
}

fn keys(document: &Map<String, Value>) -> Result<Vec<&Map<String, Value>>, BundleError> {
    match document.get("keys") {
        None | Some(Value::Null) => Err(BundleError::MissingKeys),
        Some(Value::Array(keys)) => keys
            .iter()
            .map(Value::as_object)
            .collect::<Option<_>>()
            .ok_or(BundleError::BadKeys),
        Some(_) => Err(BundleError::BadKeys),
    }
}

/// The first `x5c` value, if it is a CA certificate for the key beside it (X509-SVID, 6.2).
fn x509_entry(entry: &Map<String, Value>) -> Option<Arc<[u8]>> {
    let first = entry.get("x5c")?.as_array()?.first()?.as_str()?;
    let certificate = Certificate::from_der(&STANDARD.decode(first).ok()?).ok()?;
    let key = jwk::public_key(entry)?;
    (certificate.is_ca() && certificate.public_key() == &key).then(|| certificate.der().clone())
}

/// Keys that none of the nine algorithms can use are of no use.
fn jwt_key(entry: &Map<String, Value>) -> Option<PublicKey> {
    jwk::public_key(entry).filter(|key| key.kind() != PublicKeyKind::Ed25519)
}

fn jwt_authority(kid: &str, key: &PublicKey) -> JwtAuthority {
    JwtAuthority {
        key_id: kid.into(),
        public_key: key.spki_der().into(),
        expires_at: None,
        tainted: false,
    }
}

fn push_jwt(authorities: &mut Vec<JwtAuthority>, authority: JwtAuthority) {
    if !authorities.contains(&authority) {
        authorities.push(authority);
    }
}

#[derive(Serialize)]
struct Document {
    keys: Vec<Jwk>,
    #[serde(skip_serializing_if = "is_zero")]
    spiffe_sequence: u64,
    #[serde(skip_serializing_if = "is_zero")]
    spiffe_refresh_hint: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// The SPIFFE bundle document, indented by four spaces; sequence and hint are left out when zero, and the hint is rounded up
/// to seconds (as SPIRE does).
pub fn to_spiffe_json(bundle: &Bundle) -> String {
    let x509 = bundle.x509_authorities.iter().filter_map(|authority| {
        let certificate = Certificate::from_der(&authority.der).ok()?;
        let x5c = Some([STANDARD.encode(&authority.der)]);
        Some(Jwk {
            key_use: Some(USE_X509),
            x5c,
            ..Jwk::new(certificate.public_key())?
        })
    });
    let used = |key_use| {
        move |jwk| Jwk {
            key_use: Some(key_use),
            ..jwk
        }
    };
    let jwt = token_keys(&bundle.jwt_authorities).map(used(USE_JWT));
    let wit = token_keys(&bundle.wit_authorities).map(used(USE_WIT));
    let hint = bundle.refresh_hint.unwrap_or_default();
    let document = Document {
        keys: x509.chain(jwt).chain(wit).collect(),
        spiffe_sequence: bundle.sequence_number,
        spiffe_refresh_hint: hint.as_secs().saturating_add(u64::from(hint.subsec_nanos() > 0)),
    };
    indented(&document)
}

fn indented(document: &Document) -> String {
    let mut text = Vec::new();
    let formatter = serde_json::ser::PrettyFormatter::with_indent(b"    ");
    let written = document.serialize(&mut serde_json::Serializer::with_formatter(&mut text, formatter));
    debug_assert!(written.is_ok(), "a document of texts and numbers");
    String::from_utf8(text).unwrap_or_default()
}

/// Authorities of tokens as a plain JWK Set without `use`, indented, as SPIRE's Workload API has it: widespread libraries refuse a
/// `use` that they don't know.
pub fn to_jwks(authorities: &[JwtAuthority]) -> String {
    let document = Document {
        keys: token_keys(authorities).collect(),
        spiffe_sequence: 0,
        spiffe_refresh_hint: 0,
    };
    indented(&document)
}

fn token_keys(authorities: &[JwtAuthority]) -> impl Iterator<Item = Jwk> {
    authorities.iter().filter_map(|authority| {
        let key = PublicKey::from_spki_der(&authority.public_key).ok()?;
        Some(Jwk {
            kid: Some(authority.key_id.to_string()),
            ..Jwk::new(&key)?
        })
    })
}
