//! The store in an SQLite file, the one a single server needs.
//!
//! Owns the connection and the file: mode 0600, write-ahead log, each commit synchronised to disk before it is
//! acknowledged. It never touches a database of another program. Invariant: a file under the store's name is a
//! complete Credence database, for it is made under another name and renamed.

mod bundle_json;
mod file;
mod load;
mod record;
mod taken_over;
mod write;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use credence_identity::Timestamp;
use futures_util::TryStreamExt;
use sqlx::migrate::{MigrateError, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteSynchronous};
use sqlx::{ConnectOptions, Connection, Executor};

use super::{Change, Revision, Snapshot, Store, StoreError};
use write::Script;

static MIGRATIONS: Migrator = sqlx::migrate!("src/store/sqlite/migrations");

/// Rows that SQLite's thread may read ahead of the loader: each wake of the other thread serves that many.
const ROWS_AHEAD: usize = 1024;

/// Changes of a commit whose script is worth keeping: eight attestations at once.
const FEW: usize = 16;

/// How to open an SQLite store.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// The database file; created, in a folder that exists, if there is none.
    pub path: PathBuf,
    /// How long a commit may wait for another process that holds a lock, before it fails as
    /// [`StoreError::Busy`].
    pub busy_timeout: Duration,
}

impl SqliteOptions {
    /// The options for a file, with a deadline of 5 s for locks.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        SqliteOptions {
            path: path.into(),
            busy_timeout: Duration::from_secs(5),
        }
    }
}

/// See the module's text.
#[derive(Debug)]
pub struct SqliteStore {
    connection: SqliteConnection,
}

impl SqliteStore {
    /// Opens the database, creating or migrating it if need be.
    ///
    /// # Errors
    /// [`StoreError::Foreign`] or [`StoreError::Newer`], and the file is as it was; or what the file system says.
    pub async fn open(options: &SqliteOptions) -> Result<SqliteStore, StoreError> {
        let path = file::prepare(&options.path).await?;
        let connect = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(false)
            .busy_timeout(options.busy_timeout)
            .foreign_keys(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .row_buffer_size(ROWS_AHEAD)
            .disable_statement_logging();
        let mut connection = connect.connect().await?;
        migrate(&mut connection).await?;
        Ok(SqliteStore { connection })
    }
}

impl SqliteStore {
    /// Whether the file is an SQLite database, and not one of ours. It is only looked at.
    ///
    /// # Errors
    /// What the file system says; a file that isn't there is no database.
    pub(crate) fn is_of_another_program(path: &Path) -> io::Result<bool> {
        file::is_foreign(path)
    }

    /// Runs a script. An error comes with the place of the statement that failed.
    async fn run(&mut self, mut script: Script, keep: bool) -> Result<(), (usize, StoreError)> {
        let mut outcomes = self.connection.fetch_many(script.build().persistent(keep));
        let mut done = 0;
        loop {
            match outcomes.try_next().await {
                Ok(Some(_)) => done += 1,
                Ok(None) => return Ok(()),
                Err(error) => return Err((done, error.into())),
            }
        }
    }

    async fn roll_back(&mut self) {
        // Fails if SQLite has rolled back by itself, or never began.
        if let Err(error) = sqlx::query("ROLLBACK").execute(&mut self.connection).await {
            tracing::debug!(error = %error, "Nothing to roll back");
        }
    }
}

impl Store for SqliteStore {
    async fn load(&mut self) -> Result<Snapshot, StoreError> {
        let mut transaction = self.connection.begin().await?;
        let snapshot = load::snapshot(&mut transaction).await?;
        transaction.commit().await?;
        Ok(snapshot)
    }

    async fn commit(
        &mut self,
        at: Revision,
        changes: &[Change],
        now: Timestamp,
    ) -> Result<Revision, StoreError> {
        let script = write::script(at, changes, now)?;
        // Scripts for few changes come again with the same text and stay prepared; the others are many and large.
        let few = changes.len() <= FEW;
        if let Err((statement, error)) = self.run(script, few).await {
            self.roll_back().await;
            let moved = statement == write::GUARD && error.is_refusal();
            return Err(if moved {
                StoreError::Moved { expected: at }
            } else {
                error
            });
        }
        Ok(at.plus(changes.len()))
    }

    async fn probe(&mut self) -> Result<(), StoreError> {
        let mut transaction = self.connection.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query("UPDATE log_head SET revision = revision")
            .execute(&mut *transaction)
            .await?;
        Ok(transaction.commit().await?)
    }

    async fn close(self) {
        if let Err(error) = self.connection.close().await {
            tracing::warn!(error = %error, "Unable to close the datastore; it will recover when it is opened");
        }
    }
}

async fn migrate(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let known = MIGRATIONS
        .iter()
        .map(|migration| migration.version)
        .max()
        .unwrap_or(0);
    MIGRATIONS.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) => StoreError::Newer { found, known },
        other => StoreError::failed(other),
    })
}

/// SQLite's primary result codes, see <https://sqlite.org/rescode.html>. An extended code has one in its low byte.
mod code {
    pub(super) const BUSY: u32 = 5;
    pub(super) const LOCKED: u32 = 6;
    pub(super) const FULL: u32 = 13;
    pub(super) const CONSTRAINT: u32 = 19;
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        let code = error
            .as_database_error()
            .and_then(|e| e.code()?.parse::<u32>().ok());
        match code.map(|extended| extended & 0xff) {
            Some(code::BUSY | code::LOCKED) => StoreError::Busy(Arc::new(error)),
            Some(code::FULL) => StoreError::Full(Arc::new(error)),
            Some(code::CONSTRAINT) => StoreError::Constraint(Arc::new(error)),
            _ => StoreError::failed(error),
        }
    }
}

#[cfg(test)]
mod tests;
