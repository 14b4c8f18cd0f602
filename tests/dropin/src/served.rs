//! What an agent serves to this process, fetched by its command line and verified.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use credence_crypto::bundle::x509_from_der;
use credence_crypto::x509::{Certificate, verify_svid};
use credence_runtime::clock::{Clock, SystemClock};
use serde_json::Value;

use crate::{Programs, Site, said};

/// An X.509-SVID that verifies by the bundle that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedX509 {
    /// Its SPIFFE ID.
    pub id: String,
    /// Its serial number.
    pub serial: String,
    /// The key id of the authority that signed it, in hex.
    pub authority: String,
    /// How many authorities the bundle holds.
    pub authorities: usize,
}

/// A JWT-SVID that the agent validates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServedJwt {
    /// The token.
    pub token: String,
    /// The id of the key that signed it.
    pub key_id: String,
    /// How many keys the bundle holds.
    pub keys: usize,
}

impl Site {
    /// The first X.509-SVID that agent `name` serves; the error says what is wrong with it, or why there is none.
    ///
    /// # Errors
    /// A text for a failed assertion.
    pub fn x509(&self, agent: &Programs, name: &str) -> Result<ServedX509, String> {
        let output = self.agent_cli(agent, name, &["api", "fetch", "x509", "-output", "json"]);
        let answer: Value = serde_json::from_slice(&output.stdout).map_err(|_| said(&output))?;
        let svid = answer.pointer("/svids/0").ok_or_else(|| said(&output))?;
        let bytes = |name: &str| {
            let text = svid.get(name).and_then(Value::as_str).unwrap_or_default();
            STANDARD.decode(text).map_err(|error| error.to_string())
        };
        let chain =
            Certificate::parse_concatenated(&bytes("x509_svid")?).map_err(|error| error.to_string())?;
        let authorities = x509_from_der(&bytes("bundle")?).map_err(|error| error.to_string())?;
        let ders: Vec<_> = chain
            .iter()
            .map(|certificate| certificate.der().clone())
            .collect();
        let verified = verify_svid(&ders, &authorities, SystemClock.now())
            .map_err(|error| format!("{error}: {answer}"))?;
        let signer = verified.leaf.authority_key_id().unwrap_or_default();
        Ok(ServedX509 {
            id: verified.id.to_string(),
            serial: verified.leaf.serial(),
            authority: signer.iter().map(|byte| format!("{byte:02x}")).collect(),
            authorities: authorities.len(),
        })
    }

    /// A JWT-SVID of agent `name` for the audience `test`.
    ///
    /// # Errors
    /// A text for a failed assertion.
    pub fn jwt(&self, agent: &Programs, name: &str) -> Result<ServedJwt, String> {
        let fetch = ["api", "fetch", "jwt", "-audience", "test", "-output", "json"];
        let output = self.agent_cli(agent, name, &fetch);
        let answer: Value = serde_json::from_slice(&output.stdout).map_err(|_| said(&output))?;
        let token = answer.pointer("/0/svids/0/svid").and_then(Value::as_str);
        let token = token.ok_or_else(|| said(&output))?.to_owned();
        let validate = ["api", "validate", "jwt", "-audience", "test", "-svid", &token];
        let validated = self.agent_cli(agent, name, &validate);
        if !validated.status.success() {
            return Err(said(&validated));
        }
        let header = token.split('.').next().unwrap_or_default();
        let header: Value = URL_SAFE_NO_PAD
            .decode(header)
            .ok()
            .and_then(|bytes| serde_json::from_slice(&bytes).ok())
            .ok_or("no header")?;
        let bundle = answer
            .pointer("/1/bundles/spiffe:~1~1example.org")
            .and_then(Value::as_str)
            .and_then(|text| STANDARD.decode(text).ok())
            .and_then(|bytes| serde_json::from_slice::<Value>(&bytes).ok());
        let keys = bundle
            .as_ref()
            .and_then(|bundle| bundle.get("keys")?.as_array())
            .map_or(0, Vec::len);
        Ok(ServedJwt {
            token,
            key_id: header
                .get("kid")
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned(),
            keys,
        })
    }
}
