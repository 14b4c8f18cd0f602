//! `MintWITSVID` and `BatchNewWITSVID`: tokens that are bound to a key of their holder.

use credence_crypto::wit::confirmation_algorithm;
use credence_crypto::{PublicKey, PublicKeyKind};
use credence_identity::{EntryId, SpiffeId, Timestamp};
use credence_proto::spire::api::server::svid::v1 as pb;
use credence_proto::spire::api::types;
use tonic::{Code, Status};

use super::mint;
use crate::api::call::Call;
use crate::api::context::Context;
use crate::api::convert::{svid, workload_id_from_proto};
use crate::api::limits::Bucket;
use crate::api::status::{self, fault, invalid};
use crate::ca::Holder;
use crate::registry::State;

type Outcome = pb::batch_new_witsvid_response::Result;

pub(super) fn mint(
    context: &Context,
    request: &pb::MintWitsvidRequest,
) -> Result<pb::MintWitsvidResponse, Status> {
    if context.authority.settings().wit.is_none() {
        return Err(Status::unimplemented("WIT functionality is disabled"));
    }
    let id = workload_id_from_proto(&context.trust_domain, request.id.as_ref())
        .map_err(|fault| invalid("invalid SPIFFE ID", fault))?;
    let key = PublicKey::from_spki_der(&request.public_key)
        .map_err(|fault| invalid("invalid public key", fault))?;
    let issued = context
        .authority
        .mint_wit_svid(
            &id,
            &holder(&key, &request.signing_algorithm)?,
            mint::ttl(request.ttl),
        )
        .map_err(|error| context.not_signed("failed to sign WIT-SVID", &error))?;
    Ok(pb::MintWitsvidResponse {
        svid: Some(svid::wit_to_proto(&id, issued)),
    })
}

pub(super) async fn batch(
    context: &Context,
    call: &Call,
    request: pb::BatchNewWitsvidRequest,
) -> Result<pb::BatchNewWitsvidResponse, Status> {
    if request.params.is_empty() {
        return Err(Status::invalid_argument("missing parameters"));
    }
    context
        .limit(Bucket::Wit, call, request.params.len())
        .await
        .map_err(|limit| {
            fault(
                Code::ResourceExhausted,
                "rejecting request due to certificate signing rate limiting",
                limit,
            )
        })?;
    let agent = call.agent()?;
    let mut results = Vec::with_capacity(request.params.len());
    for params in &request.params {
        let outcome = match issue(context, agent, params) {
            Ok(svid) => Outcome {
                status: Some(status::item_ok()),
                svid: Some(svid),
            },
            Err(refusal) => Outcome {
                status: Some(status::item(&refusal)),
                svid: None,
            },
        };
        results.push(outcome);
        tokio::task::yield_now().await;
    }
    Ok(pb::BatchNewWitsvidResponse { results })
}

fn issue(
    context: &Context,
    agent: &SpiffeId,
    params: &pb::NewWitsvidParams,
) -> Result<types::Witsvid, Status> {
    if params.entry_id.is_empty() {
        return Err(Status::invalid_argument("missing entry ID"));
    }
    if params.public_key.is_empty() {
        return Err(Status::invalid_argument("missing public key"));
    }
    let authorized = |state: &State, now: Timestamp| {
        let id = EntryId::parse(&params.entry_id).ok()?;
        state.authorized_entry(agent, &id, now)
    };
    let entry = authorized(&context.registry.read(), context.clock.now())
        .ok_or_else(|| Status::not_found("entry not found or not authorized"))?;
    let key = PublicKey::from_spki_der(&params.public_key)
        .map_err(|fault| invalid("malformed public key", fault))?;
    let issued = context
        .authority
        .sign_wit_svid(&entry, &holder(&key, &params.signing_algorithm)?)
        .map_err(|error| context.not_signed("failed to sign WIT-SVID", &error))?;
    Ok(svid::wit_to_proto(&entry.spiffe_id, issued))
}

fn holder<'a>(key: &'a PublicKey, algorithm: &str) -> Result<Holder<'a>, Status> {
    let known = confirmation_algorithm(key, algorithm).ok_or_else(|| {
        let unsupported = |kind| format!("unsupported signing algorithm for {kind} key: {algorithm}");
        let text = match key.kind() {
            PublicKeyKind::EcP256 => unsupported("ec-p256"),
            PublicKeyKind::EcP384 => unsupported("ec-p384"),
            PublicKeyKind::EcP521 => unsupported("ec-p521"),
            PublicKeyKind::Rsa { .. } => unsupported("RSA"),
            kind @ PublicKeyKind::Ed25519 => format!("unsupported key type '{kind}'"),
        };
        invalid("invalid signing algorithm or key type", text)
    })?;
    Ok(Holder {
        public_key: key,
        algorithm: known,
    })
}
