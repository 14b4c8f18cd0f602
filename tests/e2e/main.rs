//! The built binary, run as its users run it: processes, sockets, files, and clients that we did not write.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::too_many_lines,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test, and real processes run on real time"
)]

mod agent_admin;
mod clients;
mod clock;
mod crowd;
mod dev;
mod endpoints;
mod envoy;
mod explain;
mod faults;
mod feature_store;
mod federation;
mod files;
mod first_contact;
mod forced_rotation;
mod golden;
mod image;
mod istio;
mod mtls;
mod node_certificate;
mod promtool;
mod reconfigured;
mod refusals;
mod rotation;
mod suites;

/// The binary under test.
const CREDENCE: &str = env!("CARGO_BIN_EXE_credence");

/// Where set-ups that tests share are kept between runs.
fn cache() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_TARGET_TMPDIR"))
}

/// Standard output and standard error of a finished command, for messages of failed assertions.
fn said(output: &std::process::Output) -> String {
    format!(
        "{}{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}
