//! The agent's own SVID: its renewal, and what follows when the server refuses it.
//!
//! Owns the SVID's way to the disk and to the connection. Invariants: an SVID is stored before it is shown; the saved one
//! is deleted only when the server has said that it is worth nothing; what is cached keeps being served meanwhile.

use std::convert::Infallible;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::{SvidError, X509Svid, X509SvidKey};
use credence_crypto::{PrivateKey, SignError, csr};
use credence_identity::{Bundle, Timestamp, rotation};
use credence_runtime::backoff::Backoff;
use credence_runtime::clock::{Clock, sleep_until};
use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::sleep;
use tonic::Code;

use super::server::{AttestError, Attested, CallError, Refusal, Refused, Server};
use crate::attestor::node::NodeAttestor;
use crate::cache::distrust::Distrusted;
use crate::explain::Journal;
use crate::keymanager::{KeyManager, KeyManagerError};
use crate::state::StateFile;

const FIRST_RETRY: Duration = Duration::from_secs(5);
const LAST_RETRY: Duration = Duration::from_secs(60);

/// Why the agent can't go on.
#[derive(Debug, thiserror::Error)]
pub enum AgentEnd {
    /// The server's operator banned it.
    #[error("agent is banned")]
    Banned(#[source] Arc<dyn Error + Send + Sync>),
    /// It would have to attest again, and can't.
    #[error("agent needs to re-attest and could not")]
    NotAttested(#[source] Arc<dyn Error + Send + Sync>),
    /// Its SVID expired before there was a new one.
    #[error("current SVID has already expired and its renewal failed")]
    Expired(#[source] Arc<dyn Error + Send + Sync>),
    /// The server is of an authority that the agent doesn't know; the next start bootstraps.
    #[error("shutting down for rebootstrapping")]
    Rebootstrap(#[source] Arc<dyn Error + Send + Sync>),
}

/// Why there is no new SVID.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RenewError {
    #[error(transparent)]
    Key(#[from] KeyManagerError),
    #[error("unable to generate private key: task ended early")]
    KeyTask,
    #[error(transparent)]
    Csr(#[from] SignError),
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(transparent)]
    Attest(#[from] AttestError),
    #[error("unusable agent SVID")]
    Svid(#[from] SvidError),
}

/// The parts that make a new SVID the agent's own.
#[derive(Debug, Clone)]
pub(crate) struct Custody {
    pub(crate) keys: Arc<KeyManager>,
    pub(crate) state: Arc<StateFile>,
}

/// The task that keeps the agent's SVID alive.
#[derive(Debug)]
pub(crate) struct Keeper {
    pub(crate) server: Server,
    pub(crate) attestor: Arc<dyn NodeAttestor>,
    pub(crate) custody: Custody,
    pub(crate) clock: Arc<dyn Clock>,
    /// How long its SVID should serve without the server.
    pub(crate) availability_target: Option<Duration>,
    /// What the agent shows.
    pub(crate) svid: watch::Sender<Arc<X509SvidKey>>,
    /// Whether it may attest again, and so must instead of renewing.
    pub(crate) reattestable: bool,
    /// The own bundle as it changes.
    pub(crate) bundle: watch::Receiver<Arc<Bundle>>,
    pub(crate) journal: Journal,
}

impl Custody {
    /// A key for the SVID that follows the one in use, and the request for it: without a name, which the server gives.
    pub(crate) async fn prepare(
        &self,
        current: Option<&X509SvidKey>,
    ) -> Result<(PrivateKey, Vec<u8>), RenewError> {
        use credence_crypto::Signer;
        let keys = self.keys.clone();
        let current = current.map(|svid| svid.key.public_key().clone());
        let made = spawn_blocking(move || keys.generate(current.as_ref())).await;
        let key = made.map_err(|_| RenewError::KeyTask)??;
        let csr = csr::create(&key, None, &[])?;
        Ok((key, csr))
    }

    /// Stores what came. A disk that fails costs the next start an attestation, not this run.
    pub(crate) async fn keep(
        &self,
        svid: X509Svid,
        key: PrivateKey,
        reattestable: bool,
    ) -> Result<Arc<X509SvidKey>, RenewError> {
        let svid = Arc::new(X509SvidKey::new(svid, key)?);
        let (state, stored) = (self.state.clone(), svid.clone());
        let outcome = spawn_blocking(move || state.store_svid(&stored.svid, reattestable)).await;
        if let Ok(Err(error)) = outcome {
            tracing::warn!(error = &error as &dyn Error, "Could not store SVID");
        }
        Ok(svid)
    }

    async fn forget(&self) {
        let state = self.state.clone();
        if let Ok(Err(error)) = spawn_blocking(move || state.delete_svid()).await {
            tracing::error!(error = &error as &dyn Error, "Failed to remove SVID");
        }
    }
}

impl Keeper {
    /// Runs until the agent can't go on.
    pub(crate) async fn run(
        mut self,
        mut refused: mpsc::Receiver<Refused>,
        mut steps: watch::Receiver<u64>,
    ) -> Result<Infallible, AgentEnd> {
        let clock = self.clock.clone();
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        let mut next = self.renew_at();
        let mut known = self.bundle.borrow_and_update().clone();
        loop {
            tokio::select! {
                () = sleep_until(&*clock, &mut steps, next) => {
                    let telemetry = self.custody.keys.telemetry().clone();
                    next = match telemetry.watch("agent_svid.rotate", self.renew()).await {
                        Ok(()) => {
                            backoff.reset();
                            self.renew_at()
                        }
                        Err(error) => {
                            self.judge(error)?;
                            clock.now() + backoff.next_delay()
                        }
                    };
                }
                Ok(()) = self.bundle.changed() => {
                    let bundle = self.bundle.borrow_and_update().clone();
                    let distrusted = Distrusted::x509(&known, &bundle);
                    let authority = self.svid.borrow().svid.authority_key_id.clone();
                    if distrusted.covers(authority.as_deref()) {
                        tracing::info!("Agent SVID is tainted by a root authority, forcing rotation");
                        next = clock.now();
                    }
                    known = bundle;
                }
                Some(refused) = refused.recv() => {
                    // What was said of an older SVID is no news.
                    if Arc::ptr_eq(&refused.svid, &self.svid.borrow()) {
                        self.answer(refused).await?;
                        next = self.renew_at();
                    }
                }
            }
        }
    }

    /// By the rule that all SVIDs have.
    fn renew_at(&self) -> Timestamp {
        let not_after = self.svid.borrow().svid.not_after;
        rotation::renew_at_for(
            self.clock.now(),
            not_after,
            self.availability_target,
            rand::random_range(-1.0..=1.0),
            rand::random_range(0.0..=1.0),
        )
    }

    async fn renew(&mut self) -> Result<(), RenewError> {
        if self.reattestable {
            return self.reattest().await;
        }
        tracing::debug!("Rotating agent SVID");
        let current = self.svid.borrow().clone();
        let (key, csr) = self.custody.prepare(Some(&current)).await?;
        let svid = self.server.renew(csr).await?;
        if svid.id != current.svid.id {
            let reason = format!("it names {}, not {}", svid.id, current.svid.id);
            return Err(CallError::answer("unusable agent SVID", reason).into());
        }
        let svid = self.custody.keep(svid, key, false).await?;
        tracing::info!(spiffe_id = %svid.svid.id, "Successfully rotated agent SVID");
        self.show(svid);
        Ok(())
    }

    async fn reattest(&mut self) -> Result<(), RenewError> {
        let telemetry = self.custody.keys.telemetry().clone();
        telemetry.watch("node.attest", self.reattest_once()).await
    }

    async fn reattest_once(&mut self) -> Result<(), RenewError> {
        tracing::debug!("Reattesting node");
        let current = self.svid.borrow().clone();
        let (key, csr) = self.custody.prepare(Some(&current)).await?;
        let Attested { svid, reattestable } = self.server.attest(&*self.attestor, csr).await?;
        let svid = self.custody.keep(svid, key, reattestable).await?;
        tracing::info!(spiffe_id = %svid.svid.id, "Successfully reattested node");
        self.reattestable = reattestable;
        self.show(svid);
        Ok(())
    }

    /// The connection first, so that whoever is woken by the new SVID finds it there.
    fn show(&self, svid: Arc<X509SvidKey>) {
        self.journal.renewed();
        self.server.connect_as(svid.clone());
        self.svid.send_replace(svid);
    }

    /// What a failed renewal means: time to try again, unless there is no way left.
    fn judge(&self, error: RenewError) -> Result<(), AgentEnd> {
        let what = if self.reattestable {
            "Could not reattest agent"
        } else {
            "Could not rotate agent SVID"
        };
        tracing::error!(error = &error as &dyn Error, "{what}");
        self.journal.not_renewed(&error);
        let expired = self.clock.now() >= self.svid.borrow().svid.not_after;
        // A node that may attest again needs no live SVID for it.
        if expired && !self.reattestable {
            return Err(AgentEnd::Expired(Arc::new(error)));
        }
        Ok(())
    }

    /// What the server's refusal of the SVID in use means.
    async fn answer(&mut self, refused: Refused) -> Result<(), AgentEnd> {
        let error = refused.error;
        if refused.refusal == Refusal::Banned {
            tracing::warn!(
                error = &error as &dyn Error,
                "Agent is banned: removing SVID and shutting down"
            );
            self.custody.forget().await;
            return Err(AgentEnd::Banned(Arc::new(error)));
        }
        tracing::warn!(
            error = &error as &dyn Error,
            "Agent needs to re-attest; will attempt to re-attest"
        );
        let mut backoff = Backoff::new(FIRST_RETRY, LAST_RETRY);
        while self.reattestable {
            match self.reattest().await {
                Ok(()) => return Ok(()),
                Err(error) if is_final(&error) => return self.give_up(Arc::new(error)).await,
                Err(error) => {
                    tracing::error!(error = &error as &dyn Error, "Could not reattest agent");
                    sleep(backoff.next_delay()).await;
                }
            }
        }
        self.give_up(Arc::new(error)).await
    }

    async fn give_up(&self, error: Arc<dyn Error + Send + Sync>) -> Result<(), AgentEnd> {
        tracing::error!(
            error = &*error as &dyn Error,
            "Agent failed re-attestation; removing SVID and shutting down"
        );
        self.custody.forget().await;
        Err(AgentEnd::NotAttested(error))
    }
}

/// Whether attesting again would only be refused again.
pub(crate) fn is_final(error: &RenewError) -> bool {
    match error {
        RenewError::Attest(AttestError::Call(error)) => {
            matches!(
                error.code(),
                Code::PermissionDenied | Code::InvalidArgument | Code::FailedPrecondition
            )
        }
        _ => false,
    }
}
