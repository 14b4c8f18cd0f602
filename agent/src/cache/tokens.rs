//! JWT-SVIDs by entry and audience, and WIT-SVIDs with their keys by entry: one mechanism for both.
//!
//! Never serves an expired token. Invariant: of concurrent calls for one key that find nothing fresh, one asks the
//! server, and all get its answer.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use credence_crypto::PrivateKey;
use credence_crypto::jwt::JwtSvid;
use credence_crypto::wit::WitSvid;
use credence_identity::{Entry, EntryId, SpiffeId, Timestamp};
use credence_runtime::clock::Clock;
use futures_util::FutureExt;
use futures_util::future::{BoxFuture, Shared, WeakShared};

use super::distrust::Distrusted;
use super::shelf::{Document, EntryVersion, Kept, Moment, Shelf};

/// How long a call without a usable token waits for a server that is away. Callers mostly wait for less.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why there is no token for a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The server doesn't issue such tokens at all.
    #[error("{0}")]
    Unsupported(Arc<str>),
    /// The server won't issue this one: the audience is invalid, or the entry isn't this agent's any more.
    #[error("{0}")]
    Refused(Arc<str>),
    /// The server can't be reached or can't answer now; a later call may succeed.
    #[error("{0}")]
    Unavailable(Arc<str>),
    /// What the server sent is no token for this entry, audience and key.
    #[error("{0}")]
    Malformed(Arc<str>),
}

/// A WIT-SVID with the key that it is bound to.
#[derive(Debug)]
pub struct WitSvidKey {
    /// The token.
    pub svid: WitSvid,
    /// The key of its holder.
    pub key: PrivateKey,
}

/// Where tokens of a kind come from: the server connection.
pub trait TokenIssuer<D>: Send + Sync + fmt::Debug {
    /// Asks for a token, again after failures that may pass, until `patience` is over. A WIT-SVID has no audience.
    ///
    /// Cancel safe: a dropped call may have used up a token at the server and changes nothing else.
    fn issue(
        &self,
        entry: EntryId,
        audience: Vec<String>,
        patience: Duration,
    ) -> BoxFuture<'static, Result<D, TokenError>>;
}

/// What the kinds of tokens differ in.
pub(crate) trait Token: Document + fmt::Debug + Send + Sync + 'static {
    const NAME: &'static str;
    /// What the log calls a renewal that failed while the old token serves.
    const NOT_RENEWED: &'static str;

    /// Whether callers may be given the same one.
    fn is_shared(entry: &Entry) -> bool;

    fn key_id(&self) -> &Arc<str>;

    /// Says in the log that so many were dropped.
    fn log_distrusted(key_id: &str, count: usize);
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    entry: EntryId,
    audience: Vec<String>,
}

type Answer<D> = Result<Arc<D>, TokenError>;
type Call<D> = BoxFuture<'static, Answer<D>>;

/// Clones share the tokens.
pub(crate) struct TokenCache<D> {
    inner: Arc<Inner<D>>,
}

struct Inner<D> {
    clock: Arc<dyn Clock>,
    issuer: Arc<dyn TokenIssuer<D>>,
    patience_with_token: Duration,
    tokens: Mutex<Tokens<D>>,
}

struct Tokens<D> {
    held: Shelf<Key, D>,
    // Weak, so that a call whose askers have all gone away is dropped and not joined later.
    calls: HashMap<Key, WeakShared<Call<D>>>,
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

impl Token for JwtSvid {
    const NAME: &'static str = "JWT-SVID";
    const NOT_RENEWED: &'static str = "Unable to renew JWT; returning cached copy";

    /// Each of those with a `jti` is to be unique.
    fn is_shared(entry: &Entry) -> bool {
        !entry.jwt_svid_include_jti
    }

    fn key_id(&self) -> &Arc<str> {
        &self.key_id
    }

    fn log_distrusted(key_id: &str, count: usize) {
        tracing::info!(
            count_jwt_svids = count,
            tainted_jwt_svids = count,
            jwt_authority_key_ids = key_id,
            "JWT-SVIDs were removed from the JWT cache because they were issued by a tainted authority"
        );
    }
}

impl Document for WitSvidKey {
    fn spiffe_id(&self) -> &SpiffeId {
        &self.svid.id
    }

    fn not_after(&self) -> Timestamp {
        self.svid.expires_at
    }

    fn authority(&self) -> Option<&[u8]> {
        Some(self.svid.key_id.as_bytes())
    }
}

impl Token for WitSvidKey {
    const NAME: &'static str = "WIT-SVID";
    const NOT_RENEWED: &'static str = "Unable to renew WIT-SVID; returning cached copy";

    fn is_shared(_: &Entry) -> bool {
        true
    }

    fn key_id(&self) -> &Arc<str> {
        &self.svid.key_id
    }

    fn log_distrusted(key_id: &str, count: usize) {
        tracing::info!(
            count_wit_svids = count,
            wit_authority_key_ids = key_id,
            "WIT-SVIDs were removed from the cache because they were issued by a tainted authority"
        );
    }
}

impl<D: Token> TokenCache<D> {
    /// Holds at most `limit` tokens; while one still serves, the server gets `patience_with_token` to renew it.
    pub(crate) fn new(
        clock: Arc<dyn Clock>,
        issuer: Arc<dyn TokenIssuer<D>>,
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
                *dropped.entry(kept.document().key_id().clone()).or_default() += 1;
            }
            keep
        });
        tokens.distrusted = distrusted;
        drop(tokens);
        for (key_id, count) in dropped {
            D::log_distrusted(&key_id, count);
        }
    }

    /// How long until the token held for the entry and audience is to be replaced; none if none is held.
    pub(crate) fn due_in(&self, entry: &Entry, audience: &[String]) -> Option<Duration> {
        let now = Moment::now(&*self.inner.clock);
        let tokens = self.inner.lock();
        let kept = tokens.held.get(&Key::new(entry, audience))?;
        Some(if kept.is_due_at(entry, now) {
            Duration::ZERO
        } else {
            kept.due_in(now)
        })
    }

    pub(crate) async fn fetch(&self, entry: &Arc<Entry>, audience: &[String]) -> Answer<D> {
        if !D::is_shared(entry) {
            let issued = self
                .inner
                .issuer
                .issue(entry.id.clone(), audience.to_vec(), PATIENCE)
                .await?;
            return self.inner.checked(issued, entry);
        }
        let key = Key::new(entry, audience);
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
    fn call(&self, key: Key, entry: Arc<Entry>, audience: Vec<String>, has_token: bool) -> Shared<Call<D>> {
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
                    // What an open stream shows is still of use.
                    tokens
                        .held
                        .evict(|_, kept| Arc::strong_count(kept.document()) > 1);
                    Ok(token)
                }
                Err(error) => match tokens
                    .held
                    .get(&key)
                    .filter(|kept| kept.serves_at(&entry, now.wall))
                {
                    Some(kept) if !matches!(error, TokenError::Refused(_)) => {
                        tracing::warn!(%error, spiffe_id = %entry.spiffe_id, "{}", D::NOT_RENEWED);
                        Ok(kept.document().clone())
                    }
                    _ => Err(error),
                },
            }
        };
        call.boxed().shared()
    }
}

impl Key {
    fn new(entry: &Entry, audience: &[String]) -> Self {
        let mut audience = audience.to_vec();
        audience.sort_unstable();
        Self {
            entry: entry.id.clone(),
            audience,
        }
    }
}

impl<D: Token> Inner<D> {
    fn lock(&self) -> MutexGuard<'_, Tokens<D>> {
        self.tokens.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn checked(&self, token: D, entry: &Entry) -> Answer<D> {
        if *token.spiffe_id() != entry.spiffe_id {
            let text = format!(
                "{} for {} came where {} was asked for",
                D::NAME,
                token.spiffe_id(),
                entry.spiffe_id
            );
            return Err(TokenError::Malformed(text.into()));
        }
        if self.clock.now() >= token.not_after() {
            let text = format!("{} had expired when it came", D::NAME);
            return Err(TokenError::Malformed(text.into()));
        }
        Ok(Arc::new(token))
    }
}

impl<D> Clone for TokenCache<D> {
    fn clone(&self) -> Self {
        Self {
            inner: self.inner.clone(),
        }
    }
}

impl<D: Token> fmt::Debug for TokenCache<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenCache")
            .field("held", &self.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(crate) mod tests;
