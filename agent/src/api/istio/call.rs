//! One call: who makes it, how it is refused, and what the log and the audit log say of it.

use std::net::SocketAddr;
use std::sync::Arc;

use credence_crypto::x509::X509Svid;
use credence_identity::{Entry, SpiffeId};
use credence_runtime::audit::{AuditEvent, AuditFields};
use credence_runtime::grpc::{ConnectInfo, RequestId, VerifiedPeer};
use serde_json::Value;
use tonic::{Code, Extensions, Status};

use super::super::Ground;
use crate::explain::{Asker, Refusal, Stage};

pub(super) const SERVICE: &str = "IstioCertificateService";
pub(super) const METHOD: &str = "CreateCertificate";

/// The call of a caller who showed an SVID when it connected.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) peer: VerifiedPeer,
    address: SocketAddr,
    id: RequestId,
    ground: Arc<Ground>,
}

impl Call {
    pub(super) fn new(ground: Arc<Ground>, extensions: &Extensions) -> Result<Self, Status> {
        let info = extensions.get::<ConnectInfo>().cloned();
        // Nobody gets here without; it would be our own fault.
        let caller = info.and_then(|info| Some((info.peer?, info.remote_addr)));
        let (peer, address) =
            caller.ok_or_else(|| Status::internal("caller of the connection is unknown"))?;
        Ok(Self {
            peer,
            address,
            id: RequestId::random(),
            ground,
        })
    }

    pub(super) fn caller(&self) -> &SpiffeId {
        &self.peer.spiffe_id
    }

    /// A refusal in plain words, which is kept and logged, with the number of the call.
    pub(super) fn refuse(&self, code: Code, message: impl Into<String>, stage: Stage) -> Status {
        let message = message.into();
        tracing::warn!(
            subsystem_name = "endpoints",
            service = SERVICE,
            method = METHOD,
            caller_id = %self.caller(),
            caller_addr = %self.address,
            request_id = %self.id,
            status = ?code,
            error = message,
            "Certificate refused"
        );
        let refusal = Refusal {
            at: self.ground.clock.now(),
            method: METHOD,
            asker: Asker::Peer {
                id: self.caller().clone(),
                address: self.address,
            },
            message: message.clone(),
            selectors: None,
            stage,
        };
        refusal.keep(&self.ground.refusals, self.id);
        self.id.mark(Status::new(code, message))
    }

    /// A certificate that is handed out.
    pub(super) fn record(&self, entry: &Entry, svid: &X509Svid) {
        tracing::info!(
            subsystem_name = "endpoints",
            service = SERVICE,
            method = METHOD,
            caller_id = %self.caller(),
            caller_addr = %self.address,
            request_id = %self.id,
            entry_id = %entry.id,
            spiffe_id = %entry.spiffe_id,
            serial_number = svid.serial,
            expires_at = %svid.not_after,
            "Certificate issued"
        );
        let Some(log) = &self.ground.audit else { return };
        let fields: [(&str, Value); 11] = [
            ("status", "success".into()),
            ("service", SERVICE.into()),
            ("method", METHOD.into()),
            ("request_id", self.id.to_string().into()),
            ("caller_id", self.caller().to_string().into()),
            ("caller_addr", self.address.to_string().into()),
            ("svid_type", "x509".into()),
            ("entry_id", entry.id.to_string().into()),
            ("spiffe_id", entry.spiffe_id.to_string().into()),
            ("serial_number", svid.serial.as_str().into()),
            ("expires_at", svid.not_after.unix_seconds().into()),
        ];
        log.record(AuditEvent {
            time: self.ground.clock.now(),
            message: super::super::audit::MESSAGE,
            fields: AuditFields::from_iter(fields.map(|(name, value)| (name.to_owned(), value))),
        });
    }
}
