//! The agent's APIs on real sockets, whose callers are this test process.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use credence_crypto::jwt::JwtSvid;
use credence_crypto::wit::{WitClaims, WitKey, WitSvid, sign_svid};
use credence_crypto::{KeyType, PrivateKey, SignatureForm, Signer as _};
use credence_identity::{
    Bundle, Entry, EntryId, JwtAuthority, Selector, SpiffeId, Timestamp, TrustDomain, X509Authority,
};
use credence_proto::spiffe_workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use credence_proto::spiffe_workload::spiffe_workload_api_server::SpiffeWorkloadApi as _;
use credence_proto::spiffe_workload::{X509svidRequest, X509svidResponse};
use credence_runtime::audit::{AuditLog, AuditSink};
use credence_runtime::clock::{Clock as _, ManualClock};
use credence_runtime::grpc::connect_unix;
use credence_runtime::log::{LogOptions, layer_writing_to};
use credence_runtime::supervisor::Supervisor;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::follow::Messages;
use super::workload::{WorkloadApi, WorkloadOptions};
use crate::api::peer::Caller;
use crate::api::sds::SdsOptions;
use crate::api::{Ground, PublicApis, serve_public};
use crate::attestor::workload::{ProcFs, Process, UnixOptions, WorkloadAttestors};
use crate::cache::{Cache, CacheLimits, CacheUpdate, TokenError, TokenIssuer, WitSvidKey};
use crate::explain::{Journal, Node, Refusals};

pub(in crate::api) use crate::cache::testing::{START, entry, svid};

pub(in crate::api) const TTL: Duration = Duration::from_secs(3600);

/// An entry that this process matches.
pub(in crate::api) fn own_entry(id: &str) -> Entry {
    let uid = nix::unistd::geteuid().to_string();
    Entry {
        selectors: vec![Selector::new("unix", &format!("uid:{uid}")).unwrap()],
        ..entry(id)
    }
}

pub(in crate::api) fn trust_domain(name: &str) -> TrustDomain {
    TrustDomain::parse(name).unwrap()
}

/// Signs tokens as the key `kid` of a trust domain.
#[derive(Debug)]
pub(in crate::api) struct TokenKey {
    key: PrivateKey,
    kid: &'static str,
}

impl TokenKey {
    pub(in crate::api) fn new(kid: &'static str) -> Self {
        Self {
            key: PrivateKey::generate(KeyType::EcP256).unwrap(),
            kid,
        }
    }

    pub(in crate::api) fn authority(&self) -> JwtAuthority {
        JwtAuthority {
            key_id: self.kid.into(),
            public_key: self.key.public_key().spki_der().into(),
            expires_at: None,
            tainted: false,
        }
    }

    pub(in crate::api) fn token(&self, claims: &Value) -> String {
        let part = |value: &Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            part(&json!({"alg": "ES256", "kid": self.kid, "typ": "JWT"})),
            part(claims)
        );
        let signature = self.key.sign(signed.as_bytes(), SignatureForm::Jose).unwrap();
        format!("{signed}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature))
    }
}

/// A server that signs tokens, or doesn't.
#[derive(Debug)]
pub(in crate::api) struct Issuer {
    key: TokenKey,
    clock: Arc<ManualClock>,
    pub(in crate::api) fails_for: Mutex<BTreeMap<EntryId, TokenError>>,
}

impl TokenIssuer<JwtSvid> for Issuer {
    fn issue(
        &self,
        entry: EntryId,
        audience: Vec<String>,
        _: Duration,
    ) -> BoxFuture<'static, Result<JwtSvid, TokenError>> {
        let failed = self.fails_for.lock().unwrap().get(&entry).cloned();
        let now = self.clock.now();
        let claims = json!({
            "sub": format!("spiffe://example.org/{entry}"), "aud": audience,
            "iat": now.unix_seconds(), "exp": now.unix_seconds() + 300,
        });
        let token = self.key.token(&claims);
        Box::pin(async move {
            match failed {
                Some(error) => Err(error),
                None => Ok(JwtSvid::parse_insecure(&token, &[], now).unwrap()),
            }
        })
    }
}

impl TokenIssuer<WitSvidKey> for Issuer {
    fn issue(
        &self,
        entry: EntryId,
        _: Vec<String>,
        _: Duration,
    ) -> BoxFuture<'static, Result<WitSvidKey, TokenError>> {
        let failed = self.fails_for.lock().unwrap().get(&entry).cloned();
        let (now, key) = (self.clock.now(), PrivateKey::generate(KeyType::EcP256).unwrap());
        let signer = WitKey::new(self.key.kid, Arc::new(self.key.key.clone()), now + TTL).unwrap();
        let id = SpiffeId::parse(&format!("spiffe://example.org/{entry}")).unwrap();
        let claims = WitClaims {
            sub: &id,
            public_key: key.public_key(),
            algorithm: "ES256",
            iat: now,
            exp: now + Duration::from_secs(300),
            iss: None,
        };
        let token = sign_svid(&signer, &claims).unwrap().token;
        let svid = WitSvid::parse_insecure(&token, now).unwrap();
        Box::pin(async move { failed.map_or(Ok(WitSvidKey { svid, key }), Err) })
    }
}

/// A log in memory.
#[derive(Clone, Default)]
pub(in crate::api) struct Sink(pub(in crate::api) Arc<Mutex<Vec<u8>>>);

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// What a lab begins with.
pub(in crate::api) struct Setup {
    pub(in crate::api) now: Timestamp,
    pub(in crate::api) proc: ProcFs,
    pub(in crate::api) workload: Option<WorkloadOptions>,
    pub(in crate::api) sds: Option<SdsOptions>,
    pub(in crate::api) audit: Option<AuditSink>,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            now: START,
            proc: ProcFs::at("/proc"),
            workload: Some(WorkloadOptions::default()),
            sds: Some(SdsOptions::default()),
            audit: None,
        }
    }
}

pub(in crate::api) struct Lab {
    pub(in crate::api) cache: Cache,
    pub(in crate::api) clock: Arc<ManualClock>,
    pub(in crate::api) issuer: Arc<Issuer>,
    pub(in crate::api) ground: Arc<Ground>,
    pub(in crate::api) supervisor: Supervisor,
    pub(in crate::api) socket: PathBuf,
    pub(in crate::api) folder: tempfile::TempDir,
}

impl Lab {
    pub(in crate::api) fn new(setup: Setup) -> Self {
        let clock = Arc::new(ManualClock::new(setup.now));
        let key = TokenKey::new("own");
        let bundle = Bundle {
            x509_authorities: vec![X509Authority {
                der: b"own root".as_slice().into(),
                tainted: false,
            }],
            jwt_authorities: vec![key.authority()],
            wit_authorities: vec![key.authority()],
            ..Bundle::empty(trust_domain("example.org"))
        };
        let issuer = Arc::new(Issuer {
            key,
            clock: clock.clone(),
            fails_for: Mutex::default(),
        });
        let cache = Cache::new(
            clock.clone(),
            Arc::new(bundle),
            CacheLimits::default(),
            issuer.clone(),
        );
        let unix = Some(UnixOptions::default());
        let attestors = Arc::new(WorkloadAttestors::new(unix, setup.proc.clone(), clock.clone()));
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("100% own.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let supervisor = Supervisor::new();
        let (_, log) = layer_writing_to(&LogOptions::default(), Box::new(io::sink()));
        let audit = setup
            .audit
            .map(|sink| AuditLog::start(&sink, &log, clock.clone(), &supervisor).unwrap());
        let ground = Arc::new(Ground {
            cache: cache.clone(),
            attestors,
            proc: setup.proc,
            clock: clock.clone(),
            refusals: Refusals::default(),
            audit,
            shutdown: supervisor.token(),
        });
        let apis = PublicApis {
            workload: setup.workload,
            sds: setup.sds,
        };
        let serving = serve_public(listener, ground.clone(), apis);
        supervisor.spawn_graceful("public socket", serving);
        Self {
            cache,
            clock,
            issuer,
            ground,
            supervisor,
            socket,
            folder,
        }
    }

    /// A lab whose caller has `count` signed identities: `one`, `two`, …
    pub(in crate::api) fn with_identities(count: usize) -> Self {
        let lab = Self::new(Setup::default());
        for name in ["one", "two", "six", "ten"].iter().take(count) {
            lab.put(own_entry(name));
            lab.sign(own_entry(name));
        }
        lab
    }

    /// A lab that serves the WIT profile too, whose caller has these identities, signed.
    pub(in crate::api) fn with_wit(names: &[&str]) -> Self {
        let workload = WorkloadOptions {
            wit_svid: true,
            ..WorkloadOptions::default()
        };
        let lab = Self::new(Setup {
            workload: Some(workload),
            ..Setup::default()
        });
        for name in names {
            lab.put(own_entry(name));
            lab.sign(own_entry(name));
        }
        lab
    }

    /// What its operators may ask.
    pub(in crate::api) fn node(&self) -> Node {
        Node {
            attestors: self.ground.attestors.clone(),
            proc: self.ground.proc.clone(),
            clock: self.clock.clone(),
            journal: Journal::new(self.clock.clone()),
            refusals: self.ground.refusals.clone(),
            workload_api: true,
            running: Arc::default(),
        }
    }

    pub(in crate::api) fn put(&self, entry: Entry) {
        self.cache.apply(CacheUpdate {
            entries: vec![Arc::new(entry)],
            ..CacheUpdate::default()
        });
    }

    pub(in crate::api) fn sign(&self, entry: Entry) {
        let svid = svid(&entry, self.clock.now(), TTL);
        self.cache.put_x509_svids(vec![(Arc::new(entry), svid)]);
    }

    pub(in crate::api) fn remove(&self, id: &str) {
        let removed_entries = vec![EntryId::parse(id).unwrap()];
        self.cache.apply(CacheUpdate {
            removed_entries,
            ..CacheUpdate::default()
        });
    }

    pub(in crate::api) fn put_bundle(&self, bundle: Bundle) {
        self.cache.apply(CacheUpdate {
            bundles: vec![Arc::new(bundle)],
            ..CacheUpdate::default()
        });
    }

    pub(in crate::api) async fn channel(&self) -> Channel {
        connect_unix(&self.socket).await.unwrap()
    }

    pub(in crate::api) async fn client(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(self.channel().await)
    }

    /// Calls FetchX509SVID as the process at the other end of that connection.
    pub(in crate::api) async fn open_as(
        &self,
        connection: &UnixStream,
    ) -> Result<Messages<X509svidResponse>, Status> {
        let caller = Process::at_other_end(connection, &self.ground.proc).unwrap();
        let mut request = with_header(X509svidRequest {});
        request.extensions_mut().insert(Caller(Arc::new(caller)));
        let api = WorkloadApi::new(self.ground.clone(), WorkloadOptions::default());
        Ok(api.fetch_x509svid(request).await?.into_inner())
    }

    /// A token of the own trust domain with these claims besides `sub`, `aud` ("a") and `exp`.
    pub(in crate::api) fn own_token(&self, more: Value) -> String {
        self.issuer.key.token(&claims("spiffe://example.org/one", more))
    }
}

/// Claims for audience `a` until 2100; members of `more` replace or add.
pub(in crate::api) fn claims(subject: &str, more: Value) -> Value {
    let mut claims = json!({"sub": subject, "aud": ["a"], "exp": 4_102_444_800_i64, "iat": 1_600_000_000});
    for (name, value) in more.as_object().unwrap() {
        claims[name] = value.clone();
    }
    claims
}

/// A foreign trust domain's bundle.
pub(in crate::api) fn foreign_bundle(name: &str, key: &TokenKey) -> Bundle {
    Bundle {
        x509_authorities: vec![X509Authority {
            der: b"foreign root".as_slice().into(),
            tainted: false,
        }],
        jwt_authorities: vec![key.authority()],
        ..Bundle::empty(trust_domain(name))
    }
}

/// A request with the security header.
pub(in crate::api) fn with_header<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

pub(in crate::api) fn spiffe_id(text: &str) -> SpiffeId {
    SpiffeId::parse(text).unwrap()
}
