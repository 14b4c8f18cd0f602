//! The server's end of a simulated year: its registry and authorities, behind as much of its API as an agent needs.

use std::convert::Infallible;
use std::fmt;
use std::task::{Context, Poll};

use credence_identity::{Entry, EntryId};
use credence_proto::spire::api::server::agent::v1 as agent_pb;
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::svid::v1 as svid_pb;
use credence_proto::spire::api::types;
use credence_server::ca::{self, Authority};
use credence_server::keymanager::MemoryKeyManager;
use credence_server::registry::{self, AuthorizedEntry, Registry};
use credence_server::store::{Change, MemoryStore, Node};
use futures_util::{StreamExt, stream};
use tonic::body::Body;
use tonic::server::NamedService;
use tonic::transport::{Channel, Server as Transport};
use tonic::{Request, Response, Status, Streaming};

use super::super::fake::{HttpAnswer, in_memory, message, service, streaming, unary};
use super::*;
use crate::cache::testing::entry;
use crate::sync::connection::Connect;

/// The SVID that the newest connection shows.
pub(super) type Shown = Arc<Mutex<Arc<X509SvidKey>>>;

/// The server's registry and authorities.
pub(super) struct Far {
    pub(super) clock: Arc<ManualClock>,
    pub(super) registry: Registry,
    pub(super) authority: Authority,
}

impl Far {
    pub(super) async fn start(clock: &Arc<ManualClock>, supervisor: &Supervisor) -> Arc<Self> {
        let steps = StepWatch::never();
        let settings = registry::Settings {
            trust_domain: trust_domain(),
            node_pruning: None,
        };
        let store = MemoryStore::default();
        let registry = Registry::open(store, settings, clock.clone(), &steps, supervisor)
            .await
            .unwrap();
        let mut changes = vec![Change::NodePut(Arc::new(node()))];
        changes.extend(ENTRIES.map(|id| Change::EntryPut(Arc::new(entry(id)))));
        registry
            .transact(|_| Ok::<_, Infallible>((changes, ())))
            .await
            .unwrap();
        let settings = ca::Settings {
            x509_svid_ttl: X509_TTL,
            jwt_svid_ttl: JWT_TTL,
            agent_ttl: AGENT_TTL,
            ..ca::Settings::defaults(trust_domain())
        };
        let keys = Arc::new(MemoryKeyManager::default());
        let authority = Authority::start(
            settings,
            registry.clone(),
            keys,
            clock.clone(),
            &steps,
            supervisor,
        )
        .await;
        Arc::new(Self {
            clock: clock.clone(),
            registry,
            authority: authority.unwrap(),
        })
    }

    pub(super) fn bundle(&self) -> Arc<Bundle> {
        self.registry.read().own_bundle().unwrap().clone()
    }

    fn authorized(&self, id: &str) -> Result<AuthorizedEntry, Status> {
        let id = EntryId::parse(id).unwrap();
        let found = self
            .registry
            .read()
            .authorized_entry(&agent_id(), &id, self.clock.now());
        found.ok_or_else(|| Status::not_found("entry not found or not authorized"))
    }
}

pub(super) fn agent_id() -> SpiffeId {
    entry("any").parent_id
}

fn node() -> Node {
    Node {
        id: agent_id(),
        attestation_type: "join_token".into(),
        serial: "1".to_owned(),
        not_after: START + 2 * YEAR,
        new_serial: None,
        new_not_after: None,
        can_reattest: false,
        selectors: Vec::new(),
        agent_version: "".into(),
    }
}

/// The way to the server: each connection is its caller's, as with TLS.
pub(super) struct Wire {
    pub(super) far: Arc<Far>,
    pub(super) supervisor: Supervisor,
    pub(super) shown: Shown,
}

impl fmt::Debug for Wire {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wire")
    }
}

impl Connect for Wire {
    fn channel(&self, svid: Option<Arc<X509SvidKey>>) -> Result<Channel, ConnectionError> {
        let caller = svid.unwrap();
        *self.shown.lock().unwrap() = caller.clone();
        let door = Arc::new(Door {
            far: self.far.clone(),
            caller,
        });
        let services = Transport::builder()
            .add_service(AgentDoor(door.clone()))
            .add_service(EntryDoor(door.clone()))
            .add_service(BundleDoor(door.clone()))
            .add_service(SvidDoor(door));
        Ok(in_memory(services, &self.supervisor))
    }
}

/// The server as one caller has it.
#[derive(Clone)]
struct Door {
    far: Arc<Far>,
    caller: Arc<X509SvidKey>,
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Door")
    }
}

impl Door {
    /// Lets a caller in whose SVID the server can verify now.
    fn enter(&self) -> Result<&Far, Status> {
        let (bundle, now) = (self.far.bundle(), self.far.clock.now());
        verify_svid(&self.caller.svid.chain, &bundle.x509_authorities, now)
            .map_err(|error| Status::unauthenticated(error.to_string()))?;
        Ok(&self.far)
    }
}

service!(AgentDoor(Door), "spire.api.server.agent.v1.Agent", renew_agent);
service!(EntryDoor(Door), "spire.api.server.entry.v1.Entry", sync_entries);
service!(BundleDoor(Door), "spire.api.server.bundle.v1.Bundle", get_bundle);
service!(SvidDoor(Door), "spire.api.server.svid.v1.SVID", sign);

fn renew_agent(door: Arc<Door>, request: http::Request<Body>) -> HttpAnswer {
    unary(request, move |asked: agent_pb::RenewAgentRequest| {
        let csr = VerifiedCsr::from_der(&asked.params.unwrap().csr).unwrap();
        let svid = door
            .enter()?
            .authority
            .sign_agent_svid(&csr, &agent_id())
            .unwrap();
        Ok(agent_pb::RenewAgentResponse {
            svid: Some(x509_message(&svid)),
        })
    })
}

fn sync_entries(door: Arc<Door>, request: http::Request<Body>) -> HttpAnswer {
    streaming(
        request,
        move |asked: Request<Streaming<entry_pb::SyncAuthorizedEntriesRequest>>| {
            let far = door.enter()?;
            let entries: Vec<Arc<Entry>> = far
                .registry
                .read()
                .authorized_entries(&agent_id(), far.clock.now());
            let answer = entry_pb::SyncAuthorizedEntriesResponse {
                entries: entries
                    .iter()
                    .map(|one| message(one.id.as_str(), one.revision_number))
                    .collect(),
                ..Default::default()
            };
            let asked = asked.into_inner();
            let answers = asked.flat_map(move |_| stream::iter([Ok(answer.clone())]));
            Ok(Response::new(answers.boxed()))
        },
    )
}

fn get_bundle(door: Arc<Door>, request: http::Request<Body>) -> HttpAnswer {
    unary(request, move |_: GetBundleRequest| {
        Ok(bundle_message(&door.enter()?.bundle()))
    })
}

fn sign(door: Arc<Door>, request: http::Request<Body>) -> HttpAnswer {
    if request.uri().path().ends_with("/NewJWTSVID") {
        return unary(request, move |asked: svid_pb::NewJwtsvidRequest| {
            let far = door.enter()?;
            let entry = far.authorized(&asked.entry_id)?;
            let signed = far.authority.sign_jwt_svid(&entry, &asked.audience).unwrap();
            let svid = types::Jwtsvid {
                token: signed.token,
                issued_at: signed.issued_at.unix_seconds(),
                expires_at: signed.expires_at.unix_seconds(),
                ..Default::default()
            };
            Ok(svid_pb::NewJwtsvidResponse { svid: Some(svid) })
        });
    }
    unary(request, move |asked: svid_pb::BatchNewX509svidRequest| {
        let far = door.enter()?;
        let results = asked.params.iter().map(|asked| {
            let csr = VerifiedCsr::from_der(&asked.csr).unwrap();
            let svid = far
                .authority
                .sign_x509_svid(&csr, &far.authorized(&asked.entry_id)?)
                .unwrap();
            Ok(svid_pb::batch_new_x509svid_response::Result {
                status: Some(types::Status::default()),
                svid: Some(x509_message(&svid)),
            })
        });
        let results = results.collect::<Result<_, Status>>()?;
        Ok(svid_pb::BatchNewX509svidResponse { results })
    })
}

fn x509_message(svid: &X509Svid) -> types::X509svid {
    types::X509svid {
        cert_chain: svid.chain.iter().map(|der| der.to_vec()).collect(),
        ..Default::default()
    }
}

fn bundle_message(bundle: &Bundle) -> types::Bundle {
    let x509_authorities = bundle.x509_authorities.iter().map(|one| types::X509Certificate {
        asn1: one.der.to_vec(),
        tainted: one.tainted,
    });
    let jwt_authorities = bundle.jwt_authorities.iter().map(|one| types::JwtKey {
        public_key: one.public_key.to_vec(),
        key_id: one.key_id.to_string(),
        expires_at: one.expires_at.map_or(0, Timestamp::unix_seconds),
        tainted: one.tainted,
    });
    types::Bundle {
        trust_domain: bundle.trust_domain.to_string(),
        x509_authorities: x509_authorities.collect(),
        jwt_authorities: jwt_authorities.collect(),
        sequence_number: bundle.sequence_number,
        ..Default::default()
    }
}
