//! How many connections each user has open.
//!
//! Invariant: a seat that was taken is given back when it is dropped, whatever became of the connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Clones share the count.
#[derive(Debug, Clone)]
pub(super) struct Seats {
    limit: usize,
    taken: Arc<Mutex<HashMap<u32, Taken>>>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// The refusal was logged; it isn't again until the user is below the limit.
    refused: bool,
}

/// One connection's place among those of its user.
#[derive(Debug)]
pub(super) struct Seat {
    seats: Seats,
    uid: u32,
}

impl Seats {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: Arc::default(),
        }
    }

    /// A seat for that user, or none when all are taken.
    pub(super) fn take(&self, uid: u32) -> Option<Seat> {
        let mut all = self.taken();
        let taken = all.entry(uid).or_default();
        if taken.count < self.limit {
            taken.count += 1;
            return Some(Seat {
                seats: self.clone(),
                uid,
            });
        }
        if !std::mem::replace(&mut taken.refused, true) {
            tracing::warn!(
                subsystem_name = "endpoints",
                uid,
                limit = self.limit,
                "Too many connections of one user"
            );
        }
        None
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<u32, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut all = self.seats.taken();
        if let Some(taken) = all.get_mut(&self.uid) {
            taken.count = taken.count.saturating_sub(1);
            taken.refused = false;
            if taken.count == 0 {
                all.remove(&self.uid);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_user_cannot_take_the_seats_of_another() {
        let seats = Seats::new(2);
        let held = [seats.take(1), seats.take(1), seats.take(2)];
        assert!(held.iter().all(Option::is_some));
        assert!(seats.take(1).is_none());
        assert!(seats.take(2).is_some());
        drop(held);
        assert!(seats.take(1).is_some());
        assert!(seats.taken().is_empty(), "nothing stays of users who have gone");
    }
}
