//! A server that says what a test tells it to, over a connection in memory: for answers that ours never gives.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Mutex;
use std::task::{Context, Poll};

use credence_crypto::csr::VerifiedCsr;
use credence_identity::Entry;
use credence_proto::credence::sync::v1 as push_pb;
use credence_proto::spire::api::server::bundle::v1::GetBundleRequest;
use credence_proto::spire::api::server::entry::v1 as entry_pb;
use credence_proto::spire::api::server::svid::v1 as svid_pb;
use credence_proto::spire::api::types;
use credence_runtime::telemetry::Telemetry;
use futures_util::future::BoxFuture;
use futures_util::stream::BoxStream;
use futures_util::{FutureExt, StreamExt, stream};
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::io::DuplexStream;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::body::Body;
use tonic::server::{Grpc, NamedService};
use tonic::transport::server::Router;
use tonic::transport::{Channel, Endpoint, Server as Transport};
use tonic::{Request, Response, Status, Streaming};
use tonic_prost::ProstCodec;
use tower::service_fn;

use super::*;
use crate::cache::testing::{entry, sign, svid};
use crate::sync::connection::Connect;

pub(super) type Answers<T> = Vec<Result<T, Status>>;

/// What the server says, and what it was asked.
#[derive(Debug, Default)]
pub(super) struct Script {
    /// Answers to each message of `SyncAuthorizedEntries`, in order; then the stream ends.
    pub(super) entries: Mutex<VecDeque<Answers<entry_pb::SyncAuthorizedEntriesResponse>>>,
    pub(super) entries_asked: Mutex<Vec<entry_pb::SyncAuthorizedEntriesRequest>>,
    /// Said on each push stream, which then stays open; none if the server can't push.
    pub(super) push: Mutex<Option<Vec<push_pb::SubscribeResponse>>>,
    pub(super) pushes_asked: Mutex<usize>,
    /// Most SVIDs in a batch; a larger one is refused.
    pub(super) largest_batch: usize,
    /// Sizes of the batches that were asked for.
    pub(super) batches: Mutex<Vec<usize>>,
    /// An entry whose SVID is refused.
    pub(super) refused_entry: Option<&'static str>,
    pub(super) polls: Mutex<usize>,
    /// The own bundle, where it is more than one authority that nobody can read.
    pub(super) bundle: Mutex<Option<types::Bundle>>,
}

/// The server behind the script, as the agent sees it.
pub(super) fn connect(script: &Arc<Script>, supervisor: &Supervisor) -> (Server, mpsc::Receiver<Refused>) {
    let routes = Transport::builder()
        .add_service(EntryFake(script.clone()))
        .add_service(BundleFake(script.clone()))
        .add_service(SvidFake(script.clone()))
        .add_service(SyncFake(script.clone()));
    let channel = in_memory(routes, supervisor);
    let (refusals, refused) = mpsc::channel(4);
    let own = svid(&entry("agent"), START, Duration::from_secs(3600));
    let server = Server::new(Always(channel), Arc::new(own), refusals).unwrap();
    (server, refused)
}

/// An agent's trust that nothing shakes.
pub(super) fn trust(folder: &std::path::Path, clock: Arc<dyn Clock>) -> Trust {
    Trust {
        connector: Connector {
            address: ServerAddress {
                host: "server.test".to_owned(),
                port: 8081,
            },
            trust_domain: trust_domain(),
            bundle: watch::channel(Arc::new(Bundle::empty(trust_domain()))).1,
            clock,
            key_exchange: KeyExchange::Any,
        },
        source: BundleSource::Insecure,
        rebootstrap: Rebootstrap::default(),
        state: Arc::new(StateFile::open(folder).unwrap()),
        telemetry: Telemetry::default(),
    }
}

/// One channel, whatever SVID is to be shown.
#[derive(Debug)]
struct Always(Channel);

impl Connect for Always {
    fn channel(&self, _: Option<Arc<X509SvidKey>>) -> Result<Channel, ConnectionError> {
        Ok(self.0.clone())
    }
}

/// A channel to these services over pipes in memory, which need no time on a paused clock.
pub(super) fn in_memory(services: Router, supervisor: &Supervisor) -> Channel {
    let (accept, accepted) = mpsc::unbounded_channel::<Result<DuplexStream, Infallible>>();
    supervisor.spawn(
        "fake",
        services.serve_with_incoming(UnboundedReceiverStream::new(accepted)),
    );
    let connector = service_fn(move |_: http::Uri| {
        let (near, far) = tokio::io::duplex(1 << 20);
        drop(accept.send(Ok(far)));
        std::future::ready(Ok::<_, Infallible>(TokioIo::new(near)))
    });
    Endpoint::from_static("http://fake").connect_with_connector_lazy(connector)
}

pub(super) type HttpAnswer = BoxFuture<'static, Result<http::Response<Body>, Infallible>>;

/// A service of the fake, by its full name, that answers out of what it is made with.
macro_rules! service {
    ($name:ident($state:ty), $path:literal, $answer:expr) => {
        #[derive(Debug, Clone)]
        struct $name(Arc<$state>);

        impl NamedService for $name {
            const NAME: &'static str = $path;
        }

        impl tower::Service<http::Request<Body>> for $name {
            type Response = http::Response<Body>;
            type Error = Infallible;
            type Future = HttpAnswer;

            fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
                Poll::Ready(Ok(()))
            }

            fn call(&mut self, request: http::Request<Body>) -> HttpAnswer {
                let answer: fn(Arc<$state>, http::Request<Body>) -> HttpAnswer = $answer;
                answer(self.0.clone(), request)
            }
        }
    };
}

pub(super) use service;

service!(EntryFake(Script), "spire.api.server.entry.v1.Entry", sync_entries);
service!(
    BundleFake(Script),
    "spire.api.server.bundle.v1.Bundle",
    get_bundle
);
service!(SvidFake(Script), "spire.api.server.svid.v1.SVID", sign_batch);
service!(SyncFake(Script), "credence.sync.v1.Sync", subscribe);

pub(super) fn streaming<Q, A>(
    request: http::Request<Body>,
    answer: impl Fn(Request<Streaming<Q>>) -> Result<Response<BoxStream<'static, Result<A, Status>>>, Status>
    + Send
    + 'static,
) -> HttpAnswer
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    async move {
        let mut grpc = Grpc::new(ProstCodec::<A, Q>::default());
        Ok(grpc
            .streaming(
                service_fn(move |request| std::future::ready(answer(request))),
                request,
            )
            .await)
    }
    .boxed()
}

pub(super) fn unary<Q, A>(
    request: http::Request<Body>,
    answer: impl Fn(Q) -> Result<A, Status> + Send + 'static,
) -> HttpAnswer
where
    Q: Message + Default + 'static,
    A: Message + Default + 'static,
{
    async move {
        let mut grpc = Grpc::new(ProstCodec::<A, Q>::default());
        let answer = service_fn(move |request: Request<Q>| {
            std::future::ready(answer(request.into_inner()).map(Response::new))
        });
        Ok(grpc.unary(answer, request).await)
    }
    .boxed()
}

fn sync_entries(script: Arc<Script>, request: http::Request<Body>) -> HttpAnswer {
    streaming(
        request,
        move |asked: Request<Streaming<entry_pb::SyncAuthorizedEntriesRequest>>| {
            *script.polls.lock().unwrap() += 1;
            let script = script.clone();
            let answers = asked.into_inner().flat_map(move |asked| {
                script.entries_asked.lock().unwrap().push(asked.unwrap());
                let answers = script.entries.lock().unwrap().pop_front();
                let over = || vec![Err(Status::out_of_range("nothing more was scripted"))];
                stream::iter(answers.unwrap_or_else(over))
            });
            Ok(Response::new(answers.boxed()))
        },
    )
}

fn get_bundle(script: Arc<Script>, request: http::Request<Body>) -> HttpAnswer {
    unary(request, move |_: GetBundleRequest| {
        if let Some(bundle) = script.bundle.lock().unwrap().clone() {
            return Ok(bundle);
        }
        let x509_authorities = vec![types::X509Certificate {
            asn1: vec![1],
            tainted: false,
        }];
        Ok(types::Bundle {
            trust_domain: "example.org".to_owned(),
            x509_authorities,
            ..types::Bundle::default()
        })
    })
}

fn sign_batch(script: Arc<Script>, request: http::Request<Body>) -> HttpAnswer {
    unary(request, move |asked: svid_pb::BatchNewX509svidRequest| {
        script.batches.lock().unwrap().push(asked.params.len());
        if asked.params.len() > script.largest_batch {
            return Err(Status::resource_exhausted("too many at once"));
        }
        let results = asked.params.iter().map(|params| {
            if Some(params.entry_id.as_str()) == script.refused_entry {
                let status = Some(types::Status {
                    code: 5,
                    message: "entry not found".to_owned(),
                });
                return svid_pb::batch_new_x509svid_response::Result { status, svid: None };
            }
            let csr = VerifiedCsr::from_der(&params.csr).unwrap();
            let signed = sign(
                &entry(&params.entry_id),
                csr.public_key(),
                START,
                Duration::from_secs(3600),
            );
            let cert_chain = signed.chain.iter().map(|der| der.to_vec()).collect();
            let svid = Some(types::X509svid {
                cert_chain,
                ..types::X509svid::default()
            });
            svid_pb::batch_new_x509svid_response::Result {
                status: Some(types::Status::default()),
                svid,
            }
        });
        Ok(svid_pb::BatchNewX509svidResponse {
            results: results.collect(),
        })
    })
}

fn subscribe(script: Arc<Script>, request: http::Request<Body>) -> HttpAnswer {
    streaming(
        request,
        move |_: Request<Streaming<push_pb::SubscribeRequest>>| {
            *script.pushes_asked.lock().unwrap() += 1;
            let said = script.push.lock().unwrap().clone();
            let said = said.ok_or_else(|| Status::unimplemented("unknown service credence.sync.v1.Sync"))?;
            Ok(Response::new(
                stream::iter(said.into_iter().map(Ok))
                    .chain(stream::pending())
                    .boxed(),
            ))
        },
    )
}

/// An entry as the server sends it.
pub(super) fn message(id: &str, revision: i64) -> types::Entry {
    let Entry {
        spiffe_id,
        selectors,
        created_at,
        ..
    } = entry(id);
    types::Entry {
        id: id.to_owned(),
        spiffe_id: Some(lab::id_of(&spiffe_id)),
        selectors: selectors
            .iter()
            .map(|s| types::Selector {
                r#type: s.selector_type().to_owned(),
                value: s.value().to_owned(),
            })
            .collect(),
        revision_number: revision,
        created_at: created_at.unix_seconds(),
        ..types::Entry::default()
    }
}
