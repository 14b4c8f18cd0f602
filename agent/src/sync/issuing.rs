//! X.509-SVIDs for what the cache wants signed: a new key each time, in batches.
//!
//! Owns batch sizes and retries. Never decides what is wanted. Invariants: one batch is under way at a time; a private
//! key leaves this process by no way but the Workload API; what is served stays served while the server is away.

use std::collections::HashMap;
use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::{X509Svid, X509SvidKey};
use credence_crypto::{KeyType, PrivateKey, csr};
use credence_identity::{Entry, EntryId};
use credence_runtime::backoff::Backoff;
use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

use super::server::{CallError, Server};
use crate::cache::{Cache, Wanted};
use crate::explain::Journal;

/// The server takes no more CSRs per second from one address.
const LARGEST_BATCH: usize = 500;
/// An RSA key takes a tenth of a second to make: nobody is to wait for the keys of hundreds of others.
const LARGEST_RSA_BATCH: usize = 10;
/// How long SVIDs that nobody waits for any more may stay above the limit: workloads often come back at once.
const EVICT_AFTER: Duration = Duration::from_secs(5);
const FIRST_RETRY: Duration = Duration::from_millis(500);
const LAST_RETRY: Duration = Duration::from_secs(30);

/// The task that keeps the cache's X.509-SVIDs signed.
#[derive(Debug)]
pub(crate) struct Issuing {
    pub(crate) server: Server,
    pub(crate) cache: Cache,
    pub(crate) key_type: KeyType,
    /// Steps of the wall clock: forwards, everything may be due.
    pub(crate) steps: watch::Receiver<u64>,
    /// Counts successful synchronisations: the server is there.
    pub(crate) in_step: watch::Receiver<u64>,
    pub(crate) signing: watch::Sender<Signing>,
    pub(crate) journal: Journal,
}

/// How the signing stands, for whoever tells the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Signing {
    /// All that arrived is in the cache.
    #[default]
    Done,
    /// A batch was asked for.
    UnderWay,
}

/// An entry whose SVID the server refused or spoiled: left out for a while, so that it doesn't hold up others.
#[derive(Debug)]
struct HeldBack {
    until: Instant,
    backoff: Backoff,
}

type HeldBackEntries = HashMap<EntryId, HeldBack>;

struct Request {
    entry: Arc<Entry>,
    key: PrivateKey,
    csr: Vec<u8>,
}

impl Issuing {
    /// Runs until it is dropped.
    pub(crate) async fn run(mut self) -> Result<(), Infallible> {
        let largest = match self.key_type {
            KeyType::EcP256 | KeyType::EcP384 => LARGEST_BATCH,
            KeyType::Rsa2048 | KeyType::Rsa4096 => LARGEST_RSA_BATCH,
        };
        let mut batch = largest;
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        let mut held_back = HeldBackEntries::new();
        loop {
            let now = Instant::now();
            let mut wanted = self.cache.wanted();
            held_back.retain(|id, _| wanted.iter().any(|wanted| wanted.entry.id == *id));
            self.journal.keep_unsigned(|id| held_back.contains_key(id));
            wanted.retain(|wanted| {
                held_back
                    .get(&wanted.entry.id)
                    .is_none_or(|held| held.until <= now)
            });
            if wanted.is_empty() {
                self.wait(&held_back).await;
                continue;
            }
            tracing::debug!(
                count = wanted.len(),
                limit = batch,
                cache_type = "workload",
                "Renewing stale entries"
            );
            wanted.truncate(batch);
            self.cache.count_wanted(&wanted);
            let signing = self.sign(wanted, &mut held_back);
            let telemetry = self.cache.telemetry();
            match telemetry.watch("manager.sync.fetch_svids_updates", signing).await {
                Ok(()) => {
                    self.journal.signing();
                    batch = (batch * 2).min(largest);
                    backoff.reset();
                }
                Err(error) => {
                    tracing::error!(error = &error as &dyn Error, "SVID sync failed");
                    self.journal.not_signing(&error);
                    batch = (batch / 2).max(1);
                    self.in_step.mark_unchanged();
                    tokio::select! {
                        () = sleep(backoff.next_delay()) => {}
                        () = changed(&mut self.in_step) => {}
                    }
                }
            }
        }
    }

    /// Waits until something may have to be signed.
    async fn wait(&mut self, held_back: &HeldBackEntries) {
        let over_limit = self.cache.is_over_limit();
        let renewal = self.cache.due_in().map(|due| Instant::now() + due);
        let retry = held_back.values().map(|held| held.until).min();
        let wake = [renewal, retry].into_iter().flatten().min();
        tokio::select! {
            () = self.cache.work() => {}
            () = changed(&mut self.steps) => {}
            () = sleep_until(wake.unwrap_or_else(Instant::now)), if wake.is_some() => {}
            () = sleep(EVICT_AFTER), if over_limit => self.cache.evict(),
        }
    }

    async fn sign(&self, wanted: Vec<Wanted>, held_back: &mut HeldBackEntries) -> Result<(), CallError> {
        let requests = self.requests(wanted).await?;
        let csrs = requests
            .iter()
            .map(|request| (request.entry.id.clone(), request.csr.clone()))
            .collect();
        self.signing.send_replace(Signing::UnderWay);
        let answers = self.server.new_x509_svids(csrs).await?;
        let mut arrived = Vec::with_capacity(requests.len());
        for (request, answer) in requests.into_iter().zip(answers) {
            let entry = request.entry;
            match answer.and_then(|svid| join(svid, request.key, &entry)) {
                Ok(svid) => {
                    held_back.remove(&entry.id);
                    self.journal.signed(&entry.id);
                    arrived.push((entry, svid));
                }
                Err(error) => {
                    self.journal.not_signed(&entry.id, &error);
                    hold_back(held_back, &entry, &error);
                }
            }
        }
        self.cache.put_x509_svids(arrived);
        self.signing.send_replace(Signing::Done);
        Ok(())
    }

    /// Makes keys and CSRs, off the tasks that serve: RSA keys take their time.
    async fn requests(&self, wanted: Vec<Wanted>) -> Result<Vec<Request>, CallError> {
        let key_type = self.key_type;
        let make = move |Wanted { entry, expires_at }| {
            match expires_at {
                None => {
                    tracing::info!(entry_id = %entry.id, spiffe_id = %entry.spiffe_id, "Creating X509-SVID")
                }
                Some(end) => {
                    tracing::info!(entry_id = %entry.id, spiffe_id = %entry.spiffe_id, expires_at = %end,
                    "Renewing X509-SVID")
                }
            }
            let failed = |error: &dyn Error| CallError::answer("failed to make a CSR", error);
            let key = PrivateKey::generate(key_type).map_err(|error| failed(&error))?;
            let csr = csr::create(&key, Some(&entry.spiffe_id), &[]).map_err(|error| failed(&error))?;
            Ok(Request { entry, key, csr })
        };
        let made = spawn_blocking(move || wanted.into_iter().map(make).collect()).await;
        made.unwrap_or_else(|error| Err(CallError::answer("failed to make CSRs", error)))
    }
}

fn join(svid: X509Svid, key: PrivateKey, entry: &Entry) -> Result<X509SvidKey, CallError> {
    let action = "unusable X509-SVID";
    if svid.id != entry.spiffe_id {
        return Err(CallError::answer(action, format!("it names {}", svid.id)));
    }
    X509SvidKey::new(svid, key).map_err(|error| CallError::answer(action, error))
}

fn hold_back(held_back: &mut HeldBackEntries, entry: &Entry, error: &CallError) {
    tracing::warn!(error = error as &dyn Error, entry_id = %entry.id, spiffe_id = %entry.spiffe_id,
        "Failed to fetch X509-SVID");
    let now = Instant::now();
    let held = held_back.entry(entry.id.clone()).or_insert_with(|| HeldBack {
        until: now,
        backoff: Backoff::new(Duration::from_secs(1), Duration::from_secs(60)),
    });
    held.until = now + held.backoff.next_delay();
}

/// Waits for the next change; for ever if there can be none.
async fn changed(watch: &mut watch::Receiver<u64>) {
    if watch.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
}
