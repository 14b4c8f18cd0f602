//! A stream: the whole truth at once, and again whenever it changes for this caller.
//!
//! The caller is attested before each message, since it may have become another program or user. A stream ends when its
//! process does, when the last entry goes, and when the agent stops; it stays silent while there is nothing new.
//! Invariant: two consecutive messages differ.

use std::time::Duration;

use credence_identity::SelectorSet;
use futures_util::stream;
use tokio::time::timeout;
use tonic::Status;

use super::Messages;
use super::call::{Call, log};
use super::view::View;
use crate::cache::{Subscription, WorkloadUpdate};

/// How long a message waits for identities that are registered but not signed yet.
const PATIENCE: Duration = Duration::from_secs(4);

/// Opens the stream; its first message is there already.
///
/// # Errors
/// PermissionDenied without an entry, Unavailable when the caller can't be attested or nothing was signed in time.
pub(super) async fn follow<M: Send + 'static>(call: Call, view: View<M>) -> Result<Messages<M>, Status> {
    let selectors = call.attest().await?;
    let subscription = call.shared.cache.subscribe(selectors.clone());
    let mut follower = Follower {
        call,
        view,
        selectors,
        subscription,
        shown: None,
    };
    let first = follower.first().await?;
    let state = (Some(first), Some(follower));
    Ok(Box::pin(stream::unfold(state, async |(first, follower)| {
        let mut follower = follower?;
        if let Some(first) = first {
            return Some((Ok(first), (None, Some(follower))));
        }
        match follower.next().await {
            Ok(message) => Some((Ok(message), (None, Some(follower)))),
            Err(end) => Some((Err(end), (None, None))),
        }
    })))
}

struct Follower<M> {
    call: Call,
    view: View<M>,
    selectors: SelectorSet,
    subscription: Subscription,
    shown: Option<WorkloadUpdate>,
}

impl<M> Follower<M> {
    async fn first(&mut self) -> Result<M, Status> {
        let update = self.look().await?;
        self.refuse_strangers(&update)?;
        if self.shows_nothing(&update) {
            return Err(self.call.not_signed_yet(&self.selectors));
        }
        Ok(self.show(update))
    }

    async fn next(&mut self) -> Result<M, Status> {
        loop {
            tokio::select! {
                () = self.subscription.changed() => {}
                () = self.call.caller.ended() => {}
                () = self.call.shared.shutdown.cancelled() => return Err(self.call.shutting_down()),
            }
            self.attest_again().await?;
            let update = self.look().await?;
            self.refuse_strangers(&update)?;
            // With the server away everything may have expired: what the workload has is no better, so say nothing.
            if !self.shows_nothing(&update)
                && !self
                    .shown
                    .as_ref()
                    .is_some_and(|old| (self.view.same)(old, &update))
            {
                return Ok(self.show(update));
            }
        }
    }

    /// What the caller has. What isn't signed yet is waited for, so that a message is complete; should that take
    /// longer, what is there has to do.
    async fn look(&mut self) -> Result<WorkloadUpdate, Status> {
        let update = self.subscription.update();
        if !(self.view.shows_svids && update.pending) {
            return Ok(update);
        }
        tokio::select! {
            waited = timeout(PATIENCE, self.subscription.settled()) => drop(waited),
            () = self.call.shared.shutdown.cancelled() => return Err(self.call.shutting_down()),
        }
        self.attest_again().await?;
        Ok(self.subscription.update())
    }

    async fn attest_again(&mut self) -> Result<(), Status> {
        let selectors = self.call.attest().await?;
        if selectors != self.selectors {
            self.subscription = self.call.shared.cache.subscribe(selectors.clone());
            self.selectors = selectors;
        }
        Ok(())
    }

    fn refuse_strangers(&self, update: &WorkloadUpdate) -> Result<(), Status> {
        let verifiers = !self.view.shows_svids && self.call.shared.options.allow_unauthenticated_verifiers;
        if update.is_unregistered() && !verifiers {
            Err(self.call.no_identity(&self.selectors, None))
        } else {
            Ok(())
        }
    }

    fn shows_nothing(&self, update: &WorkloadUpdate) -> bool {
        self.view.shows_svids && update.identities.is_empty()
    }

    fn show(&mut self, update: WorkloadUpdate) -> M {
        if self.view.shows_svids && tracing::enabled!(tracing::Level::DEBUG) {
            let now = self.call.shared.clock.now();
            for identity in &update.identities {
                let svid = &identity.svid.svid;
                log!(
                    debug,
                    self.call,
                    registered = true,
                    count = update.identities.len(),
                    spiffe_id = %svid.id,
                    ttl = now.until(svid.not_after).as_secs_f64(),
                    "Fetched X.509 SVID"
                );
            }
        }
        let message = (self.view.message)(&update);
        self.shown = Some(update);
        message
    }
}
