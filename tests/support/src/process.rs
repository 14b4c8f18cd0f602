//! A program under test: its log goes to a file, and it dies with its handle.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// A running program.
#[derive(Debug)]
pub struct Process {
    child: Child,
    log: PathBuf,
    /// Where in the log this run began: a restarted program appends to the same file.
    from: u64,
}

impl Process {
    /// Starts `command` with both outputs appended to `log`.
    #[must_use]
    pub fn spawn(mut command: Command, log: &Path) -> Self {
        let file: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("open the log");
        let from = file.metadata().expect("stat the log").len();
        let errors = file.try_clone().expect("clone the log");
        let child = command
            .stdin(Stdio::null())
            .stdout(file)
            .stderr(errors)
            .spawn()
            .expect("start the program");
        Self {
            child,
            log: log.to_owned(),
            from,
        }
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What this run has logged so far.
    #[must_use]
    pub fn output(&self) -> String {
        tail(&self.log, self.from)
    }

    /// Waits until `text` stands `times` times in this run's log; panics with the log after 30 s or if the program ends.
    pub fn wait_for_line(&mut self, text: &str, times: usize) {
        let (log, from) = (self.log.clone(), self.from);
        self.wait_for(&format!("{text:?} in the log"), || {
            tail(&log, from).matches(text).count() >= times
        });
    }

    /// Looks every 10 ms until `done`; panics with the log after 30 s or if the program ends.
    pub fn wait_for(&mut self, what: &str, mut done: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !done() {
            if let Some(status) = self.child.try_wait().expect("look at the program") {
                panic!("ended with {status}, waited for {what}:\n{}", self.output());
            }
            assert!(
                Instant::now() < deadline,
                "no {what} within 30 s:\n{}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// True while the program runs.
    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("look at the program").is_none()
    }

    /// Waits up to `limit` for the program to end by itself.
    pub fn wait(&mut self, limit: Duration) -> ExitStatus {
        let deadline = Instant::now() + limit;
        loop {
            if let Some(status) = self.child.try_wait().expect("look at the program") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "still running after {limit:?}:\n{}",
                self.output()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends `signal`.
    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid fits in 32 bits");
        kill(Pid::from_raw(pid), signal).expect("signal the program");
    }

    /// Asks the program to stop, as an init system does, and returns how it ended.
    pub fn stop(mut self) -> ExitStatus {
        self.signal(Signal::SIGTERM);
        self.wait(Duration::from_secs(10))
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.child.kill().expect("kill the program");
        self.child.wait().expect("reap the program");
    }
}

/// The part of a log that was written after its first `from` bytes.
fn tail(log: &Path, from: u64) -> String {
    let all = std::fs::read(log).unwrap_or_default();
    let from = usize::try_from(from).expect("a log fits in memory");
    String::from_utf8_lossy(all.get(from..).unwrap_or_default()).into_owned()
}

impl Drop for Process {
    fn drop(&mut self) {
        // The process may have ended already; a test that fails must not leave it behind.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Looks every 10 ms until `done` answers, for at most `limit`.
///
/// # Panics
/// When the limit passes, with `what`.
pub fn wait_until<T>(what: &str, limit: Duration, mut done: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = done() {
            return value;
        }
        assert!(Instant::now() < deadline, "not within {limit:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
