//! The bundles of other trust domains, set by hand: reading them, and `BatchCreate`, `BatchUpdate` and
//! `BatchSetFederatedBundle`.
//!
//! Invariant: the own bundle is none of them, neither to be read nor to be written here.

use std::sync::Arc;

use credence_identity::{Bundle, TrustDomain};
use credence_proto::spire::api::server::bundle::v1 as pb;
use credence_proto::spire::api::types;
use tonic::{Code, Status};

use crate::api::context::Context;
use crate::api::convert::bundle as convert;
use crate::api::draft::Draft;
use crate::api::paging::Page;
use crate::api::status::{self, fault, invalid};

/// What became of one item.
type Outcome = Result<Arc<Bundle>, Status>;

pub(super) fn list(
    context: &Context,
    request: &pb::ListFederatedBundlesRequest,
) -> Result<pb::ListFederatedBundlesResponse, Status> {
    let _counted = context.registry.telemetry().counted("datastore.bundle.list");
    let page = Page::new(request.page_size, &request.page_token)
        .map_err(|bad| fault(Code::Internal, "failed to list bundles", bad))?;
    let (found, next_page_token) = {
        let state = context.registry.read();
        let bundles = state.federated_bundles_after(page.after());
        page.take(bundles.map(|(row, bundle)| (row, Arc::clone(bundle))))
    };
    let mask = request.output_mask.as_ref().unwrap_or(&convert::ALL);
    Ok(pb::ListFederatedBundlesResponse {
        bundles: found
            .iter()
            .map(|bundle| convert::to_proto(bundle, mask))
            .collect(),
        next_page_token,
    })
}

pub(super) fn get(
    context: &Context,
    request: &pb::GetFederatedBundleRequest,
) -> Result<types::Bundle, Status> {
    let _counted = context.registry.telemetry().counted("datastore.bundle.fetch");
    let domain = foreign(
        context,
        &request.trust_domain,
        "getting a federated bundle for the server's own trust domain is not allowed",
    )?;
    let bundle = context.registry.read().bundle(&domain).cloned();
    let bundle = bundle.ok_or_else(not_found)?;
    let mask = request.output_mask.as_ref().unwrap_or(&convert::ALL);
    Ok(convert::to_proto(&bundle, mask))
}

pub(super) async fn create(
    context: &Context,
    request: pb::BatchCreateFederatedBundleRequest,
) -> pb::BatchCreateFederatedBundleResponse {
    const OWN: &str = "creating a federated bundle for the server's own trust domain is not allowed";
    let put = |draft: &mut Draft<'_>, bundle: Bundle| {
        if draft.bundle(&bundle.trust_domain).is_some() {
            return Err(Status::already_exists("bundle already exists"));
        }
        Ok(stored(draft, bundle))
    };
    let outcomes = write(context, "unable to create bundle", &request.bundle, OWN, put).await;
    let results = outcomes.into_iter().map(|outcome| {
        if let Ok(bundle) = &outcome {
            tracing::debug!(trust_domain_id = %bundle.trust_domain, "Federated bundle created");
        }
        let (status, bundle) = answer(outcome, request.output_mask.as_ref());
        pb::batch_create_federated_bundle_response::Result { status, bundle }
    });
    pb::BatchCreateFederatedBundleResponse {
        results: results.collect(),
    }
}

pub(super) async fn update(
    context: &Context,
    request: pb::BatchUpdateFederatedBundleRequest,
) -> pb::BatchUpdateFederatedBundleResponse {
    const OWN: &str = "updating a federated bundle for the server's own trust domain is not allowed";
    let input = request.input_mask.unwrap_or(convert::ALL);
    let put = move |draft: &mut Draft<'_>, bundle: Bundle| {
        let old = draft.bundle(&bundle.trust_domain).ok_or_else(not_found)?;
        let updated = merged(old, bundle, &input);
        Ok(stored(draft, updated))
    };
    let outcomes = write(context, "failed to update bundle", &request.bundle, OWN, put).await;
    let results = outcomes.into_iter().map(|outcome| {
        if let Ok(bundle) = &outcome {
            tracing::debug!(trust_domain_id = %bundle.trust_domain, "Federated bundle updated");
        }
        let (status, bundle) = answer(outcome, request.output_mask.as_ref());
        pb::batch_update_federated_bundle_response::Result { status, bundle }
    });
    pb::BatchUpdateFederatedBundleResponse {
        results: results.collect(),
    }
}

pub(super) async fn set(
    context: &Context,
    request: pb::BatchSetFederatedBundleRequest,
) -> pb::BatchSetFederatedBundleResponse {
    const OWN: &str = "setting a federated bundle for the server's own trust domain is not allowed";
    let put = |draft: &mut Draft<'_>, bundle: Bundle| Ok(stored(draft, bundle));
    let outcomes = write(context, "failed to set bundle", &request.bundle, OWN, put).await;
    let results = outcomes.into_iter().map(|outcome| {
        if let Ok(bundle) = &outcome {
            tracing::info!(trust_domain_id = %bundle.trust_domain, "Bundle set successfully");
        }
        let (status, bundle) = answer(outcome, request.output_mask.as_ref());
        pb::batch_set_federated_bundle_response::Result { status, bundle }
    });
    pb::BatchSetFederatedBundleResponse {
        results: results.collect(),
    }
}

/// The trust domain of a request, if it isn't the server's own, of which `own` says that it isn't allowed.
pub(super) fn foreign(context: &Context, name: &str, own: &'static str) -> Result<TrustDomain, Status> {
    let domain = TrustDomain::parse_lenient(name)
        .map_err(|fault| invalid("trust domain argument is not valid", fault))?;
    if domain == context.trust_domain {
        return Err(Status::invalid_argument(own));
    }
    Ok(domain)
}

pub(super) fn not_found() -> Status {
    Status::not_found("bundle not found")
}

/// Writes the bundles that are in order, in one transaction, each by `put`.
async fn write(
    context: &Context,
    what: &str,
    bundles: &[types::Bundle],
    own: &'static str,
    put: impl Fn(&mut Draft<'_>, Bundle) -> Outcome + Send + 'static,
) -> Vec<Outcome> {
    let asked = bundles.len();
    let read = |bundle: &types::Bundle| {
        foreign(context, &bundle.trust_domain, own)?;
        convert::from_proto(bundle).map_err(|fault| invalid("failed to convert bundle", fault))
    };
    let bundles: Vec<Result<Bundle, Status>> = bundles.iter().map(read).collect();
    let written = context.registry.transact(move |state| {
        let mut draft = Draft::of(state);
        let outcomes: Vec<Outcome> = bundles
            .into_iter()
            .map(|bundle| put(&mut draft, bundle?))
            .collect();
        Ok((draft.into_changes(), outcomes))
    });
    match written.await {
        Ok(outcomes) => outcomes,
        Err(error) => vec![Err(context.not_committed(what, &error)); asked],
    }
}

fn stored(draft: &mut Draft<'_>, bundle: Bundle) -> Arc<Bundle> {
    let bundle = Arc::new(bundle);
    draft.put_bundle(Arc::clone(&bundle));
    bundle
}

/// The old bundle with what the mask names of the new one.
fn merged(old: &Bundle, new: Bundle, mask: &types::BundleMask) -> Bundle {
    let mut bundle = Bundle::clone(old);
    if mask.x509_authorities {
        bundle.x509_authorities = new.x509_authorities;
    }
    if mask.jwt_authorities {
        bundle.jwt_authorities = new.jwt_authorities;
    }
    if mask.refresh_hint {
        bundle.refresh_hint = new.refresh_hint;
    }
    if mask.sequence_number {
        bundle.sequence_number = new.sequence_number;
    }
    bundle
}

fn answer(
    outcome: Outcome,
    mask: Option<&types::BundleMask>,
) -> (Option<types::Status>, Option<types::Bundle>) {
    match outcome {
        Ok(bundle) => {
            let bundle = convert::to_proto(&bundle, mask.unwrap_or(&convert::ALL));
            (Some(status::item_ok()), Some(bundle))
        }
        Err(refusal) => (Some(status::item(&refusal)), None),
    }
}
