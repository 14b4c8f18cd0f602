use std::sync::atomic::{AtomicU64, Ordering};

use credence_crypto::{KeyType, Signer as _};
use credence_identity::TrustDomain;
use credence_runtime::clock::ManualClock;
use tokio::time::advance;

use super::*;
use crate::cache::testing::{START, entry};

const MINUTE: Duration = Duration::from_secs(60);

/// Issues numbered tokens of five minutes after 10 ms, or fails as it is told.
#[derive(Debug, Default)]
pub(crate) struct Issuer {
    clock: Mutex<Option<Arc<ManualClock>>>,
    asked: AtomicU64,
    fails: Mutex<Option<TokenError>>,
    /// The `kid` of what it issues.
    key_id: Mutex<String>,
}

impl TokenIssuer<JwtSvid> for Issuer {
    fn issue(
        &self,
        entry: EntryId,
        audience: Vec<String>,
        _: Duration,
    ) -> BoxFuture<'static, Result<JwtSvid, TokenError>> {
        let number = self.asked.fetch_add(1, Ordering::Relaxed) + 1;
        let fails = self.fails.lock().unwrap().clone();
        let key_id = self.key_id.lock().unwrap().clone();
        let now = self
            .clock
            .lock()
            .unwrap()
            .as_ref()
            .map_or(START, |clock| clock.now());
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            fails.map_or(Ok(()), Err)?;
            Ok(JwtSvid {
                token: format!("token-{number}"),
                id: SpiffeId::from_path(&TrustDomain::parse("example.org").unwrap(), &format!("/{entry}"))
                    .unwrap(),
                audience,
                issued_at: Some(now),
                expires_at: now + 5 * MINUTE,
                key_id: key_id.as_str().into(),
                claims: serde_json::Map::new(),
            })
        }
        .boxed()
    }
}

impl TokenIssuer<WitSvidKey> for Issuer {
    fn issue(
        &self,
        entry: EntryId,
        audience: Vec<String>,
        patience: Duration,
    ) -> BoxFuture<'static, Result<WitSvidKey, TokenError>> {
        assert!(audience.is_empty());
        let issued = TokenIssuer::<JwtSvid>::issue(self, entry, audience, patience);
        async move {
            let token = issued.await?;
            let key = PrivateKey::generate(KeyType::EcP256).unwrap();
            let svid = WitSvid {
                token: token.token,
                id: token.id,
                issued_at: token.issued_at,
                expires_at: token.expires_at,
                public_key: key.public_key().clone(),
                algorithm: key.key_type().signature_algorithm(),
                key_id: token.key_id,
                claims: token.claims,
            };
            Ok(WitSvidKey { svid, key })
        }
        .boxed()
    }
}

impl Issuer {
    fn asked(&self) -> u64 {
        self.asked.load(Ordering::Relaxed)
    }

    /// What it issues is signed by that key from now on.
    pub(crate) fn sign_with(&self, key_id: &str) {
        *self.key_id.lock().unwrap() = key_id.to_owned();
    }

    fn fail(&self, with: Option<TokenError>) {
        *self.fails.lock().unwrap() = with;
    }
}

fn fixture<D: Token>(limit: usize) -> (Arc<Issuer>, TokenCache<D>)
where
    Issuer: TokenIssuer<D>,
{
    let clock = Arc::new(ManualClock::new(START));
    let issuer = Arc::new(Issuer {
        clock: Mutex::new(Some(clock.clone())),
        ..Issuer::default()
    });
    let cache = TokenCache::new(clock, issuer.clone(), limit, Duration::from_secs(2));
    (issuer, cache)
}

async fn fetch(cache: &TokenCache<JwtSvid>, entry: &Entry, audience: &[&str]) -> Result<String, TokenError> {
    let audience: Vec<String> = audience.iter().map(ToString::to_string).collect();
    cache
        .fetch(&Arc::new(entry.clone()), &audience)
        .await
        .map(|svid| svid.token.clone())
}

#[tokio::test(start_paused = true)]
async fn a_token_is_kept_per_entry_and_set_of_audiences() {
    let (issuer, cache) = fixture(10);
    let (a, b) = (entry("a"), entry("b"));
    assert_eq!(fetch(&cache, &a, &["x", "y"]).await.unwrap(), "token-1");
    assert_eq!(fetch(&cache, &a, &["y", "x"]).await.unwrap(), "token-1");
    assert_eq!(fetch(&cache, &a, &["x"]).await.unwrap(), "token-2");
    assert_eq!(fetch(&cache, &b, &["x", "y"]).await.unwrap(), "token-3");
    let updated = Entry {
        revision_number: 1,
        ..a
    };
    assert_eq!(
        fetch(&cache, &updated, &["x"]).await.unwrap(),
        "token-4",
        "the entry has changed"
    );
    assert_eq!((issuer.asked(), cache.len()), (4, 3));
}

#[tokio::test(start_paused = true)]
async fn callers_at_once_share_one_request() {
    let (issuer, cache) = fixture(10);
    let a = entry("a");
    let (one, two, three) = tokio::join!(
        fetch(&cache, &a, &["x"]),
        fetch(&cache, &a, &["x"]),
        fetch(&cache, &a, &["x"])
    );
    assert_eq!(
        (
            one.unwrap().as_str(),
            two.unwrap().as_str(),
            three.unwrap().as_str()
        ),
        ("token-1", "token-1", "token-1")
    );
    assert_eq!(issuer.asked(), 1);

    // The one whose call it was goes away: the others still get their answer.
    let b = entry("b");
    let mut first = Box::pin(fetch(&cache, &b, &["x"]));
    assert!(futures_util::poll!(&mut first).is_pending());
    let mut second = Box::pin(fetch(&cache, &b, &["x"]));
    assert!(futures_util::poll!(&mut second).is_pending());
    drop(first);
    assert_eq!(second.await.unwrap(), "token-2");

    // All go away: the call goes with them, and a later caller isn't tied to it.
    let c = entry("c");
    let mut gone = Box::pin(fetch(&cache, &c, &["x"]));
    assert!(futures_util::poll!(&mut gone).is_pending());
    drop(gone);
    assert_eq!(fetch(&cache, &c, &["x"]).await.unwrap(), "token-4");
}

#[tokio::test(start_paused = true)]
async fn renewed_after_half_of_its_life_and_served_on_failure_to_its_end() {
    let (issuer, cache) = fixture(10);
    let a = entry("a");
    fetch(&cache, &a, &["x"]).await.unwrap();
    advance(2 * MINUTE).await;
    assert_eq!(fetch(&cache, &a, &["x"]).await.unwrap(), "token-1");
    advance(MINUTE).await;
    assert_eq!(fetch(&cache, &a, &["x"]).await.unwrap(), "token-2");
    advance(3 * MINUTE).await;
    let away = TokenError::Unavailable("server is away".into());
    issuer.fail(Some(away.clone()));
    assert_eq!(fetch(&cache, &a, &["x"]).await.unwrap(), "token-2");
    advance(2 * MINUTE).await;
    assert_eq!(fetch(&cache, &a, &["x"]).await, Err(away), "it has ended");
    issuer.fail(None);
    fetch(&cache, &a, &["x"]).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_no_failure_to_paper_over() {
    let (issuer, cache) = fixture(10);
    let a = entry("a");
    fetch(&cache, &a, &["x"]).await.unwrap();
    advance(3 * MINUTE).await;
    let refused = TokenError::Refused("entry is gone".into());
    issuer.fail(Some(refused.clone()));
    assert_eq!(fetch(&cache, &a, &["x"]).await, Err(refused));
}

#[tokio::test(start_paused = true)]
async fn tokens_with_a_jti_are_never_shared() {
    let (issuer, cache) = fixture(10);
    let a = Entry {
        jwt_svid_include_jti: true,
        ..entry("a")
    };
    assert_eq!(fetch(&cache, &a, &["x"]).await.unwrap(), "token-1");
    assert_eq!(fetch(&cache, &a, &["x"]).await.unwrap(), "token-2");
    assert_eq!((issuer.asked(), cache.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn the_limit_holds_and_the_least_recently_used_goes() {
    let (issuer, cache) = fixture(2);
    let a = entry("a");
    for audience in ["1", "2", "1", "3"] {
        fetch(&cache, &a, &[audience]).await.unwrap();
    }
    assert_eq!((issuer.asked(), cache.len()), (3, 2));
    fetch(&cache, &a, &["1"]).await.unwrap();
    assert_eq!(issuer.asked(), 3, "it was used after the other");
    fetch(&cache, &a, &["2"]).await.unwrap();
    assert_eq!(issuer.asked(), 4);
}

#[tokio::test(start_paused = true)]
async fn a_token_of_another_identity_is_not_handed_out() {
    let (_, cache) = fixture(10);
    let renamed = Entry {
        spiffe_id: entry("b").spiffe_id,
        ..entry("a")
    };
    assert!(matches!(
        fetch(&cache, &renamed, &["x"]).await,
        Err(TokenError::Malformed(_))
    ));
}

#[tokio::test(start_paused = true)]
async fn a_wit_svid_gets_a_new_key_with_each_renewal_and_stays_while_somebody_shows_it() {
    let (issuer, cache) = fixture::<WitSvidKey>(1);
    let [a, b] = [entry("a"), entry("b")].map(Arc::new);
    assert_eq!(cache.due_in(&a, &[]), None);
    let shown = cache.fetch(&a, &[]).await.unwrap();
    let half = cache.due_in(&a, &[]).unwrap();
    assert!((2 * MINUTE..=3 * MINUTE).contains(&half), "{half:?}");
    drop(cache.fetch(&b, &[]).await.unwrap());
    assert_eq!(cache.len(), 2, "none of the two was free to go");
    drop(cache.fetch(&Arc::new(entry("c")), &[]).await.unwrap());
    assert!(Arc::ptr_eq(&cache.fetch(&a, &[]).await.unwrap(), &shown));
    assert_eq!((issuer.asked(), cache.len()), (3, 2));

    advance(half).await;
    assert_eq!(cache.due_in(&a, &[]), Some(Duration::ZERO));
    let renewed = cache.fetch(&a, &[]).await.unwrap();
    assert_ne!(renewed.svid.public_key, shown.svid.public_key);
    assert_eq!(&renewed.svid.public_key, renewed.key.public_key());
}
