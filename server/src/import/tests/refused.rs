//! What is not taken over, and stays as it is.

use super::*;

/// The start is refused, and no file has come, gone or changed.
async fn refused(folder: &Folder) -> String {
    let before = folder.files();
    let error = folder.settle().await.unwrap_err();
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    let (before, mut after) = (before, folder.files());
    // A copy of keys alone means nothing: the next try replaces it.
    after.remove("keys.json.credence");
    assert!(after == before, "{:?} became {:?}", before.keys(), after.keys());
    text
}

#[tokio::test]
async fn other_versions_of_spires_schema() {
    for (statements, named) in [
        (
            "UPDATE migrations SET version = 22",
            "its schema version is 22; versions 23 to 25",
        ),
        (
            "UPDATE migrations SET version = 26",
            "its schema version is 26; versions 23 to 25",
        ),
        ("DELETE FROM migrations", "its schema version is 0;"),
        ("DROP TABLE ca_journals", "there is no table ca_journals"),
    ] {
        let folder = Folder::full().await;
        folder.execute(statements).await;
        let text = refused(&folder).await;
        assert!(text.contains(named) && text.contains("left untouched"), "{text}");
    }
}

#[tokio::test]
async fn records_that_mean_nothing_are_named() {
    for (statements, named) in [
        (
            "UPDATE registered_entries SET spiffe_id = 'spiffe://other.test/full' WHERE id = 1",
            "entry \"full\": spiffe://other.test/full is no member of trust domain example.org",
        ),
        (
            "UPDATE registered_entries SET entry_id = 'a b' WHERE id = 1",
            "entry \"a b\":",
        ),
        (
            "UPDATE registered_entries SET created_at = 'today'",
            "2 records can't be read: entry \"full\": \"today\"",
        ),
        (
            "UPDATE registered_entries SET ttl = -1 WHERE id = 1",
            "entry \"full\":",
        ),
        (
            "UPDATE registered_entries SET additional_attributes = X'FF' WHERE id = 1",
            "entry \"full\":",
        ),
        ("UPDATE selectors SET type = 'a:b'", "selector type contains ':'"),
        (
            "DELETE FROM bundles WHERE id = 3",
            "federates with a bundle that is gone",
        ),
        (
            "UPDATE bundles SET data = X'0A' WHERE id = 2",
            "bundle of \"spiffe://two.test\":",
        ),
        ("UPDATE ca_journals SET data = X'FFFF'", "the CA journal:"),
        (
            "UPDATE federated_trust_domains SET bundle_endpoint_url = 'http://x'",
            "federation relationship with",
        ),
        (
            "UPDATE attested_node_entries SET spiffe_id = 'x' WHERE id = 1",
            "agent \"x\":",
        ),
    ] {
        let folder = Folder::full().await;
        folder.execute(statements).await;
        let text = refused(&folder).await;
        assert!(text.contains(named) && text.contains("left untouched"), "{text}");
    }
}

#[tokio::test]
async fn damaged_databases() {
    let whole = Folder::full().await.files().remove("datastore.sqlite3").unwrap();
    let page = 4096;
    assert!(whole.len() > 12 * page);
    let mut cases = vec![whole[..whole.len() / 2].to_vec(), whole[..100].to_vec()];
    for number in 1..whole.len() / page {
        let mut bytes = whole.clone();
        bytes[number * page..][..16].fill(0xff);
        cases.push(bytes);
    }
    for bytes in cases {
        let folder = Folder::empty();
        fs::write(&folder.database.path, &bytes).unwrap();
        let before = folder.files();
        match folder.settle().await {
            Err(error) => assert!(matches!(error, ImportError::Read { .. }), "{error}"),
            // Too damaged to be known as SPIRE's: the store refuses what it doesn't know.
            Ok((database, _)) => {
                let error = SqliteStore::open(&database).await.unwrap_err();
                assert!(matches!(error, StoreError::Foreign { .. }), "{error}");
            }
        }
        assert!(folder.files() == before);
    }
}

#[tokio::test]
async fn another_programs_database() {
    for statements in [
        "CREATE TABLE recipes (name TEXT)",
        "CREATE TABLE migrations (id INTEGER PRIMARY KEY, version INTEGER); INSERT INTO migrations VALUES (1, 25)",
    ] {
        let folder = Folder::empty();
        folder.execute(statements).await;
        let before = folder.files();
        let (database, keys) = folder.settle().await.unwrap();
        assert_eq!((&database.path, &keys), (&folder.database.path, &folder.keys));
        let error = SqliteStore::open(&database).await.unwrap_err();
        assert!(error.to_string().contains("left untouched"), "{error}");
        assert!(folder.files() == before);
    }
}

#[tokio::test]
async fn keys_that_are_no_keys() {
    let folder = Folder::full().await;
    fs::write(&folder.keys, r#"{"keys":{"x509-CA-A":"AAAA"}}"#).unwrap();
    let text = refused(&folder).await;
    assert!(text.contains("unable to take over SPIRE's keys"), "{text}");
}

#[tokio::test]
async fn a_change_that_was_cut_short_in_a_rollback_journal() {
    let folder = Folder::full().await;
    fs::write(with_ending(&folder.database.path, "-journal"), "hot").unwrap();
    let text = refused(&folder).await;
    assert!(
        text.contains("unfinished change in its rollback journal"),
        "{text}"
    );
}
