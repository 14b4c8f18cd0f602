//! JWT-SVIDs: fetched for an audience, and verified for workloads that can't do it themselves.

use std::sync::Arc;

use credence_crypto::jwt::verify;
use credence_identity::{Bundle, TrustDomain};
use credence_proto::spiffe_workload::{
    Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest, ValidateJwtsvidResponse,
};
use tonic::Status;

use super::{WorkloadCall, claims};
use crate::api::call::{log, with_causes};
use crate::api::tokens;
use crate::cache::WorkloadUpdate;
use crate::explain::Stage;

/// A token for each of the caller's identities, or for the one asked for. All or none.
pub(super) async fn fetch(call: &WorkloadCall, request: JwtsvidRequest) -> Result<JwtsvidResponse, Status> {
    let JwtsvidRequest { audience, spiffe_id } = request;
    tokens::check_audience(call, &audience)?;
    let wanted = call.wanted(&spiffe_id)?;
    let selectors = call.attest().await?;
    call.check_rate(&selectors)?;
    let entries = call.entries(&selectors, wanted.as_ref())?;
    let tokens = tokens::fetch(call, (&selectors, &entries), &audience).await?;
    let svids = entries.iter().zip(&tokens).map(|(entry, token)| Jwtsvid {
        spiffe_id: entry.spiffe_id.to_string(),
        svid: token.token.clone(),
        hint: entry.hint.to_string(),
    });
    Ok(JwtsvidResponse {
        svids: svids.collect(),
    })
}

/// Verifies a token with the bundles that the caller may have: the own one always, a foreign one when an entry of the
/// caller federates with it.
pub(super) async fn validate(
    call: &WorkloadCall,
    request: ValidateJwtsvidRequest,
) -> Result<ValidateJwtsvidResponse, Status> {
    let ValidateJwtsvidRequest { audience, svid } = request;
    if audience.is_empty() {
        return Err(call.invalid(
            "Missing required audience parameter",
            "audience must be specified",
        ));
    }
    if svid.is_empty() {
        return Err(call.invalid("Missing required svid parameter", "svid must be specified"));
    }
    let selectors = call.attest().await?;
    let update = call.ground.cache.identities(&selectors);
    let bundle_of = |trust_domain: &TrustDomain| bundle_for(&update, trust_domain);
    match verify(&svid, &[&audience], bundle_of, call.ground.clock.now()) {
        Ok(svid) => {
            let foreign = svid.id.trust_domain() != update.bundle.trust_domain;
            log!(debug, call, spiffe_id = %svid.id, "Successfully validated JWT");
            Ok(ValidateJwtsvidResponse {
                spiffe_id: svid.id.to_string(),
                claims: Some(claims::shown(
                    svid,
                    foreign,
                    &call.profile.options.allowed_foreign_jwt_claims,
                )),
            })
        }
        Err(error) => {
            let text = with_causes(&error);
            log!(warn, call, error = %text, audience, "Failed to validate JWT");
            Err(call.refuse(Status::invalid_argument(text), Stage::Request, Some(&selectors)))
        }
    }
}

fn bundle_for(update: &WorkloadUpdate, trust_domain: &TrustDomain) -> Option<Arc<Bundle>> {
    if *trust_domain == update.bundle.trust_domain {
        Some(update.bundle.clone())
    } else {
        update.federated.get(trust_domain).cloned()
    }
}
