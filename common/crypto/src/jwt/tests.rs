//! Tokens of our own and tokens made by hand, one fault each.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credence_identity::{Bundle, JwtAuthority};
use serde_json::json;

use super::*;
use crate::keys::{KeyType, PrivateKey, SignatureForm, Signer};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

fn id() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/workload").unwrap()
}

struct Issuer {
    signer: Arc<dyn Signer>,
    key: JwtKey,
    bundle: Arc<Bundle>,
}

impl Issuer {
    fn new(key_type: KeyType) -> Self {
        let signer: Arc<dyn Signer> = Arc::new(PrivateKey::generate(key_type).unwrap());
        let key = JwtKey::new("kid1", signer.clone(), NOW + Duration::from_secs(3600)).unwrap();
        let mut bundle = Bundle::empty(id().trust_domain());
        bundle.jwt_authorities.push(JwtAuthority {
            key_id: "kid1".into(),
            public_key: signer.public_key().spki_der().into(),
            expires_at: None,
            tainted: false,
        });
        Self {
            signer,
            key,
            bundle: Arc::new(bundle),
        }
    }

    fn sign(&self, seconds: u64) -> SignedJwt {
        let claims = JwtClaims {
            sub: &id(),
            aud: &["audience".to_owned(), String::new()],
            iat: NOW,
            exp: NOW + Duration::from_secs(seconds),
            iss: Some("https://issuer.example"),
            jti: None,
        };
        sign_svid(&self.key, &claims).unwrap()
    }

    /// A token with whatever claims, rightly signed.
    fn forge(&self, claims: &str) -> String {
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"kid1","typ":"JWT"}"#);
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature = self.signer.sign(signed.as_bytes(), SignatureForm::Jose).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    fn verify_at(&self, token: &str, audience: &[&str], now: Timestamp) -> Result<JwtSvid, JwtError> {
        verify(token, audience, |_| Some(self.bundle.clone()), now)
    }

    fn verdict(&self, claims: &Value) -> Result<(), JwtError> {
        self.verify_at(&self.forge(&claims.to_string()), &["audience"], NOW)
            .map(|_| ())
    }
}

fn claims(more: &Value) -> Value {
    let mut claims = json!({"sub": id().as_str(), "aud": "audience", "exp": NOW.unix_seconds() + 300});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// Conforms: JWS-02, JWS-05, JWS-32
#[test]
fn what_is_signed_verifies_for_every_key_type() {
    for (key_type, algorithm) in [
        (KeyType::EcP256, "ES256"),
        (KeyType::EcP384, "ES384"),
        (KeyType::Rsa2048, "RS256"),
    ] {
        let issuer = Issuer::new(key_type);
        let signed = issuer.sign(300);
        let svid = issuer
            .verify_at(&signed.token, &["other", "audience"], NOW)
            .unwrap();
        assert_eq!((svid.id, svid.expires_at), (id(), signed.expires_at));
        assert_eq!(svid.issued_at, Some(NOW));
        assert_eq!(svid.audience, ["audience"]);
        assert_eq!(svid.claims["iss"], "https://issuer.example");
        assert!(!svid.claims.contains_key("jti") && !svid.claims.contains_key("nbf"));
        let header = URL_SAFE_NO_PAD
            .decode(signed.token.split('.').next().unwrap())
            .unwrap();
        let header: Value = serde_json::from_slice(&header).unwrap();
        assert_eq!(header, json!({"alg": algorithm, "kid": "kid1", "typ": "JWT"}));
    }
}

/// A trap of libraries: a library accepts a missing `aud` although an audience was set, unless `aud` is required besides.
/// Conforms: JWS-12, JWS-13
#[test]
fn missing_audience_is_refused_whatever_is_expected() {
    let issuer = Issuer::new(KeyType::EcP256);
    let mut without = claims(&json!({}));
    without.as_object_mut().unwrap().remove("aud");
    let token = issuer.forge(&without.to_string());
    for expected in [&[][..], &["audience"]] {
        let refused = issuer.verify_at(&token, expected, NOW);
        assert!(matches!(refused, Err(JwtError::InvalidAudience { .. })));
    }
    for audience in [
        json!([]),
        json!(""),
        json!([""]),
        Value::Null,
        json!("Audience"),
        json!(["a,audience"]),
    ] {
        let refused = issuer.verdict(&claims(&json!({"aud": audience})));
        assert!(
            matches!(refused, Err(JwtError::InvalidAudience { .. })),
            "{audience}"
        );
    }
}

/// A trap of libraries: a library doesn't look at `nbf`.
/// Conforms: JWS-19
#[test]
fn not_before_is_checked() {
    let issuer = Issuer::new(KeyType::EcP256);
    let verdict = |offset: i64| issuer.verdict(&claims(&json!({"nbf": NOW.unix_seconds() + offset})));
    assert_eq!(verdict(60), Ok(()));
    assert_eq!(verdict(61), Err(JwtError::NotYetValid));
}

/// A trap of libraries: a library's leeway is a default. Ours is said once, and holds on both sides.
/// Conforms: JWS-18, JWS-31
#[test]
fn leeway_is_sixty_seconds() {
    let issuer = Issuer::new(KeyType::EcP256);
    let expired = |offset: i64| issuer.verdict(&claims(&json!({"exp": NOW.unix_seconds() + offset})));
    assert_eq!(expired(-59), Ok(()));
    assert_eq!(expired(-60), Err(JwtError::Expired));
    let issued = |offset: i64| issuer.verdict(&claims(&json!({"iat": NOW.unix_seconds() + offset})));
    assert_eq!(issued(60), Ok(()));
    assert_eq!(issued(61), Err(JwtError::IssuedInFuture));
}

/// A trap of libraries: a library publishes a key without the `kid` that its tokens name.
/// Conforms: JWS-25
#[test]
fn the_published_key_has_the_kid_of_the_token() {
    let issuer = Issuer::new(KeyType::EcP256);
    let published =
        crate::bundle::parse_jwks(crate::bundle::to_jwks(&issuer.bundle.jwt_authorities).as_bytes()).unwrap();
    let mut bundle = Bundle::empty(id().trust_domain());
    bundle.jwt_authorities = published;
    verify(
        &issuer.sign(300).token,
        &["audience"],
        |_| Some(Arc::new(bundle)),
        NOW,
    )
    .unwrap();
}

/// Conforms: JWS-24, JWS-27
#[test]
fn the_bundle_is_that_of_the_subject() {
    let issuer = Issuer::new(KeyType::EcP256);
    let token = issuer.sign(300).token;
    let asked = std::cell::RefCell::new(None);
    let refused = verify(
        &token,
        &["audience"],
        |wanted| {
            asked.replace(Some(wanted.clone()));
            None
        },
        NOW,
    );
    assert_eq!(refused.unwrap_err(), JwtError::NoBundle(id().trust_domain()));
    assert_eq!(asked.into_inner(), Some(id().trust_domain()));
    let empty = Arc::new(Bundle::empty(id().trust_domain()));
    let refused = verify(&token, &["audience"], |_| Some(empty), NOW);
    assert!(matches!(refused, Err(JwtError::AuthorityNotFound { .. })));
}

#[test]
fn of_several_keys_with_one_kid_one_must_fit() {
    let (one, other) = (Issuer::new(KeyType::EcP256), Issuer::new(KeyType::EcP256));
    let mut both = (*other.bundle).clone();
    both.jwt_authorities
        .extend(one.bundle.jwt_authorities.iter().cloned());
    let token = one.sign(300).token;
    assert!(verify(&token, &["audience"], |_| Some(Arc::new(both)), NOW).is_ok());
    let refused = verify(&token, &["audience"], |_| Some(other.bundle), NOW);
    assert_eq!(refused.unwrap_err(), JwtError::BadSignature);
}

#[test]
fn a_key_whose_time_is_over_verifies_nothing() {
    let issuer = Issuer::new(KeyType::EcP256);
    let token = issuer.sign(300).token;
    let verdict = |end: Timestamp| {
        let mut bundle = (*issuer.bundle).clone();
        bundle.jwt_authorities[0].expires_at = Some(end);
        verify(&token, &["audience"], |_| Some(Arc::new(bundle)), NOW).map(|_| ())
    };
    assert_eq!(verdict(NOW), Ok(()));
    assert!(matches!(
        verdict(NOW - LEEWAY),
        Err(JwtError::AuthorityNotFound { .. })
    ));
}

/// Conforms: JWS-33
#[test]
fn repeated_members_are_refused() {
    let issuer = Issuer::new(KeyType::EcP256);
    let text = claims(&json!({})).to_string();
    let twice = format!(
        "{},\"sub\":\"spiffe://example.org/admin\"}}",
        text.trim_end_matches('}')
    );
    let refused = issuer.verify_at(&issuer.forge(&twice), &["audience"], NOW);
    assert_eq!(refused.unwrap_err(), JwtError::MalformedClaims);
}

/// Conforms: JWS-17, JWS-34
#[test]
fn sizes_and_odd_dates() {
    let issuer = Issuer::new(KeyType::EcP256);
    let large = claims(&json!({"x": "x".repeat(64 * 1024)}));
    assert_eq!(issuer.verdict(&large), Err(JwtError::Malformed));
    let many: Vec<String> = (0..33).map(|n| n.to_string()).collect();
    assert_eq!(
        issuer.verdict(&claims(&json!({"aud": many}))),
        Err(JwtError::TooManyAudiences(33))
    );
    for (exp, verdict) in [
        (json!(1e300), Ok(())),
        (json!(u64::MAX), Ok(())),
        (json!(i64::MIN), Err(JwtError::Expired)),
        (json!(-1e300), Err(JwtError::Expired)),
        (json!(0), Err(JwtError::Expired)),
        (json!("4102444800"), Err(JwtError::MalformedClaims)),
        (json!({}), Err(JwtError::MalformedClaims)),
    ] {
        assert_eq!(issuer.verdict(&claims(&json!({"exp": exp}))), verdict, "{exp}");
    }
}

#[test]
fn no_token_outlives_its_key() {
    let issuer = Issuer::new(KeyType::EcP256);
    let signed = issuer.sign(7200);
    assert_eq!(signed.expires_at, issuer.key.not_after());
    let claims = JwtClaims {
        sub: &id(),
        aud: &[String::new()],
        iat: NOW,
        exp: NOW,
        iss: None,
        jti: None,
    };
    assert_eq!(
        sign_svid(&issuer.key, &claims).unwrap_err(),
        JwtSignError::NoAudience
    );
    let aud = ["audience".to_owned()];
    assert_eq!(
        sign_svid(&issuer.key, &JwtClaims { aud: &aud, ..claims }).unwrap_err(),
        JwtSignError::EmptyLifetime
    );
}

/// Conforms: JWS-35
#[test]
fn insecure_parsing_still_checks_all_but_the_signature() {
    let issuer = Issuer::new(KeyType::EcP256);
    let token = issuer.sign(300).token;
    let unsigned = format!("{}.AAAA", token.rsplit_once('.').unwrap().0);
    assert_eq!(JwtSvid::parse_insecure(&unsigned, &[], NOW).unwrap().id, id());
    let late = NOW + Duration::from_secs(600);
    assert_eq!(
        JwtSvid::parse_insecure(&unsigned, &[], late).unwrap_err(),
        JwtError::Expired
    );
    assert!(issuer.verify_at(&unsigned, &[], NOW).is_err());
}

#[test]
fn tokens_do_not_show_in_debug() {
    let issuer = Issuer::new(KeyType::EcP256);
    let signed = issuer.sign(300);
    let svid = issuer.verify_at(&signed.token, &[], NOW).unwrap();
    let signature = signed.token.rsplit_once('.').unwrap().1.to_owned();
    for shown in [
        format!("{signed:?}"),
        format!("{svid:?}"),
        format!("{:?}", issuer.key),
    ] {
        assert!(!shown.contains(&signature) && !shown.contains("eyJ"), "{shown}");
    }
}

/// Conforms: JWS-23, SID-27
#[test]
fn no_byte_of_a_token_can_be_changed() {
    let issuer = Issuer::new(KeyType::EcP256);
    let token = issuer.sign(300).token;
    for position in 0..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[position] = if changed[position] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).unwrap();
        assert!(issuer.verify_at(&changed, &[], NOW).is_err(), "byte {position}");
    }
}

/// What has no specification of SPIFFE's is no SVID, and neither is another form of what has one.
/// Conforms: JWS-01, SID-28
#[test]
fn other_kinds_of_tokens_are_none_of_ours() {
    let issuer = Issuer::new(KeyType::EcP256);
    let token = issuer.sign(300).token;
    let parts: Vec<&str> = token.split('.').collect();
    let flattened = json!({"protected": parts[0], "payload": parts[1], "signature": parts[2]});
    for other in [
        "v4.public.eyJzdWIiOiJzcGlmZmU6Ly9leGFtcGxlLm9yZy93In0".to_owned(),
        "d28443a10126a058".to_owned(),
        flattened.to_string(),
        format!("Bearer {token}"),
        format!("{token}.{}.{}", parts[1], parts[2]),
        format!("{}.{}", parts[0], parts[1]),
    ] {
        let refused = issuer.verify_at(&other, &["audience"], NOW);
        assert!(
            matches!(refused, Err(JwtError::Malformed | JwtError::MalformedHeader)),
            "{other}: {refused:?}"
        );
    }
    let oidc = claims(&json!({"iss": "https://accounts.example.org", "sub": "110169484474386276334"}));
    assert!(matches!(issuer.verdict(&oidc), Err(JwtError::InvalidSubject(_))));
}

/// Conforms: JWS-26, WAP-15
#[test]
fn a_key_for_another_kind_of_svid_verifies_no_token() {
    let issuer = Issuer::new(KeyType::EcP256);
    let mut bundle = (*issuer.bundle).clone();
    bundle.wit_authorities = std::mem::take(&mut bundle.jwt_authorities);
    let token = issuer.sign(300).token;
    let refused = verify(&token, &["audience"], |_| Some(Arc::new(bundle)), NOW);
    assert!(matches!(refused, Err(JwtError::AuthorityNotFound { .. })));
}
