//! The differential suite: one table of steps, executed on SPIRE's programs and on ours at the same time, and the
//! transcripts compared.
//!
//! A file of `steps/` is the table (`steps` has its grammar). Each step is a call, a command line or a configuration
//! file; its transcript is JSON in which identifiers, times, keys and certificates have been replaced by what may be
//! compared (`normal`). A difference that the file doesn't list fails; so does a listed one that no longer occurs, and
//! one whose reason isn't a line of `docs/differences-from-spire.md`.
//!
//! Invariant: both sides get the same bytes, but for values that a side itself gave before.

mod audit;
mod call;
mod cast;
mod command;
mod compare;
mod faults;
mod fixtures;
mod metrics;
mod normal;
mod profile;
mod prove;
mod side;
mod steps;
mod talk;
mod vary;

use std::fs;
use std::path::Path;

use credence_test_support::counterparts;

use crate::Programs;
use crate::report::{self, Counts};
use compare::Ledger;
use side::Side;

/// Executes the steps of `steps/NAME.steps` on both makes and compares.
///
/// # Panics
/// On differences that aren't listed, and on listed ones that didn't occur.
pub fn run(name: &str, spire: &Programs, credence: &Programs) {
    let counts = compared(name, spire, (credence, credence), true);
    finished(&format!("differential: {name}"), counts, spire);
}

/// Executes the steps with the command line of one make on the server and agent of the other, and compares with SPIRE's
/// on SPIRE's.
///
/// # Panics
/// On differences that aren't listed.
pub fn administer(name: &str, spire: &Programs, credence: &Programs) {
    let counts = compared(name, spire, (credence, spire), false);
    finished(
        &format!("SPIRE's command line at our server: {name}"),
        counts,
        spire,
    );
    let counts = compared(name, spire, (spire, credence), false);
    finished(
        &format!("our command line at SPIRE's server: {name}"),
        counts,
        spire,
    );
}

fn finished(test: &str, counts: Counts, spire: &Programs) {
    counterparts::record(&format!("spire ({test})"), &format!("ran: {counts}"));
    report::passed(test, counts, spire);
}

fn compared(name: &str, spire: &Programs, (servers, commands): (&Programs, &Programs), all: bool) -> Counts {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("steps")
        .join(format!("{name}.steps"));
    let text = fs::read_to_string(&path).expect("read the steps");
    let table = steps::parse(name, &text);
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("make a runtime");
    let ledger = runtime.block_on(async {
        let mut ledger = Ledger::new(&table);
        let mut theirs = Side::start(spire, spire, &table);
        let mut ours = Side::start(servers, commands, &table);
        tokio::join!(theirs.raise(), ours.raise());
        for group in &table.groups {
            for step in group.steps() {
                let (theirs_said, ours_said) = tokio::join!(theirs.execute(&step), ours.execute(&step));
                ledger.compare(group, &step, &theirs_said, &ours_said);
            }
        }
        ledger
    });
    ledger.close(all)
}
