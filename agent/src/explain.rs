//! Why a workload got no identity.
//!
//! Owns what is remembered for the answer. Never serves a workload: a caller learns no more than its status says.

pub mod refusal;

pub use refusal::{Refusal, Refusals, Stage};
