//! `spire.api.server.entry.v1.Entry`.
//!
//! Owns the service's face; each subject has its file. Invariant: a batch is one transaction of the registry, and its
//! results stand in the order of the request.

mod authorized;
mod create;
mod delete;
mod list;
mod sync;
mod update;

use std::pin::Pin;
use std::sync::Arc;

use credence_identity::{Entry, EntryId};
use credence_proto::spire::api::server::entry::v1 as pb;
use credence_proto::spire::api::types;
use futures_util::Stream;
use tonic::{Request, Response, Status, Streaming};

use super::call::Call;
use super::context::Context;
use super::convert::entry as convert;

/// The service.
#[derive(Debug)]
pub(crate) struct EntryService {
    context: Arc<Context>,
}

impl EntryService {
    pub(crate) fn new(context: Arc<Context>) -> Self {
        Self { context }
    }
}

/// Why an entry can't be stored as asked, beyond its own shape; the text follows "failed to create entry: " or
/// "failed to update entry: ".
#[derive(Debug, thiserror::Error)]
enum Conflict {
    #[error("entry ID \"{0}\" is already taken")]
    IdTaken(EntryId),
    #[error("selector \"{0}\" is given twice")]
    RepeatedSelector(credence_identity::Selector),
    #[error("DNS name \"{0}\" is given twice")]
    RepeatedDnsName(Arc<str>),
    #[error("unable to find federated bundle \"{0}\"")]
    NoBundle(credence_identity::SpiffeId),
}

impl Conflict {
    fn status(&self, what: &str) -> Status {
        let code = match self {
            Self::NoBundle(_) => tonic::Code::Internal,
            _ => tonic::Code::AlreadyExists,
        };
        super::status::fault(code, what, self)
    }
}

/// The selectors and DNS names of one entry are sets.
fn check_repeats(entry: &Entry) -> Result<(), Conflict> {
    if let Some(selector) = repeated(&entry.selectors) {
        return Err(Conflict::RepeatedSelector(selector.clone()));
    }
    match repeated(&entry.dns_names) {
        Some(name) => Err(Conflict::RepeatedDnsName(Arc::clone(name))),
        None => Ok(()),
    }
}

fn repeated<T: Ord>(items: &[T]) -> Option<&T> {
    let mut sorted: Vec<&T> = items.iter().collect();
    sorted.sort_unstable();
    sorted.windows(2).find_map(|pair| match pair {
        [first, second] if first == second => Some(*first),
        _ => None,
    })
}

/// The bundles an entry refers to must be there.
fn check_bundles(state: &crate::registry::State, entry: &Entry) -> Result<(), Conflict> {
    match entry
        .federates_with
        .iter()
        .find(|name| state.bundle(name).is_none())
    {
        Some(missing) => Err(Conflict::NoBundle(missing.id())),
        None => Ok(()),
    }
}

/// The entry as the writing calls answer it: with selectors and DNS names sorted, where reading calls keep the stored
/// order.
fn sorted_to_proto(entry: &Entry, mask: &types::EntryMask) -> types::Entry {
    let mut entry = convert::to_proto(entry, mask);
    entry
        .selectors
        .sort_unstable_by(|a, b| (&a.r#type, &a.value).cmp(&(&b.r#type, &b.value)));
    entry.dns_names.sort_unstable();
    entry
}

#[tonic::async_trait]
impl pb::entry_server::Entry for EntryService {
    async fn count_entries(
        &self,
        request: Request<pb::CountEntriesRequest>,
    ) -> Result<Response<pb::CountEntriesResponse>, Status> {
        list::count(&self.context, request.into_inner()).map(Response::new)
    }

    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<pb::ListEntriesResponse>, Status> {
        list::list(&self.context, request.into_inner()).map(Response::new)
    }

    async fn get_entry(
        &self,
        request: Request<pb::GetEntryRequest>,
    ) -> Result<Response<types::Entry>, Status> {
        list::get(&self.context, &request.into_inner()).map(Response::new)
    }

    async fn batch_create_entry(
        &self,
        request: Request<pb::BatchCreateEntryRequest>,
    ) -> Result<Response<pb::BatchCreateEntryResponse>, Status> {
        Ok(Response::new(
            create::batch(&self.context, request.into_inner()).await,
        ))
    }

    async fn batch_update_entry(
        &self,
        request: Request<pb::BatchUpdateEntryRequest>,
    ) -> Result<Response<pb::BatchUpdateEntryResponse>, Status> {
        Ok(Response::new(
            update::batch(&self.context, request.into_inner()).await,
        ))
    }

    async fn batch_delete_entry(
        &self,
        request: Request<pb::BatchDeleteEntryRequest>,
    ) -> Result<Response<pb::BatchDeleteEntryResponse>, Status> {
        Ok(Response::new(
            delete::batch(&self.context, request.into_inner()).await,
        ))
    }

    async fn get_authorized_entries(
        &self,
        request: Request<pb::GetAuthorizedEntriesRequest>,
    ) -> Result<Response<pb::GetAuthorizedEntriesResponse>, Status> {
        let agent = Call::of(&request)?.agent()?;
        self.context.presence.polled(agent, self.context.clock.now());
        Ok(Response::new(authorized::get(
            &self.context,
            agent,
            request.get_ref(),
        )))
    }

    type SyncAuthorizedEntriesStream =
        Pin<Box<dyn Stream<Item = Result<pb::SyncAuthorizedEntriesResponse, Status>> + Send>>;

    async fn sync_authorized_entries(
        &self,
        request: Request<Streaming<pb::SyncAuthorizedEntriesRequest>>,
    ) -> Result<Response<Self::SyncAuthorizedEntriesStream>, Status> {
        let agent = Call::of(&request)?.agent()?.clone();
        self.context.presence.polled(&agent, self.context.clock.now());
        let stream = sync::answer(&self.context, &agent, request.into_inner()).await?;
        Ok(Response::new(Box::pin(stream)))
    }
}
