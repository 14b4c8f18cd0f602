use credence_crypto::hex;
use credence_crypto::x509::Certificate;

use super::*;

/// Conforms: X5S-32, X5S-33
#[tokio::test(start_paused = true)]
async fn a_workloads_certificate_is_the_entrys_with_the_requests_key() {
    let server = World::new().start().await;
    let svid = server
        .authority
        .sign_x509_svid(&server.workload, &server.entry)
        .unwrap();
    assert_eq!(svid.chain.len(), 1, "the self-signed root is not in the chain");
    let leaf = svid.leaf().unwrap();
    let now = server.now();
    assert_eq!(leaf.spiffe_id().unwrap(), server.entry.spiffe_id);
    assert_eq!(leaf.public_key(), server.workload.public_key());
    assert_eq!(leaf.dns_names(), ["billing.internal", "billing"]);
    assert_eq!(leaf.subject().to_string(), "CN=billing.internal,O=SPIRE,C=US");
    assert_eq!(
        (leaf.not_before(), leaf.not_after()),
        (now - BACKDATE, now + HOUR)
    );
    assert_eq!(hex(leaf.authority_key_id().unwrap()), *server.active().0);
    assert!(!leaf.is_ca());
    server.stop().await;
}

/// Conforms: SID-25, SID-26, X5S-08, X5S-09
#[tokio::test(start_paused = true)]
async fn a_root_carries_the_trust_domains_id_and_its_serial_number_in_the_name() {
    let server = World::new().start().await;
    let root = Certificate::from_der(&server.bundle().x509_authorities[0].der).unwrap();
    assert_eq!(root.uri_sans(), ["spiffe://example.org"]);
    assert_eq!(
        root.subject().to_string(),
        format!("SERIALNUMBER={},O=SPIFFE,C=US", root.serial())
    );
    assert!(root.is_ca());
    assert_eq!(
        (root.not_before(), root.not_after()),
        (server.now() - BACKDATE, server.now() + DAY)
    );
    assert_eq!(hex(root.subject_key_id().unwrap()), *server.active().0);
    server.stop().await;
}

/// Conforms: X5S-33
#[tokio::test(start_paused = true)]
async fn nothing_outlives_its_authority() {
    let mut world = World::new();
    world.settings.x509_svid_ttl = 90 * DAY;
    world.settings.jwt_svid_ttl = 90 * DAY;
    let server = world.start().await;
    let end = server.now() + DAY;
    tokio::time::sleep(HOUR).await;
    for signed in server.sign() {
        if let Signed::X509(svid) = &signed
            && svid.id.is_agent()
        {
            continue;
        }
        assert_eq!(signed.not_after(), end, "{signed:?}");
    }
    server.stop().await;
}

/// Conforms: JWS-20, JWS-22, JWS-32
#[tokio::test(start_paused = true)]
async fn a_token_has_the_claims_of_entry_and_settings_and_no_others() {
    let mut world = World::new();
    world.settings.jwt_issuer = Some("https://issuer.example.org".to_owned());
    let server = world.start().await;
    let audience = ["db".to_owned(), String::new(), "cache".to_owned()];
    let (signed, now) = (
        server.authority.sign_jwt_svid(&server.entry, &audience).unwrap(),
        server.now(),
    );
    assert_eq!(signed.expires_at, now + 5 * MINUTE);
    let bundle = server.bundle();
    let svid = jwt::verify(&signed.token, &["cache"], |_| Some(bundle), now).unwrap();
    let mut claims: Vec<&str> = svid.claims.keys().map(String::as_str).collect();
    claims.sort_unstable();
    assert_eq!(claims, ["aud", "exp", "iat", "iss", "jti", "sub"]);
    assert_eq!(svid.audience, ["db", "cache"]);
    assert_eq!(svid.claims["jti"].as_str().unwrap().len(), 22);
    assert_eq!(server.active().1.len(), 32);

    let minted = server
        .authority
        .mint_jwt_svid(&server.entry.spiffe_id, &audience, 60)
        .unwrap();
    assert_eq!(minted.expires_at, now + MINUTE);
    let refused = server
        .authority
        .mint_jwt_svid(&server.entry.spiffe_id, &[String::new()], 0)
        .unwrap_err();
    assert!(matches!(refused, SigningError::NoAudience));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn a_minted_certificate_is_the_requests_within_the_trust_domain() {
    let server = World::new().start().await;
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let id = SpiffeId::parse("spiffe://example.org/minted").unwrap();
    let request = csr::create(&key, Some(&id), &["one", "two"]).unwrap();
    let request = VerifiedCsr::from_der(&request).unwrap();
    let leaf = server
        .authority
        .mint_x509_svid(&request, &id, 120)
        .unwrap()
        .leaf()
        .unwrap();
    assert_eq!(leaf.dns_names(), ["one", "two"]);
    assert_eq!(leaf.not_after(), server.now() + 2 * MINUTE);
    let foreign = SpiffeId::parse("spiffe://other.org/minted").unwrap();
    let refused = server
        .authority
        .mint_x509_svid(&request, &foreign, 0)
        .unwrap_err();
    assert!(matches!(refused, SigningError::ForeignId(..)));
    server.stop().await;
}

#[tokio::test(start_paused = true)]
async fn the_way_of_agents_is_closed_to_workloads() {
    let server = World::new().start().await;
    let refused = server
        .authority
        .sign_agent_svid(&server.workload, &server.entry.spiffe_id)
        .unwrap_err();
    assert!(matches!(refused, SigningError::NotAnAgent(_)));
    server.stop().await;
}
