//! JWT-SVIDs by entry and audience.
//!
//! Never serves an expired token. Invariant: of concurrent calls for one key that find nothing fresh, one asks the
//! server, and all get its answer.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use credence_crypto::jwt::JwtSvid;
use credence_identity::{Entry, EntryId, SpiffeId, Timestamp};
use credence_runtime::clock::Clock;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::distrust::Distrusted;
use super::shelf::{Document, EntryVersion, Kept, Moment, Shelf};

/// How long a call without a usable token waits for a server that is away. Callers mostly wait for less.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no JWT-SVID for a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum JwtFetchError {
    /// The server doesn't issue JWT-SVIDs at all.
    #[error("{0}")]
    Unsupported(Arc<str>),
    /// The server won't issue this one: the audience is invalid, or the entry isn't this agent's any more.
    #[error("{0}")]
    Refused(Arc<str>),
    /// The server can't be reached or can't answer now; a later call may succeed.
    #[error("{0}")]
    Unavailable(Arc<str>),
    /// What the server sent is no JWT-SVID for this entry and audience.
    #[error("{0}")]
    Malformed(Arc<str>),
}

/// Where JWT-SVIDs come from: the server connection.
pub trait JwtIssuer: Send + Sync + fmt::Debug {
    /// Asks for a token, again after failures that may pass, until `patience` is over.
    ///
    /// Cancel safe: a dropped call may have used up a token at the server and changes nothing else.
    fn issue(
        &self,
        entry: EntryId,
        audience: Vec<String>,
        patience: Duration,
    ) -> BoxFuture<'static, Result<JwtSvid, JwtFetchError>>;
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    entry: EntryId,
    audience: Vec<String>,
}

type Answer = Result<Arc<JwtSvid>, JwtFetchError>;
type Call = BoxFuture<'static, Answer>;

/// Clones share the tokens.
#[derive(Clone)]
pub(crate) struct JwtCache {
    inner: Arc<Inner>,
}

struct Inner {
    clock: Arc<dyn Clock>,
    issuer: Arc<dyn JwtIssuer>,
    patience_with_token: Duration,
    tokens: Mutex<Tokens>,
}

struct Tokens {
    held: Shelf<Key, JwtSvid>,
    // Weak, so that a call whose askers have all gone away is dropped and not joined later.
    calls: HashMap<Key, WeakShared<Call>>,
    // A token of theirs that was under way is handed out, but not kept.
    distrusted: Distrusted,
}

impl Document for JwtSvid {
    fn spiffe_id(&self) -> &SpiffeId {
        &self.id
    }

    fn not_after(&self) -> Timestamp {
        self.expires_at
    }

    fn authority(&self) -> Option<&[u8]> {
        Some(self.key_id.as_bytes())
    }
}

impl JwtCache {
    /// Holds at most `limit` tokens; while one still serves, the server gets `patience_with_token` to renew it.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        issuer: Arc<dyn JwtIssuer>,
        limit: usize,
        patience_with_token: Duration,
    ) -> Self {
        let tokens = Mutex::new(Tokens {
            held: Shelf::new(limit),
            calls: HashMap::new(),
            distrusted: Distrusted::default(),
        });
        Self {
            inner: Arc::new(Inner {
                clock,
                issuer,
                patience_with_token,
                tokens,
            }),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.inner.lock().held.len()
    }

    /// Drops the tokens of authorities that aren't to be relied on any more, and keeps no new ones.
    pub(crate) fn distrust(&self, distrusted: Distrusted) {
        let mut dropped: BTreeMap<Arc<str>, usize> = BTreeMap::new();
        let mut tokens = self.inner.lock();
        tokens.held.retain(|kept| {
            let keep = !distrusted.covers(kept.document().authority());
            if !keep {
                *dropped.entry(kept.document().key_id.clone()).or_default() += 1;
            }
            keep
        });
        tokens.distrusted = distrusted;
        drop(tokens);
        for (key_id, count) in dropped {
            tracing::info!(
                count_jwt_svids = count,
                tainted_jwt_svids = count,
                jwt_authority_key_ids = &*key_id,
                "JWT-SVIDs were removed from the JWT cache because they were issued by a tainted authority"
            );
        }
    }

    pub(crate) async fn fetch(&self, entry: &Arc<Entry>, audience: &[String]) -> Answer {
        if entry.jwt_svid_include_jti {
            // Each of them is to be unique.
            let issued = self
                .inner
                .issuer
                .issue(entry.id.clone(), audience.to_vec(), PATIENCE)
                .await?;
            return self.inner.checked(issued, entry);
        }
        let mut sorted = audience.to_vec();
        sorted.sort_unstable();
        let key = Key {
            entry: entry.id.clone(),
            audience: sorted,
        };
        let call = {
            let mut tokens = self.inner.lock();
            let now = Moment::now(&*self.inner.clock);
            let held = tokens
                .held
                .get(&key)
                .filter(|kept| kept.serves_at(entry, now.wall));
            let serves = held.is_some();
            if let Some(kept) = held.filter(|kept| !kept.is_due_at(entry, now)) {
                let token = kept.document().clone();
                tokens.held.touch(&key);
                return Ok(token);
            }
            let running = tokens.calls.get(&key).and_then(WeakShared::upgrade);
            running.unwrap_or_else(|| {
                let call = self.call(key.clone(), entry.clone(), audience.to_vec(), serves);
                tokens.calls.extend(call.downgrade().map(|weak| (key, weak)));
                call
            })
        };
        call.await
    }

    /// The one request of all who ask for the key until it is answered.
    fn call(&self, key: Key, entry: Arc<Entry>, audience: Vec<String>, has_token: bool) -> Shared<Call> {
        let inner = self.inner.clone();
        let patience = if has_token {
            inner.patience_with_token
        } else {
            PATIENCE
        };
        let call = async move {
            let issued = inner.issuer.issue(entry.id.clone(), audience, patience).await;
            let issued = issued.and_then(|token| inner.checked(token, &entry));
            let now = Moment::now(&*inner.clock);
            let mut tokens = inner.lock();
            tokens.calls.remove(&key);
            match issued {
                Ok(token) if tokens.distrusted.covers(token.authority()) => Ok(token),
                Ok(token) => {
                    let jitter = rand::random_range(-1.0..=1.0);
                    let kept = Kept::new(token.clone(), EntryVersion::of(&entry), now, jitter);
                    tokens.held.put(key.clone(), kept);
                    tokens.held.touch(&key);
                    tokens.held.evict(|_| false);
                    Ok(token)
                }
                Err(error) => match tokens
                    .held
                    .get(&key)
                    .filter(|kept| kept.serves_at(&entry, now.wall))
                {
                    Some(kept) if !matches!(error, JwtFetchError::Refused(_)) => {
                        tracing::warn!(%error, spiffe_id = %entry.spiffe_id,
                            "Unable to renew JWT; returning cached copy");
                        Ok(kept.document().clone())
                    }
                    _ => Err(error),
                },
            }
        };
        call.boxed().shared()
    }
}

impl Inner {
    fn lock(&self) -> MutexGuard<'_, Tokens> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checked(&self, token: JwtSvid, entry: &Entry) -> Answer {
        if token.id != entry.spiffe_id {
            let text = format!(
                "JWT-SVID for {} came where {} was asked for",
                token.id, entry.spiffe_id
            );
            return Err(JwtFetchError::Malformed(text.into()));
        }
        if self.clock.now() >= token.expires_at {
            return Err(JwtFetchError::Malformed(
                "JWT-SVID had expired when it came".into(),
            ));
        }
        Ok(Arc::new(token))
    }
}

impl fmt::Debug for JwtCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JwtCache")
            .field("held", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
