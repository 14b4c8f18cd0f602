//! What each stream shows of identities and bundles, in the messages of the Workload API and of the delegated one.
//!
//! X.509, JWT and WIT material never mix: an authority of one kind must not vouch for the other.

use std::collections::BTreeMap;

use credence_crypto::bundle::{to_jwks, x509_to_der};
use credence_identity::{Bundle, SpiffeId, TrustDomain};
use credence_proto::spiffe_workload::{
    JwtBundlesResponse, WitBundlesResponse, X509BundlesResponse, X509svid, X509svidResponse,
};
use credence_proto::spire::api::agent::delegatedidentity::v1 as delegated;
use credence_proto::spire::api::types;

use crate::cache::{Identity, WorkloadUpdate};

/// A stream's way to look at an update.
pub(super) struct View<M> {
    /// Whether it shows SVIDs, for which a first answer waits; bundles are there from the start.
    pub(super) shows_svids: bool,
    /// Whether two updates look the same.
    pub(super) same: fn(&WorkloadUpdate, &WorkloadUpdate) -> bool,
    /// The whole truth as a message.
    pub(super) message: fn(&WorkloadUpdate) -> M,
}

pub(super) const X509_SVIDS: View<X509svidResponse> = View {
    shows_svids: true,
    same: |old, new| same_identities(old, new) && same_bundles(old, new, same_x509),
    message: x509_svids,
};

pub(super) const X509_BUNDLES: View<X509BundlesResponse> = View {
    shows_svids: false,
    same: |old, new| same_bundles(old, new, same_x509),
    message: |update| X509BundlesResponse {
        crl: Vec::new(),
        bundles: all_bundles(update, x509_to_der),
    },
};

pub(super) const JWT_BUNDLES: View<JwtBundlesResponse> = View {
    shows_svids: false,
    same: |old, new| same_bundles(old, new, |a, b| a.jwt_authorities == b.jwt_authorities),
    message: |update| JwtBundlesResponse {
        bundles: all_bundles(update, |bundle| to_jwks(&bundle.jwt_authorities).into_bytes()),
    },
};

pub(super) const WIT_BUNDLES: View<WitBundlesResponse> = View {
    shows_svids: false,
    same: |old, new| same_bundles(old, new, |a, b| a.wit_authorities == b.wit_authorities),
    message: |update| WitBundlesResponse {
        bundles: all_bundles(update, |bundle| to_jwks(&bundle.wit_authorities)),
    },
};

/// X.509-SVIDs for a delegate, who gets the bundles by a stream of their own and here only the names of those needed.
pub(super) const DELEGATED_X509_SVIDS: View<delegated::SubscribeToX509sviDsResponse> = View {
    shows_svids: true,
    same: |old, new| same_identities(old, new) && old.federated.keys().eq(new.federated.keys()),
    message: |update| delegated::SubscribeToX509sviDsResponse {
        x509_svids: update.identities.iter().map(delegated_x509_svid).collect(),
        federates_with: update.federated.keys().map(key).collect(),
    },
};

pub(super) const DELEGATED_X509_BUNDLES: View<delegated::SubscribeToX509BundlesResponse> = View {
    shows_svids: false,
    same: X509_BUNDLES.same,
    message: |update| delegated::SubscribeToX509BundlesResponse {
        ca_certificates: all_bundles(update, x509_to_der),
    },
};

pub(super) const DELEGATED_JWT_BUNDLES: View<delegated::SubscribeToJwtBundlesResponse> = View {
    shows_svids: false,
    same: JWT_BUNDLES.same,
    message: |update| delegated::SubscribeToJwtBundlesResponse {
        bundles: all_bundles(update, |bundle| to_jwks(&bundle.jwt_authorities).into_bytes()),
    },
};

/// A SPIFFE ID as SPIRE's own APIs have it.
pub(super) fn id_message(id: &SpiffeId) -> types::Spiffeid {
    types::Spiffeid {
        trust_domain: id.trust_domain_name().to_owned(),
        path: id.path().to_owned(),
    }
}

fn delegated_x509_svid(Identity { entry, svid }: &Identity) -> delegated::X509svidWithKey {
    delegated::X509svidWithKey {
        x509_svid: Some(types::X509svid {
            cert_chain: svid.svid.chain.iter().map(|der| der.to_vec()).collect(),
            id: Some(id_message(&svid.svid.id)),
            expires_at: svid.svid.not_after.unix_seconds(),
            hint: entry.hint.to_string(),
        }),
        x509_svid_key: svid.key.pkcs8_der().to_vec(),
    }
}

fn x509_svids(update: &WorkloadUpdate) -> X509svidResponse {
    let bundle = x509_to_der(&update.bundle);
    let show = |Identity { entry, svid }: &Identity| X509svid {
        spiffe_id: svid.svid.id.to_string(),
        x509_svid: svid.svid.chain_der(),
        x509_svid_key: svid.key.pkcs8_der().to_vec(),
        bundle: bundle.clone(),
        hint: entry.hint.to_string(),
    };
    X509svidResponse {
        svids: update.identities.iter().map(show).collect(),
        crl: Vec::new(),
        federated_bundles: federated(update, x509_to_der),
    }
}

fn same_identities(old: &WorkloadUpdate, new: &WorkloadUpdate) -> bool {
    let shown = |update: &WorkloadUpdate| {
        update
            .identities
            .iter()
            .map(|identity| (identity.svid.clone(), identity.entry.hint.clone()))
            .collect()
    };
    let (old, new): (Vec<_>, Vec<_>) = (shown(old), shown(new));
    old.len() == new.len()
        && old
            .iter()
            .zip(&new)
            .all(|((a, x), (b, y))| std::sync::Arc::ptr_eq(a, b) && x == y)
}

fn same_bundles(old: &WorkloadUpdate, new: &WorkloadUpdate, same: fn(&Bundle, &Bundle) -> bool) -> bool {
    same(&old.bundle, &new.bundle)
        && old.federated.len() == new.federated.len()
        && old
            .federated
            .iter()
            .zip(&new.federated)
            .all(|((a, x), (b, y))| a == b && same(x, y))
}

fn same_x509(a: &Bundle, b: &Bundle) -> bool {
    let ders = |bundle: &Bundle| {
        bundle
            .x509_authorities
            .iter()
            .map(|authority| authority.der.clone())
            .collect()
    };
    let (a, b): (Vec<_>, Vec<_>) = (ders(a), ders(b));
    a == b
}

type ByTrustDomain<V> = BTreeMap<String, V>;

fn key(trust_domain: &TrustDomain) -> String {
    trust_domain.id().to_string()
}

fn federated<V>(update: &WorkloadUpdate, form: impl Fn(&Bundle) -> V) -> ByTrustDomain<V> {
    update
        .federated
        .iter()
        .map(|(trust_domain, bundle)| (key(trust_domain), form(bundle)))
        .collect()
}

fn all_bundles<V>(update: &WorkloadUpdate, form: impl Fn(&Bundle) -> V) -> ByTrustDomain<V> {
    let mut all = federated(update, &form);
    all.insert(key(&update.bundle.trust_domain), form(&update.bundle));
    all
}
