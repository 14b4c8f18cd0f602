//! Istio's certificate signing service (`istio.v1.auth.IstioCertificateService`), on a TCP port of its own.
//!
//! Owns that port, and what its callers may ask for: their own identity, or, for the `impersonators` of the
//! configuration, any other that an entry of this agent has. Never makes, sees or keeps a private key, and decides
//! nothing of a certificate: the server does, by the entry. Invariant: a CSR goes to the server only if its caller proved
//! a live SVID of the own trust domain that entitles it to the identity asked for, and only under an entry that is held.

mod asked;
mod call;
mod connection;
mod service;
mod shown;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::X509SvidKey;
use credence_identity::{SpiffeId, TrustDomain};
use credence_proto::istio::v1::auth::istio_certificate_service_server::IstioCertificateServiceServer;
use credence_runtime::grpc::{TrustedProxies, accept_tls};
use credence_runtime::supervisor::Supervisor;
use credence_runtime::telemetry::{CountCalls, RpcCalls};
use credence_runtime::tls::{KeyExchange, TlsError, mutual_config};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tonic::transport::Server;

use super::{Ground, ServeError, patience};
use crate::sync::SignCsr;

use service::CertificateService;

/// The port that Istio's own authority has.
pub const DEFAULT_PORT: u16 = 15_012;

/// A request with an RSA-4096 key takes 4 KiB.
const LONGEST_REQUEST: usize = 64 * 1024;
/// Calls at a time on one connection: ztunnel asks for all pods of its node by one.
const MAX_CALLS: u32 = 128;
/// What a caller may send before it is read.
const WINDOW: u32 = 256 * 1024;
/// Then a caller has to show its SVID anew, and sees ours.
const MAX_AGE: Duration = Duration::from_secs(10 * 60);
const AGE_GRACE: Duration = Duration::from_secs(30);
/// When a silent caller is asked whether it is there, and how long it may take to say so.
const PING_AFTER: Duration = Duration::from_secs(60);
const PONG_WITHIN: Duration = Duration::from_secs(20);

/// The agent's `istio` block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IstioOptions {
    /// Where callers connect to.
    pub bind: SocketAddr,
    /// The entry whose SVID callers see, with its DNS names; the agent's own SVID if there is none.
    pub spiffe_id: Option<SpiffeId>,
    /// Who may ask for the identities of others.
    pub impersonators: BTreeSet<SpiffeId>,
}

/// What the service is made of.
#[derive(Debug)]
pub(crate) struct Istio {
    pub(crate) options: IstioOptions,
    pub(crate) ground: Arc<Ground>,
    pub(crate) signer: Arc<dyn SignCsr>,
    pub(crate) trust_domain: TrustDomain,
    /// The agent's own SVID.
    pub(crate) svid: watch::Receiver<Arc<X509SvidKey>>,
    pub(crate) key_exchange: KeyExchange,
}

impl Istio {
    /// Serves `listener` in tasks of the supervisor, until its shutdown.
    ///
    /// # Errors
    /// [`TlsError`], if the library refuses to be configured so.
    pub(crate) fn serve(self, listener: TcpListener, supervisor: &Supervisor) -> Result<(), TlsError> {
        let ground = self.ground;
        let shown = shown::follow(self.options.spiffe_id, &ground.cache, self.svid, supervisor);
        let cache = ground.cache.clone();
        let own = self.trust_domain.clone();
        // Foreign trust domains have no business here: nobody of theirs can be an impersonator, or have an entry.
        let bundles = Arc::new(move |name: &TrustDomain| (*name == own).then(|| cache.bundle()));
        let config = mutual_config(shown, bundles, ground.clock.clone(), self.key_exchange)?;
        let incoming = accept_tls(listener, config, TrustedProxies::default(), supervisor);
        let incoming = connection::seated(incoming);

        let methods = [("istio.v1.auth.IstioCertificateService", "CreateCertificate")];
        let calls = RpcCalls::new(ground.cache.telemetry(), methods);
        let shutdown = ground.shutdown.clone();
        let service =
            CertificateService::new(ground, self.signer, self.trust_domain, self.options.impersonators);
        let service = IstioCertificateServiceServer::new(service).max_decoding_message_size(LONGEST_REQUEST);
        supervisor.spawn_graceful("istio-ca", async move {
            let serving = Server::builder()
                .max_concurrent_streams(MAX_CALLS)
                .initial_stream_window_size(WINDOW)
                .initial_connection_window_size(WINDOW)
                .http2_keepalive_interval(Some(PING_AFTER))
                .http2_keepalive_timeout(Some(PONG_WITHIN))
                .max_connection_age(MAX_AGE)
                .max_connection_age_grace(AGE_GRACE)
                .layer(CountCalls(calls))
                .add_service(service)
                .serve_with_incoming_shutdown(incoming, shutdown.clone().cancelled_owned());
            tokio::select! {
                served = serving => served?,
                () = patience(&shutdown) => {}
            }
            Ok::<(), ServeError>(())
        });
        Ok(())
    }
}

#[cfg(test)]
mod tests;
