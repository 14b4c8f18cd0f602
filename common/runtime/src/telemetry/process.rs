//! What the system says about this process.
//!
//! Owns the `process_*` metrics that every Prometheus client has, and the `runtime.*` ones that SPIRE takes from Go, as far
//! as they mean something here. What can't be read is left out.

use std::convert::Infallible;
use std::fmt::Write as _;
use std::fs;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval};

use super::Shared;
use crate::supervisor::Supervisor;

/// How often gauges are set that nobody sets by himself, as SPIRE does.
const EVERY: Duration = Duration::from_secs(10);

/// Sets the gauges of the process until shutdown.
pub(super) fn report(shared: Arc<Shared>, supervisor: &Supervisor) {
    supervisor.spawn("process-metrics", set_all(shared));
}

async fn set_all(shared: Arc<Shared>) -> Result<(), Infallible> {
    let began = Instant::now();
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        set(&shared, began.elapsed());
    }
}

fn set(shared: &Shared, uptime: Duration) {
    let set = |key, value| shared.recorder.gauge(key, value, &[]);
    set("uptime_in_ms", super::call::milliseconds(uptime).floor());
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    set("runtime.num_goroutines", float(tasks));
    if let Some(memory) = Memory::read() {
        set("runtime.alloc_bytes", memory.anonymous);
        set("runtime.sys_bytes", memory.resident);
    }
    shared.poll();
}

/// The process's own page of the metrics: those that have no prefix.
pub(super) fn page(out: &mut String) {
    let mut metric = |name: &str, kind: &str, help: &str, value: Option<f64>| {
        if let Some(value) = value {
            // A string can be written to.
            write!(
                out,
                "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}\n"
            )
            .unwrap_or_default();
        }
    };
    let memory = Memory::read();
    let stat = Stat::read();
    metric(
        "process_cpu_seconds_total",
        "counter",
        "Total user and system CPU time spent in seconds.",
        stat.as_ref().map(|stat| stat.cpu_seconds),
    );
    metric(
        "process_max_fds",
        "gauge",
        "Maximum number of open file descriptors.",
        limit("Max open files"),
    );
    let traffic = Traffic::read();
    metric(
        "process_network_receive_bytes_total",
        "counter",
        "Number of bytes received by the process over the network.",
        traffic.as_ref().map(|traffic| traffic.received),
    );
    metric(
        "process_network_transmit_bytes_total",
        "counter",
        "Number of bytes sent by the process over the network.",
        traffic.map(|traffic| traffic.sent),
    );
    metric(
        "process_open_fds",
        "gauge",
        "Number of open file descriptors.",
        fs::read_dir("/proc/self/fd").ok().map(|all| float(all.count())),
    );
    metric(
        "process_resident_memory_bytes",
        "gauge",
        "Resident memory size in bytes.",
        memory.as_ref().map(|memory| memory.resident),
    );
    metric(
        "process_start_time_seconds",
        "gauge",
        "Start time of the process since unix epoch in seconds.",
        stat.and_then(|stat| stat.started_at),
    );
    metric(
        "process_virtual_memory_bytes",
        "gauge",
        "Virtual memory size in bytes.",
        memory.map(|memory| memory.virtual_size),
    );
    metric(
        "process_virtual_memory_max_bytes",
        "gauge",
        "Maximum amount of virtual memory available in bytes.",
        limit("Max address space"),
    );
}

/// Bytes.
struct Memory {
    anonymous: f64,
    resident: f64,
    virtual_size: f64,
}

impl Memory {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/status").ok()?;
        let bytes = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            let kilobytes: f64 = line.split_whitespace().next()?.parse().ok()?;
            Some(kilobytes * 1024.0)
        };
        Some(Self {
            anonymous: bytes("RssAnon:")?,
            resident: bytes("VmRSS:")?,
            virtual_size: bytes("VmSize:")?,
        })
    }
}

struct Stat {
    cpu_seconds: f64,
    started_at: Option<f64>,
}

impl Stat {
    /// Linux counts in hundredths of a second on every architecture this runs on.
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/stat").ok()?;
        // The name of the program may hold anything but is in parentheses; after it comes field 3.
        let (_, rest) = text.rsplit_once(')')?;
        let field = |number: usize| rest.split_whitespace().nth(number - 3)?.parse::<f64>().ok();
        let started = field(22)? / 100.0;
        Some(Self {
            cpu_seconds: (field(14)? + field(15)?) / 100.0,
            started_at: booted().map(|booted| booted + started),
        })
    }
}

fn booted() -> Option<f64> {
    let text = fs::read_to_string("/proc/stat").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("btime "))?;
    line.trim().parse().ok()
}

/// The soft limit of that name. None at all is shown as Prometheus's own client shows it.
fn limit(name: &str) -> Option<f64> {
    let text = fs::read_to_string("/proc/self/limits").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    match line.split_whitespace().next()? {
        "unlimited" => Some(18_446_744_073_709_551_615.0),
        number => number.parse().ok(),
    }
}

/// Bytes of the network namespace, which is what every Prometheus client takes for the process's.
struct Traffic {
    received: f64,
    sent: f64,
}

impl Traffic {
    fn read() -> Option<Self> {
        let text = fs::read_to_string("/proc/self/net/netstat").ok()?;
        let mut rows = text.lines().filter_map(|line| line.strip_prefix("IpExt:"));
        let (names, values) = (rows.next()?, rows.next()?);
        let value = |wanted: &str| {
            let mut both = names.split_whitespace().zip(values.split_whitespace());
            both.find(|(name, _)| *name == wanted)?.1.parse().ok()
        };
        Some(Self {
            received: value("InOctets")?,
            sent: value("OutOctets")?,
        })
    }
}

#[expect(clippy::cast_precision_loss, reason = "there are never 2^53 of them")]
fn float(count: usize) -> f64 {
    count as f64
}
