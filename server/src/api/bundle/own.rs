//! The trust domain's own bundle: `GetBundle`, `AppendBundle`, `PublishJWTAuthority`.
//!
//! Invariant: an authority, once appended, isn't lost to a race: appending is one transaction on the bundle as it is.

use std::sync::Arc;

use credence_identity::{Bundle, JwtAuthority, X509Authority};
use credence_proto::spire::api::server::bundle::v1 as pb;
use credence_proto::spire::api::types;
use tonic::{Code, Status};

use crate::api::call::Call;
use crate::api::caller::Caller;
use crate::api::context::Context;
use crate::api::convert::bundle as convert;
use crate::api::limits::Bucket;
use crate::api::status::{fault, invalid};
use crate::holdings::Way;
use crate::store::Change;

pub(super) fn get(
    context: &Context,
    call: &Call,
    request: &pb::GetBundleRequest,
) -> Result<types::Bundle, Status> {
    let bundle = context.registry.read().own_bundle().cloned();
    let bundle = bundle.ok_or_else(not_found)?;
    let mask = request.output_mask.as_ref().unwrap_or(&convert::ALL);
    if let Caller::Peer { id, not_after, .. } = call.caller()
        && id.is_agent()
        && mask.x509_authorities
        && mask.jwt_authorities
    {
        context.holdings.bundle_given(id, *not_after, &bundle, Way::Poll);
    }
    Ok(convert::to_proto(&bundle, mask))
}

pub(super) async fn append(
    context: &Context,
    request: pb::AppendBundleRequest,
) -> Result<types::Bundle, Status> {
    if request.x509_authorities.is_empty() && request.jwt_authorities.is_empty() {
        return Err(Status::invalid_argument("no authorities to append"));
    }
    let jwt = convert::jwt_from_proto(&request.jwt_authorities)
        .map_err(|fault| invalid("failed to convert JWT authority", fault))?;
    let x509 = convert::x509_from_proto(&request.x509_authorities)
        .map_err(|fault| invalid("failed to convert X.509 authority", fault))?;
    let bundle = add(context, "failed to append bundle", x509, jwt).await?;
    let mask = request.output_mask.as_ref().unwrap_or(&convert::ALL);
    Ok(convert::to_proto(&bundle, mask))
}

/// Takes the key by which a downstream server signs JWT-SVIDs. All keys of the trust domain are the answer.
pub(super) async fn publish_jwt(
    context: &Context,
    call: &Call,
    request: pb::PublishJwtAuthorityRequest,
) -> Result<pb::PublishJwtAuthorityResponse, Status> {
    context.limit(Bucket::Publish, call, 1).await.map_err(|limit| {
        let what = "rejecting request due to key publishing rate limiting";
        fault(Code::ResourceExhausted, what, limit)
    })?;
    let key = request
        .jwt_authority
        .ok_or_else(|| Status::invalid_argument("missing JWT authority"))?;
    let keys = convert::jwt_from_proto(std::slice::from_ref(&key))
        .map_err(|fault| invalid("invalid JWT authority", fault))?;
    let bundle = add(context, "failed to publish JWT key", Vec::new(), keys).await?;
    let jwt_authorities = convert::to_proto(&bundle, &convert::ALL).jwt_authorities;
    Ok(pb::PublishJwtAuthorityResponse { jwt_authorities })
}

/// Adds what isn't there yet, and answers with the bundle that is.
async fn add(
    context: &Context,
    what: &str,
    x509: Vec<X509Authority>,
    jwt: Vec<JwtAuthority>,
) -> Result<Arc<Bundle>, Status> {
    let added = context.registry.transact(move |state| {
        let own = state.own_bundle().ok_or_else(not_found)?;
        let mut bundle = Bundle::clone(own);
        for authority in x509 {
            let known = |known: &X509Authority| known.der == authority.der;
            if !bundle.x509_authorities.iter().any(known) {
                bundle.x509_authorities.push(authority);
            }
        }
        for authority in jwt {
            // One key ID with two keys keeps both.
            let known = |known: &JwtAuthority| {
                known.key_id == authority.key_id && known.public_key == authority.public_key
            };
            if !bundle.jwt_authorities.iter().any(known) {
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
    added.await.map_err(|error| context.not_committed(what, &error))
}

fn not_found() -> Status {
    Status::not_found("bundle not found")
}
