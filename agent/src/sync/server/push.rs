//! The stream of `credence.sync.v1`.

use std::sync::Arc;
use std::time::Duration;

use credence_crypto::x509::X509SvidKey;
use credence_identity::{EntryId, TrustDomain};
use credence_proto::credence::sync::v1::{
    SubscribeRequest, SubscribeResponse, subscribe_request, subscribe_response, sync_client::SyncClient,
};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::convert;
use super::entries::ACTION;
use super::error::CallError;
use super::{Channel, Server};
use crate::cache::{CacheUpdate, EntryVersion};

/// Bodies that may be asked for at once.
pub(crate) const WANT_AT_MOST: usize = 500;
/// The server shows each 15 seconds that it lives; after two of these are missed the stream counts as dead.
pub(crate) const SILENCE: Duration = Duration::from_secs(33);

/// What the server says on the stream.
#[derive(Debug)]
pub(crate) enum PushEvent {
    /// What is held is what is authorised.
    Unchanged,
    /// A page of the whole authorised set.
    Versions {
        page: Vec<(EntryId, EntryVersion)>,
        more: bool,
    },
    /// What is new, changed or gone.
    Delta(CacheUpdate),
    /// Nothing happened.
    Heartbeat,
}

/// An open stream. Dropping it closes it.
#[derive(Debug)]
pub(crate) struct PushStream {
    server: Server,
    svid: Arc<X509SvidKey>,
    requests: mpsc::Sender<SubscribeRequest>,
    events: Streaming<SubscribeResponse>,
    /// Of the last event.
    revision: u64,
}

impl PushStream {
    /// Opens the stream; `digest` is that of the entries held, empty for none.
    pub(super) async fn open(
        server: Server,
        svid: Arc<X509SvidKey>,
        mut client: SyncClient<Channel>,
        digest: Vec<u8>,
    ) -> Result<Self, CallError> {
        let (requests, stream) = mpsc::channel(2);
        let hold = subscribe_request::Step::Hold(subscribe_request::Hold {
            entries_digest: digest,
        });
        send(&requests, hold).await?;
        let opening = client.subscribe(ReceiverStream::new(stream));
        let opened = timeout(super::DEADLINE, opening)
            .await
            .map_err(|_| CallError::timeout(ACTION))?;
        let events = opened
            .map_err(|status| server.report(&svid, CallError::status(ACTION, &status)))?
            .into_inner();
        Ok(Self {
            server,
            svid,
            requests,
            events,
            revision: 0,
        })
    }

    /// The next event; none when the server ended the stream in good order, as it does now and then.
    ///
    /// Cancel safe.
    pub(crate) async fn next(&mut self) -> Result<Option<PushEvent>, CallError> {
        let answer = timeout(SILENCE, self.events.message())
            .await
            .map_err(|_| CallError::timeout(ACTION))?;
        let answer =
            answer.map_err(|status| self.server.report(&self.svid, CallError::status(ACTION, &status)))?;
        self.revision = answer.as_ref().map_or(self.revision, |answer| answer.revision);
        Ok(answer.map(|answer| match answer.event {
            Some(subscribe_response::Event::Unchanged(_)) => PushEvent::Unchanged,
            Some(subscribe_response::Event::Revisions(page)) => versions(page),
            Some(subscribe_response::Event::Delta(delta)) => PushEvent::Delta(update(delta)),
            // An event that a later server may have is none to us.
            Some(subscribe_response::Event::Heartbeat(_)) | None => PushEvent::Heartbeat,
        }))
    }

    /// Asks for the bodies of these entries, at most [`WANT_AT_MOST`]. One delta answers it; ask for more after that.
    pub(crate) async fn want(&self, ids: &[EntryId]) -> Result<(), CallError> {
        let ids = ids.iter().map(ToString::to_string).collect();
        send(
            &self.requests,
            subscribe_request::Step::Want(subscribe_request::Want { ids }),
        )
        .await
    }

    /// Says that what came by the events so far is taken over, and whether all SVIDs are that were asked for.
    /// A server that doesn't hear it goes on counting on what was before; the end of the stream is told by its events.
    pub(crate) async fn taken(&self, svids: bool) {
        let taken = subscribe_request::Taken {
            revision: self.revision,
            svids,
        };
        drop(send(&self.requests, subscribe_request::Step::Taken(taken)).await);
    }
}

async fn send(
    requests: &mpsc::Sender<SubscribeRequest>,
    step: subscribe_request::Step,
) -> Result<(), CallError> {
    let request = SubscribeRequest { step: Some(step) };
    let sent = timeout(super::DEADLINE, requests.send(request))
        .await
        .map_err(|_| CallError::timeout(ACTION))?;
    sent.map_err(|_| CallError::answer(ACTION, "stream was closed"))
}

fn versions(page: subscribe_response::Revisions) -> PushEvent {
    let read = page.entries.iter().filter_map(|revision| {
        convert::revision(revision)
            .inspect_err(|fault| {
                tracing::warn!(
                    error = fault,
                    registration_id = revision.id,
                    "Received malformed entry revision"
                );
            })
            .ok()
    });
    PushEvent::Versions {
        page: read.collect(),
        more: page.more,
    }
}

fn update(delta: subscribe_response::Delta) -> CacheUpdate {
    CacheUpdate {
        entries: delta
            .entries
            .into_iter()
            .filter_map(convert::entry_or_warn)
            .collect(),
        removed_entries: delta
            .removed_ids
            .iter()
            .filter_map(|id| EntryId::parse(id).ok())
            .collect(),
        bundles: delta
            .bundles
            .into_iter()
            .filter_map(convert::bundle_or_warn)
            .collect(),
        removed_bundles: delta
            .removed_trust_domains
            .iter()
            .filter_map(|name| TrustDomain::parse_lenient(name).ok())
            .collect(),
    }
}
