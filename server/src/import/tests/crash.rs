//! `kill -9` in the middle of taking over: this test binary, started again as the victim.

use std::env;
use std::process::{Command, Stdio};

use super::*;

const FOLDER: &str = "CREDENCE_TEST_IMPORT_FOLDER";
const ENTRIES: usize = 2_000;

#[tokio::test]
async fn a_take_over_that_is_cut_short_leaves_nothing_half_done() {
    let folder = Folder::full().await;
    folder
        .execute(
            "WITH RECURSIVE c(x) AS (SELECT 100 UNION ALL SELECT x + 1 FROM c WHERE x < 2097) \
             INSERT INTO registered_entries SELECT x, '2026-01-01 00:00:00+00:00', NULL, 'e-' || x, \
             'spiffe://example.org/e-' || x, 'spiffe://example.org/p', 0, 0, 0, 0, 0, 0, '', 0, NULL FROM c",
        )
        .await;
    let spires = folder.files();
    let ours = folder.dir.path().join("datastore.sqlite3.credence");
    let (mut cut, mut round) = (0, 0);
    while cut < 8 && round < 60 {
        let mut victim = Command::new(env::current_exe().unwrap())
            .args([
                "--exact",
                "import::tests::crash::victim",
                "--nocapture",
                "--test-threads=1",
            ])
            .env(FOLDER, folder.dir.path())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_millis(10 * (round % 30)));
        victim.kill().unwrap();
        victim.wait().unwrap();
        if ours.exists() {
            let mut store = SqliteStore::open(&SqliteOptions::new(&ours)).await.unwrap();
            assert_eq!(store.load().await.unwrap().entries.len(), ENTRIES);
            store.close().await;
            fs::remove_file(&ours).unwrap();
        } else {
            cut += 1;
        }
        for (name, bytes) in &spires {
            assert!(
                fs::read(folder.dir.path().join(name)).unwrap() == *bytes,
                "{name} was written"
            );
        }
        round += 1;
    }
    assert!(cut > 0, "never killed in time");
    assert_eq!(folder.taken_over().await.entries.len(), ENTRIES);
    let names: Vec<String> = folder.files().into_keys().collect();
    assert_eq!(
        names,
        [
            "datastore.sqlite3",
            "datastore.sqlite3.credence",
            "keys.json",
            "keys.json.credence"
        ],
        "the next start cleans up"
    );
}

#[tokio::test]
async fn the_log_of_a_database_that_was_deleted_is_not_played_into_the_new_one() {
    let folder = Folder::full().await;
    let held = folder.taken_over().await;
    let (database, _) = folder.settle().await.unwrap();
    let mut store = SqliteStore::open(&database).await.unwrap();
    let gone = [Change::EntryDelete("full".parse().unwrap())];
    store.commit(held.revision, &gone, NOW).await.unwrap();
    let log = fs::read(with_ending(&database.path, "-wal")).unwrap();
    store.close().await;
    fs::remove_file(&database.path).unwrap();
    fs::write(with_ending(&database.path, "-wal"), log).unwrap();
    assert_eq!(folder.taken_over().await.entries.len(), 2);
}

/// Not a test of its own: does nothing unless it was started by the one above.
#[tokio::test]
async fn victim() {
    let Some(dir) = env::var_os(FOLDER) else { return };
    let mut database = SqliteOptions::new(Path::new(&dir).join("datastore.sqlite3"));
    let mut keys = Path::new(&dir).join("keys.json");
    let trust_domain = "example.org".parse().unwrap();
    settle(&mut database, Some(&mut keys), &trust_domain, NOW)
        .await
        .unwrap();
}
