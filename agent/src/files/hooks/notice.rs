//! Telling a process that we didn't start, and a URL.

use std::fs::{self, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use credence_runtime::backoff::Backoff;
use nix::fcntl::OFlag;
use nix::sys::signal::Signal;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::time::sleep;

use crate::files::owner::Owner;

/// How often a notice is tried; then the next renewal has to do.
const ATTEMPTS: usize = 10;
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// What a URL may take.
const DEADLINE: Duration = Duration::from_secs(10);
/// A pid file has no more bytes.
const PID_FILE: u64 = 64;

/// What is to be told.
#[derive(Debug)]
pub(super) struct Notice {
    pub(super) pid_file: Option<(PathBuf, Signal)>,
    pub(super) url: Option<String>,
    pub(super) owner: Owner,
}

impl Notice {
    pub(super) fn is_any(&self) -> bool {
        self.pid_file.is_some() || self.url.is_some()
    }

    /// Tells both, each until it worked or ten times. Cancel safe.
    pub(super) async fn give(self) {
        let signal = async {
            if let Some((file, signal)) = &self.pid_file {
                let send = || signal_by_file(file.clone(), *signal, self.owner.clone());
                again_and_again("signal the process of the pid file", send).await;
            }
        };
        let call = async {
            if let Some(url) = &self.url {
                again_and_again("call the URL", || post(url)).await;
            }
        };
        tokio::join!(signal, call);
    }
}

async fn again_and_again<F: Future<Output = Result<(), String>>>(what: &str, attempt: impl Fn() -> F) {
    let mut backoff = Backoff::new(FIRST_DELAY, LONGEST_DELAY);
    for _ in 1..ATTEMPTS {
        match attempt().await {
            Ok(()) => return,
            Err(error) => tracing::debug!(error, "Unable to {what}; trying again"),
        }
        sleep(backoff.next_delay()).await;
    }
    if let Err(error) = attempt().await {
        tracing::error!(error, "Unable to {what}");
    }
}

async fn post(url: &str) -> Result<(), String> {
    let client = reqwest::Client::builder()
        .timeout(DEADLINE)
        .redirect(reqwest::redirect::Policy::none());
    let client = client.build().map_err(|error| error.to_string())?;
    let answered = client.post(url).send().await;
    let answered = answered.map_err(|error| {
        let error = error.without_url();
        let cause = std::error::Error::source(&error).map(ToString::to_string);
        format!("{error}: {}", cause.unwrap_or_default())
    })?;
    if answered.status().is_success() {
        tracing::info!(status = answered.status().as_u16(), "Called the URL");
        Ok(())
    } else {
        Err(format!("the answer was {}", answered.status()))
    }
}

async fn signal_by_file(file: PathBuf, signal: Signal, owner: Owner) -> Result<(), String> {
    let sent = tokio::task::spawn_blocking(move || send(&file, signal, &owner)).await;
    let pid = sent.map_err(|error| error.to_string())??;
    tracing::info!(pid, %signal, "Signalled process");
    Ok(())
}

fn send(file: &Path, signal: Signal, owner: &Owner) -> Result<i32, String> {
    let path = file.display();
    let read = owner
        .acting(|| read_small(file))
        .map_err(|error| error.to_string())?;
    let text = read.map_err(|error| format!("failed to read pid file {path}: {error}"))?;
    // Not 0 and no negative number: those would name whole groups of processes.
    let number = text
        .trim()
        .parse()
        .ok()
        .filter(|pid| *pid > 0)
        .and_then(Pid::from_raw);
    let pid = number.ok_or_else(|| format!("failed to parse pid file {path}"))?;
    let number = pid.as_raw_nonzero().get();
    let failed = |error: io::Error| format!("failed to signal process {number}: {error}");
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|errno| failed(errno.into()))?;
    if !owner.is_this_process() && !owner.uid().is_root() {
        let uid = fs::metadata(format!("/proc/{number}")).map_err(failed)?.uid();
        if uid != owner.uid().as_raw() {
            return Err(format!(
                "process {number} is of uid {uid}, not of the owner of the files"
            ));
        }
    }
    let signal = rustix::process::Signal::from_named_raw(signal as i32);
    let signal = signal.ok_or_else(|| "no such signal".to_owned())?;
    // If the number went to another process after the look above, this names the one that has ended.
    pidfd_send_signal(&process, signal).map_err(|errno| failed(errno.into()))?;
    Ok(number)
}

/// A regular file's text; a pipe would wait for ever.
fn read_small(path: &Path) -> io::Result<String> {
    let mut file = OpenOptions::new()
        .read(true)
        .custom_flags(OFlag::O_NONBLOCK.bits())
        .open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::other("not a regular file"));
    }
    let mut text = String::new();
    Read::by_ref(&mut file).take(PID_FILE).read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pid_file_that_names_no_process_signals_nobody() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pid");
        let send = |text: &str| {
            fs::write(&file, text).unwrap();
            send(&file, Signal::SIGCONT, &Owner::this_process())
        };
        for text in ["", "0", "-1", "x", "4194305000", "1 2"] {
            assert!(send(text).is_err(), "{text:?}");
        }
        let own = std::process::id().to_string();
        assert_eq!(send(&format!(" {own}\n")).unwrap().to_string(), own);
        assert!(send_to(folder.path()).unwrap_err().contains("not a regular file"));
    }

    fn send_to(path: &Path) -> Result<i32, String> {
        send(path, Signal::SIGCONT, &Owner::this_process())
    }

    /// A root agent must not be led to signal the processes of others by whoever owns the files.
    #[test]
    fn a_process_of_another_user_is_not_signalled() {
        if !nix::unistd::geteuid().is_root() {
            return;
        }
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let file = folder.path().join("pid");
        fs::write(&file, std::process::id().to_string()).unwrap();
        let error = send(&file, Signal::SIGTERM, &Owner::parse("4000000000:7").unwrap()).unwrap_err();
        assert!(error.contains("is of uid 0, not of the owner"), "{error}");
    }
}
