//! What still stands in the way of a step of a forced rotation.
//!
//! Each step is safe once every live agent has taken the one before: before an authority signs, and before another is
//! tainted, all hold a bundle with the one that signs; before one is revoked, all know that it is tainted, and no SVID
//! is left under it. What isn't known counts as not done.

use std::collections::HashMap;
use std::sync::Arc;

use credence_crypto::hex;
use credence_crypto::x509::Certificate;
use credence_identity::{Bundle, Entry, SpiffeId, Timestamp};

use super::{Agent, Holdings, Issued};
use crate::ca::{AuthorityKind, Settings};
use crate::registry::Registry;
use crate::store::Node;

/// The step that is to be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    Activate,
    Taint,
    Revoke,
}

/// A step on an authority.
#[derive(Debug, Clone)]
pub(crate) struct Question {
    pub(crate) kind: AuthorityKind,
    pub(crate) step: Step,
    /// The authority that is to be activated, tainted or revoked: lower-case hex, or a `kid`.
    pub(crate) id: Arc<str>,
    /// The authority that signs now.
    pub(crate) active: Arc<str>,
    /// When the authority to be revoked stopped signing, if that is known; and when it ends.
    pub(crate) retired_at: Option<Timestamp>,
    pub(crate) not_after: Option<Timestamp>,
}

/// What stands in the way at one agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Obstacle {
    pub(crate) agent: SpiffeId,
    pub(crate) reason: Reason,
}

/// Why an agent isn't ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Reason {
    #[error("it doesn't hold the bundle with the new authority")]
    LacksAuthority,
    #[error("it doesn't know that the authority is tainted")]
    LacksTaint,
    #[error("its own SVID is under the authority until {0}")]
    OwnSvid(Timestamp),
    #[error("{count} SVIDs of its workloads are under the authority, the last until {until}")]
    Svids { count: usize, until: Timestamp },
    #[error("what it was given before the server started may be under the authority until {0}")]
    Unknown(Timestamp),
}

/// The answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) obstacles: Vec<Obstacle>,
    /// Until when something of unknown whereabouts is valid under the authority: what operators minted, or tokens.
    pub(crate) elsewhere_until: Option<Timestamp>,
}

impl Holdings {
    /// What stands in the way. Looks at one agent after the other, and lets others read and write in between.
    pub(crate) async fn ask(
        &self,
        question: &Question,
        registry: &Registry,
        settings: &Settings,
        now: Timestamp,
    ) -> Answer {
        let nodes: Vec<Arc<Node>> = {
            let state = registry.read();
            state.nodes().map(|(_, node)| Arc::clone(node)).collect()
        };
        let mut bundles = Bundles::default();
        let mut answer = Answer::default();
        for node in nodes
            .iter()
            .filter(|node| end_of(node) > now && !node.is_banned())
        {
            let entries = match (question.step, question.kind) {
                (Step::Revoke, AuthorityKind::X509) => registry.read().authorized_entries(&node.id, now),
                _ => Vec::new(),
            };
            let reason = {
                let known = self.lock();
                let agent = known.agents.get(&node.id);
                self.reason(question, node, agent, &entries, settings, &mut bundles, now)
            };
            let agent = || node.id.clone();
            answer.obstacles.extend(reason.map(|reason| Obstacle {
                agent: agent(),
                reason,
            }));
            tokio::task::yield_now().await;
        }
        if question.step == Step::Revoke {
            let known = self.lock();
            let (ends, id) = match question.kind {
                AuthorityKind::X509 => (&known.minted, from_hex(&question.id)),
                AuthorityKind::Jwt => (&known.tokens, Some(question.id.as_bytes().to_vec())),
            };
            let end = id.and_then(|id| ends.get(id.as_slice()).copied());
            answer.elsewhere_until = end.filter(|end| *end > now);
        }
        answer
    }

    #[expect(clippy::too_many_arguments, reason = "one question about one agent")]
    fn reason(
        &self,
        question: &Question,
        node: &Node,
        agent: Option<&Agent>,
        entries: &[Arc<Entry>],
        settings: &Settings,
        bundles: &mut Bundles,
        now: Timestamp,
    ) -> Option<Reason> {
        let wanted = match question.step {
            Step::Activate => &question.id,
            Step::Taint => &question.active,
            Step::Revoke => return self.revocation(question, node, agent, entries, settings, bundles, now),
        };
        let held = agent.and_then(|agent| agent.bundles.held(now));
        let flag = held.and_then(|held| bundles.flag(held, question.kind, wanted));
        flag.is_none().then_some(Reason::LacksAuthority)
    }

    #[expect(clippy::too_many_arguments, reason = "one question about one agent")]
    fn revocation(
        &self,
        question: &Question,
        node: &Node,
        agent: Option<&Agent>,
        entries: &[Arc<Entry>],
        settings: &Settings,
        bundles: &mut Bundles,
        now: Timestamp,
    ) -> Option<Reason> {
        let held = agent.and_then(|agent| agent.bundles.held(now));
        if held.and_then(|held| bundles.flag(held, question.kind, &question.id)) != Some(true) {
            return Some(Reason::LacksTaint);
        }
        let (AuthorityKind::X509, Some(authority)) = (question.kind, from_hex(&question.id)) else {
            // It has dropped its tokens with the taint.
            return None;
        };
        let mut unknown = None::<Timestamp>;
        // What was issued before the start, or before the authority stopped signing, and isn't known.
        let signed_until = question.retired_at.unwrap_or(now).min(self.since);
        let mut may_last = |ttl: std::time::Duration, at_most: Timestamp| {
            let end = (signed_until + ttl).min(at_most);
            let end = question.not_after.map_or(end, |not_after| end.min(not_after));
            if end > now {
                unknown = unknown.max(Some(end));
            }
        };
        let own = agent.and_then(|agent| agent.own.iter().find(|(serial, _)| *serial == node.serial));
        match own {
            Some((_, own)) if *own.authority == *authority && own.not_after > now => {
                return Some(Reason::OwnSvid(own.not_after));
            }
            Some(_) => {}
            None => may_last(settings.agent_ttl, node.not_after),
        }
        let (mut count, mut until) = (0, now);
        let is_under = |issued: &&Issued| *issued.authority == *authority && issued.not_after > now;
        let in_use = agent.map(|agent| agent.in_use(now)).unwrap_or_default();
        for entry in entries {
            let last = agent.and_then(|agent| agent.svids.get(&entry.id));
            let before = in_use.get(&entry.id).map(Vec::as_slice).unwrap_or_default();
            let known = last.into_iter().chain(before.iter().copied().flatten());
            match known.filter(is_under).map(|issued| issued.not_after).max() {
                Some(end) => {
                    count += 1;
                    until = until.max(end);
                }
                None if last.is_some() && before.iter().all(Option::is_some) => {}
                None => {
                    let ttl = match entry.x509_svid_ttl {
                        0 => settings.x509_svid_ttl,
                        seconds => std::time::Duration::from_secs(seconds.into()),
                    };
                    may_last(ttl, question.not_after.unwrap_or(now + ttl));
                }
            }
        }
        if count > 0 {
            return Some(Reason::Svids { count, until });
        }
        unknown.map(Reason::Unknown)
    }
}

/// Until when the agent has an SVID.
fn end_of(node: &Node) -> Timestamp {
    node.new_not_after
        .map_or(node.not_after, |new| new.max(node.not_after))
}

fn from_hex(id: &str) -> Option<Vec<u8>> {
    let digits = id.as_bytes();
    if !digits.len().is_multiple_of(2) {
        return None;
    }
    let pair = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok();
    digits.chunks(2).map(pair).collect()
}

/// Which authorities bundles have, and which of those are tainted: agents mostly hold the same one.
#[derive(Debug, Default)]
struct Bundles(HashMap<usize, (Arc<Bundle>, HashMap<String, bool>)>);

impl Bundles {
    /// Whether the authority is tainted; none if the bundle hasn't got it.
    fn flag(&mut self, bundle: &Arc<Bundle>, kind: AuthorityKind, id: &str) -> Option<bool> {
        // By address, which stays the bundle's own while it is kept here.
        let address = Arc::as_ptr(bundle).addr();
        let (_, flags) = self
            .0
            .entry(address)
            .or_insert_with(|| (Arc::clone(bundle), flags(bundle, kind)));
        flags.get(id).copied()
    }
}

fn flags(bundle: &Bundle, kind: AuthorityKind) -> HashMap<String, bool> {
    match kind {
        AuthorityKind::X509 => {
            let named = bundle.x509_authorities.iter().filter_map(|authority| {
                let certificate = Certificate::from_der(&authority.der).ok()?;
                Some((hex(certificate.subject_key_id()?), authority.tainted))
            });
            named.collect()
        }
        AuthorityKind::Jwt => {
            let all = bundle.jwt_authorities.iter();
            all.map(|authority| (authority.key_id.to_string(), authority.tainted))
                .collect()
        }
    }
}
