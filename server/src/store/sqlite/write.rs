//! Writing changes: a few statements for a batch, not one per row.
//!
//! Invariant: the changes act in their order. Neighbours of one kind share a statement; the log gets one row each.

use std::mem::discriminant;

use credence_identity::{Bundle, Entry, EntryId, SpiffeId, Timestamp, TrustDomain};
use sqlx::query_builder::{QueryBuilder, Separated};
use sqlx::sqlite::SqliteConnection;
use sqlx::{Encode, Sqlite, Type};

use super::super::{Change, JoinToken, Node, Revision, Row, StoreError};
use super::bundle_json;
use super::record::{ENTRY_COLUMNS, NODE_COLUMNS};

/// Rows in one statement; 17 columns of them stay below SQLite's limit of 32,766 parameters.
const ROWS_PER_STATEMENT: usize = 500;
/// How many changes the log keeps behind its head.
const LOG_KEEPS: i64 = 100_000;
/// How often the log is pruned, in revisions, so that not each commit pays for it.
const LOG_PRUNED_EVERY: i64 = 1_000;

/// Carries the changes out within the transaction that `connection` is in. Returns the revision of the last one.
pub(super) async fn changes(
    connection: &mut SqliteConnection,
    at: Revision,
    changes: &[Change],
    now: Timestamp,
) -> Result<Revision, StoreError> {
    let after = at.plus(changes.len());
    let (first, last) = (sql_number(at.0)?, sql_number(after.0)?);
    let moved = sqlx::query("UPDATE log_head SET revision = ? WHERE revision = ?")
        .bind(last)
        .bind(first);
    if moved.execute(&mut *connection).await?.rows_affected() != 1 {
        return Err(StoreError::Moved { expected: at });
    }
    let mut revision = at;
    for run in changes.chunk_by(|one, next| discriminant(one) == discriminant(next)) {
        for run in run.chunks(ROWS_PER_STATEMENT) {
            write_run(connection, revision, run).await?;
            log(connection, revision, run, now).await?;
            revision = revision.plus(run.len());
        }
    }
    if first / LOG_PRUNED_EVERY != last / LOG_PRUNED_EVERY {
        let prune = sqlx::query("DELETE FROM changes WHERE revision <= ?").bind(last - LOG_KEEPS);
        prune.execute(&mut *connection).await?;
    }
    Ok(after)
}

/// Writes neighbours of one kind, which came after revision `at`.
async fn write_run(
    connection: &mut SqliteConnection,
    at: Revision,
    run: &[Change],
) -> Result<(), StoreError> {
    match run.first() {
        None => Ok(()),
        Some(Change::EntryPut(_)) => {
            let entries = numbered(at, run).filter_map(|(row, change)| match change {
                Change::EntryPut(entry) => Some((row, &**entry)),
                _ => None,
            });
            put_entries(connection, &entries.collect::<Vec<_>>()).await
        }
        Some(Change::NodePut(_)) => {
            let nodes = numbered(at, run).filter_map(|(row, change)| match change {
                Change::NodePut(node) => Some((row, &**node)),
                _ => None,
            });
            put_nodes(connection, &nodes.collect::<Vec<_>>()).await
        }
        Some(Change::JoinTokenPut(_)) => {
            let tokens = run.iter().filter_map(|change| match change {
                Change::JoinTokenPut(token) => Some(token),
                _ => None,
            });
            put_join_tokens(connection, tokens).await
        }
        Some(Change::BundlePut(_)) => {
            for change in run {
                if let Change::BundlePut(bundle) = change {
                    put_bundle(connection, bundle).await?;
                }
            }
            Ok(())
        }
        Some(Change::JournalPut(_)) => {
            let Some(Change::JournalPut(journal)) = run.last() else {
                return Ok(());
            };
            let put = "INSERT INTO authority_journal (id, body) VALUES (1, ?) \
                       ON CONFLICT (id) DO UPDATE SET body = excluded.body";
            sqlx::query(put).bind(&*journal.0).execute(connection).await?;
            Ok(())
        }
        Some(Change::EntryDelete(_)) => delete(connection, "entries", "id", run).await,
        Some(Change::NodeDelete(_)) => delete(connection, "nodes", "id", run).await,
        Some(Change::JoinTokenDelete(_)) => delete(connection, "join_tokens", "token", run).await,
        Some(Change::BundleDelete(_)) => delete(connection, "bundles", "trust_domain", run).await,
    }
}

async fn put_entries(connection: &mut SqliteConnection, entries: &[(Row, &Entry)]) -> Result<(), StoreError> {
    let mut put = QueryBuilder::new(format!("INSERT INTO entries ({ENTRY_COLUMNS}) "));
    let mut failure = None;
    put.push_values(entries, |mut values, (row, entry)| {
        if let Err(error) = entry_values(&mut values, *row, entry) {
            failure.get_or_insert(error);
        }
    });
    put.push(" ON CONFLICT (id) DO UPDATE SET ")
        .push(excluded(ENTRY_COLUMNS));
    run(connection, put, entries.len(), failure).await?;

    let mut forget = QueryBuilder::new("DELETE FROM federations WHERE entry_id IN (");
    let mut ids = forget.separated(", ");
    for (_, entry) in entries {
        ids.push_bind(entry.id.as_str());
    }
    forget.push(")");
    run(connection, forget, entries.len(), None).await?;

    let federations: Vec<(&EntryId, usize, &TrustDomain)> = last_of_each(entries)
        .flat_map(|entry| {
            entry
                .federates_with
                .iter()
                .enumerate()
                .map(|(position, domain)| (&entry.id, position, domain))
        })
        .collect();
    for page in federations.chunks(ROWS_PER_STATEMENT) {
        let mut put = QueryBuilder::new("INSERT INTO federations (entry_id, position, trust_domain) ");
        put.push_values(page, |mut values, (id, position, domain)| {
            values.push_bind(id.as_str());
            values.push_bind(i64::try_from(*position).unwrap_or(i64::MAX));
            values.push_bind(domain.as_str());
        });
        run(connection, put, page.len(), None).await?;
    }
    Ok(())
}

fn entry_values(
    values: &mut Separated<'_, Sqlite, &'static str>,
    row: Row,
    entry: &Entry,
) -> Result<(), StoreError> {
    let dns_names = if entry.dns_names.is_empty() {
        None
    } else {
        Some(list(entry.dns_names.iter())?)
    };
    bind(values, sql_number(row.0)?);
    bind(values, entry.id.as_str());
    bind(values, entry.spiffe_id.as_str());
    bind(values, entry.parent_id.as_str());
    bind(
        values,
        list(entry.selectors.iter().map(|selector| selector.as_str()))?,
    );
    bind(values, entry.x509_svid_ttl);
    bind(values, entry.jwt_svid_ttl);
    bind(values, entry.admin);
    bind(values, entry.downstream);
    bind(values, entry.store_svid);
    bind(values, entry.expires_at.map(Timestamp::unix_millis));
    bind(values, dns_names);
    bind(values, &*entry.hint);
    bind(values, entry.disable_x509_svid_prefetch);
    bind(values, entry.jwt_svid_include_jti);
    bind(values, entry.revision_number);
    bind(values, entry.created_at.unix_millis());
    Ok(())
}

async fn put_nodes(connection: &mut SqliteConnection, nodes: &[(Row, &Node)]) -> Result<(), StoreError> {
    let mut put = QueryBuilder::new(format!("INSERT INTO nodes ({NODE_COLUMNS}) "));
    let mut failure = None;
    put.push_values(nodes, |mut values, (row, node)| {
        if let Err(error) = node_values(&mut values, *row, node) {
            failure.get_or_insert(error);
        }
    });
    put.push(" ON CONFLICT (id) DO UPDATE SET ")
        .push(excluded(NODE_COLUMNS));
    run(connection, put, nodes.len(), failure).await
}

fn node_values(
    values: &mut Separated<'_, Sqlite, &'static str>,
    row: Row,
    node: &Node,
) -> Result<(), StoreError> {
    bind(values, sql_number(row.0)?);
    bind(values, node.id.as_str());
    bind(values, &*node.attestation_type);
    bind(values, node.serial.as_str());
    bind(values, node.not_after.unix_millis());
    bind(values, node.new_serial.as_deref());
    bind(values, node.new_not_after.map(Timestamp::unix_millis));
    bind(values, node.can_reattest);
    bind(
        values,
        list(node.selectors.iter().map(|selector| selector.as_str()))?,
    );
    bind(values, &*node.agent_version);
    Ok(())
}

async fn put_join_tokens<'a>(
    connection: &mut SqliteConnection,
    tokens: impl Iterator<Item = &'a JoinToken>,
) -> Result<(), StoreError> {
    let tokens: Vec<_> = tokens.collect();
    let mut put = QueryBuilder::new("INSERT INTO join_tokens (token, expires_at) ");
    put.push_values(&tokens, |mut values, token| {
        values.push_bind(token.token.as_str());
        values.push_bind(token.expires_at.unix_millis());
    });
    put.push(" ON CONFLICT (token) DO UPDATE SET expires_at = excluded.expires_at");
    run(connection, put, tokens.len(), None).await
}

async fn put_bundle(connection: &mut SqliteConnection, bundle: &Bundle) -> Result<(), StoreError> {
    let authorities = bundle_json::encode(bundle).map_err(unencodable)?;
    let refresh_hint = bundle
        .refresh_hint
        .map(|hint| i64::try_from(hint.as_millis()).unwrap_or(i64::MAX));
    let put = "INSERT INTO bundles (trust_domain, authorities, refresh_hint, sequence_number) VALUES (?, ?, ?, ?) \
               ON CONFLICT (trust_domain) DO UPDATE SET authorities = excluded.authorities, \
               refresh_hint = excluded.refresh_hint, sequence_number = excluded.sequence_number";
    let put = sqlx::query(put)
        .bind(bundle.trust_domain.as_str())
        .bind(authorities)
        .bind(refresh_hint)
        .bind(sql_number(bundle.sequence_number)?);
    put.execute(connection).await?;
    Ok(())
}

/// Deletes by key; what isn't there is passed over.
async fn delete(
    connection: &mut SqliteConnection,
    table: &'static str,
    key: &'static str,
    doomed: &[Change],
) -> Result<(), StoreError> {
    let mut delete = QueryBuilder::new(format!("DELETE FROM {table} WHERE {key} IN ("));
    let mut keys = delete.separated(", ");
    for change in doomed {
        keys.push_bind(described(change).1);
    }
    delete.push(")");
    run(connection, delete, doomed.len(), None).await
}

async fn log(
    connection: &mut SqliteConnection,
    at: Revision,
    changes: &[Change],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut put = QueryBuilder::new("INSERT INTO changes (revision, kind, object, changed_at) ");
    let mut failure = None;
    put.push_values(numbered(at, changes), |mut values, (row, change)| {
        let (kind, object) = described(change);
        match sql_number(row.0) {
            Ok(revision) => bind(&mut values, revision),
            Err(error) => failure = Some(error),
        }
        values
            .push_bind(kind)
            .push_bind(object)
            .push_bind(now.unix_millis());
    });
    run(connection, put, changes.len(), failure).await
}

/// Runs a statement over that many rows. Those over one row are always the same and stay prepared; the others are
/// many and large.
async fn run(
    connection: &mut SqliteConnection,
    mut statement: QueryBuilder<Sqlite>,
    rows: usize,
    failure: Option<StoreError>,
) -> Result<(), StoreError> {
    if let Some(failure) = failure {
        return Err(failure);
    }
    statement
        .build()
        .persistent(rows == 1)
        .execute(connection)
        .await?;
    Ok(())
}

fn bind<'t, T>(values: &mut Separated<'_, Sqlite, &'static str>, value: T)
where
    T: Encode<'t, Sqlite> + Type<Sqlite>,
{
    values.push_bind(value);
}

/// The kind of a change and the key of its object.
fn described(change: &Change) -> (&'static str, &str) {
    match change {
        Change::EntryPut(entry) => ("entry", entry.id.as_str()),
        Change::EntryDelete(id) => ("entry", id.as_str()),
        Change::NodePut(node) => ("node", node.id.as_str()),
        Change::NodeDelete(id) => ("node", SpiffeId::as_str(id)),
        Change::JoinTokenPut(token) => ("join_token", token.token.as_str()),
        Change::JoinTokenDelete(token) => ("join_token", token.as_str()),
        Change::BundlePut(bundle) => ("bundle", bundle.trust_domain.as_str()),
        Change::BundleDelete(domain) => ("bundle", domain.as_str()),
        Change::JournalPut(_) => ("journal", ""),
    }
}

/// The changes after revision `at`, each with the row it would create.
fn numbered(at: Revision, changes: &[Change]) -> impl Iterator<Item = (Row, &Change)> {
    changes
        .iter()
        .enumerate()
        .map(move |(index, change)| (Row::from(at.plus(index + 1)), change))
}

/// The entries without those that a later one of the same id replaces.
fn last_of_each<'a>(entries: &'a [(Row, &'a Entry)]) -> impl Iterator<Item = &'a Entry> {
    let federating = entries
        .iter()
        .filter(|(_, entry)| !entry.federates_with.is_empty());
    federating.filter_map(|(row, entry)| {
        let replaced = entries
            .iter()
            .any(|(later, other)| later > row && other.id == entry.id);
        (!replaced).then_some(*entry)
    })
}

/// `a = excluded.a, …` for all columns but the row, which an object keeps for life.
fn excluded(columns: &str) -> String {
    let columns = columns
        .split(", ")
        .map(str::trim)
        .filter(|column| *column != "row" && *column != "id");
    columns
        .map(|column| format!("{column} = excluded.{column}"))
        .collect::<Vec<_>>()
        .join(", ")
}

fn list<T: AsRef<str>>(texts: impl Iterator<Item = T>) -> Result<String, StoreError> {
    let texts: Vec<T> = texts.collect();
    serde_json::to_string(&texts.iter().map(AsRef::as_ref).collect::<Vec<&str>>()).map_err(unencodable)
}

fn sql_number(number: u64) -> Result<i64, StoreError> {
    i64::try_from(number).map_err(|error| StoreError::Failed(error.into()))
}

fn unencodable(error: serde_json::Error) -> StoreError {
    StoreError::Failed(error.into())
}
