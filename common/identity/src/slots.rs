//! The slot machine of an authority kind: two slots, of which one signs and the other holds the successor or the
//! predecessor. One machine serves X.509 and JWT authorities alike.
//!
//! Owns: which authority is active, prepared or old, and what is to be done next. Never makes an authority, publishes it
//! or stores anything: the caller does that, and moves the machine only once it is done.
//! Invariant: only a prepared authority becomes active, and an active one stays until another takes its place.

use std::fmt;

use crate::Timestamp;
use crate::rotation::{Lifetime, activate_at, prepare_at, settled_at};

/// The name of a slot, which is also part of the names of keys in a key manager.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SlotName {
    /// The first slot.
    A,
    /// The second slot.
    B,
}

impl SlotName {
    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

impl fmt::Display for SlotName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::A => "A",
            Self::B => "B",
        })
    }
}

/// What the authority of the second slot is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum NextStatus {
    /// Published, and waiting for its time.
    Prepared,
    /// It signed until its successor took over.
    Old,
}

/// What the rotation has to do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// Nothing yet.
    None,
    /// Make an authority in the next slot and publish it.
    PrepareNext,
    /// Let the prepared authority sign.
    ActivateNext,
}

/// The two slots of a kind of authority.
#[derive(Debug, Clone)]
pub struct Slots<A> {
    active: Option<A>,
    next: Option<(NextStatus, A)>,
    // The slot of the active authority; the next one is always the other.
    active_name: SlotName,
}

/// The second slot holds no prepared authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("only prepared authorities can be activated")]
pub struct NotPrepared;

impl<A> Default for Slots<A> {
    fn default() -> Self {
        // The first authority is prepared in the *next* slot and activated from there, which makes it slot A.
        Self {
            active: None,
            next: None,
            active_name: SlotName::B,
        }
    }
}

impl<A: Lifetime> Slots<A> {
    /// The machine as it was when the journal was written. `active_name` is the slot of the active authority, or the one
    /// that the next authority does *not* take.
    pub fn restore(active_name: SlotName, active: Option<A>, next: Option<(NextStatus, A)>) -> Self {
        Self {
            active,
            next,
            active_name,
        }
    }

    /// The authority that signs.
    pub fn active(&self) -> Option<&A> {
        self.active.as_ref()
    }

    /// The slot of the authority that signs.
    pub fn active_name(&self) -> SlotName {
        self.active_name
    }

    /// The authority of the second slot, if any.
    pub fn next(&self) -> Option<(NextStatus, &A)> {
        self.next.as_ref().map(|(status, authority)| (*status, authority))
    }

    /// The slot into which the next authority is prepared, whatever is in it.
    pub fn next_name(&self) -> SlotName {
        self.active_name.other()
    }

    /// What is to be done at `now`, at the thresholds of [`prepare_at`], [`activate_at`] and [`settled_at`].
    ///
    /// A clock that went backwards asks for nothing: what is active stays active.
    pub fn tick(&self, now: Timestamp) -> Action {
        let prepared = self.prepared().filter(|authority| now < authority.not_after());
        let active = self
            .active
            .as_ref()
            .filter(|authority| now < authority.not_after());
        match (active, prepared) {
            (None, None) => Action::PrepareNext,
            (None, Some(_)) => Action::ActivateNext,
            (Some(active), None) if now >= prepare_at(active.issued_at(), active.not_after()) => {
                Action::PrepareNext
            }
            (Some(active), Some(prepared)) if now >= takeover_at(active, prepared) => Action::ActivateNext,
            _ => Action::None,
        }
    }

    /// When `tick` will next have something to do if nothing else happens; `None` for now.
    pub fn wake_at(&self) -> Option<Timestamp> {
        let active = self.active.as_ref()?;
        Some(match self.prepared() {
            // A prepared authority that ends before its turn is replaced, but not before the active one asks for it.
            Some(prepared) => {
                let replaced = prepared
                    .not_after()
                    .max(prepare_at(active.issued_at(), active.not_after()));
                takeover_at(active, prepared)
                    .min(replaced)
                    .min(active.not_after())
            }
            None => prepare_at(active.issued_at(), active.not_after()),
        })
    }

    fn prepared(&self) -> Option<&A> {
        self.next
            .as_ref()
            .filter(|(status, _)| *status == NextStatus::Prepared)
            .map(|(_, authority)| authority)
    }

    /// Puts a published authority into the next slot and returns what it displaces.
    pub fn prepare(&mut self, authority: A) -> Option<A> {
        self.next
            .replace((NextStatus::Prepared, authority))
            .map(|(_, displaced)| displaced)
    }

    /// Forgets the prepared authority: its key is gone, so it must never sign. What is old stays.
    pub fn forget_prepared(&mut self) {
        self.next.take_if(|(status, _)| *status == NextStatus::Prepared);
    }

    /// Lets the prepared authority sign; the one that signed becomes old.
    pub fn activate(&mut self) -> Result<&A, NotPrepared> {
        match self.next.take() {
            Some((NextStatus::Prepared, authority)) => {
                self.next = self.active.take().map(|old| (NextStatus::Old, old));
                self.active_name = self.active_name.other();
                Ok(self.active.insert(authority))
            }
            other => {
                self.next = other;
                Err(NotPrepared)
            }
        }
    }
}

fn takeover_at<A: Lifetime>(active: &A, prepared: &A) -> Timestamp {
    let threshold = activate_at(active.issued_at(), active.not_after());
    threshold.max(settled_at(prepared.issued_at(), active.not_after()))
}

#[cfg(test)]
mod tests;
