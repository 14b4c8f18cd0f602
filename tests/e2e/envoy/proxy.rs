//! A running Envoy, and what the outside sees of it.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::thread::{JoinHandle, sleep, spawn};
use std::time::Duration;

use credence_test_support::{Process, wait_until};

use super::config::Config;

/// Free ports, below those that the system gives to connections: an Envoy is to listen on them after others have come
/// and gone.
pub(super) fn ports<const N: usize>() -> [u16; N] {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    [(); N].map(|()| {
        loop {
            // Other test programs begin elsewhere.
            let begin = u16::try_from(std::process::id() % 100).expect("it is small") * 100;
            let port = 20_000 + (begin + NEXT.fetch_add(1, Ordering::Relaxed)) % 12_000;
            if TcpListener::bind(("127.0.0.1", port)).is_ok() {
                return port;
            }
        }
    })
}

/// The status and the body that a path on that port answers.
pub(super) fn get(port: u16, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.unwrap_or(0), body.to_owned()))
}

/// Whether a call by that port gets its answer; what is said instead.
pub(super) fn call(port: u16) -> Result<(), String> {
    match get(port, "/") {
        Ok((200, body)) if body.contains("hello") => Ok(()),
        other => Err(format!("{other:?}")),
    }
}

/// An Envoy.
pub(super) struct Envoy {
    process: Process,
    admin: u16,
}

impl Envoy {
    /// Starts it, without waiting for its secrets.
    pub(super) fn start(program: &Path, folder: &Path, name: &str, make: impl FnOnce(u16) -> Config) -> Self {
        let [admin] = ports();
        let path = folder.join(format!("{name}.json"));
        fs::write(&path, make(admin).build().to_string()).expect("write the configuration");
        let mut command = Command::new(program);
        command
            .arg("-c")
            .arg(&path)
            .args(["--use-dynamic-base-id", "--concurrency", "1", "-l", "warning"]);
        Self {
            process: Process::spawn(command, &folder.join(format!("{name}.log"))),
            admin,
        }
    }

    /// Waits until it takes calls.
    pub(super) fn ready(mut self) -> Self {
        let admin = self.admin;
        self.process.wait_for("Envoy to be ready", || {
            get(admin, "/ready").is_ok_and(|(status, _)| status == 200)
        });
        self
    }

    /// A figure of a secret.
    pub(super) fn stat(&self, secret: &str, figure: &str) -> String {
        // A name of few figures, so that the answer is one piece.
        let (_, text) = get(self.admin, &format!("/stats?filter={figure}$")).expect("ask Envoy");
        let name = format!("sds.{}.{figure}: ", secret.replace("://", "_"));
        let value = text.lines().find_map(|line| line.strip_prefix(&name));
        value.unwrap_or_default().trim().to_owned()
    }

    /// How often a secret was taken over.
    pub(super) fn updates(&self, secret: &str) -> u64 {
        self.stat(secret, "update_success").parse().unwrap_or(0)
    }

    /// Waits for the secret to have been taken over more often than that.
    pub(super) fn wait_for_update(&self, secret: &str, before: u64, limit: Duration) {
        wait_until(&format!("a new {secret}"), limit, || {
            (self.updates(secret) > before).then_some(())
        });
    }

    /// The version of a secret that it has.
    pub(super) fn version(&self, secret: &str) -> String {
        self.stat(secret, "version_text")
    }
}

/// Calls by that port, one after the other, until they are counted.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    calling: JoinHandle<(usize, Vec<String>)>,
}

impl Load {
    pub(super) fn on(port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let told = stop.clone();
        let calling = spawn(move || {
            let (mut count, mut failures) = (0, Vec::new());
            while !told.load(Ordering::Relaxed) {
                count += 1;
                failures.extend(call(port).err());
                sleep(Duration::from_millis(5));
            }
            (count, failures)
        });
        Self { stop, calling }
    }

    /// Ends it: how many calls there were, none of which may have failed.
    pub(super) fn none_failed(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        let (count, failures) = self.calling.join().expect("the calls");
        assert!(
            failures.is_empty(),
            "{} of {count} failed: {failures:?}",
            failures.len()
        );
        count
    }
}
