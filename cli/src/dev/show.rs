//! How `dev` shows what was issued: for a person, or as one JSON object a line.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use credence_crypto::x509::Certificate;
use credence_identity::Timestamp;
use serde_json::{Value, json};

use super::place::Place;

/// One X.509-SVID as it came from the Workload API.
pub(super) struct Issued {
    pub(super) spiffe_id: String,
    /// Leaf first, then what the leaf was signed by, up to the authority of the bundle.
    pub(super) chain: Vec<Certificate>,
}

impl Issued {
    fn leaf(&self) -> Result<&Certificate> {
        self.chain.first().context("an SVID without a certificate")
    }

    fn json(&self) -> Result<Value> {
        let leaf = self.leaf()?;
        Ok(json!({
            "spiffe_id": self.spiffe_id,
            "serial": leaf.serial(),
            "not_before": leaf.not_before().unix_seconds(),
            "not_after": leaf.not_after().unix_seconds(),
            "chain": self.chain.iter().map(|certificate| certificate.subject().to_string()).collect::<Vec<_>>(),
        }))
    }
}

/// Header and claims of a compact token. Nothing is verified: the token came from our own agent a moment ago.
pub(super) fn decoded(token: &str) -> Result<(Value, Value)> {
    let mut parts = token
        .split('.')
        .map(|part| -> Result<Value> { Ok(serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part)?)?) });
    let header = parts.next().context("a token without a header")??;
    let claims = parts.next().context("a token without claims")??;
    Ok((header, claims))
}

/// What is shown once, when all is up.
pub(super) struct Welcome<'a> {
    pub(super) place: &'a Place,
    pub(super) server_address: String,
    pub(super) issued: &'a Issued,
    pub(super) token: &'a str,
    pub(super) now: Timestamp,
}

impl Welcome<'_> {
    /// One line of JSON.
    pub(super) fn json(&self, out: &mut impl Write) -> Result<()> {
        let (header, claims) = decoded(self.token)?;
        let line = json!({
            "spiffe_id": self.issued.spiffe_id,
            "dir": self.place.path(),
            "socket": self.place.agent_socket(),
            "endpoint": endpoint(self.place),
            "server_socket": self.place.server_socket(),
            "server_address": self.server_address,
            "x509_svid": self.issued.json()?,
            "jwt_svid": { "header": header, "claims": claims },
        });
        writeln!(out, "{line}")?;
        Ok(out.flush()?)
    }

    /// A screen for a person.
    pub(super) fn pretty(&self, out: &mut impl Write, program: &str) -> Result<()> {
        let leaf = self.issued.leaf()?;
        let (header, claims) = decoded(self.token)?;
        let socket = self.place.agent_socket();
        let socket = socket.display();
        writeln!(out, "Issued to processes of this user:\n")?;
        writeln!(out, "  SPIFFE ID   {}", self.issued.spiffe_id)?;
        writeln!(
            out,
            "  Valid for   {} (serial {})",
            span(self.now.until(leaf.not_after())),
            leaf.serial()
        )?;
        for (depth, certificate) in self.issued.chain.iter().enumerate() {
            let label = if depth == 0 { "Chain" } else { "" };
            writeln!(
                out,
                "  {label:<10}  {}{}",
                "  ".repeat(depth),
                certificate.subject()
            )?;
        }
        writeln!(out, "  JWT-SVID    {header}\n              {claims}")?;
        writeln!(
            out,
            "\nServer {}, data and log in {}",
            self.server_address,
            self.place.path().display()
        )?;
        writeln!(out, "\nTry next:\n")?;
        writeln!(out, "  export SPIFFE_ENDPOINT_SOCKET={}", endpoint(self.place))?;
        writeln!(out, "  {program} agent api fetch x509 -socketPath {socket}")?;
        writeln!(
            out,
            "  {program} agent api fetch jwt -audience feature-store -socketPath {socket}"
        )?;
        writeln!(
            out,
            "  {program} server entry show -socketPath {}\n",
            self.place.server_socket().display()
        )?;
        Ok(out.flush()?)
    }
}

/// Shows one renewal: on a terminal the line lives in one place, elsewhere it is a line of its own.
pub(super) fn renewal(
    out: &mut impl Write,
    form: Form,
    count: u64,
    issued: &Issued,
    now: Timestamp,
) -> Result<()> {
    let leaf = issued.leaf()?;
    let left = span(now.until(leaf.not_after()));
    match form {
        Form::Json => writeln!(
            out,
            "{}",
            json!({ "renewal": count, "x509_svid": issued.json()? })
        )?,
        Form::Terminal => write!(
            out,
            "\r\x1b[Krenewed {count}×, valid for {left}, serial {}",
            leaf.serial()
        )?,
        Form::Lines => writeln!(
            out,
            "renewed {count}x, valid for {left}, serial {}",
            leaf.serial()
        )?,
    }
    Ok(out.flush()?)
}

/// How the output is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Json,
    Terminal,
    Lines,
}

impl Form {
    pub(super) fn choose(json: bool) -> Self {
        match (json, io::IsTerminal::is_terminal(&io::stdout())) {
            (true, _) => Self::Json,
            (false, true) => Self::Terminal,
            (false, false) => Self::Lines,
        }
    }
}

/// The value of `SPIFFE_ENDPOINT_SOCKET`.
pub(super) fn endpoint(place: &Place) -> String {
    format!("unix://{}", place.agent_socket().display())
}

/// `59m 58s`: two units are enough to see it shrink.
fn span(left: Duration) -> String {
    let seconds = left.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, s) => format!("{s}s"),
        (0, m, s) => format!("{m}m {s}s"),
        (h, m, _) => format!("{h}h {m}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_shows_its_two_greatest_units() {
        let shown = [5, 59 * 60 + 58, 3 * 3600 + 61].map(|s| span(Duration::from_secs(s)));
        assert_eq!(shown, ["5s", "59m 58s", "3h 1m"]);
    }

    #[test]
    fn a_token_is_decoded_without_its_signature() {
        let token = format!(
            "{}.{}.x",
            URL_SAFE_NO_PAD.encode("{\"alg\":\"ES256\"}"),
            URL_SAFE_NO_PAD.encode("{}")
        );
        let (header, claims) = decoded(&token).expect("decodes");
        assert_eq!((header["alg"].as_str(), claims), (Some("ES256"), json!({})));
        assert!(decoded("no token").is_err());
    }
}
