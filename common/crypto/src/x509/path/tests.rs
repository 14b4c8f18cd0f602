//! Paths over certificates made to order, odd ones of the field included.

use credence_identity::X509Authority;

use super::*;
use crate::der::{Writer, context, context_constructed};
use crate::keys::{KeyType, PrivateKey, Signer as _};
use crate::oid;
use crate::x509::extensions::write_extension;
use crate::x509::issue::Template;
use crate::x509::{SvidError, verify_svid, write_subject_alt_name};

const YEAR_ONE: Timestamp = Timestamp::from_unix_seconds(-62_135_596_800);
const NOW: Timestamp = Timestamp::from_unix_seconds(1_000_000_000);
const LATER: Timestamp = Timestamp::from_unix_seconds(1_000_003_600);

/// A certificate that differs from an ordinary one where a test says so.
struct Maker {
    name: &'static str,
    serial: Vec<u8>,
    not_before: Timestamp,
    not_after: Timestamp,
    ca: bool,
    path_len: Option<u8>,
    key_usage: Option<u8>,
    uris: Vec<&'static str>,
    more: fn(&mut Writer),
}

impl Maker {
    fn new(name: &'static str) -> Self {
        Self {
            name,
            serial: vec![1],
            not_before: Timestamp::EPOCH,
            not_after: LATER,
            ca: false,
            path_len: None,
            key_usage: Some(1),
            uris: Vec::new(),
            more: |_| {},
        }
    }

    fn leaf() -> Self {
        Self {
            uris: vec!["spiffe://example.org/workload"],
            ..Self::new("leaf")
        }
    }

    fn ca(name: &'static str) -> Self {
        Self {
            ca: true,
            key_usage: Some(1 << 5),
            ..Self::new(name)
        }
    }

    fn issue(&self, issuer: Option<&Made>) -> Made {
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let subject = Subject::empty().with_common_name(self.name).to_der();
        let issuer_name = issuer.map_or(subject.clone(), |issuer| issuer.certificate.subject().to_der());
        let template = Template {
            serial: &self.serial,
            issuer: &issuer_name,
            subject: &subject,
            not_before: self.not_before,
            not_after: self.not_after,
            public_key: key.public_key(),
        };
        let signer = issuer.map_or(&key, |issuer| &issuer.key);
        let der = template
            .sign(signer, |w| {
                write_extension(w, oid::BASIC_CONSTRAINTS, true, |w| {
                    w.sequence(|w| {
                        if self.ca {
                            w.boolean(true);
                        }
                        if let Some(limit) = self.path_len {
                            w.unsigned(&[limit]);
                        }
                    });
                });
                if let Some(usage) = self.key_usage {
                    write_extension(w, oid::KEY_USAGE, true, |w| w.named_bits(usage));
                }
                for uri in &self.uris {
                    write_subject_alt_name(w, false, Some(uri), std::iter::empty());
                }
                (self.more)(w);
            })
            .unwrap();
        Made {
            key,
            certificate: Certificate::from_der(&der).unwrap(),
        }
    }
}

struct Made {
    key: PrivateKey,
    certificate: Certificate,
}

fn verify(leaf: &Made, between: &[&Made], roots: &[&Made]) -> Result<Vec<Certificate>, PathError> {
    let certificates = |made: &[&Made]| {
        made.iter()
            .map(|made| made.certificate.clone())
            .collect::<Vec<_>>()
    };
    verify_chain(
        &leaf.certificate,
        &certificates(between),
        &certificates(roots),
        NOW,
    )
}

/// A trap of libraries: a library refuses dates before 1970, which x509pop certificates have, with serial number 0 besides,
/// no key identifiers, and a CA without key usage.
#[test]
fn x509pop_certificates_of_the_field_are_valid() {
    let odd = |maker: Maker| Maker {
        serial: vec![0],
        not_before: YEAR_ONE,
        ..maker
    };
    let root = odd(Maker {
        key_usage: None,
        ..Maker::ca("ca")
    })
    .issue(None);
    let leaf = odd(Maker::new("agent")).issue(Some(&root));
    let path = verify(&leaf, &[], &[&root]).unwrap();
    assert_eq!(path, [leaf.certificate.clone(), root.certificate.clone()]);
    assert_eq!(
        (leaf.certificate.serial(), leaf.certificate.serial_hex()),
        ("0".to_owned(), "0".to_owned())
    );
    assert_eq!(leaf.certificate.not_before(), YEAR_ONE);
}

/// A trap of libraries: a library ignores key usage, so that a leaf that may sign certificates passes.
/// Conforms: X5S-04, X5S-06, X5S-18, X5S-23
#[test]
fn leaf_rules_hold_when_a_peer_is_verified() {
    let root = Maker::ca("root").issue(None);
    let authority = X509Authority {
        der: root.certificate.der().clone(),
        tainted: false,
    };
    let check = |maker: Maker| {
        let leaf = maker.issue(Some(&root));
        verify_svid(&[leaf.certificate.der()], std::slice::from_ref(&authority), NOW)
            .map(|verified| verified.id)
    };
    assert!(check(Maker::leaf()).is_ok());
    let usage = |bits| Maker {
        key_usage: Some(bits),
        ..Maker::leaf()
    };
    assert_eq!(check(usage(1 | 1 << 5)), Err(SvidError::LeafKeyCertSign));
    assert_eq!(check(usage(1 | 1 << 6)), Err(SvidError::LeafCrlSign));
    assert_eq!(check(usage(1 << 2)), Err(SvidError::LeafMissingDigitalSignature));
    assert_eq!(
        check(Maker {
            key_usage: None,
            ..Maker::leaf()
        }),
        Err(SvidError::KeyUsageMissing)
    );
    assert_eq!(
        check(Maker {
            ca: true,
            ..Maker::leaf()
        }),
        Err(SvidError::LeafIsCa)
    );
    assert_eq!(check(Maker::new("anonymous")), Err(SvidError::MissingUriSan));
    let root_path = Maker {
        uris: vec!["spiffe://example.org"],
        ..Maker::leaf()
    };
    assert_eq!(check(root_path), Err(SvidError::RootPathLeaf));
}

/// A trap of libraries: a library refuses every chain with a URI name constraint, others ignore them.
/// Conforms: X5S-14
#[test]
fn uri_name_constraints_bind() {
    fn permit(w: &mut Writer, uri: &str) {
        write_extension(w, oid::NAME_CONSTRAINTS, true, |w| {
            w.sequence(|w| {
                w.nested(context_constructed(0), |w| {
                    w.sequence(|w| w.element(context(6), uri.as_bytes()));
                });
            });
        });
    }
    let permitting = Maker {
        more: |w| permit(w, "example.org"),
        ..Maker::ca("root")
    }
    .issue(None);
    assert!(verify(&Maker::leaf().issue(Some(&permitting)), &[], &[&permitting]).is_ok());
    let other = Maker {
        more: |w| permit(w, "other.org"),
        ..Maker::ca("root")
    }
    .issue(None);
    let refused = verify(&Maker::leaf().issue(Some(&other)), &[], &[&other]);
    assert!(matches!(refused, Err(PathError::NameConstraintViolation(_))));
}

/// A trap of libraries: a parser returns trailing bytes silently.
#[test]
fn trailing_bytes_are_refused() {
    let made = Maker::leaf().issue(None);
    let mut der = made.certificate.der().to_vec();
    der.push(0);
    assert!(Certificate::from_der(&der).is_err());
    assert!(Certificate::parse_concatenated(&der).is_err());
    let twice = [&made.certificate.der()[..], made.certificate.der()].concat();
    assert_eq!(Certificate::parse_concatenated(&twice).unwrap().len(), 2);
}

#[test]
fn chains_of_several_levels() {
    let root = Maker::ca("root").issue(None);
    let upper = Maker::ca("upper").issue(Some(&root));
    let lower = Maker::ca("lower").issue(Some(&upper));
    let leaf = Maker::leaf().issue(Some(&lower));
    let path = verify(&leaf, &[&upper, &root, &lower], &[&root]).unwrap();
    assert_eq!(path.len(), 4);
    // An authority in the middle is an authority, and ends the path.
    assert_eq!(verify(&leaf, &[&lower, &upper], &[&upper]).unwrap().len(), 3);
    assert!(matches!(
        verify(&leaf, &[&upper], &[&root]),
        Err(PathError::UnknownAuthority { .. })
    ));
}

#[test]
fn authorities_of_one_name_are_told_apart_by_signature() {
    let first = Maker::ca("root").issue(None);
    let second = Maker::ca("root").issue(None);
    let leaf = Maker::leaf().issue(Some(&second));
    assert!(verify(&leaf, &[], &[&first, &second]).is_ok());
    assert!(matches!(
        verify(&leaf, &[], &[&first]),
        Err(PathError::Signature(_))
    ));
}

/// Conforms: X5S-07
#[test]
fn what_an_issuer_lacks() {
    let no_ca = Maker::new("root").issue(None);
    let refused = verify(&Maker::leaf().issue(Some(&no_ca)), &[], &[&no_ca]);
    assert!(matches!(refused, Err(PathError::NotACa(_))));
    let no_sign = Maker {
        key_usage: Some(1),
        ..Maker::ca("root")
    }
    .issue(None);
    let refused = verify(&Maker::leaf().issue(Some(&no_sign)), &[], &[&no_sign]);
    assert!(matches!(refused, Err(PathError::NoKeyCertSign(_))));
    let expired = Maker {
        not_after: Timestamp::from_unix_seconds(999_999_999),
        ..Maker::ca("root")
    }
    .issue(None);
    let refused = verify(&Maker::leaf().issue(Some(&expired)), &[], &[&expired]);
    assert!(matches!(refused, Err(PathError::Expired { .. })));
}

/// Conforms: X5S-13
#[test]
fn path_length_counts_authorities_below() {
    let root = Maker {
        path_len: Some(0),
        ..Maker::ca("root")
    }
    .issue(None);
    assert!(verify(&Maker::leaf().issue(Some(&root)), &[], &[&root]).is_ok());
    let lower = Maker::ca("lower").issue(Some(&root));
    let refused = verify(&Maker::leaf().issue(Some(&lower)), &[&lower], &[&root]);
    assert!(matches!(refused, Err(PathError::PathLenExceeded(_))));
}

/// Conforms: X5S-22
#[test]
fn validity_includes_both_ends() {
    let root = Maker::ca("root").issue(None);
    let check = |maker: Maker| verify(&maker.issue(Some(&root)), &[], &[&root]).map(|_| ());
    assert!(
        check(Maker {
            not_before: NOW,
            not_after: NOW,
            ..Maker::leaf()
        })
        .is_ok()
    );
    let next = Timestamp::from_unix_seconds(1_000_000_001);
    assert!(matches!(
        check(Maker {
            not_before: next,
            ..Maker::leaf()
        }),
        Err(PathError::NotYetValid { .. })
    ));
}

/// Conforms: X5S-22
#[test]
fn unknown_critical_extensions_are_refused_anywhere() {
    let odd = |w: &mut Writer| write_extension(w, &[0x2a, 0x03], true, |w| w.null());
    let root = Maker::ca("root").issue(None);
    let leaf = Maker {
        more: odd,
        ..Maker::leaf()
    }
    .issue(Some(&root));
    let reason = PathError::UnknownCriticalExtension("1.2.3".to_owned());
    assert_eq!(verify(&leaf, &[], &[&root]), Err(reason.clone()));
    let odd_root = Maker {
        more: odd,
        ..Maker::ca("root")
    }
    .issue(None);
    assert_eq!(
        verify(&Maker::leaf().issue(Some(&odd_root)), &[], &[&odd_root]),
        Err(reason)
    );
}

/// Conforms: X5S-37
#[test]
fn work_is_bounded_on_hostile_chains() {
    // Every certificate bears one name, so that each might have signed each other.
    let hostile: Vec<Made> = (0..15).map(|_| Maker::ca("same").issue(None)).collect();
    let root = Maker::ca("root").issue(None);
    let between: Vec<&Made> = hostile.iter().collect();
    let leaf = Maker::leaf().issue(Some(&hostile[0]));
    assert!(verify(&leaf, &between, &[&root]).is_err());
    let long: Vec<&Made> = std::iter::repeat_n(&hostile[0], MAX_CHAIN).collect();
    assert_eq!(verify(&leaf, &long, &[&root]), Err(PathError::TooLong));
}

#[test]
fn a_leaf_that_is_trusted_itself_is_its_own_path() {
    let own = Maker::leaf().issue(None);
    assert_eq!(verify(&own, &[], &[&own]).unwrap().len(), 1);
    let authority = X509Authority {
        der: own.certificate.der().clone(),
        tainted: false,
    };
    let refused = verify_svid(&[own.certificate.der().clone()], &[authority], NOW);
    // But no authority for SVIDs, not even its own.
    assert!(matches!(
        refused,
        Err(SvidError::Path(
            PathError::NotACa(_) | PathError::UnknownAuthority { .. }
        ))
    ));
}
