//! Files for software that knows no Workload API: the agent's block and the command, judged by those who read them.

mod jobs;
mod readers;
mod writing;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use credence_test_support::{Lab, Process, wait_until};

use crate::{CREDENCE, said};

const SOON: Duration = Duration::from_secs(15);

/// A folder of the lab for files, and in it a configuration as spiffe-helper has it.
struct Helper {
    dir: PathBuf,
    conf: PathBuf,
}

/// The three files of an X.509-SVID under the names of spiffe-helper's examples.
const TRIO: &str = "svid_file_name = \"svid.pem\"\nsvid_key_file_name = \"svid_key.pem\"\n\
                    svid_bundle_file_name = \"svid_bundle.pem\"\n";

impl Helper {
    fn new(lab: &Lab, name: &str, more: &str) -> Self {
        let dir = lab.dir().canonicalize().expect("a real path").join(name);
        fs::create_dir_all(&dir).expect("make the target folder");
        let conf = dir.with_extension("conf");
        let socket = lab.agent_socket("node");
        let text = format!(
            "agent_address = \"{}\"\ncert_dir = \"{}\"\n{more}",
            socket.display(),
            dir.display()
        );
        fs::write(&conf, text).expect("write the configuration");
        Self { dir, conf }
    }

    fn command(&self, more: &[&str]) -> Command {
        let mut command = Command::new(CREDENCE);
        command
            .args(["agent", "files", "-config"])
            .arg(&self.conf)
            .args(more);
        command
    }

    fn run(&self, more: &[&str]) -> Output {
        self.command(more).output().expect("run files")
    }

    fn start(&self, more: &[&str]) -> Process {
        Process::spawn(self.command(more), &self.dir.with_extension("log"))
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    fn wait_for(&self, name: &str) -> String {
        wait_until(&format!("{name} is written"), SOON, || {
            Some(self.read(name)).filter(|text| !text.is_empty())
        })
    }
}

/// A lab whose server and agent run, and whose agent serves this user the identity `/web`.
fn lab_with_identity(more: &[&str]) -> (Lab, Process, Process) {
    let lab = Lab::new(CREDENCE);
    let server = lab.server();
    let agent = lab.agent("node");
    lab.entry("node", "web", more);
    wait_until("the identity is served", SOON, || {
        let fetched = lab.agent_cli("node", &["api", "fetch", "x509"]);
        fetched.status.success().then_some(())
    });
    (lab, server, agent)
}

/// That certificate and key belong together, whatever the time, and that the bundle has the certificate's authority: OpenSSL's word.
fn openssl_accepts(svid: &Path, key: &Path, bundle: &Path) {
    let public = |kind: &[&str], path: &Path| {
        let output = Command::new("openssl")
            .args(kind)
            .arg(path)
            .output()
            .expect("run openssl");
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    assert_eq!(
        public(&["x509", "-noout", "-pubkey", "-in"], svid),
        public(&["pkey", "-pubout", "-in"], key),
        "key and certificate are of two generations"
    );
    let verified = Command::new("openssl")
        .args(["verify", "-no_check_time", "-CAfile"])
        .arg(bundle)
        .arg("-untrusted")
        .arg(svid)
        .arg(svid)
        .output()
        .expect("run openssl");
    assert!(verified.status.success(), "{}", said(&verified));
}

/// The generation that counts, found as whoever wants a whole pair does; none while it changes.
fn generation(dir: &Path) -> Option<PathBuf> {
    fs::canonicalize(dir.join(".svid.pem.current")).ok()
}
