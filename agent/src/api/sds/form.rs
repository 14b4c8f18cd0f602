//! In which form an Envoy gets what it verifies its peers by.

use credence_proto::envoy::config::core::v3::Node;
use credence_proto::envoy::config::core::v3::node::UserAgentVersionType;
use prost_types::value::Kind;

/// Key of a node's metadata that wins over the configuration, as SPIRE has it.
const DISABLE_VALIDATOR: &str = "disable_spiffe_cert_validation";

/// The form of a validation context.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// For Envoy's validator by SPIFFE ID: each trust domain's SVIDs against its own bundle.
    Spiffe,
    /// For Envoy's own validation: one list of authorities.
    TrustedCa,
}

impl Form {
    /// That for an Envoy that says this of itself; `disabled` is what the configuration says.
    pub(super) fn of(node: Option<&Node>, disabled: bool) -> Self {
        let disabled = node.and_then(said_in_metadata).unwrap_or(disabled);
        if disabled || node.is_some_and(is_too_old) {
            Self::TrustedCa
        } else {
            Self::Spiffe
        }
    }
}

/// What can't be read as a truth value says nothing.
fn said_in_metadata(node: &Node) -> Option<bool> {
    let value = node.metadata.as_ref()?.fields.get(DISABLE_VALIDATOR)?;
    match value.kind.as_ref()? {
        Kind::BoolValue(disabled) => Some(*disabled),
        Kind::StringValue(text) => match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => None,
        },
        _ => None,
    }
}

/// The validator came with 1.18. Whoever doesn't say its version is taken for newer.
fn is_too_old(node: &Node) -> bool {
    let Some(UserAgentVersionType::UserAgentBuildVersion(build)) = &node.user_agent_version_type else {
        return false;
    };
    build
        .version
        .as_ref()
        .is_some_and(|version| (version.major_number, version.minor_number) < (1, 18))
}
