//! Join tokens: the agent shows a secret that the server gave out before.
//!
//! Owns which token admits whom. It spends none: that happens in the transaction that creates the node.

use credence_identity::{SpiffeId, SpiffeIdError, Timestamp, TrustDomain};

use crate::registry::State;

/// The attestation type.
pub const TYPE: &str = "join_token";

/// Why a token admits nobody. The texts are SPIRE's, which its users' scripts look for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum JoinTokenError {
    /// Never created, spent, or expired long ago.
    #[error("join token does not exist or has already been used")]
    Unknown,
    /// Not spent in time.
    #[error("join token expired")]
    Expired,
    /// The token's text can't be part of a SPIFFE ID.
    #[error("join token is no path segment of a SPIFFE ID")]
    NoPath(#[source] SpiffeIdError),
}

/// The ID of the agent that attests with this token.
///
/// # Errors
///
/// Where the token's text is no path segment.
pub fn agent_id(trust_domain: &TrustDomain, token: &str) -> Result<SpiffeId, SpiffeIdError> {
    SpiffeId::from_segments(trust_domain, ["spire", "agent", TYPE, token])
}

/// The agent that the token admits now.
///
/// # Errors
///
/// [`JoinTokenError`].
pub fn check(state: &State, token: &str, now: Timestamp) -> Result<SpiffeId, JoinTokenError> {
    let known = state.join_token(token).ok_or(JoinTokenError::Unknown)?;
    if now >= known.expires_at {
        return Err(JoinTokenError::Expired);
    }
    agent_id(state.trust_domain(), token).map_err(JoinTokenError::NoPath)
}
