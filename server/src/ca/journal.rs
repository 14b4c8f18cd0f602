//! The journal of the authorities: what each was, so that a restart finds them again.
//!
//! Owns the form of the record that the store keeps opaquely. It holds no private key: an entry is worth something only
//! together with the key manager's key of the same slot. Invariant: what signs is in the journal as active, and an entry
//! that is active or prepared is not dropped to make room.

use std::sync::Arc;

use credence_identity::Timestamp;
use credence_identity::slots::SlotName;
use serde::{Deserialize, Serialize};

use crate::registry::State;
use crate::store::{Change, Journal as StoredJournal};

/// How many entries of each kind are kept. SPIRE keeps ten; an old authority that is still in the bundle must stay known,
/// however often successors are prepared by hand, so that it can be tainted and revoked.
const CAPACITY: usize = 50;

/// The stored journal does not parse: starting over would lose the authorities, so the server must not.
#[derive(Debug, thiserror::Error)]
#[error("the journal of the authorities is corrupt")]
pub struct JournalError(#[from] serde_json::Error);

/// The authorities of each kind, the oldest first.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(crate) struct Journal {
    #[serde(default)]
    pub(crate) x509: Vec<JournalEntry>,
    #[serde(default)]
    pub(crate) jwt: Vec<JournalEntry>,
    #[serde(default)]
    pub(crate) wit: Vec<JournalEntry>,
}

/// One authority.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct JournalEntry {
    pub(crate) authority_id: Arc<str>,
    #[serde(with = "SlotNameForm")]
    pub(crate) slot: SlotName,
    pub(crate) status: Status,
    #[serde(with = "millis")]
    pub(crate) issued_at: Timestamp,
    #[serde(with = "millis")]
    pub(crate) not_after: Timestamp,
    /// When its successor took over, if it ever signed.
    #[serde(default, with = "optional_millis", skip_serializing_if = "Option::is_none")]
    pub(crate) retired_at: Option<Timestamp>,
    /// The CA certificate, or the public key of the JWT authority; DER.
    #[serde(with = "base64_text")]
    pub(crate) document: Arc<[u8]>,
}

/// What an authority is, or was last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Status {
    Prepared,
    Active,
    Old,
}

impl Journal {
    /// The journal as it was committed last; empty if there is none.
    pub(crate) fn read(state: &State) -> Result<Self, JournalError> {
        state.journal().map_or(Ok(Self::default()), |stored| {
            Ok(serde_json::from_slice(&stored.0)?)
        })
    }

    /// The change that stores it.
    pub(crate) fn put(&self) -> Result<Change, JournalError> {
        Ok(Change::JournalPut(StoredJournal(
            serde_json::to_vec(self)?.into(),
        )))
    }
}

/// Adds an authority that is prepared. One that was prepared in its slot before will never sign.
pub(crate) fn add_prepared(entries: &mut Vec<JournalEntry>, prepared: JournalEntry) {
    for entry in entries.iter_mut() {
        if entry.slot == prepared.slot && entry.status == Status::Prepared {
            entry.status = Status::Old;
        }
    }
    entries.push(prepared);
    while entries.len() > CAPACITY {
        let droppable = entries.iter().position(|entry| entry.status == Status::Old);
        entries.remove(droppable.unwrap_or(0));
    }
}

/// Makes the authority the active one from `now` on, and the one that was old. Returns whether it is in the journal.
pub(crate) fn set_active(entries: &mut [JournalEntry], authority_id: &str, now: Timestamp) -> bool {
    let known = entries.iter().any(|entry| &*entry.authority_id == authority_id);
    if known {
        for entry in entries {
            if &*entry.authority_id == authority_id {
                entry.status = Status::Active;
            } else if entry.status == Status::Active {
                entry.status = Status::Old;
                entry.retired_at = Some(now);
            }
        }
    }
    known
}

/// Drops old entries that expired before that time.
pub(crate) fn prune(entries: &mut Vec<JournalEntry>, expired_before: Timestamp) {
    entries.retain(|entry| entry.status != Status::Old || entry.not_after >= expired_before);
}

#[derive(Serialize, Deserialize)]
#[serde(remote = "SlotName")]
enum SlotNameForm {
    A,
    B,
}

mod millis {
    use super::{Deserialize, Timestamp};

    pub(super) fn serialize<S: serde::Serializer>(at: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_i64(at.unix_millis())
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        i64::deserialize(from).map(Timestamp::from_unix_millis)
    }
}

mod optional_millis {
    use super::{Deserialize, Timestamp, millis};

    pub(super) fn serialize<S: serde::Serializer>(at: &Option<Timestamp>, to: S) -> Result<S::Ok, S::Error> {
        match at {
            Some(at) => millis::serialize(at, to),
            None => to.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(
        from: D,
    ) -> Result<Option<Timestamp>, D::Error> {
        Ok(Option::<i64>::deserialize(from)?.map(Timestamp::from_unix_millis))
    }
}

mod base64_text {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::{Arc, Deserialize};

    pub(super) fn serialize<S: serde::Serializer>(der: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(der))
    }

    pub(super) fn deserialize<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Arc<[u8]>, D::Error> {
        let text = String::deserialize(from)?;
        STANDARD
            .decode(text)
            .map(Arc::from)
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(id: &str, slot: SlotName, status: Status) -> JournalEntry {
        JournalEntry {
            authority_id: id.into(),
            slot,
            status,
            issued_at: Timestamp::from_unix_millis(-1),
            not_after: Timestamp::from_unix_seconds(100),
            retired_at: None,
            document: [1, 2, 3].into(),
        }
    }

    #[test]
    fn it_reads_back_as_it_was_written() {
        let journal = Journal {
            x509: vec![
                entry("a", SlotName::A, Status::Active),
                entry("b", SlotName::B, Status::Prepared),
            ],
            wit: vec![entry("d", SlotName::A, Status::Active)],
            jwt: vec![JournalEntry {
                retired_at: Some(Timestamp::from_unix_millis(7)),
                ..entry("c", SlotName::B, Status::Old)
            }],
        };
        let text = serde_json::to_vec(&journal).unwrap();
        assert_eq!(serde_json::from_slice::<Journal>(&text).unwrap(), journal);
        assert_eq!(serde_json::from_str::<Journal>("{}").unwrap(), Journal::default());
    }

    #[test]
    fn entries_are_bounded_and_the_active_one_among_them_however_often_one_is_prepared() {
        let mut entries = Vec::new();
        add_prepared(&mut entries, entry("first", SlotName::A, Status::Prepared));
        let now = Timestamp::from_unix_seconds(50);
        assert!(set_active(&mut entries, "first", now));
        for n in 0..70 {
            add_prepared(&mut entries, entry(&n.to_string(), SlotName::B, Status::Prepared));
        }
        assert_eq!(entries.len(), CAPACITY);
        let with = |status| {
            entries
                .iter()
                .filter(|e| e.status == status)
                .map(|e| &*e.authority_id)
                .collect::<Vec<_>>()
        };
        assert_eq!(with(Status::Active), ["first"]);
        assert_eq!(with(Status::Prepared), ["69"]);
        assert!(!set_active(&mut entries.clone(), "0", now), "it was dropped");
        assert!(set_active(&mut entries, "69", now));
        assert_eq!(entries.iter().filter(|e| e.status == Status::Active).count(), 1);
        let retired: Vec<_> = entries.iter().filter(|e| e.retired_at == Some(now)).collect();
        assert_eq!(retired.len(), 1);
        assert_eq!(&*retired[0].authority_id, "first");
    }

    #[test]
    fn pruning_takes_old_entries_alone() {
        let mut entries = vec![
            entry("a", SlotName::A, Status::Active),
            entry("b", SlotName::B, Status::Old),
        ];
        prune(&mut entries, Timestamp::from_unix_seconds(100));
        assert_eq!(entries.len(), 2);
        prune(&mut entries, Timestamp::from_unix_seconds(101));
        assert_eq!(entries.len(), 1);
    }
}
