//! The exchange of `SyncAuthorizedEntries`: small sets come whole, large ones as revisions of which the agent asks for
//! what it lacks.

use std::collections::BTreeMap;

use credence_identity::EntryId;
use credence_proto::spire::api::server::entry::v1::{
    GetAuthorizedEntriesRequest, SyncAuthorizedEntriesRequest, SyncAuthorizedEntriesResponse,
    entry_client::EntryClient,
};
use credence_proto::spire::api::types::{self, EntryMask};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::Channel;
use super::convert;
use super::error::CallError;
use crate::cache::{CacheUpdate, EntryVersion};
use crate::sync::comparison::Comparison;

pub(super) const ACTION: &str = "failed to fetch authorized entries";

/// The fields that SPIRE's agent asks for, and the end of an entry: what an agent needs and no more.
fn output_mask() -> EntryMask {
    EntryMask {
        spiffe_id: true,
        selectors: true,
        federates_with: true,
        admin: true,
        downstream: true,
        expires_at: true,
        revision_number: true,
        store_svid: true,
        hint: true,
        created_at: true,
        additional_attributes: true,
        ..EntryMask::default()
    }
}

/// Asks for all entries.
pub(super) fn whole_request() -> GetAuthorizedEntriesRequest {
    GetAuthorizedEntriesRequest {
        output_mask: Some(output_mask()),
    }
}

/// How the whole set differs from what is held.
pub(super) fn compare(held: BTreeMap<EntryId, EntryVersion>, whole: Vec<types::Entry>) -> CacheUpdate {
    let mut comparison = Comparison::with(held);
    take_entries(&mut comparison, whole);
    comparison.finish()
}

pub(super) async fn sync(
    mut client: EntryClient<Channel>,
    held: BTreeMap<EntryId, EntryVersion>,
) -> Result<CacheUpdate, CallError> {
    let (asks, requests) = mpsc::channel(1);
    let ask = async |request| {
        asks.send(request)
            .await
            .map_err(|_| CallError::answer(ACTION, "stream was closed"))
    };
    ask(SyncAuthorizedEntriesRequest {
        output_mask: Some(output_mask()),
        ids: Vec::new(),
    })
    .await?;
    let answers = client
        .sync_authorized_entries(ReceiverStream::new(requests))
        .await;
    let mut answers = answers
        .map_err(|status| CallError::status(ACTION, &status))?
        .into_inner();

    let mut comparison = Comparison::with(held);
    let mut answer = next(&mut answers).await?;
    // The first answer tells the two forms apart, and its length is the size of a page.
    let page = answer.entry_revisions.len();
    if page == 0 {
        take_entries(&mut comparison, answer.entries);
        return Ok(comparison.finish());
    }
    loop {
        if !answer.entries.is_empty() {
            return Err(CallError::answer(
                ACTION,
                "unexpected entry in response receiving entry revisions",
            ));
        }
        take_revisions(&mut comparison, &answer);
        if !answer.more {
            break;
        }
        answer = next(&mut answers).await?;
    }
    for ids in comparison.take_lacking().chunks(page) {
        let ids = ids.iter().map(ToString::to_string).collect();
        ask(SyncAuthorizedEntriesRequest {
            output_mask: None,
            ids,
        })
        .await?;
        loop {
            let answer = next(&mut answers).await?;
            if !answer.entry_revisions.is_empty() {
                let reason = "unexpected entry revisions in response while requesting entries";
                return Err(CallError::answer(ACTION, reason));
            }
            let more = answer.more;
            take_entries(&mut comparison, answer.entries);
            if !more {
                break;
            }
        }
    }
    Ok(comparison.finish())
}

async fn next(
    answers: &mut Streaming<SyncAuthorizedEntriesResponse>,
) -> Result<SyncAuthorizedEntriesResponse, CallError> {
    let answer = answers
        .message()
        .await
        .map_err(|status| CallError::status(ACTION, &status))?;
    answer.ok_or_else(|| CallError::answer(ACTION, "the server ended the stream too early"))
}

fn take_revisions(comparison: &mut Comparison, answer: &SyncAuthorizedEntriesResponse) {
    for revision in &answer.entry_revisions {
        match convert::revision(revision) {
            Ok((id, version)) => comparison.see_version(id, version),
            Err(fault) => tracing::warn!(
                error = fault,
                registration_id = revision.id,
                revision_number = revision.revision_number,
                "Received malformed entry revision from SPIRE server; are the server and agent versions compatible?"
            ),
        }
    }
}

fn take_entries(comparison: &mut Comparison, entries: Vec<types::Entry>) {
    for entry in entries {
        if let Some(entry) = convert::entry_or_warn(entry) {
            comparison.see_entry(entry);
        }
    }
}
