//! `spire.api.server.debug.v1.Debug`: facts about the running server.

use std::sync::Arc;

use credence_crypto::x509::{Certificate, chain_with_root};
use credence_proto::spire::api::server::debug::v1 as pb;
use tonic::{Request, Response, Status};

use super::context::Context;
use super::convert::id_to_proto;

/// The service.
#[derive(Debug)]
pub(crate) struct DebugService {
    context: Arc<Context>,
}

impl DebugService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    /// The chain of the server's SVID up to and with its root, as SPIRE shows it.
    fn svid_chain(&self) -> Vec<pb::get_info_response::Cert> {
        let svid = Arc::clone(&self.context.server_svid.borrow());
        let state = self.context.registry.read();
        let authorities = state
            .own_bundle()
            .map_or(&[][..], |bundle| &bundle.x509_authorities);
        let chain = chain_with_root(&svid.svid.chain, authorities);
        chain.iter().map(certificate_to_proto).collect()
    }
}

fn certificate_to_proto(certificate: &Certificate) -> pb::get_info_response::Cert {
    pb::get_info_response::Cert {
        id: certificate.spiffe_id().ok().as_ref().map(id_to_proto),
        expires_at: certificate.not_after().unix_seconds(),
        subject: certificate.subject().to_string(),
    }
}

fn count(number: usize) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

#[tonic::async_trait]
impl pb::debug_server::Debug for DebugService {
    async fn get_info(
        &self,
        _: Request<pb::GetInfoRequest>,
    ) -> Result<Response<pb::GetInfoResponse>, Status> {
        let svid_chain = self.svid_chain();
        let uptime = i32::try_from(self.context.started.elapsed().as_secs()).unwrap_or(i32::MAX);
        let state = self.context.registry.read();
        Ok(Response::new(pb::GetInfoResponse {
            svid_chain,
            uptime,
            agents_count: count(state.node_count()),
            federated_bundles_count: count(state.bundles().count()),
            entries_count: count(state.entry_count()),
        }))
    }
}
