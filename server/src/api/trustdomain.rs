//! `spire.api.server.trustdomain.v1.TrustDomain`: federation relationships, kept and shown.
//!
//! Owns the service's face and its reading half; `change` has the writing one. Nothing here fetches a bundle.
//! Relationships of the configuration aren't shown, as in SPIRE: they are the file's to tell.

mod change;

use std::sync::Arc;

use credence_identity::TrustDomain;
use credence_proto::spire::api::server::trustdomain::v1 as pb;
use credence_proto::spire::api::types;
use tonic::{Code, Request, Response, Status};

use super::context::Context;
use super::convert::federation as convert;
use super::paging::Page;
use super::status::{fault, invalid, unimplemented};

/// The service.
#[derive(Debug)]
pub(crate) struct TrustDomainService {
    context: Arc<Context>,
}

impl TrustDomainService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    fn list(
        &self,
        request: &pb::ListFederationRelationshipsRequest,
    ) -> Result<pb::ListFederationRelationshipsResponse, Status> {
        let _counted = self
            .context
            .registry
            .telemetry()
            .counted("datastore.federation_relationship.list");
        let page = Page::new(request.page_size, &request.page_token)
            .map_err(|bad| fault(Code::Internal, "failed to list federation relationships", bad))?;
        let (found, next_page_token) = {
            let state = self.context.registry.read();
            let relationships = state.relationships_after(page.after());
            page.take(relationships.map(|(row, held)| {
                let bundle = state.bundle(&held.trust_domain);
                (row, (Arc::clone(held), bundle.cloned()))
            }))
        };
        let mask = request.output_mask.as_ref().unwrap_or(&convert::ALL);
        let federation_relationships = found
            .iter()
            .map(|(held, bundle)| convert::to_proto(held, bundle.as_deref(), mask))
            .collect();
        Ok(pb::ListFederationRelationshipsResponse {
            federation_relationships,
            next_page_token,
        })
    }

    fn get(
        &self,
        request: &pb::GetFederationRelationshipRequest,
    ) -> Result<types::FederationRelationship, Status> {
        let _counted = self
            .context
            .registry
            .telemetry()
            .counted("datastore.federation_relationship.fetch");
        let domain = TrustDomain::parse_lenient(&request.trust_domain)
            .map_err(|fault| invalid("failed to parse trust domain", fault))?;
        let (held, bundle) = {
            let state = self.context.registry.read();
            let held = state.relationship(&domain).cloned();
            (held, state.bundle(&domain).cloned())
        };
        let held = held.ok_or_else(|| Status::not_found("federation relationship does not exist"))?;
        let mask = request.output_mask.as_ref().unwrap_or(&convert::ALL);
        Ok(convert::to_proto(&held, bundle.as_deref(), mask))
    }
}

#[tonic::async_trait]
impl pb::trust_domain_server::TrustDomain for TrustDomainService {
    async fn list_federation_relationships(
        &self,
        request: Request<pb::ListFederationRelationshipsRequest>,
    ) -> Result<Response<pb::ListFederationRelationshipsResponse>, Status> {
        self.list(request.get_ref()).map(Response::new)
    }

    async fn get_federation_relationship(
        &self,
        request: Request<pb::GetFederationRelationshipRequest>,
    ) -> Result<Response<types::FederationRelationship>, Status> {
        self.get(request.get_ref()).map(Response::new)
    }

    async fn batch_create_federation_relationship(
        &self,
        request: Request<pb::BatchCreateFederationRelationshipRequest>,
    ) -> Result<Response<pb::BatchCreateFederationRelationshipResponse>, Status> {
        let answer = change::create(&self.context, request.into_inner()).await;
        Ok(Response::new(answer))
    }

    async fn batch_update_federation_relationship(
        &self,
        request: Request<pb::BatchUpdateFederationRelationshipRequest>,
    ) -> Result<Response<pb::BatchUpdateFederationRelationshipResponse>, Status> {
        let answer = change::update(&self.context, request.into_inner()).await;
        Ok(Response::new(answer))
    }

    async fn batch_delete_federation_relationship(
        &self,
        request: Request<pb::BatchDeleteFederationRelationshipRequest>,
    ) -> Result<Response<pb::BatchDeleteFederationRelationshipResponse>, Status> {
        let answer = change::delete(&self.context, request.into_inner()).await;
        Ok(Response::new(answer))
    }

    async fn refresh_bundle(&self, _: Request<pb::RefreshBundleRequest>) -> Result<Response<()>, Status> {
        Err(unimplemented("RefreshBundle"))
    }
}
