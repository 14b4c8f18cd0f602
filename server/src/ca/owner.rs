//! The task that owns the authorities: rotates them when they are due, and drops from bundle and journal what expired
//! long ago.
//!
//! Invariant: a failure is logged, counted and tried again; it never ends the task nor touches what signs.

use std::convert::Infallible;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use credence_crypto::x509::Certificate;
use credence_identity::{Bundle, Timestamp};
use credence_runtime::clock::sleep_until;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, MissedTickBehavior, interval_at};

use super::force::{ForceError, Order};
use super::journal::{self, Journal, JournalError};
use super::kind::{Jwt, Kind, Wit, X509};
use super::rotation::{Rotation, change_bundle, refused_or_failed};
use super::{AuthorityError, AuthorityKind, Context};
use crate::registry::State;
use crate::store::Change;

/// After a failure the rotation is tried again this much later, as SPIRE does.
const RETRY: Duration = Duration::from_secs(10);
/// However soon something is due, there is this much between two looks.
const BREATH: Duration = Duration::from_millis(500);

/// How often what expired is looked for, by the monotonic clock: a wall clock that jumped ahead for a moment must not
/// cost authorities that are still good.
const PRUNE_EVERY: Duration = Duration::from_secs(6 * 60 * 60);
/// So long after its end an authority leaves the bundle, as SPIRE does.
const KEPT_IN_BUNDLE: Duration = Duration::from_secs(24 * 60 * 60);
/// So long after its end an authority leaves the journal, as SPIRE does.
const KEPT_IN_JOURNAL: Duration = Duration::from_secs(14 * 24 * 60 * 60);

/// All kinds of authority.
#[derive(Debug)]
pub(super) struct Owner {
    context: Context,
    x509: Rotation<X509>,
    /// None if JWT-SVIDs are disabled.
    jwt: Option<Rotation<Jwt>>,
    /// None unless WIT-SVIDs are switched on.
    wit: Option<Rotation<Wit>>,
}

impl Owner {
    /// Finds the authorities again, or makes the first ones.
    pub(super) async fn start(context: Context) -> Result<Self, AuthorityError> {
        let restored = || {
            let (state, keys) = (context.registry.read(), &*context.keys);
            let journal = Journal::read(&state)?;
            tracing::info!(
                subsystem_name = "ca_manager",
                x509_cas = journal.x509.len(),
                jwt_keys = journal.jwt.len(),
                wit_keys = journal.wit.len(),
                "Journal loaded"
            );
            let jwt = (!context.settings.disable_jwt_svids)
                .then(|| Rotation::restore(&state, keys))
                .transpose()?;
            let wit = context.settings.wit.as_ref();
            let wit = wit.map(|_| Rotation::restore(&state, keys)).transpose()?;
            Ok::<_, JournalError>((Rotation::restore(&state, keys)?, jwt, wit))
        };
        let (mut x509, mut jwt, mut wit) = restored()?;
        // A rotation that is due but fails is no reason not to start while an authority is there that can sign.
        begin(&context, &mut x509).await?;
        if let Some(jwt) = &mut jwt {
            begin(&context, jwt).await?;
        }
        if let Some(wit) = &mut wit {
            begin(&context, wit).await?;
        }
        Ok(Self {
            context,
            x509,
            jwt,
            wit,
        })
    }

    /// Runs until shutdown drops it.
    pub(super) async fn run(
        mut self,
        mut steps: watch::Receiver<u64>,
        mut orders: mpsc::Receiver<Order>,
    ) -> Result<(), Infallible> {
        let mut prunings = interval_at(Instant::now() + PRUNE_EVERY, PRUNE_EVERY);
        prunings.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let wake_at = self.wake_at();
            tokio::select! {
                () = sleep_until(&*self.context.clock, &mut steps, wake_at) => self.rotate().await,
                _ = prunings.tick() => self.prune().await,
                Some(order) = orders.recv() => self.carry_out(order).await,
            }
        }
    }

    fn wake_at(&self) -> Timestamp {
        let (now, issuers) = (self.context.clock.now(), &self.context.issuers);
        let x509 = wake_at(now, self.x509.wake_at(), &issuers.x509_failures);
        let jwt = self
            .jwt
            .as_ref()
            .map(|jwt| wake_at(now, jwt.wake_at(), &issuers.jwt_failures));
        let wit = self
            .wit
            .as_ref()
            .map(|wit| wake_at(now, wit.wake_at(), &issuers.wit_failures));
        jwt.into_iter().chain(wit).fold(x509, Timestamp::min)
    }

    async fn carry_out(&mut self, order: Order) {
        match (order.kind, &mut self.jwt) {
            (AuthorityKind::X509, _) => self.x509.carry_out(&self.context, order.work).await,
            (AuthorityKind::Jwt, Some(jwt)) => jwt.carry_out(&self.context, order.work).await,
            (AuthorityKind::Jwt, None) => order.work.refuse(ForceError::Disabled),
        }
    }

    async fn rotate(&mut self) {
        rotate(&self.context, &mut self.x509, &self.context.issuers.x509_failures).await;
        if let Some(jwt) = &mut self.jwt {
            rotate(&self.context, jwt, &self.context.issuers.jwt_failures).await;
        }
        if let Some(wit) = &mut self.wit {
            rotate(&self.context, wit, &self.context.issuers.wit_failures).await;
        }
    }

    async fn prune(&self) {
        let measured = &self.context.issuers.measured;
        let _pruning = measured.counted("ca.manager.bundle.prune");
        let now = self.context.clock.now();
        match self
            .context
            .registry
            .transact(move |state| expired(state, now))
            .await
            .map_err(refused_or_failed)
        {
            Ok(0) => {}
            Ok(count) => {
                measured.count("ca.manager.bundle.pruned", 1);
                tracing::info!(
                    subsystem_name = "ca_manager",
                    count,
                    "Expired authorities pruned from the bundle"
                );
            }
            Err(error) => {
                let error = &error as &(dyn std::error::Error + 'static);
                tracing::error!(
                    subsystem_name = "ca_manager",
                    error,
                    "Failed to prune expired authorities"
                );
            }
        }
    }
}

/// When to look again: at what is due, but not at once again, and after a failure when it is time for another try.
fn wake_at(now: Timestamp, due: Option<Timestamp>, failures: &AtomicU32) -> Timestamp {
    if failures.load(Ordering::Relaxed) > 0 {
        now + RETRY
    } else {
        due.map_or(now + BREATH, |due| due.max(now + BREATH))
    }
}

async fn begin<K: Kind>(context: &Context, rotation: &mut Rotation<K>) -> Result<(), AuthorityError> {
    let outcome = rotation.rotate(context).await;
    let now = context.clock.now();
    match (&*K::issuer(&context.issuers).load(), outcome) {
        (Some(active), Err(error)) if now < active.not_after => {
            log_failure::<K>(&error);
            Ok(())
        }
        (_, outcome) => outcome,
    }
}

async fn rotate<K: Kind>(context: &Context, rotation: &mut Rotation<K>, failures: &AtomicU32) {
    match rotation.rotate(context).await {
        Ok(()) => failures.store(0, Ordering::Relaxed),
        Err(error) => {
            failures.fetch_add(1, Ordering::Relaxed);
            log_failure::<K>(&error);
        }
    }
}

fn log_failure<K: Kind>(error: &AuthorityError) {
    let error = error as &(dyn std::error::Error + 'static);
    tracing::error!(
        subsystem_name = "ca_manager",
        error,
        "Unable to rotate {}",
        K::NOUN
    );
}

/// The changes that drop what expired long ago, and how many authorities leave the bundle.
fn expired(state: &State, now: Timestamp) -> Result<(Vec<Change>, usize), JournalError> {
    let mut changes = Vec::new();
    let mut dropped = 0;
    if let Some(bundle) = state.own_bundle() {
        let mut kept = Bundle::clone(bundle);
        let limit = now - KEPT_IN_BUNDLE;
        kept.x509_authorities.retain(|authority| {
            Certificate::from_der(&authority.der).map_or(true, |certificate| certificate.not_after() >= limit)
        });
        for keys in [&mut kept.jwt_authorities, &mut kept.wit_authorities] {
            keys.retain(|authority| authority.expires_at.is_none_or(|end| end >= limit));
        }
        let count = |bundle: &Bundle| {
            bundle.x509_authorities.len() + bundle.jwt_authorities.len() + bundle.wit_authorities.len()
        };
        dropped = count(bundle).saturating_sub(count(&kept));
        if dropped > 0 {
            changes.push(change_bundle(state, |bundle| {
                bundle.x509_authorities = kept.x509_authorities;
                bundle.jwt_authorities = kept.jwt_authorities;
                bundle.wit_authorities = kept.wit_authorities;
            }));
        }
    }
    let before = Journal::read(state)?;
    let mut journal = before.clone();
    journal::prune(&mut journal.x509, now - KEPT_IN_JOURNAL);
    journal::prune(&mut journal.jwt, now - KEPT_IN_JOURNAL);
    journal::prune(&mut journal.wit, now - KEPT_IN_JOURNAL);
    if journal != before {
        changes.push(journal.put()?);
    }
    Ok((changes, dropped))
}
