//! Fuzz targets: one function for each parser of bytes that strangers send.
//!
//! A target panics where a parser does, or where what it made breaks a promise of its type: round trips, bounds, agreement
//! of two ways to the same answer. They run on the pinned toolchain from a corpus and random bytes ([`run`]), and are what
//! a coverage-guided fuzzer calls. Never read files: the corpus is the tests' business.

mod mutate;
mod pieces;

use credence_crypto::csr::VerifiedCsr;
use credence_crypto::jwt::JwtSvid;
use credence_crypto::x509::{Certificate, MAX_CHAIN, X509Svid, verify_svid};
use credence_crypto::{PrivateKey, PublicKey, bundle};
use credence_identity::{SpiffeId, Timestamp, TrustDomain, X509Authority};
use credence_runtime::config::hcl;

pub use mutate::{Random, run};

const NOW: Timestamp = Timestamp::from_unix_seconds(1_893_456_000);

/// SPIFFE IDs: what was parsed prints as it was, and its parts make it again.
pub fn fuzz_spiffe_id(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(id) = SpiffeId::parse(text) {
        assert_eq!(id.as_str(), text, "an ID has one spelling");
        assert_eq!(
            SpiffeId::from_path(&id.trust_domain(), id.path()),
            Ok(id.clone()),
            "parts make the whole"
        );
        assert_eq!(
            TrustDomain::parse(id.trust_domain_name()),
            Ok(id.trust_domain()),
            "its domain is one"
        );
    }
    if let Ok(name) = TrustDomain::parse(text) {
        assert_eq!(
            TrustDomain::parse_lenient(text),
            Ok(name),
            "lenient takes what strict takes"
        );
    }
}

/// Certificate signing requests: the key of a verified one is a key.
pub fn fuzz_csr(data: &[u8]) {
    if let Ok(csr) = VerifiedCsr::from_der(data) {
        assert_eq!(
            PublicKey::from_spki_der(csr.public_key().spki_der()).as_ref(),
            Ok(csr.public_key())
        );
    }
}

/// Certificates, one or in a row, and SVIDs made of them: no byte is lost, and a chain is bounded.
pub fn fuzz_certificate(data: &[u8]) {
    if let Ok(certificate) = Certificate::from_der(data) {
        assert_eq!(&certificate.der()[..], data, "all of it is the certificate");
        assert!(
            certificate.serial().bytes().all(|byte| byte.is_ascii_digit()),
            "a serial is a number"
        );
        let authority = X509Authority {
            der: data.into(),
            tainted: false,
        };
        let verified = verify_svid(&[data], std::slice::from_ref(&authority), NOW);
        assert!(verified.is_err(), "nothing vouches for itself");
    }
    if let Ok(all) = Certificate::parse_concatenated(data) {
        let joined: Vec<u8> = all
            .iter()
            .flat_map(|certificate| certificate.der().to_vec())
            .collect();
        assert_eq!(joined, data, "no gap between certificates");
    }
    if let Ok(svid) = X509Svid::parse_chain(data) {
        assert!(svid.chain.len() <= MAX_CHAIN, "a chain is bounded");
        assert!(!svid.id.path().is_empty(), "a leaf has a path");
        assert_eq!(svid.chain_der(), data, "no byte is lost");
    }
}

/// Private keys from a file or a server: whatever is accepted reads back.
pub fn fuzz_private_key(data: &[u8]) {
    if let Ok(key) = PrivateKey::from_pkcs8_der(data) {
        assert!(
            PrivateKey::from_pkcs8_der(key.pkcs8_der()).is_ok(),
            "a key reads back"
        );
    }
    if let Ok(text) = std::str::from_utf8(data) {
        drop(PrivateKey::from_pem(text));
    }
}

/// JWT-SVIDs: subject, audience and end are what the claims say.
pub fn fuzz_jwt(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    if let Ok(svid) = JwtSvid::parse_insecure(text, &[], NOW) {
        assert_eq!(
            svid.claims.get("sub").and_then(|sub| sub.as_str()),
            Some(svid.id.as_str())
        );
        assert!(
            svid.audience.iter().any(|audience| !audience.is_empty()),
            "an audience is there"
        );
        assert!(
            !format!("{svid:?}").contains(text),
            "a token is no part of its debug text"
        );
    }
}

/// Bundle documents of every form: what was read is published as the same bundle.
pub fn fuzz_bundle(data: &[u8]) {
    let Ok(trust_domain) = TrustDomain::parse("example.org") else {
        return;
    };
    if let Ok(read) = bundle::parse_spiffe(&trust_domain, data) {
        let again = bundle::parse_spiffe(&trust_domain, bundle::to_spiffe_json(&read).as_bytes());
        let authorities = again.map(|again| {
            (
                again.x509_authorities,
                again.jwt_authorities,
                again.sequence_number,
            )
        });
        assert_eq!(
            authorities,
            Ok((read.x509_authorities, read.jwt_authorities, read.sequence_number))
        );
    }
    drop(bundle::parse_jwks(data));
    drop(bundle::x509_from_der(data));
    if let Ok(text) = std::str::from_utf8(data) {
        drop(bundle::x509_from_pem(text));
    }
}

/// Configuration: a tree of bounded depth, or one fault with a place in the text.
pub fn fuzz_hcl(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    match hcl::parse(text) {
        Ok(body) => assert!(depth(&body) <= hcl::MAX_DEPTH + 1, "nesting is bounded"),
        Err(fault) => {
            let line = usize::try_from(fault.position.line).unwrap_or(usize::MAX);
            assert!(
                line <= text.lines().count() + 1,
                "the place of {fault} is in the text"
            );
        }
    }
}

fn depth(body: &hcl::Body) -> usize {
    fn of(value: &hcl::Value) -> usize {
        match &value.kind {
            hcl::Kind::List(values) => 1 + values.iter().map(of).max().unwrap_or(0),
            hcl::Kind::Object(body) => depth(body),
            _ => 0,
        }
    }
    1 + body.items.iter().map(|item| of(&item.value)).max().unwrap_or(0)
}

/// What an HTTP/2 client sends, read through the mending of `:authority`: every byte comes out, whatever the pieces in
/// which it arrives, and what was mended once is left alone.
pub fn fuzz_hpack(data: &[u8]) {
    let (piece, stream) = data
        .split_first()
        .map_or((1, data), |(first, rest)| (usize::from(*first), rest));
    let whole = pieces::mend(stream, stream.len());
    assert!(whole.len() <= stream.len(), "mending adds nothing");
    assert_eq!(
        pieces::mend(stream, piece),
        whole,
        "pieces of {piece} bytes make no difference"
    );
    assert_eq!(pieces::mend(&whole, whole.len()), whole, "what is mended stays");
}
