//! Databases that are open while they are read.

use std::sync::atomic::{AtomicBool, Ordering};

use super::*;

#[tokio::test]
async fn what_is_only_in_the_write_ahead_log_is_taken_over_and_the_log_stays() {
    let folder = Folder::full().await;
    let mut spire = folder.raw().await;
    sqlx::raw_sql("PRAGMA wal_autocheckpoint = 0; UPDATE registered_entries SET hint = 'late'")
        .execute(&mut spire)
        .await
        .unwrap();
    let before = folder.files();
    assert!(before["datastore.sqlite3-wal"].len() > 32);
    let held = folder.taken_over().await;
    assert_eq!(&*held.entries[0].1.hint, "late");
    let after = folder.files();
    for name in [
        "datastore.sqlite3",
        "datastore.sqlite3-wal",
        "datastore.sqlite3-shm",
    ] {
        assert!(after[name] == before[name], "{name} was written");
    }
    // The log of a killed SPIRE lies there without anyone who has it open.
    let killed = Folder::empty();
    for (name, bytes) in &before {
        fs::write(killed.dir.path().join(name), bytes).unwrap();
    }
    fs::remove_file(killed.dir.path().join("datastore.sqlite3-shm")).unwrap();
    assert_eq!(&*killed.taken_over().await.entries[0].1.hint, "late");
    assert!(!killed.files().contains_key("datastore.sqlite3-shm"));
    spire.close().await.unwrap();
}

/// Two numbers that every commit keeps equal, far apart in a database whose log begins anew all the time.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_is_never_of_two_moments() {
    let folder = Folder::empty();
    folder
        .execute(
            "CREATE TABLE one (n INTEGER, filler BLOB); CREATE TABLE two (n INTEGER, filler BLOB); \
             WITH RECURSIVE c(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c WHERE x < 50) \
             INSERT INTO one SELECT 0, randomblob(3000) FROM c; INSERT INTO two SELECT * FROM one",
        )
        .await;
    let mut writer = folder.raw().await;
    let over = Arc::new(AtomicBool::new(false));
    let until = Arc::clone(&over);
    let mut writing = tokio::task::JoinSet::new();
    writing.spawn(async move {
        let mut rounds = 0;
        while !until.load(Ordering::Relaxed) {
            let change = "BEGIN; UPDATE one SET n = n + 1; UPDATE two SET n = n + 1; COMMIT";
            sqlx::raw_sql(change).execute(&mut writer).await.unwrap();
            if rounds % 3 == 0 {
                sqlx::raw_sql("PRAGMA wal_checkpoint(RESTART)")
                    .execute(&mut writer)
                    .await
                    .unwrap();
            }
            rounds += 1;
            // A database that is never at rest is refused in the end.
            tokio::time::sleep(Duration::from_micros(500)).await;
        }
        writer.close().await.unwrap();
        rounds
    });
    let (mut copies, mut restless) = (0, 0);
    while copies < 30 && restless < 300 {
        let to = folder.dir.path().join("copy");
        match DatabaseCopy::take(&folder.database.path, &to) {
            Ok(copy) => {
                let mut database = SqliteConnectOptions::new()
                    .filename(copy.path())
                    .connect()
                    .await
                    .unwrap();
                let query = "SELECT (SELECT min(n) FROM one) = (SELECT max(n) FROM two) \
                             AND (SELECT max(n) FROM one) = (SELECT min(n) FROM two)";
                let same: i64 = sqlx::query_scalar(query).fetch_one(&mut database).await.unwrap();
                assert_eq!(same, 1, "copy {copies} is of two moments");
                let found: String = sqlx::query_scalar("PRAGMA quick_check")
                    .fetch_one(&mut database)
                    .await
                    .unwrap();
                assert_eq!(found, "ok");
                database.close().await.unwrap();
                copies += 1;
            }
            Err(CopyError::Restless { .. }) => restless += 1,
            Err(error) => panic!("{error}"),
        }
    }
    over.store(true, Ordering::Relaxed);
    assert!(writing.join_next().await.unwrap().unwrap() > 0);
    assert!(copies >= 10, "{copies} copies, {restless} refusals");
}
