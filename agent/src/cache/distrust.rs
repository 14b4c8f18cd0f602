//! Authorities of the own trust domain that are not to be relied on any more, and the SVIDs that wait for their turn to
//! be replaced because of that.
//!
//! Owns which authorities these are, and the pace: so many SVIDs at a time, so that a whole fleet doesn't ask the server
//! at once. Never drops what is served: an SVID is valid until its authority is revoked.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::hex;
use credence_crypto::x509::Certificate;
use credence_identity::{Bundle, EntryId, JwtAuthority};
use tokio::time::Instant;

/// How many SVIDs are replaced at a time, and how often, as SPIRE's agent does.
const BATCH: usize = 100;
const EVERY: Duration = Duration::from_secs(5);

/// The name of an authority in what it signed: a key ID of certificates, the bytes of a `kid`.
type KeyId = Arc<[u8]>;

/// What a bundle says of the authorities of one kind, compared with the one before.
#[derive(Debug, Default)]
pub(crate) struct Distrusted {
    /// Tainted, and were not before.
    pub(crate) newly_tainted: BTreeSet<KeyId>,
    /// All whose SVIDs are to be replaced: tainted, or gone from the bundle with this change.
    all: BTreeSet<KeyId>,
    /// In the bundle and not tainted.
    trusted: BTreeSet<KeyId>,
}

impl Distrusted {
    /// By subject key ID; an authority without one has nothing by which an SVID names it.
    pub(crate) fn x509(before: &Bundle, now: &Bundle) -> Self {
        let named = |bundle: &Bundle| -> Vec<(KeyId, bool)> {
            let named = bundle.x509_authorities.iter().filter_map(|authority| {
                let certificate = Certificate::from_der(&authority.der).ok()?;
                Some((certificate.subject_key_id()?.into(), authority.tainted))
            });
            named.collect()
        };
        Self::between(&named(before), &named(now))
    }

    /// By `kid`.
    fn tokens(before: &[JwtAuthority], now: &[JwtAuthority]) -> Self {
        let named = |authorities: &[JwtAuthority]| -> Vec<(KeyId, bool)> {
            let all = authorities.iter();
            all.map(|authority| (authority.key_id.as_bytes().into(), authority.tainted))
                .collect()
        };
        Self::between(&named(before), &named(now))
    }

    fn between(before: &[(KeyId, bool)], now: &[(KeyId, bool)]) -> Self {
        let flagged = |of: &[(KeyId, bool)], flag: bool| -> BTreeSet<KeyId> {
            let flagged = of.iter().filter(|(_, tainted)| *tainted == flag);
            flagged.map(|(id, _)| id.clone()).collect()
        };
        let mut all = flagged(now, true);
        let newly_tainted = all.difference(&flagged(before, true)).cloned().collect();
        let gone = before
            .iter()
            .filter(|(id, _)| now.iter().all(|(there, _)| there != id));
        all.extend(gone.map(|(id, _)| id.clone()));
        Self {
            newly_tainted,
            all,
            trusted: flagged(now, false),
        }
    }

    /// Keeps those in mind that were gone from an earlier bundle, as far as something held names them.
    pub(crate) fn remember<'a>(&mut self, earlier: &Self, held: impl Iterator<Item = &'a [u8]>) {
        let still = held.filter(|id| earlier.all.contains(*id) && !self.trusted.contains(*id));
        let still: Vec<KeyId> = still.map(Arc::from).collect();
        self.all.extend(still);
    }

    /// Whether an SVID that names this authority is to be replaced.
    pub(crate) fn covers(&self, authority: Option<&[u8]>) -> bool {
        authority.is_some_and(|id| self.all.contains(id))
    }
}

/// The authorities of tokens that aren't to be relied on any more.
#[derive(Debug)]
pub(crate) struct DistrustedTokens {
    pub(crate) jwt: Distrusted,
    pub(crate) wit: Distrusted,
}

impl DistrustedTokens {
    pub(crate) fn between(before: &Bundle, now: &Bundle) -> Self {
        Self {
            jwt: Distrusted::tokens(&before.jwt_authorities, &now.jwt_authorities),
            wit: Distrusted::tokens(&before.wit_authorities, &now.wit_authorities),
        }
    }

    /// Says in the log which were tainted.
    pub(crate) fn log(&self) {
        let joined = |ids: &BTreeSet<KeyId>| -> String {
            let ids: Vec<_> = ids.iter().map(|id| String::from_utf8_lossy(id)).collect();
            ids.join(",")
        };
        if !self.jwt.newly_tainted.is_empty() {
            tracing::debug!(
                jwt_authority_key_ids = joined(&self.jwt.newly_tainted),
                "New tainted JWT authorities found"
            );
        }
        if !self.wit.newly_tainted.is_empty() {
            tracing::debug!(
                wit_authority_key_ids = joined(&self.wit.newly_tainted),
                "New tainted WIT authorities found"
            );
        }
    }
}

/// Key IDs for the log, as SPIRE writes them.
pub(crate) fn hex_list(ids: &BTreeSet<KeyId>) -> String {
    let ids: Vec<_> = ids.iter().map(|id| hex(id)).collect();
    ids.join(",")
}

/// The SVIDs that wait for their turn.
#[derive(Debug, Default)]
pub(crate) struct Waiting {
    entries: VecDeque<EntryId>,
    next_batch: Option<Instant>,
}

impl Waiting {
    /// Puts the entry at the end of the line, unless it stands there.
    pub(crate) fn add(&mut self, entry: EntryId) {
        if !self.entries.contains(&entry) {
            self.entries.push_back(entry);
        }
    }

    /// Puts the entries at the end of the line.
    pub(crate) fn extend(&mut self, entries: impl IntoIterator<Item = EntryId>) {
        let known: BTreeSet<EntryId> = self.entries.iter().cloned().collect();
        self.entries
            .extend(entries.into_iter().filter(|entry| !known.contains(entry)));
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// Those whose turn it is.
    pub(crate) fn take_batch(&mut self, now: Instant) -> Vec<EntryId> {
        if self.entries.is_empty() || self.due_in(now).is_some_and(|wait| !wait.is_zero()) {
            return Vec::new();
        }
        self.next_batch = Some(now + EVERY);
        let batch = self.entries.len().min(BATCH);
        self.entries.drain(..batch).collect()
    }

    /// How long until somebody's turn comes; none if nobody waits.
    pub(crate) fn due_in(&self, now: Instant) -> Option<Duration> {
        let next = |at: Instant| at.saturating_duration_since(now);
        (!self.entries.is_empty()).then(|| self.next_batch.map_or(Duration::ZERO, next))
    }
}
