//! Certificates by which nodes prove themselves (`x509pop`).

use std::fs;
use std::path::{Path, PathBuf};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SanType};

/// A root and the certificate of one node, as files.
#[derive(Debug, Clone)]
pub struct NodeCertificates {
    /// The root, for the server's `ca_bundle_path`.
    pub root: PathBuf,
    /// The node's certificate.
    pub certificate: PathBuf,
    /// The node's key.
    pub key: PathBuf,
}

impl NodeCertificates {
    /// Makes them in `folder`; the node is of `cluster:test`.
    #[must_use]
    pub fn make(folder: &Path) -> Self {
        let files = Self {
            root: folder.join("node-root.pem"),
            certificate: folder.join("node.pem"),
            key: folder.join("node.key"),
        };
        let root_key = KeyPair::generate().expect("make a key");
        let mut root = CertificateParams::default();
        root.distinguished_name.push(DnType::CommonName, "root");
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root_certificate = root.self_signed(&root_key).expect("sign the root");
        let issuer = Issuer::new(root, root_key);

        let key = KeyPair::generate().expect("make a key");
        let mut node = CertificateParams::default();
        node.distinguished_name.push(DnType::CommonName, "agent");
        node.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let name = "x509pop://example.org/cluster/test".try_into().expect("a URI");
        node.subject_alt_names = vec![SanType::URI(name)];
        let certificate = node
            .signed_by(&key, &issuer)
            .expect("sign the node's certificate");
        for (path, text) in [
            (&files.root, root_certificate.pem()),
            (&files.certificate, certificate.pem()),
            (&files.key, key.serialize_pem()),
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
}
