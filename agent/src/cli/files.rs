//! `files`: certificates, keys and tokens of its own identity as files, by a configuration as spiffe-helper has it.
//!
//! A client of the Workload API like any other: it gets what its own process is attested to. With a command behind `--` it
//! is a wrapper: the command starts when its files are there, gets the signals, and its status is the end. The log goes to
//! standard error, for the rest belongs to the command.

mod workload_api;

use std::error::Error;
use std::ffi::OsString;
use std::io::IsTerminal;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::Arc;

use clap::Args;
use credence_command::{CommandError, address::SocketFlags};
use credence_runtime::clock::SystemClock;
use credence_runtime::config::HealthChecks;
use credence_runtime::health::{Answer, Probe, serve_probes};
use credence_runtime::log::{self, LogOptions};
use credence_runtime::supervisor::Supervisor;
use nix::sys::signal::Signal;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use super::SOCKET;
use crate::files::{Ended, Helper, HookSettings, Keeper, Mode, Status, read_helper};
use workload_api::WorkloadApi;

/// What SPIFFE clients look at for the address of the Workload API.
const ENDPOINT: &str = "SPIFFE_ENDPOINT_SOCKET";

#[derive(Args, Debug)]
pub(super) struct Files {
    /// The configuration file, as spiffe-helper has it
    #[arg(long = "config", value_name = "FILE", default_value = "helper.conf")]
    config: String,
    /// Keeps the files current, or writes them once and ends
    #[arg(long = "daemon-mode", value_name = "BOOL")]
    daemon_mode: Option<bool>,
    /// Level of the log: debug, info, warn or error
    #[arg(
        long = "logLevel",
        value_name = "LEVEL",
        default_value = "",
        hide_default_value = true
    )]
    log_level: String,
    #[command(flatten)]
    socket: SocketFlags,
    /// Runs this when the files are there, and ends with its status
    #[arg(value_name = "COMMAND", last = true)]
    command: Vec<OsString>,
}

impl Files {
    /// Runs to the end, and returns the status of this program.
    pub(super) fn run(&self) -> Result<u8, CommandError> {
        let options = LogOptions {
            level: match self.log_level.as_str() {
                "" => log::Level::default(),
                level => level.parse().map_err(|error| CommandError::chain(&error))?,
            },
            ..LogOptions::default()
        };
        let (mut helper, warnings) = read_helper(Path::new(&self.config)).map_err(|faults| {
            let faults: Vec<String> = faults.iter().map(ToString::to_string).collect();
            CommandError::new(faults.join("\n"))
        })?;
        helper.daemon_mode = self.daemon_mode.unwrap_or(helper.daemon_mode);
        self.take_command(&mut helper)?;
        log::init_stderr(&options).map_err(|error| CommandError::chain(&error))?;
        for warning in warnings {
            warning.log();
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        runtime.block_on(self.keep(helper))
    }

    /// A command of the line takes the place of `cmd`, which would be a second one.
    fn take_command(&self, helper: &mut Helper) -> Result<(), CommandError> {
        let hooks = &mut helper.job.hooks;
        if let Some((program, arguments)) = self.command.split_first() {
            if hooks.command.is_some() || !helper.daemon_mode {
                let text =
                    "a command can be run behind -- only with daemon_mode, and where the file has no cmd";
                return Err(CommandError::new(text));
            }
            hooks.command = Some((program.clone(), arguments.to_vec()));
        } else if !helper.daemon_mode {
            *hooks = HookSettings::default();
        }
        Ok(())
    }

    async fn keep(&self, helper: Helper) -> Result<u8, CommandError> {
        let supervisor = Supervisor::new();
        let is_job = !self.command.is_empty();
        let mode = match (is_job, helper.daemon_mode) {
            (true, _) => Mode::Job(forward(&supervisor)?),
            (false, true) => Mode::Daemon,
            (false, false) => Mode::Once,
        };
        if !is_job {
            supervisor.stop_on_signals()?;
        }
        let source = WorkloadApi {
            socket: self.endpoint(helper.agent_address.as_deref())?,
            choice: helper.job.choice.clone(),
            clock: Arc::new(SystemClock),
        };
        let status = Status::of(&helper.job);
        if helper.daemon_mode
            && let Some(checks) = helper.health_checks
        {
            serve(checks, status.clone(), &supervisor).await?;
        }
        let keeper = Keeper::new(helper.job, source, Arc::new(SystemClock), status, is_job);
        let stopping = supervisor.token();
        let ended = tokio::select! {
            ended = keeper.run(mode) => ended,
            () = stopping.cancelled() => Ok(Ended::Written),
        };
        supervisor.shutdown();
        match ended {
            Ok(Ended::Written) => Ok(0),
            Ok(Ended::Command(status)) => Ok(code(status)),
            Ok(Ended::Signal(signal)) => Ok(u8::try_from(128 + signal as i32).unwrap_or(u8::MAX)),
            Err(error) => {
                let cause = &error as &dyn Error;
                tracing::error!(error = cause, "Unable to keep the files");
                Err(CommandError::chain(&error))
            }
        }
    }

    /// The flag, else the file, else the environment of SPIFFE clients, else what the other commands take.
    fn endpoint(&self, configured: Option<&str>) -> Result<PathBuf, CommandError> {
        let environment = std::env::var(ENDPOINT).ok().filter(|value| !value.is_empty());
        let address = configured.map(str::to_owned).or(environment);
        if self.socket.is_given() {
            return self.socket.resolve(&SOCKET, |name| std::env::var(name).ok());
        }
        match address {
            Some(address) => {
                let path = address.strip_prefix("unix:").unwrap_or(&address);
                let path = path.strip_prefix("//").unwrap_or(path);
                Ok(PathBuf::from(path))
            }
            None => self.socket.resolve(&SOCKET, |name| std::env::var(name).ok()),
        }
    }
}

/// The status that a shell would show.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX)
}

/// Receives signals for the command. Those of a terminal reach it anyway.
fn forward(supervisor: &Supervisor) -> std::io::Result<mpsc::Receiver<Signal>> {
    let (sender, receiver) = mpsc::channel(8);
    let terminal = std::io::stdin().is_terminal();
    for forwarded in [
        Signal::SIGTERM,
        Signal::SIGHUP,
        Signal::SIGUSR1,
        Signal::SIGUSR2,
        Signal::SIGINT,
        Signal::SIGQUIT,
    ] {
        let mut received = signal(SignalKind::from_raw(forwarded as i32))?;
        let of_terminal = terminal && matches!(forwarded, Signal::SIGINT | Signal::SIGQUIT);
        let sender = sender.clone();
        supervisor.spawn("signals", async move {
            while received.recv().await.is_some() {
                // Nobody receives them any more when the command has ended.
                if !of_terminal && sender.send(forwarded).await.is_err() {
                    break;
                }
            }
            Ok::<(), std::convert::Infallible>(())
        });
    }
    Ok(receiver)
}

/// Probes as spiffe-helper answers them.
async fn serve(
    mut checks: HealthChecks,
    status: Status,
    supervisor: &Supervisor,
) -> Result<(), CommandError> {
    let find = move |probe| {
        let well = match probe {
            Probe::Live => status.is_live(),
            Probe::Ready => status.is_ready(),
        };
        let (code, word) = if well {
            ("200 OK", "OK")
        } else {
            ("503 Service Unavailable", "Service Unavailable")
        };
        Answer {
            status: code,
            body: json!({ "status": word, "health": status.to_json() }),
        }
    };
    let port = checks.bind_port;
    let served = serve_probes(checks.clone(), find.clone(), supervisor).await;
    let served = match served {
        // A host without IPv6.
        Err(_) if checks.bind_address == "::" => {
            checks.bind_address = "0.0.0.0".to_owned();
            serve_probes(checks, find, supervisor).await
        }
        served => served,
    };
    let failed = |error: std::io::Error| {
        CommandError::from(error).context(format_args!("unable to serve health checks on port {port}"))
    };
    served.map(drop).map_err(failed)
}
