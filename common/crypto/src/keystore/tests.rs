use super::*;
use crate::KeyType;

fn store(key: &PrivateKey) -> StoreContents<'_> {
    StoreContents {
        key,
        chain: &[],
        authorities: &[],
        now: Timestamp::from_unix_seconds(1_700_000_000),
    }
}

#[test]
fn passwords_are_printable_and_long_enough() {
    for bad in [
        &b""[..],
        b"short",
        b"tab\tbed",
        "pässword".as_bytes(),
        &[b'a'; 1025],
    ] {
        assert_eq!(StorePassword::new(bad).unwrap_err(), KeyStoreError::Password);
    }
    let password = StorePassword::new(b"change it").unwrap();
    assert_eq!(format!("{password:?}"), "StorePassword(redacted)");
    assert_eq!(password.utf16().get(..4), Some(&b"\0c\0h"[..]));
}

/// OpenSSL and keytool read them in the end-to-end tests; here, that neither shows the key.
#[test]
fn stores_differ_each_time_and_hide_the_key() {
    let key = PrivateKey::generate(KeyType::EcP256).unwrap();
    let password = StorePassword::new(b"changeit").unwrap();
    for write in [to_jks, to_pkcs12] {
        let (one, other) = (
            write(&store(&key), &password).unwrap(),
            write(&store(&key), &password).unwrap(),
        );
        assert_ne!(one, other);
        let clear = key.pkcs8_der();
        let part = clear.get(clear.len() - 40..).unwrap();
        assert!(!one.windows(part.len()).any(|window| window == part));
    }
}
