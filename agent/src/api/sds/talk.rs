//! A stream with an Envoy: what it asks for, and the secrets whenever they change.
//!
//! Owns when an answer is due: after a request that wants one, and after a change of what the caller may have. Who the
//! caller is is asked before each. Invariant: nothing is said twice that the Envoy has, and a slow Envoy is told the
//! newest state, not those that it missed.

use futures_util::stream;
use rand::random;
use tonic::{Code, Status, Streaming};

use super::form::Form;
use super::names::Names;
use super::secrets::Secrets;
use super::session::SdsCall;
use crate::api::call::log;
use crate::api::follow::{Messages, Watch};
use crate::cache::Identity;

/// One of the two ways in which Envoy talks of resources.
pub(super) trait Dialect: Send + 'static {
    type Request: Send + 'static;
    type Answer: Send + 'static;

    /// Takes in a request; whether it wants an answer.
    fn hear(&mut self, request: Self::Request, call: &SdsCall) -> Result<bool, Status>;

    /// What is asked for; nothing before the first request.
    fn asked(&self) -> Option<(&Names, Form)>;

    /// What of the secrets is to be said, if anything.
    fn say(&mut self, secrets: &Secrets) -> Option<Said<Self::Answer>>;
}

/// An answer.
pub(super) struct Said<A> {
    pub(super) answer: A,
    pub(super) version: String,
    pub(super) nonce: String,
    /// The certificates in it.
    pub(super) identities: Vec<Identity>,
    /// How many secrets are in it.
    pub(super) count: usize,
}

/// The answers of a stream.
///
/// # Errors
/// Unavailable, for a caller who can't be attested or has opened too many.
pub(super) async fn talk<D: Dialect>(
    call: SdsCall,
    requests: Streaming<D::Request>,
    dialect: D,
) -> Result<Messages<D::Answer>, Status> {
    let talk = Talk {
        watch: Watch::open(call).await?,
        requests,
        dialect,
        given: Vec::new(),
        left_out: Vec::new(),
    };
    Ok(Box::pin(stream::unfold(Some(talk), async |talk| {
        let mut talk = talk?;
        match talk.next().await {
            Ok(Some(answer)) => Some((Ok(answer), Some(talk))),
            Ok(None) => None,
            Err(end) => Some((Err(end), None)),
        }
    })))
}

/// A nonce, new each time.
pub(super) fn nonce() -> String {
    format!("{:08x}", random::<u32>())
}

struct Talk<D: Dialect> {
    watch: Watch<SdsCall>,
    requests: Streaming<D::Request>,
    dialect: D,
    /// The certificates of the last answer, which aren't given anew when they are in the next.
    given: Vec<Identity>,
    /// What the log has named as missing.
    left_out: Vec<String>,
}

impl<D: Dialect> Talk<D> {
    /// The next answer; none when the Envoy has no more requests.
    async fn next(&mut self) -> Result<Option<D::Answer>, Status> {
        loop {
            let due = tokio::select! {
                request = self.requests.message() => match request {
                    Ok(Some(request)) => self.dialect.hear(request, &self.watch.session)?,
                    Ok(None) => return Ok(None),
                    Err(error) => return self.broken(error),
                },
                changed = self.watch.changed() => {
                    changed?;
                    true
                }
            };
            if due && let Some(answer) = self.answer().await? {
                return Ok(Some(answer));
            }
        }
    }

    async fn answer(&mut self) -> Result<Option<D::Answer>, Status> {
        self.watch.ask_again().await?;
        let Some(asked) = self.dialect.asked() else {
            return Ok(None);
        };
        let update = self.watch.update();
        let (call, selectors) = (&self.watch.session, &self.watch.selectors);
        let secrets = call.secrets(asked, &update, selectors)?;
        if secrets.missing != self.left_out {
            if !secrets.missing.is_empty() {
                call.left_out(&secrets.missing);
            }
            self.left_out.clone_from(&secrets.missing);
        }
        let Some(said) = self.dialect.say(&secrets) else {
            return Ok(None);
        };
        log!(
            debug,
            call,
            version_info = said.version,
            nonce = said.nonce,
            count = said.count,
            "Sending {} response",
            call.method
        );
        call.record_x509(&said.identities, &self.given, selectors);
        self.given = said.identities;
        Ok(Some(said.answer))
    }

    fn broken(&self, error: Status) -> Result<Option<D::Answer>, Status> {
        if error.code() == Code::Cancelled {
            return Ok(None);
        }
        log!(
            error,
            self.watch.session,
            error = error.message(),
            "Received error from stream secrets server"
        );
        Err(error)
    }
}
