//! The reasons why a caller got no certificate for its own key, each with its fix.

use std::fmt;

use credence_identity::SpiffeId;
use credence_identity::diagnosis::Cause;

use super::refusal::Asker;

/// Why a caller got no certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CertificateCause {
    /// It may ask for its own identity only, and asked for another's.
    NotImpersonator { caller: Asker, wanted: SpiffeId },
    /// No entry of this agent has the identity.
    NotHeld(SpiffeId),
    /// Something else, in words.
    Failed(String),
}

impl fmt::Display for CertificateCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotImpersonator { caller, wanted } => {
                write!(
                    f,
                    "{caller} may ask for its own identity only, and asked for {wanted}"
                )
            }
            Self::NotHeld(wanted) => write!(f, "no entry that this agent holds has the identity {wanted}"),
            Self::Failed(why) => write!(f, "the certificate could not be had: {why}"),
        }
    }
}

impl Cause for CertificateCause {
    fn code(&self) -> &'static str {
        match self {
            Self::NotImpersonator { .. } => "not-impersonator",
            Self::NotHeld(_) => "identity-not-held",
            Self::Failed(_) => "certificate-failed",
        }
    }

    fn fix(&self) -> String {
        match self {
            Self::NotImpersonator { .. } => "if it is to have certificates for others, add its SPIFFE ID to \
                 `impersonators` in the agent's `istio` block"
                .to_owned(),
            Self::NotHeld(wanted) => format!(
                "register it below this agent (`server entry create -parentID … -spiffeID {wanted}`), or ask the agent \
                 of the node that has it"
            ),
            Self::Failed(_) => "see to the reason; the caller may try again then".to_owned(),
        }
    }
}
