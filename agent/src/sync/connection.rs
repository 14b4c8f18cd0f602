//! Connections to the server: TLS with the agent's SVID or without, the server judged by the bundle of the moment.

use std::fmt;
use std::sync::Arc;

use credence_crypto::x509::X509SvidKey;
use credence_identity::{Bundle, SpiffeId, TrustDomain};
use credence_runtime::clock::Clock;
use credence_runtime::grpc::{ConnectError, connect_tls_lazy};
use credence_runtime::tls::{
    BundleLookup, KeyExchange, RecordedChain, TlsError, client_config, client_config_that_trusts_anyone,
};
use tokio::sync::watch;
use tonic::transport::Channel;

use super::contact::ServerAddress;

/// Why no connection can be set up: the configuration is at fault.
#[derive(Debug, thiserror::Error)]
pub enum ConnectionError {
    /// TLS can't be configured.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The address is none.
    #[error(transparent)]
    Connect(#[from] ConnectError),
}

/// A way to the server.
pub(crate) trait Connect: fmt::Debug + Send + Sync {
    /// A channel that shows this SVID whenever it connects, or nothing.
    fn channel(&self, svid: Option<Arc<X509SvidKey>>) -> Result<Channel, ConnectionError>;
}

/// The way over the network. Each channel connects with its first call, and anew by itself when the connection is lost.
#[derive(Debug, Clone)]
pub(crate) struct Connector {
    pub(crate) address: ServerAddress,
    pub(crate) trust_domain: TrustDomain,
    /// By which the server is judged, at each handshake.
    pub(crate) bundle: watch::Receiver<Arc<Bundle>>,
    pub(crate) clock: Arc<dyn Clock>,
    /// What is agreed to with the server.
    pub(crate) key_exchange: KeyExchange,
}

impl Connect for Connector {
    fn channel(&self, svid: Option<Arc<X509SvidKey>>) -> Result<Channel, ConnectionError> {
        let expected = SpiffeId::server(&self.trust_domain);
        let bundle = self.bundle.clone();
        let bundles: BundleLookup =
            Arc::new(move |name| Some(bundle.borrow().clone()).filter(|bundle| bundle.trust_domain == *name));
        let config = client_config(
            svid.map(|svid| watch::channel(svid).1),
            expected,
            bundles,
            self.clock.clone(),
            self.key_exchange,
        )?;
        Ok(connect_tls_lazy(&self.address.host, self.address.port, config)?)
    }
}

/// A channel to whoever answers, for the very first contact under `insecure_bootstrap`.
pub(crate) fn channel_to_anyone(
    address: &ServerAddress,
    key_exchange: KeyExchange,
) -> Result<(Channel, RecordedChain), ConnectionError> {
    let (config, recorded) = client_config_that_trusts_anyone(key_exchange)?;
    Ok((connect_tls_lazy(&address.host, address.port, config)?, recorded))
}
