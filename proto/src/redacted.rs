//! `Debug` of the messages that carry private keys or bearer tokens: the secret is shown as its length.
//!
//! Invariant: the list here is the list `SECRET` of `build.rs`; the compiler sees to it, as each needs exactly one
//! `Debug`.

use std::fmt;

use crate::{spiffe::broker, spiffe_workload as workload, spire::api};

/// Stands for a secret of so many bytes.
struct Redacted(usize);

impl fmt::Debug for Redacted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "<{} bytes>", self.0)
    }
}

macro_rules! redact {
    ($($message:path { shown: [$($shown:ident),*], secret: [$($secret:ident),+] })+) => {$(
        impl fmt::Debug for $message {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let Self { $($shown,)* $($secret,)+ } = self;
                f.debug_struct(stringify!($message))
                    $(.field(stringify!($shown), $shown))*
                    $(.field(stringify!($secret), &Redacted($secret.len())))+
                    .finish()
            }
        }
    )+};
}

redact! {
    workload::X509svid { shown: [spiffe_id, x509_svid, bundle, hint], secret: [x509_svid_key] }
    workload::Jwtsvid { shown: [spiffe_id, hint], secret: [svid] }
    workload::Witsvid { shown: [spiffe_id, hint], secret: [wit_svid, wit_svid_key] }
    workload::ValidateJwtsvidRequest { shown: [audience], secret: [svid] }
    broker::X509svid { shown: [spiffe_id, x509_svid, bundle, hint], secret: [x509_svid_key] }
    broker::Jwtsvid { shown: [spiffe_id, hint], secret: [svid] }
    api::agent::delegatedidentity::v1::X509svidWithKey { shown: [x509_svid], secret: [x509_svid_key] }
    api::server::agent::v1::CreateJoinTokenRequest { shown: [ttl, agent_id], secret: [token] }
    api::types::AttestationData { shown: [r#type], secret: [payload] }
    api::types::JoinToken { shown: [expires_at], secret: [value] }
    api::types::Jwtsvid { shown: [id, expires_at, issued_at, hint], secret: [token] }
    api::types::Witsvid { shown: [id, expires_at, issued_at, hint], secret: [token] }
}

#[cfg(test)]
mod tests {
    use crate::spire::api::types::JoinToken;

    #[test]
    fn a_token_is_not_shown() {
        let token = JoinToken {
            value: "3f2c-secret".into(),
            expires_at: 7,
        };
        let shown = format!("{token:?}");
        assert!(
            shown.contains("expires_at: 7") && shown.contains("<11 bytes>"),
            "{shown}"
        );
        assert!(!shown.contains("secret"), "{shown}");
    }
}
