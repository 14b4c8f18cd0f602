//! Workload Proof Tokens: a short-lived token by which the holder of a WIT-SVID shows that it has the key (WIMSE Workload
//! Proof Token, 2).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credence_identity::Timestamp;
use serde_json::Value;

use super::{Unproven, WitError, WitSvid};
use crate::digest::sha256;
use crate::jws::{Compact, HeaderRules};

const HEADER: HeaderRules = HeaderRules {
    types: &["wpt+jwt"],
    typ_optional: false,
    kid_optional: true,
};

impl Unproven {
    /// Believes the token if `proof` is one for it, for `audience` (the target URI of the request) and for now, by the key that
    /// the token is bound to. Whether a proof was used before is for the caller to know.
    ///
    /// # Errors
    /// [`WitError::Proof`] and its kin; the token is not to be believed then.
    pub fn prove(self, proof: &str, audience: &str, now: Timestamp) -> Result<WitSvid, WitError> {
        let Self(svid) = self;
        let compact = Compact::parse(proof, &HEADER).map_err(WitError::Proof)?;
        if compact.algorithm() != svid.algorithm {
            return Err(WitError::ProofAlgorithm);
        }
        compact
            .verify_by(proof, &svid.public_key)
            .map_err(WitError::Proof)?;
        compact.times(now).map_err(WitError::Proof)?;
        let text = |claim: &str| compact.claims.get(claim).and_then(Value::as_str);
        if text("wth") != Some(&*URL_SAFE_NO_PAD.encode(sha256(svid.token.as_bytes()))) {
            return Err(WitError::ProofToken);
        }
        if text("aud") != Some(audience) {
            return Err(WitError::ProofAudience);
        }
        Ok(svid)
    }
}
