use std::collections::BTreeMap;

use credence_crypto::{KeyType, PrivateKey, Signer as _, csr};
use proptest::prelude::*;
use prost_types::Value;

use super::*;
use crate::cache::testing::trust_domain;

pub(crate) fn id(text: &str) -> SpiffeId {
    SpiffeId::parse(&format!("spiffe://example.org{text}")).unwrap()
}

/// A CSR for `key` that names `id`, as ztunnel and istio-agent make it.
pub(crate) fn csr_of(key: &PrivateKey, id: Option<&SpiffeId>) -> String {
    let der = csr::create(key, id, &[]).unwrap();
    pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der))
}

/// The request's metadata with one field.
pub(crate) fn field(name: &str, kind: Kind) -> Option<Struct> {
    let value = Value { kind: Some(kind) };
    Some(Struct {
        fields: BTreeMap::from([(name.to_owned(), value)]),
    })
}

pub(crate) fn impersonating(id: &SpiffeId) -> Option<Struct> {
    field(IMPERSONATED, Kind::StringValue(id.to_string()))
}

pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate(KeyType::EcP256).unwrap()
}

fn read(csr: &str, metadata: Option<Struct>) -> Result<Asked, Malformed> {
    let request = IstioCertificateRequest {
        csr: csr.to_owned(),
        validity_duration: -1,
        metadata,
    };
    Asked::read(&request, &id("/ns/shop/sa/own"), &trust_domain())
}

#[test]
fn the_identity_is_the_impersonated_one_or_the_one_of_the_csr_or_the_callers_own() {
    let (key, web) = (key(), id("/ns/shop/sa/web"));
    let (named, unnamed) = (csr_of(&key, Some(&web)), csr_of(&key, None));
    let empty = field(IMPERSONATED, Kind::StringValue(String::new()));
    let no_signer = field(SIGNER, Kind::StringValue(String::new()));
    let own = id("/ns/shop/sa/own");
    for (csr, metadata, expected) in [
        (&named, impersonating(&web), &web),
        (&unnamed, impersonating(&web), &web),
        (&named, None, &web),
        (&named, empty.clone(), &web),
        (&named, no_signer, &web),
        (&unnamed, None, &own),
        (&unnamed, empty, &own),
    ] {
        let asked = read(csr, metadata).unwrap();
        assert_eq!(asked.id, *expected);
        assert_eq!(asked.key, *key.public_key());
    }
}

#[test]
fn what_makes_no_sense_is_refused() {
    let (key, web) = (key(), id("/ns/shop/sa/web"));
    let good = csr_of(&key, Some(&web));
    let other = Malformed::OtherId {
        csr: web.clone(),
        asked: id("/ns/shop/sa/db"),
    };
    assert_eq!(
        read(&good, impersonating(&id("/ns/shop/sa/db"))).unwrap_err(),
        other
    );
    let number = field(IMPERSONATED, Kind::NumberValue(1.0));
    assert_eq!(read(&good, number).unwrap_err(), Malformed::Field(IMPERSONATED));
    let signer = field(SIGNER, Kind::StringValue("acme".into()));
    assert_eq!(read(&good, signer).unwrap_err(), Malformed::Signer("acme".into()));
    let nonsense = field(IMPERSONATED, Kind::StringValue("web".into()));
    assert!(matches!(read(&good, nonsense).unwrap_err(), Malformed::Id(_)));

    let certificate = good.replace("CERTIFICATE REQUEST", "CERTIFICATE");
    for not_one_block in ["", "x", &certificate, &format!("{good}{good}")] {
        assert_eq!(read(not_one_block, None).unwrap_err(), Malformed::Pem);
    }
    let mut der = csr::create(&key, Some(&web), &[]).unwrap();
    *der.last_mut().unwrap() ^= 1;
    let forged = pem::encode(&pem::Pem::new("CERTIFICATE REQUEST", der));
    assert!(matches!(read(&forged, None).unwrap_err(), Malformed::Csr(_)));
}

#[test]
fn only_identities_of_namespaces_and_service_accounts_are_istios() {
    let key = key();
    for path in ["/ns/shop/sa/web", "/ns/a.b/sa/c-d"] {
        assert!(read(&csr_of(&key, Some(&id(path))), None).is_ok(), "{path}");
    }
    let foreign = SpiffeId::parse("spiffe://other.org/ns/shop/sa/web").unwrap();
    let odd = [
        "",
        "/web",
        "/ns/shop",
        "/ns/shop/sa",
        "/sa/web/ns/shop",
        "/ns/shop/sa/web/x",
        "/spire/agent/x/y",
    ];
    for other in odd.map(id).into_iter().chain([foreign]) {
        let refused = read(&csr_of(&key, Some(&other)), None).unwrap_err();
        assert_eq!(refused, Malformed::Form(other, trust_domain()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever is put in the place of a part of a good request, what is understood is signed by its own key and of Istio's
    /// form; nothing panics.
    #[test]
    fn strangers_texts_never_break_the_reading(
        at in 0_usize..400,
        length in 0_usize..40,
        instead in ".{0,40}",
        field_text in "(spiffe://example.org/ns/[a-z./]{0,9}/sa/[a-z]{0,3}|.{0,30})",
    ) {
        let good = csr_of(&key(), Some(&id("/ns/shop/sa/web")));
        let (start, end) = (at.min(good.len()), (at + length).min(good.len()));
        let (before, after) = (good.get(..start).unwrap(), good.get(end..).unwrap());
        let spoiled = format!("{before}{instead}{after}");
        for csr in [&spoiled, &good] {
            if let Ok(asked) = read(csr, field(IMPERSONATED, Kind::StringValue(field_text.clone()))) {
                prop_assert!(has_form(asked.id.path()) && asked.id.is_member_of(&trust_domain()));
                let again = VerifiedCsr::from_der(&asked.csr).unwrap();
                prop_assert_eq!(again.public_key(), &asked.key);
            }
        }
    }
}
