//! How many files and connections this process may have open.
//!
//! Owns the one wish of a program at its start; the system's administrator has the last word.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Allows this process as many descriptors as the system lets it have. The usual soft limit of 1,024 is kept low for
/// programs that use `select`; a server or an agent would shut the 1,025th connection out.
pub fn raise_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE).and_then(|(now, most)| {
        if now == most {
            return Ok(());
        }
        setrlimit(Resource::RLIMIT_NOFILE, most, most)
    });
    if let Err(error) = raised {
        tracing::warn!(%error, "Unable to raise the limit of open files");
    }
}
