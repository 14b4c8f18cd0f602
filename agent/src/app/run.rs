//! From a configuration to an agent that runs until it is told to stop.

use std::error::Error;
use std::io;
use std::path::Path;
use std::sync::Arc;

use credence_runtime::VERSION;
use credence_runtime::clock::{Clock, SystemClock};
use credence_runtime::fs::{FsError, ensure_dir, refuse_foreign_tmp, restrict_umask};
use credence_runtime::log::{self, LogError, LogHandle};
use credence_runtime::supervisor::{Supervisor, TaskFailure};

use super::{Plan, StartError, start};
use crate::api::PublicApis;
use crate::attestor::node::{NoJoinToken, NodeAttestor};
use crate::attestor::workload::ProcFs;
use crate::config::{AgentConfig, KeyManagerConfig, NodeAttestorConfig, Warning};
use crate::explain::{self, Journal, LastFailure, Trouble};
use crate::keymanager::{KeyManager, KeyManagerError};
use crate::state::{StateError, StateFile};
use crate::sync::SyncPlan;

/// The mode of the folder that holds what only the agent reads, as SPIRE's.
const DATA_MODE: u32 = 0o750;

/// Why an agent ended, other than by being told to.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The log can't be written.
    #[error(transparent)]
    Log(#[from] LogError),
    /// A folder can't be made, or is one that another user controls.
    #[error(transparent)]
    Folder(#[from] FsError),
    /// The agent's keys can't be read.
    #[error("unable to open the key manager")]
    Keys(#[from] KeyManagerError),
    /// What an earlier run saved can't be read.
    #[error("failed to open storage")]
    State(#[from] StateError),
    /// Starting failed.
    #[error(transparent)]
    Start(#[from] StartError),
    /// A part failed while running.
    #[error(transparent)]
    Task(#[from] TaskFailure),
    /// Signals can't be received.
    #[error("unable to listen for signals")]
    Signals(#[source] io::Error),
}

/// Runs an agent until SIGINT or SIGTERM; SIGUSR2 opens the log file anew, as SPIRE does.
///
/// # Errors
/// [`RunError`]; the log has it too, if there was one by then.
pub async fn run(config: AgentConfig, warnings: &[Warning]) -> Result<(), RunError> {
    restrict_umask();
    let log = log::init(&config.log)?;
    for warning in warnings {
        warning.log();
    }
    let supervisor = Supervisor::new();
    supervisor.stop_on_signals().map_err(RunError::Signals)?;
    log.reopen_on_signal(&supervisor);
    let outcome = run_until_stopped(config, log, &supervisor).await;
    match &outcome {
        Ok(()) => tracing::info!("Agent stopped gracefully"),
        Err(error) => tracing::error!(error = error as &dyn Error, "Agent crashed"),
    }
    outcome
}

async fn run_until_stopped(
    config: AgentConfig,
    log: LogHandle,
    supervisor: &Supervisor,
) -> Result<(), RunError> {
    tracing::info!(data_dir = %config.data_dir.display(), version = VERSION, "Starting agent");
    let data_dir = config.data_dir.clone();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let outcome = run_in(config, &clock, log, supervisor).await;
    if let Err(error) = &outcome {
        let failure = LastFailure::new(clock.now(), Trouble::of(error));
        if let Err(error) = failure.leave_in(&data_dir) {
            tracing::debug!(
                error = &error as &dyn Error,
                "Unable to leave word of the failure"
            );
        }
    }
    outcome
}

async fn run_in(
    config: AgentConfig,
    clock: &Arc<dyn Clock>,
    log: LogHandle,
    supervisor: &Supervisor,
) -> Result<(), RunError> {
    let data_dir = config.data_dir.clone();
    let started = match Plan::of(config) {
        Ok(plan) => {
            let told = supervisor.token();
            tokio::select! {
                // An attestation that is tried again and again must not hold up a stop.
                () = told.cancelled() => Ok(()),
                started = start(plan, clock.clone(), log, supervisor) => started.map(drop).map_err(RunError::from),
            }
        }
        Err(error) => Err(error),
    };
    match &started {
        Ok(()) => drop(LastFailure::remove_from(&data_dir)),
        Err(_) => supervisor.shutdown(),
    }
    // A task that failed says more than what fell with it.
    supervisor.wait().await?;
    started
}

impl Plan {
    /// Opens what the configuration names. Blocks on the file system for a moment.
    ///
    /// # Errors
    /// [`RunError::Folder`], [`RunError::Keys`], [`RunError::State`].
    pub fn of(config: AgentConfig) -> Result<Self, RunError> {
        make_folder(&config.data_dir, DATA_MODE)?;
        let keys = match &config.key_manager {
            KeyManagerConfig::Memory => KeyManager::memory(),
            KeyManagerConfig::Disk { directory } => {
                make_folder(directory, 0o700)?;
                KeyManager::disk(directory)?
            }
        };
        let attestor: Arc<dyn NodeAttestor> = match config.node_attestor {
            NodeAttestorConfig::JoinToken(Some(token)) => Arc::new(token),
            NodeAttestorConfig::JoinToken(None) => Arc::new(NoJoinToken),
            NodeAttestorConfig::X509Pop(attestor) => Arc::new(attestor),
        };
        Ok(Self {
            sync: SyncPlan {
                trust_domain: config.trust_domain,
                server: config.server,
                bundle: config.bootstrap,
                rebootstrap: config.rebootstrap,
                attestor,
                keys: Arc::new(keys),
                state: Arc::new(StateFile::open(&config.data_dir)?),
                interval: config.sync_interval,
                whole_sets: config.whole_sets,
                key_type: config.workload_key_type,
                key_exchange: config.key_exchange,
                limits: config.cache,
                version: VERSION,
                journal: Journal::new(Arc::new(SystemClock)),
            },
            explain: config.data_dir.join(explain::SOCKET),
            socket: config.socket_path,
            admin: config.admin,
            apis: PublicApis {
                workload: config.workload,
                sds: config.sds,
            },
            istio: config.istio,
            unix: config.unix,
            unix_file: config.unix_file,
            proc: ProcFs::from_env(),
            files: config.files,
            health: config.health_checks,
            telemetry: config.telemetry,
            audit: config.audit,
        })
    }
}

fn make_folder(folder: &Path, mode: u32) -> Result<(), FsError> {
    refuse_foreign_tmp(folder)?;
    ensure_dir(folder, mode)
}
