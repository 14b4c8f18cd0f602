//! Databases that begin with another program's content, and the mark by which they are known.

use std::path::Path;

use credence_identity::Timestamp;
use sqlx::sqlite::SqliteConnection;
use sqlx::{Connection, Executor, Row as _};

use super::super::{Change, Revision, StoreError};
use super::{SqliteOptions, SqliteStore, file, write};

/// What a database was made from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TakenOver {
    /// Of the other program's records as they were then.
    pub(crate) digest: [u8; 32],
    /// Whether the database is still as it was made.
    pub(crate) untouched: bool,
}

impl SqliteStore {
    /// Makes a database with these changes as its first commit, in place of the one that is there. Until it is
    /// complete it has another name, so a crash leaves what was there before.
    ///
    /// # Errors
    /// What the file system or SQLite says. Nothing but a file of the temporary name is left behind.
    pub(crate) async fn create_from(
        path: &Path,
        changes: &[Change],
        digest: [u8; 32],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        file::create(path, async |connection| {
            fill(connection, changes, digest, now).await
        })
        .await
    }

    /// What the database was made from, if it was made from another program's. Closes it again.
    ///
    /// # Errors
    /// Those of [`SqliteStore::open`].
    pub(crate) async fn taken_over(options: &SqliteOptions) -> Result<Option<TakenOver>, StoreError> {
        let mut store = SqliteStore::open(options).await?;
        let query = "SELECT t.digest, t.revision = h.revision FROM taken_over t, log_head h";
        let row = sqlx::query(query).fetch_optional(&mut store.connection).await?;
        let mark = row.map(|row| {
            let digest: Vec<u8> = row.try_get(0)?;
            Ok(TakenOver {
                digest: digest.try_into().map_err(|_| corrupt())?,
                untouched: row.try_get_unchecked::<i64, _>(1)? != 0,
            })
        });
        store.connection.close().await?;
        mark.transpose()
    }
}

async fn fill(
    connection: &mut SqliteConnection,
    changes: &[Change],
    digest: [u8; 32],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut script = write::script(Revision(0), changes, now)?;
    connection.execute(script.build().persistent(false)).await?;
    sqlx::query("INSERT INTO taken_over (id, digest, revision) SELECT 1, ?, revision FROM log_head")
        .bind(digest.as_slice())
        .execute(connection)
        .await?;
    Ok(())
}

fn corrupt() -> StoreError {
    StoreError::Corrupt {
        table: "taken_over",
        key: "1".to_owned(),
        reason: "not a digest".to_owned(),
    }
}
