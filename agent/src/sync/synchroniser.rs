//! Keeps the cache in step with what the server authorises: by the push stream, or by polling where there is none.
//!
//! Both ways end in the same [`CacheUpdate`]s. Never drops anything because the server can't be reached. Invariant: one
//! task applies updates, in the order in which the server gave them.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::X509SvidKey;
use credence_identity::{Bundle, EntryId, Timestamp, TrustDomain};
use credence_runtime::backoff::Backoff;
use credence_runtime::clock::Clock;
use futures_util::{StreamExt, TryStreamExt, stream};
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};
use tonic::Code;

use super::comparison::Comparison;
use super::issuing::Signing;
use super::keeper::AgentEnd;
use super::server::{CallError, PushEvent, PushStream, Server, WANT_AT_MOST};
use super::trust::Trust;
use crate::cache::{Cache, CacheUpdate};
use crate::explain::Journal;

/// Longest wait between two attempts: a server that comes back is found within this.
const LONGEST_WAIT: Duration = Duration::from_secs(30);
/// How long polling goes on before the server is asked once more whether it can push.
const PUSH_AGAIN_AFTER: Duration = Duration::from_secs(300);
/// No stream follows another sooner.
const SHORTEST_STREAM: Duration = Duration::from_secs(1);
/// SPIRE's name in metrics for a poll; what comes by push, heartbeats included, is as good.
const SYNCHRONISATION: &str = "manager.sync.fetch_entries_updates";
/// Federated bundles fetched at once, as SPIRE's agent does.
const BUNDLES_AT_ONCE: usize = 10;

/// The task that follows the server.
#[derive(Debug)]
pub(crate) struct Synchroniser {
    pub(crate) server: Server,
    /// The agent's SVID as it changes.
    pub(crate) svid: watch::Receiver<Arc<X509SvidKey>>,
    pub(crate) cache: Cache,
    /// Whether a server of unknown authority is borne, and where the own bundle is saved.
    pub(crate) trust: Trust,
    /// The own bundle, by which the server is judged.
    pub(crate) bundle: watch::Sender<Arc<Bundle>>,
    /// Counts the times that the cache was brought in step.
    pub(crate) in_step: watch::Sender<u64>,
    /// Whether SVIDs are on their way.
    pub(crate) signing: watch::Receiver<Signing>,
    /// When the server last said that it is.
    pub(crate) last_sync: watch::Sender<Option<Timestamp>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Between two polls.
    pub(crate) interval: Duration,
    /// No stream and no revisions: all entries are fetched at each poll.
    pub(crate) whole_sets: bool,
    /// What the server is told of this agent, once.
    pub(crate) version: &'static str,
    pub(crate) journal: Journal,
}

/// Why the stream is over.
#[derive(Debug)]
enum PushEnd {
    /// The server can't push.
    Unsupported,
    /// Its time was up, or the agent has a new SVID: go on with a new one.
    Renew,
    /// The connection failed or the server refused.
    Failed(CallError),
}

impl Synchroniser {
    /// Runs until it is dropped, or the agent has to bootstrap again.
    pub(crate) async fn run(self) -> Result<Infallible, AgentEnd> {
        let mut svid = self.svid.clone();
        let mut backoff = Backoff::new(self.interval.min(Duration::from_secs(1)), LONGEST_WAIT);
        let mut posted = false;
        loop {
            svid.mark_unchanged();
            let opened = Instant::now();
            let before = *self.in_step.borrow();
            let end = self.follow(&mut svid, &mut posted).await;
            if *self.in_step.borrow() != before {
                backoff.reset();
            }
            match end {
                PushEnd::Renew => {
                    self.server.reconnect();
                    // A server that keeps ending its streams isn't asked more than once a second.
                    sleep_until(opened + SHORTEST_STREAM).await;
                }
                PushEnd::Unsupported => self.poll_for(PUSH_AGAIN_AFTER, &mut svid, &mut posted).await?,
                PushEnd::Failed(error) => {
                    tracing::error!(error = &error as &dyn Error, "Synchronize failed");
                    self.journal.out_of_step(&error);
                    self.server.reconnect();
                    if self.trust.is_lost(&error).await {
                        return Err(AgentEnd::Rebootstrap(Arc::new(error)));
                    }
                    // A stream that died says nothing of the server: what changed meanwhile may be had all the same.
                    if error.refusal().is_none() && self.poll().await.is_ok() {
                        self.stepped(&mut posted).await;
                    }
                    wait(self.at_most(backoff.next_delay()), &mut svid).await;
                }
            }
        }
    }

    /// While the server's authority is doubted, it is looked at as often as when all is well, as SPIRE's agent does.
    fn at_most(&self, delay: Duration) -> Duration {
        if self.trust.is_doubtful() {
            delay.min(self.interval)
        } else {
            delay
        }
    }

    /// Polls as SPIRE's agent does, for that long.
    async fn poll_for(
        &self,
        time: Duration,
        svid: &mut watch::Receiver<Arc<X509SvidKey>>,
        posted: &mut bool,
    ) -> Result<(), AgentEnd> {
        let end = Instant::now() + time;
        let mut backoff = Backoff::new(self.interval, LONGEST_WAIT);
        while Instant::now() < end {
            match self.poll().await {
                Ok(()) => {
                    backoff.reset();
                    self.stepped(posted).await;
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn Error, "Synchronize failed");
                    self.journal.out_of_step(&error);
                    self.server.reconnect();
                    if self.trust.is_lost(&error).await {
                        return Err(AgentEnd::Rebootstrap(Arc::new(error)));
                    }
                }
            }
            svid.mark_unchanged();
            wait(self.at_most(backoff.next_delay()), svid).await;
        }
        Ok(())
    }

    /// Fetches what has changed since, by the calls that SPIRE's server has too.
    pub(crate) async fn poll(&self) -> Result<(), CallError> {
        let telemetry = self.cache.telemetry();
        telemetry.watch(SYNCHRONISATION, self.poll_once()).await
    }

    async fn poll_once(&self) -> Result<(), CallError> {
        let held = self.cache.versions();
        let mut update = if self.whole_sets {
            self.server.authorized_entries(held).await?
        } else {
            self.server.sync_entries(held).await?
        };
        let own = self.server.bundle().await?;
        let names = self.cache.federates_with_after(&update);
        let fetches = names.iter().map(|name| self.server.federated_bundle(name));
        let found: Vec<Option<Arc<Bundle>>> = stream::iter(fetches.collect::<Vec<_>>())
            .buffered(BUNDLES_AT_ONCE)
            .try_collect()
            .await?;
        update.bundles = found.into_iter().flatten().collect();
        update.removed_bundles = self.federated_without(&update);
        update.bundles.push(own);
        self.apply(update).await;
        Ok(())
    }

    /// Follows the push stream to its end.
    async fn follow(&self, svid: &mut watch::Receiver<Arc<X509SvidKey>>, posted: &mut bool) -> PushEnd {
        if self.whole_sets {
            return PushEnd::Unsupported;
        }
        let mut stream = match self.server.subscribe(self.cache.digest()).await {
            Ok(stream) => stream,
            Err(error) if error.code() == Code::Unimplemented => return PushEnd::Unsupported,
            Err(error) => return PushEnd::Failed(error),
        };
        let mut progress = Progress::default();
        let mut signing = self.signing.clone();
        // What arrived before this stream wasn't said on it.
        signing.mark_changed();
        loop {
            let event = tokio::select! {
                biased;
                // The old SVID is about to be superseded, which would end the stream.
                Ok(()) = svid.changed() => return PushEnd::Renew,
                Ok(()) = signing.changed() => {
                    let done = *signing.borrow_and_update() == Signing::Done;
                    if done {
                        stream.taken(true).await;
                    }
                    continue;
                }
                event = stream.next() => event,
            };
            let stepped = match event {
                Ok(Some(event)) => {
                    let taking = self.take(event, &mut progress, &mut stream);
                    self.cache.telemetry().watch(SYNCHRONISATION, taking).await
                }
                Ok(None) => return PushEnd::Renew,
                Err(error) if error.code() == Code::Unimplemented => return PushEnd::Unsupported,
                Err(error) => return PushEnd::Failed(error),
            };
            match stepped {
                Ok(true) => self.stepped(posted).await,
                Ok(false) => {}
                Err(error) => return PushEnd::Failed(error),
            }
        }
    }

    /// Takes one event in; true when the cache is in step with the server by it.
    async fn take(
        &self,
        event: PushEvent,
        progress: &mut Progress,
        stream: &mut PushStream,
    ) -> Result<bool, CallError> {
        match event {
            PushEvent::Heartbeat => {
                if progress.is_done() {
                    self.last_sync.send_replace(Some(self.clock.now()));
                }
                return Ok(false);
            }
            PushEvent::Unchanged => progress.compared = true,
            PushEvent::Versions { page, more } => {
                let comparison = progress
                    .comparison
                    .get_or_insert_with(|| Comparison::with(self.cache.versions()));
                page.into_iter()
                    .for_each(|(id, version)| comparison.see_version(id, version));
                if more {
                    return Ok(false);
                }
                if let Some(mut comparison) = progress.comparison.take() {
                    progress.lacking = comparison.take_lacking();
                    self.apply(comparison.finish()).await;
                }
                progress.compared = true;
                progress.want(stream).await?;
            }
            PushEvent::Delta(mut update) => {
                if !progress.opened {
                    // The first one holds all bundles there are for this agent.
                    progress.opened = true;
                    update.removed_bundles = self.federated_without(&update);
                }
                let answers = !update.entries.is_empty() || update == CacheUpdate::default();
                let has_bundles = !update.bundles.is_empty();
                self.apply(update).await;
                if has_bundles {
                    stream.taken(false).await;
                }
                if answers && progress.unanswered > 0 {
                    progress.unanswered -= 1;
                    progress.want(stream).await?;
                }
            }
        }
        Ok(progress.is_done())
    }

    /// The foreign trust domains whose bundles are held but not in the update.
    fn federated_without(&self, update: &CacheUpdate) -> Vec<TrustDomain> {
        let has = |name: &TrustDomain| update.bundles.iter().any(|bundle| bundle.trust_domain == *name);
        self.cache
            .federated()
            .into_iter()
            .filter(|name| !has(name))
            .collect()
    }

    /// Takes an update over: the own bundle first, for it decides whom to talk to.
    async fn apply(&self, mut update: CacheUpdate) {
        let own = &self.bundle.borrow().trust_domain.clone();
        update.bundles.retain(|bundle| {
            let usable = bundle.trust_domain != *own || !bundle.x509_authorities.is_empty();
            if !usable {
                tracing::warn!(trust_domain_id = %own, "Ignoring a bundle without X.509 authorities");
            }
            usable
        });
        if let Some(bundle) = update
            .bundles
            .iter()
            .find(|bundle| bundle.trust_domain == *own)
            .cloned()
        {
            self.bundle.send_replace(bundle.clone());
            let state = self.trust.state.clone();
            let stored = spawn_blocking(move || state.store_bundle(&bundle)).await;
            if let Ok(Err(error)) = stored {
                tracing::error!(error = &error as &dyn Error, "Could not store bundle");
            }
        }
        self.cache.apply(update);
    }

    /// The cache is in step: tells those who wait for it, and the server which agent this is.
    async fn stepped(&self, posted: &mut bool) {
        self.journal.in_step();
        self.trust.proved().await;
        self.last_sync.send_replace(Some(self.clock.now()));
        self.in_step.send_modify(|times| *times += 1);
        if *posted {
            return;
        }
        *posted = match self.server.post_status(self.version).await {
            Ok(()) => true,
            Err(error) => {
                tracing::warn!(error = &error as &dyn Error, "Failed to post agent status");
                // An older server hasn't got the call.
                !error.may_pass()
            }
        };
    }
}

/// How far the opening of a stream has come.
#[derive(Debug, Default)]
struct Progress {
    /// The bundles have come.
    opened: bool,
    /// While pages of versions come.
    comparison: Option<Comparison>,
    /// The whole set was compared.
    compared: bool,
    /// Entries whose bodies are still to be asked for.
    lacking: Vec<EntryId>,
    /// Questions for bodies that were not answered yet.
    unanswered: usize,
}

impl Progress {
    /// Asks for the next bodies.
    async fn want(&mut self, stream: &mut PushStream) -> Result<(), CallError> {
        if !self.lacking.is_empty() {
            let rest = self.lacking.split_off(self.lacking.len().min(WANT_AT_MOST));
            stream.want(&std::mem::replace(&mut self.lacking, rest)).await?;
            self.unanswered += 1;
        }
        Ok(())
    }

    fn is_done(&self) -> bool {
        self.compared && self.lacking.is_empty() && self.unanswered == 0
    }
}

async fn wait(time: Duration, svid: &mut watch::Receiver<Arc<X509SvidKey>>) {
    tokio::select! {
        () = sleep(time) => {}
        // A new SVID may be what was missing.
        Ok(()) = svid.changed() => {}
    }
}
