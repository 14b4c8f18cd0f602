//! `spire.agent.debug.v1.Debug`: facts about the running agent, fresh on each call (SPIRE's are up to 5 s old).

use std::sync::Arc;

use credence_crypto::x509::{Certificate, X509SvidKey, chain_with_root};
use credence_identity::Timestamp;
use credence_proto::spire::agent::debug::v1 as pb;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::{Request, Response, Status};

use crate::api::Ground;
use crate::api::view::id_message;

/// The service.
#[derive(Debug)]
pub(super) struct DebugService {
    pub(super) ground: Arc<Ground>,
    pub(super) svid: watch::Receiver<Arc<X509SvidKey>>,
    pub(super) last_sync: watch::Receiver<Option<Timestamp>>,
    pub(super) started: Instant,
}

fn certificate(certificate: &Certificate) -> pb::get_info_response::Cert {
    pb::get_info_response::Cert {
        id: certificate.spiffe_id().ok().as_ref().map(id_message),
        expires_at: certificate.not_after().unix_seconds(),
        subject: certificate.subject().to_string(),
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[tonic::async_trait]
impl pb::debug_server::Debug for DebugService {
    #[expect(deprecated, reason = "clients of older versions read svids_count")]
    async fn get_info(
        &self,
        _: Request<pb::GetInfoRequest>,
    ) -> Result<Response<pb::GetInfoResponse>, Status> {
        let cache = &self.ground.cache;
        let svid = self.svid.borrow().clone();
        let chain = chain_with_root(&svid.svid.chain, &cache.bundle().x509_authorities);
        let x509_svids = count(cache.x509_svid_count());
        let last_sync = *self.last_sync.borrow();
        Ok(Response::new(pb::GetInfoResponse {
            svid_chain: chain.iter().map(certificate).collect(),
            uptime: i32::try_from(self.started.elapsed().as_secs()).unwrap_or(i32::MAX),
            svids_count: x509_svids,
            last_sync_success: last_sync.map_or(0, Timestamp::unix_seconds),
            cached_x509_svids_count: x509_svids,
            cached_jwt_svids_count: count(cache.jwt_svid_count()),
            // There is no SVID store yet.
            cached_svidstore_x509_svids_count: 0,
        }))
    }
}
