//! Calls of workloads that were refused of late.
//!
//! Owns what is remembered of a refusal. Never a token. Invariant: what is kept has a bound, in number and in bytes.

use credence_identity::{SelectorSet, SpiffeId, Timestamp};
use credence_runtime::refusals;

/// Bytes kept of a text that a caller may have had a part in.
const LONGEST_TEXT: usize = 1024;
/// Selectors kept of a caller: a user may be in tens of thousands of groups.
const MOST_SELECTORS: usize = 256;

/// The refusals of this agent, by the user who was refused.
pub type Refusals = refusals::Refusals<u32, Refusal>;

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
    /// The caller's process.
    pub pid: i32,
    /// Its user when it connected.
    pub uid: u32,
    /// What the caller was told.
    pub message: String,
    /// Its selectors, if it came to that.
    pub selectors: Option<SelectorSet>,
    /// How far it came.
    pub stage: Stage,
}

impl Refusal {
    /// The same with everything cut to its bound.
    #[must_use]
    pub fn bounded(mut self) -> Self {
        self.message = cut(&self.message);
        self.stage = match self.stage {
            Stage::Attestation(why) => Stage::Attestation(cut(&why)),
            Stage::Jwt(why) => Stage::Jwt(cut(&why)),
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
            pid: 1,
            uid: 1,
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
