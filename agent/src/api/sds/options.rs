//! What the operator says about Envoy's secrets.

use crate::api::limits::{Limits, RateLimits};

/// The `sds` block, and the limits of its calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SdsOptions {
    /// The secret that is a workload's first X.509-SVID.
    pub default_svid_name: String,
    /// The secret that is the bundle of the own trust domain.
    pub default_bundle_name: String,
    /// The secret that is all bundles.
    pub default_all_bundles_name: String,
    /// Envoy's own validation instead of that by SPIFFE ID.
    pub disable_spiffe_cert_validation: bool,
    /// `experimental.ratelimit`.
    pub rate_limits: RateLimits,
}

impl Default for SdsOptions {
    fn default() -> Self {
        Self {
            default_svid_name: "default".to_owned(),
            default_bundle_name: "ROOTCA".to_owned(),
            default_all_bundles_name: "ALL".to_owned(),
            disable_spiffe_cert_validation: false,
            rate_limits: RateLimits::default(),
        }
    }
}

/// What a call finds set up.
#[derive(Debug)]
pub(super) struct Profile {
    pub(super) options: SdsOptions,
    pub(super) limits: Limits,
}

impl Profile {
    pub(super) fn new(options: SdsOptions) -> Self {
        let RateLimits {
            stream_secrets,
            fetch_secrets,
            ..
        } = options.rate_limits;
        let limits = Limits::new([
            ("StreamSecrets", stream_secrets),
            ("DeltaSecrets", stream_secrets),
            ("FetchSecrets", fetch_secrets),
        ]);
        Self { options, limits }
    }
}
