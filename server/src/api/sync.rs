//! `credence.sync.v1.Sync`: push of an agent's authorised entries and bundles.
//!
//! Owns the face; [`stream`] is one subscription, [`sent`] what was told to it. Invariant: at any moment the entries an
//! agent was told of, with those still to be told, are what it is authorised for; a subscription lives no longer than
//! its right to: a ban, an eviction, the SVID's expiry or a newer SVID ends it with the reason.

mod sent;
mod stream;

use std::pin::Pin;
use std::sync::Arc;

use credence_proto::credence::sync::v1 as pb;
use futures_util::Stream;
use futures_util::stream::unfold;
use tonic::{Request, Response, Status, Streaming};

use super::call::Call;
use super::context::Context;

/// The service.
#[derive(Debug)]
pub(crate) struct SyncService {
    context: Arc<Context>,
}

impl SyncService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

#[tonic::async_trait]
impl pb::sync_server::Sync for SyncService {
    type SubscribeStream = Pin<Box<dyn Stream<Item = Result<pb::SubscribeResponse, Status>> + Send>>;

    async fn subscribe(
        &self,
        request: Request<Streaming<pb::SubscribeRequest>>,
    ) -> Result<Response<Self::SubscribeStream>, Status> {
        let call = Call::of(&request)?.clone();
        let subscriber = stream::Subscriber::open(&self.context, &call, request.into_inner()).await?;
        let context = Arc::clone(&self.context);
        // The stream ends after its first error.
        Ok(Response::new(Box::pin(unfold(
            Some((subscriber, call, context)),
            |subscribed| async {
                let (mut subscriber, call, context) = subscribed?;
                match subscriber.next().await {
                    Ok(Some(event)) => Some((Ok(event), Some((subscriber, call, context)))),
                    Ok(None) => None,
                    Err(status) => Some((Err(context.refused(&call, status)), None)),
                }
            },
        ))))
    }
}
