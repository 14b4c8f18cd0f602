//! `x509`: X509-SVIDs for operators, without an entry.

use std::path::Path;

use base64::{Engine, prelude::BASE64_STANDARD};
use clap::{Args, Subcommand};
use credence_command::{CommandError, Console, Format, GoDuration, date, output::Output};
use credence_crypto::{
    KeyType, PrivateKey,
    bundle::{certificate_to_pem, private_key_to_pem},
    csr,
};
use credence_identity::{SpiffeId, Timestamp};
use credence_proto::spire::api::server::{
    bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    svid::v1::{MintX509svidRequest, svid_client::SvidClient},
};
use credence_runtime::{
    clock::{Clock, SystemClock},
    fs::write_atomic,
};
use serde_json::json;
use tonic::transport::Channel;
use zeroize::Zeroizing;

use super::{Remote, RemoteCommand, request::ttl};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mints an X509-SVID
    Mint(Remote<Mint>),
}

#[derive(Args, Debug)]
pub(super) struct Mint {
    /// SPIFFE ID of the X509-SVID
    #[arg(
        long = "spiffeID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    spiffe_id: String,
    /// Lifetime of the X509-SVID; 0 for the server's default
    #[arg(long = "ttl", value_name = "DURATION", default_value = "0s")]
    ttl: GoDuration,
    /// A DNS name for the X509-SVID; may be repeated
    #[arg(long = "dns", value_name = "NAME")]
    dns_names: Vec<String>,
    /// Folder to write the files to instead of stdout
    #[arg(
        long = "write",
        value_name = "DIR",
        default_value = "",
        hide_default_value = true
    )]
    write: String,
    #[command(flatten)]
    output: Output,
}

/// What was minted, in DER.
struct Minted {
    chain: Vec<Vec<u8>>,
    key: PrivateKey,
    authorities: Vec<Vec<u8>>,
}

impl RemoteCommand for Mint {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        if self.spiffe_id.is_empty() {
            return Err(CommandError::new("spiffeID must be specified"));
        }
        let id = SpiffeId::parse(&self.spiffe_id)?;
        let minted = self.mint(&id, channel, console).await?;
        if !self.write.is_empty() {
            return minted.write(Path::new(&self.write), console);
        }
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => data.print(console.out, &[minted.json()]),
            Format::Pretty => {
                let (chain, key, authorities) = minted.pem();
                writeln!(console.out, "X509-SVID:\n{chain}")?;
                writeln!(console.out, "Private key:\n{}", *key)?;
                Ok(writeln!(console.out, "Root CAs:\n{authorities}")?)
            }
        }
    }
}

impl Mint {
    async fn mint(
        &self,
        id: &SpiffeId,
        channel: Channel,
        console: &mut Console<'_>,
    ) -> Result<Minted, CommandError> {
        let ttl = ttl(self.ttl)?;
        let key = PrivateKey::generate(KeyType::EcP256)
            .map_err(|error| CommandError::chain(&error).context("unable to generate key"))?;
        let dns_names: Vec<&str> = self.dns_names.iter().map(String::as_str).collect();
        let csr = csr::create(&key, Some(id), &dns_names)
            .map_err(|error| CommandError::chain(&error).context("unable to generate CSR"))?;
        let asked = SystemClock.now();
        let response = SvidClient::new(channel.clone())
            .mint_x509svid(MintX509svidRequest { csr, ttl })
            .await
            .map_err(|status| CommandError::from(status).context("unable to mint SVID"))?;
        let svid = response.into_inner().svid.unwrap_or_default();
        if svid.cert_chain.is_empty() {
            return Err(CommandError::new("server response missing SVID chain"));
        }
        let bundle = BundleClient::new(channel)
            .get_bundle(GetBundleRequest::default())
            .await
            .map_err(|status| CommandError::from(status).context("unable to get bundle"))?
            .into_inner();
        if bundle.x509_authorities.is_empty() {
            return Err(CommandError::new("server response missing X509 Authorities"));
        }
        if let Some(end) = capped(asked, ttl, svid.expires_at) {
            writeln!(
                console.err,
                "X509-SVID lifetime was capped shorter than specified ttl; expires {end:?}"
            )?;
        }
        Ok(Minted {
            chain: svid.cert_chain,
            key,
            authorities: bundle
                .x509_authorities
                .into_iter()
                .map(|authority| authority.asn1)
                .collect(),
        })
    }
}

/// The end of an SVID that lives shorter than was asked for at `asked`, for a warning.
pub(super) fn capped(asked: Timestamp, ttl: i32, expires_at: i64) -> Option<String> {
    let wanted = asked.unix_seconds() + i64::from(ttl);
    (ttl > 0 && expires_at < wanted).then(|| date::rfc3339(Timestamp::from_unix_seconds(expires_at)))
}

impl Minted {
    fn pem(&self) -> (String, Zeroizing<String>, String) {
        let certificates = |ders: &[Vec<u8>]| ders.iter().map(|der| certificate_to_pem(der)).collect();
        (
            certificates(&self.chain),
            private_key_to_pem(self.key.pkcs8_der()),
            certificates(&self.authorities),
        )
    }

    fn json(&self) -> serde_json::Value {
        let encode = |ders: &[Vec<u8>]| -> Vec<String> {
            ders.iter().map(|der| BASE64_STANDARD.encode(der)).collect()
        };
        json!({
            "x509_svid": encode(&self.chain),
            "private_key": BASE64_STANDARD.encode(self.key.pkcs8_der().as_slice()),
            "root_cas": encode(&self.authorities),
        })
    }

    fn write(&self, folder: &Path, console: &mut Console<'_>) -> Result<(), CommandError> {
        let (chain, key, authorities) = self.pem();
        for (title, what, name, text, mode) in [
            ("X509-SVID", "SVID", "svid.pem", &chain, 0o644),
            ("Private key", "key", "key.pem", &*key, 0o600),
            ("Root CAs", "bundle", "bundle.pem", &authorities, 0o644),
        ] {
            let path = folder.join(name);
            write_atomic(&path, text.as_bytes(), mode).map_err(|error| {
                CommandError::chain(&error).context(format_args!("unable to write {what}"))
            })?;
            writeln!(console.out, "{title} written to {}", path.display())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_life_shorter_than_asked_for_is_capped() {
        let asked = Timestamp::from_unix_millis(1_000_900);
        assert_eq!(capped(asked, 60, 1_060), None);
        assert_eq!(capped(asked, 60, 1_061), None);
        assert_eq!(capped(asked, 0, 1_001), None);
        assert_eq!(capped(asked, 60, 1_059).as_deref(), Some("1970-01-01T00:17:39Z"));
    }
}
