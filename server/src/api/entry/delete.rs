//! `BatchDeleteEntry`.

use std::collections::HashSet;

use credence_identity::EntryId;
use credence_proto::spire::api::server::entry::v1 as pb;
use tonic::Status;

use crate::api::context::Context;
use crate::api::status;
use crate::registry::State;
use crate::store::Change;

type Outcome = pb::batch_delete_entry_response::Result;

pub(super) async fn batch(
    context: &Context,
    request: pb::BatchDeleteEntryRequest,
) -> pb::BatchDeleteEntryResponse {
    let ids = request.ids.clone();
    let decided = context
        .registry
        .transact(move |state| Ok::<_, Status>(decide(state, &ids)))
        .await;
    let statuses = decided.unwrap_or_else(|error| {
        let status = context.not_committed("failed to delete entry", &error);
        vec![Err(status); request.ids.len()]
    });
    let results = request.ids.into_iter().zip(statuses).map(|(id, outcome)| {
        let status = outcome.map_or_else(|refusal| status::item(&refusal), |()| status::item_ok());
        Outcome {
            status: Some(status),
            id,
        }
    });
    pb::BatchDeleteEntryResponse {
        results: results.collect(),
    }
}

fn decide(state: &State, ids: &[String]) -> (Vec<Change>, Vec<Result<(), Status>>) {
    let mut gone: HashSet<EntryId> = HashSet::new();
    let outcomes = ids.iter().map(|id| {
        if id.is_empty() {
            return Err(Status::invalid_argument("missing entry ID"));
        }
        let known = EntryId::parse(id).ok().filter(|id| state.entry(id).is_some());
        match known {
            Some(id) if !gone.contains(&id) => {
                gone.insert(id);
                Ok(())
            }
            _ => Err(Status::not_found("entry not found")),
        }
    });
    let outcomes = outcomes.collect();
    (gone.into_iter().map(Change::EntryDelete).collect(), outcomes)
}
