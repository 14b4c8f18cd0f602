//! The account of a full run: `docs/drop-in-results.md`.

use std::collections::BTreeMap;
use std::fmt::{self, Display};
use std::fs;
use std::path::Path;
use std::sync::Mutex;

use time::OffsetDateTime;

use crate::Programs;

/// What one test found.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    /// Steps that were compared, or checks that were made.
    pub compared: usize,
    /// Those of them in which a listed difference stood.
    pub differing: usize,
}

impl Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} steps, {} with listed differences",
            self.compared, self.differing
        )
    }
}

/// The tests that make up a full run.
const FULL: &[&str] = &[
    "attestation: our server",
    "attestation: our agent",
    "renewal and restarts: our server",
    "renewal and restarts: our agent",
    "taint: our server",
    "taint: our agent",
    "log lines",
    "agent's files, our server",
    "agent's files, SPIRE's server",
    "records taken over",
    "live datastore",
    "replaced and put back (mTLS calls)",
    "mesh of 20 pairs (mTLS calls)",
    "SPIRE's command line at our server: command_authority",
    "SPIRE's command line at our server: command_entry",
    "SPIRE's command line at our server: command_other",
    "our command line at SPIRE's server: command_authority",
    "our command line at SPIRE's server: command_entry",
    "our command line at SPIRE's server: command_other",
    "differential: agent",
    "differential: audit",
    "differential: authority",
    "differential: bundle",
    "differential: callers",
    "differential: command_authority",
    "differential: command_entry",
    "differential: command_other",
    "differential: config_nojwt",
    "differential: config_p384",
    "differential: config_rsa",
    "differential: delegate",
    "differential: entry",
    "differential: metrics",
    "differential: sds",
    "differential: svid",
    "differential: trustdomain",
    "differential: validate_agent",
    "differential: validate_server",
    "differential: wit",
    "differential: workload",
    "differential: x509pop",
];

static PASSED: Mutex<BTreeMap<String, Counts>> = Mutex::new(BTreeMap::new());

/// Notes that `test` passed beside SPIRE. The last one of a full run writes the table.
///
/// # Panics
/// If `test` isn't known here, or the table can't be written.
pub fn passed(test: &str, counts: Counts, spire: &Programs) {
    assert!(FULL.contains(&test), "{test} isn't part of a full run");
    let mut passed = PASSED.lock().expect("no test panicked here");
    passed.insert(test.to_owned(), counts);
    if passed.len() < FULL.len() {
        return;
    }
    let mut text = String::from(
        "# Beside SPIRE\n\nWritten by the last full run of `cargo test -p credence --test dropin` with SPIRE's programs \
         (`SPIRE_BIN_DIR`).\n\n",
    );
    let date = OffsetDateTime::now_utc().date();
    text.push_str(&format!("SPIRE {}, {date}.\n\n", spire.version()));
    text.push_str("| Test | Steps | With a difference on purpose |\n|---|---:|---:|\n");
    for test in FULL {
        let Counts { compared, differing } = passed.get(*test).copied().unwrap_or_default();
        text.push_str(&format!(
            "| {test} | {compared} | {differing} |
"
        ));
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/drop-in-results.md");
    fs::write(path, text).expect("write the results");
}
