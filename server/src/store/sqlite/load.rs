//! Reading everything, table by table, each in one scan.

use std::collections::HashMap;
use std::fmt::Display;
use std::sync::Arc;

use credence_identity::{EntryId, TrustDomain};
use futures_util::TryStreamExt;
use sqlx::sqlite::{SqliteConnection, SqliteRow};
use sqlx::{AssertSqlSafe, Row as _};

use super::super::{Journal, Revision, Snapshot, StoreError};
use super::record::{self, BUNDLE_COLUMNS, ENTRY_COLUMNS, NODE_COLUMNS, RELATIONSHIP_COLUMNS, Records};

pub(super) async fn snapshot(connection: &mut SqliteConnection) -> Result<Snapshot, StoreError> {
    let mut records = Records::default();
    let revision = revision(connection).await?;
    let mut federations: HashMap<EntryId, Vec<TrustDomain>> = HashMap::new();
    let query = "SELECT entry_id, trust_domain FROM federations ORDER BY entry_id, position";
    each(connection, query, |row| {
        let (entry, domain) = record::federation(row)?;
        federations.entry(entry).or_default().push(domain);
        Ok(())
    })
    .await?;
    let mut entries = Vec::new();
    each(
        connection,
        format!("SELECT {ENTRY_COLUMNS} FROM entries ORDER BY row"),
        |row| {
            let (place, mut entry) = records.entry(row)?;
            entry.federates_with = federations.remove(&entry.id).unwrap_or_default();
            entries.push((place, Arc::new(entry)));
            Ok(())
        },
    )
    .await?;
    let mut nodes = Vec::new();
    each(
        connection,
        format!("SELECT {NODE_COLUMNS} FROM nodes ORDER BY row"),
        |row| {
            let (place, node) = records.node(row)?;
            nodes.push((place, Arc::new(node)));
            Ok(())
        },
    )
    .await?;
    let mut join_tokens = Vec::new();
    each(connection, "SELECT token, expires_at FROM join_tokens", |row| {
        join_tokens.push(record::join_token(row)?);
        Ok(())
    })
    .await?;
    let mut bundles = Vec::new();
    let query = format!("SELECT {BUNDLE_COLUMNS} FROM bundles ORDER BY row");
    each(connection, query, |row| {
        let (place, bundle) = record::bundle(row)?;
        bundles.push((place, Arc::new(bundle)));
        Ok(())
    })
    .await?;
    let mut relationships = Vec::new();
    let query = format!("SELECT {RELATIONSHIP_COLUMNS} FROM relationships ORDER BY row");
    each(connection, query, |row| {
        let (place, relationship) = record::relationship(row)?;
        relationships.push((place, Arc::new(relationship)));
        Ok(())
    })
    .await?;
    let mut journal = None;
    each(connection, "SELECT body FROM authority_journal", |row| {
        journal = Some(Journal(row.try_get::<&[u8], _>(0)?.into()));
        Ok(())
    })
    .await?;
    Ok(Snapshot {
        revision,
        entries,
        nodes,
        join_tokens,
        bundles,
        relationships,
        journal,
    })
}

async fn revision(connection: &mut SqliteConnection) -> Result<Revision, StoreError> {
    let row = sqlx::query("SELECT revision FROM log_head")
        .fetch_one(connection)
        .await?;
    let revision: i64 = row.try_get(0)?;
    u64::try_from(revision)
        .map(Revision)
        .map_err(|error| StoreError::Corrupt {
            table: "log_head",
            key: "1".to_owned(),
            reason: error.to_string(),
        })
}

/// Streams the rows of a query of our own text.
async fn each(
    connection: &mut SqliteConnection,
    query: impl Display,
    mut read: impl FnMut(&SqliteRow) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let mut rows = sqlx::query(AssertSqlSafe(query.to_string())).fetch(connection);
    while let Some(row) = rows.try_next().await? {
        read(&row)?;
    }
    Ok(())
}
