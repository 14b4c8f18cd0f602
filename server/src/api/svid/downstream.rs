//! `NewDownstreamX509CA`: what a nested server asks for.

use credence_crypto::csr::{CsrError, VerifiedCsr};
use credence_proto::spire::api::server::svid::v1 as pb;
use tonic::{Code, Status};

use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::limits::Bucket;
use crate::api::status::{fault, invalid};

/// The authorization table lets only callers with a downstream entry come here.
pub(super) async fn x509_ca(
    context: &Context,
    call: &Call,
    request: pb::NewDownstreamX509caRequest,
) -> Result<pb::NewDownstreamX509caResponse, Status> {
    call.note(
        "trust_domain_id",
        format!("spiffe://{}", context.trust_domain.as_str()),
    );
    context.limit(Bucket::Csr, call, 1).await.map_err(|limit| {
        let what = "rejecting request due to downstream CA signing rate limit";
        fault(Code::ResourceExhausted, what, limit)
    })?;
    let csr = VerifiedCsr::from_der(&request.csr).map_err(|fault| match fault {
        CsrError::Signature(_) => invalid("invalid CSR signature", fault),
        _ => invalid("malformed CSR", fault),
    })?;
    let chain = context
        .authority
        .sign_downstream_ca(&csr, super::mint::ttl(request.preferred_ttl))
        .map_err(|error| context.not_signed("failed to sign downstream X.509 CA", &error))?;
    if let (Some(made), Some(last)) = (chain.first(), chain.last()) {
        let (authority, now) = (last.authority_key_id(), context.clock.now());
        context.holdings.minted(authority, made.not_after(), now);
    }
    let bundle = context.registry.read().own_bundle().cloned();
    let bundle = bundle.ok_or_else(|| Status::not_found("bundle not found"))?;
    let roots = bundle.x509_authorities.iter();
    Ok(pb::NewDownstreamX509caResponse {
        ca_cert_chain: chain
            .iter()
            .map(|certificate| certificate.der().to_vec())
            .collect(),
        x509_authorities: roots.map(|root| root.der.to_vec()).collect(),
    })
}
