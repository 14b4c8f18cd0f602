//! A server's authorities on a store in memory and paused time, with a verifier that knows nothing but bundles.

mod crash;
mod faults;
mod forced;
mod profiles;
mod simulated_year;

use std::sync::Mutex;

use credence_crypto::csr::{self, VerifiedCsr};
use credence_crypto::jwt;
use credence_crypto::x509::{X509Svid, verify_svid};
use credence_crypto::{PrivateKey, Signer};
use credence_identity::{Bundle, Entry, EntryId, Selector, SpiffeId, Timestamp};
use credence_runtime::clock::ManualClock;
use futures_util::future::BoxFuture;
use tokio::sync::Mutex as AsyncMutex;

use super::*;
use crate::keymanager::MemoryKeyManager;
use crate::registry::{self, AuthorizedEntry};
use crate::store::{Change, MemoryStore, Node, Revision, Snapshot, Store};

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(60 * 60);
const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// What outlives a server: clock, disk and key manager.
#[derive(Debug, Clone)]
struct World {
    clock: Arc<ManualClock>,
    disk: Arc<Disk>,
    keys: Keys,
    settings: Settings,
}

/// A running server, as far as authorities go.
struct Server {
    authority: Authority,
    registry: Registry,
    supervisor: Supervisor,
    clock: Arc<ManualClock>,
    entry: AuthorizedEntry,
    workload: VerifiedCsr,
}

impl World {
    fn new() -> Self {
        Self {
            clock: Arc::new(ManualClock::new(Timestamp::from_unix_seconds(1_700_000_000))),
            disk: Arc::default(),
            keys: Keys::default(),
            settings: Settings::defaults("example.org".parse().unwrap()),
        }
    }

    async fn start(&self) -> Server {
        self.start_watching(&StepWatch::never(), Supervisor::new()).await
    }

    async fn start_watching(&self, steps: &StepWatch, supervisor: Supervisor) -> Server {
        self.try_start(steps, supervisor).await.unwrap()
    }

    async fn try_start(&self, steps: &StepWatch, supervisor: Supervisor) -> Result<Server, AuthorityError> {
        let clock: Arc<dyn Clock> = Arc::clone(&self.clock) as _;
        let settings = registry::Settings {
            trust_domain: self.settings.trust_domain.clone(),
            node_pruning: None,
        };
        let store = FlakyStore(Arc::clone(&self.disk));
        let registry = Registry::open(store, settings, Arc::clone(&clock), steps, &supervisor)
            .await
            .unwrap();
        let keys = Arc::new(self.keys.clone());
        let started = Authority::start(
            self.settings.clone(),
            registry.clone(),
            keys,
            clock,
            steps,
            &supervisor,
        )
        .await;
        let ready = match started {
            Ok(authority) => authorize(&registry, self.clock.now())
                .await
                .map(|entry| (authority, entry)),
            Err(error) => Err(error),
        };
        let (authority, entry) = match ready {
            Ok(ready) => ready,
            Err(error) => {
                supervisor.shutdown();
                supervisor.wait().await.unwrap();
                return Err(error);
            }
        };
        let key = PrivateKey::generate(KeyType::EcP256).unwrap();
        let workload = VerifiedCsr::from_der(&csr::create(&key, None, &[]).unwrap()).unwrap();
        Ok(Server {
            authority,
            registry,
            supervisor,
            clock: Arc::clone(&self.clock),
            entry,
            workload,
        })
    }
}

impl Server {
    async fn stop(self) {
        self.supervisor.shutdown();
        self.supervisor.wait().await.unwrap();
    }

    fn bundle(&self) -> Arc<Bundle> {
        Arc::clone(self.registry.read().own_bundle().unwrap())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The ids of the active authorities, X.509 and JWT.
    fn active(&self) -> (Arc<str>, Arc<str>) {
        let issuers = &self.authority.issuers;
        let (x509, jwt) = (
            issuers.x509.load_full().unwrap(),
            issuers.jwt.load_full().unwrap(),
        );
        (Arc::clone(&x509.id), Arc::clone(&jwt.id))
    }

    /// Everything that is signed, one of each.
    fn sign(&self) -> Vec<Signed> {
        let agent = SpiffeId::agent(&self.authority.settings.trust_domain, "/join_token/1").unwrap();
        let audience = ["db".to_owned()];
        vec![
            Signed::X509(
                self.authority
                    .sign_x509_svid(&self.workload, &self.entry)
                    .unwrap(),
            ),
            Signed::X509(self.authority.sign_agent_svid(&self.workload, &agent).unwrap()),
            Signed::X509(self.authority.server_svid().borrow().svid.clone()),
            Signed::Jwt(self.authority.sign_jwt_svid(&self.entry, &audience).unwrap()),
        ]
    }
}

/// What a workload, an agent or the server holds.
#[derive(Debug, Clone)]
enum Signed {
    X509(X509Svid),
    Jwt(jwt::SignedJwt),
}

impl Signed {
    fn not_after(&self) -> Timestamp {
        match self {
            Self::X509(svid) => svid.not_after,
            Self::Jwt(token) => token.expires_at,
        }
    }

    /// As a peer would that knows the bundle and the time.
    fn verify(&self, bundle: &Arc<Bundle>, now: Timestamp) -> Result<(), String> {
        match self {
            Self::X509(svid) => verify_svid(&svid.chain, &bundle.x509_authorities, now)
                .map_err(|e| format!("{svid:?}: {e}"))
                .map(drop),
            Self::Jwt(token) => jwt::verify(&token.token, &["db"], |_| Some(Arc::clone(bundle)), now)
                .map_err(|e| format!("{token:?}: {e}"))
                .map(drop),
        }
    }
}

/// Attests an agent and registers a workload below it, unless that was done before.
async fn authorize(registry: &Registry, now: Timestamp) -> Result<AuthorizedEntry, AuthorityError> {
    let decide = move |state: &registry::State| {
        let agent = SpiffeId::agent(state.trust_domain(), "/join_token/1").unwrap();
        let entry = entry(&agent, now);
        let known = state.authorized_entry(&agent, &entry.id, now).is_some();
        let id = entry.id.clone();
        let changes = vec![
            Change::NodePut(Arc::new(node(&agent))),
            Change::EntryPut(Arc::new(entry)),
        ];
        Ok((if known { Vec::new() } else { changes }, (agent, id)))
    };
    let (agent, id) = registry
        .transact(decide)
        .await
        .map_err(rotation::refused_or_failed)?;
    Ok(registry.read().authorized_entry(&agent, &id, now).unwrap())
}

fn entry(agent: &SpiffeId, now: Timestamp) -> Entry {
    Entry {
        id: EntryId::parse("billing").unwrap(),
        spiffe_id: SpiffeId::from_path(&agent.trust_domain(), "/billing").unwrap(),
        parent_id: agent.clone(),
        selectors: vec![Selector::parse("unix:uid:0").unwrap()],
        x509_svid_ttl: 0,
        jwt_svid_ttl: 0,
        federates_with: Vec::new(),
        admin: false,
        downstream: false,
        store_svid: false,
        expires_at: None,
        dns_names: vec!["billing.internal".into(), "billing".into()],
        hint: "".into(),
        disable_x509_svid_prefetch: false,
        jwt_svid_include_jti: true,
        revision_number: 0,
        created_at: now,
    }
}

fn node(agent: &SpiffeId) -> Node {
    Node {
        id: agent.clone(),
        attestation_type: "join_token".into(),
        serial: "1".to_owned(),
        not_after: Timestamp::from_unix_seconds(4_000_000_000),
        new_serial: None,
        new_not_after: None,
        can_reattest: false,
        selectors: Vec::new(),
        agent_version: "".into(),
    }
}

/// A store in memory that outlives its servers and fails as it is told to.
#[derive(Debug, Default)]
struct Disk {
    store: AsyncMutex<MemoryStore>,
    commits: AtomicU32,
    fault: Mutex<Fault>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Fault {
    #[default]
    None,
    /// Nothing is committed.
    Full,
    /// The machine dies at the commit with that number, counted from 0: before it is on disk, or right after.
    DiesBefore(u32),
    DiesAfter(u32),
}

impl Disk {
    fn set(&self, fault: Fault) {
        *self.fault.lock().unwrap() = fault;
    }

    fn commits(&self) -> u32 {
        self.commits.load(Ordering::Relaxed)
    }

    fn is_dead(&self) -> bool {
        match *self.fault.lock().unwrap() {
            Fault::DiesBefore(at) | Fault::DiesAfter(at) => self.commits() > at,
            _ => false,
        }
    }
}

#[derive(Debug)]
struct FlakyStore(Arc<Disk>);

impl Store for FlakyStore {
    async fn load(&mut self) -> Result<Snapshot, StoreError> {
        self.0.store.lock().await.load().await
    }

    async fn commit(
        &mut self,
        at: Revision,
        changes: &[Change],
        now: Timestamp,
    ) -> Result<Revision, StoreError> {
        let number = self.0.commits.fetch_add(1, Ordering::Relaxed);
        let fault = *self.0.fault.lock().unwrap();
        let (reaches_disk, reported) = match fault {
            Fault::None => (true, true),
            Fault::Full => (false, false),
            Fault::DiesBefore(at) => (number < at, number < at),
            Fault::DiesAfter(at) => (number <= at, number < at),
        };
        let dead = || StoreError::failed("no disk");
        let mut store = self.0.store.lock().await;
        let committed = if reaches_disk {
            store.commit(at, changes, now).await
        } else {
            Err(dead())
        };
        if reported { committed } else { Err(dead()) }
    }

    async fn probe(&mut self) -> Result<(), StoreError> {
        Ok(())
    }

    async fn close(self) {}
}

/// Keys that outlive their server, and a key manager that fails as it is told to.
#[derive(Debug, Clone, Default)]
struct Keys {
    kept: MemoryKeyManager,
    fail: Arc<Mutex<bool>>,
}

impl KeyManager for Keys {
    fn generate<'a>(
        &'a self,
        id: &'a str,
        key_type: KeyType,
    ) -> BoxFuture<'a, Result<Arc<dyn Signer>, KeyManagerError>> {
        let fail = *self.fail.lock().unwrap();
        Box::pin(async move {
            if fail {
                Err(KeyManagerError::Interrupted)
            } else {
                self.kept.generate(id, key_type).await
            }
        })
    }

    fn key(&self, id: &str) -> Option<Arc<dyn Signer>> {
        self.kept.key(id)
    }
}
