//! The database file: is it ours, and how it comes to be.
//!
//! Invariant: a foreign file is read and nothing else.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteJournalMode};
use sqlx::{ConnectOptions, Connection, Row};

use super::super::StoreError;

/// Marks a database as Credence's, in bytes 68 to 71 of the file: "CRED".
const APPLICATION_ID: i32 = 0x4352_4544;
const MAGIC: &[u8; 16] = b"SQLite format 3\0";
const MODE: u32 = 0o600;

/// Makes sure that a database of ours is there, and returns its real path.
pub(super) async fn prepare(path: &Path) -> Result<PathBuf, StoreError> {
    let path = match fs::canonicalize(path) {
        Ok(path) => path,
        Err(error) if error.kind() == io::ErrorKind::NotFound => path.to_path_buf(),
        Err(error) => return Err(failed(path, error)),
    };
    match look_at(&path).map_err(|error| failed(&path, error))? {
        Found::Nothing => create(&path, async |_| Ok(())).await?,
        Found::Ours => {
            fs::set_permissions(&path, Permissions::from_mode(MODE)).map_err(|error| failed(&path, error))?;
        }
        Found::NoDatabase => {
            return Err(StoreError::Foreign {
                path,
                found: "it is no SQLite database at all".to_owned(),
            });
        }
        Found::Foreign => {
            let found = tables_of(&path).await;
            return Err(StoreError::Foreign { path, found });
        }
    }
    Ok(path)
}

enum Found {
    Nothing,
    Ours,
    Foreign,
    NoDatabase,
}

/// Whether the file is an SQLite database, but not ours.
pub(super) fn is_foreign(path: &Path) -> io::Result<bool> {
    Ok(matches!(look_at(path)?, Found::Foreign))
}

fn look_at(path: &Path) -> io::Result<Found> {
    let mut header = Vec::new();
    match File::open(path) {
        Ok(file) => file.take(72).read_to_end(&mut header)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::Nothing),
        Err(error) => return Err(error),
    };
    Ok(if header.is_empty() {
        Found::Nothing
    } else if !header.starts_with(MAGIC) {
        Found::NoDatabase
    } else if header.ends_with(&APPLICATION_ID.to_be_bytes()) && header.len() == 72 {
        Found::Ours
    } else {
        Found::Foreign
    })
}

/// What an operator needs to recognise the database, read without a lock or a trace in the file's folder.
async fn tables_of(path: &Path) -> String {
    let options = SqliteConnectOptions::new()
        .filename(path)
        .read_only(true)
        .immutable(true);
    let tables = async {
        let mut connection = options.connect().await?;
        let query = "SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name LIMIT 5";
        let rows = sqlx::query(query).fetch_all(&mut connection).await?;
        connection.close().await?;
        rows.iter()
            .map(|row| row.try_get(0))
            .collect::<Result<Vec<String>, sqlx::Error>>()
    };
    match tables.await {
        Ok(tables) if !tables.is_empty() => format!("it holds tables such as {}", tables.join(", ")),
        _ => "it is an SQLite database of another program".to_owned(),
    }
}

/// Makes a complete database under a temporary name, lets `fill` write to it, and gives it its own.
pub(super) async fn create(
    path: &Path,
    fill: impl AsyncFnOnce(&mut SqliteConnection) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let new = beside(path, ".new");
    // What an interrupted creation left behind; and the log of a database that was deleted would be played into ours.
    for stale in [&new, &beside(path, "-wal"), &beside(path, "-shm")] {
        match fs::remove_file(stale) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(stale, error)),
            _ => {}
        }
    }
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(&new)
        .map_err(|error| failed(&new, error))?;
    let options = SqliteConnectOptions::new()
        .filename(&new)
        .journal_mode(SqliteJournalMode::Off);
    let mut connection: SqliteConnection = options.connect().await?;
    sqlx::query(sqlx::AssertSqlSafe(format!(
        "PRAGMA application_id = {APPLICATION_ID}"
    )))
    .execute(&mut connection)
    .await?;
    super::migrate(&mut connection).await?;
    fill(&mut connection).await?;
    connection.close().await?;
    publish(&new, path).map_err(|error| failed(path, error))
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    PathBuf::from(name)
}

fn publish(new: &Path, path: &Path) -> io::Result<()> {
    File::open(new)?.sync_all()?;
    fs::rename(new, path)?;
    let folder = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    File::open(folder)?.sync_all()
}

fn failed(path: &Path, error: io::Error) -> StoreError {
    let text = format!("unable to open {}: {error}", path.display());
    StoreError::failed(io::Error::new(error.kind(), text))
}
