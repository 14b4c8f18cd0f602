//! Federation relationships on the wire.

use credence_identity::{
    Bundle, BundleEndpointProfile, BundleEndpointUrlError, FederationRelationship, SpiffeId, SpiffeIdError,
    TrustDomain,
};
use credence_proto::spire::api::types;
use types::federation_relationship::BundleEndpointProfile as Profile;

use super::bundle::{self, BundleFault};

/// The mask of a request that has none: everything.
pub(crate) const ALL: types::FederationRelationshipMask = types::FederationRelationshipMask {
    bundle_endpoint_url: true,
    bundle_endpoint_profile: true,
    trust_domain_bundle: true,
};

/// What is wrong with a relationship of a request; the texts are SPIRE's.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RelationshipFault {
    #[error("failed to parse trust domain: {0}")]
    TrustDomain(SpiffeIdError),
    #[error(transparent)]
    Url(BundleEndpointUrlError),
    #[error("unsupported bundle endpoint profile type: <nil>")]
    NoProfile,
    #[error("failed to parse endpoint SPIFFE ID: {0}")]
    EndpointId(SpiffeIdError),
    #[error("failed to parse bundle: {0}")]
    Bundle(BundleFault),
    #[error(
        "trust domain bundle (\"{bundle}\") must match the trust domain of the federation relationship (\"{own}\")"
    )]
    OtherBundle { bundle: String, own: TrustDomain },
}

/// The relationship of a request, and the bundle it begins with, if the request has one.
pub(crate) fn from_proto(
    message: &types::FederationRelationship,
) -> Result<(FederationRelationship, Option<Bundle>), RelationshipFault> {
    let trust_domain =
        TrustDomain::parse_lenient(&message.trust_domain).map_err(RelationshipFault::TrustDomain)?;
    let bundle_endpoint_url = message
        .bundle_endpoint_url
        .parse()
        .map_err(RelationshipFault::Url)?;
    let bundle_endpoint_profile = match &message.bundle_endpoint_profile {
        None => return Err(RelationshipFault::NoProfile),
        Some(Profile::HttpsWeb(_)) => BundleEndpointProfile::HttpsWeb,
        Some(Profile::HttpsSpiffe(profile)) => BundleEndpointProfile::HttpsSpiffe {
            endpoint_spiffe_id: SpiffeId::parse(&profile.endpoint_spiffe_id)
                .map_err(RelationshipFault::EndpointId)?,
        },
    };
    let bundle = match &message.trust_domain_bundle {
        None => None,
        Some(sent) => {
            let bundle = bundle::from_proto(sent).map_err(RelationshipFault::Bundle)?;
            if bundle.trust_domain != trust_domain {
                return Err(RelationshipFault::OtherBundle {
                    bundle: sent.trust_domain.clone(),
                    own: trust_domain,
                });
            }
            Some(bundle)
        }
    };
    let relationship = FederationRelationship {
        trust_domain,
        bundle_endpoint_url,
        bundle_endpoint_profile,
    };
    Ok((relationship, bundle))
}

/// The relationship on the wire, with the name of its trust domain and what the mask asks for.
pub(crate) fn to_proto(
    relationship: &FederationRelationship,
    bundle: Option<&Bundle>,
    mask: &types::FederationRelationshipMask,
) -> types::FederationRelationship {
    let profile = match &relationship.bundle_endpoint_profile {
        BundleEndpointProfile::HttpsWeb => Profile::HttpsWeb(types::HttpsWebProfile {}),
        BundleEndpointProfile::HttpsSpiffe { endpoint_spiffe_id } => {
            Profile::HttpsSpiffe(types::HttpsspiffeProfile {
                endpoint_spiffe_id: endpoint_spiffe_id.as_str().to_owned(),
            })
        }
    };
    types::FederationRelationship {
        trust_domain: relationship.trust_domain.as_str().to_owned(),
        bundle_endpoint_url: if mask.bundle_endpoint_url {
            relationship.bundle_endpoint_url.as_str().to_owned()
        } else {
            String::new()
        },
        bundle_endpoint_profile: mask.bundle_endpoint_profile.then_some(profile),
        trust_domain_bundle: bundle
            .filter(|_| mask.trust_domain_bundle)
            .map(|bundle| bundle::to_proto(bundle, &bundle::ALL)),
    }
}
