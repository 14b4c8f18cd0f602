//! `BatchCreate`, `BatchUpdate` and `BatchDeleteFederationRelationship`.
//!
//! Invariant: a relationship and the bundle that comes with it are written together or not at all.

use std::sync::Arc;

use credence_identity::{Bundle, BundleEndpointProfile, FederationRelationship, TrustDomain};
use credence_proto::spire::api::server::trustdomain::v1 as pb;
use credence_proto::spire::api::types;
use tonic::{Code, Status};

use super::convert;
use crate::api::context::Context;
use crate::api::draft::Draft;
use crate::api::status::{self, fault, invalid};

/// A relationship, and the bundle to be shown with it.
type Shown = (Arc<FederationRelationship>, Option<Arc<Bundle>>);
type Outcome = Result<Shown, Status>;
/// An item of a request.
type Asked = (FederationRelationship, Option<Bundle>);

pub(super) async fn create(
    context: &Context,
    request: pb::BatchCreateFederationRelationshipRequest,
) -> pb::BatchCreateFederationRelationshipResponse {
    const WHAT: &str = "failed to create federation relationship";
    let asked = request.federation_relationships.iter().map(|message| {
        let (relationship, bundle) = read(message)?;
        if relationship.trust_domain == context.trust_domain {
            let text = "unable to create federation relationship for server trust domain";
            return Err(Status::invalid_argument(text));
        }
        Ok((relationship, bundle))
    });
    let put = |draft: &mut Draft<'_>, (relationship, bundle): Asked| {
        let domain = &relationship.trust_domain;
        if draft.relationship(domain).is_some() {
            let text = format!("there is one with trust domain \"{domain}\" already");
            return Err(fault(Code::Internal, WHAT, text));
        }
        let bundle = bundle.map(|bundle| stored(draft, bundle));
        let relationship = Arc::new(relationship);
        draft.put_relationship(Arc::clone(&relationship));
        Ok((relationship, bundle))
    };
    let outcomes = write(context, WHAT, asked.collect(), put).await;
    let results = outcomes.into_iter().map(|outcome| {
        if let Ok(shown) = &outcome {
            warn_of_missing_bundle(context, shown);
            tracing::debug!(trust_domain_id = %shown.0.trust_domain, "Federation relationship created");
        }
        let (status, federation_relationship) = answer(outcome, request.output_mask.as_ref());
        pb::batch_create_federation_relationship_response::Result {
            status,
            federation_relationship,
        }
    });
    pb::BatchCreateFederationRelationshipResponse {
        results: results.collect(),
    }
}

pub(super) async fn update(
    context: &Context,
    request: pb::BatchUpdateFederationRelationshipRequest,
) -> pb::BatchUpdateFederationRelationshipResponse {
    const WHAT: &str = "failed to update federation relationship";
    let mask = request.input_mask.unwrap_or(convert::ALL);
    let put = move |draft: &mut Draft<'_>, (new, bundle): Asked| {
        let domain = new.trust_domain.clone();
        let old = draft.relationship(&domain).ok_or_else(|| {
            let text = "unable to fetch federation relationship: record not found";
            fault(Code::Internal, WHAT, text)
        })?;
        let mut relationship = FederationRelationship::clone(old);
        if mask.bundle_endpoint_url {
            relationship.bundle_endpoint_url = new.bundle_endpoint_url;
        }
        if mask.bundle_endpoint_profile {
            relationship.bundle_endpoint_profile = new.bundle_endpoint_profile;
        }
        if let Some(bundle) = bundle.filter(|_| mask.trust_domain_bundle) {
            stored(draft, bundle);
        }
        let relationship = Arc::new(relationship);
        draft.put_relationship(Arc::clone(&relationship));
        Ok((relationship, draft.bundle(&domain).cloned()))
    };
    let asked = request.federation_relationships.iter().map(read);
    let outcomes = write(context, WHAT, asked.collect(), put).await;
    let results = outcomes.into_iter().map(|outcome| {
        if let Ok(shown) = &outcome {
            warn_of_missing_bundle(context, shown);
            tracing::debug!(trust_domain_id = %shown.0.trust_domain, "Federation relationship updated");
        }
        let (status, federation_relationship) = answer(outcome, request.output_mask.as_ref());
        pb::batch_update_federation_relationship_response::Result {
            status,
            federation_relationship,
        }
    });
    pb::BatchUpdateFederationRelationshipResponse {
        results: results.collect(),
    }
}

pub(super) async fn delete(
    context: &Context,
    request: pb::BatchDeleteFederationRelationshipRequest,
) -> pb::BatchDeleteFederationRelationshipResponse {
    let asked: Vec<Result<TrustDomain, Status>> = request
        .trust_domains
        .iter()
        .map(|name| {
            if name.is_empty() {
                return Err(Status::invalid_argument("missing trust domain"));
            }
            TrustDomain::parse_lenient(name).map_err(|fault| invalid("failed to parse trust domain", fault))
        })
        .collect();
    // A name that parses is answered bare, one that doesn't as it came.
    let names = request.trust_domains.iter().zip(&asked);
    let names: Vec<String> = names
        .map(|(sent, parsed)| match parsed {
            Ok(domain) => domain.as_str().to_owned(),
            Err(_) => sent.clone(),
        })
        .collect();
    let deleted = context.registry.transact(move |state| {
        let mut draft = Draft::of(state);
        let delete = |asked: Result<TrustDomain, Status>| {
            let domain = asked?;
            if draft.relationship(&domain).is_none() {
                return Err(Status::not_found("federation relationship not found"));
            }
            draft.delete_relationship(&domain);
            Ok(())
        };
        let outcomes: Vec<Result<(), Status>> = asked.into_iter().map(delete).collect();
        Ok((draft.into_changes(), outcomes))
    });
    let outcomes = match deleted.await {
        Ok(outcomes) => outcomes,
        Err(error) => {
            let status = context.not_committed("failed to delete federation relationship", &error);
            vec![Err(status); names.len()]
        }
    };
    let results = names.into_iter().zip(outcomes).map(|(trust_domain, outcome)| {
        let status = match outcome {
            Ok(()) => {
                tracing::debug!(trust_domain_id = trust_domain, "Federation relationship deleted");
                status::item_ok()
            }
            Err(refusal) => status::item(&refusal),
        };
        pb::batch_delete_federation_relationship_response::Result {
            status: Some(status),
            trust_domain,
        }
    });
    pb::BatchDeleteFederationRelationshipResponse {
        results: results.collect(),
    }
}

/// The whole item is checked, whatever the mask asks for, as SPIRE does.
fn read(message: &types::FederationRelationship) -> Result<Asked, Status> {
    convert::from_proto(message).map_err(|fault| invalid("failed to convert federation relationship", fault))
}

async fn write(
    context: &Context,
    what: &str,
    asked: Vec<Result<Asked, Status>>,
    put: impl Fn(&mut Draft<'_>, Asked) -> Outcome + Send + 'static,
) -> Vec<Outcome> {
    let count = asked.len();
    let written = context.registry.transact(move |state| {
        let mut draft = Draft::of(state);
        let outcomes: Vec<Outcome> = asked.into_iter().map(|asked| put(&mut draft, asked?)).collect();
        Ok((draft.into_changes(), outcomes))
    });
    match written.await {
        Ok(outcomes) => outcomes,
        Err(error) => vec![Err(context.not_committed(what, &error)); count],
    }
}

fn stored(draft: &mut Draft<'_>, bundle: Bundle) -> Arc<Bundle> {
    let bundle = Arc::new(bundle);
    draft.put_bundle(Arc::clone(&bundle));
    bundle
}

/// An endpoint that shows an SVID can only be trusted by the bundle of its trust domain.
fn warn_of_missing_bundle(context: &Context, (relationship, bundle): &Shown) {
    if let (None, BundleEndpointProfile::HttpsSpiffe { endpoint_spiffe_id }) =
        (bundle, &relationship.bundle_endpoint_profile)
        && context
            .registry
            .read()
            .bundle(&endpoint_spiffe_id.trust_domain())
            .is_none()
    {
        tracing::warn!(
            trust_domain_id = %relationship.trust_domain,
            endpoint_spiffe_id = %endpoint_spiffe_id,
            "bundle not found for the endpoint SPIFFE ID trust domain"
        );
    }
}

fn answer(
    outcome: Outcome,
    mask: Option<&types::FederationRelationshipMask>,
) -> (Option<types::Status>, Option<types::FederationRelationship>) {
    match outcome {
        Ok((relationship, bundle)) => {
            let mask = mask.unwrap_or(&convert::ALL);
            let shown = convert::to_proto(&relationship, bundle.as_deref(), mask);
            (Some(status::item_ok()), Some(shown))
        }
        Err(refusal) => (Some(status::item(&refusal)), None),
    }
}
