//! OpenSSL as a counterpart: it accepts what is issued here, and what it issues is accepted here.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "all of this is a test"
)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use credence_crypto::bundle::{certificate_to_pem, private_key_to_pem};
use credence_crypto::x509::{CaSubject, Certificate, LeafParams, X509Ca, X509Svid, verify_chain};
use credence_crypto::{KeyType, PrivateKey, Signer, csr};
use credence_identity::{SpiffeId, Timestamp, TrustDomain};

/// Within the validity of all that is issued below, whatever the machine's clock says.
const NOW: Timestamp = Timestamp::from_unix_seconds(1_900_000_000);
const LONG_AGO: Timestamp = Timestamp::from_unix_seconds(1_000_000_000);
const FAR_AHEAD: Timestamp = Timestamp::from_unix_seconds(4_000_000_000);

struct OpenSsl {
    folder: tempfile::TempDir,
}

impl OpenSsl {
    /// `None`, and a loud line, where there is no `openssl`.
    fn find() -> Option<Self> {
        if Command::new("openssl").arg("version").output().is_err() {
            // Past the test runner's capture; nothing better can be done when stderr is gone.
            drop(writeln!(
                std::io::stderr(),
                "SKIPPED: no openssl on this machine, so nothing was compared with it"
            ));
            return None;
        }
        Some(Self {
            folder: tempfile::tempdir().unwrap(),
        })
    }

    fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap()
    }

    /// Runs a command line of words in the folder and returns what it says.
    fn run(&self, line: &str) -> String {
        let out = Command::new("openssl")
            .args(line.split(' '))
            .current_dir(self.folder.path())
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "openssl {line}: {text}");
        text
    }
}

fn ca(key_type: KeyType) -> X509Ca {
    let trust_domain = TrustDomain::parse("example.org").unwrap();
    let key = Arc::new(PrivateKey::generate(key_type).unwrap());
    X509Ca::self_sign(key, &trust_domain, &CaSubject::default(), LONG_AGO, FAR_AHEAD).unwrap()
}

fn leaf(ca: &X509Ca, key: &PrivateKey) -> X509Svid {
    let id = SpiffeId::parse("spiffe://example.org/workload").unwrap();
    let dns_names: [Arc<str>; 2] = ["db.example.org".into(), "*.example.org".into()];
    let leaf = LeafParams {
        id: &id,
        public_key: key.public_key(),
        dns_names: &dns_names,
        subject: None,
        not_before: LONG_AGO,
        not_after: FAR_AHEAD,
    };
    ca.sign_svid(&leaf).unwrap()
}

#[test]
fn it_verifies_and_prints_what_is_issued() {
    let Some(openssl) = OpenSsl::find() else { return };
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let ca = ca(key_type);
        let key = PrivateKey::generate(key_type).unwrap();
        let svid = leaf(&ca, &key);
        openssl.write("root.pem", certificate_to_pem(ca.certificate().der()));
        openssl.write("leaf.pem", certificate_to_pem(&svid.chain[0]));
        openssl.write("key.pem", private_key_to_pem(key.pkcs8_der()).as_bytes());
        let at = format!(
            "verify -x509_strict -attime {} -CAfile root.pem",
            NOW.unix_seconds()
        );
        for purpose in ["sslserver", "sslclient"] {
            assert!(
                openssl
                    .run(&format!("{at} -purpose {purpose} leaf.pem"))
                    .contains("leaf.pem: OK")
            );
        }
        let text = openssl.run("x509 -in leaf.pem -noout -text");
        for words in [
            "URI:spiffe://example.org/workload",
            "DNS:db.example.org, DNS:*.example.org",
            "Key Usage: critical\n                Digital Signature, Key Encipherment, Key Agreement\n",
            "TLS Web Server Authentication, TLS Web Client Authentication",
            "Basic Constraints: critical\n                CA:FALSE",
            "Subject: C = US, O = SPIRE, CN = db.example.org",
        ] {
            assert!(text.contains(words), "{words:?} is not in\n{text}");
        }
        assert!(!text.contains("Subject Alternative Name: critical"), "{text}");
        let serial = openssl
            .run("x509 -in leaf.pem -noout -serial")
            .trim()
            .replace("serial=", "");
        let serial = u128::from_str_radix(&serial, 16).unwrap().to_string();
        assert_eq!(serial, svid.serial);
        // The same public key from the certificate and from the private key.
        assert_eq!(
            openssl.run("x509 -in leaf.pem -noout -pubkey"),
            openssl.run("pkey -in key.pem -pubout")
        );
    }
}

#[test]
fn it_verifies_our_requests() {
    let Some(openssl) = OpenSsl::find() else { return };
    let id = SpiffeId::parse("spiffe://example.org/workload").unwrap();
    for key_type in [KeyType::EcP256, KeyType::EcP384, KeyType::Rsa2048] {
        let key = PrivateKey::generate(key_type).unwrap();
        openssl.write(
            "request.der",
            csr::create(&key, Some(&id), &["a.example"]).unwrap(),
        );
        let text = openssl.run("req -inform DER -in request.der -noout -verify -text");
        assert!(
            text.contains("verify OK") && text.contains("URI:spiffe://example.org/workload"),
            "{text}"
        );
    }
}

#[test]
fn its_chains_verify_here_whatever_signs_them() {
    let Some(openssl) = OpenSsl::find() else { return };
    openssl.write(
        "ca.ext",
        "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign\n",
    );
    openssl.write("leaf.ext", "keyUsage=critical,digitalSignature\n");
    for (algorithm, signing) in [
        ("EC -pkeyopt ec_paramgen_curve:P-256", "-sha256"),
        ("EC -pkeyopt ec_paramgen_curve:P-256", "-sha512"),
        ("EC -pkeyopt ec_paramgen_curve:P-384", "-sha256"),
        ("EC -pkeyopt ec_paramgen_curve:P-521", "-sha512"),
        ("ED25519", ""),
        ("RSA -pkeyopt rsa_keygen_bits:2048", "-sha256"),
        ("RSA -pkeyopt rsa_keygen_bits:3072", "-sha512"),
        (
            "RSA -pkeyopt rsa_keygen_bits:2048",
            "-sha256 -sigopt rsa_padding_mode:pss -sigopt rsa_pss_saltlen:digest",
        ),
    ] {
        let signing = if signing.is_empty() {
            String::new()
        } else {
            format!(" {signing}")
        };
        openssl.run(&format!("genpkey -algorithm {algorithm} -out ca.key"));
        openssl.run("req -new -key ca.key -subj /CN=root -out ca.csr");
        let ca = "x509 -req -in ca.csr -signkey ca.key -extfile ca.ext -days 30 -out ca.pem";
        openssl.run(&format!("{ca}{signing}"));
        openssl.run("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out leaf.key");
        openssl.run("req -new -key leaf.key -subj /CN=leaf -out leaf.csr");
        let leaf = "x509 -req -in leaf.csr -CA ca.pem -CAkey ca.key -CAcreateserial -extfile leaf.ext -days 20 -out leaf.pem";
        openssl.run(&format!("{leaf}{signing}"));
        let ca = Certificate::parse_pem(&openssl.read("ca.pem")).unwrap();
        let leaf = Certificate::parse_pem(&openssl.read("leaf.pem")).unwrap();
        let path = verify_chain(&leaf[0], &[], &ca, leaf[0].not_before());
        assert!(path.is_ok(), "{algorithm}{signing}: {path:?}");
        let key = PrivateKey::from_pem(&openssl.read("leaf.key")).unwrap();
        assert_eq!(key.public_key(), leaf[0].public_key());
    }
}

#[test]
fn its_private_keys_of_every_encoding_are_read() {
    let Some(openssl) = OpenSsl::find() else { return };
    openssl.run("ecparam -name prime256v1 -genkey -out sec1.pem");
    openssl.run("pkey -in sec1.pem -out pkcs8.pem");
    assert!(openssl.read("sec1.pem").contains("EC PRIVATE KEY"));
    openssl.run("genrsa -traditional -out pkcs1.pem 2048");
    assert!(openssl.read("pkcs1.pem").contains("RSA PRIVATE KEY"));
    let key = |name: &str| PrivateKey::from_pem(&openssl.read(name));
    assert_eq!(
        key("sec1.pem").unwrap().public_key(),
        key("pkcs8.pem").unwrap().public_key()
    );
    assert_eq!(key("pkcs1.pem").unwrap().key_type(), KeyType::Rsa2048);
    openssl.run("pkcs8 -topk8 -in pkcs8.pem -passout pass:secret -out encrypted.pem");
    assert!(key("encrypted.pem").is_err());
    assert!(Path::new(openssl.folder.path()).join("encrypted.pem").exists());
}
