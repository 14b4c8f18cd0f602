use std::os::unix::fs::PermissionsExt;

use credence_crypto::SignatureForm;

use super::*;

/// What every key manager promises.
async fn suite(manager: &dyn KeyManager) {
    assert!(manager.key("x509-CA-A").is_none());
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let made = manager.generate("x509-CA-A", key_type).await.unwrap();
        assert_eq!(made.key_type(), key_type);
        let found = manager.key("x509-CA-A").unwrap();
        assert_eq!(found.public_key().spki_der(), made.public_key().spki_der());
        assert!(!found.sign(b"message", SignatureForm::Jose).unwrap().is_empty());
    }
    let last = manager.key("x509-CA-A").unwrap();
    let other = manager.generate("JWT-Signer-A", KeyType::EcP256).await.unwrap();
    assert_ne!(other.public_key().spki_der(), last.public_key().spki_der());
    assert_eq!(
        manager.key("x509-CA-A").unwrap().public_key().spki_der(),
        last.public_key().spki_der()
    );
    let shown = format!("{manager:?}");
    assert!(!shown.contains("MI"), "a key in Debug: {shown}");
}

#[tokio::test]
async fn memory() {
    suite(&MemoryKeyManager::default()).await;
}

#[tokio::test]
async fn disk() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/keys.json");
    let manager = DiskKeyManager::open(&path).unwrap();
    suite(&manager).await;
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777,
        0o600
    );
    let again = DiskKeyManager::open(&path).unwrap();
    for id in ["x509-CA-A", "JWT-Signer-A"] {
        let (before, after) = (manager.key(id).unwrap(), again.key(id).unwrap());
        assert_eq!(before.public_key().spki_der(), after.public_key().spki_der());
    }
}

#[tokio::test]
async fn the_file_is_in_spires_format() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let manager = DiskKeyManager::open(&path).unwrap();
    manager.generate("x509-CA-A", KeyType::EcP256).await.unwrap();
    manager.generate("odd \"name\"", KeyType::EcP256).await.unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    let keys = value["keys"].as_object().unwrap();
    assert_eq!(keys.keys().collect::<Vec<_>>(), ["odd \"name\"", "x509-CA-A"]);
    assert!(text.starts_with("{\n\t\"keys\": {\n\t\t\"odd"), "{text}");
    // As SPIRE's encoder would write it, key by key.
    std::fs::write(&path, serde_json::to_vec(&value).unwrap()).unwrap();
    let again = DiskKeyManager::open(&path).unwrap();
    assert!(again.key("x509-CA-A").is_some() && again.key("odd \"name\"").is_some());
}

#[tokio::test]
async fn a_failed_write_leaves_every_key_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    let manager = DiskKeyManager::open(&path).unwrap();
    let before = manager.generate("x509-CA-A", KeyType::EcP256).await.unwrap();
    // A folder in the way of the new file fails for root too, unlike a mode.
    std::fs::create_dir(folder.path().join("keys.json.tmp")).unwrap();
    manager.generate("x509-CA-A", KeyType::EcP256).await.unwrap_err();
    let reread = DiskKeyManager::open(&path).unwrap();
    for manager in [&manager, &reread] {
        assert_eq!(
            manager.key("x509-CA-A").unwrap().public_key().spki_der(),
            before.public_key().spki_der()
        );
    }
}

#[test]
fn a_file_that_does_not_parse_is_an_error_and_stays() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    for text in [
        "",
        "{}",
        "[]",
        r#"{"keys":{"a":"not base64!"}}"#,
        r#"{"keys":{"a":"AAAA"}}"#,
    ] {
        std::fs::write(&path, text).unwrap();
        let error = DiskKeyManager::open(&path).unwrap_err();
        assert!(!format!("{error:?}").contains("AAAA"), "{error:?}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    }
}
