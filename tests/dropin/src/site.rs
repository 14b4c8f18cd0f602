//! A trust domain in a temporary folder and on a free port; its server and agents may be of either make.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use credence_test_support::{Process, wait_until};
use tempfile::TempDir;

use crate::{NodeCertificates, Programs};

/// A trust domain `example.org`: its folder, its port, its configuration files.
///
/// The files say the same to either make, so a server or an agent can be stopped and one of the other make started in its
/// place with [`Site::start_server`] and [`Site::start_agent`].
#[derive(Debug)]
pub struct Site {
    folder: TempDir,
    port: u16,
    certificates: NodeCertificates,
}

impl Site {
    /// A site whose server has `more` lines in its `server` block.
    #[must_use]
    pub fn new(more: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("dropin-")
            .tempdir()
            .expect("make a folder");
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("find a free port")
            .port();
        let certificates = NodeCertificates::make(folder.path());
        let site = Self {
            folder,
            port,
            certificates,
        };
        site.configure_server(more);
        site
    }

    /// The site's folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The port of the server's TCP endpoint.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The certificates by which a node may attest (`x509pop`).
    #[must_use]
    pub fn certificates(&self) -> &NodeCertificates {
        &self.certificates
    }

    /// The server's private socket.
    #[must_use]
    pub fn server_socket(&self) -> PathBuf {
        self.folder().join("server.sock")
    }

    /// The server's `data_dir`.
    #[must_use]
    pub fn server_data(&self) -> PathBuf {
        self.folder().join("server")
    }

    /// The public socket of agent `name`.
    #[must_use]
    pub fn agent_socket(&self, name: &str) -> PathBuf {
        self.folder().join(name).join("public/api.sock")
    }

    /// The admin socket of agent `name`.
    #[must_use]
    pub fn admin_socket(&self, name: &str) -> PathBuf {
        self.folder().join(name).join("private/admin.sock")
    }

    /// Where the server's log goes.
    #[must_use]
    pub fn server_log(&self) -> PathBuf {
        self.folder().join("server.log")
    }

    /// Writes the server's configuration file, with `more` lines in its `server` block.
    pub fn configure_server(&self, more: &str) {
        let folder = self.folder().display();
        let text = format!(
            "server {{\n  trust_domain = \"example.org\"\n  bind_address = \"127.0.0.1\"\n  bind_port = {port}\n  \
             data_dir = \"{folder}/server\"\n  socket_path = \"{socket}\"\n  log_level = \"DEBUG\"\n  \
             ratelimit {{\n    attestation = false\n  }}\n  \
             experimental {{\n    cache_reload_interval = \"1s\"\n  }}\n  {more}\n}}\n\
             plugins {{\n  DataStore \"sql\" {{ plugin_data {{ database_type = \"sqlite3\" \
             connection_string = \"{folder}/server/datastore.sqlite3\" }} }}\n  \
             KeyManager \"disk\" {{ plugin_data {{ keys_path = \"{folder}/server/keys.json\" }} }}\n  \
             NodeAttestor \"join_token\" {{ plugin_data {{}} }}\n  \
             NodeAttestor \"x509pop\" {{ plugin_data {{ ca_bundle_path = \"{roots}\" }} }}\n}}\n",
            port = self.port,
            socket = self.server_socket().display(),
            roots = self.certificates.root.display(),
        );
        fs::write(self.folder().join("server.conf"), text).expect("write server.conf");
    }

    /// Appends a block to the configuration file `name` of the site's folder.
    pub fn append(&self, name: &str, block: &str) {
        let file = self.folder().join(name);
        let text = fs::read_to_string(&file).expect("read the configuration");
        fs::write(file, text + block).expect("write the configuration");
    }

    /// Starts the server and waits until both its endpoints answer.
    #[must_use]
    pub fn start_server(&self, programs: &Programs) -> Process {
        let mut process = self.start_server_unready(programs);
        process.wait_for_line("Starting Server APIs", 2);
        process.wait_for("the server to listen", || {
            UnixStream::connect(self.server_socket()).is_ok()
        });
        process
    }

    /// Starts the server and doesn't wait.
    #[must_use]
    pub fn start_server_unready(&self, programs: &Programs) -> Process {
        let mut command = Command::new(&programs.server);
        command
            .args(["run", "-config"])
            .arg(self.folder().join("server.conf"));
        Process::spawn(command, &self.server_log())
    }

    /// Writes the configuration file of agent `name`: `attestor` is its plugin block, `more` stands in its `agent` block.
    ///
    /// The first call takes the trust bundle from the running server; later agents start from the same one.
    pub fn configure_agent(&self, programs: &Programs, name: &str, attestor: &str, more: &str) {
        let folder = self.folder().join(name);
        fs::create_dir_all(&folder).expect("make the agent's folder");
        let bundle = self.folder().join("bundle.pem");
        if !bundle.exists() {
            fs::write(&bundle, self.server_ok(programs, &["bundle", "show"])).expect("write the bundle");
        }
        let text = format!(
            "agent {{\n  trust_domain = \"example.org\"\n  server_address = \"127.0.0.1\"\n  server_port = {port}\n  \
             data_dir = \"{dir}/data\"\n  socket_path = \"{socket}\"\n  admin_socket_path = \"{admin}\"\n  \
             trust_bundle_path = \"{bundle}\"\n  log_level = \"DEBUG\"\n  \
             experimental {{\n    sync_interval = \"1s\"\n  }}\n  {more}\n}}\n\
             plugins {{\n  KeyManager \"disk\" {{ plugin_data {{ directory = \"{dir}/data\" }} }}\n  {attestor}\n  \
             WorkloadAttestor \"unix\" {{ plugin_data {{}} }}\n}}\n",
            port = self.port,
            dir = folder.display(),
            socket = self.agent_socket(name).display(),
            admin = self.admin_socket(name).display(),
            bundle = bundle.display(),
        );
        fs::write(folder.join("agent.conf"), text).expect("write agent.conf");
    }

    /// Starts agent `name` from its configuration file and doesn't wait.
    #[must_use]
    pub fn start_agent_unready(&self, programs: &Programs, name: &str) -> Process {
        let mut command = Command::new(&programs.agent);
        command
            .args(["run", "-config"])
            .arg(self.folder().join(name).join("agent.conf"));
        Process::spawn(command, &self.folder().join(format!("{name}.log")))
    }

    /// Starts agent `name` from its configuration file and waits until it serves.
    #[must_use]
    pub fn start_agent(&self, programs: &Programs, name: &str) -> Process {
        let mut process = self.start_agent_unready(programs, name);
        process.wait_for_line("Starting agent APIs", 1);
        process.wait_for("the agent to listen", || {
            UnixStream::connect(self.agent_socket(name)).is_ok()
        });
        process
    }

    /// A new agent `name` that joins by a fresh token as node `/node/NAME`; `server` made the running server.
    #[must_use]
    pub fn join(&self, server: &Programs, agent: &Programs, name: &str, more: &str) -> Process {
        self.configure_joining(server, name, more);
        self.start_agent(agent, name)
    }

    /// Writes the configuration file of an agent that is to join by a fresh token as node `/node/NAME`.
    pub fn configure_joining(&self, server: &Programs, name: &str, more: &str) {
        let alias = format!("spiffe://example.org/node/{name}");
        let printed = self.server_ok(server, &["token", "generate", "-spiffeID", &alias]);
        let token = printed.split_whitespace().nth(1).expect("a token").to_owned();
        self.configure_agent(
            server,
            name,
            "NodeAttestor \"join_token\" { plugin_data {} }",
            &format!("join_token = \"{token}\"\n  {more}"),
        );
    }

    /// Runs a server command with `input` on its standard input.
    #[must_use]
    pub fn server_cli_with(&self, programs: &Programs, arguments: &[&str], input: &str) -> Output {
        let mut command = Command::new(&programs.server);
        command.args(arguments).current_dir(self.folder());
        if !arguments.contains(&"-socketPath") {
            command.arg("-socketPath").arg(self.server_socket());
        }
        run(command, input)
    }

    /// Runs a server command.
    #[must_use]
    pub fn server_cli(&self, programs: &Programs, arguments: &[&str]) -> Output {
        self.server_cli_with(programs, arguments, "")
    }

    /// Runs a server command that must succeed and returns what it printed.
    #[must_use]
    pub fn server_ok(&self, programs: &Programs, arguments: &[&str]) -> String {
        let output = self.server_cli(programs, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        String::from_utf8(output.stdout).expect("output is UTF-8")
    }

    /// Runs an agent command against the public socket of agent `name`, or its admin socket where the command needs it.
    #[must_use]
    pub fn agent_cli(&self, programs: &Programs, name: &str, arguments: &[&str]) -> Output {
        let socket = match arguments.first() {
            Some(&("debug" | "logger")) => self.admin_socket(name),
            _ => self.agent_socket(name),
        };
        let mut command = Command::new(&programs.agent);
        command.args(arguments).current_dir(self.folder());
        if !arguments.contains(&"-socketPath") {
            command.arg("-socketPath").arg(socket);
        }
        run(command, "")
    }

    /// Registers `/NAME` for this user below agent `node` and returns the entry's id.
    pub fn entry(&self, programs: &Programs, node: &str, name: &str, more: &[&str]) -> String {
        let parent = format!("spiffe://example.org/node/{node}");
        let id = format!("spiffe://example.org/{name}");
        let selector = format!("unix:uid:{}", user());
        let mut arguments = vec!["entry", "create", "-parentID", &parent, "-spiffeID", &id];
        arguments.extend_from_slice(&["-selector", &selector]);
        arguments.extend_from_slice(more);
        let printed = self.server_ok(programs, &arguments);
        let line = printed
            .lines()
            .find(|line| line.starts_with("Entry ID"))
            .expect("an entry id");
        line.split_once(": ").expect("a value").1.to_owned()
    }

    /// Waits until agent `name` serves an X.509-SVID of `/id` to this process, and returns what its CLI prints.
    pub fn wait_for_svid(&self, programs: &Programs, name: &str, id: &str) -> String {
        let id = format!("spiffe://example.org/{id}\n");
        wait_until(
            &format!("{name} serves {}", id.trim()),
            Duration::from_secs(30),
            || {
                let output = self.agent_cli(programs, name, &["api", "fetch", "x509"]);
                let text = String::from_utf8_lossy(&output.stdout).into_owned();
                text.contains(&id).then_some(text)
            },
        )
    }
}

impl Drop for Site {
    /// A failed test shows how its programs ended; their folder goes with the site.
    fn drop(&mut self) {
        if std::thread::panicking() {
            show_logs(self.folder());
        }
    }
}

#[expect(clippy::print_stderr, reason = "a failed test shows the logs of its programs")]
fn show_logs(folder: &Path) {
    for path in fs::read_dir(folder)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|e| e == "log"))
    {
        let text = fs::read_to_string(&path).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
        eprintln!("--- {}\n{}", path.display(), tail.join("\n"));
    }
}

/// Status, standard output and standard error of a finished command, for messages of failed assertions.
#[must_use]
pub fn said(output: &Output) -> String {
    format!(
        "{}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    )
}

/// The effective uid, as the `unix` attestor names it.
fn user() -> u32 {
    use std::os::unix::fs::MetadataExt;
    fs::metadata("/proc/self").expect("stat this process").uid()
}

fn run(mut command: Command, input: &str) -> Output {
    use std::io::Write;
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("run the command line");
    // A command that doesn't read its input may have ended by now.
    drop(child.stdin.take().expect("a pipe").write_all(input.as_bytes()));
    child.wait_with_output().expect("wait for the command line")
}
