//! One trust domain with its server and agents, in a temporary folder and on free ports.

use std::fs;
use std::net::TcpListener;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::process::Process;

/// What a test changes in the configuration files.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The key manager of server and agents: `disk` or `memory`.
    pub key_manager: &'static str,
    /// The log level of both.
    pub log_level: &'static str,
    /// Lines put into the `server` block.
    pub server: String,
    /// Blocks beside the `server` block.
    pub top: String,
    /// Whether the agent looks at a workload's executable (`discover_workload_path`).
    pub discover_workload_path: bool,
    /// Lines put into the `agent` block.
    pub agent: String,
    /// Variables set for server and agents.
    pub environment: Vec<(String, String)>,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            key_manager: "disk",
            log_level: "DEBUG",
            discover_workload_path: true,
            server: String::new(),
            top: String::new(),
            agent: String::new(),
            environment: Vec::new(),
        }
    }
}

/// A trust domain `example.org` whose programs are the binary under test.
#[derive(Debug)]
pub struct Lab {
    binary: PathBuf,
    dir: TempDir,
    data: PathBuf,
    port: u16,
    settings: Settings,
}

impl Lab {
    /// A lab around `binary`, with the default settings.
    #[must_use]
    pub fn new(binary: &str) -> Self {
        Self::with(binary, Settings::default())
    }

    /// A lab around `binary`.
    #[must_use]
    pub fn with(binary: &str, settings: Settings) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("credence-lab-")
            .tempdir()
            .expect("make a folder");
        // Workloads of other users must be able to reach the agent's socket.
        fs::set_permissions(dir.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .expect("find a free port")
            .port();
        let data = dir.path().join("server");
        Self {
            binary: binary.into(),
            dir,
            data,
            port,
            settings,
        }
    }

    /// The server's `data_dir`: store and keys.
    #[must_use]
    pub fn server_data(&self) -> &Path {
        &self.data
    }

    /// The lab's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The port of the server's TCP endpoint.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The server's private socket.
    #[must_use]
    pub fn server_socket(&self) -> PathBuf {
        self.dir.path().join("server/private/api.sock")
    }

    /// The public socket of agent `name`: several folders deep, as in the field.
    #[must_use]
    pub fn agent_socket(&self, name: &str) -> PathBuf {
        self.dir.path().join(name).join("run/spire/public/api.sock")
    }

    /// The address of agent `name` as `SPIFFE_ENDPOINT_SOCKET` wants it.
    #[must_use]
    pub fn workload_api(&self, name: &str) -> String {
        format!("unix://{}", self.agent_socket(name).display())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.log"))
    }

    fn key_manager(&self, option: &str) -> String {
        match self.settings.key_manager {
            "disk" => format!("KeyManager \"disk\" {{ plugin_data {{ {option} }} }}"),
            other => format!("KeyManager \"{other}\" {{ plugin_data {{}} }}"),
        }
    }

    fn daemon(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.envs(
            self.settings
                .environment
                .iter()
                .map(|(name, value)| (name, value)),
        );
        command
    }

    /// Writes the server's configuration file and returns its path.
    #[must_use]
    pub fn server_config(&self) -> PathBuf {
        let dir = self.dir.path().display();
        let path = self.dir.path().join("server.conf");
        let text = format!(
            "server {{\n  trust_domain = \"example.org\"\n  bind_address = \"127.0.0.1\"\n  bind_port = {port}\n  \
             data_dir = \"{dir}/server\"\n  socket_path = \"{socket}\"\n  log_level = \"{level}\"\n  \
             ratelimit {{\n    attestation = false\n  }}\n  {more}\n}}\n\
             plugins {{\n  DataStore \"sql\" {{ plugin_data {{ database_type = \"sqlite3\" \
             connection_string = \"{dir}/server/datastore.sqlite3\" }} }}\n  {keys}\n  {attestor}\n}}\n{top}\n",
            port = self.port,
            level = self.settings.log_level,
            socket = self.server_socket().display(),
            top = self.settings.top,
            more = self.settings.server,
            keys = self.key_manager(&format!("keys_path = \"{dir}/server/keys.json\"")),
            attestor = self.x509pop_roots().map_or(String::new(), |roots| format!(
                "NodeAttestor \"x509pop\" {{ plugin_data {{ ca_bundle_path = \"{}\" }} }}",
                roots.display()
            )),
        );
        fs::write(&path, text).expect("write server.conf");
        path
    }

    /// `x509pop-ca.pem` in the lab's folder, once a test has put it there, is what the server trusts for `x509pop`.
    fn x509pop_roots(&self) -> Option<PathBuf> {
        let path = self.dir.path().join("x509pop-ca.pem");
        path.exists().then_some(path)
    }

    /// Starts the server and waits until both its endpoints answer.
    #[must_use]
    pub fn server(&self) -> Process {
        let mut process = self.server_unready();
        process.wait_for_line("Starting Server APIs", 2);
        process
    }

    /// Starts the server and doesn't wait.
    #[must_use]
    pub fn server_unready(&self) -> Process {
        let mut command = self.daemon();
        command
            .args(["server", "run", "-config"])
            .arg(self.server_config());
        Process::spawn(command, &self.log("server"))
    }

    /// Writes the configuration file of agent `name` and returns its path.
    ///
    /// The trust bundle is what the running server publishes, or the one of an earlier call.
    #[must_use]
    pub fn agent_config(&self, name: &str, attestor: &str, more: &str) -> PathBuf {
        let folder = self.dir.path().join(name);
        fs::create_dir_all(&folder).expect("make the agent's folder");
        let bundle = self.dir.path().join("bundle.pem");
        if !bundle.exists() {
            fs::write(&bundle, self.ok(&["bundle", "show"])).expect("write the bundle");
        }
        let path = folder.join("agent.conf");
        let text = format!(
            "agent {{\n  trust_domain = \"example.org\"\n  server_address = \"127.0.0.1\"\n  server_port = {port}\n  \
             data_dir = \"{dir}/data\"\n  socket_path = \"{socket}\"\n  trust_bundle_path = \"{bundle}\"\n  \
             log_level = \"{level}\"\n  {more}\n  {extra}\n}}\nplugins {{\n  {keys}\n  {attestor}\n  \
             WorkloadAttestor \"unix\" {{ plugin_data {{ discover_workload_path = {discover} }} }}\n}}\n",
            port = self.port,
            level = self.settings.log_level,
            dir = folder.display(),
            discover = self.settings.discover_workload_path,
            socket = self.agent_socket(name).display(),
            bundle = bundle.display(),
            extra = self.settings.agent,
            keys = self.key_manager(&format!("directory = \"{}/data\"", folder.display())),
        );
        fs::write(&path, text).expect("write agent.conf");
        path
    }

    /// Starts agent `name` with a fresh join token that gives it the node identity `/node/NAME`.
    #[must_use]
    pub fn agent(&self, name: &str) -> Process {
        let printed = self.ok(&[
            "token",
            "generate",
            "-spiffeID",
            &format!("spiffe://example.org/node/{name}"),
        ]);
        let token = printed.split_whitespace().nth(1).expect("a token").to_owned();
        drop(self.agent_config(
            name,
            "NodeAttestor \"join_token\" { plugin_data {} }",
            &format!("join_token = \"{token}\""),
        ));
        let mut process = self.agent_again(name);
        process.wait_for(&format!("agent {name} to listen"), || {
            UnixStream::connect(self.agent_socket(name)).is_ok()
        });
        process
    }

    /// Starts agent `name` from the configuration that is there, and doesn't wait.
    #[must_use]
    pub fn agent_again(&self, name: &str) -> Process {
        let mut command = self.daemon();
        command
            .args(["agent", "run", "-config"])
            .arg(self.dir.path().join(name).join("agent.conf"));
        Process::spawn(command, &self.log(name))
    }

    /// Runs a server command against the server's socket.
    #[must_use]
    pub fn cli(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.binary);
        command
            .arg("server")
            .args(arguments)
            .arg("-socketPath")
            .arg(self.server_socket());
        command.output().expect("run the command line")
    }

    /// Runs a server command that must succeed and returns what it printed.
    #[must_use]
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
        String::from_utf8(output.stdout).expect("output is UTF-8")
    }

    /// Runs an agent command against the public socket of agent `name`.
    #[must_use]
    pub fn agent_cli(&self, name: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new(&self.binary);
        command
            .arg("agent")
            .args(arguments)
            .arg("-socketPath")
            .arg(self.agent_socket(name));
        command.output().expect("run the command line")
    }

    /// Registers `/NAME` for this user under agent `node` and returns the entry's id.
    pub fn entry(&self, node: &str, name: &str, more: &[&str]) -> String {
        let uid = nix::unistd::geteuid();
        let parent = format!("spiffe://example.org/node/{node}");
        let id = format!("spiffe://example.org/{name}");
        let selector = format!("unix:uid:{uid}");
        let mut arguments = vec![
            "entry",
            "create",
            "-parentID",
            &parent,
            "-spiffeID",
            &id,
            "-selector",
            &selector,
        ];
        arguments.extend_from_slice(more);
        let printed = self.ok(&arguments);
        let line = printed
            .lines()
            .find(|line| line.starts_with("Entry ID"))
            .expect("an entry id");
        line.split_once(": ").expect("a value").1.to_owned()
    }
}

impl Drop for Lab {
    /// A failed test shows how its programs ended; their folder goes with the lab.
    fn drop(&mut self) {
        if !std::thread::panicking() {
            return;
        }
        let logs = fs::read_dir(self.dir.path()).into_iter().flatten().flatten();
        for path in logs
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|e| e == "log"))
        {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let lines: Vec<&str> = text.lines().collect();
            let tail = lines.get(lines.len().saturating_sub(40)..).unwrap_or_default();
            eprintln!("--- {}\n{}", path.display(), tail.join("\n"));
        }
    }
}
