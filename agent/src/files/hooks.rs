//! Who is told of new files: a command, a process, a URL.
//!
//! The command runs as the owner of the files and without a shell; another user's command gets none of this process's
//! environment. A process is signalled only if it is the owner's, whatever a pid file says. Invariant: what doesn't
//! answer holds up nothing, and a newer renewal takes the place of a notice that is still being tried.

mod notice;

use std::ffi::OsStr;
use std::future::pending;
use std::io;
use std::pin::Pin;
use std::process::{ExitStatus, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

use super::job::{HookSettings, Job};
use super::owner::Owner;
use notice::Notice;

/// Where programs of other users are looked for.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The hooks of a job, and what of them is under way.
pub(crate) struct Hooks {
    settings: HookSettings,
    owner: Owner,
    /// Whether the command is the purpose of it all: started once, when everything is written.
    is_job: bool,
    child: Option<Child>,
    started: bool,
    notice: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl Hooks {
    pub(crate) fn new(job: &Job, is_job: bool) -> Self {
        Self {
            settings: job.hooks.clone(),
            owner: job.target.owner.clone(),
            is_job,
            child: None,
            started: false,
            notice: None,
        }
    }

    /// Tells everybody; returns at once.
    pub(crate) fn renewed(&mut self) {
        if self.child.is_some() {
            if let Some(signal) = self.settings.signal {
                self.pass_on(signal);
            }
        } else if !self.is_job {
            drop(self.start());
        }
        let notice = Notice {
            pid_file: self.settings.pid_file.clone().zip(self.settings.signal),
            url: self.settings.url.clone(),
            owner: self.owner.clone(),
        };
        self.notice = notice.is_any().then(|| Box::pin(notice.give()) as _);
    }

    /// Starts the command, unless it was already.
    ///
    /// # Errors
    /// What the system says; it is in the log.
    pub(crate) fn start_once(&mut self) -> io::Result<()> {
        if self.started { Ok(()) } else { self.start() }
    }

    /// Sends the command a signal, if it runs.
    pub(crate) fn pass_on(&self, signal: Signal) -> bool {
        // It hasn't been reaped, so the number is still its own.
        let pid = self.child.as_ref().and_then(Child::id);
        let Some(pid) = pid.and_then(|pid| i32::try_from(pid).ok()) else {
            return false;
        };
        if let Err(errno) = kill(Pid::from_raw(pid), signal) {
            tracing::error!(error = %errno, pid, %signal, "Unable to signal process");
        }
        true
    }

    /// Drives what is under way; returns when the command has ended. Cancel safe.
    pub(crate) async fn progress(&mut self) -> ExitStatus {
        let (child, notice) = (&mut self.child, &mut self.notice);
        let ended = async {
            match child {
                Some(child) => child.wait().await,
                None => pending().await,
            }
        };
        let told = async {
            if let Some(giving) = notice {
                giving.await;
            }
            *notice = None;
            pending::<()>().await;
        };
        let ended = tokio::select! {
            ended = ended => ended,
            () = told => return pending().await,
        };
        self.child = None;
        match ended {
            Ok(status) => status,
            Err(error) => {
                tracing::error!(%error, "Unable to wait for the command");
                pending().await
            }
        }
    }

    fn start(&mut self) -> io::Result<()> {
        let Some((program, arguments)) = &self.settings.command else {
            return Ok(());
        };
        let mut command = Command::new(program);
        command.args(arguments);
        if !self.owner.is_this_process() {
            // The standard library drops all other groups along with root's rights.
            command
                .uid(self.owner.uid().as_raw())
                .gid(self.owner.gid().as_raw());
        }
        if !self.settings.inherit {
            isolate(&mut command, &self.owner);
        }
        let spawned = command.spawn();
        match spawned {
            Ok(child) => {
                tracing::debug!(pid = child.id(), command = %program.display(), "Started command");
                self.child = Some(child);
                self.started = true;
                Ok(())
            }
            Err(error) => {
                tracing::error!(%error, command = %program.display(), "Unable to start command");
                Err(error)
            }
        }
    }
}

/// Nothing of the agent's environment, input and folder.
fn isolate(command: &mut Command, owner: &Owner) {
    command
        .env_clear()
        .env("PATH", PATH)
        .current_dir("/")
        .stdin(Stdio::null());
    if let Some((name, home)) = owner.account() {
        let name = OsStr::new(name);
        command.env("USER", name).env("LOGNAME", name).env("HOME", home);
    }
}
