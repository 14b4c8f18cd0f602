//! What the operator says about the first contact with the server, and about beginning anew.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::Url;

/// As SPIRE's.
const DEFAULT_REBOOTSTRAP_DELAY: Duration = Duration::from_secs(600);

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerAddress {
    /// Name or address.
    pub host: String,
    /// TCP port.
    pub port: u16,
}

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
    Url(Url, BundleFormat),
    /// An http URL that a service on a Unix socket answers; it is told who asks for what.
    Socket {
        /// The URL, without the parameters that are added.
        url: Url,
        /// The socket.
        socket: PathBuf,
        /// The form of the answer.
        format: BundleFormat,
    },
    /// The Workload API on this Unix socket: that of another agent.
    WorkloadApi(PathBuf),
    /// Whoever answers first is believed.
    Insecure,
}

/// When to bootstrap again, because the server shows a certificate of an authority that isn't in the bundle.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rebootstrap {
    /// Whether at all.
    pub mode: RebootstrapMode,
    /// How long that is borne first.
    pub delay: Duration,
}

/// Whether to bootstrap again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RebootstrapMode {
    /// No: what was last good is kept.
    #[default]
    Never,
    /// If the server lets this node attest again.
    Auto,
    /// Yes; an agent that couldn't attest again doesn't start.
    Always,
}

impl Default for Rebootstrap {
    fn default() -> Self {
        Self {
            mode: RebootstrapMode::Never,
            delay: DEFAULT_REBOOTSTRAP_DELAY,
        }
    }
}
