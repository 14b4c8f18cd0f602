//! A year of the agent's own renewals against the server's real authorities, which rotate meanwhile, on paused time.
//!
//! Real are the keeper, the issuing task, the caches, the synchroniser's poll and the agent's calls, and on the other
//! side the registry and the authorities. Between them is a thin stand-in for the server's API, over pipes in memory:
//! the push stream says something every fifteen seconds and TLS takes sockets, which are no way to live for a year.

mod far;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Mutex;

use credence_crypto::csr::{self, VerifiedCsr};
use credence_crypto::x509::{X509Svid, verify_svid};
use credence_crypto::{PrivateKey, jwt};
use credence_identity::Timestamp;
use credence_runtime::clock::ManualClock;
use tokio::time::sleep;

use super::*;
use far::{Far, Shown, Wire, agent_id};

/// Between two looks at all that is served.
const LOOK: Duration = Duration::from_secs(3 * 60 * 60);
const YEAR: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// How old the verifier's bundle is, at least.
const BUNDLE_AGE: Duration = Duration::from_secs(60);
/// How long the agent takes to hear of a change: SPIRE's `sync_interval`.
const POLL: Duration = Duration::from_secs(5);
/// The workloads' X.509-SVIDs, their tokens and the agent's SVID: longer than by default, for fewer of them.
const X509_TTL: Duration = Duration::from_secs(12 * 60 * 60);
const JWT_TTL: Duration = Duration::from_secs(8 * 60 * 60);
const AGENT_TTL: Duration = Duration::from_secs(12 * 60 * 60);
/// The entries of the agent, which are all the looker's.
const ENTRIES: [&str; 2] = ["billing", "shop"];

#[tokio::test(start_paused = true)]
async fn a_year_in_which_whatever_the_agent_serves_verifies() {
    let lab = Year::start().await;
    let mut subscription = lab.cache.subscribe(caller(1));
    let mut own = lab.svid.clone();
    while subscription.update().identities.len() < ENTRIES.len() {
        timeout(PATIENCE, subscription.changed()).await.unwrap();
    }
    let (mut x509, mut tokens, mut agents) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    let (mut x509_authorities, mut jwt_authorities) = (BTreeSet::new(), BTreeSet::new());
    while lab.clock.now() < START + YEAR {
        // Whatever is new is looked at as soon as it is there, and all of it every three hours.
        tokio::select! {
            () = subscription.changed() => {}
            changed = own.changed() => changed.unwrap(),
            () = sleep(LOOK) => {}
        }
        assert!(!lab.supervisor.token().is_cancelled(), "something has ended");
        let now = lab.clock.now();
        let verifier = lab.published.to_verifiers_at(now);
        let verify = |svid: &X509Svid| {
            assert_renewed_in_time(svid.not_before, svid.not_after, now);
            verify_svid(&svid.chain, &verifier.x509_authorities, now)
                .unwrap_or_else(|e| panic!("{svid:?} at {now}: {e}"));
        };

        let update = subscription.update();
        assert!(
            !update.is_pending() && update.identities.len() == ENTRIES.len(),
            "a gap at {now}"
        );
        assert!(
            update.bundle.sequence_number >= verifier.sequence_number,
            "an old bundle at {now}"
        );
        for identity in &update.identities {
            verify(&identity.svid.svid);
            x509.insert(identity.svid.svid.serial.clone());
        }
        let token = lab
            .cache
            .jwt_svid(&update.identities[0].entry, &["db".to_owned()])
            .await
            .unwrap();
        assert_renewed_in_time(token.issued_at.unwrap(), token.expires_at, now);
        jwt::verify(&token.token, &["db"], |_| Some(verifier.clone()), now)
            .unwrap_or_else(|e| panic!("{token:?} at {now}: {e}"));
        tokens.insert(credence_crypto::sha256(token.token.as_bytes()));
        let agent = own.borrow_and_update().clone();
        verify(&agent.svid);
        assert!(
            Arc::ptr_eq(&agent, &lab.shown.lock().unwrap()),
            "the connection shows it"
        );
        agents.insert(agent.svid.serial.clone());
        x509_authorities.extend(verifier.x509_authorities.iter().map(|one| one.der.clone()));
        jwt_authorities.extend(verifier.jwt_authorities.iter().map(|one| one.key_id.clone()));
    }
    for found in [x509_authorities.len(), jwt_authorities.len()] {
        assert!((720..=740).contains(&found), "{found} authorities");
    }
    // Each is replaced near half of its life, which the end of its authority may cut to a few hours, and never in a loop.
    for (found, each, ttl) in [
        (x509.len(), ENTRIES.len(), X509_TTL),
        (tokens.len(), 1, JWT_TTL),
        (agents.len(), 1, AGENT_TTL),
    ] {
        let lives = YEAR.as_secs() / ttl.as_secs() * each as u64;
        assert!(
            (lives * 5 / 4..=lives * 9 / 2).contains(&(found as u64)),
            "{found} in {lives} lives"
        );
    }
    lab.supervisor.shutdown();
    lab.supervisor.wait().await.unwrap();
}

/// Nothing that is served is far past half of its life.
fn assert_renewed_in_time(from: Timestamp, to: Timestamp, now: Timestamp) {
    let (life, left) = (from.until(to), now.until(to));
    assert!(left >= life.mul_f64(0.44), "{left:?} of {life:?} left at {now}");
}

/// A running agent and what signs for it.
struct Year {
    clock: Arc<ManualClock>,
    supervisor: Supervisor,
    cache: Cache,
    svid: watch::Receiver<Arc<X509SvidKey>>,
    published: Arc<Published>,
    shown: Shown,
    _folder: tempfile::TempDir,
}

impl Year {
    async fn start() -> Self {
        let clock = Arc::new(ManualClock::new(START));
        let supervisor = Supervisor::new();
        let far = Far::start(&clock, &supervisor).await;
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let csr = csr::create(&key, None, &[]).unwrap();
        let first = far
            .authority
            .sign_agent_svid(&VerifiedCsr::from_der(&csr).unwrap(), &agent_id());
        let first = Arc::new(X509SvidKey::new(first.unwrap(), key).unwrap());
        let shown: Shown = Arc::new(Mutex::new(first.clone()));
        let wire = Wire {
            far: far.clone(),
            supervisor: supervisor.clone(),
            shown: shown.clone(),
        };

        // As `start` does it, but for the first SVID and the synchroniser's loop.
        let folder = tempfile::tempdir().unwrap();
        let state = Arc::new(StateFile::open(folder.path()).unwrap());
        let (refusals, refused) = mpsc::channel(REFUSALS);
        let server = Server::new(wire, first.clone(), refusals).unwrap();
        let issuer = Arc::new(ServerTokenIssuer {
            server: server.clone(),
            key_type: KeyType::EcP256,
        });
        let bundle = Arc::new(Bundle::empty(trust_domain()));
        let cache = Cache::new(clock.clone(), bundle.clone(), CacheLimits::default(), issuer);
        let (svids, svid) = watch::channel(first);
        let (stepped, in_step) = watch::channel(0);
        let (bundles, own_bundle) = watch::channel(bundle);
        let steps = StepWatch::never();
        let keeper = Keeper {
            server: server.clone(),
            attestor: Arc::new(NoJoinToken),
            custody: Custody {
                keys: Arc::new(KeyManager::memory()),
                state: state.clone(),
            },
            clock: clock.clone(),
            availability_target: None,
            svid: svids,
            reattestable: false,
            bundle: own_bundle,
            journal: Journal::new(clock.clone()),
        };
        let watched = steps.subscribe();
        supervisor.spawn("agent-svid", async move {
            keeper.run(refused, watched).await.map(drop)
        });
        let issuing = Issuing {
            server: server.clone(),
            cache: cache.clone(),
            key_type: KeyType::EcP256,
            steps: steps.subscribe(),
            in_step,
            signing: watch::channel(Signing::default()).0,
            journal: Journal::new(clock.clone()),
        };
        supervisor.spawn("x509-svids", issuing.run());
        let synchroniser = Synchroniser {
            server,
            svid: svid.clone(),
            cache: cache.clone(),
            trust: Trust {
                state,
                ..fake::trust(folder.path(), clock.clone())
            },
            bundle: bundles,
            in_step: stepped,
            last_sync: watch::channel(None).0,
            clock: clock.clone(),
            interval: POLL,
            whole_sets: false,
            version: "1.2.3-test",
            signing: watch::channel(Signing::default()).1,
            journal: Journal::new(clock.clone()),
        };
        let published = Arc::new(Published::default());
        supervisor.spawn("changes", published.clone().follow(far, synchroniser));
        Self {
            clock,
            supervisor,
            cache,
            svid,
            published,
            shown,
            _folder: folder,
        }
    }
}

/// The bundles as they were published, with their times.
#[derive(Debug, Default)]
struct Published(Mutex<VecDeque<(Timestamp, Arc<Bundle>)>>);

impl Published {
    /// Records what the server publishes, and has the agent poll a little later.
    async fn follow(self: Arc<Self>, far: Arc<Far>, synchroniser: Synchroniser) -> Result<(), CallError> {
        let mut changes = far.registry.subscribe(&agent_id());
        // The first bundle has been there for long.
        let mut at = START - BUNDLE_AGE;
        loop {
            self.0.lock().unwrap().push_back((at, far.bundle()));
            sleep(POLL).await;
            synchroniser.poll().await?;
            changes.changed().await;
            at = far.clock.now();
        }
    }

    /// The newest that is old enough.
    fn to_verifiers_at(&self, now: Timestamp) -> Arc<Bundle> {
        let mut held = self.0.lock().unwrap();
        while held.get(1).is_some_and(|(at, _)| *at + BUNDLE_AGE <= now) {
            held.pop_front();
        }
        held.front().unwrap().1.clone()
    }
}
