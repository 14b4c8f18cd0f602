//! How the agent comes by its SVID at its start: the saved one while it lives, else by attesting the node.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::Signer;
use credence_crypto::x509::{X509SvidKey, verify_svid};
use credence_identity::{Bundle, SpiffeId, Timestamp};
use credence_runtime::backoff::Backoff;
use tokio::time::{Instant, sleep};

use super::bootstrap::{BootstrapError, expired_at, from_certificates};
use super::connection::{Connect, ConnectionError, channel_to_anyone};
use super::keeper::{Custody, RenewError, is_final};
use super::server::{AttestError, CallError, attest_over, bundle_over};
use super::trust::{NoRebootstrap, Trust, is_unknown_authority};
use crate::attestor::node::NodeAttestor;
use crate::explain::Journal;
use crate::state::StateError;

/// As SPIRE's agent has it.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const LONGEST_RETRY: Duration = Duration::from_secs(60);
/// A saved SVID with less than this left is not used.
const LEAST_LIFE: Duration = Duration::from_secs(1);

/// Why the agent has no SVID to start with.
#[derive(Debug, thiserror::Error)]
pub enum FirstError {
    /// The saved state can't be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// There is no bundle to trust the server by.
    #[error(transparent)]
    Bootstrap(#[from] BootstrapError),
    /// The connection can't be configured.
    #[error(transparent)]
    Connection(#[from] ConnectionError),
    /// It is to bootstrap again whenever needed, and couldn't.
    #[error(transparent)]
    NoRebootstrap(#[from] NoRebootstrap),
    /// The server's authority is unknown to a bundle that is past its time.
    #[error("all authorities of the trust bundle have expired, the last at {at}")]
    BundleExpired {
        /// When the last one did.
        at: Timestamp,
        /// What came of trying.
        #[source]
        source: Box<dyn Error + Send + Sync>,
    },
    /// The server couldn't be reached or refused.
    #[error(transparent)]
    Attest(Box<dyn Error + Send + Sync>),
}

/// What the agent starts with.
#[derive(Debug)]
pub(crate) struct First {
    pub(crate) svid: Arc<X509SvidKey>,
    pub(crate) reattestable: bool,
    pub(crate) bundle: Arc<Bundle>,
    pub(crate) trust: Trust,
}

/// What an attempt yields.
struct Found {
    svid: Arc<X509SvidKey>,
    reattestable: bool,
    bundle: Arc<Bundle>,
}

/// What the start needs.
#[derive(Debug)]
pub(crate) struct Beginning {
    pub(crate) trust: Trust,
    pub(crate) attestor: Arc<dyn NodeAttestor>,
    pub(crate) custody: Custody,
    pub(crate) journal: Journal,
}

impl Beginning {
    /// Tries for as long as SPIRE's agent does; a refusal is final, for it would be the same again.
    pub(crate) async fn run(mut self) -> Result<First, FirstError> {
        // A node that can't attest again is known by its saved SVID, or by how it would attest: no token is spent then.
        let saved = self.custody.state.svid()?.map(|saved| saved.reattestable);
        self.trust
            .settle(saved.unwrap_or(self.attestor.is_repeatable()))?;
        let give_up = Instant::now() + self.trust.patience();
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let mut pass_over_saved = false;
        loop {
            self.trust.measure();
            let failure = match self.attempt(pass_over_saved).await {
                Ok(found) => {
                    self.journal.attested();
                    self.trust.settle(found.reattestable)?;
                    return Ok(First {
                        svid: found.svid,
                        reattestable: found.reattestable,
                        bundle: found.bundle,
                        trust: self.trust,
                    });
                }
                Err(failure) => failure,
            };
            let error = failure.error;
            self.journal.not_attested(&error);
            if failure.is_unknown_authority {
                // If the source is no better, what is saved has the next try.
                pass_over_saved = self.trust.passes_over_saved().await && !pass_over_saved;
            }
            let retry = backoff.next_delay();
            if failure.is_final || Instant::now() + retry > give_up {
                return Err(error);
            }
            tracing::warn!(error = &error as &dyn Error, retry_interval = ?retry,
                "Failed to retrieve attestation result");
            sleep(retry).await;
        }
    }

    async fn attempt(&self, pass_over_saved: bool) -> Result<Found, Failure> {
        let trust_domain = &self.trust.connector.trust_domain;
        let saved = self.custody.state.bundle()?;
        let bundle = if saved.is_empty() || pass_over_saved {
            self.trust.ask_source().await?
        } else {
            Some(Arc::new(from_certificates(trust_domain, saved)))
        };
        match &bundle {
            Some(_) => tracing::info!(trust_domain_id = %trust_domain.id(), "Bundle loaded"),
            None => tracing::info!("Bundle is not found"),
        }
        if let Some((svid, reattestable)) = self.saved_svid()?
            && let Some(bundle) = bundle.clone()
        {
            tracing::info!(spiffe_id = %svid.svid.id, "SVID loaded");
            return Ok(Found {
                svid,
                reattestable,
                bundle,
            });
        }
        tracing::info!("SVID is not found. Starting node attestation");
        self.attest(bundle).await
    }

    async fn attest(&self, bundle: Option<Arc<Bundle>>) -> Result<Found, Failure> {
        let bundle = match bundle {
            Some(bundle) => bundle,
            None => self.believe_anyone().await?,
        };
        let expired = expired_at(&bundle, self.trust.connector.clock.now());
        let channel = self.trust.connector.trusting(bundle).channel(None)?;
        let (key, csr) = self.custody.prepare(None).await.map_err(Failure::renewal)?;
        let attesting = attest_over(channel.clone(), &*self.attestor, csr);
        let telemetry = self.custody.keys.telemetry();
        let call = telemetry
            .call("node.attestor.new_svid")
            .with_label("attestor", self.attestor.attestation_type());
        let attested = call.run(attesting).await;
        call.end(&attested);
        let attested = attested.map_err(|error| Failure::attestation(error).with_bundle(expired))?;
        let bundle = bundle_over(channel)
            .await
            .map_err(|error| Failure::attestation(error.into()))?;
        let svid = self
            .custody
            .keep(attested.svid, key, attested.reattestable)
            .await
            .map_err(Failure::renewal)?;
        self.custody.state.store_bundle(&bundle)?;
        tracing::info!(spiffe_id = %svid.svid.id, reattestable = attested.reattestable,
            "Node attestation was successful");
        self.trust.proved().await;
        Ok(Found {
            svid,
            reattestable: attested.reattestable,
            bundle,
        })
    }

    /// Takes the bundle from whoever answers, and goes on with it as if the operator had given it. That the server fits
    /// its own bundle and has the right name is no proof, but shows a wrong address.
    async fn believe_anyone(&self) -> Result<Arc<Bundle>, Failure> {
        tracing::warn!("Insecure bootstrap enabled; skipping server certificate verification");
        let connector = &self.trust.connector;
        let (channel, shown) = channel_to_anyone(&connector.address, connector.key_exchange)?;
        let bundle = bundle_over(channel)
            .await
            .map_err(|error| Failure::attestation(error.into()))?;
        let now = connector.clock.now();
        let expected = SpiffeId::server(&connector.trust_domain);
        match verify_svid(&shown.chain(), &bundle.x509_authorities, now) {
            Ok(server) if server.id == expected => Ok(bundle),
            Ok(server) => {
                let reason = format!("expected server SPIFFE ID {expected:?}; got {:?}", server.id);
                Err(Failure::attestation(
                    CallError::answer("insecure bootstrap failed", reason).into(),
                ))
            }
            Err(error) => Err(Failure::attestation(
                CallError::answer("insecure bootstrap failed", error).into(),
            )),
        }
    }

    /// The saved SVID with its key, if both are there and it lives.
    fn saved_svid(&self) -> Result<Option<(Arc<X509SvidKey>, bool)>, StateError> {
        let (keys, saved) = (&self.custody.keys, self.custody.state.svid()?);
        let Some(saved) = saved else {
            if keys.is_empty() {
                tracing::debug!("No pre-existing agent SVID found. Will perform node attestation");
            } else {
                tracing::warn!("Keys recovered, but no SVID found. Generating new keypair");
            }
            return Ok(None);
        };
        let key = saved
            .svid
            .leaf()
            .ok()
            .and_then(|leaf| keys.find(leaf.public_key()));
        let Some(key) = key else {
            if keys.is_empty() {
                tracing::warn!("SVID recovered, but no keys found. Generating new keypair");
            } else {
                tracing::warn!("SVID recovered, but no SVID key found. Generating new keypair");
            }
            return Ok(None);
        };
        if self.trust.connector.clock.now() + LEAST_LIFE >= saved.svid.not_after {
            let expiry = saved.svid.not_after;
            tracing::warn!(%expiry, "SVID key recovered, but SVID is expired. Generating new keypair");
            return Ok(None);
        }
        debug_assert!(
            saved
                .svid
                .leaf()
                .is_ok_and(|leaf| leaf.public_key() == key.public_key())
        );
        Ok(Some((
            Arc::new(X509SvidKey {
                svid: saved.svid,
                key,
            }),
            saved.reattestable,
        )))
    }
}

/// A failed attempt, and whether another would fail the same way.
struct Failure {
    error: FirstError,
    is_final: bool,
    is_unknown_authority: bool,
}

impl Failure {
    fn attestation(error: AttestError) -> Self {
        Self::renewal(error.into())
    }

    fn renewal(error: RenewError) -> Self {
        let is_final = is_final(&error);
        let is_unknown_authority = match &error {
            RenewError::Attest(AttestError::Call(error)) => is_unknown_authority(error),
            _ => false,
        };
        Self {
            error: FirstError::Attest(Box::new(error)),
            is_final,
            is_unknown_authority,
        }
    }
}

impl Failure {
    /// Says so if the bundle, by which the server was judged, expired at that moment.
    fn with_bundle(self, expired: Option<Timestamp>) -> Self {
        let error = match (expired, self.error) {
            (Some(at), FirstError::Attest(source)) if self.is_unknown_authority => {
                FirstError::BundleExpired { at, source }
            }
            (_, error) => error,
        };
        Self { error, ..self }
    }
}

impl<E: Into<FirstError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            is_final: false,
            is_unknown_authority: false,
        }
    }
}
