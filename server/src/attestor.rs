//! Node attestation, the server's half.
//!
//! Owns what proves a node. It never creates one: an attestor yields an [`AttestedNode`], and the Agent service admits
//! it. Join tokens, which are spent in a transaction, stand apart from the rest.
//!
//! Invariant: an [`AttestedNode`] names an agent of the own trust domain, in the namespace of its attestor.

pub mod join_token;
pub mod x509pop;

use std::fmt::Debug;
use std::net::IpAddr;
use std::sync::Arc;

use credence_identity::{Selector, SpiffeId};

/// What an attestor found out about a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttestedNode {
    /// The agent's ID.
    pub id: SpiffeId,
    /// Properties of the node, for aliases.
    pub selectors: Vec<Selector>,
    /// Whether it may prove itself again later.
    pub can_reattest: bool,
}

/// Why a node wasn't attested. The text goes to the caller.
#[derive(Debug, thiserror::Error)]
pub enum AttestError {
    /// What the agent sent can't be read.
    #[error("{0}")]
    Malformed(String),
    /// What the agent sent proves nothing.
    #[error("{0}")]
    Denied(String),
    /// The attestor itself failed.
    #[error("{0}")]
    Internal(String),
}

/// What comes next in an attestation.
#[derive(Debug)]
pub enum Step {
    /// The agent must answer this.
    Challenge {
        /// What the agent gets.
        challenge: Vec<u8>,
        /// What judges its answer.
        then: Box<dyn Challenger>,
    },
    /// Proved.
    Attested(AttestedNode),
}

/// Judges the answer to one challenge.
pub trait Challenger: Debug + Send + Sync {
    /// The step after this answer.
    ///
    /// # Errors
    ///
    /// [`AttestError`], which ends the attestation.
    fn answered(self: Box<Self>, response: &[u8]) -> Result<Step, AttestError>;
}

/// Proves nodes of one type. It computes only: what needs the network has no place here yet.
pub trait NodeAttestor: Debug + Send + Sync {
    /// The type by which an agent asks for it, and the type of its selectors.
    fn name(&self) -> &'static str;

    /// The first step after the agent's attestation data; `client` is the address it comes from, unknown on the Unix
    /// socket.
    ///
    /// # Errors
    ///
    /// [`AttestError`], which ends the attestation.
    fn attest(&self, payload: &[u8], client: Option<IpAddr>) -> Result<Step, AttestError>;
}

/// The configured attestors.
#[derive(Debug, Clone, Default)]
pub struct Attestors(Vec<Arc<dyn NodeAttestor>>);

impl Attestors {
    /// The attestors of a server.
    pub fn new(attestors: Vec<Arc<dyn NodeAttestor>>) -> Self {
        Self(attestors)
    }

    /// The attestor of a type.
    pub fn named(&self, name: &str) -> Option<&Arc<dyn NodeAttestor>> {
        self.0.iter().find(|attestor| attestor.name() == name)
    }
}
