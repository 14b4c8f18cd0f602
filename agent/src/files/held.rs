//! The source of a `files` block: an entry that this agent holds, named by its SPIFFE ID.
//!
//! No process is attested, for none asks: the operator of the agent said whose identity goes where. Without such an entry
//! nothing is written, and what was written stays.

use std::collections::BTreeMap;
use std::sync::Arc;

use credence_crypto::bundle::to_jwks;
use credence_crypto::x509::{CertificateError, X509SvidKey};
use credence_identity::{Entry, SpiffeId, Timestamp};
use credence_runtime::audit::{AuditEvent, AuditFields, AuditLog};
use credence_runtime::clock::Clock;
use serde_json::Value;
use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::job::Choice;
use super::material::{Material, authorities};
use super::source::{Event, Source, SourceError, Token, Wants};
use crate::cache::{Cache, WorkloadUpdate};

/// The identity of a block.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) cache: Cache,
    pub(crate) spiffe_id: SpiffeId,
    pub(crate) choice: Choice,
    /// What the audit log calls the block.
    pub(crate) name: String,
    pub(crate) audit: Option<AuditLog>,
    pub(crate) clock: Arc<dyn Clock>,
}

impl Source for Held {
    async fn watch(&self, wants: Wants, events: mpsc::Sender<Event>) -> SourceError {
        let mut subscription = self.cache.subscribe_to(self.spiffe_id.clone());
        let mut missing = false;
        let mut given = None;
        loop {
            let update = subscription.update();
            if update.is_unregistered() != missing {
                missing = !missing;
                if missing {
                    tracing::warn!(spiffe_id = %self.spiffe_id, "No entry of this agent has the SPIFFE ID of its files");
                }
            }
            for event in self.events(&update, wants) {
                if let Event::X509(material) = &event {
                    self.record_x509(material, &update, &mut given);
                }
                if events.send(event).await.is_err() {
                    return SourceError::Hopeless("nobody writes the files".to_owned());
                }
            }
            subscription.changed().await;
        }
    }

    async fn token(&self, audience: &[String]) -> Result<Token, SourceError> {
        let entries = self.cache.entries_of(&self.spiffe_id);
        let entry = entries
            .iter()
            .find(|entry| self.choice.fits(&entry.spiffe_id.to_string(), &entry.hint));
        let entry = entry.ok_or_else(|| self.no_entry())?;
        let token = self.cache.jwt_svid(entry, audience).await;
        let token = token.map_err(|error| SourceError::Failed(error.to_string()))?;
        let own = ("audience", audience.join(",").into());
        self.record(entry, ("jwt", token.expires_at), own);
        Ok(Token {
            text: Zeroizing::new(token.token.clone()),
            expires_at: token.expires_at,
        })
    }
}

impl Held {
    /// Each X.509-SVID once, as for the callers of the APIs.
    fn record_x509(
        &self,
        material: &Material,
        update: &WorkloadUpdate,
        given: &mut Option<Arc<X509SvidKey>>,
    ) {
        let is_given = |given: &Arc<X509SvidKey>| Arc::ptr_eq(given, &material.svid);
        let identity = update.identities.iter();
        let mut identity = identity.filter(|identity| Arc::ptr_eq(&identity.svid, &material.svid));
        if let Some(identity) = identity.next().filter(|_| !given.as_ref().is_some_and(is_given)) {
            let svid = &material.svid.svid;
            let own = ("serial_number", svid.serial.as_str().into());
            self.record(&identity.entry, ("x509", svid.not_after), own);
            *given = Some(material.svid.clone());
        }
    }

    fn record(&self, entry: &Entry, (kind, expires_at): (&str, Timestamp), own: (&str, Value)) {
        let Some(log) = &self.audit else { return };
        let fields: [(&str, Value); 8] = [
            ("status", "success".into()),
            ("service", "files".into()),
            ("method", self.name.as_str().into()),
            ("svid_type", kind.into()),
            ("entry_id", entry.id.to_string().into()),
            ("spiffe_id", entry.spiffe_id.to_string().into()),
            ("expires_at", expires_at.unix_seconds().into()),
            own,
        ];
        let fields = fields.into_iter().map(|(name, value)| (name.to_owned(), value));
        log.record(AuditEvent {
            time: self.clock.now(),
            message: "SVID issued",
            fields: AuditFields::from_iter(fields),
        });
    }

    fn no_entry(&self) -> SourceError {
        let id = &self.spiffe_id;
        SourceError::NoIdentity(format!("no entry of this agent has the SPIFFE ID {id}"))
    }

    fn events(&self, update: &WorkloadUpdate, wants: Wants) -> Vec<Event> {
        let mut events = Vec::new();
        if wants.jwt && !update.is_unregistered() {
            let all = std::iter::once((&update.bundle.trust_domain, &update.bundle)).chain(&update.federated);
            let keys = all.map(|(name, bundle)| (name.to_string(), to_jwks(&bundle.jwt_authorities)));
            events.push(Event::JwtBundles(keys.collect()));
        }
        if wants.x509 {
            match self.material(update) {
                Ok(material) => events.extend(material.map(|material| Event::X509(Box::new(material)))),
                Err(error) => {
                    let error = &error as &dyn std::error::Error;
                    tracing::error!(error, spiffe_id = %self.spiffe_id, "Unable to read the X.509-SVID for files");
                }
            }
        }
        events
    }

    fn material(&self, update: &WorkloadUpdate) -> Result<Option<Material>, CertificateError> {
        let fits = |identity: &&crate::cache::Identity| {
            let entry = &identity.entry;
            self.choice.fits(&entry.spiffe_id.to_string(), &entry.hint)
        };
        let Some(identity) = update.identities.iter().find(fits) else {
            return Ok(None);
        };
        let mut federated = BTreeMap::new();
        for (name, bundle) in &update.federated {
            federated.insert(name.to_string(), authorities(bundle)?);
        }
        let svid = Arc::clone(&identity.svid);
        Material::new(svid, authorities(&update.bundle)?, federated).map(Some)
    }
}
