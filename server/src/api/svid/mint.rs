//! `MintX509SVID` and `MintJWTSVID`: what operators ask for, without an entry.

use credence_crypto::csr::{CsrError, VerifiedCsr};
use credence_identity::SpiffeId;
use credence_proto::spire::api::server::svid::v1 as pb;
use tonic::Status;

use crate::api::context::Context;
use crate::api::convert::{dns, svid, workload_id, workload_id_from_proto};
use crate::api::status::invalid;

pub(super) fn x509(
    context: &Context,
    request: &pb::MintX509svidRequest,
) -> Result<pb::MintX509svidResponse, Status> {
    if request.csr.is_empty() {
        return Err(Status::invalid_argument("missing CSR"));
    }
    let csr = VerifiedCsr::from_der(&request.csr).map_err(|fault| match fault {
        CsrError::Signature(_) => invalid("failed to verify CSR signature", fault),
        _ => invalid("malformed CSR", fault),
    })?;
    let id = match csr.uri_sans() {
        [] => return Err(Status::invalid_argument("CSR URI SAN is required")),
        [uri] => {
            const WHAT: &str = "CSR URI SAN is invalid";
            let id = SpiffeId::parse(uri).map_err(|fault| invalid(WHAT, fault))?;
            workload_id(&context.trust_domain, id).map_err(|fault| invalid(WHAT, fault))?
        }
        _ => return Err(Status::invalid_argument("only one URI SAN is expected")),
    };
    for name in csr.dns_names() {
        dns::check(name).map_err(|fault| invalid("CSR DNS name is invalid", fault))?;
    }
    if let Some(name) = dns::covered_by_wildcard(csr.dns_names()) {
        return Err(Status::invalid_argument(format!(
            "CSR DNS name contains a wildcard that covers another non-wildcard name: name {name:?} overlaps with an \
             existing wildcard name in the list: wildcard overlap"
        )));
    }
    let issued = context
        .authority
        .mint_x509_svid(&csr, &id, ttl(request.ttl))
        .map_err(|error| context.not_signed("failed to sign X509-SVID", &error))?;
    let (authority, now) = (issued.authority_key_id.as_deref(), context.clock.now());
    context.holdings.minted(authority, issued.not_after, now);
    Ok(pb::MintX509svidResponse {
        svid: Some(svid::x509_to_proto(&issued)),
    })
}

pub(super) fn jwt(
    context: &Context,
    request: &pb::MintJwtsvidRequest,
) -> Result<pb::MintJwtsvidResponse, Status> {
    check_jwt_enabled(context)?;
    let id = workload_id_from_proto(&context.trust_domain, request.id.as_ref())
        .map_err(|fault| invalid("invalid SPIFFE ID", fault))?;
    check_audience(&request.audience)?;
    let issued = context
        .authority
        .mint_jwt_svid(&id, &request.audience, ttl(request.ttl))
        .map_err(|error| context.not_signed("failed to sign JWT-SVID", &error))?;
    context.holdings.token_issued(&issued, context.clock.now());
    Ok(pb::MintJwtsvidResponse {
        svid: Some(svid::jwt_to_proto(&id, issued)),
    })
}

/// The lifetime a request asks for in seconds; zero for the server's default, which less means too.
pub(super) fn ttl(seconds: i32) -> u32 {
    u32::try_from(seconds).unwrap_or(0)
}

/// # Errors
///
/// Where JWT-SVIDs are switched off.
pub(super) fn check_jwt_enabled(context: &Context) -> Result<(), Status> {
    if context.jwt_disabled {
        Err(Status::unimplemented("JWT functionality is disabled"))
    } else {
        Ok(())
    }
}

/// # Errors
///
/// Where a request names no audience at all.
pub(super) fn check_audience(audience: &[String]) -> Result<(), Status> {
    if audience.is_empty() {
        return Err(Status::invalid_argument("at least one audience is required"));
    }
    Ok(())
}
