use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex};

use credence_proto::spiffe_workload::spiffe_workload_api_server::{
    SpiffeWorkloadApi, SpiffeWorkloadApiServer,
};
use credence_proto::spiffe_workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, WitBundlesRequest, WitBundlesResponse, WitsvidRequest, WitsvidResponse,
    X509BundlesRequest, X509BundlesResponse, X509svidResponse,
};
use credence_runtime::supervisor::Supervisor;
use futures_util::StreamExt as _;
use futures_util::stream::{self, BoxStream};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use tonic::transport::{Endpoint, Server};
use tonic::{Request, Response};
use tower::service_fn;

use super::super::tests::{ca, response, svid};
use super::*;

/// What a stream says, after how much time each; without a status at the end it is closed.
type Script = Vec<(u64, Result<X509svidResponse, Status>)>;

/// An agent that answers each call by the next script, and keeps when it was called.
#[derive(Clone, Default)]
struct Agent {
    scripts: Arc<Mutex<VecDeque<Result<Script, Status>>>>,
    called: Arc<Mutex<Vec<Instant>>>,
}

type Refused<T> = Result<Response<T>, Status>;
type Nothing<T> = BoxStream<'static, Result<T, Status>>;

#[tonic::async_trait]
impl SpiffeWorkloadApi for Agent {
    type FetchX509SVIDStream = Nothing<X509svidResponse>;
    type FetchX509BundlesStream = Nothing<X509BundlesResponse>;
    type FetchJWTBundlesStream = Nothing<JwtBundlesResponse>;
    type FetchWITSVIDStream = Nothing<WitsvidResponse>;
    type FetchWITBundlesStream = Nothing<WitBundlesResponse>;

    async fn fetch_x509svid(&self, request: Request<X509svidRequest>) -> Refused<Self::FetchX509SVIDStream> {
        assert_eq!(request.metadata().get("workload.spiffe.io").unwrap(), "true");
        self.called.lock().unwrap().push(Instant::now());
        // When all is said the agent is silent.
        let script = self.scripts.lock().unwrap().pop_front();
        let Some(script) = script else {
            return Ok(Response::new(stream::pending().boxed()));
        };
        let said = stream::iter(script?).then(|(seconds, said)| async move {
            sleep(Duration::from_secs(seconds)).await;
            said
        });
        Ok(Response::new(said.boxed()))
    }

    async fn fetch_x509_bundles(
        &self,
        _: Request<X509BundlesRequest>,
    ) -> Refused<Self::FetchX509BundlesStream> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_jwtsvid(&self, _: Request<JwtsvidRequest>) -> Refused<JwtsvidResponse> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_jwt_bundles(&self, _: Request<JwtBundlesRequest>) -> Refused<Self::FetchJWTBundlesStream> {
        Err(Status::unimplemented(""))
    }

    async fn validate_jwtsvid(&self, _: Request<ValidateJwtsvidRequest>) -> Refused<ValidateJwtsvidResponse> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_witsvid(&self, _: Request<WitsvidRequest>) -> Refused<Self::FetchWITSVIDStream> {
        Err(Status::unimplemented(""))
    }

    async fn fetch_wit_bundles(&self, _: Request<WitBundlesRequest>) -> Refused<Self::FetchWITBundlesStream> {
        Err(Status::unimplemented(""))
    }
}

/// What came of watching an agent that does all of this one after the other.
struct Watched {
    out: String,
    err: String,
    /// Seconds between the calls.
    gaps: Vec<u64>,
    outcome: Option<Result<(), CommandError>>,
}

/// Watches by the scripts, for a quarter of an hour; the first attempts to connect fail.
async fn watched(unreachable: usize, scripts: Vec<Result<Script, Status>>) -> Watched {
    let agent = Agent::default();
    agent.scripts.lock().unwrap().extend(scripts);
    let attempts = Mutex::new(0);
    let supervisor = Supervisor::new();
    let connect = async || {
        let attempt = {
            let mut attempts = attempts.lock().unwrap();
            *attempts += 1;
            *attempts
        };
        if attempt <= unreachable {
            agent.called.lock().unwrap().push(Instant::now());
            return Err(CommandError::new("nobody listens"));
        }
        let (agent, supervisor) = (agent.clone(), supervisor.clone());
        let connector = service_fn(move |_: http::Uri| {
            let (near, far) = tokio::io::duplex(1 << 16);
            let incoming = stream::iter([Ok::<_, io::Error>(far)]).chain(stream::pending());
            let service = SpiffeWorkloadApiServer::new(agent.clone());
            let server = Server::builder().add_service(service);
            supervisor.spawn("agent", server.serve_with_incoming(incoming));
            std::future::ready(Ok::<_, io::Error>(TokioIo::new(near)))
        });
        Ok(Endpoint::from_static("http://agent").connect_with_connector_lazy(connector))
    };
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let mut console = Console {
        input: &mut io::empty(),
        out: &mut out,
        err: &mut err,
        terminal: None,
    };
    let outcome = timeout(Duration::from_secs(900), watch(connect, &mut console)).await;
    let called = agent.called.lock().unwrap().clone();
    let pairs = called.iter().zip(called.iter().skip(1));
    Watched {
        out: String::from_utf8(out).unwrap(),
        err: String::from_utf8(err).unwrap(),
        gaps: pairs.map(|(one, next)| (*next - *one).as_secs()).collect(),
        outcome: outcome.ok(),
    }
}

fn good() -> Result<X509svidResponse, Status> {
    let ca = ca();
    Ok(response(vec![svid(&ca, "")]))
}

/// Conforms: WAP-05, WEP-25
#[tokio::test(start_paused = true)]
async fn a_stream_that_was_closed_is_followed_by_another_at_once() {
    let watched = watched(
        0,
        vec![
            Ok(vec![(0, good()), (60, good())]),
            Ok(Vec::new()),
            Ok(vec![(0, good())]),
        ],
    )
    .await;
    assert_eq!(watched.out.matches("Received 1 svid after").count(), 3);
    // At once, but not without end where an agent closes at once too.
    assert_eq!((watched.gaps, watched.err.as_str()), (vec![60, 1, 1], ""));
    assert!(watched.outcome.is_none(), "it goes on");
}

/// Conforms: WEP-17, WAP-53
#[tokio::test(start_paused = true)]
async fn an_agent_that_is_away_is_waited_for_longer_and_longer_up_to_a_bound() {
    let away = |_| Err(Status::unavailable("away"));
    let mut scripts: Vec<_> = (0..30).map(away).collect();
    scripts.push(Ok(vec![(0, good()), (0, Err(Status::unavailable("stopping")))]));
    let watched = watched(3, scripts).await;
    let mut expected: Vec<u64> = (1..=33).map(|n| n.min(30)).collect();
    // A message makes an end of it.
    expected.push(1);
    assert_eq!(watched.gaps, expected);
    assert_eq!(watched.err.matches("nobody listens").count(), 3);
    assert!(watched.out.contains("spiffe://domain.test/w"));
}

/// Conforms: WEP-19, WAP-24
#[tokio::test(start_paused = true)]
async fn an_identity_that_is_missing_or_gone_is_waited_for() {
    let denied = || Status::permission_denied("no identity issued");
    let watched = watched(
        0,
        vec![
            Err(denied()),
            Err(denied()),
            Ok(vec![(0, good()), (5, Err(denied()))]),
            Err(denied()),
            Ok(vec![(0, good())]),
        ],
    )
    .await;
    assert_eq!(watched.out.matches("Received 1 svid after").count(), 2);
    assert_eq!(watched.err.matches("no identity issued").count(), 4);
    assert_eq!(watched.gaps, [1, 2, 5 + 1, 2, 1]);
}

/// Conforms: WAP-54
#[tokio::test(start_paused = true)]
async fn a_message_that_cannot_be_read_is_told_and_the_stream_goes_on() {
    let mut junk = good().unwrap();
    junk.svids[0].x509_svid = vec![1, 2, 3];
    let watched = watched(
        0,
        vec![Ok(vec![(0, good()), (1, Ok(junk)), (1, good()), (600, good())])],
    )
    .await;
    assert_eq!(watched.out.matches("Received 1 svid after").count(), 3);
    assert_eq!(watched.err.matches("failed to parse svid entry 0").count(), 1);
    assert_eq!(watched.gaps, [602], "one stream, and one after it was closed");
}

/// Conforms: WEP-16
#[tokio::test(start_paused = true)]
async fn what_the_agent_calls_invalid_is_not_tried_again() {
    let refusal = Status::invalid_argument("security header missing from request");
    let watched = watched(0, vec![Err(refusal), Ok(vec![(0, good())])]).await;
    let error = watched.outcome.unwrap().unwrap_err().to_string();
    assert!(error.contains("security header missing"), "{error}");
    assert_eq!((watched.gaps, watched.out.as_str()), (Vec::new(), ""));
}
