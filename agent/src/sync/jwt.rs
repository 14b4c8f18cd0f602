//! JWT-SVIDs from the server, for the cache.

use std::time::Duration;

use credence_crypto::jwt::JwtSvid;
use credence_identity::EntryId;
use credence_runtime::backoff::jittered;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Code;

use super::server::{CallError, Server};
use crate::cache::{JwtFetchError, JwtIssuer};

/// Between two attempts while the server is away, as SPIRE's agent has it.
const RETRY: Duration = Duration::from_secs(1);

/// Asks the server, again while it is away.
#[derive(Debug)]
pub(crate) struct ServerJwtIssuer(pub(crate) Server);

impl JwtIssuer for ServerJwtIssuer {
    fn issue(
        &self,
        entry: EntryId,
        audience: Vec<String>,
        patience: Duration,
    ) -> BoxFuture<'static, Result<JwtSvid, JwtFetchError>> {
        let server = self.0.clone();
        async move {
            let deadline = Instant::now() + patience;
            let mut last = JwtFetchError::Unavailable("the server did not answer in time".into());
            loop {
                match timeout_at(deadline, server.new_jwt_svid(&entry, &audience)).await {
                    Ok(Ok(svid)) => return Ok(svid),
                    Ok(Err(error)) => {
                        tracing::debug!(%error, entry = %entry, "Failed to fetch JWT SVID");
                        last = failure(&error);
                        if !error.may_pass() {
                            return Err(last);
                        }
                    }
                    Err(_) => return Err(last),
                }
                if timeout_at(deadline, sleep(jittered(RETRY, 0.1))).await.is_err() {
                    return Err(last);
                }
            }
        }
        .boxed()
    }
}

fn failure(error: &CallError) -> JwtFetchError {
    let whole = || error.to_string().into();
    match (error, error.code()) {
        (CallError::Answer { .. }, _) => JwtFetchError::Malformed(whole()),
        // The server's own words, since scripts look for them.
        (_, Code::Unimplemented) => JwtFetchError::Unsupported(error.message().into()),
        (_, Code::InvalidArgument | Code::NotFound | Code::PermissionDenied | Code::FailedPrecondition) => {
            JwtFetchError::Refused(whole())
        }
        _ => JwtFetchError::Unavailable(whole()),
    }
}
