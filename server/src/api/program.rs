//! Which program a local caller runs, for those policies and audit logs that ask.
//!
//! Owns the pinning of the process that connected. Invariant: a path that is told is the program of that very process:
//! the one it ran when it connected, and still runs.

use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{getsockopt, sockopt};
use tokio::net::UnixStream;

/// The process at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Program {
    pid: i32,
    pin: Pin,
    path: PathBuf,
}

#[derive(Debug)]
enum Pin {
    Process(OwnedFd),
    /// Where the kernel (before 6.5) has no such descriptor: the moment at which the process was started.
    Started(String),
}

impl Program {
    /// The program of the process that connected; none where the process can't be seen, as from another pid namespace.
    pub(crate) fn of(stream: &UnixStream) -> Option<Self> {
        let pid = stream.peer_cred().ok()?.pid().filter(|pid| *pid > 0)?;
        let pin = match getsockopt(stream, sockopt::PeerPidfd) {
            Ok(descriptor) => Pin::Process(descriptor),
            Err(_) => Pin::Started(started(pid)?),
        };
        let program = Self {
            pid,
            pin,
            path: executable(pid)?,
        };
        program.runs().then_some(program)
    }

    /// Its path. None once the process has ended, or runs another program than when it connected: that other one may
    /// have said nothing of what was read.
    pub(crate) fn path(&self) -> Option<String> {
        let same = executable(self.pid)? == self.path && self.runs();
        same.then(|| self.path.display().to_string())
    }

    fn runs(&self) -> bool {
        match &self.pin {
            Pin::Process(descriptor) => {
                let mut watched = [PollFd::new(descriptor.as_fd(), PollFlags::POLLIN)];
                // Readable once the process has ended.
                matches!(poll(&mut watched, PollTimeout::ZERO), Ok(0))
            }
            Pin::Started(then) => started(self.pid).as_ref() == Some(then),
        }
    }
}

fn executable(pid: i32) -> Option<PathBuf> {
    fs::read_link(format!("/proc/{pid}/exe")).ok()
}

/// The 22nd field; the second, the name, may hold anything.
fn started(pid: i32) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, behind_name) = stat.rsplit_once(')')?;
    behind_name.split_whitespace().nth(19).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn this_program_is_seen_through_a_socket() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let program = Program::of(&ours).unwrap();
        let own = std::env::current_exe().unwrap();
        assert_eq!(program.path(), Some(own.display().to_string()));
        drop(theirs);
        let other = Program {
            pid: program.pid,
            pin: Pin::Started(started(program.pid).unwrap()),
            path: PathBuf::from("/bin/other"),
        };
        assert!(other.runs());
        assert_eq!(other.path(), None, "it runs another program by now");
        let gone = Program {
            pin: Pin::Started("0".to_owned()),
            path: own,
            ..other
        };
        assert_eq!(gone.path(), None, "its number is another's by now");
    }
}
