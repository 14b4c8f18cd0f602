//! How many connections each caller has open.
//!
//! Invariant: a seat that was taken is given back when it is dropped, whatever became of the connection.

use std::collections::HashMap;
use std::fmt;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// By what a caller is told from others: a user, or an identity. Clones share the count.
#[derive(Debug, Clone)]
pub(in crate::api) struct Seats<K> {
    limit: usize,
    taken: Arc<Mutex<HashMap<K, Taken>>>,
}

#[derive(Debug, Default)]
struct Taken {
    count: usize,
    /// The refusal was logged; it isn't again until the caller is below the limit.
    refused: bool,
}

/// One connection's place among those of its caller.
#[derive(Debug)]
pub(in crate::api) struct Seat<K: Eq + Hash> {
    seats: Seats<K>,
    caller: K,
}

impl<K: Clone + Eq + Hash + fmt::Display> Seats<K> {
    pub(in crate::api) fn new(limit: usize) -> Self {
        Self {
            limit,
            taken: Arc::default(),
        }
    }

    /// A seat for that caller, or none when all are taken.
    pub(in crate::api) fn take(&self, caller: K) -> Option<Seat<K>> {
        let mut all = self.taken();
        let taken = all.entry(caller.clone()).or_default();
        if taken.count < self.limit {
            taken.count += 1;
            return Some(Seat {
                seats: self.clone(),
                caller,
            });
        }
        if !std::mem::replace(&mut taken.refused, true) {
            tracing::warn!(
                subsystem_name = "endpoints",
                %caller,
                limit = self.limit,
                "Too many connections of one caller"
            );
        }
        None
    }
}

impl<K> Seats<K> {
    fn taken(&self) -> MutexGuard<'_, HashMap<K, Taken>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Eq + Hash> Drop for Seat<K> {
    fn drop(&mut self) {
        let mut all = self.seats.taken();
        if let Some(taken) = all.get_mut(&self.caller) {
            taken.count = taken.count.saturating_sub(1);
            taken.refused = false;
            if taken.count == 0 {
                all.remove(&self.caller);
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
