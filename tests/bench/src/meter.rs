//! What a process has used: CPU time and memory, as the kernel counts them.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// A process under load.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Meter {
    pid: u32,
}

/// What was used between two looks.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Used {
    pub(crate) cpu: Duration,
    pub(crate) wall: Duration,
}

impl Used {
    /// CPU time per operation, in microseconds.
    pub(crate) fn micros_per(self, operations: u64) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / operations.max(1) as f64
    }

    /// Share of one core, in percent.
    pub(crate) fn percent(self) -> f64 {
        100.0 * self.cpu.as_secs_f64() / self.wall.as_secs_f64()
    }
}

/// A moment in a process's life.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mark {
    cpu: Duration,
    at: Instant,
}

impl Meter {
    pub(crate) fn of(pid: u32) -> Self {
        Self { pid }
    }

    pub(crate) fn mark(self) -> Result<Mark> {
        Ok(Mark {
            cpu: self.cpu()?,
            at: Instant::now(),
        })
    }

    pub(crate) fn since(self, mark: Mark) -> Result<Used> {
        Ok(Used {
            cpu: self.cpu()?.saturating_sub(mark.cpu),
            wall: mark.at.elapsed(),
        })
    }

    /// User and system time of all threads, those that ended included; the kernel's clock ticks are 10 ms.
    fn cpu(self) -> Result<Duration> {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", self.pid)).context("the process is gone")?;
        let (_, rest) = stat.rsplit_once(')').context("no command in stat")?;
        let field = |n: usize| {
            rest.split_whitespace()
                .nth(n)
                .and_then(|text| text.parse::<u64>().ok())
        };
        let (user, system) = field(11).zip(field(12)).context("no times in stat")?;
        Ok(Duration::from_millis(10 * (user + system)))
    }

    /// Resident memory in MiB.
    pub(crate) fn resident(self) -> Result<f64> {
        self.status("VmRSS:")
    }

    /// The most resident memory so far, in MiB.
    pub(crate) fn peak(self) -> Result<f64> {
        self.status("VmHWM:")
    }

    fn status(self, name: &str) -> Result<f64> {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.pid)).context("the process is gone")?;
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .context("no such line in status")?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }
}
