//! The figures of `tests/bench/README.md`: load on the real binary as a process of its own, and what one operation
//! costs that process in CPU time, beside the raw cost of the same cryptography in the same run.
//!
//! `just bench` runs all; `just bench --only issuance` one group. Nothing here is a test: a figure that is missed is
//! reported, not asserted.
#![expect(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program that prints its results"
)]
#![expect(
    clippy::disallowed_methods,
    reason = "a load program measures real time on real tasks"
)]

mod agent;
mod entries;
mod field;
mod idle;
mod issuance;
mod latency;
mod meter;
mod node;
mod options;
mod raw;
mod report;
mod streams;

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Parser;

/// Measures a release build of `credence`.
#[derive(Debug, Parser)]
struct Arguments {
    /// The binary to measure.
    #[arg(long, default_value = "target/release/credence")]
    binary: PathBuf,
    /// Groups to run, all by default: issuance, options, entries, idle, agent, streams.
    #[arg(long)]
    only: Vec<String>,
    /// Seconds of load per figure.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Entries of the large registry.
    #[arg(long, default_value_t = 100_000)]
    entries: usize,
    /// Agents connected at once.
    #[arg(long, default_value_t = 1_000)]
    agents: usize,
}

impl Arguments {
    fn wants(&self, group: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|only| only == group)
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let binary = arguments
        .binary
        .canonicalize()
        .context("build it first: cargo build --release")?;
    let raw = raw::measure()?;
    let mut report = report::Report::new(&raw);
    if arguments.wants("issuance") {
        issuance::measure(&binary, &arguments, &raw, &mut report).await?;
    }
    if arguments.wants("options") {
        options::measure(&binary, &arguments, &mut report).await?;
    }
    if arguments.wants("entries") {
        entries::measure(&binary, &arguments, &mut report).await?;
    }
    if arguments.wants("idle") {
        idle::measure(&binary, &arguments, &mut report).await?;
    }
    if arguments.wants("agent") {
        agent::measure(&binary, &arguments, &mut report).await?;
    }
    if arguments.wants("streams") {
        streams::measure(&binary, &arguments, &mut report).await?;
    }
    report.print();
    Ok(())
}
