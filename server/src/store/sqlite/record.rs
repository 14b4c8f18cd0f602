//! Rows of the tables to domain types. The way back is in `write`.
//!
//! Owns the check that what is on disk is valid. Texts that occur in many rows (parents, selectors, hints) are kept
//! once.

use std::borrow::Cow;
use std::collections::HashSet;
use std::hash::Hash;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use credence_identity::{
    Bundle, BundleEndpointProfile, Entry, EntryId, FederationRelationship, Selector, SpiffeId, Timestamp,
    TrustDomain,
};
use serde::Deserialize;
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::super::{JoinToken, Node, Row, StoreError};
use super::bundle_json;

/// Columns of `entries` in the order in which [`Records::entry`] reads and `write` fills them.
pub(super) const ENTRY_COLUMNS: &str = "row, id, spiffe_id, parent_id, selectors, x509_svid_ttl, jwt_svid_ttl, flags, \
     expires_at, dns_names, hint, revision_number, created_at";

/// Columns of `nodes`, likewise.
pub(super) const NODE_COLUMNS: &str = "row, id, attestation_type, serial, not_after, new_serial, new_not_after, \
     can_reattest, selectors, agent_version";

/// Columns of `bundles`, likewise.
pub(super) const BUNDLE_COLUMNS: &str = "row, trust_domain, authorities, refresh_hint, sequence_number";

/// Columns of `relationships`, likewise. Without an endpoint's SPIFFE ID the profile is `https_web`.
pub(super) const RELATIONSHIP_COLUMNS: &str = "row, trust_domain, bundle_endpoint_url, endpoint_spiffe_id";

const ADMIN: i64 = 1;
const DOWNSTREAM: i64 = 2;
const STORE_SVID: i64 = 4;
const NO_PREFETCH: i64 = 8;
const INCLUDE_JTI: i64 = 16;

/// The yes-or-no attributes of an entry as the number in its row.
pub(super) fn flags(entry: &Entry) -> i64 {
    let flags = [
        (entry.admin, ADMIN),
        (entry.downstream, DOWNSTREAM),
        (entry.store_svid, STORE_SVID),
        (entry.disable_x509_svid_prefetch, NO_PREFETCH),
        (entry.jwt_svid_include_jti, INCLUDE_JTI),
    ];
    flags
        .into_iter()
        .filter(|(set, _)| *set)
        .map(|(_, flag)| flag)
        .sum()
}

/// Why one value cannot be read; the row is added by whoever knows its key.
type Reason = String;

/// Reads rows, sharing what repeats.
#[derive(Default)]
pub(super) struct Records {
    ids: HashSet<SpiffeId>,
    selectors: HashSet<Selector>,
    texts: HashSet<Arc<str>>,
}

impl Records {
    pub(super) fn entry(&mut self, row: &SqliteRow) -> Result<(Row, Entry), StoreError> {
        self.read_entry(row)
            .map_err(|reason| corrupt("entries", row, 1, reason))
    }

    fn read_entry(&mut self, row: &SqliteRow) -> Result<(Row, Entry), Reason> {
        let flags: i64 = value(row, 7)?;
        let entry = Entry {
            id: parsed(text(row, 1)?)?,
            spiffe_id: parsed(text(row, 2)?)?,
            parent_id: self.id(text(row, 3)?)?,
            selectors: self.selectors(text(row, 4)?)?,
            x509_svid_ttl: number(row, 5)?,
            jwt_svid_ttl: number(row, 6)?,
            admin: flags & ADMIN != 0,
            downstream: flags & DOWNSTREAM != 0,
            store_svid: flags & STORE_SVID != 0,
            disable_x509_svid_prefetch: flags & NO_PREFETCH != 0,
            jwt_svid_include_jti: flags & INCLUDE_JTI != 0,
            expires_at: moment_or_none(row, 8)?,
            dns_names: match text_or_none(row, 9)? {
                Some(names) => self.texts(names)?,
                None => Vec::new(),
            },
            hint: self.text(text(row, 10)?),
            revision_number: value(row, 11)?,
            created_at: Timestamp::from_unix_millis(value(row, 12)?),
            federates_with: Vec::new(),
        };
        Ok((Row(number(row, 0)?), entry))
    }

    pub(super) fn node(&mut self, row: &SqliteRow) -> Result<(Row, Node), StoreError> {
        self.read_node(row)
            .map_err(|reason| corrupt("nodes", row, 1, reason))
    }

    fn read_node(&mut self, row: &SqliteRow) -> Result<(Row, Node), Reason> {
        let node = Node {
            id: self.id(text(row, 1)?)?,
            attestation_type: self.text(text(row, 2)?),
            serial: text(row, 3)?.to_owned(),
            not_after: Timestamp::from_unix_millis(value(row, 4)?),
            new_serial: text_or_none(row, 5)?.map(str::to_owned),
            new_not_after: moment_or_none(row, 6)?,
            can_reattest: flag(row, 7)?,
            selectors: self.selectors(text(row, 8)?)?,
            agent_version: self.text(text(row, 9)?),
        };
        Ok((Row(number(row, 0)?), node))
    }

    fn id(&mut self, text: &str) -> Result<SpiffeId, Reason> {
        Ok(shared(&mut self.ids, parsed(text)?))
    }

    fn selectors(&mut self, list: &str) -> Result<Vec<Selector>, Reason> {
        let read = |Text(text): Text<'_>| Ok(shared(&mut self.selectors, parsed(&text)?));
        strings(list)?.into_iter().map(read).collect()
    }

    fn texts(&mut self, list: &str) -> Result<Vec<Arc<str>>, Reason> {
        Ok(strings(list)?.iter().map(|Text(text)| self.text(text)).collect())
    }

    fn text(&mut self, text: &str) -> Arc<str> {
        match self.texts.get(text) {
            Some(held) => Arc::clone(held),
            None => shared(&mut self.texts, text.into()),
        }
    }
}

/// A row of `SELECT entry_id, trust_domain FROM federations`.
pub(super) fn federation(row: &SqliteRow) -> Result<(EntryId, TrustDomain), StoreError> {
    let read = || Ok((parsed(text(row, 0)?)?, parsed(text(row, 1)?)?));
    read().map_err(|reason| corrupt("federations", row, 0, reason))
}

/// A row of `bundles`.
pub(super) fn bundle(row: &SqliteRow) -> Result<(Row, Bundle), StoreError> {
    let read = || {
        let authorities = bundle_json::decode(text(row, 2)?)?;
        let refresh_hint: Option<i64> = value(row, 3)?;
        let bundle = Bundle {
            trust_domain: parsed(text(row, 1)?)?,
            x509_authorities: authorities.x509,
            jwt_authorities: authorities.jwt,
            wit_authorities: authorities.wit,
            refresh_hint: refresh_hint.map(|ms| Duration::from_millis(ms.unsigned_abs())),
            // Of a foreign trust domain it may be any number of 64 bits, which SQLite has with a sign only.
            sequence_number: value::<i64>(row, 4)?.cast_unsigned(),
        };
        Ok((Row(number(row, 0)?), bundle))
    };
    read().map_err(|reason| corrupt("bundles", row, 1, reason))
}

/// A row of `relationships`.
pub(super) fn relationship(row: &SqliteRow) -> Result<(Row, FederationRelationship), StoreError> {
    let read = || {
        let relationship = FederationRelationship {
            trust_domain: parsed(text(row, 1)?)?,
            bundle_endpoint_url: parsed(text(row, 2)?)?,
            bundle_endpoint_profile: match text_or_none(row, 3)? {
                None => BundleEndpointProfile::HttpsWeb,
                Some(id) => BundleEndpointProfile::HttpsSpiffe {
                    endpoint_spiffe_id: parsed(id)?,
                },
            },
        };
        Ok((Row(number(row, 0)?), relationship))
    };
    read().map_err(|reason| corrupt("relationships", row, 1, reason))
}

/// A row of `SELECT token, expires_at FROM join_tokens`. A token is a secret, so an error doesn't name it.
pub(super) fn join_token(row: &SqliteRow) -> Result<JoinToken, StoreError> {
    let read = || {
        let expires_at = Timestamp::from_unix_millis(value(row, 1)?);
        Ok(JoinToken {
            token: text(row, 0)?.to_owned(),
            expires_at,
        })
    };
    read().map_err(|reason| StoreError::Corrupt {
        table: "join_tokens",
        key: String::new(),
        reason,
    })
}

/// A text within JSON; borrowed from it unless something in it is escaped.
#[derive(Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

/// A list of texts, as `write` stores it.
fn strings(list: &str) -> Result<Vec<Text<'_>>, Reason> {
    serde_json::from_str(list).map_err(|error| error.to_string())
}

fn shared<T: Clone + Eq + Hash>(held: &mut HashSet<T>, value: T) -> T {
    if let Some(same) = held.get(&value) {
        return same.clone();
    }
    held.insert(value.clone());
    value
}

fn parsed<T: FromStr<Err: ToString>>(text: &str) -> Result<T, Reason> {
    text.parse().map_err(|error: T::Err| error.to_string())
}

fn value<'r, T>(row: &'r SqliteRow, column: usize) -> Result<T, Reason>
where
    T: sqlx::Decode<'r, sqlx::Sqlite>,
{
    // The tables are strict, so SQLite has checked the type.
    row.try_get_unchecked(column).map_err(|error| error.to_string())
}

fn text(row: &SqliteRow, column: usize) -> Result<&str, Reason> {
    value(row, column)
}

fn text_or_none(row: &SqliteRow, column: usize) -> Result<Option<&str>, Reason> {
    value(row, column)
}

fn moment_or_none(row: &SqliteRow, column: usize) -> Result<Option<Timestamp>, Reason> {
    Ok(value::<Option<i64>>(row, column)?.map(Timestamp::from_unix_millis))
}

fn flag(row: &SqliteRow, column: usize) -> Result<bool, Reason> {
    Ok(value::<i64>(row, column)? != 0)
}

fn number<T: TryFrom<i64, Error: ToString>>(row: &SqliteRow, column: usize) -> Result<T, Reason> {
    value::<i64>(row, column)?
        .try_into()
        .map_err(|error: T::Error| error.to_string())
}

fn corrupt(table: &'static str, row: &SqliteRow, key: usize, reason: Reason) -> StoreError {
    StoreError::Corrupt {
        table,
        key: text(row, key).unwrap_or_default().to_owned(),
        reason,
    }
}
