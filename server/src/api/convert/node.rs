//! Attested nodes on the wire.

use credence_proto::spire::api::types;

use super::{id_to_proto, selector_to_proto};
use crate::store::Node;

/// The mask of a request that has none: everything.
pub(crate) const ALL: types::AgentMask = types::AgentMask {
    attestation_type: true,
    x509svid_serial_number: true,
    x509svid_expires_at: true,
    selectors: true,
    banned: true,
    can_reattest: true,
    agent_version: true,
};

/// The node on the wire, with its ID and what the mask asks for.
pub(crate) fn to_proto(node: &Node, mask: &types::AgentMask) -> types::Agent {
    let when = |asked: bool, text: &str| if asked { text.to_owned() } else { String::new() };
    types::Agent {
        id: Some(id_to_proto(&node.id)),
        attestation_type: when(mask.attestation_type, &node.attestation_type),
        x509svid_serial_number: when(mask.x509svid_serial_number, &node.serial),
        x509svid_expires_at: if mask.x509svid_expires_at {
            node.not_after.unix_seconds()
        } else {
            0
        },
        selectors: if mask.selectors {
            node.selectors.iter().map(selector_to_proto).collect()
        } else {
            Vec::new()
        },
        banned: mask.banned && node.is_banned(),
        can_reattest: mask.can_reattest && node.can_reattest,
        agent_version: when(mask.agent_version, &node.agent_version),
    }
}
