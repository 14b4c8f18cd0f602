//! Tokens for a call, whichever service it is of.

use std::sync::Arc;

use credence_crypto::jwt::JwtSvid;
use credence_identity::{Entry, SelectorSet};
use futures_util::future::try_join_all;
use tonic::Status;

use super::call::{Call, log};
use crate::cache::TokenError;
use crate::explain::Stage;

/// Refuses an audience for which no server would sign.
pub(super) fn check_audience<O>(call: &Call<O>, audience: &[String]) -> Result<(), Status> {
    if audience.is_empty() {
        let text = "audience must be specified";
        return Err(call.invalid("Missing required audience parameter", text));
    }
    if audience.iter().any(String::is_empty) {
        return Err(call.invalid("Invalid audience parameter", "audience must not be empty"));
    }
    Ok(())
}

/// A token for each of these entries of whom the selectors are, in their order. All or none.
pub(super) async fn fetch<O>(
    call: &Call<O>,
    (selectors, entries): (&SelectorSet, &[Arc<Entry>]),
    audience: &[String],
) -> Result<Vec<Arc<JwtSvid>>, Status> {
    let cache = &call.ground.cache;
    let tokens = try_join_all(entries.iter().map(|entry| cache.jwt_svid(entry, audience)));
    let tokens = tokens
        .await
        .map_err(|error| failed(call, selectors, "JWT-SVID", &error))?;
    // A fetch may have taken long: what it brought is for the process that asked, not for whoever has its socket now.
    call.still_there()?;
    for (entry, token) in entries.iter().zip(&tokens) {
        log!(
            debug,
            call,
            registered = true,
            spiffe_id = %entry.spiffe_id,
            ttl = call.ground.clock.now().until(token.expires_at).as_secs_f64(),
            "Fetched JWT SVID"
        );
        call.record_jwt(entry, token, audience, selectors);
    }
    Ok(tokens)
}

/// The refusal of a caller for whom no token of this kind could be had.
pub(super) fn failed<O>(
    call: &Call<O>,
    selectors: &SelectorSet,
    kind: &'static str,
    error: &TokenError,
) -> Status {
    log!(error, call, registered = true, %error, "Could not fetch {kind}");
    let status = match error {
        TokenError::Unsupported(text) => Status::unimplemented(&**text),
        other => Status::unavailable(format!("could not fetch {kind}: {other}")),
    };
    call.refuse(status, Stage::Jwt(error.to_string()), Some(selectors))
}
