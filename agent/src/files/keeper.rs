//! One job: takes what its source says, writes it, tells the hooks, and starts over.
//!
//! Owns the retries. Nothing is asked for at intervals: what changes arrives, a token is fetched when half of its time is
//! over, and only what failed is tried again. Invariant: what can't be written stays in memory until it can, the newest
//! only, and the files that were there stay whole meanwhile.

use std::collections::BTreeMap;
use std::error::Error;
use std::process::ExitStatus;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::sha256;
use credence_runtime::backoff::Backoff;
use credence_runtime::clock::Clock;
use nix::sys::signal::Signal;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};
use zeroize::Zeroizing;

use super::batch::{Batch, Rendered};
use super::hooks::Hooks;
use super::job::{Job, TokenFile};
use super::material::Material;
use super::render::jwt_bundles;
use super::source::{Event, Source, SourceError, Wants};
use super::status::{Status, Write};
use super::writer::WriteError;

/// Events that wait while files are written.
const EVENTS: usize = 4;
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(60);
/// What a token may take: others wait for it.
const TOKEN_DEADLINE: Duration = Duration::from_secs(5);

/// Until when a job is kept.
#[derive(Debug)]
pub(crate) enum Mode {
    /// Until everything is written; the first failure is the end.
    Once,
    /// For ever.
    Daemon,
    /// Until its command ends, which starts when everything is written and gets these signals.
    Job(mpsc::Receiver<Signal>),
}

/// How a job ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// Everything is written.
    Written,
    /// The command ended.
    Command(ExitStatus),
    /// A signal came before the command was started.
    Signal(Signal),
}

/// Why a job is given up.
#[derive(Debug, thiserror::Error)]
pub(crate) enum KeepError {
    /// There is nothing to write, and there won't be.
    #[error("unable to fetch what is to be written")]
    Source(#[source] SourceError),
    /// Files can't be written.
    #[error("unable to write files")]
    Write(#[source] WriteError),
    /// The command of a job can't be started.
    #[error("unable to start the command")]
    Command(#[source] std::io::Error),
}

/// A job that is being done.
pub(crate) struct Keeper<S> {
    job: Arc<Job>,
    source: Arc<S>,
    clock: Arc<dyn Clock>,
    status: Status,
    hooks: Hooks,
    x509: Slot<Material>,
    bundles: Slot<BTreeMap<String, String>>,
    tokens: Vec<(TokenFile, Slot<[u8; 32]>)>,
}

/// What is to be in a file or several.
struct Slot<T> {
    latest: Option<T>,
    written: Option<T>,
    due: Option<Instant>,
    backoff: Backoff,
}

impl<T> Slot<T> {
    fn new() -> Self {
        Self {
            latest: None,
            written: None,
            due: None,
            backoff: Backoff::new(FIRST_DELAY, LONGEST_DELAY),
        }
    }

    fn offer(&mut self, latest: T, same: impl Fn(&T, &T) -> bool) {
        let is_there = self
            .written
            .as_ref()
            .is_some_and(|written| same(written, &latest));
        // A failed one that was followed by what is written already is done with.
        self.due = (!is_there).then(Instant::now);
        self.latest = (!is_there).then_some(latest);
    }

    fn is_due(&self) -> bool {
        self.due.is_some_and(|due| due <= Instant::now())
    }

    fn done(&mut self, next: Option<Instant>) {
        self.written = self.latest.take().or_else(|| self.written.take());
        self.due = next;
        self.backoff.reset();
    }

    fn later(&mut self) {
        self.due = Some(Instant::now() + self.backoff.next_delay());
    }
}

impl<S: Source> Keeper<S> {
    pub(crate) fn new(job: Job, source: S, clock: Arc<dyn Clock>, status: Status, is_job: bool) -> Self {
        let token = |file: &TokenFile| {
            let mut slot = Slot::new();
            slot.due = Some(Instant::now());
            (file.clone(), slot)
        };
        Self {
            hooks: Hooks::new(&job, is_job),
            tokens: job.tokens.iter().map(token).collect(),
            job: Arc::new(job),
            source: Arc::new(source),
            clock,
            status,
            x509: Slot::new(),
            bundles: Slot::new(),
        }
    }

    /// Does the job until its mode says that it is over.
    ///
    /// # Errors
    /// [`KeepError`], after which nothing is kept any more.
    pub(crate) async fn run(mut self, mut mode: Mode) -> Result<Ended, KeepError> {
        let once = matches!(mode, Mode::Once);
        let wants = Wants {
            x509: self.job.x509.is_some(),
            jwt: self.job.wants_jwt(),
            once,
        };
        let (sender, mut events) = mpsc::channel(EVENTS);
        let source = self.source.clone();
        let mut watching = Box::pin(source.watch(wants, sender));
        loop {
            let due = self.due();
            tokio::select! {
                error = &mut watching => return Err(KeepError::Source(error)),
                Some(event) = events.recv() => self.take(event),
                () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => self.work(once).await?,
                status = self.hooks.progress() => {
                    tracing::info!(%status, "Command ended");
                    if matches!(mode, Mode::Job(_)) {
                        return Ok(Ended::Command(status));
                    }
                }
                Some(signal) = next(&mut mode) => {
                    if !self.hooks.pass_on(signal) {
                        return Ok(Ended::Signal(signal));
                    }
                }
            }
            if self.status.is_ready() {
                match mode {
                    Mode::Once => return Ok(Ended::Written),
                    Mode::Daemon => {}
                    Mode::Job(_) => self.hooks.start_once().map_err(KeepError::Command)?,
                }
            }
        }
    }

    fn due(&self) -> Option<Instant> {
        let tokens = self.tokens.iter().map(|(_, slot)| slot.due);
        tokens.chain([self.x509.due, self.bundles.due]).flatten().min()
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::X509(material) => {
                tracing::info!(spiffe_id = %material.svid.svid.id, "Received update");
                self.x509.offer(*material, Material::same_as);
            }
            Event::JwtBundles(bundles) => {
                if self.job.jwt_bundle.is_some() {
                    self.bundles.offer(bundles, PartialEq::eq);
                }
            }
        }
        // Authorities may have gone: whether a token is still good is for the agent to say.
        for (_, slot) in &mut self.tokens {
            slot.due = Some(Instant::now());
        }
    }

    async fn work(&mut self, once: bool) -> Result<(), KeepError> {
        if self.x509.is_due() {
            self.write_x509(once).await?;
        }
        if self.bundles.is_due() {
            self.write_bundles(once).await?;
        }
        for index in 0..self.tokens.len() {
            self.write_token(index, once).await?;
        }
        Ok(())
    }

    async fn write_x509(&mut self, once: bool) -> Result<(), KeepError> {
        let (Some(files), Some(material)) = (&self.job.x509, &self.x509.latest) else {
            self.x509.due = None;
            return Ok(());
        };
        let (files, material, now) = (files.clone(), material.clone(), self.clock.now());
        let render = move |job: &Job| Ok(files.render(&material, &job.target, now)?);
        match write(self.job.clone(), render).await {
            Ok(()) => {
                tracing::info!(files = self.job.name, "X.509 certificates updated");
                self.x509.done(None);
                self.status.set_x509(Write::Written);
                self.hooks.renewed();
                Ok(())
            }
            Err(error) => {
                self.x509.later();
                self.status.set_x509(self.failed(&error));
                give_up(once, error)
            }
        }
    }

    async fn write_bundles(&mut self, once: bool) -> Result<(), KeepError> {
        let (Some(file), Some(bundles)) = (&self.job.jwt_bundle, &self.bundles.latest) else {
            self.bundles.due = None;
            return Ok(());
        };
        let path = self.path(&file.name);
        match write(self.job.clone(), ready(jwt_bundles(file, bundles))).await {
            Ok(()) => {
                tracing::info!(files = self.job.name, "JWT bundle updated");
                self.bundles.done(None);
                self.status.set_jwt(path, Write::Written);
                self.renewed_jwt();
                Ok(())
            }
            Err(error) => {
                self.bundles.later();
                self.status.set_jwt(path, self.failed(&error));
                give_up(once, error)
            }
        }
    }

    async fn write_token(&mut self, index: usize, once: bool) -> Result<(), KeepError> {
        let Some((TokenFile { file, audience }, slot)) = self.tokens.get(index) else {
            return Ok(());
        };
        if !slot.is_due() {
            return Ok(());
        }
        let (file, written) = (file.clone(), slot.written);
        let fetched = timeout(TOKEN_DEADLINE, self.source.token(audience)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(SourceError::Failed("no answer in time".to_owned())));
        let outcome = match fetched {
            Ok(token) => {
                let digest = sha256(token.text.as_bytes());
                let left = self.clock.now().until(token.expires_at);
                let next = Instant::now() + left / 2 + Duration::from_secs(1);
                if written == Some(digest) {
                    self.settle(index, digest, next);
                    return Ok(());
                }
                let bytes = Zeroizing::new(token.text.as_bytes().to_vec());
                let written = write(
                    self.job.clone(),
                    ready(Batch::Single(Rendered::new(&file, bytes))),
                )
                .await;
                written.map(|()| (digest, next)).map_err(KeepError::Write)
            }
            Err(error) => Err(KeepError::Source(error)),
        };
        let path = self.path(&file.name);
        match outcome {
            Ok((digest, next)) => {
                tracing::info!(files = self.job.name, "JWT SVID updated");
                self.settle(index, digest, next);
                self.status.set_jwt(path, Write::Written);
                self.renewed_jwt();
                Ok(())
            }
            Err(error) => {
                if let Some((_, slot)) = self.tokens.get_mut(index) {
                    slot.later();
                }
                match &error {
                    KeepError::Write(cause) => self.status.set_jwt(path, self.failed(cause)),
                    other => tracing::error!(
                        error = other as &dyn Error,
                        files = self.job.name,
                        "Unable to update JWT SVID"
                    ),
                }
                let again = matches!(&error, KeepError::Source(SourceError::NoIdentity(_)));
                if once && !again { Err(error) } else { Ok(()) }
            }
        }
    }

    fn settle(&mut self, index: usize, digest: [u8; 32], next: Instant) {
        if let Some((_, slot)) = self.tokens.get_mut(index) {
            slot.latest = Some(digest);
            slot.done(Some(next));
        }
    }

    /// Hooks follow the X.509-SVID, as spiffe-helper has it; the tokens only where there is none.
    fn renewed_jwt(&mut self) {
        if self.job.x509.is_none() {
            self.hooks.renewed();
        }
    }

    fn failed(&self, error: &WriteError) -> Write {
        let text = credence_command::CommandError::chain(error).to_string();
        tracing::error!(
            error = error as &dyn Error,
            files = self.job.name,
            "Unable to write files; those that were there stay"
        );
        Write::Failed(text)
    }

    fn path(&self, name: &std::path::Path) -> String {
        self.job.target.folder.join(name).display().to_string()
    }
}

/// Renders and writes, on a thread that may wait for the disk.
async fn write(
    job: Arc<Job>,
    render: impl FnOnce(&Job) -> Result<Vec<Batch>, WriteError> + Send + 'static,
) -> Result<(), WriteError> {
    let write = move || {
        let batches = render(&job)?;
        batches.iter().try_for_each(|batch| job.target.write(batch))
    };
    match tokio::task::spawn_blocking(write).await {
        Ok(written) => written,
        Err(error) => Err(WriteError::Interrupted(error.to_string())),
    }
}

/// For [`write()`]: what is rendered already.
fn ready(batch: Batch) -> impl FnOnce(&Job) -> Result<Vec<Batch>, WriteError> + Send + 'static {
    move |_| Ok(vec![batch])
}

fn give_up(once: bool, error: WriteError) -> Result<(), KeepError> {
    if once {
        Err(KeepError::Write(error))
    } else {
        Ok(())
    }
}

/// The next signal for the command; none for other modes.
async fn next(mode: &mut Mode) -> Option<Signal> {
    match mode {
        Mode::Job(signals) => signals.recv().await,
        Mode::Once | Mode::Daemon => None,
    }
}

#[cfg(test)]
mod tests;
