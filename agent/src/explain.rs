//! Why a workload got no identity.
//!
//! Owns what is remembered for the answer, and the answer. Never serves a workload: a caller learns no more than its
//! status says, and who may ask is who may open the agent's own socket. Invariant: looking changes nothing.

mod cause;
mod certificate;
mod failure;
mod journal;
mod judge;
mod node;
pub mod outside;
mod process;
mod refusal;
mod trouble;

pub use failure::LastFailure;
pub use journal::{Journal, Note, Notes};
pub use node::{Node, NothingKnown, Running};
pub(crate) use process::SocketFile;
pub use refusal::{Asker, Owner, Refusal, Refusals, Stage};
pub use trouble::{Trouble, TroubleKind};

pub(crate) use cause::Named;
pub(crate) use judge::Answer;

/// The name of the socket in the agent's data folder.
pub const SOCKET: &str = "explain.sock";
