//! Between protobuf messages and the types of `credence-identity`.
//!
//! Owns both directions and the texts of what is wrong with a message, which are SPIRE's where it has them. Nothing
//! here looks at the registry: what is checked is a message alone.
//!
//! Invariant: what comes out of a `from_proto` holds for good; no service checks it again.

use credence_identity::{Selector, SelectorError, SpiffeId, SpiffeIdError, TrustDomain};
use credence_proto::spire::api::types;

pub(crate) mod bundle;
pub(crate) mod dns;
pub(crate) mod entry;
pub(crate) mod federation;
pub(crate) mod node;
pub(crate) mod svid;

/// What is wrong with an ID in a message.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum IdFault {
    #[error("request must specify SPIFFE ID")]
    Missing,
    #[error(transparent)]
    Malformed(#[from] SpiffeIdError),
    #[error("\"{id}\" is not a member of trust domain \"{trust_domain}\"")]
    Foreign { id: SpiffeId, trust_domain: TrustDomain },
    #[error("\"{id}\" is not a member of trust domain \"{trust_domain}\"; path is empty")]
    NoMemberPath { id: SpiffeId, trust_domain: TrustDomain },
    #[error("\"{id}\" is not a workload in trust domain \"{trust_domain}\"; path is empty")]
    NoWorkloadPath { id: SpiffeId, trust_domain: TrustDomain },
    #[error(
        "\"{id}\" is not a workload in trust domain \"{trust_domain}\"; path is in the reserved namespace"
    )]
    Reserved { id: SpiffeId, trust_domain: TrustDomain },
    #[error(
        "\"{id}\" is not an agent in trust domain \"{trust_domain}\"; path is not in the agent namespace"
    )]
    NoAgent { id: SpiffeId, trust_domain: TrustDomain },
    #[error("\"{id}\" is not an agent in trust domain \"{trust_domain}\"; path is empty")]
    NoAgentPath { id: SpiffeId, trust_domain: TrustDomain },
}

/// An ID on the wire.
pub(crate) fn id_to_proto(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain_name().to_owned(),
        path: id.path().to_owned(),
    }
}

/// Any ID. The trust domain may be written `spiffe://name`.
pub(crate) fn id_from_proto(id: Option<&types::Spiffeid>) -> Result<SpiffeId, IdFault> {
    let id = id.ok_or(IdFault::Missing)?;
    let trust_domain = TrustDomain::parse_lenient(&id.trust_domain)?;
    Ok(SpiffeId::from_path(&trust_domain, &id.path)?)
}

/// An ID with a path within `own`, reserved or not: what may be a parent.
pub(crate) fn member_id_from_proto(
    own: &TrustDomain,
    id: Option<&types::Spiffeid>,
) -> Result<SpiffeId, IdFault> {
    let id = own_id(own, id_from_proto(id)?)?;
    match id.path() {
        "" => Err(IdFault::NoMemberPath {
            id,
            trust_domain: own.clone(),
        }),
        _ => Ok(id),
    }
}

/// An ID that a workload may have.
pub(crate) fn workload_id_from_proto(
    own: &TrustDomain,
    id: Option<&types::Spiffeid>,
) -> Result<SpiffeId, IdFault> {
    workload_id(own, id_from_proto(id)?)
}

/// Checks that a workload may have this ID: a member of `own` with a path that isn't reserved.
pub(crate) fn workload_id(own: &TrustDomain, id: SpiffeId) -> Result<SpiffeId, IdFault> {
    let id = own_id(own, id)?;
    if id.path().is_empty() {
        Err(IdFault::NoWorkloadPath {
            id,
            trust_domain: own.clone(),
        })
    } else if id.is_reserved() {
        Err(IdFault::Reserved {
            id,
            trust_domain: own.clone(),
        })
    } else {
        Ok(id)
    }
}

/// An ID of an agent of `own`.
pub(crate) fn agent_id_from_proto(
    own: &TrustDomain,
    id: Option<&types::Spiffeid>,
) -> Result<SpiffeId, IdFault> {
    let id = own_id(own, id_from_proto(id)?)?;
    if id.is_agent() {
        Ok(id)
    } else if id.path().is_empty() {
        Err(IdFault::NoAgentPath {
            id,
            trust_domain: own.clone(),
        })
    } else {
        Err(IdFault::NoAgent {
            id,
            trust_domain: own.clone(),
        })
    }
}

fn own_id(own: &TrustDomain, id: SpiffeId) -> Result<SpiffeId, IdFault> {
    if id.is_member_of(own) {
        Ok(id)
    } else {
        Err(IdFault::Foreign {
            id,
            trust_domain: own.clone(),
        })
    }
}

/// A selector on the wire.
pub(crate) fn selector_to_proto(selector: &Selector) -> types::Selector {
    types::Selector {
        r#type: selector.selector_type().to_owned(),
        value: selector.value().to_owned(),
    }
}

/// Selectors in the order of the message; the first bad one is the fault.
pub(crate) fn selectors_from_proto(selectors: &[types::Selector]) -> Result<Vec<Selector>, SelectorError> {
    selectors
        .iter()
        .map(|selector| Selector::new(&selector.r#type, &selector.value))
        .collect()
}
