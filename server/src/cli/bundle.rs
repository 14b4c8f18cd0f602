//! `bundle`: the trust domain's own authorities.

use std::{sync::Arc, time::Duration};

use clap::{Args, Subcommand};
use credence_command::{CommandError, Console, Format, json, output::Output};
use credence_crypto::bundle::{to_spiffe_json, x509_from_der, x509_to_pem};
use credence_identity::{Bundle, JwtAuthority, Timestamp, TrustDomain};
use credence_proto::spire::api::{
    server::bundle::v1::{GetBundleRequest, bundle_client::BundleClient},
    types,
};
use tonic::transport::Channel;

use super::{Remote, RemoteCommand};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Prints the server's CA bundle
    Show(Remote<Show>),
}

#[derive(Args, Debug)]
pub(super) struct Show {
    /// Form of the bundle in pretty output: pem or spiffe
    #[arg(long = "format", value_name = "FORMAT", default_value = "pem")]
    format: String,
    #[command(flatten)]
    output: Output,
}

impl RemoteCommand for Show {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError> {
        let spiffe = match self.format.to_ascii_lowercase().as_str() {
            "" | "pem" => false,
            "spiffe" => true,
            format => return Err(CommandError::new(format!("invalid format: {format:?}"))),
        };
        let response = BundleClient::new(channel)
            .get_bundle(GetBundleRequest::default())
            .await?;
        let bundle = response.into_inner();
        if self.output.format == Format::Json {
            return json::print(console.out, &[json::message(&bundle)?]);
        }
        let bundle = parse(bundle)?;
        if spiffe {
            writeln!(console.out, "{}", to_spiffe_json(&bundle).trim_end())?;
        } else {
            write!(console.out, "{}", x509_to_pem(&bundle))?;
        }
        Ok(())
    }
}

fn parse(message: types::Bundle) -> Result<Bundle, CommandError> {
    let mut bundle = Bundle::empty(TrustDomain::parse_lenient(&message.trust_domain)?);
    for authority in message.x509_authorities {
        let authorities = x509_from_der(&authority.asn1).map_err(|error| {
            CommandError::chain(&error).context("unable to parse certificates ASN.1 DER data")
        })?;
        bundle.x509_authorities.extend(authorities);
    }
    bundle.jwt_authorities = message.jwt_authorities.into_iter().map(jwt_authority).collect();
    bundle.sequence_number = message.sequence_number;
    bundle.refresh_hint = u64::try_from(message.refresh_hint)
        .ok()
        .filter(|hint| *hint > 0)
        .map(Duration::from_secs);
    Ok(bundle)
}

fn jwt_authority(key: types::JwtKey) -> JwtAuthority {
    JwtAuthority {
        key_id: key.key_id.into(),
        public_key: Arc::from(key.public_key),
        expires_at: (key.expires_at != 0).then(|| Timestamp::from_unix_seconds(key.expires_at)),
        tainted: key.tainted,
    }
}
