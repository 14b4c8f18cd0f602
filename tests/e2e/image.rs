//! The programs as an image has them: alone in their file system, process 1, the server as an ordinary user.
//!
//! The binary is the one under test with the libraries it is linked to, or the static one that `CREDENCE_IMAGE_BINARY`
//! names. Namespaces stand in for a container engine; they need root.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use credence_test_support::{Process, counterparts};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::{CREDENCE, said};

const NAME: &str = "namespaces";
/// The user of the server's image.
const USER: u32 = 1000;

/// The file system of an image.
struct Image {
    root: PathBuf,
    program: &'static str,
    user: u32,
}

impl Image {
    fn make(folder: &Path, program: &'static str, user: u32) -> Self {
        let root = folder.join(program);
        let binary = std::env::var_os("CREDENCE_IMAGE_BINARY").map_or(CREDENCE.into(), PathBuf::from);
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/image/layout.sh");
        let made = Command::new(script).arg(&binary).arg(program).arg(&root).output();
        let made = made.expect("run the script");
        assert!(made.status.success(), "{}", said(&made));
        for library in libraries(&binary) {
            let to = root.join(library.strip_prefix("/").expect("an absolute path"));
            fs::create_dir_all(to.parent().expect("a folder")).expect("make a folder");
            fs::copy(&library, to).expect("copy a library");
        }
        // What an engine gives every container. A static binary asks these files, and not the C library, for randomness.
        for folder in ["proc", "dev"] {
            fs::create_dir_all(root.join(folder)).expect("make a folder");
        }
        for (device, number) in [("random", "8"), ("urandom", "9")] {
            let mut command = Command::new("mknod");
            command.args(["-m", "666"]).arg(root.join("dev").join(device));
            let made = command.args(["c", "1", number]).output().expect("run mknod");
            assert!(made.status.success(), "{}", said(&made));
        }
        for folder in ["", "opt", "opt/spire"] {
            chown(root.join(folder), Some(user), Some(user)).expect("chown");
        }
        Self { root, program, user }
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.root.join(path);
        fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        fs::write(&path, text).expect("write a file");
    }

    /// Starts the program as a container engine does.
    fn start(&self) -> Contained {
        let mut command = Command::new("unshare");
        command.args([
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--wd=/opt/spire",
        ]);
        command.arg(format!("--root={}", self.root.display()));
        command.args([
            format!("--setuid={}", self.user),
            format!("--setgid={}", self.user),
        ]);
        command.arg(format!("/opt/spire/bin/{}", self.program));
        command.args(["run", "-config", "conf.conf"]);
        let mut process = Process::spawn(command, &self.root.with_extension("log"));
        let children = format!("/proc/{0}/task/{0}/children", process.pid());
        let mut pid = None;
        process.wait_for("the program to be started", || {
            let found = fs::read_to_string(&children).unwrap_or_default();
            pid = found.split_whitespace().next().and_then(|pid| pid.parse().ok());
            pid.is_some()
        });
        let pid = Pid::from_raw(pid.expect("a pid"));
        Contained { process, pid }
    }
}

/// A program that runs as process 1 of its namespace.
struct Contained {
    process: Process,
    pid: Pid,
}

impl Contained {
    /// Runs the program's command line in the container, as that user.
    fn exec(&self, image: &Image, user: u32, arguments: &[&str]) -> Output {
        let mut command = Command::new("nsenter");
        command.args(["--pid", "--mount", "--root", "--wd"]);
        command.arg(format!("--target={}", self.pid));
        command.args([format!("--setuid={user}"), "--setgid=0".to_owned()]);
        command.arg(format!("/opt/spire/bin/{}", image.program));
        command.args(arguments).output().expect("run nsenter")
    }

    fn ok(&self, image: &Image, user: u32, arguments: &[&str]) -> String {
        let output = self.exec(image, user, arguments);
        assert!(
            output.status.success(),
            "{arguments:?}: {}\n{}",
            said(&output),
            self.process.output()
        );
        String::from_utf8(output.stdout).expect("output is UTF-8")
    }

    /// SIGTERM, which the kernel ignores for process 1 unless it is waited for.
    fn stop(mut self) {
        let began = Instant::now();
        kill(self.pid, Signal::SIGTERM).expect("signal the program");
        let status = self.process.wait(Duration::from_secs(5));
        assert!(status.success(), "{status}: {}", self.process.output());
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    }

    fn kill(mut self) {
        kill(self.pid, Signal::SIGKILL).expect("signal the program");
        assert!(!self.process.wait(Duration::from_secs(5)).success());
    }
}

/// What the binary is linked to; nothing if it is static.
fn libraries(binary: &Path) -> Vec<PathBuf> {
    let listed = Command::new("ldd").arg(binary).output().expect("run ldd");
    let listed = String::from_utf8_lossy(&listed.stdout).into_owned();
    let words = listed.split_whitespace().filter(|word| word.starts_with('/'));
    words.map(PathBuf::from).filter(|path| path.is_file()).collect()
}

fn port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
    listener.expect("find a free port").port()
}

fn server_conf(port: u16) -> String {
    format!(
        "server {{ trust_domain = \"example.org\" bind_address = \"127.0.0.1\" bind_port = {port} \
         data_dir = \"/opt/spire/data/server\" log_level = \"DEBUG\" }}\n\
         plugins {{ DataStore \"sql\" {{ plugin_data {{ database_type = \"sqlite3\" \
         connection_string = \"/opt/spire/data/server/datastore.sqlite3\" }} }}\n\
         KeyManager \"disk\" {{ plugin_data {{ keys_path = \"/opt/spire/data/server/keys.json\" }} }}\n\
         NodeAttestor \"join_token\" {{ plugin_data {{}} }} }}\n"
    )
}

fn agent_conf(port: u16, token: &str) -> String {
    format!(
        "agent {{ trust_domain = \"example.org\" server_address = \"127.0.0.1\" server_port = {port} \
         data_dir = \"/opt/spire/data/agent\" log_level = \"DEBUG\" trust_bundle_path = \"bundle.pem\" \
         join_token = \"{token}\" }}\n\
         plugins {{ KeyManager \"disk\" {{ plugin_data {{ directory = \"/opt/spire/data/agent\" }} }}\n\
         NodeAttestor \"join_token\" {{ plugin_data {{}} }}\nWorkloadAttestor \"unix\" {{ plugin_data {{}} }} }}\n"
    )
}

#[test]
fn alone_in_a_file_system_as_process_1_server_and_agent_run_stop_and_start_again() {
    if !geteuid().is_root() || !counterparts::installed(NAME, "unshare") {
        counterparts::record(
            NAME,
            "SKIPPED: entering namespaces is not installed for this user",
        );
        return;
    }
    let folder = tempfile::tempdir().expect("make a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    let (image, port) = (Image::make(folder.path(), "spire-server", USER), port());
    image.write("opt/spire/conf.conf", &server_conf(port));
    let ready = |mut server: Contained| {
        server.process.wait_for_line("Starting Server APIs", 2);
        server
    };
    let server = ready(image.start());
    let healthy = |server: &Contained, user| server.ok(&image, user, &["healthcheck"]);
    assert_eq!(healthy(&server, USER).trim(), "Server is healthy.");
    assert_eq!(healthy(&server, 0).trim(), "Server is healthy.");
    assert!(image.root.join("opt/spire/data/server/keys.json").exists());
    assert!(!image.root.join("etc/passwd").exists() && !image.root.join("bin/sh").exists());
    server.stop();
    // A container that is killed keeps its sockets, and starts again on the same file system.
    ready(image.start()).kill();
    assert!(image.root.join("tmp/spire-server/private/api.sock").exists());
    let server = ready(image.start());
    drop(healthy(&server, USER));

    let alias = "spiffe://example.org/node/one";
    let printed = server.ok(&image, USER, &["token", "generate", "-spiffeID", alias]);
    let token = printed.split_whitespace().nth(1).expect("a token");
    let id = "spiffe://example.org/web";
    let create = [
        "entry",
        "create",
        "-parentID",
        alias,
        "-spiffeID",
        id,
        "-selector",
        "unix:uid:1001",
    ];
    drop(server.ok(&image, USER, &create));
    let nodes = Image::make(folder.path(), "spire-agent", 0);
    nodes.write("opt/spire/conf.conf", &agent_conf(port, token));
    nodes.write(
        "opt/spire/bundle.pem",
        &server.ok(&image, USER, &["bundle", "show"]),
    );
    let serves = |mut agent: Contained| {
        agent.process.wait_for_line("Starting agent APIs", 1);
        let fetched = agent.ok(&nodes, 1001, &["api", "fetch", "x509", "-timeout", "20s"]);
        assert!(fetched.contains(id), "{fetched}");
        agent
    };
    serves(nodes.start()).stop();
    serves(nodes.start()).kill();
    serves(nodes.start()).stop();
    server.stop();
    counterparts::record(NAME, "ran");
}
