//! X509-SVIDs as the Workload API hands them out, and as text and files.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Write},
    path::Path,
};

use credence_command::{CommandError, Console, GoDuration, date, output::plural};
use credence_crypto::{
    PrivateKey,
    bundle::{certificate_to_pem, private_key_to_pem, x509_from_der},
    x509::{Certificate, verify_svid},
};
use credence_identity::{SpiffeId, Timestamp};
use credence_proto::spiffe_workload::{X509svid, X509svidResponse};
use credence_runtime::fs::write_atomic;

/// All that one answer holds, parsed.
#[derive(Debug)]
pub(super) struct Received {
    pub(super) svids: Vec<ReceivedSvid>,
    /// By trust domain, as the answer names them.
    federated: BTreeMap<String, Vec<Certificate>>,
}

#[derive(Debug)]
pub(super) struct ReceivedSvid {
    id: String,
    hint: String,
    chain: Vec<Certificate>,
    key: PrivateKey,
    bundle: Vec<Certificate>,
}

impl Received {
    pub(super) fn parse(response: &X509svidResponse) -> Result<Self, CommandError> {
        if response.svids.is_empty() {
            return Err(CommandError::new("workload response contains no svids"));
        }
        let mut federated = BTreeMap::new();
        for (trust_domain, der) in &response.federated_bundles {
            let certificates = certificates(der).map_err(|error| {
                error.context(format_args!(
                    "failed to parse bundle for federated domain {trust_domain:?}"
                ))
            })?;
            federated.insert(trust_domain.clone(), certificates);
        }
        let svids = response.svids.iter().enumerate().map(|(index, svid)| {
            ReceivedSvid::parse(svid).map_err(|error| {
                let id = &svid.spiffe_id;
                error.context(format_args!(
                    "failed to parse svid entry {index} for spiffe id {id:?}"
                ))
            })
        });
        Ok(Self {
            svids: svids.collect::<Result<_, _>>()?,
            federated,
        })
    }

    /// Verifies each SVID against the bundle beside it.
    pub(super) fn verify(&self, now: Timestamp) -> Result<(), CommandError> {
        self.svids.iter().try_for_each(|svid| svid.verify(now))
    }

    /// Writes all of it as text, headed by how long it took.
    pub(super) fn print(&self, out: &mut dyn Write, took: GoDuration) -> io::Result<()> {
        let count = self.svids.len();
        writeln!(
            out,
            "Received {count} {} after {took}",
            plural(count, "svid", "svids")
        )?;
        for svid in &self.svids {
            writeln!(out)?;
            svid.print(out)?;
            for (trust_domain, bundle) in &self.federated {
                validity(out, &format!("[{trust_domain}] CA"), bundle)?;
            }
        }
        writeln!(out)?;
        out.flush()
    }

    /// Writes PEM files into a folder: `svid.N.pem`, `svid.N.key`, `bundle.N.pem` and `federated_bundle.N.M.pem`.
    pub(super) fn write(
        &self,
        folder: &Path,
        silent: bool,
        console: &mut Console<'_>,
    ) -> Result<(), CommandError> {
        let mut save = |what: fmt::Arguments<'_>, name: String, text: &str, mode| {
            let path = folder.join(name);
            if !silent {
                writeln!(console.out, "Writing {what} to file {}.", path.display())?;
            }
            write_atomic(&path, text.as_bytes(), mode).map_err(|error| CommandError::chain(&error))
        };
        for (n, svid) in self.svids.iter().enumerate() {
            let key = private_key_to_pem(svid.key.pkcs8_der());
            save(
                format_args!("SVID #{n}"),
                format!("svid.{n}.pem"),
                &pem(&svid.chain),
                0o644,
            )?;
            save(format_args!("key #{n}"), format!("svid.{n}.key"), &key, 0o600)?;
            save(
                format_args!("bundle #{n}"),
                format!("bundle.{n}.pem"),
                &pem(&svid.bundle),
                0o644,
            )?;
            for (m, (trust_domain, bundle)) in self.federated.iter().enumerate() {
                save(
                    format_args!("federated bundle #{m} for trust domain {trust_domain}"),
                    format!("federated_bundle.{n}.{m}.pem"),
                    &pem(bundle),
                    0o644,
                )?;
            }
        }
        Ok(())
    }
}

impl ReceivedSvid {
    fn parse(svid: &X509svid) -> Result<Self, CommandError> {
        let key = PrivateKey::from_pkcs8_der(&svid.x509_svid_key)
            .map_err(|error| CommandError::chain(&error).context("failed to parse private key"))?;
        Ok(Self {
            id: svid.spiffe_id.clone(),
            hint: svid.hint.clone(),
            chain: certificates(&svid.x509_svid)?,
            key,
            bundle: certificates(&svid.bundle)
                .map_err(|error| error.context("failed to parse trust bundle"))?,
        })
    }

    fn verify(&self, now: Timestamp) -> Result<(), CommandError> {
        let failed = |error: CommandError| {
            error.context(format_args!(
                "{:?} SVID failed verification against bundle",
                self.id
            ))
        };
        let id = SpiffeId::parse(&self.id)?;
        let ders: Vec<_> = self.chain.iter().map(Certificate::der).collect();
        let bundle = self.bundle.iter().map(|certificate| certificate.der().as_ref());
        let authorities = x509_from_der(&bundle.collect::<Vec<_>>().concat())
            .map_err(|error| failed(CommandError::chain(&error)))?;
        let verified =
            verify_svid(&ders, &authorities, now).map_err(|error| failed(CommandError::chain(&error)))?;
        if verified.id == id && verified.leaf.public_key() == self.public_key() {
            Ok(())
        } else {
            Err(failed(CommandError::new(
                "it is for another SPIFFE ID or another key",
            )))
        }
    }

    fn public_key(&self) -> &credence_crypto::PublicKey {
        credence_crypto::Signer::public_key(&self.key)
    }

    fn print(&self, out: &mut dyn Write) -> io::Result<()> {
        // The ID first: if something goes wrong with the rest, one knows whose it was.
        writeln!(out, "SPIFFE ID:\t\t{}", self.id)?;
        if !self.hint.is_empty() {
            writeln!(out, "Hint:\t\t\t{}", self.hint)?;
        }
        if let Some((leaf, intermediates)) = self.chain.split_first() {
            writeln!(out, "SVID Valid After:\t{}", date::utc(leaf.not_before()))?;
            writeln!(out, "SVID Valid Until:\t{}", date::utc(leaf.not_after()))?;
            validity(out, "Intermediate", intermediates)?;
        }
        validity(out, "CA", &self.bundle)
    }
}

fn validity(out: &mut dyn Write, what: &str, certificates: &[Certificate]) -> io::Result<()> {
    for (number, certificate) in (1..).zip(certificates) {
        writeln!(
            out,
            "{what} #{number} Valid After:\t{}",
            date::utc(certificate.not_before())
        )?;
        writeln!(
            out,
            "{what} #{number} Valid Until:\t{}",
            date::utc(certificate.not_after())
        )?;
    }
    Ok(())
}

fn certificates(der: &[u8]) -> Result<Vec<Certificate>, CommandError> {
    let certificates = Certificate::parse_concatenated(der).map_err(|error| CommandError::chain(&error))?;
    if certificates.is_empty() {
        return Err(CommandError::new("no certificates found"));
    }
    Ok(certificates)
}

fn pem(certificates: &[Certificate]) -> String {
    let blocks = certificates
        .iter()
        .map(|certificate| certificate_to_pem(certificate.der()));
    blocks.collect()
}
