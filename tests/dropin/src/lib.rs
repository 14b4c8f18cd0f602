//! What the tests of `tests/` share that put our programs and SPIRE's beside each other, or in each other's place.
//!
//! [`Programs`] is a server and an agent of one make, [`Site`] a trust domain whose parts may be of either, from the same
//! configuration files. Only here stands how the two are started: a test says which make it wants, never how.
//!
//! Invariant: SPIRE's programs come unmodified from the folder that `SPIRE_BIN_DIR` names. Without it a test says loudly
//! that it was skipped; with it, a program that isn't there fails the test.
#![expect(
    clippy::expect_used,
    clippy::panic,
    reason = "test support: a failed expectation must stop the test"
)]

mod certificates;
pub mod differential;
mod programs;
pub mod report;
mod served;
mod site;

pub use certificates::NodeCertificates;
pub use programs::{Make, Programs, spire};
pub use served::{ServedJwt, ServedX509};
pub use site::{Site, said};
