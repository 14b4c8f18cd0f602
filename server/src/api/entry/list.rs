//! `CountEntries`, `ListEntries`, `GetEntry`.

use std::collections::HashSet;
use std::sync::Arc;

use credence_identity::{Entry, EntryId, Selector, SpiffeId, TrustDomain};
use credence_proto::spire::api::server::entry::v1 as pb;
use credence_proto::spire::api::types;
use tonic::{Code, Status};

use super::convert;
use crate::api::context::Context;
use crate::api::convert::{member_id_from_proto, selectors_from_proto, workload_id_from_proto};
use crate::api::matching::Behavior;
use crate::api::paging::Page;
use crate::api::status::{fault, invalid};
use crate::registry::State;
use crate::store::Row;

pub(super) fn count(
    context: &Context,
    request: pb::CountEntriesRequest,
) -> Result<pb::CountEntriesResponse, Status> {
    let _counted = context
        .registry
        .telemetry()
        .counted("datastore.registration_entry.count");
    let Some(asked) = request.filter else {
        let all = context.registry.read().entry_count();
        return Ok(pb::CountEntriesResponse {
            count: i32::try_from(all).unwrap_or(i32::MAX),
        });
    };
    let asked = pb::list_entries_request::Filter {
        by_spiffe_id: asked.by_spiffe_id,
        by_parent_id: asked.by_parent_id,
        by_selectors: asked.by_selectors,
        by_federates_with: asked.by_federates_with,
        by_hint: asked.by_hint,
        by_downstream: asked.by_downstream,
    };
    let filter = Filter::from_proto(&context.trust_domain, asked, "failed to count entries")?;
    let count = filter
        .candidates(&context.registry.read(), Row(0))
        .filter(|(_, entry)| filter.passes(entry))
        .count();
    Ok(pb::CountEntriesResponse {
        count: i32::try_from(count).unwrap_or(i32::MAX),
    })
}

pub(super) fn list(
    context: &Context,
    request: pb::ListEntriesRequest,
) -> Result<pb::ListEntriesResponse, Status> {
    let _counted = context
        .registry
        .telemetry()
        .counted("datastore.registration_entry.list");
    const WHAT: &str = "failed to list entries";
    let filter = Filter::from_proto(&context.trust_domain, request.filter.unwrap_or_default(), WHAT)?;
    let page =
        Page::new(request.page_size, &request.page_token).map_err(|bad| fault(Code::Internal, WHAT, bad))?;
    // What is found is put on the wire without holding up the registry.
    let (found, next_page_token) = {
        let state = context.registry.read();
        let matching = filter
            .candidates(&state, page.after())
            .filter(|(_, entry)| filter.passes(entry));
        page.take(matching.map(|(row, entry)| (row, Arc::clone(entry))))
    };
    let mask = request.output_mask.unwrap_or(convert::ALL);
    let entries = found
        .iter()
        .map(|entry| convert::to_proto(entry, &mask))
        .collect();
    Ok(pb::ListEntriesResponse {
        entries,
        next_page_token,
    })
}

pub(super) fn get(context: &Context, request: &pb::GetEntryRequest) -> Result<types::Entry, Status> {
    let _counted = context
        .registry
        .telemetry()
        .counted("datastore.registration_entry.fetch");
    if request.id.is_empty() {
        return Err(Status::invalid_argument("missing ID"));
    }
    let id = EntryId::parse(&request.id).ok();
    let entry = id.and_then(|id| context.registry.read().entry(&id).cloned());
    let entry = entry.ok_or_else(|| Status::not_found("entry not found"))?;
    Ok(convert::to_proto(
        &entry,
        request.output_mask.as_ref().unwrap_or(&convert::ALL),
    ))
}

/// What a listing asks for; what is None is not asked.
#[derive(Debug)]
struct Filter {
    spiffe_id: Option<SpiffeId>,
    parent_id: Option<SpiffeId>,
    selectors: Option<(Behavior, HashSet<Selector>)>,
    federates_with: Option<(Behavior, HashSet<TrustDomain>)>,
    hint: Option<String>,
    downstream: bool,
}

impl Filter {
    fn from_proto(
        own: &TrustDomain,
        asked: pb::list_entries_request::Filter,
        what: &str,
    ) -> Result<Self, Status> {
        let parent_id = (asked
            .by_parent_id
            .map(|id| member_id_from_proto(own, Some(&id)))
            .transpose())
        .map_err(|fault| invalid("malformed parent ID filter", fault))?;
        let spiffe_id = (asked
            .by_spiffe_id
            .map(|id| workload_id_from_proto(own, Some(&id)))
            .transpose())
        .map_err(|fault| invalid("malformed SPIFFE ID filter", fault))?;
        let selectors = asked
            .by_selectors
            .map(|asked| selectors_filter(&asked, what))
            .transpose()?;
        let federates_with = asked
            .by_federates_with
            .map(|asked| federation_filter(&asked, what))
            .transpose()?;
        let hint = asked.by_hint.filter(|hint| !hint.is_empty());
        Ok(Self {
            spiffe_id,
            parent_id,
            selectors,
            federates_with,
            hint,
            downstream: asked.by_downstream == Some(true),
        })
    }

    /// A superset of what passes, by way of the narrowest index, in order of rows.
    fn candidates<'a>(
        &'a self,
        state: &'a State,
        after: Row,
    ) -> Box<dyn Iterator<Item = (Row, &'a Arc<Entry>)> + 'a> {
        if let Some(id) = &self.spiffe_id {
            Box::new(
                state
                    .entries_by_spiffe_id(id)
                    .filter(move |(row, _)| *row > after),
            )
        } else if let Some(id) = &self.parent_id {
            Box::new(state.entries_by_parent(id).filter(move |(row, _)| *row > after))
        } else {
            Box::new(state.entries_after(after))
        }
    }

    fn passes(&self, entry: &Entry) -> bool {
        self.spiffe_id.as_ref().is_none_or(|id| entry.spiffe_id == *id)
            && self.parent_id.as_ref().is_none_or(|id| entry.parent_id == *id)
            && self
                .selectors
                .as_ref()
                .is_none_or(|(match_, set)| match_.passes(set, &entry.selectors))
            && self.federates_with.as_ref().is_none_or(|(match_, set)| {
                // As SPIRE has it, an entry that federates with nobody isn't one of a subset.
                !entry.federates_with.is_empty() && match_.passes(set, &entry.federates_with)
            })
            && self.hint.as_ref().is_none_or(|hint| *entry.hint == **hint)
            && (!self.downstream || entry.downstream)
    }
}

fn selectors_filter(
    asked: &types::SelectorMatch,
    what: &str,
) -> Result<(Behavior, HashSet<Selector>), Status> {
    const MALFORMED: &str = "malformed selectors filter";
    let selectors = selectors_from_proto(&asked.selectors).map_err(|fault| invalid(MALFORMED, fault))?;
    if selectors.is_empty() {
        return Err(invalid(MALFORMED, "empty selector set"));
    }
    let behavior =
        Behavior::of_selectors(asked.r#match).map_err(|unknown| fault(Code::Internal, what, unknown))?;
    Ok((behavior, selectors.into_iter().collect()))
}

fn federation_filter(
    asked: &types::FederatesWithMatch,
    what: &str,
) -> Result<(Behavior, HashSet<TrustDomain>), Status> {
    const MALFORMED: &str = "malformed federates with filter";
    let names: Result<HashSet<_>, _> = asked
        .trust_domains
        .iter()
        .map(|name| TrustDomain::parse_lenient(name))
        .collect();
    let names = names.map_err(|fault| invalid(MALFORMED, fault))?;
    if names.is_empty() {
        return Err(invalid(MALFORMED, "empty trust domain set"));
    }
    let behavior =
        Behavior::of_federation(asked.r#match).map_err(|unknown| fault(Code::Internal, what, unknown))?;
    Ok((behavior, names))
}
