//! PKCS#12 (RFC 7292) as OpenSSL 3 and Java write it today: PBES2 with PBKDF2-HMAC-SHA256 and AES-256-CBC around the key
//! and the certificates, HMAC-SHA256 around all of it.

use std::num::NonZeroU32;
use std::sync::Arc;

use aws_lc_rs::cipher::{
    AES_256, AES_256_KEY_LEN, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey,
};
use aws_lc_rs::digest::{Context, SHA256, digest};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{hmac, pbkdf2};
use zeroize::Zeroizing;

use super::{KEY_ALIAS, KeyStoreError, StoreContents, StorePassword, authority_alias};
use crate::der::{OCTET_STRING, Writer};
use crate::digest::random_bytes;
use crate::oid;

/// What Java takes for both, and OpenSSL a fifth of.
const ITERATIONS: u32 = 10_000;
const SALT: usize = 20;
const IV: usize = 16;
/// The tags `[0]` of this format.
const CONTEXT_0: u8 = 0xa0;
const IMPLICIT_OCTETS_0: u8 = 0x80;
const SET: u8 = 0x31;
const BMP_STRING: u8 = 0x1e;
/// SHA-256: length of a digest, and of the blocks that it takes in.
const DIGEST: usize = 32;
const BLOCK: usize = 64;

/// One store with the key and its chain, and the authorities as certificates that Java trusts.
///
/// # Errors
/// [`KeyStoreError`].
pub fn to_pkcs12(contents: &StoreContents<'_>, password: &StorePassword) -> Result<Vec<u8>, KeyStoreError> {
    // Ties the key to its certificate: any bytes do, if they are the same in both places.
    let leaf = contents.chain.first().map_or(&[][..], |der| der);
    let key_id = digest(&SHA256, leaf);
    let certificates = certificate_bags(contents, key_id.as_ref());
    let certificates = encrypt(&certificates, password)?;
    let key = encrypt(contents.key.pkcs8_der(), password)?;
    let safe = Writer::build(|safe| {
        safe.sequence(|safe| {
            safe.sequence(|info| {
                info.oid(oid::PKCS7_ENCRYPTED_DATA);
                info.nested(CONTEXT_0, |info| {
                    info.sequence(|data| {
                        data.unsigned(&[0]);
                        data.sequence(|content| {
                            content.oid(oid::PKCS7_DATA);
                            content.raw(&certificates.algorithm);
                            content.element(IMPLICIT_OCTETS_0, &certificates.bytes);
                        });
                    });
                });
            });
            data(safe, &key_bags(&key, key_id.as_ref()));
        });
    });
    let salt = random_bytes::<SALT>()?;
    let mac_key = mac_key(password, &salt);
    let mac = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &*mac_key), &safe);
    Ok(Writer::build(|pfx| {
        pfx.sequence(|pfx| {
            pfx.unsigned(&[3]);
            data(pfx, &safe);
            pfx.sequence(|mac_data| {
                mac_data.sequence(|info| {
                    info.sequence(|algorithm| {
                        algorithm.oid(oid::SHA256);
                        algorithm.null();
                    });
                    info.element(OCTET_STRING, mac.as_ref());
                });
                mac_data.element(OCTET_STRING, &salt);
                mac_data.unsigned(&ITERATIONS.to_be_bytes());
            });
        });
    }))
}

/// A `ContentInfo` of plain data.
fn data(out: &mut Writer, bytes: &[u8]) {
    out.sequence(|info| {
        info.oid(oid::PKCS7_DATA);
        info.nested(CONTEXT_0, |info| info.element(OCTET_STRING, bytes));
    });
}

fn certificate_bags(contents: &StoreContents<'_>, key_id: &[u8]) -> Vec<u8> {
    Writer::build(|bags| {
        bags.sequence(|bags| {
            for (index, der) in contents.chain.iter().enumerate() {
                certificate_bag(bags, der, |attributes| {
                    if index == 0 {
                        attribute(attributes, oid::PKCS9_LOCAL_KEY_ID, |value| {
                            value.element(OCTET_STRING, key_id);
                        });
                        friendly_name(attributes, KEY_ALIAS);
                    } else {
                        friendly_name(attributes, &format!("intermediate-{index}"));
                    }
                });
            }
            for (index, der) in contents.authorities.iter().enumerate() {
                certificate_bag(bags, der, |attributes| {
                    friendly_name(attributes, &authority_alias(index));
                    // Without it Java doesn't take the certificate for a trusted one.
                    attribute(attributes, oid::ORACLE_TRUSTED_KEY_USAGE, |value| {
                        value.oid(oid::ANY_EXTENDED_KEY_USAGE);
                    });
                });
            }
        });
    })
}

fn certificate_bag(bags: &mut Writer, der: &Arc<[u8]>, attributes: impl FnOnce(&mut Writer)) {
    bags.sequence(|bag| {
        bag.oid(oid::PKCS12_CERT_BAG);
        bag.nested(CONTEXT_0, |value| {
            value.sequence(|certificate| {
                certificate.oid(oid::PKCS9_X509_CERTIFICATE);
                certificate.nested(CONTEXT_0, |value| value.element(OCTET_STRING, der));
            });
        });
        bag.nested(SET, attributes);
    });
}

fn key_bags(key: &Encrypted, key_id: &[u8]) -> Vec<u8> {
    Writer::build(|bags| {
        bags.sequence(|bags| {
            bags.sequence(|bag| {
                bag.oid(oid::PKCS12_SHROUDED_KEY_BAG);
                bag.nested(CONTEXT_0, |value| {
                    value.sequence(|info| {
                        info.raw(&key.algorithm);
                        info.element(OCTET_STRING, &key.bytes);
                    });
                });
                bag.nested(SET, |attributes| {
                    attribute(attributes, oid::PKCS9_LOCAL_KEY_ID, |value| {
                        value.element(OCTET_STRING, key_id);
                    });
                    friendly_name(attributes, KEY_ALIAS);
                });
            });
        });
    })
}

fn attribute(attributes: &mut Writer, name: &[u8], value: impl FnOnce(&mut Writer)) {
    attributes.sequence(|attribute| {
        attribute.oid(name);
        attribute.nested(SET, value);
    });
}

fn friendly_name(attributes: &mut Writer, name: &str) {
    let wide: Vec<u8> = name.bytes().flat_map(|byte| [0, byte]).collect();
    attribute(attributes, oid::PKCS9_FRIENDLY_NAME, |value| {
        value.element(BMP_STRING, &wide);
    });
}

/// Bytes under PBES2, and the algorithm identifier that says how.
struct Encrypted {
    algorithm: Vec<u8>,
    bytes: Vec<u8>,
}

/// PBES2 (RFC 8018, 6.2).
fn encrypt(clear: &[u8], password: &StorePassword) -> Result<Encrypted, KeyStoreError> {
    let (salt, iv) = (random_bytes::<SALT>()?, random_bytes::<IV>()?);
    let mut key = Zeroizing::new([0; AES_256_KEY_LEN]);
    let iterations = NonZeroU32::new(ITERATIONS).ok_or(KeyStoreError::Encryption)?;
    let algorithm = pbkdf2::PBKDF2_HMAC_SHA256;
    pbkdf2::derive(algorithm, iterations, &salt, password.bytes(), &mut *key);
    let cipher = UnboundCipherKey::new(&AES_256, &*key)
        .and_then(PaddedBlockEncryptingKey::cbc_pkcs7)
        .map_err(|_| KeyStoreError::Encryption)?;
    // Sized for the padding: growing would leave a clear copy behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(clear.len() + IV));
    bytes.extend_from_slice(clear);
    let context = EncryptionContext::Iv128(FixedLength::from(&iv));
    cipher
        .less_safe_encrypt(&mut *bytes, context)
        .map_err(|_| KeyStoreError::Encryption)?;
    let algorithm = Writer::build(|algorithm| {
        algorithm.sequence(|algorithm| {
            algorithm.oid(oid::PBES2);
            algorithm.sequence(|parameters| {
                parameters.sequence(|derivation| {
                    derivation.oid(oid::PBKDF2);
                    derivation.sequence(|parameters| {
                        parameters.element(OCTET_STRING, &salt);
                        parameters.unsigned(&ITERATIONS.to_be_bytes());
                        parameters.sequence(|function| {
                            function.oid(oid::HMAC_SHA256);
                            function.null();
                        });
                    });
                });
                parameters.sequence(|cipher| {
                    cipher.oid(oid::AES_256_CBC);
                    cipher.element(OCTET_STRING, &iv);
                });
            });
        });
    });
    Ok(Encrypted {
        algorithm,
        bytes: bytes.to_vec(),
    })
}

/// The key of the MAC by the derivation of RFC 7292, appendix B.2, with SHA-256: of one block, so without its last step.
fn mac_key(password: &StorePassword, salt: &[u8]) -> Zeroizing<[u8; DIGEST]> {
    const MAC: u8 = 3;
    let mut wide = password.utf16();
    wide.extend_from_slice(&[0, 0]);
    let fill = |from: &[u8]| -> Zeroizing<Vec<u8>> {
        let length = from.len().div_ceil(BLOCK) * BLOCK;
        let mut filled = Zeroizing::new(Vec::with_capacity(length));
        filled.extend(from.iter().cycle().take(length));
        filled
    };
    let mut context = Context::new(&SHA256);
    context.update(&[MAC; BLOCK]);
    context.update(&fill(salt));
    context.update(&fill(&wide));
    let mut hash = context.finish();
    for _ in 1..ITERATIONS {
        hash = digest(&SHA256, hash.as_ref());
    }
    let mut key = Zeroizing::new([0; DIGEST]);
    for (to, from) in key.iter_mut().zip(hash.as_ref()) {
        *to = *from;
    }
    key
}
