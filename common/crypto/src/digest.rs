//! Digests, hexadecimal text and random bytes, so that no other crate names a crypto library for them.

use std::io::{self, Read};

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use aws_lc_rs::rand::{SecureRandom, SystemRandom};

/// The system gave no random bytes. Nothing that needs them may go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("system gave no random bytes")]
pub struct RandomError;

/// `N` unpredictable bytes.
pub fn random_bytes<const N: usize>() -> Result<[u8; N], RandomError> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| RandomError)?;
    Ok(bytes)
}

/// `length` unpredictable ASCII letters and digits: key ids as SPIRE makes them.
pub fn random_alphanumeric(length: usize) -> Result<String, RandomError> {
    const ALPHABET: &[u8] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = String::with_capacity(length);
    while text.len() < length {
        // Bytes past a multiple of 62 are dropped, or some letters would be likelier than others.
        let fair = random_bytes::<64>()?.into_iter().filter(|byte| *byte < 248);
        let letters = fair.filter_map(|byte| ALPHABET.get(usize::from(byte) % ALPHABET.len()));
        text.extend(
            letters
                .map(|letter| char::from(*letter))
                .take(length - text.len()),
        );
    }
    Ok(text)
}

/// SHA-256.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, bytes).as_ref());
    out
}

/// SHA-256 of all that is left to read, without holding it in memory.
///
/// # Errors
/// What the reader says.
pub fn sha256_of(mut reader: impl Read) -> io::Result<[u8; 32]> {
    let mut context = Context::new(&SHA256);
    let mut buffer = vec![0; 65_536];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => break,
            Ok(count) => context.update(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    let mut out = [0; 32];
    out.copy_from_slice(context.finish().as_ref());
    Ok(out)
}

/// SHA-1 in lower-case hexadecimal: a fingerprint that names a certificate, never a proof.
pub fn sha1_hex(bytes: &[u8]) -> String {
    hex(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref())
}

/// Lower-case hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_answers() {
        assert_eq!(sha1_hex(b"abc"), "a9993e364706816aba3e25717850c26c9cd0d89d");
        assert!(hex(&sha256(b"abc")).starts_with("ba7816bf8f01cfea"));
        let long = vec![7; 200_000];
        assert_eq!(sha256_of(&long[..]).unwrap(), sha256(&long));
    }

    #[test]
    fn key_ids_differ_and_are_alphanumeric() {
        let (one, two) = (random_alphanumeric(32).unwrap(), random_alphanumeric(32).unwrap());
        assert_ne!(one, two);
        assert!(one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    }
}
