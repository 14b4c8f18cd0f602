//! The software that the documentation names, on files that change under it: no handshake fails, and the new certificate is
//! served without a restart.

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use credence_test_support::{Lab, Process, counterparts, wait_until};

use super::{Helper, SOON, TRIO, lab_with_identity};
use crate::{CREDENCE, said};

/// Lifetime of the SVIDs in seconds: long enough for a busy machine, short enough for three of them in a test.
const TTL: &str = "6";

fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    listener.local_addr().expect("an address").port()
}

/// The serial number of the certificate that is served, if a handshake with both sides' certificates succeeds.
fn served(lab: &Lab, dir: &Path, port: u16, more: &[&str]) -> Result<String, String> {
    // Read at once: OpenSSL opens a file twice for certificate and key.
    let own = lab.dir().join("client.pem");
    fs::copy(dir.join("all.pem"), &own).map_err(|error| error.to_string())?;
    let output = Command::new("openssl")
        .args(["s_client", "-verify_return_error", "-connect"])
        .arg(format!("127.0.0.1:{port}"))
        .arg("-CAfile")
        .arg(dir.join("svid_bundle.pem"))
        .arg("-cert")
        .arg(&own)
        .arg("-key")
        .arg(&own)
        .args(more)
        .stdin(Stdio::null())
        .output()
        .expect("run openssl");
    if !output.status.success() {
        return Err(said(&output));
    }
    let leaf = lab.dir().join("served.pem");
    fs::write(&leaf, &output.stdout).expect("write");
    let serial = Command::new("openssl")
        .args(["x509", "-noout", "-serial", "-in"])
        .arg(&leaf)
        .output()
        .expect("run openssl");
    Ok(String::from_utf8_lossy(&serial.stdout).trim().to_owned())
}

/// Waits until three certificates have been served, and no handshake failed in between.
fn three_are_served(lab: &Lab, dir: &Path, port: u16, more: &[&str]) {
    wait_until("it serves", SOON, || served(lab, dir, port, more).ok());
    let (began, mut seen) = (Instant::now(), BTreeSet::new());
    while seen.len() < 3 {
        assert!(
            began.elapsed() < Duration::from_secs(30),
            "{} certificates in 30 s",
            seen.len()
        );
        match served(lab, dir, port, more) {
            Ok(serial) => drop(seen.insert(serial)),
            Err(error) => panic!("after {} certificates: {error}", seen.len()),
        }
    }
}

fn spawn(lab: &Lab, name: &str, command: Command) -> Process {
    Process::spawn(command, &lab.dir().join(format!("{name}.log")))
}

#[test]
fn nginx_reloads_separate_files() {
    if !counterparts::installed("nginx", "nginx") {
        return;
    }
    let (lab, _server, _agent) = lab_with_identity(&["-x509SVIDTTL", TTL]);
    let (port, pid) = (free_port(), lab.dir().join("nginx.pid"));
    let more = format!(
        "{TRIO}svid_combined_file_name = \"all.pem\"\nrenew_signal = \"SIGHUP\"\npid_file_name = \"{}\"\n",
        pid.display()
    );
    let helper = Helper::new(&lab, "nginx", &more);
    let running = helper.start(&[]);
    helper.wait_for("all.pem");
    let (conf, dir) = (lab.dir().join("nginx.conf"), helper.dir.display());
    let user = if nix::unistd::geteuid().is_root() {
        "user root;"
    } else {
        ""
    };
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {}/{name};", lab.dir().display()))
        .concat();
    let text = format!(
        "{user} daemon off; pid {}; error_log stderr; events {{}}\nhttp {{ access_log off; {temporary}\n\
         server {{ listen 127.0.0.1:{port} ssl; ssl_certificate {dir}/svid.pem; ssl_certificate_key {dir}/svid_key.pem;\n\
         ssl_client_certificate {dir}/svid_bundle.pem; ssl_verify_client on; }} }}",
        pid.display()
    );
    fs::write(&conf, text).expect("write");
    let mut command = Command::new("nginx");
    command.arg("-p").arg(lab.dir()).arg("-c").arg(&conf);
    let nginx = spawn(&lab, "nginx", command);
    three_are_served(&lab, &helper.dir, port, &[]);
    assert!(nginx.stop().success());
    assert!(running.stop().success());
    counterparts::record("nginx", "ran");
}

#[test]
fn redis_takes_separate_files_by_a_command() {
    if !counterparts::installed("redis", "redis-server") {
        return;
    }
    let (lab, _server, _agent) = lab_with_identity(&["-x509SVIDTTL", TTL]);
    let port = free_port();
    let root = lab.dir().canonicalize().expect("a real path").join("redis");
    let dir = root.display().to_string();
    let socket = lab.dir().join("redis.sock");
    let arguments = format!(
        "-s {} CONFIG SET tls-cert-file {dir}/svid.pem tls-key-file {dir}/svid_key.pem tls-ca-cert-file {dir}/svid_bundle.pem",
        socket.display()
    );
    let more = format!(
        "{TRIO}svid_combined_file_name = \"all.pem\"\ncmd = \"redis-cli\"\ncmd_args = \"{arguments}\"\n"
    );
    let helper = Helper::new(&lab, "redis", &more);
    let running = helper.start(&[]);
    helper.wait_for("all.pem");
    let mut command = Command::new("redis-server");
    command.args([
        "--port",
        "0",
        "--save",
        "",
        "--tls-port",
        &port.to_string(),
        "--unixsocket",
    ]);
    command.arg(&socket).arg("--dir").arg(lab.dir());
    for (name, file) in [
        ("cert", "svid.pem"),
        ("key", "svid_key.pem"),
        ("ca-cert", "svid_bundle.pem"),
    ] {
        command
            .arg(format!("--tls-{name}-file"))
            .arg(format!("{dir}/{file}"));
    }
    let redis = spawn(&lab, "redis-server", command);
    three_are_served(&lab, &helper.dir, port, &[]);
    assert!(redis.stop().success());
    assert!(running.stop().success());
    counterparts::record("redis", "ran");
}

#[test]
fn haproxy_reloads_the_combined_file() {
    if !counterparts::installed("haproxy", "haproxy") {
        return;
    }
    let (lab, _server, _agent) = lab_with_identity(&["-x509SVIDTTL", TTL]);
    let (port, pid) = (free_port(), lab.dir().join("haproxy.pid"));
    let more = format!(
        "svid_bundle_file_name = \"svid_bundle.pem\"\nsvid_combined_file_name = \"all.pem\"\nrenew_signal = \"SIGUSR2\"\n\
         pid_file_name = \"{}\"\n",
        pid.display()
    );
    let helper = Helper::new(&lab, "haproxy", &more);
    let running = helper.start(&[]);
    helper.wait_for("all.pem");
    let (conf, dir) = (lab.dir().join("haproxy.cfg"), helper.dir.display());
    let text = format!(
        "defaults\n  mode http\n  timeout client 5s\n  timeout server 5s\n  timeout connect 5s\nfrontend tls\n  \
         bind 127.0.0.1:{port} ssl crt {dir}/all.pem ca-file {dir}/svid_bundle.pem verify required\n  \
         http-request return status 200\n"
    );
    fs::write(&conf, text).expect("write");
    let mut command = Command::new("haproxy");
    command.args(["-W", "-db", "-f"]).arg(&conf).arg("-p").arg(&pid);
    let haproxy = spawn(&lab, "haproxy", command);
    three_are_served(&lab, &helper.dir, port, &[]);
    // Some versions tell the end of their worker by it.
    assert!(matches!(haproxy.stop().code(), Some(0 | 143)));
    assert!(running.stop().success());
    counterparts::record("haproxy", "ran");
}

/// By a block of the agent, for the user that the database runs as.
#[test]
fn postgresql_reloads_the_files_of_its_own_user() {
    let programs = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten();
    let programs = programs
        .map(|entry| entry.path().join("bin"))
        .find(|path| path.join("initdb").exists());
    let user = nix::unistd::User::from_name("postgres").ok().flatten();
    let (Some(programs), Some(user), true) = (programs, user, nix::unistd::geteuid().is_root()) else {
        let why = "SKIPPED: the server is not installed, or acting as its user is not possible";
        return counterparts::record("postgresql", why);
    };
    let as_postgres = |program: &str| {
        let mut command = Command::new(programs.join(program));
        std::os::unix::process::CommandExt::uid(&mut command, user.uid.as_raw());
        std::os::unix::process::CommandExt::gid(&mut command, user.gid.as_raw());
        command
    };
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let root = lab.dir().canonicalize().expect("a real path");
    let (dir, data, port) = (root.join("tls"), root.join("data"), free_port());
    for dir in [&dir, &data] {
        fs::create_dir(dir).expect("make a folder");
        std::os::unix::fs::chown(dir, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
    }
    let made = as_postgres("initdb")
        .arg("-D")
        .arg(&data)
        .args(["-A", "trust", "-N"])
        .current_dir(&data)
        .output();
    let made = made.expect("run initdb");
    assert!(made.status.success(), "{}", said(&made));
    let pid = data.join("external.pid");
    let block = format!(
        "files \"database\" {{\n spiffe_id = \"spiffe://example.org/database\"\n cert_dir = \"{}\"\n owner = \"postgres\"\n\
         {TRIO} svid_combined_file_name = \"all.pem\"\n renew_signal = \"SIGHUP\"\n pid_file_name = \"{}\"\n }}",
        dir.display(),
        pid.display()
    );
    let printed = lab.ok(&["token", "generate", "-spiffeID", "spiffe://example.org/node/node"]);
    let token = printed.split_whitespace().nth(1).expect("a token");
    let health = free_port();
    let attestor = format!(
        "NodeAttestor \"join_token\" {{ plugin_data {{}} }}\n}}\nhealth_checks {{ listener_enabled = true bind_port = {health} }}\n\
         plugins {{"
    );
    drop(lab.agent_config("node", &attestor, &format!("join_token = \"{token}\"\n{block}")));
    let agent = lab.agent_again("node");
    wait_until("the agent attested", SOON, || {
        lab.ok(&["agent", "count"]).starts_with("1 ").then_some(())
    });
    lab.entry("node", "database", &["-x509SVIDTTL", TTL]);
    wait_until("the files are there", SOON, || {
        dir.join("all.pem").exists().then_some(())
    });

    let mut command = as_postgres("postgres");
    command.arg("-D").arg(&data).current_dir(&data);
    let setting = |command: &mut Command, name: &str, value: String| {
        command.arg("-c").arg(format!("{name}={value}"));
    };
    setting(&mut command, "listen_addresses", "127.0.0.1".to_owned());
    setting(&mut command, "port", port.to_string());
    setting(&mut command, "unix_socket_directories", String::new());
    setting(&mut command, "external_pid_file", pid.display().to_string());
    setting(&mut command, "ssl", "on".to_owned());
    for (name, file) in [
        ("cert", "svid.pem"),
        ("key", "svid_key.pem"),
        ("ca", "svid_bundle.pem"),
    ] {
        setting(
            &mut command,
            &format!("ssl_{name}_file"),
            dir.join(file).display().to_string(),
        );
    }
    let database = spawn(&lab, "postgres", command);
    three_are_served(&lab, &dir, port, &["-starttls", "postgres"]);

    // A folder that can't be written to any more shows where the agent's health is asked for, and hurts nobody else.
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
    wait_until("the agent reports it", SOON, || {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", health)).expect("connect");
        std::io::Write::write_all(&mut stream, b"GET /ready HTTP/1.1\r\n\r\n").expect("ask");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
        let reported =
            answer.contains(r#""files":{"error":""#) && answer.contains("may be written to by every user");
        (reported && answer.starts_with("HTTP/1.1 200 ")).then_some(())
    });
    assert!(database.stop().success());
    assert!(agent.stop().success());
    counterparts::record("postgresql", "ran");
}
