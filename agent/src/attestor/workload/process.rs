//! A process, pinned: whatever becomes of its number, questions are about it or fail.
//!
//! A pidfd names the process for good; the start time does where the kernel has none. `exec` changes neither, so
//! neither says anything of the program. Invariant: once a process was seen to have ended it is never alive again.

use std::io;
use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UnixStream;

use super::procfs::ProcFs;

/// The process has ended, or its number belongs to another one now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("caller is no longer being watched: process has ended")]
pub struct Gone;

/// A process at the other end of a connection, as it was when it connected.
#[derive(Debug)]
pub struct Process {
    pid: i32,
    uid: u32,
    gid: u32,
    /// Absent when the process had ended before it could be pinned.
    start_time: Option<u64>,
    /// Absent on kernels without it.
    pidfd: Option<AsyncFd<OwnedFd>>,
    proc: ProcFs,
}

impl Process {
    /// Pins the process that connected. To be called as soon as the connection was accepted, in a tokio runtime.
    ///
    /// A process that ended meanwhile is no error: it is [`Gone`] on each question.
    ///
    /// # Errors
    /// What the system says when it names no process, or has no descriptor left.
    pub fn at_other_end(stream: &UnixStream, proc: &ProcFs) -> io::Result<Self> {
        let credentials = stream.peer_cred()?;
        let pid = credentials.pid().unwrap_or_default();
        let pidfd = match getsockopt(stream, sockopt::PeerPidfd) {
            Ok(pidfd) => Pin::Fd(pidfd),
            // Before Linux 6.5. Between connect and now the number may have passed to another process, which the
            // comparison of user and group on each attestation narrows down, as SPIRE does.
            Err(Errno::ENOPROTOOPT) => open_pidfd(pid)?,
            Err(full @ (Errno::EMFILE | Errno::ENFILE | Errno::ENOMEM)) => return Err(full.into()),
            Err(_) => Pin::Ended,
        };
        Self::pin(pid, credentials.uid(), credentials.gid(), pidfd, proc)
    }

    /// The process with this number now, which acts as this user and group.
    ///
    /// # Errors
    /// What the system says when it has no descriptor left.
    pub fn of_pid(pid: i32, uid: u32, gid: u32, proc: &ProcFs) -> io::Result<Self> {
        Self::pin(pid, uid, gid, open_pidfd(pid)?, proc)
    }

    /// This very process, which asks itself to see whether attestation works.
    ///
    /// # Errors
    /// What the system says when it has no descriptor left.
    pub fn own(proc: &ProcFs) -> io::Result<Self> {
        let pid = i32::try_from(std::process::id()).unwrap_or_default();
        let (uid, gid) = (nix::unistd::geteuid().as_raw(), nix::unistd::getegid().as_raw());
        Self::pin(pid, uid, gid, open_pidfd(pid)?, proc)
    }

    /// The process that has this number now. Whoever names it answers for its being the right one.
    ///
    /// # Errors
    /// What the system says when there is none, or when it has no descriptor left.
    pub fn with_pid(pid: i32, proc: &ProcFs) -> io::Result<Self> {
        if pid <= 0 {
            return Err(io::ErrorKind::NotFound.into());
        }
        let pin = open_pidfd(pid)?;
        let acts_as = proc.credentials(pid)?;
        Self::pin(pid, acts_as.uid, acts_as.gid, pin, proc)
    }

    fn pin(pid: i32, uid: u32, gid: u32, pin: Pin, proc: &ProcFs) -> io::Result<Self> {
        let (pidfd, ended) = match pin {
            Pin::Fd(fd) => (Some(watch(fd)?), false),
            Pin::Unknown => (None, false),
            Pin::Ended => (None, true),
        };
        // Number 0 is a process of a namespace that can't be seen from here.
        let start_time = (!ended && pid > 0).then(|| proc.start_time(pid).ok()).flatten();
        let mut process = Self {
            pid,
            uid,
            gid,
            start_time,
            pidfd,
            proc: proc.clone(),
        };
        if !process.is_running() {
            process.start_time = None;
        }
        Ok(process)
    }

    /// Its number. It may be another's by now: see [`Process::check`].
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// The effective user when it connected.
    pub fn uid(&self) -> u32 {
        self.uid
    }

    /// The effective group when it connected.
    pub fn gid(&self) -> u32 {
        self.gid
    }

    /// Whether the process runs and its number is still its own. What was read of `/proc` before this call, and after
    /// an earlier one, was about this process.
    ///
    /// # Errors
    /// [`Gone`] when it has ended.
    pub fn check(&self) -> Result<(), Gone> {
        let pinned = self.start_time.ok_or(Gone)?;
        let same = match &self.pidfd {
            Some(_) => self.is_running(),
            None => self.proc.start_time(self.pid).is_ok_and(|now| now == pinned),
        };
        if same { Ok(()) } else { Err(Gone) }
    }

    /// Whether the process runs, as [`Process::check`].
    pub fn is_alive(&self) -> bool {
        self.check().is_ok()
    }

    /// Waits for the end of the process; for ever where the kernel can't tell. Cancel safe.
    pub async fn ended(&self) {
        match &self.pidfd {
            _ if self.start_time.is_none() => {}
            Some(pidfd) => drop(pidfd.readable().await),
            None => std::future::pending().await,
        }
    }

    /// A pidfd is readable once its process has ended; true without one.
    fn is_running(&self) -> bool {
        let Some(pidfd) = &self.pidfd else { return true };
        let mut fds = [PollFd::new(pidfd.get_ref().as_fd(), PollFlags::POLLIN)];
        matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }
}

enum Pin {
    Fd(OwnedFd),
    Ended,
    /// The kernel can't say.
    Unknown,
}

#[expect(
    deprecated,
    reason = "its successor is unsafe; this descriptor is owned, and never replaced or closed"
)]
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    AsyncFd::with_interest(pidfd, Interest::READABLE)
}

fn open_pidfd(pid: i32) -> io::Result<Pin> {
    let Some(number) = Pid::from_raw(pid) else {
        return Ok(Pin::Ended);
    };
    match pidfd_open(number, PidfdFlags::empty()) {
        Ok(pidfd) => Ok(Pin::Fd(pidfd)),
        Err(rustix::io::Errno::SRCH) => Ok(Pin::Ended),
        // Before Linux 5.3, or forbidden.
        Err(rustix::io::Errno::NOSYS | rustix::io::Errno::PERM) => Ok(Pin::Unknown),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests;
