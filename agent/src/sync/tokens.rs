//! JWT- and WIT-SVIDs from the server, for the cache.

use std::time::Duration;

use credence_crypto::jwt::JwtSvid;
use credence_crypto::{KeyType, PrivateKey, private_jwk};
use credence_identity::EntryId;
use credence_runtime::backoff::jittered;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, timeout_at};
use tonic::Code;

use super::server::{CallError, Server};
use crate::cache::{TokenError, TokenIssuer, WitSvidKey};

/// Between two attempts while the server is away, as SPIRE's agent has it.
const RETRY: Duration = Duration::from_secs(1);

/// Asks the server, again while it is away.
#[derive(Debug)]
pub(crate) struct ServerTokenIssuer {
    pub(crate) server: Server,
    /// The type of the keys that WIT-SVIDs are bound to.
    pub(crate) key_type: KeyType,
}

impl TokenIssuer<JwtSvid> for ServerTokenIssuer {
    fn issue(
        &self,
        entry: EntryId,
        audience: Vec<String>,
        patience: Duration,
    ) -> BoxFuture<'static, Result<JwtSvid, TokenError>> {
        let server = self.server.clone();
        async move {
            let ask = || async { server.new_jwt_svid(&entry, &audience).await };
            persist(&entry, patience, "Failed to fetch JWT SVID", ask).await
        }
        .boxed()
    }
}

impl TokenIssuer<WitSvidKey> for ServerTokenIssuer {
    fn issue(
        &self,
        entry: EntryId,
        _: Vec<String>,
        patience: Duration,
    ) -> BoxFuture<'static, Result<WitSvidKey, TokenError>> {
        let (server, key_type) = (self.server.clone(), self.key_type);
        async move {
            let key = new_key(key_type).await?;
            let ask = || async { server.new_wit_svid(&entry, &key).await };
            let svid = persist(&entry, patience, "Failed to fetch WIT SVID", ask).await?;
            Ok(WitSvidKey { svid, key })
        }
        .boxed()
    }
}

/// Off the tasks that serve: RSA keys take their time.
async fn new_key(key_type: KeyType) -> Result<PrivateKey, TokenError> {
    let made = spawn_blocking(move || PrivateKey::generate(key_type).ok()).await;
    // A workload gets its key as a JWK.
    made.ok()
        .flatten()
        .filter(|key| private_jwk(key).is_some())
        .ok_or_else(|| TokenError::Unavailable("unable to generate private key".into()))
}

/// Asks again while the failure may pass, until `patience` is over.
async fn persist<T, F: Future<Output = Result<T, CallError>>>(
    entry: &EntryId,
    patience: Duration,
    failed: &'static str,
    ask: impl Fn() -> F,
) -> Result<T, TokenError> {
    let deadline = Instant::now() + patience;
    let mut last = TokenError::Unavailable("the server did not answer in time".into());
    loop {
        match timeout_at(deadline, ask()).await {
            Ok(Ok(token)) => return Ok(token),
            Ok(Err(error)) => {
                tracing::debug!(%error, entry = %entry, "{failed}");
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

fn failure(error: &CallError) -> TokenError {
    let whole = || error.to_string().into();
    match (error, error.code()) {
        (CallError::Answer { .. }, _) => TokenError::Malformed(whole()),
        // The server's own words, since scripts look for them.
        (_, Code::Unimplemented) => TokenError::Unsupported(error.message().into()),
        (_, Code::InvalidArgument | Code::NotFound | Code::PermissionDenied | Code::FailedPrecondition) => {
            TokenError::Refused(whole())
        }
        _ => TokenError::Unavailable(whole()),
    }
}
