//! `spire.api.server.bundle.v1.Bundle`.
//!
//! Invariant: an authority, once appended, isn't lost to a race: appending is one transaction on the bundle as it is.

use std::sync::Arc;

use credence_identity::Bundle;
use credence_proto::spire::api::server::bundle::v1 as pb;
use credence_proto::spire::api::types;
use tonic::{Request, Response, Status};

use super::context::Context;
use super::convert::bundle as convert;
use super::status::{invalid, unimplemented};
use crate::store::Change;

/// The service.
#[derive(Debug)]
pub(crate) struct BundleService {
    context: Arc<Context>,
}

impl BundleService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn append(&self, request: pb::AppendBundleRequest) -> Result<types::Bundle, Status> {
        if request.x509_authorities.is_empty() && request.jwt_authorities.is_empty() {
            return Err(Status::invalid_argument("no authorities to append"));
        }
        let x509 = convert::x509_from_proto(&request.x509_authorities)
            .map_err(|fault| invalid("failed to convert X.509 authority", fault))?;
        let jwt = convert::jwt_from_proto(&request.jwt_authorities)
            .map_err(|fault| invalid("failed to convert JWT authority", fault))?;
        let done = self.context.registry.transact(move |state| {
            let own = state
                .own_bundle()
                .ok_or_else(|| Status::not_found("bundle not found"))?;
            let mut bundle = Bundle::clone(own);
            for authority in x509 {
                if bundle
                    .x509_authorities
                    .iter()
                    .all(|known| known.der != authority.der)
                {
                    bundle.x509_authorities.push(authority);
                }
            }
            for authority in jwt {
                // One key ID with two keys keeps both.
                let same = |known: &credence_identity::JwtAuthority| {
                    known.key_id == authority.key_id && known.public_key == authority.public_key
                };
                if !bundle.jwt_authorities.iter().any(same) {
                    bundle.jwt_authorities.push(authority);
                }
            }
            if bundle == **own {
                return Ok((Vec::new(), Arc::clone(own)));
            }
            bundle.sequence_number = bundle.sequence_number.saturating_add(1);
            let bundle = Arc::new(bundle);
            Ok((vec![Change::BundlePut(Arc::clone(&bundle))], bundle))
        });
        let bundle = done
            .await
            .map_err(|error| self.context.not_committed("failed to append bundle", &error))?;
        Ok(convert::to_proto(
            &bundle,
            request.output_mask.as_ref().unwrap_or(&convert::ALL),
        ))
    }
}

#[tonic::async_trait]
impl pb::bundle_server::Bundle for BundleService {
    async fn count_bundles(
        &self,
        _: Request<pb::CountBundlesRequest>,
    ) -> Result<Response<pb::CountBundlesResponse>, Status> {
        let count = self.context.registry.read().bundles().count();
        Ok(Response::new(pb::CountBundlesResponse {
            count: i32::try_from(count).unwrap_or(i32::MAX),
        }))
    }

    async fn get_bundle(
        &self,
        request: Request<pb::GetBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        let bundle = self.context.registry.read().own_bundle().cloned();
        let bundle = bundle.ok_or_else(|| Status::not_found("bundle not found"))?;
        let mask = request.get_ref().output_mask.as_ref().unwrap_or(&convert::ALL);
        Ok(Response::new(convert::to_proto(&bundle, mask)))
    }

    async fn append_bundle(
        &self,
        request: Request<pb::AppendBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        self.append(request.into_inner()).await.map(Response::new)
    }

    async fn publish_jwt_authority(
        &self,
        _: Request<pb::PublishJwtAuthorityRequest>,
    ) -> Result<Response<pb::PublishJwtAuthorityResponse>, Status> {
        Err(unimplemented("PublishJWTAuthority"))
    }

    async fn publish_wit_authority(
        &self,
        _: Request<pb::PublishWitAuthorityRequest>,
    ) -> Result<Response<pb::PublishWitAuthorityResponse>, Status> {
        Err(unimplemented("PublishWITAuthority"))
    }

    async fn list_federated_bundles(
        &self,
        _: Request<pb::ListFederatedBundlesRequest>,
    ) -> Result<Response<pb::ListFederatedBundlesResponse>, Status> {
        Err(unimplemented("ListFederatedBundles"))
    }

    async fn get_federated_bundle(
        &self,
        _: Request<pb::GetFederatedBundleRequest>,
    ) -> Result<Response<types::Bundle>, Status> {
        Err(unimplemented("GetFederatedBundle"))
    }

    async fn batch_create_federated_bundle(
        &self,
        _: Request<pb::BatchCreateFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchCreateFederatedBundleResponse>, Status> {
        Err(unimplemented("BatchCreateFederatedBundle"))
    }

    async fn batch_update_federated_bundle(
        &self,
        _: Request<pb::BatchUpdateFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchUpdateFederatedBundleResponse>, Status> {
        Err(unimplemented("BatchUpdateFederatedBundle"))
    }

    async fn batch_set_federated_bundle(
        &self,
        _: Request<pb::BatchSetFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchSetFederatedBundleResponse>, Status> {
        Err(unimplemented("BatchSetFederatedBundle"))
    }

    async fn batch_delete_federated_bundle(
        &self,
        _: Request<pb::BatchDeleteFederatedBundleRequest>,
    ) -> Result<Response<pb::BatchDeleteFederatedBundleResponse>, Status> {
        Err(unimplemented("BatchDeleteFederatedBundle"))
    }
}
