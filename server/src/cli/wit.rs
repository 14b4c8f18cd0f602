//! `wit`: WIT-SVIDs for operators, without an entry.

use std::path::Path;

use clap::{Args, Subcommand};
use credence_command::{CommandError, Console, Format, GoDuration, json, output::Output};
use credence_crypto::wit::confirmation_algorithm;
use credence_crypto::{KeyType, PrivateKey, Signer as _, private_jwk};
use credence_proto::spire::api::server::svid::v1::{MintWitsvidRequest, svid_client::SvidClient};
use credence_runtime::{
    clock::{Clock, SystemClock},
    fs::write_atomic,
};
use tonic::transport::Channel;

use super::{
    Remote, RemoteCommand,
    request::{id, ttl},
    x509::capped,
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Mints a WIT-SVID
    Mint(Remote<Mint>),
}

#[derive(Args, Debug)]
pub(super) struct Mint {
    /// SPIFFE ID of the WIT-SVID
    #[arg(
        long = "spiffeID",
        value_name = "ID",
        default_value = "",
        hide_default_value = true
    )]
    spiffe_id: String,
    /// Key that the WIT-SVID is bound to: ec-p256, ec-p384, rsa-2048 or rsa-4096
    #[arg(long = "keyType", value_name = "TYPE", default_value = "ec-p256")]
    key_type: String,
    /// What that key signs proofs with
    #[arg(long = "signingAlgorithm", value_name = "ALGORITHM", default_value = "ES256")]
    algorithm: String,
    /// Lifetime of the WIT-SVID; 0 for the server's default
    #[arg(long = "ttl", value_name = "DURATION", default_value = "0s")]
    ttl: GoDuration,
    /// Folder to write `token` and `key` to instead of stdout
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

impl Mint {
    /// Key type and algorithm don't fit, in SPIRE's words.
    fn unfit(&self) -> CommandError {
        let (key, algorithm) = (&self.key_type, &self.algorithm);
        CommandError::new(match algorithm.as_str() {
            "ES256" | "ES384" => {
                format!("unsupported key type '{key}' for '{algorithm}' signing algorithm")
            }
            "RS256" | "RS384" | "RS512" | "PS256" | "PS384" | "PS512" => {
                format!("unsupported key type '{key}' for signing algorithm '{algorithm}'")
            }
            _ => format!("unsupported signing algorithm: {algorithm}"),
        })
    }
}

impl RemoteCommand for Mint {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        if self.spiffe_id.is_empty() {
            return Err(CommandError::new("spiffeID must be specified"));
        }
        let request_id = id(&self.spiffe_id)?;
        let key_type: KeyType = self.key_type.parse().map_err(|_| self.unfit())?;
        let key = PrivateKey::generate(key_type)
            .map_err(|error| CommandError::chain(&error).context("could not generate private key"))?;
        if confirmation_algorithm(key.public_key(), &self.algorithm).is_none() {
            return Err(self.unfit());
        }
        let request = MintWitsvidRequest {
            id: Some(request_id),
            public_key: key.public_key().spki_der().to_vec(),
            ttl: ttl(self.ttl)?,
            signing_algorithm: self.algorithm.clone(),
        };
        let (asked, ttl) = (SystemClock.now(), request.ttl);
        let response = SvidClient::new(channel)
            .mint_witsvid(request)
            .await
            .map_err(|status| CommandError::from(status).context("unable to mint SVID"))?
            .into_inner();
        let svid = response.svid.as_ref().filter(|svid| !svid.token.is_empty());
        let svid = svid.ok_or_else(|| CommandError::new("server response missing token"))?;
        if let Some(end) = capped(asked, ttl, svid.expires_at) {
            writeln!(
                console.err,
                "WIT-SVID lifetime was capped shorter than specified ttl; expires {end:?}"
            )?;
        }
        let jwk = private_jwk(&key).ok_or_else(|| CommandError::new("could not marshal private key"))?;
        if !self.write.is_empty() {
            let files = [
                ("WIT-SVID", "token", svid.token.as_bytes()),
                ("Private key", "key", jwk.as_bytes()),
            ];
            for (what, name, bytes) in files {
                let path = Path::new(&self.write).join(name);
                write_atomic(&path, bytes, 0o600).map_err(|error| {
                    CommandError::chain(&error).context(format!("unable to write {name}"))
                })?;
                writeln!(console.out, "{what} written to {}", path.display())?;
            }
            return Ok(());
        }
        match self.output.format {
            data @ (Format::Json | Format::Yaml) => {
                let mut whole = json::message(&response)?;
                if let Some(members) = whole.as_object_mut() {
                    members.insert("private_key".to_owned(), jwk.as_str().into());
                }
                data.print(console.out, &[whole])
            }
            Format::Pretty => {
                writeln!(console.out, "{}", svid.token)?;
                Ok(writeln!(console.out, "{}", *jwk)?)
            }
        }
    }
}
