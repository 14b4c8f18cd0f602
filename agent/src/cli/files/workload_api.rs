//! The source of the command `files`: the Workload API, whose streams are opened anew as often as need be.

use std::collections::BTreeMap;
use std::future::pending;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use credence_command::CommandError;
use credence_command::address::connect;
use credence_crypto::jwt::JwtSvid;
use credence_crypto::x509::{Certificate, X509SvidKey};
use credence_proto::spiffe_workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use credence_proto::spiffe_workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, X509svidRequest, X509svidResponse,
};
use credence_runtime::backoff::Backoff;
use credence_runtime::clock::Clock;
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};
use zeroize::Zeroizing;

use crate::cli::api::request;
use crate::files::{Choice, Event, Material, Source, SourceError, Token, Wants};

/// Delays between attempts, as go-spiffe has them.
const FIRST_DELAY: Duration = Duration::from_secs(1);
const LONGEST_DELAY: Duration = Duration::from_secs(30);
/// Where files are written once, a missing identity is waited for this often, for it may be on its way.
const ATTEMPTS: usize = 10;
const FIRST_ATTEMPT: Duration = Duration::from_millis(100);
/// What the first message of a stream may take: an agent holds it while an identity is being signed.
const ANSWER: Duration = Duration::from_secs(30);

/// The Workload API on a socket.
#[derive(Debug)]
pub(super) struct WorkloadApi {
    pub(super) socket: PathBuf,
    pub(super) choice: Choice,
    pub(super) clock: Arc<dyn Clock>,
}

impl Source for WorkloadApi {
    async fn watch(&self, wants: Wants, events: mpsc::Sender<Event>) -> SourceError {
        let x509 = async {
            match wants.x509 {
                true => self.again_and_again(wants.once, || self.x509(&events)).await,
                false => pending().await,
            }
        };
        let jwt = async {
            match wants.jwt {
                true => {
                    self.again_and_again(wants.once, || self.jwt_bundles(&events))
                        .await
                }
                false => pending().await,
            }
        };
        tokio::select! {
            error = x509 => error,
            error = jwt => error,
        }
    }

    async fn token(&self, audience: &[String]) -> Result<Token, SourceError> {
        let spiffe_id = self.choice.spiffe_id.as_ref().map(ToString::to_string);
        let message = JwtsvidRequest {
            audience: audience.to_vec(),
            spiffe_id: spiffe_id.unwrap_or_default(),
        };
        let answer = self.client().await?.fetch_jwtsvid(request(message)).await;
        let svids = answer.map_err(refused)?.into_inner().svids;
        let svid = svids
            .into_iter()
            .find(|svid| self.choice.fits(&svid.spiffe_id, &svid.hint));
        let text = svid.map(|svid| Zeroizing::new(svid.svid)).ok_or_else(no_such)?;
        let wanted: Vec<&str> = audience.iter().map(String::as_str).collect();
        let parsed = JwtSvid::parse_insecure(&text, &wanted, self.clock.now())
            .map_err(|error| SourceError::Failed(error.to_string()))?;
        Ok(Token {
            text,
            expires_at: parsed.expires_at,
        })
    }
}

impl WorkloadApi {
    async fn client(&self) -> Result<SpiffeWorkloadApiClient<Channel>, SourceError> {
        let channel = connect(&self.socket).await;
        let channel = channel.map_err(|error| SourceError::Failed(error.to_string()))?;
        Ok(SpiffeWorkloadApiClient::new(channel))
    }

    /// One stream after the other; `stream` says how many messages its one had, and why it ended.
    async fn again_and_again<F>(&self, once: bool, stream: impl Fn() -> F) -> SourceError
    where
        F: Future<Output = (usize, SourceError)>,
    {
        let first = if once { FIRST_ATTEMPT } else { FIRST_DELAY };
        let mut backoff = Backoff::new(first, LONGEST_DELAY);
        let mut attempts = 0;
        loop {
            let (messages, error) = stream().await;
            if messages > 0 {
                backoff.reset();
            }
            attempts += 1;
            match &error {
                SourceError::Hopeless(_) => return error,
                SourceError::NoIdentity(_) if once && attempts < ATTEMPTS => {}
                _ if once => return error,
                SourceError::NoIdentity(_) | SourceError::Failed(_) => {}
            }
            tracing::warn!(%error, "Unable to watch the Workload API; trying again");
            sleep(backoff.next_delay()).await;
        }
    }

    async fn x509(&self, events: &mpsc::Sender<Event>) -> (usize, SourceError) {
        let open = async {
            let mut client = self.client().await?;
            let stream = client.fetch_x509svid(request(X509svidRequest {})).await;
            Ok(stream.map_err(refused)?.into_inner())
        };
        let event = |response| Ok(Event::X509(Box::new(self.material(response)?)));
        follow(open, event, events).await
    }

    async fn jwt_bundles(&self, events: &mpsc::Sender<Event>) -> (usize, SourceError) {
        let open = async {
            let mut client = self.client().await?;
            let stream = client.fetch_jwt_bundles(request(JwtBundlesRequest {})).await;
            Ok(stream.map_err(refused)?.into_inner())
        };
        let event = |response| Ok(Event::JwtBundles(key_sets(response)));
        follow(open, event, events).await
    }

    /// The identity that was chosen, with the bundles beside it.
    fn material(&self, response: X509svidResponse) -> Result<Material, SourceError> {
        let mut found = None;
        // Each key is erased, those of the others too.
        for svid in response.svids {
            let key = Zeroizing::new(svid.x509_svid_key);
            if found.is_none() && self.choice.fits(&svid.spiffe_id, &svid.hint) {
                found = Some((svid.x509_svid, key, svid.bundle));
            }
        }
        let (chain, key, bundle) = found.ok_or_else(no_such)?;
        let svid = X509SvidKey::parse(&chain, &key).map_err(|error| unreadable(&error))?;
        let certificates =
            |der: &[u8]| Certificate::parse_concatenated(der).map_err(|error| unreadable(&error));
        let mut federated = BTreeMap::new();
        for (name, der) in &response.federated_bundles {
            federated.insert(trust_domain(name), certificates(der)?);
        }
        Material::new(Arc::new(svid), certificates(&bundle)?, federated).map_err(|error| unreadable(&error))
    }
}

/// One stream to its end: how many messages it had, and why it ended. The first has to come in time, the others may take
/// as long as the identity lasts.
async fn follow<M>(
    open: impl Future<Output = Result<Streaming<M>, SourceError>>,
    event: impl Fn(M) -> Result<Event, SourceError>,
    events: &mpsc::Sender<Event>,
) -> (usize, SourceError) {
    let opened = async {
        let mut stream = open.await?;
        let first = stream.message().await;
        Ok((stream, first))
    };
    let (mut stream, mut message) = match timeout(ANSWER, opened).await {
        Ok(Ok(opened)) => opened,
        Ok(Err(error)) => return (0, error),
        Err(_) => return (0, SourceError::Failed("no answer in time".to_owned())),
    };
    let mut messages = 0;
    loop {
        let arrived = match message {
            Ok(Some(arrived)) => arrived,
            Ok(None) => return (messages, SourceError::Failed("the stream ended".to_owned())),
            Err(status) => return (messages, refused(status)),
        };
        messages += 1;
        let event = match event(arrived) {
            Ok(event) => event,
            Err(error) => return (messages, error),
        };
        if events.send(event).await.is_err() {
            return (
                messages,
                SourceError::Hopeless("nobody writes the files".to_owned()),
            );
        }
        message = stream.message().await;
    }
}

fn key_sets(response: JwtBundlesResponse) -> BTreeMap<String, String> {
    let sets = response.bundles.into_iter();
    let text = |keys: Vec<u8>| String::from_utf8_lossy(&keys).into_owned();
    sets.map(|(name, keys)| (trust_domain(&name), text(keys)))
        .collect()
}

/// The name in a trust domain's SPIFFE ID.
fn trust_domain(id: &str) -> String {
    id.strip_prefix("spiffe://").unwrap_or(id).to_owned()
}

fn refused(status: Status) -> SourceError {
    let code = status.code();
    let text = CommandError::from(status).to_string();
    match code {
        Code::PermissionDenied => SourceError::NoIdentity(text),
        // The standard wants a client to give up then (SPIFFE Workload API, 4.1).
        Code::InvalidArgument => SourceError::Hopeless(text),
        _ => SourceError::Failed(text),
    }
}

fn no_such() -> SourceError {
    SourceError::NoIdentity("none of the identities of this process has that hint and SPIFFE ID".to_owned())
}

fn unreadable(error: &dyn std::error::Error) -> SourceError {
    let text = CommandError::chain(error);
    SourceError::Failed(format!("unable to read the answer: {text}"))
}
