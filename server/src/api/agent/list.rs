//! `CountAgents`, `ListAgents`, `GetAgent`.

use std::collections::HashSet;
use std::sync::Arc;

use credence_identity::{Selector, Timestamp};
use credence_proto::spire::api::server::agent::v1 as pb;
use credence_proto::spire::api::types;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tonic::{Code, Status};

use crate::api::context::Context;
use crate::api::convert::{agent_id_from_proto, node, selectors_from_proto};
use crate::api::matching::Behavior;
use crate::api::paging::Page;
use crate::api::status::{fault, invalid};
use crate::store::Node;

/// How `by_expires_before` writes a time, but for the repeated offset at its end.
const TIME: &[BorrowedFormatItem<'_>] = format_description!(
    "[year]-[month]-[day] [hour]:[minute]:[second] [offset_hour sign:mandatory][offset_minute]"
);

pub(super) fn count(
    context: &Context,
    request: pb::CountAgentsRequest,
) -> Result<pb::CountAgentsResponse, Status> {
    let _counted = context.registry.telemetry().counted("datastore.node.count");
    let asked = request.filter.unwrap_or_default();
    let asked = pb::list_agents_request::Filter {
        by_attestation_type: asked.by_attestation_type,
        by_selector_match: asked.by_selector_match,
        by_banned: asked.by_banned,
        by_can_reattest: asked.by_can_reattest,
        by_expires_before: asked.by_expires_before,
    };
    let filter = Filter::from_proto(asked, "failed to count agents")?;
    let count = context
        .registry
        .read()
        .nodes()
        .filter(|(_, node)| filter.passes(node))
        .count();
    Ok(pb::CountAgentsResponse {
        count: i32::try_from(count).unwrap_or(i32::MAX),
    })
}

pub(super) fn list(
    context: &Context,
    request: pb::ListAgentsRequest,
) -> Result<pb::ListAgentsResponse, Status> {
    let _counted = ["datastore.node.list", "datastore.node.selectors.list"]
        .map(|key| context.registry.telemetry().counted(key));
    const WHAT: &str = "failed to list agents";
    let filter = Filter::from_proto(request.filter.unwrap_or_default(), WHAT)?;
    let page =
        Page::new(request.page_size, &request.page_token).map_err(|bad| fault(Code::Internal, WHAT, bad))?;
    let (found, next_page_token) = {
        let state = context.registry.read();
        let matching = state
            .nodes_after(page.after())
            .filter(|(_, node)| filter.passes(node));
        page.take(matching.map(|(row, node)| (row, Arc::clone(node))))
    };
    let mask = request.output_mask.unwrap_or(node::ALL);
    let agents = found.iter().map(|found| node::to_proto(found, &mask)).collect();
    Ok(pb::ListAgentsResponse {
        agents,
        next_page_token,
    })
}

pub(super) fn get(context: &Context, request: &pb::GetAgentRequest) -> Result<types::Agent, Status> {
    let _counted = ["datastore.node.fetch", "datastore.node.selectors.fetch"]
        .map(|key| context.registry.telemetry().counted(key));
    let id = agent_id_from_proto(&context.trust_domain, request.id.as_ref())
        .map_err(|fault| invalid("invalid agent ID", fault))?;
    let found = context.registry.read().node(&id).cloned();
    let found = found.ok_or_else(|| Status::not_found("agent not found"))?;
    Ok(node::to_proto(
        &found,
        request.output_mask.as_ref().unwrap_or(&node::ALL),
    ))
}

/// What a listing asks for; what is None is not asked.
#[derive(Debug)]
struct Filter {
    attestation_type: Option<String>,
    selectors: Option<(Behavior, HashSet<Selector>)>,
    banned: Option<bool>,
    can_reattest: Option<bool>,
    expires_before: Option<Timestamp>,
}

impl Filter {
    fn from_proto(asked: pb::list_agents_request::Filter, what: &str) -> Result<Self, Status> {
        let selectors = asked
            .by_selector_match
            .map(|asked| selectors_filter(&asked, what))
            .transpose()?;
        Ok(Self {
            attestation_type: Some(asked.by_attestation_type).filter(|kind| !kind.is_empty()),
            selectors,
            banned: asked.by_banned,
            can_reattest: asked.by_can_reattest,
            expires_before: expires_before(&asked.by_expires_before),
        })
    }

    fn passes(&self, node: &Node) -> bool {
        self.attestation_type
            .as_ref()
            .is_none_or(|kind| *node.attestation_type == **kind)
            && self
                .selectors
                .as_ref()
                .is_none_or(|(match_, set)| !node.selectors.is_empty() && match_.passes(set, &node.selectors))
            && self.banned.is_none_or(|banned| node.is_banned() == banned)
            && self.can_reattest.is_none_or(|can| node.can_reattest == can)
            && self.expires_before.is_none_or(|time| node.not_after < time)
    }
}

fn selectors_filter(
    asked: &types::SelectorMatch,
    what: &str,
) -> Result<(Behavior, HashSet<Selector>), Status> {
    let selectors = selectors_from_proto(&asked.selectors)
        .map_err(|fault| invalid("failed to parse selectors", fault))?;
    if selectors.is_empty() {
        return Err(fault(Code::Internal, what, "cannot list by empty selectors set"));
    }
    let behavior =
        Behavior::of_selectors(asked.r#match).map_err(|unknown| fault(Code::Internal, what, unknown))?;
    Ok((behavior, selectors.into_iter().collect()))
}

/// A time as `2006-01-02 15:04:05 -0700 -07`; one that doesn't parse is ignored, as SPIRE does.
fn expires_before(text: &str) -> Option<Timestamp> {
    let (time, repeated_offset) = text.rsplit_once(' ')?;
    let (sign, hours) = repeated_offset.split_at_checked(1)?;
    let is_offset =
        matches!(sign, "+" | "-") && hours.len() == 2 && hours.bytes().all(|b| b.is_ascii_digit());
    let time = OffsetDateTime::parse(time, TIME).ok().filter(|_| is_offset)?;
    Some(Timestamp::from_unix_seconds(time.unix_timestamp()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_the_filter() {
        let at = |text: &str| expires_before(text).map(Timestamp::unix_seconds);
        assert_eq!(at("1970-01-01 00:01:40 +0000 +00"), Some(100));
        assert_eq!(at("1970-01-01 02:00:00 +0200 +02"), Some(0));
        assert_eq!(at("1970-01-01 00:01:40 +0000 UTC"), None);
        assert_eq!(at(""), None);
        assert_eq!(at("tomorrow at noon"), None);
    }
}
