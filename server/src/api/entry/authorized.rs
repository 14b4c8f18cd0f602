//! `GetAuthorizedEntries`.

use credence_identity::SpiffeId;
use credence_proto::spire::api::server::entry::v1 as pb;

use super::convert;
use crate::api::context::Context;

/// All entries the agent may have. The registry is held for the look-up alone, which shares the entries.
pub(super) fn get(
    context: &Context,
    agent: &SpiffeId,
    request: &pb::GetAuthorizedEntriesRequest,
) -> pb::GetAuthorizedEntriesResponse {
    let now = context.clock.now();
    context.holdings.polled(agent, now);
    let entries = context.registry.read().authorized_entries(agent, now);
    let mask = request.output_mask.as_ref().unwrap_or(&convert::ALL);
    pb::GetAuthorizedEntriesResponse {
        entries: entries
            .iter()
            .map(|entry| convert::to_proto(entry, mask))
            .collect(),
    }
}
