//! Where documents come from: what the agent holds, or the Workload API.

use std::collections::BTreeMap;

use credence_identity::Timestamp;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::material::Material;

/// Something new.
#[derive(Debug)]
pub(crate) enum Event {
    /// The X.509-SVID or a bundle beside it.
    X509(Box<Material>),
    /// The JWT bundles: JWK Sets by the name of the trust domain.
    JwtBundles(BTreeMap<String, String>),
}

/// What a source is asked for.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Wants {
    /// Events about the X.509-SVID.
    pub(crate) x509: bool,
    /// Events about JWT bundles.
    pub(crate) jwt: bool,
    /// Whether a failure is the end, rather than tried again.
    pub(crate) once: bool,
}

/// A JWT-SVID: a bearer secret.
pub(crate) struct Token {
    pub(crate) text: Zeroizing<String>,
    pub(crate) expires_at: Timestamp,
}

/// Why a source has nothing to say.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum SourceError {
    /// There is no such identity, or not yet.
    #[error("{0}")]
    NoIdentity(String),
    /// It may work later.
    #[error("{0}")]
    Failed(String),
    /// It will not work.
    #[error("{0}")]
    Hopeless(String),
}

/// A source of documents of one identity.
pub(crate) trait Source: Send + Sync + 'static {
    /// Sends what there is and each change of it, until it is dropped or the error is the end.
    fn watch(&self, wants: Wants, events: mpsc::Sender<Event>) -> impl Future<Output = SourceError> + Send;

    /// A JWT-SVID for these audiences.
    fn token(&self, audience: &[String]) -> impl Future<Output = Result<Token, SourceError>> + Send;
}
