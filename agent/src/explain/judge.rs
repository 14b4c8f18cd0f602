//! From facts to causes: which of the reasons apply, the one to see to first in front.
//!
//! Pure. Invariant: a workload that is served what it may have gets no finding.

use credence_identity::diagnosis::{Candidate, Explanation, Gap, Offer, nearest_entries};
use credence_identity::{Entry, EntryId, SelectorSet, SpiffeId, Timestamp};

use super::cause::{Named, WorkloadCause as Cause};
use super::journal::Notes;
use crate::cache::{HeldEntry, Survey, without_hint_duplicates};

/// Entries shown beside the verdict.
const SHOWN: usize = 5;
/// An SVID's validity begins this much in the past; a clock further behind finds it invalid.
const TOLERABLE_SECONDS: i64 = 10;

/// What the server knows beyond what the agent does.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Answer {
    /// Entries of this agent that match.
    pub(crate) authorized: Vec<EntryId>,
    /// Matching ones below what this agent holds that expired.
    pub(crate) expired: Vec<(Named, Timestamp)>,
    /// Whether one matches that isn't this agent's.
    pub(crate) elsewhere: bool,
    /// This node's clock minus the server's.
    pub(crate) clock_apart_seconds: i64,
}

/// What is known of a workload and of the agent.
#[derive(Debug)]
pub(crate) struct Facts<'a> {
    pub(crate) selectors: &'a SelectorSet,
    pub(crate) offers: &'a [Offer],
    /// The identity that is missed, if it was named.
    pub(crate) wanted: Option<&'a SpiffeId>,
    pub(crate) survey: &'a Survey,
    pub(crate) notes: &'a Notes,
    /// None if the server can't be asked.
    pub(crate) answer: Option<&'a Answer>,
    pub(crate) now: Timestamp,
}

/// Adds what the facts say to the explanation.
pub(crate) fn judge(facts: &Facts<'_>, explanation: &mut Explanation) {
    let asked = |entry: &Entry| facts.wanted.is_none_or(|wanted| entry.spiffe_id == *wanted);
    let matching: Vec<&HeldEntry> = facts
        .survey
        .entries
        .iter()
        .filter(|held| is_match(&held.entry, facts.selectors) && asked(&held.entry))
        .collect();
    let served = facts.served(&matching, explanation);
    if !served && explanation.findings.is_empty() {
        facts.unmatched(explanation);
    }
    if let Some(note) = &facts.notes.synchronisation
        && matching.is_empty()
    {
        let cause = Cause::OutOfStep {
            since: facts.notes.in_step,
            trouble: note.trouble.clone(),
        };
        // A near miss may have been mended on the server meanwhile: nobody here can know.
        explanation.findings.insert(0, cause.into());
        explanation.findings.dedup();
    }
    if let Some(answer) = facts.answer
        && answer.clock_apart_seconds.abs() > TOLERABLE_SECONDS
    {
        explanation.found(Cause::ClockApart(answer.clock_apart_seconds));
    }
    facts.show_candidates(&matching, explanation);
}

fn is_match(entry: &Entry, selectors: &SelectorSet) -> bool {
    !entry.selectors.is_empty() && selectors.contains_all(&entry.selectors)
}

fn named(entry: &Entry) -> Named {
    Named {
        id: entry.id.clone(),
        spiffe_id: entry.spiffe_id.clone(),
    }
}

impl Facts<'_> {
    /// Judges the entries that match; true if the workload is served by one of them.
    fn served(&self, matching: &[&HeldEntry], explanation: &mut Explanation) -> bool {
        let live = matching
            .iter()
            .filter(|held| !held.entry.store_svid && !held.entry.is_expired_at(self.now));
        let all = self.survey.entries.iter().map(|held| &held.entry);
        let winners = without_hint_duplicates(
            all.filter(|entry| is_match(entry, self.selectors) && !entry.store_svid)
                .filter(|entry| !entry.is_expired_at(self.now))
                .cloned()
                .collect(),
        );
        let mut served = Vec::new();
        let mut faults = Vec::new();
        for held in live {
            let entry = &held.entry;
            if !winners.iter().any(|winner| winner.id == entry.id) {
                let by = winners.iter().find(|winner| winner.hint == entry.hint);
                let by = by.map_or_else(|| entry.id.clone(), |winner| winner.id.clone());
                faults.push(Cause::HintTaken {
                    entry: named(entry),
                    by,
                });
                continue;
            }
            match self.signature(held) {
                Ok(svid) => served.push(svid),
                Err(cause) => faults.push(cause),
            }
            for name in &entry.federates_with {
                if !self.survey.federated.contains(name) {
                    faults.push(Cause::BundleMissing {
                        entry: named(entry),
                        trust_domain: name.to_string(),
                    });
                }
            }
        }
        if served.is_empty() {
            for held in matching {
                let entry = &held.entry;
                match entry.expires_at.filter(|_| entry.is_expired_at(self.now)) {
                    Some(at) => faults.push(Cause::EntryExpired {
                        entry: named(entry),
                        at,
                    }),
                    None if entry.store_svid => faults.push(Cause::StoreSvid(named(entry))),
                    None => {}
                }
            }
        }
        faults.into_iter().for_each(|fault| explanation.found(fault));
        let is_served = !served.is_empty();
        if is_served {
            explanation.all_well = "The workload has an identity.".to_owned();
            explanation.facts("Identities", served);
        }
        is_served
    }

    /// The SVID by which an entry is served, in words.
    fn signature(&self, held: &HeldEntry) -> Result<String, Cause> {
        let entry = named(&held.entry);
        let Some(svid) = &held.svid else {
            let notes = self.notes;
            let note = notes.unsigned.get(&entry.id).or(notes.signing.as_ref());
            return match note.or(notes.synchronisation.as_ref()) {
                Some(note) => Err(Cause::NotSigned {
                    entry,
                    trouble: note.trouble.clone(),
                }),
                // Nobody asked for it: that is what the entry says.
                None if held.entry.disable_x509_svid_prefetch => Ok(format!(
                    "{} (entry {}, signed when it asks)",
                    entry.spiffe_id, entry.id
                )),
                None => Err(Cause::NotSignedYet(entry)),
            };
        };
        let svid = &svid.svid;
        if self.now < svid.not_before || !held.serves {
            let (not_before, not_after) = (svid.not_before, svid.not_after);
            if let Some(note) = self.notes.unsigned.get(&entry.id).or(self.notes.signing.as_ref()) {
                return Err(Cause::NotSigned {
                    entry,
                    trouble: note.trouble.clone(),
                });
            }
            return Err(Cause::SvidOutOfTime {
                entry,
                not_before,
                not_after,
            });
        }
        Ok(format!(
            "{} (entry {}, X.509-SVID until {})",
            entry.spiffe_id, entry.id, svid.not_after
        ))
    }

    /// No entry that is held gives the workload an identity: what comes nearest.
    fn unmatched(&self, explanation: &mut Explanation) {
        if let Some(answer) = self.answer {
            let lacking: Vec<String> = answer
                .authorized
                .iter()
                .filter(|id| !self.survey.entries.iter().any(|held| held.entry.id == **id))
                .map(ToString::to_string)
                .collect();
            if !lacking.is_empty() && self.wanted.is_none() {
                explanation.found(Cause::NotYetHere(lacking));
                return;
            }
            let asked = |named: &Named| self.wanted.is_none_or(|wanted| named.spiffe_id == *wanted);
            if let Some((entry, at)) = answer.expired.iter().find(|(named, _)| asked(named)) {
                explanation.found(Cause::EntryExpired {
                    entry: entry.clone(),
                    at: *at,
                });
                return;
            }
        }
        let gone = self.survey.gone.iter().find(|entry| {
            is_match(entry, self.selectors) && self.wanted.is_none_or(|wanted| entry.spiffe_id == *wanted)
        });
        // A held entry that asks for something else that this workload has was meant for it rather.
        let nearer = |gone: &Entry| {
            self.nearest().first().is_some_and(|near| {
                let mut selectors = near.selectors.iter();
                selectors.any(|one| self.selectors.contains(one) && !gone.selectors.contains(one))
            })
        };
        if let Some(entry) = gone.filter(|gone| !nearer(gone)) {
            explanation.found(match entry.expires_at.filter(|_| entry.is_expired_at(self.now)) {
                Some(at) => Cause::EntryExpired {
                    entry: named(entry),
                    at,
                },
                None => Cause::EntryRemoved(named(entry)),
            });
            return;
        }
        if self.answer.is_some_and(|answer| answer.elsewhere) {
            explanation.found(Cause::OtherParent);
        }
        match self.nearest().first() {
            Some(nearest) => {
                let candidate = Candidate::beside(nearest, self.selectors);
                if let Some(selector) = candidate.missing.first() {
                    explanation.found(Cause::SelectorMissing {
                        entry: named(nearest),
                        selector: selector.clone(),
                        gap: Gap::of(selector, self.selectors, self.offers),
                    });
                }
            }
            None if explanation.findings.is_empty() => explanation.found(Cause::NoEntry {
                held: self.survey.entries.len(),
                wanted: self.wanted.cloned(),
            }),
            None => {}
        }
    }

    fn nearest(&self) -> Vec<std::sync::Arc<Entry>> {
        let asked = |entry: &Entry| self.wanted.is_none_or(|wanted| entry.spiffe_id == *wanted);
        let held = self.survey.entries.iter().map(|held| held.entry.clone());
        let entries: Vec<_> = held.filter(|entry| asked(entry)).collect();
        let mut near: Vec<_> = nearest_entries(&entries, self.selectors, SHOWN)
            .into_iter()
            .cloned()
            .collect();
        // An identity that was asked for by name is meant, however far off its selectors are; and nothing can be near to
        // an entry whose selectors nobody here could attest.
        if near.is_empty() {
            let meant = |entry: &Entry| self.wanted.is_some() || self.asks_for_what_is_not_attested(entry);
            near = entries
                .into_iter()
                .filter(|entry| meant(entry))
                .take(SHOWN)
                .collect();
        }
        near
    }

    fn asks_for_what_is_not_attested(&self, entry: &Entry) -> bool {
        entry.selectors.iter().any(|selector| {
            matches!(
                Gap::of(selector, self.selectors, self.offers),
                Gap::SwitchedOff(_) | Gap::UnknownKind(Some(_)) | Gap::UnknownType(Some(_))
            )
        })
    }

    fn show_candidates(&self, matching: &[&HeldEntry], explanation: &mut Explanation) {
        let mut shown: Vec<Candidate> = Vec::new();
        for held in matching.iter().take(SHOWN) {
            let standing = match (&held.svid, held.entry.is_expired_at(self.now)) {
                (_, true) => "matches, expired",
                (Some(_), _) if held.serves => "matches, served",
                (Some(_), _) => "matches, its X.509-SVID is not valid now",
                (None, _) => "matches, not signed",
            };
            shown.push(Candidate {
                standing: standing.to_owned(),
                ..Candidate::of(&held.entry)
            });
        }
        if matching.is_empty() {
            for entry in self.nearest() {
                let candidate = Candidate::beside(&entry, self.selectors);
                let standing = match candidate.missing.first() {
                    Some(missing) => format!("lacks {missing}"),
                    None => "matches".to_owned(),
                };
                shown.push(Candidate {
                    standing,
                    ..candidate
                });
            }
        }
        explanation.candidates = shown;
    }
}

#[cfg(test)]
mod tests;
