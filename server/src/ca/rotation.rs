//! The life of the authorities of one kind: prepared, published, activated, found again.
//!
//! Owns the slots of the kind. Invariant: an authority is in the bundle and in the journal, both committed, before it
//! signs anything; and whatever fails, the one that signs goes on signing.

use std::sync::Arc;

use credence_crypto::Signer;
use credence_identity::slots::{Action, NextStatus, SlotName, Slots};
use credence_identity::{Bundle, Timestamp};

use super::journal::{self, Journal, JournalEntry, JournalError, Status};
use super::kind::{Held, Kind};
use super::{AuthorityError, AuthorityKind, Context};
use crate::keymanager::KeyManager;
use crate::registry::{State, TransactError};
use crate::store::Change;

/// The slots of a kind, and how often in a row their rotation has failed.
#[derive(Debug)]
pub(crate) struct Rotation<K: Kind> {
    pub(super) slots: Slots<Arc<Held<K::Signer>>>,
}

impl<K: Kind> Rotation<K> {
    /// The slots as the journal has them. An authority counts only if the key manager still has its key and the bundle
    /// still has it; what it signed stays verifiable by the bundle in any case. One that is tainted signs nothing more.
    pub(crate) fn restore(state: &State, keys: &dyn KeyManager) -> Result<Self, JournalError> {
        let mut journal = Journal::read(state)?;
        let entries = K::entries(&mut journal);
        let restored = [SlotName::A, SlotName::B].map(|slot| {
            // The last entry of a slot is the one whose key is in it; a key that was made after it matches none.
            let key = keys.key(&key_name::<K>(slot))?;
            let entry = entries.iter().rev().find(|entry| entry.slot == slot)?;
            let published =
                |bundle: &Arc<Bundle>| K::is_published(bundle, &entry.document, &entry.authority_id);
            let usable = state
                .own_bundle()
                .is_some_and(published)
                .then(|| K::restore(key, entry))
                .flatten();
            if usable.is_none() && entry.status != Status::Old {
                tracing::warn!(
                    subsystem_name = "ca_manager", slot = %slot, local_authority_id = &*entry.authority_id,
                    "{} slot unusable: its key or its place in the bundle is gone", K::NOUN
                );
            }
            let mut bundle = state.own_bundle().map(|bundle| Bundle::clone(bundle))?;
            let tainted = K::flags(&mut bundle, &entry.authority_id)
                .into_iter()
                .any(|flag| *flag);
            Some(Restored {
                slot,
                status: if tainted { Status::Old } else { entry.status },
                held: Arc::new(usable?),
            })
        });
        if !entries.is_empty() && restored.iter().all(Option::is_none) {
            tracing::info!(
                subsystem_name = "ca_manager",
                "There is not a CA journal record that matches any of the local {} authority IDs",
                K::NOUN
            );
        }
        Ok(Self {
            slots: arrange(restored),
        })
    }

    /// Does what is due, and hands the active authority to those who sign.
    pub(crate) async fn rotate(&mut self, context: &Context) -> Result<(), AuthorityError> {
        self.hand_out(context);
        // At most a preparation and an activation are due; the bound keeps absurd lifetimes from spinning.
        for _ in 0..2 {
            match self.slots.tick(context.clock.now()) {
                Action::None => break,
                Action::PrepareNext => self.prepare(context).await?,
                Action::ActivateNext => self.activate(context).await?,
            }
        }
        Ok(())
    }

    /// When something is due next; `None` for now.
    pub(crate) fn wake_at(&self) -> Option<Timestamp> {
        self.slots.wake_at()
    }

    /// Makes an authority in the next slot, and commits it to bundle and journal as one transaction.
    pub(super) async fn prepare(&mut self, context: &Context) -> Result<(), AuthorityError> {
        let key = format!("ca.manager.{}.prepare", K::METRIC);
        let measured = &context.issuers.measured;
        measured.watch(&key, self.prepare_next(context)).await
    }

    async fn prepare_next(&mut self, context: &Context) -> Result<(), AuthorityError> {
        let slot = self.slots.next_name();
        let key = context
            .keys
            .generate(&key_name::<K>(slot), K::key_type(&context.settings))
            .await?;
        let published = self.publish(context, slot, key).await;
        if published.is_err() {
            // The key manager has another key for its slot now: a restart wouldn't find it again.
            self.slots.forget_prepared();
        }
        published
    }

    async fn publish(
        &mut self,
        context: &Context,
        slot: SlotName,
        key: Arc<dyn Signer>,
    ) -> Result<(), AuthorityError> {
        let held = Arc::new(K::make(&context.settings, key, context.clock.now())?);
        let entry = JournalEntry {
            authority_id: Arc::clone(&held.id),
            slot,
            status: Status::Prepared,
            issued_at: held.issued_at,
            not_after: held.not_after,
            retired_at: None,
            document: Arc::clone(&held.document),
        };
        commit::<K>(context, &held, move |entries| {
            journal::add_prepared(entries, entry)
        })
        .await?;
        self.slots.prepare(Arc::clone(&held));
        log::<K>("prepared", slot, &held);
        Ok(())
    }

    /// Commits that the prepared authority is active, and lets it sign.
    pub(super) async fn activate(&mut self, context: &Context) -> Result<(), AuthorityError> {
        let Some((NextStatus::Prepared, held)) = self.slots.next() else {
            return Ok(());
        };
        let (slot, held) = (self.slots.next_name(), Arc::clone(held));
        let (id, now) = (Arc::clone(&held.id), context.clock.now());
        commit::<K>(context, &held, move |entries| {
            journal::set_active(entries, &id, now);
        })
        .await?;
        // It was prepared a moment ago, and nobody else has these slots.
        if self.slots.activate().is_ok() {
            self.hand_out(context);
            K::count_activation(&context.issuers.measured);
            log::<K>("activated", slot, &held);
            if K::BY_HAND == Some(AuthorityKind::X509) {
                tracing::debug!(
                    subsystem_name = "ca_manager",
                    trust_domain_id = %context.settings.trust_domain.id(),
                    ttl = now.until(held.not_after).as_secs_f64(),
                    "Successfully rotated X.509 CA"
                );
            }
        }
        Ok(())
    }

    fn hand_out(&self, context: &Context) {
        if let Some(active) = self.slots.active() {
            K::issuer(&context.issuers).store(Some(Arc::clone(active)));
            K::show_expiry(context, active.not_after);
            context.issuers.activated.notify_one();
        }
    }
}

/// Commits a change of the journal, together with the authority's place in the bundle where it lacks that.
async fn commit<K: Kind>(
    context: &Context,
    held: &Arc<Held<K::Signer>>,
    record: impl FnOnce(&mut Vec<JournalEntry>) + Send + 'static,
) -> Result<(), AuthorityError> {
    let held = Arc::clone(held);
    let decide = move |state: &State| -> Result<(Vec<Change>, ()), JournalError> {
        let mut journal = Journal::read(state)?;
        record(K::entries(&mut journal));
        let unchanged = |bundle: &Arc<Bundle>| K::is_published(bundle, &held.document, &held.id);
        let mut changes = Vec::new();
        if !state.own_bundle().is_some_and(unchanged) {
            changes.push(change_bundle(state, |bundle| K::publish(bundle, &held)));
        }
        changes.push(journal.put()?);
        Ok((changes, ()))
    };
    context.registry.transact(decide).await.map_err(refused_or_failed)
}

/// The change that puts the trust domain's own bundle, altered, under the next sequence number.
pub(super) fn change_bundle(state: &State, alter: impl FnOnce(&mut Bundle)) -> Change {
    let mut bundle = match state.own_bundle() {
        Some(bundle) => {
            let next = bundle.sequence_number.saturating_add(1);
            Bundle {
                sequence_number: next,
                ..Bundle::clone(bundle)
            }
        }
        None => Bundle::empty(state.trust_domain().clone()),
    };
    alter(&mut bundle);
    Change::BundlePut(Arc::new(bundle))
}

pub(super) fn refused_or_failed(error: TransactError<JournalError>) -> AuthorityError {
    match error {
        TransactError::Refused(journal) => AuthorityError::Journal(journal),
        TransactError::Store(store) => AuthorityError::Store(store),
        TransactError::Closed => AuthorityError::Closed,
    }
}

fn key_name<K: Kind>(slot: SlotName) -> String {
    format!("{}-{slot}", K::KEY_PREFIX)
}

/// An authority that was found again.
struct Restored<S> {
    slot: SlotName,
    status: Status,
    held: Arc<Held<S>>,
}

/// Puts what was restored into its slots. Two active ones cannot be; if they are, the later one is.
fn arrange<S>(restored: [Option<Restored<S>>; 2]) -> Slots<Arc<Held<S>>> {
    let mut found: Vec<_> = restored.into_iter().flatten().collect();
    found.sort_by_key(|one| (one.status == Status::Active, one.held.issued_at));
    let next = |one: Restored<S>| {
        let status = if one.status == Status::Prepared {
            NextStatus::Prepared
        } else {
            NextStatus::Old
        };
        (status, one.held)
    };
    match (found.pop(), found.pop()) {
        (Some(active), other) if active.status == Status::Active => {
            Slots::restore(active.slot, Some(active.held), other.map(next))
        }
        (Some(one), _) => Slots::restore(one.slot.other(), None, Some(next(one))),
        (None, _) => Slots::default(),
    }
}

fn log<K: Kind>(done: &str, slot: SlotName, held: &Held<K::Signer>) {
    tracing::info!(
        subsystem_name = "ca_manager",
        slot = %slot,
        issued_at = %held.issued_at,
        expiration = %held.not_after,
        local_authority_id = &*held.id,
        self_signed = (K::BY_HAND == Some(AuthorityKind::X509) && done == "prepared").then_some(true),
        upstream_authority_id = (K::BY_HAND == Some(AuthorityKind::X509)).then_some(""),
        "{} {done}", K::NOUN
    );
}
