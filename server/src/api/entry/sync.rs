//! `SyncAuthorizedEntries`: the exchange by which SPIRE's agents learn what changed.
//!
//! Up to [`PAGE`] entries go out whole in one answer. Beyond that the agent gets ids and revisions in pages and asks
//! for what it lacks. The set is the one of the first message: what changes meanwhile is for the next exchange.

use std::sync::Arc;

use credence_identity::{Entry, SpiffeId, Timestamp};
use credence_proto::spire::api::server::entry::v1 as pb;
use credence_proto::spire::api::types;
use futures_util::future::Either;
use futures_util::stream::{self, Stream};
use tonic::{Code, Status, Streaming};

use super::convert::{self, PAGE};
use crate::api::context::Context;
use crate::api::gate::mend;

type Answer = pb::SyncAuthorizedEntriesResponse;

pub(super) async fn answer(
    context: &Context,
    agent: &SpiffeId,
    mut requests: Streaming<pb::SyncAuthorizedEntriesRequest>,
) -> Result<impl Stream<Item = Result<Answer, Status>> + Send + use<>, Status> {
    let first = requests
        .message()
        .await
        .map_err(|status| mend(&status).unwrap_or(status))?;
    let first = first.ok_or_else(|| Status::new(Code::Unknown, "EOF"))?;
    let mask = first.output_mask.unwrap_or(convert::ALL);
    if !mask.revision_number {
        return Err(Status::invalid_argument("revision number cannot be masked"));
    }
    if !first.ids.is_empty() {
        return Err(Status::invalid_argument(
            "specifying IDs on initial request is not supported",
        ));
    }
    let now = context.clock.now();
    context.holdings.polled(agent, now);
    let mut entries = context.registry.read().authorized_entries(agent, now);
    if entries.len() <= PAGE {
        let entries = entries
            .iter()
            .map(|entry| convert::to_proto(entry, &mask))
            .collect();
        let whole = Answer {
            entries,
            ..Answer::default()
        };
        return Ok(Either::Left(stream::iter([Ok(whole)])));
    }
    entries.sort_unstable_by(|a, b| a.id.cmp(&b.id));
    let exchange = Exchange {
        entries,
        mask,
        revisions_sent: 0,
        asked: Vec::new(),
        requests,
    };
    Ok(Either::Right(stream::unfold(Some(exchange), |exchange| async {
        let mut exchange = exchange?;
        match exchange.next().await {
            Ok(Some(answer)) => Some((Ok(answer), Some(exchange))),
            Ok(None) => None,
            Err(status) => Some((Err(status), None)),
        }
    })))
}

/// An exchange in pages.
struct Exchange {
    /// By id.
    entries: Vec<Arc<Entry>>,
    mask: types::EntryMask,
    revisions_sent: usize,
    /// Bodies that were asked for and not sent yet, in reverse.
    asked: Vec<Arc<Entry>>,
    requests: Streaming<pb::SyncAuthorizedEntriesRequest>,
}

impl Exchange {
    async fn next(&mut self) -> Result<Option<Answer>, Status> {
        if self.revisions_sent < self.entries.len() {
            let page: Vec<_> = self
                .entries
                .iter()
                .skip(self.revisions_sent)
                .take(PAGE)
                .map(revision)
                .collect();
            self.revisions_sent += page.len();
            let more = self.revisions_sent < self.entries.len();
            return Ok(Some(Answer {
                entry_revisions: page,
                entries: Vec::new(),
                more,
            }));
        }
        if self.asked.is_empty() {
            let request = self
                .requests
                .message()
                .await
                .map_err(|status| mend(&status).unwrap_or(status))?;
            let Some(request) = request else { return Ok(None) };
            self.asked = request
                .ids
                .iter()
                .rev()
                .filter_map(|id| self.find(id))
                .cloned()
                .collect();
        }
        let entries = convert::take_page(&mut self.asked, &self.mask);
        Ok(Some(Answer {
            entries,
            entry_revisions: Vec::new(),
            more: !self.asked.is_empty(),
        }))
    }

    fn find(&self, id: &str) -> Option<&Arc<Entry>> {
        let at = self
            .entries
            .binary_search_by(|entry| entry.id.as_str().cmp(id))
            .ok()?;
        self.entries.get(at)
    }
}

fn revision(entry: &Arc<Entry>) -> pb::EntryRevision {
    pb::EntryRevision {
        id: entry.id.as_str().to_owned(),
        revision_number: entry.revision_number,
        created_at: Timestamp::unix_seconds(entry.created_at),
    }
}
