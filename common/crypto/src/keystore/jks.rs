//! JKS, as Java's `sun.security.provider.JavaKeyStore` has it: a list of entries in Java's data format, keys hidden by a
//! key stream of SHA-1, and a SHA-1 over everything with the password. Old and weak: the file's mode is what protects it.

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use zeroize::Zeroizing;

use super::{KEY_ALIAS, KeyStoreError, StoreContents, StorePassword, authority_alias};
use crate::der::Writer;
use crate::digest::random_bytes;
use crate::oid;

const MAGIC: u32 = 0xfeed_feed;
const VERSION: u32 = 2;
const PRIVATE_KEY: u32 = 1;
const TRUSTED: u32 = 2;
/// Part of each store's digest.
const WHITENER: &[u8] = b"Mighty Aphrodite";
/// Length of SHA-1, and of the salt.
const DIGEST: usize = 20;

/// One store with the key and its chain, and the authorities.
///
/// # Errors
/// [`KeyStoreError`].
pub fn to_jks(contents: &StoreContents<'_>, password: &StorePassword) -> Result<Vec<u8>, KeyStoreError> {
    let wide = password.utf16();
    let millis = contents.now.unix_seconds().saturating_mul(1000);
    let mut out = Vec::with_capacity(4096);
    let number = |out: &mut Vec<u8>, number: u32| out.extend_from_slice(&number.to_be_bytes());
    number(&mut out, MAGIC);
    number(&mut out, VERSION);
    number(&mut out, length(contents.authorities.len() + 1)?);

    number(&mut out, PRIVATE_KEY);
    text(&mut out, KEY_ALIAS)?;
    out.extend_from_slice(&millis.to_be_bytes());
    let hidden = hide(contents.key.pkcs8_der(), &wide)?;
    number(&mut out, length(hidden.len())?);
    out.extend_from_slice(&hidden);
    number(&mut out, length(contents.chain.len())?);
    for der in contents.chain {
        certificate(&mut out, der)?;
    }
    for (index, der) in contents.authorities.iter().enumerate() {
        number(&mut out, TRUSTED);
        text(&mut out, &authority_alias(index))?;
        out.extend_from_slice(&millis.to_be_bytes());
        certificate(&mut out, der)?;
    }
    let digest = sha1(&[&wide, WHITENER, &out]);
    out.extend_from_slice(&digest);
    Ok(out)
}

fn certificate(out: &mut Vec<u8>, der: &[u8]) -> Result<(), KeyStoreError> {
    text(out, "X.509")?;
    out.extend_from_slice(&length(der.len())?.to_be_bytes());
    out.extend_from_slice(der);
    Ok(())
}

fn text(out: &mut Vec<u8>, text: &str) -> Result<(), KeyStoreError> {
    let length = u16::try_from(text.len()).map_err(|_| KeyStoreError::TooLarge)?;
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(text.as_bytes());
    Ok(())
}

fn length(length: usize) -> Result<u32, KeyStoreError> {
    u32::try_from(length).map_err(|_| KeyStoreError::TooLarge)
}

/// The key as `EncryptedPrivateKeyInfo`: salt, the key under a key stream, and a digest of both password and key.
fn hide(pkcs8: &[u8], wide: &[u8]) -> Result<Vec<u8>, KeyStoreError> {
    let salt = random_bytes::<DIGEST>()?;
    let mut protected = Vec::with_capacity(pkcs8.len() + 2 * DIGEST);
    protected.extend_from_slice(&salt);
    let mut block = Zeroizing::new(salt);
    for part in pkcs8.chunks(DIGEST) {
        *block = sha1(&[wide, &*block]);
        protected.extend(
            part.iter()
                .zip(block.iter())
                .map(|(clear, stream)| clear ^ stream),
        );
    }
    protected.extend_from_slice(&sha1(&[wide, pkcs8]));
    Ok(Writer::build(|info| {
        info.sequence(|info| {
            info.sequence(|algorithm| {
                algorithm.oid(oid::SUN_KEY_PROTECTOR);
                algorithm.null();
            });
            info.element(crate::der::OCTET_STRING, &protected);
        });
    }))
}

fn sha1(parts: &[&[u8]]) -> [u8; DIGEST] {
    let mut context = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
    for part in parts {
        context.update(part);
    }
    let mut out = [0; DIGEST];
    for (to, from) in out.iter_mut().zip(context.finish().as_ref()) {
        *to = *from;
    }
    out
}
