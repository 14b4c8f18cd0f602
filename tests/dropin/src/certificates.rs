//! Certificates by which nodes prove themselves (`x509pop`).

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CustomExtension, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256,
    RsaKeySize, SanType, date_time_ymd,
};

/// A root and the certificate of one node, as files.
#[derive(Debug, Clone)]
pub struct NodeCertificates {
    /// The root, for the server's `ca_bundle_path`.
    pub root: PathBuf,
    /// The node's certificate.
    pub certificate: PathBuf,
    /// The node's key.
    pub key: PathBuf,
    root_key: PathBuf,
}

/// A node's certificate with what lies between it and the root, and its key.
#[derive(Debug, Clone)]
pub(crate) struct Issued {
    /// The leaf first, in DER.
    pub(crate) chain: Vec<Vec<u8>>,
    /// In PEM.
    pub(crate) key: String,
}

impl NodeCertificates {
    /// Makes them in `folder`; the node is of `cluster:test`.
    #[must_use]
    pub fn make(folder: &Path) -> Self {
        let files = Self {
            root: folder.join("node-root.pem"),
            certificate: folder.join("node.pem"),
            key: folder.join("node.key"),
            root_key: folder.join("node-root.key"),
        };
        let root_key = KeyPair::generate().expect("make a key");
        let root_certificate = authority("root").self_signed(&root_key).expect("sign the root");
        let key = KeyPair::generate().expect("make a key");
        let certificate = node()
            .signed_by(&key, &Issuer::from_params(&authority("root"), &root_key))
            .expect("sign the node's certificate");
        for (path, text) in [
            (&files.root, root_certificate.pem()),
            (&files.certificate, certificate.pem()),
            (&files.key, key.serialize_pem()),
            (&files.root_key, root_key.serialize_pem()),
        ] {
            fs::write(path, text).expect("write a certificate");
        }
        files
    }

    /// The agent's plugin block.
    #[must_use]
    pub fn attestor(&self) -> String {
        format!(
            "NodeAttestor \"x509pop\" {{ plugin_data {{ private_key_path = \"{}\" certificate_path = \"{}\" }} }}",
            self.key.display(),
            self.certificate.display()
        )
    }

    /// Another node's certificate, with one thing about it as `kind` says.
    ///
    /// # Panics
    /// On a kind that isn't known.
    pub(crate) fn issue(&self, kind: &str) -> Issued {
        let key = match kind {
            "rsa" => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048),
            "p384" => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384),
            "ed25519" => KeyPair::generate_for(&PKCS_ED25519),
            _ => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256),
        }
        .expect("make a key");
        let mut params = node();
        match kind {
            "ecdsa" | "rsa" | "p384" | "ed25519" | "stranger" | "chain" | "gap" | "long" => {}
            "expired" => params.not_after = date_time_ymd(2001, 1, 1),
            "early" => params.not_before = date_time_ymd(2090, 1, 1),
            "nameless" => params.distinguished_name = rcgen::DistinguishedName::new(),
            "plain" => params.subject_alt_names.clear(),
            "elsewhere" => params.subject_alt_names = vec![uri("x509pop://other.org/cluster/test")],
            "encipher" => params.key_usages = vec![KeyUsagePurpose::KeyEncipherment],
            "anyusage" => params.key_usages.clear(),
            "serving" => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
            "authority" => {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                params.key_usages.push(KeyUsagePurpose::KeyCertSign);
            }
            "critical" => {
                let mut unknown =
                    CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 99_999, 1], vec![5, 0]);
                unknown.set_criticality(true);
                params.custom_extensions.push(unknown);
            }
            other => panic!("no kind of certificate {other}"),
        }
        let root_key = match kind {
            "stranger" => KeyPair::generate(),
            _ => KeyPair::from_pem(&fs::read_to_string(&self.root_key).expect("read the root's key")),
        };
        let mut issuer = (authority("root"), root_key.expect("a key"));
        let mut between = Vec::new();
        let length = match kind {
            "chain" | "gap" => 1,
            "long" => 6,
            _ => 0,
        };
        for n in 0..length {
            let (params, key) = (
                authority(&format!("intermediate {n}")),
                KeyPair::generate().expect("make a key"),
            );
            let signed = params
                .signed_by(&key, &Issuer::from_params(&issuer.0, &issuer.1))
                .expect("sign an intermediate");
            between.insert(0, signed.der().to_vec());
            issuer = (params, key);
        }
        let leaf = params
            .signed_by(&key, &Issuer::from_params(&issuer.0, &issuer.1))
            .expect("sign the node's certificate");
        if kind == "gap" {
            between.clear();
        }
        between.insert(0, leaf.der().to_vec());
        Issued {
            chain: between,
            key: key.serialize_pem(),
        }
    }
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params
}

fn node() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "agent");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.subject_alt_names = vec![uri("x509pop://example.org/cluster/test")];
    // A selector names it.
    params.serial_number = Some(vec![0x5a; 20].into());
    params
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("a URI"))
}
