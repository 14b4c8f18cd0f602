//! Certificates, keys and tokens as what their profile says.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value, json};
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::asn1_rs::FromDer;
use x509_parser::prelude::X509Certificate;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::normal::{Normal, time};

/// The profile of certificates one after the other, of a public key or of a private one.
pub(super) fn der(bytes: &[u8], normal: &mut Normal) -> Option<Value> {
    if let Ok((rest, _)) = SubjectPublicKeyInfo::from_der(bytes)
        && rest.is_empty()
    {
        return Some(public_key(bytes, normal));
    }
    let mut certificates = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (more, certificate) = X509Certificate::from_der(rest).ok()?;
        certificates.push(profile(&certificate, normal));
        rest = more;
    }
    match certificates.len() {
        1 => certificates.pop(),
        _ => Some(Value::from(certificates)),
    }
}

fn public_key(spki: &[u8], normal: &mut Normal) -> Value {
    let Ok((_, key)) = SubjectPublicKeyInfo::from_der(spki) else {
        return Value::Null;
    };
    let curve = key
        .algorithm
        .parameters
        .as_ref()
        .and_then(|any| any.as_oid().ok())
        .map(|oid| oid.to_id_string());
    let symbol = normal.symbol("key", &hex(&key.subject_public_key.data));
    json!({
        "key": symbol,
        "algorithm": key.algorithm.algorithm.to_id_string(),
        "curve": curve,
        "bytes": spki.len(),
    })
}

fn profile(certificate: &X509Certificate<'_>, normal: &mut Normal) -> Value {
    let serial = certificate.raw_serial();
    // A random number has its leading byte small now and then.
    let serial = match serial.len() {
        0..=12 => json!(hex(serial)),
        13..=17 => json!(format!(
            "{}(random)",
            if serial.first() >= Some(&0x80) { "-" } else { "" }
        )),
        length => json!(format!("{length} bytes")),
    };
    let mut extensions = Map::new();
    for extension in certificate.extensions() {
        let critical = if extension.critical { " critical" } else { "" };
        let name = format!("{}{critical}", extension.oid.to_id_string());
        extensions.insert(
            name,
            parsed(extension.parsed_extension(), extension.value, normal),
        );
    }
    json!({
        "version": certificate.version().0,
        "serial": serial,
        "signature": certificate.signature_algorithm.algorithm.to_id_string(),
        "issuer": normal.text(&certificate.issuer().to_string()),
        "subject": normal.text(&certificate.subject().to_string()),
        "not_before": time(certificate.validity().not_before.timestamp()),
        "not_after": time(certificate.validity().not_after.timestamp()),
        "public_key": public_key(certificate.public_key().raw, normal),
        "extensions": extensions,
    })
}

fn parsed(extension: &ParsedExtension<'_>, raw: &[u8], normal: &mut Normal) -> Value {
    match extension {
        ParsedExtension::SubjectKeyIdentifier(id) => json!(normal.symbol("fingerprint", &hex(id.0))),
        ParsedExtension::AuthorityKeyIdentifier(id) => {
            let id = id.key_identifier.as_ref().map(|id| hex(id.0));
            json!(id.map(|id| normal.symbol("fingerprint", &id)))
        }
        ParsedExtension::SubjectAlternativeName(names) => names
            .general_names
            .iter()
            .map(|name| match name {
                GeneralName::URI(uri) => format!("URI:{uri}"),
                GeneralName::DNSName(name) => format!("DNS:{name}"),
                other => format!("{other:?}"),
            })
            .map(|name| normal.text(&name))
            .collect(),
        _ => json!(hex(raw)),
    }
}

/// Header and claims of a JWT.
pub(super) fn token(text: &str, normal: &mut Normal) -> Option<Value> {
    let mut parts = text.split('.');
    let (header, claims, signature) = (parts.next()?, parts.next()?, parts.next()?);
    if parts.next().is_some() || !text.starts_with("eyJ") {
        return None;
    }
    let mut part = |text: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok()?;
        let value: Value = serde_json::from_slice(&bytes).ok()?;
        Some(normal.value("", value))
    };
    Some(json!({
        "header": part(header)?,
        "claims": part(claims)?,
        "signature": URL_SAFE_NO_PAD.decode(signature).ok()?.len(),
    }))
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
