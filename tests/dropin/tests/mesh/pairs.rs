//! The mesh: workloads that call each other without a pause, each behind one of the two agents.
//!
//! Each call is a new mTLS connection with what the Workload API gave last, and a fresh fetch of a JWT-SVID at the
//! caller's agent that the other's agent validates. Invariant: the first call that fails ends the test.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use credence_crypto::hex;
use credence_crypto::x509::Certificate;
use credence_dropin::Site;
use credence_test_support::wait_until;
use spiffe::{SpiffeId, WorkloadApiClient, X509Source, X509Svid};
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use super::{Kind, NODES, PAIRS, PATIENCE, SPIRES};
use crate::mtls::{Held, call_with, source};

const AUDIENCE: &str = "mesh";
/// Between two calls of a pair: so many of them leave the machine to the programs under test.
const PAUSE: Duration = Duration::from_millis(200);

/// The authorities behind a pair's last call.
#[derive(Debug, Default)]
struct Used {
    x509: Vec<String>,
    jwt: String,
}

/// A workload.
struct Workload {
    id: SpiffeId,
    x509: X509Source,
    api: WorkloadApiClient,
    /// The SVID of its last call.
    last: Mutex<Option<Arc<X509Svid>>>,
    /// SPIRE's agent takes tainted SVIDs away before it has others, and what it sends meanwhile may lack this identity.
    /// Our agent never does.
    may_lack: bool,
}

impl Workload {
    async fn start(site: &Site, node: &str, pair: usize) -> Self {
        let endpoint = format!("unix://{}", site.agent_socket(node).display());
        let id = format!("spiffe://example.org/{node}/{pair}");
        Self {
            x509: source(endpoint.clone(), &id).await,
            api: WorkloadApiClient::connect_to(endpoint)
                .await
                .expect("connect to the agent"),
            id: SpiffeId::new(&id).expect("a SPIFFE ID"),
            last: Mutex::default(),
            may_lack: node == SPIRES,
        }
    }

    /// The bundle and the SVID as they are now. A workload that is sent no SVID goes on with the one that it has.
    fn held(&self) -> Held {
        let context = self.x509.x509_context().expect("a context");
        let mut last = self.last.lock().expect("no call failed");
        let svid = match (self.x509.svid(), &*last) {
            (Ok(svid), _) => svid,
            (Err(_), Some(svid)) if self.may_lack => Arc::clone(svid),
            (Err(error), _) => panic!("{} has no X.509-SVID: {error}", self.id),
        };
        *last = Some(Arc::clone(&svid));
        (context, svid)
    }

    /// How many authorities its agent gave it.
    async fn authorities(&self, kind: Kind) -> usize {
        let domain = self.id.trust_domain();
        match kind {
            Kind::X509 => {
                let context = self.x509.x509_context().expect("a context");
                let bundle = context.bundle_set().get(domain).expect("a bundle");
                bundle.authorities().len()
            }
            Kind::Jwt => {
                let bundles = self.api.fetch_jwt_bundles().await.expect("JWT bundles");
                bundles.get(domain).expect("a bundle").jwt_authorities().count()
            }
        }
    }
}

/// Two workloads behind different agents; the first serves, the second calls.
struct Pair {
    serving: Workload,
    calling: Workload,
    listener: TcpListener,
    used: Mutex<Used>,
    calls: AtomicUsize,
}

impl Pair {
    async fn call(&self) {
        let leaves = call_with(self.serving.held(), self.calling.held(), &self.listener).await;
        let id = &self.calling.id;
        let fetched = self.calling.api.fetch_jwt_svid([AUDIENCE], Some(id)).await;
        let token = fetched.unwrap_or_else(|error| panic!("{id} gets no JWT-SVID: {error}"));
        let validated = self.serving.api.validate_jwt_token(AUDIENCE, token.token()).await;
        let validated = validated.unwrap_or_else(|error| panic!("JWT-SVID of {id}: {error}"));
        assert_eq!(validated.spiffe_id(), id);
        let authority = |leaf: &Vec<u8>| {
            let leaf = Certificate::from_der(leaf).expect("a certificate");
            hex(leaf.authority_key_id().expect("an authority key ID"))
        };
        *self.used.lock().expect("no call failed") = Used {
            x509: leaves.iter().map(authority).collect(),
            jwt: token.key_id().to_owned(),
        };
        self.calls.fetch_add(1, Ordering::Relaxed);
    }

    async fn talk(&self, over: &AtomicBool) {
        while !over.load(Ordering::Relaxed) {
            timeout(PATIENCE, self.call()).await.expect("a call in time");
            sleep(PAUSE).await;
        }
    }
}

/// All pairs, calling until [`Mesh::end`].
pub(super) struct Mesh {
    pub(super) runtime: Runtime,
    pairs: Vec<Arc<Pair>>,
    over: Arc<AtomicBool>,
    talking: Vec<JoinHandle<()>>,
}

impl Mesh {
    /// Each pair crosses the agents, every other one the other way round.
    pub(super) fn start(site: &Site) -> Self {
        let runtime = Runtime::new().expect("start a runtime");
        let over = Arc::new(AtomicBool::new(false));
        let [one, two] = NODES;
        let pairs: Vec<_> = (0..PAIRS)
            .map(|n| {
                let (serving, calling) = if n % 2 == 0 { (one, two) } else { (two, one) };
                let pair = runtime.block_on(async {
                    Pair {
                        serving: Workload::start(site, serving, n).await,
                        calling: Workload::start(site, calling, n).await,
                        listener: TcpListener::bind("127.0.0.1:0").await.expect("listen"),
                        used: Mutex::default(),
                        calls: AtomicUsize::new(0),
                    }
                });
                Arc::new(pair)
            })
            .collect();
        let talk = |pair: &Arc<Pair>| {
            let (pair, over) = (Arc::clone(pair), Arc::clone(&over));
            runtime.spawn(async move { pair.talk(&over).await })
        };
        Self {
            talking: pairs.iter().map(talk).collect(),
            runtime,
            pairs,
            over,
        }
    }

    /// Waits for `done` while all pairs go on.
    pub(super) fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        wait_until(what, PATIENCE, || {
            let lost = self.talking.iter().filter(|pair| pair.is_finished()).count();
            assert_eq!(lost, 0, "pairs that lost a call while waiting: {what}");
            done().then_some(())
        });
    }

    /// Waits until each pair has made a call that began after this moment.
    pub(super) fn round(&self, what: &str) {
        let counts = || self.pairs.iter().map(|pair| pair.calls.load(Ordering::Relaxed));
        let before: Vec<_> = counts().collect();
        self.wait(what, || {
            counts().zip(&before).all(|(now, before)| now >= before + 2)
        });
    }

    /// Waits until all workloads hold so many authorities.
    pub(super) fn wait_for_authorities(&self, kind: Kind, count: usize) {
        self.wait(&format!("{count} {kind} authorities everywhere"), || {
            self.runtime.block_on(async {
                for pair in &self.pairs {
                    for workload in [&pair.serving, &pair.calling] {
                        if workload.authorities(kind).await != count {
                            return false;
                        }
                    }
                }
                true
            })
        });
    }

    /// Waits until the last calls of all pairs were made with nothing but what that authority signed.
    pub(super) fn wait_for_signer(&self, kind: Kind, authority: &str) {
        self.wait(&format!("calls under {kind} authority {authority}"), || {
            self.pairs.iter().all(|pair| {
                let used = pair.used.lock().expect("no call failed");
                match kind {
                    Kind::X509 => used.x509.iter().all(|signer| signer == authority),
                    Kind::Jwt => used.jwt == authority,
                }
            })
        });
    }

    /// Ends the calls and returns how many there were, none of which failed.
    pub(super) fn end(self) -> usize {
        self.over.store(true, Ordering::Relaxed);
        for pair in self.talking {
            self.runtime.block_on(pair).expect("no call failed");
        }
        let calls = self.pairs.iter().map(|pair| pair.calls.load(Ordering::Relaxed));
        calls.sum()
    }
}
