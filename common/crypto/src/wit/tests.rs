//! Tokens of our own, one fault each, and proofs.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credence_identity::JwtAuthority;
use serde_json::json;

use super::*;
use crate::digest::sha256;
use crate::keys::{KeyType, PrivateKey, SignatureForm, Signer};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);
const AUDIENCE: &str = "https://store.example.org/features";

fn id() -> SpiffeId {
    SpiffeId::parse("spiffe://example.org/workload").unwrap()
}

struct Lab {
    issuer: WitKey,
    holder: PrivateKey,
    bundle: Arc<Bundle>,
}

impl Lab {
    fn new(holder: KeyType) -> Self {
        let signer: Arc<dyn Signer> = Arc::new(PrivateKey::generate(KeyType::EcP256).unwrap());
        let issuer = WitKey::new("w1", signer, NOW + Duration::from_secs(3600)).unwrap();
        let mut bundle = Bundle::empty(id().trust_domain());
        bundle.wit_authorities.push(JwtAuthority {
            key_id: "w1".into(),
            public_key: issuer.public_key().spki_der().into(),
            expires_at: None,
            tainted: false,
        });
        Self {
            issuer,
            holder: PrivateKey::generate(holder).unwrap(),
            bundle: Arc::new(bundle),
        }
    }

    fn issue(&self) -> String {
        let claims = WitClaims {
            sub: &id(),
            public_key: self.holder.public_key(),
            algorithm: self.holder.key_type().jws_algorithm(),
            iat: NOW,
            exp: NOW + Duration::from_secs(7200),
            iss: None,
        };
        let signed = sign_svid(&self.issuer, &claims).unwrap();
        assert_eq!(
            signed.expires_at,
            NOW + Duration::from_secs(3600),
            "cut to the key's end"
        );
        signed.token
    }

    fn verify(&self, token: &str) -> Result<Unproven, WitError> {
        verify(token, |_| Some(self.bundle.clone()), NOW)
    }

    fn proof(&self, typ: &str, claims: &Value) -> String {
        let algorithm = self.holder.key_type().jws_algorithm();
        let header = URL_SAFE_NO_PAD.encode(json!({"alg": algorithm, "typ": typ}).to_string());
        let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
        let signature = self.holder.sign(signed.as_bytes(), SignatureForm::Jose).unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn proof_claims(token: &str) -> Value {
    let wth = URL_SAFE_NO_PAD.encode(sha256(token.as_bytes()));
    json!({"aud": AUDIENCE, "exp": NOW.unix_seconds() + 30, "jti": "1", "wth": wth})
}

/// Conforms: WIT-20, WIT-32
#[test]
fn what_is_signed_verifies_and_is_believed_with_a_proof_for_every_key_type() {
    for holder in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let lab = Lab::new(holder);
        let token = lab.issue();
        let proof = lab.proof("wpt+jwt", &proof_claims(&token));
        let svid = lab.verify(&token).unwrap().prove(&proof, AUDIENCE, NOW).unwrap();
        assert_eq!((svid.id, &svid.public_key), (id(), lab.holder.public_key()));
        assert!(!svid.claims.contains_key("aud") && !svid.claims.contains_key("nbf"));
    }
}

/// Conforms: WIT-24, WIT-25, WIT-32
#[test]
fn a_proof_is_for_one_token_one_audience_and_now_and_by_the_holder() {
    let (lab, thief) = (Lab::new(KeyType::EcP256), Lab::new(KeyType::EcP256));
    let token = lab.issue();
    let refused = |proof: &str, audience: &str, now| {
        lab.verify(&token)
            .unwrap()
            .prove(proof, audience, now)
            .unwrap_err()
    };
    let good = proof_claims(&token);
    let signed = |claims: &Value| lab.proof("wpt+jwt", claims);
    assert_eq!(
        refused(&signed(&good), "https://other", NOW),
        WitError::ProofAudience
    );
    let other = signed(&proof_claims("other"));
    assert_eq!(refused(&other, AUDIENCE, NOW), WitError::ProofToken);
    let late = NOW + Duration::from_secs(600);
    let expired = WitError::Proof(JwtError::Expired);
    assert_eq!(refused(&signed(&good), AUDIENCE, late), expired);
    let stolen = thief.proof("wpt+jwt", &good);
    let bad = WitError::Proof(JwtError::BadSignature);
    assert_eq!(refused(&stolen, AUDIENCE, NOW), bad);
    let typ = WitError::Proof(JwtError::InvalidTyp);
    assert_eq!(refused(&lab.proof("JWT", &good), AUDIENCE, NOW), typ);
    let mut endless = good;
    endless.as_object_mut().unwrap().remove("exp");
    let missing = WitError::Proof(JwtError::MissingExpiry);
    assert_eq!(refused(&signed(&endless), AUDIENCE, NOW), missing);
}

/// A JWT authority of the same bundle verifies no WIT-SVID, and the reverse (WIT-SVID, 6.2 and 7.1).
/// Conforms: WIT-29, WIT-31
#[test]
fn a_wit_svid_is_no_jwt_svid_and_its_keys_are_no_jwt_authorities() {
    let mut lab = Lab::new(KeyType::EcP256);
    let token = lab.issue();
    let jwt = crate::jwt::verify(&token, &[], |_| Some(lab.bundle.clone()), NOW);
    assert_eq!(jwt.unwrap_err(), JwtError::InvalidTyp);
    let mut bundle = Bundle::clone(&lab.bundle);
    bundle.jwt_authorities = std::mem::take(&mut bundle.wit_authorities);
    lab.bundle = Arc::new(bundle);
    let refused = lab.verify(&token).unwrap_err();
    assert!(matches!(
        refused,
        WitError::Token(JwtError::AuthorityNotFound { .. })
    ));
}

/// Conforms: WIT-10
#[test]
fn only_an_algorithm_that_fits_the_key_is_taken_for_proofs() {
    let p256 = PrivateKey::generate(KeyType::EcP256).unwrap();
    let rsa = PrivateKey::generate(KeyType::Rsa2048).unwrap();
    let fits = |key: &PrivateKey, name| confirmation_algorithm(key.public_key(), name).is_some();
    assert!(fits(&p256, "ES256") && fits(&rsa, "PS512"));
    for name in ["ES384", "RS256", "es256", "none", ""] {
        assert!(!fits(&p256, name), "{name}");
    }
    assert!(!fits(&rsa, "ES256"));
}

/// What a workload gets is the key of its token: the private JWK read by others' eyes has the public members of `cnf`.
#[test]
fn a_private_jwk_holds_its_public_key_and_the_secret() {
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(key_type).unwrap();
        let text = crate::private_jwk(&key).unwrap();
        let mut jwk: Map<String, Value> = serde_json::from_str(&text).unwrap();
        assert_eq!(jwk["alg"], key_type.jws_algorithm());
        let secret = URL_SAFE_NO_PAD.decode(jwk["d"].as_str().unwrap()).unwrap();
        let expected = match key_type {
            KeyType::EcP256 => 32..=32,
            KeyType::EcP384 => 48..=48,
            _ => 200..=256,
        };
        assert!(expected.contains(&secret.len()), "{}", secret.len());
        assert_eq!(jwk.contains_key("qi"), key_type == KeyType::Rsa2048);
        jwk.remove("d");
        assert_eq!(jwk::public_key(&jwk).as_ref(), Some(key.public_key()));
    }
}

/// Conforms: WIT-05, WIT-21, WIT-22
#[test]
fn a_token_has_three_headers_and_is_no_bearer_token() {
    let lab = Lab::new(KeyType::EcP256);
    let token = lab.issue();
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap()).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    assert_eq!(header, json!({"alg": "ES256", "kid": "w1", "typ": "wit+jwt"}));
    let sent = format!("Bearer {token}");
    assert!(lab.verify(&sent).is_err());
    assert!(crate::jwt::verify(&sent, &[], |_| Some(lab.bundle.clone()), NOW).is_err());
}

/// Conforms: WIT-14, WIT-16
#[test]
fn not_before_delays_and_the_time_of_issue_does_not() {
    let lab = Lab::new(KeyType::EcP256);
    let token = lab.issue();
    let claims = URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap();
    let claims: Value = serde_json::from_slice(&claims).unwrap();
    let verdict = |name: &str, offset: i64| {
        let mut claims = claims.clone();
        claims[name] = json!(NOW.unix_seconds() + offset);
        let times = lab.issuer.times(NOW, NOW + Duration::from_secs(60)).unwrap();
        let token = lab.issuer.sign(&claims, times).unwrap().token;
        lab.verify(&token).map(|_| ())
    };
    assert_eq!(verdict("nbf", 30), Ok(()));
    let early = WitError::Token(JwtError::NotYetValid);
    assert_eq!(verdict("nbf", 600), Err(early));
    assert_eq!(verdict("iat", 600), Ok(()));
}
