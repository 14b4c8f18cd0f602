//! A stream: the whole truth at once, and again whenever it changes for whom it is.
//!
//! Whose it is is asked before each message, since a process may have become another program or user. A stream ends
//! when its session does and when the agent stops; it stays silent while there is nothing new. Invariant: two
//! consecutive messages differ.

use std::pin::Pin;
use std::time::Duration;

use credence_identity::SelectorSet;
use futures_util::{Stream, stream};
use tokio::time::timeout;
use tonic::Status;

use super::Ground;
use super::view::View;
use crate::cache::{Scope, Subscription, WorkloadUpdate};

/// How long a message waits for identities that are registered but not signed yet.
const PATIENCE: Duration = Duration::from_secs(4);

/// The messages of a stream.
pub(super) type Messages<M> = Pin<Box<dyn Stream<Item = Result<M, Status>> + Send>>;

/// On whose behalf a stream is open.
pub(super) trait Session: Send + Sync + 'static {
    /// What the stream is answered from.
    fn ground(&self) -> &Ground;

    /// What of the cache is theirs.
    fn scope(&self) -> Scope;

    /// The selectors at this moment; an error ends the stream.
    fn selectors(&self) -> impl Future<Output = Result<SelectorSet, Status>> + Send;

    /// Whether whoever has these selectors may open a stream now.
    fn open(&self, selectors: &SelectorSet) -> Result<(), Status>;

    /// Waits for the end of a process without which the stream has no purpose.
    fn ended(&self) -> impl Future<Output = ()> + Send;

    /// The end when the agent stops.
    fn stopping(&self) -> Status;
}

/// A session that is shown one [`View`], and what it may be told.
pub(super) trait Audience: Session {
    /// Whether this may be shown at all; an error ends the stream.
    fn admit(
        &self,
        update: &WorkloadUpdate,
        selectors: &SelectorSet,
        shows_svids: bool,
    ) -> Result<(), Status>;

    /// What becomes of a stream whose first identities aren't signed in time; none to go on waiting.
    fn late(&self, selectors: &SelectorSet) -> Option<Status>;

    /// Says in the log what is shown.
    fn log(&self, update: &WorkloadUpdate);

    /// Says in the audit log what is shown for the first time.
    fn record(&self, update: &WorkloadUpdate, before: Option<&WorkloadUpdate>, selectors: &SelectorSet);
}

/// What a session has of the cache, and each change to it.
pub(super) struct Watch<S> {
    pub(super) session: S,
    /// Theirs when they were last asked for.
    pub(super) selectors: SelectorSet,
    subscription: Subscription,
}

impl<S: Session> Watch<S> {
    /// Begins with whom it is for.
    ///
    /// # Errors
    /// What the session says.
    pub(super) async fn open(session: S) -> Result<Self, Status> {
        let selectors = session.selectors().await?;
        session.open(&selectors)?;
        let cache = &session.ground().cache;
        let subscription = cache.subscribe_in(session.scope(), selectors.clone());
        Ok(Self {
            session,
            selectors,
            subscription,
        })
    }

    /// Waits until something may be new. Cancel safe.
    ///
    /// # Errors
    /// When the agent stops.
    pub(super) async fn changed(&mut self) -> Result<(), Status> {
        tokio::select! {
            () = self.subscription.changed() => Ok(()),
            () = self.session.ended() => Ok(()),
            () = self.session.ground().shutdown.cancelled() => Err(self.session.stopping()),
        }
    }

    /// Asks anew whose it is: before each message.
    ///
    /// # Errors
    /// What the session says.
    pub(super) async fn ask_again(&mut self) -> Result<(), Status> {
        let selectors = self.session.selectors().await?;
        if selectors != self.selectors {
            let cache = &self.session.ground().cache;
            self.subscription = cache.subscribe_in(self.session.scope(), selectors.clone());
            self.selectors = selectors;
        }
        Ok(())
    }

    /// What is theirs.
    pub(super) fn update(&self) -> WorkloadUpdate {
        self.subscription.update()
    }

    /// Waits a while for what isn't signed yet; should that take longer, what is there has to do.
    ///
    /// # Errors
    /// What the session says, and when the agent stops.
    pub(super) async fn settled(&mut self) -> Result<WorkloadUpdate, Status> {
        tokio::select! {
            waited = timeout(PATIENCE, self.subscription.settled()) => drop(waited),
            () = self.session.ground().shutdown.cancelled() => return Err(self.session.stopping()),
        }
        self.ask_again().await?;
        Ok(self.update())
    }
}

/// Opens the stream; its first message is there already.
///
/// # Errors
/// What the session says; Unavailable at shutdown.
pub(super) async fn follow<S: Audience, M: Send + 'static>(
    session: S,
    view: View<M>,
) -> Result<Messages<M>, Status> {
    let mut follower = Follower {
        watch: Watch::open(session).await?,
        view,
        shown: None,
    };
    let first = follower.first().await?;
    Ok(messages(first, follower))
}

/// Whatever has a next message, until it has an error.
pub(super) trait Source<M>: Send + 'static {
    /// Waits for the next message.
    fn next(&mut self) -> impl Future<Output = Result<M, Status>> + Send;
}

/// The messages of a source whose first is there already.
pub(super) fn messages<M: Send + 'static>(first: M, source: impl Source<M>) -> Messages<M> {
    let state = (Some(first), Some(source));
    Box::pin(stream::unfold(state, async |(first, source)| {
        let mut source = source?;
        if let Some(first) = first {
            return Some((Ok(first), (None, Some(source))));
        }
        match source.next().await {
            Ok(message) => Some((Ok(message), (None, Some(source)))),
            Err(end) => Some((Err(end), (None, None))),
        }
    }))
}

struct Follower<S, M> {
    watch: Watch<S>,
    view: View<M>,
    shown: Option<WorkloadUpdate>,
}

impl<S: Audience, M: Send + 'static> Source<M> for Follower<S, M> {
    async fn next(&mut self) -> Result<M, Status> {
        loop {
            self.watch.changed().await?;
            self.watch.ask_again().await?;
            let update = self.look().await?;
            self.admit(&update)?;
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
}

impl<S: Audience, M: Send + 'static> Follower<S, M> {
    async fn first(&mut self) -> Result<M, Status> {
        let update = self.look().await?;
        self.admit(&update)?;
        if !self.shows_nothing(&update) {
            return Ok(self.show(update));
        }
        match self.watch.session.late(&self.watch.selectors) {
            Some(late) => Err(late),
            None => self.next().await,
        }
    }

    /// What is theirs. What isn't signed yet is waited for, so that a message is complete.
    async fn look(&mut self) -> Result<WorkloadUpdate, Status> {
        let update = self.watch.update();
        if self.view.shows_svids && update.is_pending() {
            self.watch.settled().await
        } else {
            Ok(update)
        }
    }

    fn admit(&self, update: &WorkloadUpdate) -> Result<(), Status> {
        let Watch {
            session, selectors, ..
        } = &self.watch;
        session.admit(update, selectors, self.view.shows_svids)
    }

    /// Whether identities are registered of which none is signed.
    fn shows_nothing(&self, update: &WorkloadUpdate) -> bool {
        self.view.shows_svids && update.is_pending() && update.identities.is_empty()
    }

    fn show(&mut self, update: WorkloadUpdate) -> M {
        let Watch {
            session, selectors, ..
        } = &self.watch;
        if self.view.shows_svids && tracing::enabled!(tracing::Level::DEBUG) {
            session.log(&update);
        }
        if self.view.shows_svids {
            session.record(&update, self.shown.as_ref(), selectors);
        }
        let message = (self.view.message)(&update);
        self.shown = Some(update);
        message
    }
}
