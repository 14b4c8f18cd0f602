//! `credence.authority.v1.Authority`: what a forced rotation waits for.
//!
//! Owns the face; [`crate::holdings`] knows what agents hold. Changes nothing. Invariant: what stands in the way of a
//! step is said only where the step would be taken, so that whoever asks first hears SPIRE's refusal afterwards.

use std::sync::Arc;

use credence_crypto::hex;
use credence_crypto::x509::Certificate;
use credence_identity::{Bundle, SpiffeId};
use credence_proto::credence::authority::v1 as pb;
use credence_proto::credence::authority::v1::check_step_request::{Kind, Step as WireStep};
use credence_proto::credence::authority::v1::check_step_response::Obstacle;
use tonic::{Code, Request, Response, Status};

use super::context::Context;
use super::status::fault;
use crate::ca::{self, AuthorityKind, ForceError};
use crate::holdings::{Question, SETTLES, Step};

/// Obstacles that are named; more would be read by nobody.
const NAMED: usize = 100;

/// The service.
#[derive(Debug)]
pub(crate) struct AuthorityService {
    context: Arc<Context>,
}

impl AuthorityService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }

    async fn check(&self, request: pb::CheckStepRequest) -> Result<pb::CheckStepResponse, Status> {
        let kind = match request.kind() {
            Kind::X509 => AuthorityKind::X509,
            Kind::Jwt => AuthorityKind::Jwt,
        };
        let step = match request.step() {
            WireStep::Activate => Step::Activate,
            WireStep::Taint => Step::Taint,
            WireStep::Revoke => Step::Revoke,
        };
        let Context {
            authority,
            registry,
            clock,
            holdings,
            ..
        } = &*self.context;
        let shown = match authority.local_authorities(kind).await {
            Ok(shown) => shown,
            Err(ForceError::Disabled) => return Ok(pb::CheckStepResponse::default()),
            Err(error) => {
                return Err(fault(Code::Internal, "failed to read the authorities", error));
            }
        };
        let id: Arc<str> = request.authority_id.into();
        let is_prepared = shown.prepared.as_ref().is_some_and(|prepared| prepared.id == id);
        let flag = {
            let state = registry.read();
            state.own_bundle().and_then(|bundle| flag(bundle, kind, &id))
        };
        let possible = match step {
            Step::Activate => is_prepared,
            Step::Taint => flag == Some(false) && !is_prepared && shown.active.id != id,
            Step::Revoke => flag == Some(true),
        };
        if !possible {
            return Ok(pb::CheckStepResponse::default());
        }
        let past = ca::past(&registry.read(), kind, &id);
        let question = Question {
            kind,
            step,
            id,
            active: shown.active.id,
            retired_at: past.and_then(|(retired_at, _)| retired_at),
            not_after: past.map(|(_, not_after)| not_after),
        };
        let (settings, now) = (authority.settings(), clock.now());
        let answer = holdings.ask(&question, registry, settings, now).await;
        let own = self.own_svid(&question);
        let settling = !answer.obstacles.is_empty() && own.is_none() && {
            let soon = holdings.ask(&question, registry, settings, now + SETTLES).await;
            soon.obstacles.is_empty()
        };
        let count = answer.obstacles.len();
        let named = answer.obstacles.into_iter().take(NAMED).map(|obstacle| Obstacle {
            spiffe_id: obstacle.agent.to_string(),
            reason: obstacle.reason.to_string(),
        });
        let mut obstacles: Vec<_> = named.collect();
        let obstacle_count = u32::try_from(count + own.iter().len()).unwrap_or(u32::MAX);
        obstacles.extend(own);
        let notes = answer.elsewhere_until.map(|until| {
            let what = match kind {
                AuthorityKind::X509 => "certificates that operators, downstream servers or callers of an agent's Istio listener got",
                AuthorityKind::Jwt => "JWT-SVIDs that workloads may still hold",
            };
            format!("{what} under the authority are valid until {until}, and no longer once it is revoked")
        });
        Ok(pb::CheckStepResponse {
            obstacles,
            obstacle_count,
            notes: notes.into_iter().collect(),
            settling,
        })
    }

    /// The server itself, while its own SVID is under the authority that is to be revoked.
    fn own_svid(&self, question: &Question) -> Option<Obstacle> {
        let own = self.context.server_svid.borrow();
        let under = own.svid.authority_key_id.as_deref().map(hex);
        let stands = question.kind == AuthorityKind::X509
            && question.step == Step::Revoke
            && under.as_deref() == Some(&*question.id);
        stands.then(|| Obstacle {
            spiffe_id: SpiffeId::server(&self.context.trust_domain).to_string(),
            reason: format!("its own SVID is under the authority until {}", own.svid.not_after),
        })
    }
}

/// Whether the authority is tainted; none if the bundle hasn't got it.
fn flag(bundle: &Bundle, kind: AuthorityKind, id: &str) -> Option<bool> {
    match kind {
        AuthorityKind::X509 => bundle.x509_authorities.iter().find_map(|authority| {
            let certificate = Certificate::from_der(&authority.der).ok()?;
            (hex(certificate.subject_key_id()?) == id).then_some(authority.tainted)
        }),
        AuthorityKind::Jwt => bundle
            .jwt_authorities_by_key_id(id)
            .next()
            .map(|authority| authority.tainted),
    }
}

#[tonic::async_trait]
impl pb::authority_server::Authority for AuthorityService {
    async fn check_step(
        &self,
        request: Request<pb::CheckStepRequest>,
    ) -> Result<Response<pb::CheckStepResponse>, Status> {
        self.check(request.into_inner()).await.map(Response::new)
    }
}
