//! Writing changes: one script per commit, with a few statements for a batch and not one per row.
//!
//! SQLite works on a thread of its own, and handing it a statement and waiting for the outcome costs more than most
//! statements do, so a whole commit goes there at once. Invariant: the changes of a table act in their order. Neighbours
//! of one kind share a statement; the log gets one row for each change, in the order of all.

use std::mem::discriminant;

use credence_identity::{
    Bundle, BundleEndpointProfile, Entry, EntryId, FederationRelationship, SpiffeId, Timestamp, TrustDomain,
};
use sqlx::query_builder::{QueryBuilder, Separated};
use sqlx::{Encode, Sqlite, Type};

use super::super::{Change, JoinToken, Journal, Node, Revision, Row, StoreError};
use super::bundle_json;
use super::record::{self, BUNDLE_COLUMNS, ENTRY_COLUMNS, NODE_COLUMNS, RELATIONSHIP_COLUMNS};

/// Rows in one statement; 13 columns of them stay below SQLite's limit of 32,766 parameters.
const ROWS_PER_STATEMENT: usize = 500;
/// How many changes the log keeps behind its head.
const LOG_KEEPS: i64 = 100_000;
/// How often the log is pruned, in revisions, so that not each commit pays for it.
const LOG_PRUNED_EVERY: i64 = 1_000;

/// A change with the row it would create.
type Numbered<'a> = (Row, &'a Change);

/// The place of the statement in the script that fails if the log isn't where it was thought to be.
pub(super) const GUARD: usize = 1;

/// Statements, divided by semicolons, with the values bound to them. (sqlx runs several at once for SQLite only.)
pub(super) type Script = QueryBuilder<Sqlite>;

/// The transaction that commits the changes after revision `at`. If one of its statements fails, the transaction
/// stays open and is to be rolled back.
pub(super) fn script(at: Revision, changes: &[Change], now: Timestamp) -> Result<Script, StoreError> {
    let (first, last) = (sql_number(at.0)?, sql_number(at.plus(changes.len()).0)?);
    // Immediate: the lock comes first, with the busy timeout, and cannot be lost later on.
    let mut script = Script::new("BEGIN IMMEDIATE; ");
    // The guard: no revision is null.
    script
        .push("UPDATE log_head SET revision = CASE WHEN revision = ")
        .push_bind(first);
    script.push(" THEN ").push_bind(last).push(" END; ");
    // Tables don't see each other before the commit, when references are checked: so all that goes to one is together.
    let mut by_table: Vec<Numbered<'_>> = numbered(at, changes).collect();
    by_table.sort_by_key(|(_, change)| described(change).0);
    for run in by_table.chunk_by(|(_, one), (_, next)| discriminant(*one) == discriminant(*next)) {
        for run in run.chunks(ROWS_PER_STATEMENT) {
            write_run(&mut script, run)?;
        }
    }
    let mut revision = at;
    for page in changes.chunks(ROWS_PER_STATEMENT) {
        log(&mut script, revision, page, now)?;
        revision = revision.plus(page.len());
    }
    if first / LOG_PRUNED_EVERY != last / LOG_PRUNED_EVERY {
        script
            .push("DELETE FROM changes WHERE revision <= ")
            .push_bind(last - LOG_KEEPS)
            .push("; ");
    }
    script.push("COMMIT");
    Ok(script)
}

/// Writes neighbours of one kind.
fn write_run(script: &mut Script, run: &[Numbered<'_>]) -> Result<(), StoreError> {
    let changes = run.iter().map(|(_, change)| *change);
    match run.first().map(|(_, first)| *first) {
        None => Ok(()),
        Some(Change::EntryPut(_)) => {
            let entries = run.iter().filter_map(|(row, change)| match change {
                Change::EntryPut(entry) => Some((*row, &**entry)),
                _ => None,
            });
            put_entries(script, &entries.collect::<Vec<_>>())
        }
        Some(Change::NodePut(_)) => {
            let nodes = run.iter().filter_map(|(row, change)| match change {
                Change::NodePut(node) => Some((*row, &**node)),
                _ => None,
            });
            put_nodes(script, nodes)
        }
        Some(Change::JoinTokenPut(_)) => {
            put_join_tokens(
                script,
                changes.filter_map(|change| match change {
                    Change::JoinTokenPut(token) => Some(token),
                    _ => None,
                }),
            );
            Ok(())
        }
        Some(Change::BundlePut(_)) => run.iter().try_for_each(|(row, change)| match change {
            Change::BundlePut(bundle) => put_bundle(script, *row, bundle),
            _ => Ok(()),
        }),
        Some(Change::RelationshipPut(_)) => run.iter().try_for_each(|(row, change)| match change {
            Change::RelationshipPut(relationship) => put_relationship(script, *row, relationship),
            _ => Ok(()),
        }),
        Some(Change::JournalPut(_)) => {
            if let Some((_, Change::JournalPut(journal))) = run.last() {
                put_journal(script, journal);
            }
            Ok(())
        }
        Some(Change::EntryDelete(_)) => {
            delete(script, "entries", "id", changes);
            Ok(())
        }
        Some(Change::NodeDelete(_)) => {
            delete(script, "nodes", "id", changes);
            Ok(())
        }
        Some(Change::JoinTokenDelete(_)) => {
            delete(script, "join_tokens", "token", changes);
            Ok(())
        }
        Some(Change::BundleDelete(_)) => {
            delete(script, "bundles", "trust_domain", changes);
            Ok(())
        }
        Some(Change::RelationshipDelete(_)) => {
            delete(script, "relationships", "trust_domain", changes);
            Ok(())
        }
    }
}

fn put_entries(script: &mut Script, entries: &[(Row, &Entry)]) -> Result<(), StoreError> {
    script
        .push("INSERT INTO entries (")
        .push(ENTRY_COLUMNS)
        .push(") ");
    let mut outcome = Ok(());
    script.push_values(entries, |mut values, (row, entry)| {
        outcome = std::mem::replace(&mut outcome, Ok(())).and(entry_values(&mut values, *row, entry));
    });
    outcome?;
    script
        .push(" ON CONFLICT (id) DO UPDATE SET ")
        .push(excluded(ENTRY_COLUMNS))
        .push("; ");

    script.push("DELETE FROM federations WHERE entry_id IN (");
    let mut ids = script.separated(", ");
    for (_, entry) in entries {
        ids.push_bind(entry.id.as_str());
    }
    script.push("); ");

    let federations: Vec<(&EntryId, i64, &TrustDomain)> = last_of_each(entries)
        .flat_map(|entry| {
            (0..)
                .zip(&entry.federates_with)
                .map(|(position, domain)| (&entry.id, position, domain))
        })
        .collect();
    for page in federations.chunks(ROWS_PER_STATEMENT) {
        script.push("INSERT INTO federations (entry_id, position, trust_domain) ");
        script.push_values(page, |mut values, (id, position, domain)| {
            values
                .push_bind(id.as_str())
                .push_bind(*position)
                .push_bind(domain.as_str());
        });
        script.push("; ");
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
    bind(values, record::flags(entry));
    bind(values, entry.expires_at.map(Timestamp::unix_millis));
    bind(values, dns_names);
    bind(values, &*entry.hint);
    bind(values, entry.revision_number);
    bind(values, entry.created_at.unix_millis());
    Ok(())
}

fn put_nodes<'a>(
    script: &mut Script,
    nodes: impl Iterator<Item = (Row, &'a Node)>,
) -> Result<(), StoreError> {
    script.push("INSERT INTO nodes (").push(NODE_COLUMNS).push(") ");
    let mut outcome = Ok(());
    script.push_values(nodes, |mut values, (row, node)| {
        outcome = std::mem::replace(&mut outcome, Ok(())).and(node_values(&mut values, row, node));
    });
    script
        .push(" ON CONFLICT (id) DO UPDATE SET ")
        .push(excluded(NODE_COLUMNS))
        .push("; ");
    outcome
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

fn put_join_tokens<'a>(script: &mut Script, tokens: impl Iterator<Item = &'a JoinToken>) {
    script.push("INSERT INTO join_tokens (token, expires_at) ");
    script.push_values(tokens, |mut values, token| {
        values
            .push_bind(token.token.as_str())
            .push_bind(token.expires_at.unix_millis());
    });
    script.push(" ON CONFLICT (token) DO UPDATE SET expires_at = excluded.expires_at; ");
}

fn put_bundle(script: &mut Script, row: Row, bundle: &Bundle) -> Result<(), StoreError> {
    let authorities = bundle_json::encode(bundle).map_err(unencodable)?;
    let refresh_hint = bundle
        .refresh_hint
        .map(|hint| i64::try_from(hint.as_millis()).unwrap_or(i64::MAX));
    script
        .push("INSERT INTO bundles (")
        .push(BUNDLE_COLUMNS)
        .push(") VALUES (");
    let mut values = script.separated(", ");
    values
        .push_bind(sql_number(row.0)?)
        .push_bind(bundle.trust_domain.as_str())
        .push_bind(authorities)
        .push_bind(refresh_hint);
    values.push_bind(bundle.sequence_number.cast_signed());
    script
        .push(") ON CONFLICT (trust_domain) DO UPDATE SET ")
        .push(excluded(BUNDLE_COLUMNS))
        .push("; ");
    Ok(())
}

fn put_relationship(
    script: &mut Script,
    row: Row,
    relationship: &FederationRelationship,
) -> Result<(), StoreError> {
    let endpoint_spiffe_id = match &relationship.bundle_endpoint_profile {
        BundleEndpointProfile::HttpsWeb => None,
        BundleEndpointProfile::HttpsSpiffe { endpoint_spiffe_id } => Some(endpoint_spiffe_id.as_str()),
    };
    script
        .push("INSERT INTO relationships (")
        .push(RELATIONSHIP_COLUMNS)
        .push(") VALUES (");
    let mut values = script.separated(", ");
    values
        .push_bind(sql_number(row.0)?)
        .push_bind(relationship.trust_domain.as_str())
        .push_bind(relationship.bundle_endpoint_url.as_str())
        .push_bind(endpoint_spiffe_id);
    script
        .push(") ON CONFLICT (trust_domain) DO UPDATE SET ")
        .push(excluded(RELATIONSHIP_COLUMNS))
        .push("; ");
    Ok(())
}

fn put_journal(script: &mut Script, journal: &Journal) {
    script
        .push("INSERT INTO authority_journal (id, body) VALUES (1, ")
        .push_bind(&*journal.0);
    script.push(") ON CONFLICT (id) DO UPDATE SET body = excluded.body; ");
}

/// Deletes by key; what isn't there is passed over.
fn delete<'a>(
    script: &mut Script,
    table: &'static str,
    key: &'static str,
    doomed: impl Iterator<Item = &'a Change>,
) {
    script
        .push("DELETE FROM ")
        .push(table)
        .push(" WHERE ")
        .push(key)
        .push(" IN (");
    let mut keys = script.separated(", ");
    for change in doomed {
        keys.push_bind(described(change).1);
    }
    script.push("); ");
}

fn log(script: &mut Script, at: Revision, changes: &[Change], now: Timestamp) -> Result<(), StoreError> {
    script.push("INSERT INTO changes (revision, kind, object, changed_at) ");
    let first = sql_number(at.plus(1).0)?;
    script.push_values((first..).zip(changes), |mut values, (revision, change)| {
        let (kind, object) = described(change);
        values
            .push_bind(revision)
            .push_bind(kind)
            .push_bind(object)
            .push_bind(now.unix_millis());
    });
    script.push("; ");
    Ok(())
}

fn bind<'t, T>(values: &mut Separated<'_, Sqlite, &'static str>, value: T)
where
    T: Encode<'t, Sqlite> + Type<Sqlite>,
{
    values.push_bind(value);
}

/// The kind of a change, one per table, and the key of its object.
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
        Change::RelationshipPut(relationship) => ("relationship", relationship.trust_domain.as_str()),
        Change::RelationshipDelete(domain) => ("relationship", domain.as_str()),
        Change::JournalPut(_) => ("journal", ""),
    }
}

/// The changes after revision `at`, each with the row it would create.
fn numbered(at: Revision, changes: &[Change]) -> impl Iterator<Item = Numbered<'_>> {
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
        .filter(|column| !matches!(*column, "row" | "id" | "trust_domain"));
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
    i64::try_from(number).map_err(StoreError::failed)
}

fn unencodable(error: serde_json::Error) -> StoreError {
    StoreError::failed(error)
}
