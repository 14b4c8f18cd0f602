//! Keys about the first contact with the server, and about beginning anew when its authorities are unknown.

use std::path::Path;

use credence_runtime::config::Section;
use reqwest::Url;

use crate::sync::{BundleFormat, BundleSource, Rebootstrap, RebootstrapMode};

/// Exactly one source must be configured, as SPIRE has it.
pub(super) fn read(agent: &Section<'_>) -> (Option<BundleSource>, Rebootstrap) {
    let format = match agent.string("trust_bundle_format").as_deref() {
        None | Some("pem") => BundleFormat::Pem,
        Some("spiffe") => BundleFormat::Spiffe,
        Some(_) => {
            agent.fault("trust_bundle_format", "must be \"pem\" or \"spiffe\"");
            BundleFormat::Pem
        }
    };
    let path = agent.string("trust_bundle_path");
    let path = path.map(|path| BundleSource::Path(path.into(), format));
    let socket = agent.string("trust_bundle_unix_socket");
    let url = agent.string("trust_bundle_url");
    if socket.is_some() && url.is_none() {
        agent.fault("trust_bundle_unix_socket", "needs trust_bundle_url");
    }
    let url = url.map(|url| url_source(agent, &url, socket, format));
    let workload_api = agent.string("trust_bundle_spiffe_workload_api");
    let workload_api = workload_api.map(|address| workload_api_socket(agent, &address));
    let insecure = agent.boolean("insecure_bootstrap").unwrap_or(false);
    let given = [
        ("trust_bundle_path", path.is_some()),
        ("trust_bundle_url", url.is_some()),
        ("trust_bundle_spiffe_workload_api", workload_api.is_some()),
        ("insecure_bootstrap", insecure),
    ];
    let given: Vec<_> = given
        .into_iter()
        .filter_map(|(key, is_given)| is_given.then_some(key))
        .collect();
    if given.is_empty() {
        let message = "trust_bundle_path, trust_bundle_url, or trust_bundle_spiffe_workload_api must be configured \
                       unless insecure_bootstrap is set";
        agent.report().fault(agent.place().clone(), message);
    } else if given.len() > 1 {
        let message = format!("only one of {} can be configured", given.join(", "));
        agent.report().fault(agent.place().clone(), message);
    }
    let insecure_source = insecure.then_some(BundleSource::Insecure);
    let source = path
        .or(url.flatten())
        .or(workload_api.flatten())
        .or(insecure_source);
    (source, rebootstrap(agent, insecure))
}

fn url_source(
    agent: &Section<'_>,
    text: &str,
    socket: Option<String>,
    format: BundleFormat,
) -> Option<BundleSource> {
    const KEY: &str = "trust_bundle_url";
    let url = Url::parse(text);
    let url = url
        .map_err(|error| agent.fault(KEY, format_args!("is no URL: {error}")))
        .ok()?;
    let Some(socket) = socket else {
        if url.scheme() != "https" {
            agent.fault(KEY, "must begin with https://");
        }
        return Some(BundleSource::Url(url, format));
    };
    if url.scheme() != "http" {
        agent.fault(
            KEY,
            "must begin with http:// when used with trust_bundle_unix_socket",
        );
    }
    for prefix in ["spiffe-", "spire-"] {
        if url.query_pairs().any(|(key, _)| key.starts_with(prefix)) {
            agent.fault(
                KEY,
                format_args!("must not have query parameters that begin with {prefix}"),
            );
        }
    }
    Some(BundleSource::Socket {
        url,
        socket: socket.into(),
        format,
    })
}

/// The path of an address as SPIFFE Workload Endpoint, section 4 has it. What TCP carries in plain text proves nothing.
fn workload_api_socket(agent: &Section<'_>, address: &str) -> Option<BundleSource> {
    const KEY: &str = "trust_bundle_spiffe_workload_api";
    let path = address
        .strip_prefix("unix://")
        .filter(|path| Path::new(path).is_absolute());
    if path.is_none_or(|path| path.contains(['?', '#'])) {
        agent.fault(
            KEY,
            "must be the address of a Unix socket, such as unix:///run/agent.sock",
        );
        return None;
    }
    path.map(|path| BundleSource::WorkloadApi(path.into()))
}

fn rebootstrap(agent: &Section<'_>, insecure: bool) -> Rebootstrap {
    let defaults = Rebootstrap::default();
    let delay = agent.duration("rebootstrap_delay").unwrap_or(defaults.delay);
    let mode = match agent.string("rebootstrap_mode").as_deref() {
        None | Some("never") => RebootstrapMode::Never,
        Some("auto") => RebootstrapMode::Auto,
        Some("always") => RebootstrapMode::Always,
        Some(_) => {
            agent.fault("rebootstrap_mode", "must be \"never\", \"auto\" or \"always\"");
            RebootstrapMode::Never
        }
    };
    if insecure && mode != RebootstrapMode::Never {
        agent.report().fault(
            agent.place_of("rebootstrap_mode"),
            "insecure_bootstrap option can not be used with rebootstrapping",
        );
    }
    Rebootstrap { mode, delay }
}
