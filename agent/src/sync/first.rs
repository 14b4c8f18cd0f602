//! How the agent comes by its SVID at its start: the saved one while it lives, else by attesting the node.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::Signer;
use credence_crypto::x509::{X509SvidKey, verify_svid};
use credence_identity::{Bundle, SpiffeId};
use credence_runtime::backoff::Backoff;
use tokio::sync::watch;
use tokio::time::{Instant, sleep};

use super::bootstrap::{BootstrapError, from_certificates, load};
use super::connection::{Connect, ConnectionError, Connector, channel_to_anyone};
use super::keeper::{Custody, RenewError, is_final};
use super::server::{AttestError, CallError, attest_over, bundle_over};
use crate::attestor::node::NodeAttestor;
use crate::config::BundleSource;
use crate::explain::Journal;
use crate::state::StateError;

/// As SPIRE's agent has it.
const FIRST_RETRY: Duration = Duration::from_secs(5);
const GIVE_UP_AFTER: Duration = Duration::from_secs(60);
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
}

/// What the start needs.
#[derive(Debug)]
pub(crate) struct Beginning {
    /// Its bundle is filled in by what is found.
    pub(crate) connector: Connector,
    pub(crate) source: BundleSource,
    pub(crate) attestor: Arc<dyn NodeAttestor>,
    pub(crate) custody: Custody,
    pub(crate) journal: Journal,
}

impl Beginning {
    /// Tries for a minute, as SPIRE's agent does; a refusal is final, for it would be the same again.
    pub(crate) async fn run(self) -> Result<First, FirstError> {
        let give_up = Instant::now() + GIVE_UP_AFTER;
        let mut backoff = Backoff::new(FIRST_RETRY, GIVE_UP_AFTER);
        let telemetry = self.custody.keys.telemetry();
        let began = self.connector.clock.now().unix_seconds();
        let mut attempts = 0_u32;
        let mut show = |bootstrapped: bool| {
            attempts = attempts.saturating_add(u32::from(!bootstrapped));
            let labels = &[("mode", "bootstrap")];
            let began = Duration::from_secs(began.max(0).unsigned_abs());
            telemetry.gauge("bootstrapped", f64::from(u8::from(bootstrapped)));
            telemetry.gauge_with("bootstrap_seconds", began.as_secs_f64(), labels);
            telemetry.gauge_with("bootstrap_attempts", f64::from(attempts), labels);
        };
        loop {
            show(false);
            let (error, is_final) = match self.attempt().await {
                Ok(first) => {
                    show(true);
                    self.journal.attested();
                    return Ok(first);
                }
                Err(Failure { error, is_final }) => (error, is_final),
            };
            self.journal.not_attested(&error);
            let retry = backoff.next_delay();
            if is_final || Instant::now() + retry > give_up {
                return Err(error);
            }
            tracing::warn!(error = &error as &dyn Error, retry_interval = ?retry,
                "Failed to retrieve attestation result");
            sleep(retry).await;
        }
    }

    async fn attempt(&self) -> Result<First, Failure> {
        let trust_domain = &self.connector.trust_domain;
        let saved = self.custody.state.bundle()?;
        let bundle = if saved.is_empty() {
            load(&self.source, trust_domain).await?
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
            return Ok(First {
                svid,
                reattestable,
                bundle,
            });
        }
        tracing::info!("SVID is not found. Starting node attestation");
        self.attest(bundle).await
    }

    async fn attest(&self, bundle: Option<Arc<Bundle>>) -> Result<First, Failure> {
        let bundle = match bundle {
            Some(bundle) => bundle,
            None => self.believe_anyone().await?,
        };
        let connector = Connector {
            bundle: watch::channel(bundle).1,
            ..self.connector.clone()
        };
        let channel = connector.channel(None)?;
        let (key, csr) = self.custody.prepare(None).await.map_err(Failure::renewal)?;
        let attesting = attest_over(channel.clone(), &*self.attestor, csr);
        let telemetry = self.custody.keys.telemetry();
        let attested = telemetry
            .watch("node.attestor.new_svid", attesting)
            .await
            .map_err(Failure::attestation)?;
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
        Ok(First {
            svid,
            reattestable: attested.reattestable,
            bundle,
        })
    }

    /// Takes the bundle from whoever answers, and goes on with it as if the operator had given it. That the server fits
    /// its own bundle and has the right name is no proof, but shows a wrong address.
    async fn believe_anyone(&self) -> Result<Arc<Bundle>, Failure> {
        tracing::warn!("Insecure bootstrap enabled; skipping server certificate verification");
        let (channel, shown) = channel_to_anyone(&self.connector.address, self.connector.key_exchange)?;
        let bundle = bundle_over(channel)
            .await
            .map_err(|error| Failure::attestation(error.into()))?;
        let now = self.connector.clock.now();
        let expected = SpiffeId::server(&self.connector.trust_domain);
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
        if self.connector.clock.now() + LEAST_LIFE >= saved.svid.not_after {
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
}

impl Failure {
    fn attestation(error: AttestError) -> Self {
        Self::renewal(error.into())
    }

    fn renewal(error: RenewError) -> Self {
        let is_final = is_final(&error);
        Self {
            error: FirstError::Attest(Box::new(error)),
            is_final,
        }
    }
}

impl<E: Into<FirstError>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self {
            error: error.into(),
            is_final: false,
        }
    }
}
