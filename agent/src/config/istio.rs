//! The agent's `istio` block: Istio's certificate signing service. It is on if the block is there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use credence_identity::{SpiffeId, SpiffeIdError, TrustDomain};
use credence_runtime::config::{Section, UnknownKeys};

use crate::api::istio::{DEFAULT_PORT, IstioOptions};

/// `trust_domain` is that of the agent, if it could be read.
pub(super) fn read(agent: &Section<'_>, trust_domain: Option<&TrustDomain>) -> Option<IstioOptions> {
    let block = agent.block("istio")?;
    let address = block.parsed::<IpAddr>("bind_address");
    let port = block.number::<u16>("bind_port").unwrap_or(DEFAULT_PORT);
    let parse = |text: &str| -> Result<SpiffeId, String> {
        let id = identity(text, trust_domain).map_err(|error| error.to_string())?;
        match trust_domain.is_none_or(|ours| id.is_member_of(ours)) {
            true => Ok(id),
            false => Err("is not a member of the agent's trust domain".to_owned()),
        }
    };
    let spiffe_id = block.string("spiffe_id").and_then(|text| {
        let parsed =
            parse(&text).map_err(|fault| block.fault("spiffe_id", format_args!("{text:?}: {fault}")));
        parsed.ok()
    });
    let mut impersonators = BTreeSet::new();
    for text in block.strings("impersonators") {
        match parse(&text.value) {
            Ok(id) => drop(impersonators.insert(id)),
            Err(fault) => {
                let message = format!("impersonators: {:?}: {fault}", text.value);
                agent.report().fault(text.place, message);
            }
        }
    }
    block.finish(UnknownKeys::Fatal);
    Some(IstioOptions {
        bind: SocketAddr::new(address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)), port),
        spiffe_id,
        impersonators,
    })
}

/// A SPIFFE ID, or `NAMESPACE/SERVICEACCOUNT` as istiod's CA_TRUSTED_NODE_ACCOUNTS has it.
fn identity(text: &str, trust_domain: Option<&TrustDomain>) -> Result<SpiffeId, SpiffeIdError> {
    match (text.split_once('/'), trust_domain) {
        (Some((namespace, account)), Some(ours)) if !text.contains(':') => {
            SpiffeId::from_segments(ours, ["ns", namespace, "sa", account])
        }
        _ => SpiffeId::parse(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tests::{assert_fault, read};

    fn id(path: &str) -> SpiffeId {
        SpiffeId::parse(&format!("spiffe://example.org{path}")).unwrap()
    }

    #[test]
    fn the_block_switches_it_on_and_its_keys_are_read() {
        let (config, warnings) = read("istio {}").unwrap();
        assert_eq!(warnings, [""; 0]);
        let quiet = IstioOptions {
            bind: "127.0.0.1:15012".parse().unwrap(),
            spiffe_id: None,
            impersonators: BTreeSet::new(),
        };
        assert_eq!(config.istio, Some(quiet));
        let (config, _) = read(
            r#"istio { bind_address = "::" bind_port = "0" spiffe_id = "istio-system/credence-agent"
            impersonators = ["istio-system/ztunnel", "spiffe://example.org/proxy"] }"#,
        )
        .unwrap();
        let full = IstioOptions {
            bind: "[::]:0".parse().unwrap(),
            spiffe_id: Some(id("/ns/istio-system/sa/credence-agent")),
            impersonators: [id("/ns/istio-system/sa/ztunnel"), id("/proxy")].into(),
        };
        assert_eq!(config.istio, Some(full));
    }

    #[test]
    fn whoever_might_be_let_in_by_mistake_is_a_fault() {
        for (keys, part) in [
            (
                "impersonators = [\"spiffe://other.org/x\"]",
                "is not a member of the agent's trust domain",
            ),
            ("impersonators = [\"ztunnel\"]", "\"ztunnel\": "),
            ("impersonators = [\"a/b/c\"]", "\"a/b/c\": "),
            ("impersonators = [\"/ztunnel\"]", "\"/ztunnel\": "),
            ("impersonators = [\"spiffe://example.org/*\"]", "impersonators"),
            ("impersonator = []", "impersonator"),
            (
                "spiffe_id = \"spiffe://other.org/x\"",
                "is not a member of the agent's trust domain",
            ),
            ("bind_address = \"node\"", "bind_address"),
            ("bind_port = 65536", "bind_port"),
        ] {
            assert_fault(&read(&format!("istio {{ {keys} }}")), part);
        }
    }
}
