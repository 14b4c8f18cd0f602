//! The agent's audit log: each identity that is handed out, to which process and by which selectors.
//!
//! Owns what is said of an identity, under SPIRE's names. Never a key or a token. Invariant: what is recorded is handed
//! out in the same breath; a stream's message that repeats an SVID is no new issuance.

use std::sync::Arc;

use credence_crypto::jwt::JwtSvid;
use credence_identity::{Entry, SelectorSet, Timestamp};
use credence_runtime::audit::{AuditEvent, AuditFields, AuditLog};
use serde_json::Value;

use super::call::Call;
use crate::cache::Identity;

pub(super) const MESSAGE: &str = "SVID issued";

impl<O> Call<O> {
    /// The X.509-SVIDs of a message that weren't in the one before.
    pub(super) fn record_x509(&self, given: &[Identity], before: &[Identity], selectors: &SelectorSet) {
        let Some(log) = &self.ground.audit else { return };
        for identity in given {
            let is_held = |held: &Identity| Arc::ptr_eq(&held.svid, &identity.svid);
            if before.iter().any(is_held) {
                continue;
            }
            let svid = &identity.svid.svid;
            let serial = ("serial_number", svid.serial.as_str().into());
            self.record(log, ("x509", &identity.entry, svid.not_after), serial, selectors);
        }
    }

    /// A JWT-SVID.
    pub(super) fn record_jwt(
        &self,
        entry: &Entry,
        token: &JwtSvid,
        audience: &[String],
        selectors: &SelectorSet,
    ) {
        if let Some(log) = &self.ground.audit {
            let audience = ("audience", audience.join(",").into());
            self.record(log, ("jwt", entry, token.expires_at), audience, selectors);
        }
    }

    fn record(
        &self,
        log: &AuditLog,
        (kind, entry, expires_at): (&str, &Entry, Timestamp),
        own: (&str, Value),
        selectors: &SelectorSet,
    ) {
        let texts: Vec<&str> = selectors.iter().map(|selector| selector.as_str()).collect();
        let fields: [(&str, Value); 12] = [
            ("status", "success".into()),
            ("service", self.service.into()),
            ("method", self.method.into()),
            ("request_id", self.id.to_string().into()),
            ("pid", self.caller.pid().into()),
            ("caller_uid", self.caller.uid().into()),
            ("caller_gid", self.caller.gid().into()),
            ("selectors", texts.join(",").into()),
            ("svid_type", kind.into()),
            ("entry_id", entry.id.to_string().into()),
            ("spiffe_id", entry.spiffe_id.to_string().into()),
            ("expires_at", expires_at.unix_seconds().into()),
        ];
        let fields = fields.into_iter().chain([own]);
        log.record(AuditEvent {
            time: self.ground.clock.now(),
            message: MESSAGE,
            fields: AuditFields::from_iter(fields.map(|(name, value)| (name.to_owned(), value))),
        });
    }
}

#[cfg(test)]
mod tests {
    use credence_proto::spiffe_workload::{JwtsvidRequest, X509svidRequest};
    use credence_runtime::audit::AuditSink;
    use serde_json::json;

    use super::super::lab::{Lab, Setup, own_entry, with_header};
    use super::*;

    #[tokio::test]
    async fn each_identity_that_is_handed_out_is_recorded_once() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("audit.json");
        let lab = Lab::new(Setup {
            audit: Some(AuditSink::File(path.clone())),
            ..Setup::default()
        });
        for name in ["one", "two"] {
            lab.put(own_entry(name));
            lab.sign(own_entry(name));
        }
        let mut client = lab.client().await;
        let stream = client.fetch_x509svid(with_header(X509svidRequest {})).await;
        let mut stream = stream.unwrap().into_inner();
        let first = stream.message().await.unwrap().unwrap();
        assert_eq!(first.svids.len(), 2);
        // Both are in the second message, of which one is new.
        lab.sign(own_entry("two"));
        stream.message().await.unwrap().unwrap();
        let asked = JwtsvidRequest {
            audience: vec!["a".to_owned()],
            spiffe_id: "spiffe://example.org/one".to_owned(),
        };
        let token = client
            .fetch_jwtsvid(with_header(asked))
            .await
            .unwrap()
            .into_inner();

        let read = || std::fs::read_to_string(&path).unwrap();
        while read().lines().count() < 4 {
            tokio::task::yield_now().await;
        }
        let text = read();
        assert!(!text.contains(&token.svids[0].svid));
        let events: Vec<Value> = text
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let ids: Vec<&Value> = events.iter().map(|event| &event["spiffe_id"]).collect();
        let (one, two) = (
            json!("spiffe://example.org/one"),
            json!("spiffe://example.org/two"),
        );
        assert_eq!(ids, [&one, &two, &two, &one]);
        let uid = nix::unistd::geteuid();
        for event in &events {
            assert_eq!(
                (&event["type"], &event["msg"], &event["status"]),
                (&json!("audit"), &json!("SVID issued"), &json!("success"))
            );
            assert_eq!(event["pid"], std::process::id());
            assert_eq!(event["caller_uid"], uid.as_raw());
            let selectors = event["selectors"].as_str().unwrap();
            assert!(selectors.contains(&format!("unix:uid:{uid}")), "{selectors}");
            assert!(event["expires_at"].is_number() && event["entry_id"].is_string());
        }
        assert_ne!(events[1]["serial_number"], events[2]["serial_number"]);
        assert_eq!(events[0]["request_id"], events[2]["request_id"]);
        assert_eq!(
            (&events[3]["svid_type"], &events[3]["audience"]),
            (&json!("jwt"), &json!("a"))
        );
    }
}
