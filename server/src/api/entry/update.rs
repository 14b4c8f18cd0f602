//! `BatchUpdateEntry`.

use std::collections::HashMap;
use std::sync::Arc;

use credence_identity::{Entry, EntryId, TrustDomain};
use credence_proto::spire::api::server::entry::v1 as pb;
use credence_proto::spire::api::types;
use tonic::Status;

use super::{check_bundles, check_repeats, convert, sorted_to_proto};
use crate::api::context::Context;
use crate::api::convert::entry::EntryFields;
use crate::api::status::{self, invalid};
use crate::registry::State;
use crate::store::Change;

type Outcome = pb::batch_update_entry_response::Result;

const WHAT: &str = "failed to update entry";

struct Wanted {
    id: EntryId,
    fields: EntryFields,
}

pub(super) async fn batch(
    context: &Context,
    request: pb::BatchUpdateEntryRequest,
) -> pb::BatchUpdateEntryResponse {
    let asked = request.entries.len();
    let input = request.input_mask.unwrap_or(convert::ALL);
    let wanted: Vec<_> = request
        .entries
        .iter()
        .map(|entry| wanted(&context.trust_domain, entry, &input))
        .collect();
    let decided = context
        .registry
        .transact(move |state| Ok::<_, Status>(decide(state, wanted, &input)))
        .await;
    let output = request.output_mask.unwrap_or(convert::ALL);
    let results = match decided {
        Ok(items) => items.into_iter().map(|item| outcome(item, &output)).collect(),
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
    pb::BatchUpdateEntryResponse { results }
}

/// What one item asks for. An ID that no entry can have is one that none has.
fn wanted(own: &TrustDomain, entry: &types::Entry, mask: &types::EntryMask) -> Result<Wanted, Status> {
    let fields = convert::fields_from_proto(own, entry, mask)
        .map_err(|fault| invalid("failed to convert entry", fault))?;
    let id = EntryId::parse(&entry.id).map_err(|_| Status::not_found(WHAT))?;
    Ok(Wanted { id, fields })
}

/// Updates one after the other, so that a later item of the batch sees what an earlier one did.
fn decide(
    state: &State,
    wanted: Vec<Result<Wanted, Status>>,
    mask: &types::EntryMask,
) -> (Vec<Change>, Vec<Result<Arc<Entry>, Status>>) {
    let mut updated: HashMap<EntryId, Arc<Entry>> = HashMap::new();
    let mut changes = Vec::with_capacity(wanted.len());
    let mut items = Vec::with_capacity(wanted.len());
    for item in wanted {
        let item = item.and_then(|wanted| {
            let old = updated.get(&wanted.id).or_else(|| state.entry(&wanted.id));
            let old = old.ok_or_else(|| Status::not_found(WHAT))?;
            let entry = convert::update(old, &wanted.fields, mask).map_err(|fault| invalid(WHAT, fault))?;
            check_repeats(&entry)
                .and_then(|()| check_bundles(state, &entry))
                .map_err(|conflict| conflict.status(WHAT))?;
            Ok(Arc::new(entry))
        });
        if let Ok(entry) = &item {
            updated.insert(entry.id.clone(), Arc::clone(entry));
            changes.push(Change::EntryPut(Arc::clone(entry)));
        }
        items.push(item);
    }
    (changes, items)
}

fn outcome(item: Result<Arc<Entry>, Status>, mask: &types::EntryMask) -> Outcome {
    match item {
        Ok(entry) => Outcome {
            status: Some(status::item_ok()),
            entry: Some(sorted_to_proto(&entry, mask)),
        },
        Err(refusal) => Outcome {
            status: Some(status::item(&refusal)),
            entry: None,
        },
    }
}
