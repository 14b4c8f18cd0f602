//! Our programs beside SPIRE's and in their place: real processes of both makes, from the same configuration files.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a failed expectation is a failed test, and real processes run on real time"
)]

mod cross;
mod differential;
mod mesh;
#[path = "../../e2e/mtls.rs"]
mod mtls;
mod takeover;

use std::path::Path;

use credence_dropin::Programs;
use credence_dropin::report::{self, Counts};
use credence_test_support::counterparts;

/// Says that `test` ran beside SPIRE and made `compared` comparisons, for the record and for the table of a full run.
fn passed(test: &str, compared: usize, spire: &Programs) {
    let counts = Counts {
        compared,
        differing: 0,
    };
    counterparts::record(&format!("spire ({test})"), &format!("ran: {compared} checks"));
    report::passed(test, counts, spire);
}

/// Our programs, under SPIRE's names.
fn credence() -> Programs {
    static LINKED: std::sync::OnceLock<Programs> = std::sync::OnceLock::new();
    LINKED
        .get_or_init(|| {
            let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("dropin-bin");
            std::fs::create_dir_all(&folder).expect("make a folder");
            Programs::credence(env!("CARGO_BIN_EXE_credence"), &folder)
        })
        .clone()
}
