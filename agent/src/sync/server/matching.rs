//! `credence.explain.v1.Matching`: what only the server knows of a workload without an identity.

use credence_identity::{EntryId, SelectorSet, SpiffeId, Timestamp};
use credence_proto::credence::explain::v1::{MatchRequest, match_response, matching_client::MatchingClient};
use credence_proto::spire::api::types;
use credence_runtime::clock::Clock;

use super::{CallError, Server};
use crate::explain::{Answer, Named};

/// The server takes no more.
const MOST_SELECTORS: usize = 1024;

impl Server {
    /// What the server says of a workload with these selectors. SPIRE's server hasn't got the call.
    pub(crate) async fn matching(
        &self,
        selectors: &SelectorSet,
        clock: &dyn Clock,
    ) -> Result<Answer, CallError> {
        let selectors = selectors.iter().take(MOST_SELECTORS);
        let selectors = selectors.map(|selector| types::Selector {
            r#type: selector.selector_type().to_owned(),
            value: selector.value().to_owned(),
        });
        let request = MatchRequest {
            selectors: selectors.collect(),
        };
        let asked_at = clock.now();
        let call = |channel| async { MatchingClient::new(channel).r#match(request).await };
        let answer = self.call("failed to ask for matching entries", call).await?;
        // The server looked at its clock somewhere between the question and the answer.
        let halfway = i64::midpoint(asked_at.unix_millis(), clock.now().unix_millis());
        Ok(Answer {
            authorized: ids(&answer.authorized_ids),
            expired: answer.expired.iter().filter_map(expired).collect(),
            elsewhere: answer.elsewhere,
            clock_apart_seconds: (halfway - answer.now_unix_millis) / 1000,
        })
    }
}

fn ids(texts: &[String]) -> Vec<EntryId> {
    texts
        .iter()
        .filter_map(|text| EntryId::parse(text).ok())
        .collect()
}

fn expired(one: &match_response::Expired) -> Option<(Named, Timestamp)> {
    let named = Named {
        id: EntryId::parse(&one.entry_id).ok()?,
        spiffe_id: SpiffeId::parse(&one.spiffe_id).ok()?,
    };
    Some((named, Timestamp::from_unix_seconds(one.expired_at_unix_seconds)))
}
