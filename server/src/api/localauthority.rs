//! `spire.api.server.localauthority.v1.LocalAuthority`: rotation of the authorities by hand.
//!
//! Owns the face; the steps are [`crate::ca`]'s, [`refusal`] says in SPIRE's words why one was not taken. No upstream
//! authority can be configured, so what concerns one is refused.

mod refusal;

use std::sync::Arc;

use credence_identity::Timestamp;
use credence_proto::spire::api::server::localauthority::v1 as pb;
use tonic::{Request, Response, Status};

use super::context::Context;
use crate::ca::{AuthorityKind, LocalAuthorities, LocalAuthority, Step};

const NO_UPSTREAM: &str = "upstream authority is not configured";
const NO_WIT: &str = "WIT-SVID functionality is not yet implemented";

type Answer<T> = Result<Response<T>, Status>;

/// The service.
#[derive(Debug)]
pub(crate) struct LocalAuthorityService {
    context: Arc<Context>,
}

impl LocalAuthorityService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn show(&self, kind: AuthorityKind) -> Result<LocalAuthorities, Status> {
        let shown = self.context.authority.local_authorities(kind).await;
        shown.map_err(|error| refusal::of_show(&error))
    }

    async fn prepare(&self, kind: AuthorityKind) -> Result<Option<pb::AuthorityState>, Status> {
        let prepared = self.context.authority.force(kind, Step::Prepare).await;
        let prepared = prepared.map_err(|error| refusal::of_prepare(kind, &error))?;
        Ok(Some(state(&prepared)))
    }

    async fn activate(&self, kind: AuthorityKind, id: String) -> Result<Option<pb::AuthorityState>, Status> {
        let activated = self
            .context
            .authority
            .force(kind, Step::Activate(id.into()))
            .await;
        let activated = activated.map_err(|error| refusal::of_activate(kind, &error))?;
        Ok(Some(state(&activated)))
    }

    async fn taint(&self, kind: AuthorityKind, id: String) -> Result<Option<pb::AuthorityState>, Status> {
        let tainted = self.context.authority.force(kind, Step::Taint(id.into())).await;
        let tainted = tainted.map_err(|error| refusal::of_taint(kind, &error))?;
        log(&tainted, kind, "tainted");
        Ok(Some(match kind {
            AuthorityKind::X509 => state(&tainted),
            AuthorityKind::Jwt => id_alone(&tainted),
        }))
    }

    async fn revoke(&self, kind: AuthorityKind, id: String) -> Result<Option<pb::AuthorityState>, Status> {
        let revoked = self.context.authority.force(kind, Step::Revoke(id.into())).await;
        let revoked = revoked.map_err(|error| refusal::of_revoke(kind, &error))?;
        log(&revoked, kind, "revoked");
        Ok(Some(id_alone(&revoked)))
    }
}

fn log(authority: &LocalAuthority, kind: AuthorityKind, done: &str) {
    tracing::info!(
        subsystem_name = "api",
        service = "localauthority.v1.LocalAuthority",
        local_authority_id = &*authority.id,
        "{} authority {done} successfully",
        refusal::noun(kind)
    );
}

fn state(authority: &LocalAuthority) -> pb::AuthorityState {
    pb::AuthorityState {
        authority_id: authority.id.to_string(),
        expires_at: authority.not_after.map_or(0, Timestamp::unix_seconds),
        upstream_authority_subject_key_id: String::new(),
    }
}

/// SPIRE says no more of these.
fn id_alone(authority: &LocalAuthority) -> pb::AuthorityState {
    pb::AuthorityState {
        authority_id: authority.id.to_string(),
        ..pb::AuthorityState::default()
    }
}

#[tonic::async_trait]
impl pb::local_authority_server::LocalAuthority for LocalAuthorityService {
    async fn get_jwt_authority_state(
        &self,
        _: Request<pb::GetJwtAuthorityStateRequest>,
    ) -> Answer<pb::GetJwtAuthorityStateResponse> {
        let shown = self.show(AuthorityKind::Jwt).await?;
        Ok(Response::new(pb::GetJwtAuthorityStateResponse {
            active: Some(state(&shown.active)),
            prepared: shown.prepared.as_ref().map(state),
            old: shown.old.as_ref().map(state),
        }))
    }

    async fn prepare_jwt_authority(
        &self,
        _: Request<pb::PrepareJwtAuthorityRequest>,
    ) -> Answer<pb::PrepareJwtAuthorityResponse> {
        let prepared_authority = self.prepare(AuthorityKind::Jwt).await?;
        Ok(Response::new(pb::PrepareJwtAuthorityResponse {
            prepared_authority,
        }))
    }

    async fn activate_jwt_authority(
        &self,
        request: Request<pb::ActivateJwtAuthorityRequest>,
    ) -> Answer<pb::ActivateJwtAuthorityResponse> {
        let id = request.into_inner().authority_id;
        let activated_authority = self.activate(AuthorityKind::Jwt, id).await?;
        Ok(Response::new(pb::ActivateJwtAuthorityResponse {
            activated_authority,
        }))
    }

    async fn taint_jwt_authority(
        &self,
        request: Request<pb::TaintJwtAuthorityRequest>,
    ) -> Answer<pb::TaintJwtAuthorityResponse> {
        let id = request.into_inner().authority_id;
        let tainted_authority = self.taint(AuthorityKind::Jwt, id).await?;
        Ok(Response::new(pb::TaintJwtAuthorityResponse { tainted_authority }))
    }

    async fn revoke_jwt_authority(
        &self,
        request: Request<pb::RevokeJwtAuthorityRequest>,
    ) -> Answer<pb::RevokeJwtAuthorityResponse> {
        let id = request.into_inner().authority_id;
        let revoked_authority = self.revoke(AuthorityKind::Jwt, id).await?;
        Ok(Response::new(pb::RevokeJwtAuthorityResponse {
            revoked_authority,
        }))
    }

    async fn get_x509_authority_state(
        &self,
        _: Request<pb::GetX509AuthorityStateRequest>,
    ) -> Answer<pb::GetX509AuthorityStateResponse> {
        let shown = self.show(AuthorityKind::X509).await?;
        Ok(Response::new(pb::GetX509AuthorityStateResponse {
            active: Some(state(&shown.active)),
            prepared: shown.prepared.as_ref().map(state),
            old: shown.old.as_ref().map(state),
        }))
    }

    async fn prepare_x509_authority(
        &self,
        _: Request<pb::PrepareX509AuthorityRequest>,
    ) -> Answer<pb::PrepareX509AuthorityResponse> {
        let prepared_authority = self.prepare(AuthorityKind::X509).await?;
        Ok(Response::new(pb::PrepareX509AuthorityResponse {
            prepared_authority,
        }))
    }

    async fn activate_x509_authority(
        &self,
        request: Request<pb::ActivateX509AuthorityRequest>,
    ) -> Answer<pb::ActivateX509AuthorityResponse> {
        let id = request.into_inner().authority_id;
        let activated_authority = self.activate(AuthorityKind::X509, id).await?;
        Ok(Response::new(pb::ActivateX509AuthorityResponse {
            activated_authority,
        }))
    }

    async fn taint_x509_authority(
        &self,
        request: Request<pb::TaintX509AuthorityRequest>,
    ) -> Answer<pb::TaintX509AuthorityResponse> {
        let id = request.into_inner().authority_id;
        let tainted_authority = self.taint(AuthorityKind::X509, id).await?;
        Ok(Response::new(pb::TaintX509AuthorityResponse {
            tainted_authority,
        }))
    }

    async fn taint_x509_upstream_authority(
        &self,
        _: Request<pb::TaintX509UpstreamAuthorityRequest>,
    ) -> Answer<pb::TaintX509UpstreamAuthorityResponse> {
        Err(Status::failed_precondition(NO_UPSTREAM))
    }

    async fn revoke_x509_authority(
        &self,
        request: Request<pb::RevokeX509AuthorityRequest>,
    ) -> Answer<pb::RevokeX509AuthorityResponse> {
        let id = request.into_inner().authority_id;
        let revoked_authority = self.revoke(AuthorityKind::X509, id).await?;
        Ok(Response::new(pb::RevokeX509AuthorityResponse {
            revoked_authority,
        }))
    }

    async fn revoke_x509_upstream_authority(
        &self,
        _: Request<pb::RevokeX509UpstreamAuthorityRequest>,
    ) -> Answer<pb::RevokeX509UpstreamAuthorityResponse> {
        Err(Status::failed_precondition(NO_UPSTREAM))
    }

    async fn get_wit_authority_state(
        &self,
        _: Request<pb::GetWitAuthorityStateRequest>,
    ) -> Answer<pb::GetWitAuthorityStateResponse> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn prepare_wit_authority(
        &self,
        _: Request<pb::PrepareWitAuthorityRequest>,
    ) -> Answer<pb::PrepareWitAuthorityResponse> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn activate_wit_authority(
        &self,
        _: Request<pb::ActivateWitAuthorityRequest>,
    ) -> Answer<pb::ActivateWitAuthorityResponse> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn taint_wit_authority(
        &self,
        _: Request<pb::TaintWitAuthorityRequest>,
    ) -> Answer<pb::TaintWitAuthorityResponse> {
        Err(Status::unimplemented(NO_WIT))
    }

    async fn revoke_wit_authority(
        &self,
        _: Request<pb::RevokeWitAuthorityRequest>,
    ) -> Answer<pb::RevokeWitAuthorityResponse> {
        Err(Status::unimplemented(NO_WIT))
    }
}
