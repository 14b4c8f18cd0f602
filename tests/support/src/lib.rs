//! What tests share that drive the built binary as real processes, from the outside, as an operator would.
//!
//! [`Lab`] is one trust domain in a temporary folder; [`Process`] is one running program with its log; [`counterparts`]
//! sets up the clients, tools and servers that we did not write and keeps the record of which of them ran.
#![expect(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "test support: a failed expectation must stop the test, and real processes run on real time"
)]

pub mod arbitrary;
pub mod counterparts;
mod lab;
mod process;
pub mod raw;

pub use lab::{Lab, Settings};
pub use process::{Process, wait_until};
