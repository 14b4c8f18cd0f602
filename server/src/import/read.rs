//! SPIRE's tables, as their schema versions 23 to 25 have them.
//!
//! Owns the SQL. What a row means is `records`' business. Invariant: it reads a copy.

use std::collections::HashMap;

use credence_crypto::{hex, sha256_of};
use credence_identity::{Timestamp, TrustDomain};
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, ConnectOptions, Row as _};

use super::copy::DatabaseCopy;
use super::records::{Reader, Records};
use crate::keymanager::{DiskKeyManager, KeyManager};

/// The schema of SPIRE 1.8, from which all that is needed is there, and that of 1.15.
const SCHEMAS: std::ops::RangeInclusive<i64> = 23..=25;
/// What no other program's database has, together.
const TABLES: [&str; 12] = [
    "attested_node_entries",
    "bundles",
    "ca_journals",
    "dns_names",
    "federated_registration_entries",
    "federated_trust_domains",
    "join_tokens",
    "migrations",
    "node_resolver_map_entries",
    "registered_entries",
    "selectors",
    "sqlite_sequence",
];
/// What makes a database of any age SPIRE's.
const SPIRES_OWN: [&str; 3] = ["migrations", "registered_entries", "attested_node_entries"];
/// Records that are unreadable and shown, at most.
const SHOWN: usize = 20;

/// Why SPIRE's database can't be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Another age of SPIRE.
    #[error(
        "its schema version is {0}; versions {start} to {end} can be taken over, which SPIRE 1.8 to 1.15 write",
        start = SCHEMAS.start(), end = SCHEMAS.end()
    )]
    Schema(i64),
    /// SQLite finds damage.
    #[error("the database is damaged: {0}")]
    Damaged(String),
    /// A table of SPIRE's is missing.
    #[error("the database is damaged: there is no table {0}")]
    NoTable(&'static str),
    /// Records that mean nothing. SPIRE's own commands can remove them.
    #[error("{count} records can't be read: {shown}")]
    Records {
        /// How many.
        count: usize,
        /// The first of them.
        shown: String,
    },
    /// SQLite fails.
    #[error("SQLite failed")]
    Sqlite(#[from] sqlx::Error),
}

/// SPIRE's database.
#[derive(Debug)]
pub(super) struct Spire {
    connection: SqliteConnection,
    version: i64,
    /// Goes after the connection.
    _copy: DatabaseCopy,
}

impl Spire {
    /// Opens a copy of a database; none if it isn't SPIRE's.
    pub(super) async fn open(copy: DatabaseCopy) -> Result<Option<Self>, ReadError> {
        let options = SqliteConnectOptions::new()
            .filename(copy.path())
            .create_if_missing(false)
            .disable_statement_logging();
        let mut connection = options.connect().await?;
        let tables = texts(
            &mut connection,
            "SELECT name FROM sqlite_master WHERE type = 'table'",
        )
        .await?;
        let has = |table: &&str| tables.iter().any(|found| found == table);
        if !SPIRES_OWN.iter().all(has) {
            return Ok(None);
        }
        let version = sqlx::query("SELECT version FROM migrations ORDER BY id LIMIT 1")
            .fetch_optional(&mut connection)
            .await?
            .map_or(Ok(0), |row| row.try_get_unchecked(0))?;
        if !SCHEMAS.contains(&version) {
            return Err(ReadError::Schema(version));
        }
        if let Some(missing) = TABLES.into_iter().find(|table| !has(table)) {
            return Err(ReadError::NoTable(missing));
        }
        let mut spire = Self {
            connection,
            version,
            _copy: copy,
        };
        spire.check().await?;
        Ok(Some(spire))
    }

    /// The version of the schema.
    pub(super) fn version(&self) -> i64 {
        self.version
    }

    async fn check(&mut self) -> Result<(), ReadError> {
        let found = texts(&mut self.connection, "PRAGMA quick_check(5)").await?;
        if found == ["ok"] {
            Ok(())
        } else {
            Err(ReadError::Damaged(found.join("; ")))
        }
    }

    /// A digest of all records that are taken over. It is kept over restarts, so its form must not change.
    pub(super) async fn digest(&mut self) -> Result<[u8; 32], ReadError> {
        let mut text = Vec::new();
        for table in TABLES {
            // Those that say how far SPIRE is, and not what it holds.
            if matches!(table, "migrations" | "sqlite_sequence") {
                continue;
            }
            let columns = texts(
                &mut self.connection,
                format!("SELECT name FROM pragma_table_info('{table}') ORDER BY cid"),
            )
            .await?;
            let quoted: Vec<String> = columns
                .iter()
                .map(|column| format!("quote(\"{column}\")"))
                .collect();
            let query = format!(
                "SELECT {} FROM \"{table}\" ORDER BY rowid",
                quoted.join(" || ',' || ")
            );
            text.extend_from_slice(table.as_bytes());
            for row in texts(&mut self.connection, query).await? {
                text.push(b'\n');
                text.extend_from_slice(row.as_bytes());
            }
            text.push(b'\n');
        }
        sha256_of(text.as_slice()).map_err(|error| ReadError::Sqlite(error.into()))
    }

    /// Everything that is taken over, as the changes that make it.
    pub(super) async fn records(
        &mut self,
        trust_domain: &TrustDomain,
        keys: Option<&DiskKeyManager>,
        now: Timestamp,
    ) -> Result<Records, ReadError> {
        let mut reader = Reader::new(trust_domain.clone(), now);
        for row in self
            .rows("SELECT id, trust_domain, data FROM bundles ORDER BY id")
            .await?
        {
            reader.bundle(row.try_get_unchecked(0)?, &text(&row, 1)?, &blob(&row, 2)?);
        }
        for row in self
            .rows(
                "SELECT trust_domain, bundle_endpoint_url, bundle_endpoint_profile, endpoint_spiffe_id \
                 FROM federated_trust_domains ORDER BY id",
            )
            .await?
        {
            reader.relationship(&text(&row, 0)?, &text(&row, 1)?, &text(&row, 2)?, &text(&row, 3)?);
        }
        self.entries(&mut reader).await?;
        self.nodes(&mut reader).await?;
        for row in self
            .rows("SELECT token, expiry FROM join_tokens ORDER BY id")
            .await?
        {
            reader.join_token(text(&row, 0)?, number(&row, 1)?);
        }
        if let Some(journal) = self.journal(keys).await? {
            reader.journal(&journal);
        }
        reader.finish().map_err(|faults| ReadError::Records {
            count: faults.len(),
            shown: faults.into_iter().take(SHOWN).collect::<Vec<_>>().join("; "),
        })
    }

    async fn entries(&mut self, reader: &mut Reader) -> Result<(), ReadError> {
        let mut selectors = grouped(
            self.rows("SELECT registered_entry_id, type, value FROM selectors ORDER BY id")
                .await?,
            pair,
        )?;
        let mut dns_names = grouped(
            self.rows("SELECT registered_entry_id, value FROM dns_names ORDER BY id")
                .await?,
            |row| text(row, 1),
        )?;
        let mut bundles = grouped(
            self.rows("SELECT registered_entry_id, bundle_id FROM federated_registration_entries")
                .await?,
            |row| number(row, 1),
        )?;
        let attributes = if self.version < 25 {
            "NULL"
        } else {
            "additional_attributes"
        };
        let query = format!(
            "SELECT id, entry_id, spiffe_id, parent_id, ttl, jwt_svid_ttl, admin, downstream, store_svid, expiry, \
             hint, revision_number, created_at, {attributes} FROM registered_entries ORDER BY id"
        );
        for row in self.rows(query).await? {
            let key: i64 = number(&row, 0)?;
            reader.entry(super::records::EntryRow {
                entry_id: text(&row, 1)?,
                spiffe_id: text(&row, 2)?,
                parent_id: text(&row, 3)?,
                x509_svid_ttl: number(&row, 4)?,
                jwt_svid_ttl: number(&row, 5)?,
                admin: number(&row, 6)? != 0,
                downstream: number(&row, 7)? != 0,
                store_svid: number(&row, 8)? != 0,
                expiry: number(&row, 9)?,
                hint: text(&row, 10)?,
                revision_number: number(&row, 11)?,
                created_at: text(&row, 12)?,
                additional_attributes: blob(&row, 13)?,
                selectors: selectors.remove(&key).unwrap_or_default(),
                dns_names: dns_names.remove(&key).unwrap_or_default(),
                bundles: bundles.remove(&key).unwrap_or_default(),
            });
        }
        Ok(())
    }

    async fn nodes(&mut self, reader: &mut Reader) -> Result<(), ReadError> {
        let query = "SELECT spiffe_id, type, value FROM node_resolver_map_entries ORDER BY id";
        let mut selectors: HashMap<String, Vec<(String, String)>> = HashMap::new();
        for row in self.rows(query).await? {
            selectors.entry(text(&row, 0)?).or_default().push(pair(&row)?);
        }
        let agent_version = if self.version < 24 {
            "NULL"
        } else {
            "agent_version"
        };
        let query = format!(
            "SELECT spiffe_id, data_type, serial_number, expires_at, new_serial_number, new_expires_at, \
             can_reattest, {agent_version} FROM attested_node_entries ORDER BY id"
        );
        for row in self.rows(query).await? {
            let spiffe_id = text(&row, 0)?;
            reader.node(super::records::NodeRow {
                selectors: selectors.remove(&spiffe_id).unwrap_or_default(),
                spiffe_id,
                attestation_type: text(&row, 1)?,
                serial: text(&row, 2)?,
                not_after: text(&row, 3)?,
                new_serial: text(&row, 4)?,
                new_not_after: text(&row, 5)?,
                can_reattest: number(&row, 6)? != 0,
                agent_version: text(&row, 7)?,
            });
        }
        Ok(())
    }

    /// The journal of the server whose keys these are: the one whose active X.509 authority has one of them.
    async fn journal(&mut self, keys: Option<&DiskKeyManager>) -> Result<Option<Vec<u8>>, ReadError> {
        let Some(keys) = keys else {
            return Ok(None);
        };
        let held = ["x509-CA-A", "x509-CA-B"]
            .into_iter()
            .filter_map(|id| keys.key(id));
        let ids: Vec<String> = held.map(|key| hex(&key.public_key().key_id())).collect();
        let query =
            "SELECT active_x509_authority_id, data FROM ca_journals ORDER BY updated_at DESC, id DESC";
        for row in self.rows(query).await? {
            if ids.contains(&text(&row, 0)?) {
                return Ok(Some(blob(&row, 1)?));
            }
        }
        tracing::warn!(
            "There is not a CA journal record that matches any of the local X509 authority IDs: \
             new authorities will be made, and what SPIRE signed stays verifiable"
        );
        Ok(None)
    }

    async fn rows(&mut self, query: impl Into<String>) -> Result<Vec<SqliteRow>, ReadError> {
        let query = sqlx::query(AssertSqlSafe(query.into()));
        Ok(query.fetch_all(&mut self.connection).await?)
    }
}

async fn texts(
    connection: &mut SqliteConnection,
    query: impl Into<String>,
) -> Result<Vec<String>, ReadError> {
    let rows = sqlx::query(AssertSqlSafe(query.into()))
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| text(row, 0)).collect()
}

fn grouped<T>(
    rows: Vec<SqliteRow>,
    value: impl Fn(&SqliteRow) -> Result<T, ReadError>,
) -> Result<HashMap<i64, Vec<T>>, ReadError> {
    let mut groups: HashMap<i64, Vec<T>> = HashMap::new();
    for row in &rows {
        groups.entry(number(row, 0)?).or_default().push(value(row)?);
    }
    Ok(groups)
}

fn pair(row: &SqliteRow) -> Result<(String, String), ReadError> {
    Ok((text(row, 1)?, text(row, 2)?))
}

// Columns that a migration added are null in rows that are older, and mean what an empty value does.

fn text(row: &SqliteRow, column: usize) -> Result<String, ReadError> {
    Ok(row
        .try_get_unchecked::<Option<String>, _>(column)?
        .unwrap_or_default())
}

fn number(row: &SqliteRow, column: usize) -> Result<i64, ReadError> {
    Ok(row
        .try_get_unchecked::<Option<i64>, _>(column)?
        .unwrap_or_default())
}

fn blob(row: &SqliteRow, column: usize) -> Result<Vec<u8>, ReadError> {
    Ok(row
        .try_get_unchecked::<Option<Vec<u8>>, _>(column)?
        .unwrap_or_default())
}
