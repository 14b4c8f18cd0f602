//! Keys about the first contact with the server.

use std::path::PathBuf;

use credence_runtime::config::Section;

/// The form of a bundle file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum BundleFormat {
    /// Certificates one after the other.
    #[default]
    Pem,
    /// The document of SPIFFE Trust Domain and Bundle, section 4.
    Spiffe,
}

/// Where the first bundle comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BundleSource {
    /// A file.
    Path(PathBuf, BundleFormat),
    /// An https URL.
    Url(String, BundleFormat),
    /// Whoever answers first is believed.
    Insecure,
}

/// Exactly one source must be configured, as SPIRE has it.
pub(super) fn read(agent: &Section<'_>) -> Option<BundleSource> {
    rebootstrap(agent);
    agent.refused(&["trust_bundle_unix_socket", "trust_bundle_spiffe_workload_api"]);
    let format = match agent.string("trust_bundle_format").as_deref() {
        None | Some("pem") => BundleFormat::Pem,
        Some("spiffe") => BundleFormat::Spiffe,
        Some(_) => {
            agent.fault("trust_bundle_format", "must be \"pem\" or \"spiffe\"");
            BundleFormat::Pem
        }
    };
    let path = agent
        .string("trust_bundle_path")
        .map(|path| BundleSource::Path(path.into(), format));
    let url = agent.string("trust_bundle_url").map(|url| {
        if !url.starts_with("https://") {
            agent.fault("trust_bundle_url", "must begin with https://");
        }
        BundleSource::Url(url, format)
    });
    let insecure = agent
        .boolean("insecure_bootstrap")
        .unwrap_or(false)
        .then_some(BundleSource::Insecure);
    let mut sources = [path, url, insecure].into_iter().flatten();
    match (sources.next(), sources.next()) {
        (Some(source), None) => Some(source),
        (None, _) => {
            let message =
                "trust_bundle_path or trust_bundle_url must be configured unless insecure_bootstrap is set";
            agent.report().fault(agent.place().clone(), message);
            None
        }
        (Some(_), Some(_)) => {
            let message =
                "only one of trust_bundle_path, trust_bundle_url and insecure_bootstrap can be configured";
            agent.report().fault(agent.place().clone(), message);
            None
        }
    }
}

fn rebootstrap(agent: &Section<'_>) {
    agent.duration("rebootstrap_delay");
    match agent.string("rebootstrap_mode").as_deref() {
        None | Some("never") => {}
        Some("auto" | "always") => {
            agent.warn(
                "rebootstrap_mode",
                "this version never bootstraps again by itself: it keeps serving and trying instead",
            );
        }
        Some(_) => agent.fault("rebootstrap_mode", "must be \"never\", \"auto\" or \"always\""),
    }
}
