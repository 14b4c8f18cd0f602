//! `BatchDeleteFederatedBundle`, and what becomes of the entries that federate with what goes.

use std::collections::HashMap;
use std::sync::Arc;

use credence_identity::{Entry, EntryId, TrustDomain};
use credence_proto::spire::api::server::bundle::v1 as pb;
use pb::batch_delete_federated_bundle_request::Mode;
use tonic::{Code, Status};

use super::federated::{foreign, not_found};
use crate::api::context::Context;
use crate::api::draft::Draft;
use crate::api::status::{self, fault, invalid};
use crate::registry::State;
use crate::store::Change;

const WHAT: &str = "failed to delete federated bundle";

pub(super) async fn batch(
    context: &Context,
    request: pb::BatchDeleteFederatedBundleRequest,
) -> Result<pb::BatchDeleteFederatedBundleResponse, Status> {
    let mode = Mode::try_from(request.mode).map_err(|_| {
        let unknown = format!("unhandled delete mode \"{}\"", request.mode);
        invalid("failed to parse deletion mode", unknown)
    })?;
    let own = "removing the bundle for the server trust domain is not allowed";
    let domains: Vec<Result<TrustDomain, Status>> = request
        .trust_domains
        .iter()
        .map(|name| foreign(context, name, own))
        .collect();
    let deleted = context.registry.transact(move |state| {
        let mut deletion = Deletion::of(state);
        let outcomes: Vec<Result<(), Status>> = domains
            .into_iter()
            .map(|domain| deletion.delete(&domain?, mode))
            .collect();
        Ok((deletion.draft.into_changes(), outcomes))
    });
    let outcomes = match deleted.await {
        Ok(outcomes) => outcomes,
        Err(error) => vec![Err(context.not_committed(WHAT, &error)); request.trust_domains.len()],
    };
    let results = request.trust_domains.into_iter().zip(outcomes);
    let results = results.map(|(trust_domain, outcome)| {
        let status = match outcome {
            Ok(()) => status::item_ok(),
            Err(refusal) => status::item(&refusal),
        };
        pb::batch_delete_federated_bundle_response::Result {
            status: Some(status),
            trust_domain,
        }
    });
    Ok(pb::BatchDeleteFederatedBundleResponse {
        results: results.collect(),
    })
}

/// A batch of deletions as far as it has come.
struct Deletion<'a> {
    draft: Draft<'a>,
    /// Entries that items so far have changed, or deleted.
    entries: HashMap<EntryId, Option<Arc<Entry>>>,
}

impl<'a> Deletion<'a> {
    fn of(state: &'a State) -> Self {
        Self {
            draft: Draft::of(state),
            entries: HashMap::new(),
        }
    }

    fn delete(&mut self, domain: &TrustDomain, mode: Mode) -> Result<(), Status> {
        self.draft.bundle(domain).ok_or_else(not_found)?;
        let federating = self.federating(domain);
        match mode {
            Mode::Restrict if !federating.is_empty() => {
                let held = format!(
                    "datastore-sql: cannot delete bundle; federated with {} registration entries",
                    federating.len()
                );
                return Err(fault(Code::FailedPrecondition, WHAT, held));
            }
            Mode::Restrict => {}
            Mode::Delete => federating.iter().for_each(|entry| self.delete_entry(entry)),
            Mode::Dissociate => federating.iter().for_each(|entry| self.dissociate(entry, domain)),
        }
        self.draft.delete_bundle(domain);
        Ok(())
    }

    /// The entries that federate with the trust domain now.
    fn federating(&self, domain: &TrustDomain) -> Vec<Arc<Entry>> {
        let entries = self.draft.before().entries_by_federation(domain);
        let current = entries.filter_map(|(_, entry)| match self.entries.get(&entry.id) {
            Some(changed) => changed.clone(),
            None => Some(Arc::clone(entry)),
        });
        current.collect()
    }

    fn delete_entry(&mut self, entry: &Entry) {
        self.entries.insert(entry.id.clone(), None);
        self.draft.push(Change::EntryDelete(entry.id.clone()));
    }

    /// The entry goes on without the trust domain. Its revision grows, or agents that poll wouldn't notice.
    fn dissociate(&mut self, entry: &Entry, domain: &TrustDomain) {
        let mut entry = Entry::clone(entry);
        entry.federates_with.retain(|other| other != domain);
        entry.revision_number = entry.revision_number.saturating_add(1);
        let entry = Arc::new(entry);
        self.entries.insert(entry.id.clone(), Some(Arc::clone(&entry)));
        self.draft.push(Change::EntryPut(entry));
    }
}
