//! `BatchCreateEntry`.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use credence_identity::{Entry, EntryId, SimilarKey, Timestamp, TrustDomain};
use credence_proto::spire::api::server::entry::v1 as pb;
use credence_proto::spire::api::types;
use tonic::{Code, Status};

use super::{Conflict, check_bundles, check_repeats, convert, sorted_to_proto};
use crate::api::context::Context;
use crate::api::status::{self, invalid};
use crate::registry::State;
use crate::store::Change;

type Outcome = pb::batch_create_entry_response::Result;

const WHAT: &str = "failed to create entry";

/// What became of one item.
enum Item {
    Created(Arc<Entry>),
    Similar(Arc<Entry>),
    Refused(Status),
}

pub(super) async fn batch(
    context: &Context,
    request: pb::BatchCreateEntryRequest,
) -> pb::BatchCreateEntryResponse {
    let now = context.clock.now();
    let asked = request.entries.len();
    let candidates: Vec<_> = request
        .entries
        .iter()
        .map(|entry| candidate(&context.trust_domain, entry, now))
        .collect();
    let decided = context
        .registry
        .transact(move |state| Ok::<_, Status>(decide(state, candidates)))
        .await;
    let mask = request.output_mask.unwrap_or(convert::ALL);
    let results = match decided {
        Ok(items) => items.into_iter().map(|item| outcome(item, &mask)).collect(),
        Err(error) => {
            let status = status::item(&context.not_committed(WHAT, &error));
            vec![
                Outcome {
                    status: Some(status),
                    entry: None
                };
                asked
            ]
        }
    };
    pb::BatchCreateEntryResponse { results }
}

/// The entry of one item, checked as far as that goes without the registry.
fn candidate(own: &TrustDomain, entry: &types::Entry, now: Timestamp) -> Result<Entry, Status> {
    let fields = convert::fields_from_proto(own, entry, &convert::ALL)
        .map_err(|fault| invalid("failed to convert entry", fault))?;
    let entry = convert::create(&entry.id, fields, now).map_err(|fault| invalid(WHAT, fault))?;
    check_repeats(&entry).map_err(|conflict| conflict.status(WHAT))?;
    Ok(entry)
}

/// Creates what can be created: an entry like one that is there, or like one before it in the batch, is answered with
/// that one.
fn decide(state: &State, candidates: Vec<Result<Entry, Status>>) -> (Vec<Change>, Vec<Item>) {
    let mut changes = Vec::with_capacity(candidates.len());
    let mut new: HashMap<SimilarKey, Arc<Entry>> = HashMap::with_capacity(candidates.len());
    let mut ids: HashSet<EntryId> = HashSet::with_capacity(candidates.len());
    let items = candidates.into_iter().map(|candidate| {
        let entry = match candidate {
            Ok(entry) => entry,
            Err(status) => return Item::Refused(status),
        };
        let key = entry.similar_key();
        if let Some(similar) = state.similar_entry(&entry).or_else(|| new.get(&key)) {
            return Item::Similar(Arc::clone(similar));
        }
        if state.entry(&entry.id).is_some() || ids.contains(&entry.id) {
            return Item::Refused(Conflict::IdTaken(entry.id).status(WHAT));
        }
        if let Err(conflict) = check_bundles(state, &entry) {
            return Item::Refused(conflict.status(WHAT));
        }
        let entry = Arc::new(entry);
        ids.insert(entry.id.clone());
        new.insert(key, Arc::clone(&entry));
        changes.push(Change::EntryPut(Arc::clone(&entry)));
        Item::Created(entry)
    });
    let items = items.collect();
    (changes, items)
}

fn outcome(item: Item, mask: &types::EntryMask) -> Outcome {
    let (status, entry) = match item {
        Item::Created(entry) => (status::item_ok(), Some(entry)),
        Item::Similar(entry) => {
            let exists = Status::new(Code::AlreadyExists, "similar entry already exists");
            (status::item(&exists), Some(entry))
        }
        Item::Refused(refusal) => (status::item(&refusal), None),
    };
    Outcome {
        status: Some(status),
        entry: entry.map(|entry| sorted_to_proto(&entry, mask)),
    }
}
