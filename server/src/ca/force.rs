//! What an operator does to the authorities by hand: prepare, activate, taint, revoke, in the slots that also rotate by
//! themselves.
//!
//! Owns the order in which a step is refused. Invariants: the authority that signs is never tainted nor revoked, and
//! only a tainted one is revoked; an authority that was displaced from its slot can be tainted and revoked as long as
//! the bundle has it (SPIRE loses sight of it); each step is one transaction of bundle and journal.

use std::sync::Arc;

use credence_identity::slots::NextStatus;
use credence_identity::{Bundle, Timestamp};
use tokio::sync::{mpsc, oneshot};

use super::journal::{Journal, JournalEntry};
use super::kind::{Held, Kind};
use super::rotation::{Rotation, change_bundle};
use super::{Authority, AuthorityError, Context};
use crate::registry::{State, TransactError};
use crate::store::Change;

/// Orders that may wait for the owner task; more callers wait in their own tasks.
pub(super) const QUEUE: usize = 8;

/// The kinds of authorities.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum AuthorityKind {
    /// Certificate authorities.
    X509,
    /// Keys that sign JWT-SVIDs.
    Jwt,
}

/// An authority of this server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAuthority {
    /// The subject key ID in lower-case hex, or the `kid`.
    pub id: Arc<str>,
    /// When it ends; unknown of a JWT authority of somebody else's.
    pub not_after: Option<Timestamp>,
}

/// The authorities of a kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalAuthorities {
    /// The one that signs.
    pub active: LocalAuthority,
    /// The one that is published and waits for its time.
    pub prepared: Option<LocalAuthority>,
    /// The one that signed last before the active one; also when a successor was prepared in its slot.
    pub old: Option<LocalAuthority>,
}

/// Why a step was not taken. In each case nothing has changed.
#[derive(Debug, thiserror::Error)]
pub enum ForceError {
    /// JWT-SVIDs are switched off.
    #[error("JWT functionality is disabled")]
    Disabled,
    /// No authority signs yet.
    #[error("server is initializing")]
    Initializing,
    /// The authority's ID is empty.
    #[error("no authority ID provided")]
    NoId,
    /// There is no such authority, or none that this step could concern.
    #[error("unexpected authority ID")]
    Unknown,
    /// It signs.
    #[error("the authority is active")]
    Active,
    /// It waits for its time.
    #[error("the authority is prepared")]
    Prepared,
    /// It has signed before.
    #[error("the authority is old")]
    Old,
    /// It is tainted already.
    #[error("the authority is already tainted")]
    AlreadyTainted,
    /// It must be tainted first.
    #[error("the authority is not tainted")]
    NotTainted,
    /// It was revoked or pruned.
    #[error("the authority is not in the bundle")]
    NotInBundle,
    /// Key manager or store failed.
    #[error(transparent)]
    Failed(#[from] AuthorityError),
}

/// One step of a forced rotation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Step {
    Prepare,
    Activate(Arc<str>),
    Taint(Arc<str>),
    Revoke(Arc<str>),
}

type Reply<T> = oneshot::Sender<Result<T, ForceError>>;

/// What the owner task is asked for.
#[derive(Debug)]
pub(super) struct Order {
    pub(super) kind: AuthorityKind,
    pub(super) work: Work,
}

#[derive(Debug)]
pub(super) enum Work {
    Show(Reply<LocalAuthorities>),
    Step(Step, Reply<LocalAuthority>),
}

impl Work {
    pub(super) fn refuse(self, error: ForceError) {
        // A caller that has gone away is not told.
        match self {
            Self::Show(reply) => drop(reply.send(Err(error))),
            Self::Step(_, reply) => drop(reply.send(Err(error))),
        }
    }
}

impl Authority {
    /// The authorities of a kind.
    ///
    /// # Errors
    /// [`ForceError`].
    pub(crate) async fn local_authorities(
        &self,
        kind: AuthorityKind,
    ) -> Result<LocalAuthorities, ForceError> {
        self.order(kind, Work::Show).await
    }

    /// Takes a step of a forced rotation; answers with the authority that it concerned. Once its turn has come, the step
    /// is carried out even if the caller goes away.
    ///
    /// # Errors
    /// [`ForceError`].
    pub(crate) async fn force(&self, kind: AuthorityKind, step: Step) -> Result<LocalAuthority, ForceError> {
        self.order(kind, |reply| Work::Step(step, reply)).await
    }

    async fn order<T>(
        &self,
        kind: AuthorityKind,
        work: impl FnOnce(Reply<T>) -> Work,
    ) -> Result<T, ForceError> {
        let (reply, answer) = oneshot::channel();
        let order = Order {
            kind,
            work: work(reply),
        };
        let closed = || ForceError::Failed(AuthorityError::Closed);
        let sent: Result<(), mpsc::error::SendError<Order>> = self.orders.send(order).await;
        sent.map_err(|_| closed())?;
        answer.await.unwrap_or_else(|_| Err(closed()))
    }
}

/// When an authority stopped signing, if that is known, and when it ends; none if it isn't this server's.
pub(crate) fn past(state: &State, kind: AuthorityKind, id: &str) -> Option<(Option<Timestamp>, Timestamp)> {
    let journal = Journal::read(state).ok()?;
    let entries = match kind {
        AuthorityKind::X509 => journal.x509,
        AuthorityKind::Jwt => journal.jwt,
    };
    let entry = entries.iter().find(|entry| &*entry.authority_id == id)?;
    Some((entry.retired_at, entry.not_after))
}

/// What an authority is to this server.
enum Role {
    Active,
    Prepared,
    Old(LocalAuthority),
    /// A JWT authority that another server of the trust domain has published: each of them may revoke it.
    Foreign(LocalAuthority),
    Unknown,
}

impl<K: Kind> Rotation<K> {
    pub(super) async fn carry_out(&mut self, context: &Context, work: Work) {
        match work {
            Work::Show(reply) => drop(reply.send(self.show(&context.registry.read()))),
            Work::Step(step, reply) => drop(reply.send(self.take(context, step).await)),
        }
    }

    fn show(&self, state: &State) -> Result<LocalAuthorities, ForceError> {
        let active = self.slots.active().ok_or(ForceError::Initializing)?;
        let next = |wanted: NextStatus| {
            let found = self.slots.next().filter(|(status, _)| *status == wanted);
            found.map(|(_, held)| local(held))
        };
        Ok(LocalAuthorities {
            active: local(active),
            prepared: next(NextStatus::Prepared),
            old: match next(NextStatus::Old) {
                Some(old) => Some(old),
                None => self.displaced(state)?,
            },
        })
    }

    /// The last authority that signed and is in no slot any more, if verifiers still have it.
    fn displaced(&self, state: &State) -> Result<Option<LocalAuthority>, ForceError> {
        let mut journal = Journal::read(state).map_err(AuthorityError::from)?;
        let entries = std::mem::take(K::entries(&mut journal));
        let Some(bundle) = state.own_bundle() else {
            return Ok(None);
        };
        let is_old = |entry: &&JournalEntry| {
            entry.retired_at.is_some()
                && !self.is_held(&entry.authority_id)
                && K::is_published(bundle, &entry.document, &entry.authority_id)
        };
        let last = entries.iter().filter(is_old).max_by_key(|entry| entry.retired_at);
        Ok(last.map(of_journal))
    }

    async fn take(&mut self, context: &Context, step: Step) -> Result<LocalAuthority, ForceError> {
        match step {
            Step::Prepare => {
                self.slots.active().ok_or(ForceError::Initializing)?;
                self.prepare(context).await?;
                let prepared = self.slots.next().map(|(_, held)| local(held));
                prepared.ok_or(ForceError::Unknown)
            }
            Step::Activate(id) => {
                check_id(&id)?;
                match self.slots.next() {
                    Some((NextStatus::Prepared, next)) if next.id == id => {}
                    Some((NextStatus::Old, next)) if next.id == id => return Err(ForceError::Old),
                    _ => return Err(ForceError::Unknown),
                }
                self.activate(context).await?;
                self.slots.active().map(local).ok_or(ForceError::Unknown)
            }
            Step::Taint(id) => {
                check_id(&id)?;
                let role = self.role(&id, &context.registry.read())?;
                let old = match role {
                    Role::Active => return Err(ForceError::Active),
                    Role::Prepared => return Err(ForceError::Prepared),
                    Role::Unknown | Role::Foreign(_) => return Err(ForceError::Unknown),
                    Role::Old(old) => old,
                };
                alter::<K>(context, id, |bundle, id| {
                    let mut flags = K::flags(bundle, id);
                    if flags.iter().any(|tainted| **tainted) {
                        return Err(ForceError::AlreadyTainted);
                    }
                    flags.iter_mut().for_each(|tainted| **tainted = true);
                    Ok(())
                })
                .await?;
                Ok(old)
            }
            Step::Revoke(id) => {
                check_id(&id)?;
                let role = self.role(&id, &context.registry.read())?;
                let revoked = match role {
                    Role::Active => return Err(ForceError::Active),
                    Role::Prepared => return Err(ForceError::Prepared),
                    Role::Unknown => return Err(ForceError::Unknown),
                    Role::Old(old) | Role::Foreign(old) => old,
                };
                alter::<K>(context, id, |bundle, id| {
                    if K::flags(bundle, id).iter().any(|tainted| !**tainted) {
                        return Err(ForceError::NotTainted);
                    }
                    K::withdraw(bundle, id);
                    Ok(())
                })
                .await?;
                Ok(revoked)
            }
        }
    }

    fn is_held(&self, id: &str) -> bool {
        let is = |held: &Arc<Held<K::Signer>>| &*held.id == id;
        self.slots.active().is_some_and(is) || self.slots.next().is_some_and(|(_, held)| is(held))
    }

    fn role(&self, id: &str, state: &State) -> Result<Role, ForceError> {
        if self.slots.active().is_some_and(|held| &*held.id == id) {
            return Ok(Role::Active);
        }
        if let Some((status, held)) = self.slots.next().filter(|(_, held)| &*held.id == id) {
            return Ok(match status {
                NextStatus::Prepared => Role::Prepared,
                NextStatus::Old => Role::Old(local(held)),
            });
        }
        let mut journal = Journal::read(state).map_err(AuthorityError::from)?;
        let entries = std::mem::take(K::entries(&mut journal));
        if let Some(known) = entries.iter().find(|entry| &*entry.authority_id == id) {
            return Ok(Role::Old(of_journal(known)));
        }
        let in_bundle = |bundle: &Arc<Bundle>| bundle.jwt_authorities_by_key_id(id).next().is_some();
        if K::BY_HAND == Some(AuthorityKind::Jwt) && state.own_bundle().is_some_and(in_bundle) {
            return Ok(Role::Foreign(LocalAuthority {
                id: id.into(),
                not_after: None,
            }));
        }
        Ok(Role::Unknown)
    }
}

/// Commits a change of the bundle to the authorities with that ID.
async fn alter<K: Kind>(
    context: &Context,
    id: Arc<str>,
    change: fn(&mut Bundle, &str) -> Result<(), ForceError>,
) -> Result<(), ForceError> {
    let decide = move |state: &State| -> Result<(Vec<Change>, ()), ForceError> {
        let own = state.own_bundle().ok_or(ForceError::NotInBundle)?;
        let mut bundle = Bundle::clone(own);
        if K::flags(&mut bundle, &id).is_empty() {
            return Err(ForceError::NotInBundle);
        }
        change(&mut bundle, &id)?;
        let change = change_bundle(state, |next| {
            next.x509_authorities = bundle.x509_authorities;
            next.jwt_authorities = bundle.jwt_authorities;
        });
        Ok((vec![change], ()))
    };
    let done = context.registry.transact(decide).await;
    done.map_err(|error| match error {
        TransactError::Refused(refusal) => refusal,
        TransactError::Store(store) => ForceError::Failed(AuthorityError::Store(store)),
        TransactError::Closed => ForceError::Failed(AuthorityError::Closed),
    })
}

fn check_id(id: &str) -> Result<(), ForceError> {
    if id.is_empty() {
        return Err(ForceError::NoId);
    }
    Ok(())
}

fn local<S>(held: &Arc<Held<S>>) -> LocalAuthority {
    LocalAuthority {
        id: Arc::clone(&held.id),
        not_after: Some(held.not_after),
    }
}

fn of_journal(entry: &JournalEntry) -> LocalAuthority {
    LocalAuthority {
        id: Arc::clone(&entry.authority_id),
        not_after: Some(entry.not_after),
    }
}
