//! JWT-SVIDs: fetched for an audience, and verified for workloads that can't do it themselves.

use std::sync::Arc;

use credence_crypto::jwt::{JwtSvid, verify};
use credence_identity::{Bundle, Entry, SelectorSet, SpiffeId, TrustDomain};
use credence_proto::spiffe_workload::{
    Jwtsvid, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest, ValidateJwtsvidResponse,
};
use futures_util::future::try_join_all;
use tonic::Status;

use super::call::{Call, log, with_causes};
use super::claims;
use crate::cache::{JwtFetchError, WorkloadUpdate};
use crate::explain::Stage;

/// A token for each of the caller's identities, or for the one asked for. All or none.
pub(super) async fn fetch(call: &Call, request: JwtsvidRequest) -> Result<JwtsvidResponse, Status> {
    let JwtsvidRequest { audience, spiffe_id } = request;
    if audience.is_empty() {
        return Err(invalid(
            call,
            "Missing required audience parameter",
            "audience must be specified",
        ));
    }
    if audience.iter().any(String::is_empty) {
        return Err(invalid(
            call,
            "Invalid audience parameter",
            "audience must not be empty",
        ));
    }
    let wanted = match spiffe_id.as_str() {
        "" => None,
        text => Some(SpiffeId::parse(text).map_err(|error| {
            let text = format!("invalid requested SPIFFE ID: {error}");
            invalid(call, "Invalid requested SPIFFE ID", &text)
        })?),
    };
    let selectors = call.attest().await?;
    let mut entries = call.shared.cache.matching(&selectors);
    entries.retain(|entry| wanted.as_ref().is_none_or(|wanted| entry.spiffe_id == *wanted));
    if entries.is_empty() {
        return Err(call.no_identity(&selectors, wanted));
    }
    let tokens = try_join_all(
        entries
            .iter()
            .map(|entry| call.shared.cache.jwt_svid(entry, &audience)),
    );
    let tokens = tokens
        .await
        .map_err(|error| fetch_failed(call, &selectors, &error))?;
    // A fetch may have taken long: what it brought is for the process that asked, not for whoever has its socket now.
    call.still_there()?;
    let svids = entries
        .iter()
        .zip(&tokens)
        .map(|(entry, token)| show(call, entry, token))
        .collect();
    Ok(JwtsvidResponse { svids })
}

fn show(call: &Call, entry: &Entry, token: &JwtSvid) -> Jwtsvid {
    log!(
        debug,
        call,
        registered = true,
        spiffe_id = %entry.spiffe_id,
        ttl = call.shared.clock.now().until(token.expires_at).as_secs_f64(),
        "Fetched JWT SVID"
    );
    Jwtsvid {
        spiffe_id: entry.spiffe_id.to_string(),
        svid: token.token.clone(),
        hint: entry.hint.to_string(),
    }
}

fn fetch_failed(call: &Call, selectors: &SelectorSet, error: &JwtFetchError) -> Status {
    log!(error, call, registered = true, %error, "Could not fetch JWT-SVID");
    let status = match error {
        JwtFetchError::Unsupported(text) => Status::unimplemented(&**text),
        other => Status::unavailable(format!("could not fetch JWT-SVID: {other}")),
    };
    call.refuse(status, Stage::Jwt(error.to_string()), Some(selectors))
}

/// Verifies a token with the bundles that the caller may have: the own one always, a foreign one when an entry of the
/// caller federates with it.
pub(super) async fn validate(
    call: &Call,
    request: ValidateJwtsvidRequest,
) -> Result<ValidateJwtsvidResponse, Status> {
    let ValidateJwtsvidRequest { audience, svid } = request;
    if audience.is_empty() {
        return Err(invalid(
            call,
            "Missing required audience parameter",
            "audience must be specified",
        ));
    }
    if svid.is_empty() {
        return Err(invalid(
            call,
            "Missing required svid parameter",
            "svid must be specified",
        ));
    }
    let selectors = call.attest().await?;
    let update = call.shared.cache.identities(&selectors);
    let bundle_of = |trust_domain: &TrustDomain| bundle_for(&update, trust_domain);
    match verify(&svid, &[&audience], bundle_of, call.shared.clock.now()) {
        Ok(svid) => {
            let foreign = svid.id.trust_domain() != update.bundle.trust_domain;
            log!(debug, call, spiffe_id = %svid.id, "Successfully validated JWT");
            Ok(ValidateJwtsvidResponse {
                spiffe_id: svid.id.to_string(),
                claims: Some(claims::shown(
                    svid,
                    foreign,
                    &call.shared.options.allowed_foreign_jwt_claims,
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

fn invalid(call: &Call, event: &'static str, text: &str) -> Status {
    log!(error, call, error = %text, "{event}");
    call.refuse(Status::invalid_argument(text), Stage::Request, None)
}
