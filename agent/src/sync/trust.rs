//! Whether to go on trusting by what is saved, when the server shows a certificate of an authority that isn't in it.
//!
//! Owns the state of bootstrapping that SPIRE's agent keeps too, and the look at the operator's source of bundles. Never
//! drops what is saved before the source has a bundle that proves the server. Invariant: without `rebootstrap_mode`,
//! nothing is ever dropped.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use credence_identity::Bundle;
use credence_runtime::grpc::LinkFault;
use credence_runtime::telemetry::Telemetry;
use credence_runtime::tls::PeerFault;
use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::bootstrap::{Asker, BootstrapError, load};
use super::connection::{Connect, Connector};
use super::contact::{BundleSource, Rebootstrap, RebootstrapMode};
use super::server::{CallError, bundle_over};
use crate::state::{BootstrapState, StateError, StateFile};

/// An agent that may bootstrap again tries its first attestation that long, as SPIRE's.
const PATIENCE_WITH_REBOOTSTRAP: Duration = Duration::from_secs(24 * 60 * 60);
const PATIENCE: Duration = Duration::from_secs(60);

/// A node that can't attest again can't bootstrap again either.
#[derive(Debug, thiserror::Error)]
#[error(
    "you have requested rebootstrap support but the NodeAttestor plugin or the spire server configuration is not \
     allowing it"
)]
pub struct NoRebootstrap;

/// By what the server is trusted, and for how long.
#[derive(Debug)]
pub(crate) struct Trust {
    /// Its bundle is filled in by what is found.
    pub(crate) connector: Connector,
    pub(crate) source: BundleSource,
    pub(crate) rebootstrap: Rebootstrap,
    pub(crate) state: Arc<StateFile>,
    pub(crate) telemetry: Telemetry,
}

impl Trust {
    /// How long the first attestation is tried.
    pub(crate) fn patience(&self) -> Duration {
        match self.rebootstrap.mode {
            RebootstrapMode::Never => PATIENCE,
            RebootstrapMode::Auto | RebootstrapMode::Always => PATIENCE_WITH_REBOOTSTRAP,
        }
    }

    /// What it means that the node may attest again, or may not.
    pub(crate) fn settle(&mut self, reattestable: bool) -> Result<(), NoRebootstrap> {
        match self.rebootstrap.mode {
            _ if reattestable => {}
            RebootstrapMode::Never => {}
            RebootstrapMode::Auto => {
                tracing::warn!("{NoRebootstrap}. Disabling");
                self.rebootstrap.mode = RebootstrapMode::Never;
            }
            RebootstrapMode::Always => return Err(NoRebootstrap),
        }
        Ok(())
    }

    /// The bundle of the operator's source; none if whoever answers is to be believed.
    pub(crate) async fn ask_source(&self) -> Result<Option<Arc<Bundle>>, BootstrapError> {
        let mut bootstrap = self.state.bootstrap();
        let began = *bootstrap.began.get_or_insert_with(|| self.connector.clock.now());
        bootstrap.attempts = bootstrap.attempts.saturating_add(1);
        self.keep(bootstrap).await;
        let (again, attempts) = (bootstrap.again, bootstrap.attempts);
        if !matches!(self.source, BundleSource::Path(..) | BundleSource::Insecure) {
            let what = if again { "reattestation" } else { "attestation" };
            tracing::info!("Server {what} attempt {attempts}. Started {began}.");
        }
        let asker = Asker {
            trust_domain: &self.connector.trust_domain,
            server: &self.connector.address,
            again,
            began,
            attempts,
        };
        load(&self.source, &asker).await
    }

    /// The server has proved itself.
    pub(crate) async fn proved(&self) {
        let well = BootstrapState {
            again: true,
            began: None,
            attempts: 0,
        };
        if self.state.bootstrap() != well {
            self.keep(well).await;
        }
    }

    /// After a first attestation that failed for an unknown authority: whether the next one should go by the source,
    /// though a bundle is saved.
    pub(crate) async fn passes_over_saved(&self) -> bool {
        if !self.state.bootstrap().again {
            tracing::info!("Trust Bundle and Server don't agree, bootstrapping again");
            return false;
        }
        self.has_borne_enough().await
    }

    /// Whether the server's authority was unknown the last time, and that may have consequences.
    pub(crate) fn is_doubtful(&self) -> bool {
        self.rebootstrap.mode != RebootstrapMode::Never && self.state.bootstrap().began.is_some()
    }

    /// After a call that failed for this: whether the agent is to end, so that the next start bootstraps. What is saved
    /// has been dropped then.
    pub(crate) async fn is_lost(&self, error: &CallError) -> bool {
        if !is_unknown_authority(error) || !self.has_borne_enough().await {
            return false;
        }
        if let Err(error) = self.look().await {
            tracing::warn!(
                error = &*error as &dyn Error,
                "The source of trust bundles doesn't prove the server either, ignoring for now"
            );
            return false;
        }
        let (state, now) = (self.state.clone(), self.connector.clock.now());
        match spawn_blocking(move || state.begin_again(now)).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                tracing::error!(error = &error as &dyn Error, "Could not store bootstrap state");
                false
            }
            Err(_) => false,
        }
    }

    /// Whether the source has a bundle that proves the server.
    async fn look(&self) -> Result<(), Box<dyn Error + Send + Sync>> {
        let bundle = self.ask_source().await?.ok_or(BootstrapError::Empty)?;
        bundle_over(self.connector.trusting(bundle).channel(None)?).await?;
        Ok(())
    }

    /// Whether the server has been of unknown authority for as long as the operator wants that to be borne.
    async fn has_borne_enough(&self) -> bool {
        if self.rebootstrap.mode == RebootstrapMode::Never {
            return false;
        }
        let now = self.connector.clock.now();
        let mut bootstrap = self.state.bootstrap();
        if bootstrap.began.is_none() {
            bootstrap.began = Some(now);
            self.keep(bootstrap).await;
        }
        let borne = bootstrap.began.map(|began| began.until(now)).unwrap_or_default();
        let time_left = self.rebootstrap.delay.saturating_sub(borne);
        if time_left.is_zero() {
            tracing::warn!("Trust Bundle and Server don't agree, rebootstrapping");
        } else {
            tracing::info!(
                ?time_left,
                "Trust Bundle and Server don't agree, ignoring for now"
            );
        }
        time_left.is_zero()
    }

    /// A disk that fails makes the next start count anew.
    async fn keep(&self, bootstrap: BootstrapState) {
        let state = self.state.clone();
        let stored = spawn_blocking(move || state.store_bootstrap(bootstrap)).await;
        if let Ok(Err(error)) = stored {
            let error: &StateError = &error;
            tracing::warn!(error = error as &dyn Error, "Could not store bootstrap state");
        }
        self.measure();
    }

    /// Shows how bootstrapping stands, by SPIRE's names.
    pub(crate) fn measure(&self) {
        let BootstrapState {
            again,
            began,
            attempts,
        } = self.state.bootstrap();
        let labels = &[("mode", if again { "rebootstrap" } else { "bootstrap" })];
        let seconds = began.map_or(0, |began| began.unix_seconds().max(0).unsigned_abs());
        let bootstrapped = f64::from(u8::from(began.is_none()));
        self.telemetry.gauge("bootstrapped", bootstrapped);
        let seconds = Duration::from_secs(seconds).as_secs_f64();
        self.telemetry.gauge_with("bootstrap_seconds", seconds, labels);
        self.telemetry
            .gauge_with("bootstrap_attempts", f64::from(attempts), labels);
    }
}

/// Whether the server's certificate comes from an authority that isn't in the bundle.
pub(crate) fn is_unknown_authority(error: &CallError) -> bool {
    matches!(
        error.link(),
        Some(LinkFault::Certificate(PeerFault::UnknownAuthority))
    )
}

impl Connector {
    /// The same way, with the server judged by this bundle.
    pub(crate) fn trusting(&self, bundle: Arc<Bundle>) -> Self {
        Self {
            bundle: watch::channel(bundle).1,
            ..self.clone()
        }
    }
}
