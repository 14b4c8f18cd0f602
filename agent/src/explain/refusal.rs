//! Calls that were refused of late.
//!
//! Owns what is remembered of a refusal. Never a token. Invariant: what is kept has a bound, in number and in bytes.

use std::fmt;
use std::net::SocketAddr;

use credence_identity::{SelectorSet, SpiffeId, Timestamp};
use credence_runtime::grpc::RequestId;
use credence_runtime::refusals;

/// Bytes kept of a text that a caller may have had a part in.
const LONGEST_TEXT: usize = 1024;
/// Selectors kept of a caller: a user may be in tens of thousands of groups.
const MOST_SELECTORS: usize = 256;

/// The refusals of this agent, by whom they were said to.
pub type Refusals = refusals::Refusals<Owner, Refusal>;

/// Whose share of what is kept a refusal takes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Owner {
    /// A user of this host.
    User(u32),
    /// Whoever has that identity.
    Peer(SpiffeId),
}

/// Who was refused.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asker {
    /// A process of this host.
    Process {
        /// Its number.
        pid: i32,
        /// Its user when it connected.
        uid: u32,
    },
    /// Whoever showed an SVID over the network.
    Peer {
        /// Its identity.
        id: SpiffeId,
        /// Where it called from.
        address: SocketAddr,
    },
}

impl Asker {
    fn owner(&self) -> Owner {
        match self {
            Self::Process { uid, .. } => Owner::User(*uid),
            Self::Peer { id, .. } => Owner::Peer(id.clone()),
        }
    }
}

impl fmt::Display for Asker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { pid, uid } => write!(f, "process {pid} (uid {uid})"),
            Self::Peer { id, address } => write!(f, "{id} at {address}"),
        }
    }
}

/// How far a call came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stage {
    /// It lacked the security header, so no SPIFFE library made it.
    Header,
    /// What it asked makes no sense.
    Request,
    /// The caller couldn't be attested, for this reason.
    Attestation(String),
    /// No entry matched; this is the identity that was asked for, if one was.
    NoIdentity(Option<SpiffeId>),
    /// An entry matched, but the server hadn't signed for it.
    NotSigned,
    /// A JWT-SVID or WIT-SVID couldn't be had, for this reason.
    Jwt(String),
    /// The caller may ask for its own identity only, and asked for this one.
    NotImpersonator(SpiffeId),
    /// No entry that is held has the identity that was asked for.
    NotHeld(SpiffeId),
    /// A certificate for the caller's key couldn't be had, for this reason.
    Certificate(String),
    /// The agent was stopping.
    Stopping,
}

/// A call that was refused.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// When.
    pub at: Timestamp,
    /// The method's name.
    pub method: &'static str,
    /// The caller.
    pub asker: Asker,
    /// What the caller was told.
    pub message: String,
    /// Its selectors, if it came to that.
    pub selectors: Option<SelectorSet>,
    /// How far it came.
    pub stage: Stage,
}

impl Refusal {
    /// Keeps it among `refusals`, with everything cut to its bound.
    pub fn keep(self, refusals: &Refusals, id: RequestId) {
        refusals.put(id, self.asker.owner(), self.bounded());
    }

    fn bounded(mut self) -> Self {
        self.message = cut(&self.message);
        self.stage = match self.stage {
            Stage::Attestation(why) => Stage::Attestation(cut(&why)),
            Stage::Jwt(why) => Stage::Jwt(cut(&why)),
            Stage::Certificate(why) => Stage::Certificate(cut(&why)),
            other => other,
        };
        self.selectors = self.selectors.map(|selectors| {
            if selectors.len() <= MOST_SELECTORS {
                selectors
            } else {
                selectors.iter().take(MOST_SELECTORS).cloned().collect()
            }
        });
        self
    }
}

fn cut(text: &str) -> String {
    text.get(..text.floor_char_boundary(LONGEST_TEXT))
        .unwrap_or_default()
        .to_owned()
}

#[cfg(test)]
mod tests {
    use credence_identity::Selector;

    use super::*;

    #[test]
    fn a_caller_cannot_fill_the_memory() {
        let refusal = Refusal {
            at: Timestamp::EPOCH,
            method: "FetchJWTSVID",
            asker: Asker::Process { pid: 1, uid: 1 },
            message: "é".repeat(LONGEST_TEXT),
            selectors: Some(
                (0..10_000)
                    .map(|n| Selector::new("unix", &format!("supplementary_gid:{n}")).unwrap())
                    .collect(),
            ),
            stage: Stage::Jwt("x".repeat(100_000)),
        };
        let kept = refusal.bounded();
        assert_eq!(kept.message.len(), LONGEST_TEXT);
        assert_eq!(kept.selectors.unwrap().len(), MOST_SELECTORS);
        assert_eq!(kept.stage, Stage::Jwt("x".repeat(LONGEST_TEXT)));
    }
}
