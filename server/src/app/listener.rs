//! The two doors of the server: the TCP port and the Unix socket.
//!
//! Owns every connection's task; the TLS handshakes before them are the runtime's. Invariant: who a caller is was
//! decided before its first byte of HTTP/2 is read.

use std::collections::HashSet;
use std::convert::Infallible;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use credence_identity::{SpiffeId, TrustDomain};
use credence_runtime::grpc::authority::MendAuthority;
use credence_runtime::grpc::{ConnectInfo, TlsConnection};
use futures_util::{Stream, StreamExt};
use tokio::net::{UnixListener, UnixStream};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::connection::{self, Peer};
use super::strangers::Strangers;
use crate::api::{Caller, Program, Services};

/// How long to wait when no connection can be accepted: most likely there are too many.
const BREATHER: Duration = Duration::from_millis(100);

/// Which TLS callers are let in beside those of the own trust domain.
#[derive(Debug)]
pub(super) struct Guests {
    pub(super) trust_domain: TrustDomain,
    /// The only callers of other trust domains.
    pub(super) admin_ids: HashSet<SpiffeId>,
}

/// Serves TLS connections until `stop`, then waits for those there are to end.
pub(super) async fn serve_tcp(
    mut incoming: impl Stream<Item = io::Result<TlsConnection>> + Unpin,
    guests: Guests,
    services: Arc<Services>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut connections = JoinSet::new();
    let mut strangers = Strangers::default();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = incoming.next() => accepted,
        };
        match accepted {
            Some(Ok(stream)) => {
                if let Some(caller) = guests.caller(&stream) {
                    let services = Arc::clone(&services);
                    let stop = match caller {
                        Caller::Anonymous { .. } => strangers.join(&stop),
                        Caller::Peer { .. } | Caller::Local { .. } => stop.child_token(),
                    };
                    connections.spawn(async move {
                        let _gone = stop.clone().drop_guard();
                        connection::serve(stream, caller, services, stop).await;
                    });
                }
            }
            Some(Err(error)) => tracing::warn!(%error, "Unable to accept a connection"),
            None => break,
        }
    }
    while connections.join_next().await.is_some() {}
    Ok(())
}

/// Serves local connections until `stop`, then waits for those there are to end.
pub(super) async fn serve_unix(
    listener: UnixListener,
    services: Arc<Services>,
    stop: CancellationToken,
) -> Result<(), Infallible> {
    let mut connections = JoinSet::new();
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(_) = connections.join_next() => continue,
            accepted = listener.accept() => accepted,
        };
        match accepted.and_then(|(stream, _)| Ok((local_peer(&stream, &services)?, stream))) {
            Ok((peer, stream)) => {
                let stream = MendAuthority::new(stream);
                connections.spawn(connection::serve(
                    stream,
                    peer,
                    Arc::clone(&services),
                    stop.clone(),
                ));
            }
            Err(error) => {
                tracing::warn!(%error, "Unable to accept a connection");
                sleep(BREATHER).await;
            }
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

fn local_peer(stream: &UnixStream, services: &Services) -> io::Result<Peer> {
    let peer = stream.peer_cred()?;
    let caller = Caller::Local {
        uid: peer.uid(),
        gid: peer.gid(),
        pid: peer.pid(),
    };
    let asked = services.asks_for_programs();
    let program = asked.then(|| Program::of(stream)).flatten();
    Ok(Peer { caller, program })
}

impl Guests {
    /// Who is calling; none for a peer that isn't let in.
    fn caller(&self, connection: &TlsConnection) -> Option<Caller> {
        let ConnectInfo {
            remote_addr: address,
            peer,
        } = connection.info().clone();
        let Some(peer) = peer else {
            // As with SPIRE, a caller without a certificate needs TLS 1.3.
            return connection.is_tls13().then_some(Caller::Anonymous { address });
        };
        let id = peer.spiffe_id;
        if !id.is_member_of(&self.trust_domain) && !self.admin_ids.contains(&id) {
            tracing::debug!(caller_addr = %address, caller_id = %id, "Refused a caller of another trust domain");
            return None;
        }
        Some(Caller::Peer {
            id,
            serial: peer.serial,
            not_after: peer.not_after,
            address,
        })
    }
}
