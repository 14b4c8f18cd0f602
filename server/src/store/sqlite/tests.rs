//! The SQLite store: the suite of every store, and what can happen to a file.

mod crash;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use tempfile::TempDir;

use super::super::conformance::{self, entry, entry_put};
use super::*;

const NOW: Timestamp = Timestamp::from_unix_seconds(1_700_000_000);

async fn open(path: &Path) -> Result<SqliteStore, StoreError> {
    let mut options = SqliteOptions::new(path);
    options.busy_timeout = Duration::from_millis(50);
    SqliteStore::open(&options).await
}

async fn raw(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .connect()
        .await
        .unwrap()
}

async fn execute(connection: &mut SqliteConnection, statement: &'static str) {
    sqlx::raw_sql(statement).execute(connection).await.unwrap();
}

fn files_in(folder: &Path) -> Vec<String> {
    let names = fs::read_dir(folder)
        .unwrap()
        .map(|file| file.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort();
    names
}

fn put(id: &str) -> Change {
    entry_put(entry(id, "/p", &format!("/{id}"), &["a:b", "c:d"]))
}

#[tokio::test]
async fn it_conforms() {
    let folder = TempDir::new().unwrap();
    let count = std::sync::atomic::AtomicUsize::new(0);
    let path = || {
        folder
            .path()
            .join(count.load(std::sync::atomic::Ordering::Relaxed).to_string())
    };
    conformance::all(async |store: Option<SqliteStore>| {
        match store {
            Some(store) => store.close().await,
            None => drop(count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)),
        }
        open(&path()).await.unwrap()
    })
    .await;
}

#[tokio::test]
async fn all_its_files_are_the_owners_alone() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("db");
    fs::write(&path, "").unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    let mut store = open(&path).await.unwrap();
    store.commit(Revision(0), &[put("a")], NOW).await.unwrap();
    assert_eq!(files_in(folder.path()), ["db", "db-shm", "db-wal"]);
    for name in files_in(folder.path()) {
        let mode = fs::metadata(folder.path().join(&name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    store.close().await;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    open(&path).await.unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[tokio::test]
async fn commits_are_synchronised_to_disk_in_a_write_ahead_log() {
    let folder = TempDir::new().unwrap();
    let mut store = open(&folder.path().join("db")).await.unwrap();
    for (pragma, wanted) in [
        ("synchronous", "2"),
        ("journal_mode", "wal"),
        ("foreign_keys", "1"),
    ] {
        let query = format!("SELECT CAST({pragma} AS TEXT) FROM pragma_{pragma}");
        let held: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
            .fetch_one(&mut store.connection)
            .await
            .unwrap();
        assert_eq!(held, wanted, "{pragma}");
    }
}

#[tokio::test]
async fn a_database_of_another_program_is_refused_untouched() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("db");
    let mut connection = raw(&path).await;
    execute(
        &mut connection,
        "CREATE TABLE registered_entries (id INTEGER); CREATE TABLE bundles (id INTEGER)",
    )
    .await;
    connection.close().await.unwrap();
    let before = fs::read(&path).unwrap();
    let error = open(&path).await.unwrap_err().to_string();
    assert!(
        error.contains("not a Credence database (it holds tables such as bundles, registered_entries)"),
        "{error}"
    );
    assert_eq!(
        (fs::read(&path).unwrap(), files_in(folder.path())),
        (before, vec!["db".to_owned()])
    );

    fs::write(
        &path,
        "a letter to a friend, long enough to be looked at in earnest, with many more words",
    )
    .unwrap();
    let error = open(&path).await.unwrap_err();
    assert!(matches!(error, StoreError::Foreign { .. }), "{error:?}");
    assert_eq!(files_in(folder.path()), ["db"]);
}

#[tokio::test]
async fn a_database_of_a_newer_version_is_refused() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("db");
    let mut store = open(&path).await.unwrap();
    let newer = "INSERT INTO _sqlx_migrations VALUES (9999, 'later', 0, TRUE, X'00', 0)";
    execute(&mut store.connection, newer).await;
    store.close().await;
    let error = open(&path).await.unwrap_err();
    assert!(
        matches!(error, StoreError::Newer { found: 9999, .. }),
        "{error:?}"
    );
}

#[tokio::test]
async fn bundles_from_before_they_had_rows_keep_their_order() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("db");
    let first = MIGRATIONS.iter().next().unwrap().clone();
    let mut connection = raw(&path).await;
    execute(&mut connection, "PRAGMA application_id = 1129465156").await;
    Migrator::with_migrations(vec![first])
        .run(&mut connection)
        .await
        .unwrap();
    execute(
        &mut connection,
        "INSERT INTO bundles VALUES ('z.test', '{\"x509\":[],\"jwt\":[]}', NULL, 1), \
         ('a.test', '{\"x509\":[],\"jwt\":[]}', NULL, 1); UPDATE log_head SET revision = 2",
    )
    .await;
    connection.close().await.unwrap();
    let mut store = open(&path).await.unwrap();
    let put = |name: &str| {
        let bundle = credence_identity::Bundle::empty(conformance::domain(name));
        Change::BundlePut(Arc::new(bundle))
    };
    store
        .commit(Revision(2), &[put("m.test"), put("a.test")], NOW)
        .await
        .unwrap();
    let held = store.load().await.unwrap();
    let rows = held
        .bundles
        .iter()
        .map(|(row, held)| (row.0, held.trust_domain.as_str()));
    assert_eq!(
        rows.collect::<Vec<_>>(),
        [(1, "z.test"), (2, "a.test"), (3, "m.test")]
    );
}

#[tokio::test]
async fn an_interrupted_creation_is_begun_anew() {
    let folder = TempDir::new().unwrap();
    fs::write(folder.path().join("db.new"), "half a database").unwrap();
    let mut store = open(&folder.path().join("db")).await.unwrap();
    assert_eq!(store.load().await.unwrap().revision, Revision(0));
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let folder = TempDir::new().unwrap();
    let error = open(&folder.path().join("missing/db")).await.unwrap_err();
    let StoreError::Failed(cause) = error else {
        panic!("{error:?}")
    };
    assert!(cause.to_string().contains("missing/db"), "{cause}");
}

#[tokio::test]
async fn a_locked_database_is_busy_and_then_free_again() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("db");
    let mut store = open(&path).await.unwrap();
    let mut other = raw(&path).await;
    execute(&mut other, "BEGIN IMMEDIATE").await;
    let error = store.commit(Revision(0), &[put("a")], NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Busy(_)), "{error:?}");
    assert!(matches!(store.probe().await, Err(StoreError::Busy(_))));
    execute(&mut other, "ROLLBACK").await;
    store.probe().await.unwrap();
    assert_eq!(
        store.commit(Revision(0), &[put("a")], NOW).await.unwrap(),
        Revision(1)
    );
}

#[tokio::test]
async fn another_writer_is_noticed() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("db");
    let (mut one, mut two) = (open(&path).await.unwrap(), open(&path).await.unwrap());
    one.commit(Revision(0), &[put("a")], NOW).await.unwrap();
    let error = two.commit(Revision(0), &[put("b")], NOW).await.unwrap_err();
    assert!(
        matches!(
            error,
            StoreError::Moved {
                expected: Revision(0)
            }
        ),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_ends() {
    let folder = TempDir::new().unwrap();
    let mut store = open(&folder.path().join("db")).await.unwrap();
    store.commit(Revision(0), &[put("a")], NOW).await.unwrap();
    let pages: i64 = sqlx::query_scalar("PRAGMA page_count")
        .fetch_one(&mut store.connection)
        .await
        .unwrap();
    let limit = format!("PRAGMA max_page_count = {pages}");
    sqlx::raw_sql(sqlx::AssertSqlSafe(limit))
        .execute(&mut store.connection)
        .await
        .unwrap();
    let many: Vec<_> = (0..1000).map(|n| put(&format!("many-{n}"))).collect();
    let error = store.commit(Revision(1), &many, NOW).await.unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error:?}");
    let held = store.load().await.unwrap();
    assert_eq!((held.revision, held.entries.len()), (Revision(1), 1));
    execute(&mut store.connection, "PRAGMA max_page_count = 100000").await;
    assert_eq!(
        store.commit(Revision(1), &many, NOW).await.unwrap(),
        Revision(1001)
    );
}

#[tokio::test]
async fn a_corrupt_row_is_named_and_not_skipped() {
    let folder = TempDir::new().unwrap();
    let mut store = open(&folder.path().join("db")).await.unwrap();
    store
        .commit(Revision(0), &[put("a"), put("b")], NOW)
        .await
        .unwrap();
    execute(
        &mut store.connection,
        "UPDATE entries SET parent_id = 'no id' WHERE id = 'b'",
    )
    .await;
    let error = store.load().await.unwrap_err().to_string();
    assert_eq!(
        error,
        "corrupt record in table entries, key \"b\": scheme is missing or invalid"
    );
}

#[tokio::test]
async fn the_log_has_a_row_per_change_and_is_bounded() {
    let folder = TempDir::new().unwrap();
    let mut store = open(&folder.path().join("db")).await.unwrap();
    let changes = [put("a"), Change::NodeDelete(conformance::spiffe("/n")), put("b")];
    store.commit(Revision(0), &changes, NOW).await.unwrap();
    let rows: Vec<(i64, String, String, i64)> =
        sqlx::query_as("SELECT revision, kind, object, changed_at FROM changes ORDER BY revision")
            .fetch_all(&mut store.connection)
            .await
            .unwrap();
    let wanted = [
        (1, "entry", "a"),
        (2, "node", "spiffe://td.test/n"),
        (3, "entry", "b"),
    ];
    let wanted = wanted.map(|(at, kind, object)| (at, kind.to_owned(), object.to_owned(), NOW.unix_millis()));
    assert_eq!(rows, wanted);
    execute(&mut store.connection, "UPDATE log_head SET revision = 100999").await;
    store.commit(Revision(100_999), &[put("c")], NOW).await.unwrap();
    let left: Vec<i64> = sqlx::query_scalar("SELECT revision FROM changes")
        .fetch_all(&mut store.connection)
        .await
        .unwrap();
    assert_eq!(left, [101_000]);
}
