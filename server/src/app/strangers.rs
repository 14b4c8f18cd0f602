//! Connections of callers who proved nothing: bounded in number.
//!
//! They come to attest, which takes a moment. Invariant: when there are too many, the oldest is asked to go and a new one
//! is served; a call under way may end first.

use std::collections::VecDeque;

use tokio_util::sync::CancellationToken;

/// More than ever attest at a time; each costs a descriptor and some tens of kilobytes.
const MOST: usize = if cfg!(test) { 8 } else { 2048 };

/// Those there are, oldest first, among some that have gone.
#[derive(Debug, Default)]
pub(super) struct Strangers(VecDeque<CancellationToken>);

impl Strangers {
    /// One more. It ends its connection when what is returned is cancelled, and cancels it when the connection ends.
    pub(super) fn join(&mut self, stop: &CancellationToken) -> CancellationToken {
        if self.0.len() >= MOST {
            self.0.retain(|stranger| !stranger.is_cancelled());
        }
        if self.0.len() >= MOST
            && let Some(oldest) = self.0.pop_front()
        {
            oldest.cancel();
        }
        let place = stop.child_token();
        self.0.push_back(place.clone());
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_when_there_are_too_many() {
        let stop = CancellationToken::new();
        let mut strangers = Strangers::default();
        let places: Vec<_> = (0..MOST).map(|_| strangers.join(&stop)).collect();
        assert!(places.iter().all(|place| !place.is_cancelled()));
        // One left by itself, and its place is taken.
        places[3].cancel();
        let next = strangers.join(&stop);
        assert!(!places[0].is_cancelled());
        strangers.join(&stop);
        assert!(places[0].is_cancelled() && !places[1].is_cancelled() && !next.is_cancelled());
        assert_eq!(strangers.0.len(), MOST);
    }
}
