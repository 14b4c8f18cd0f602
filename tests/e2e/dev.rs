//! The first minute: `credence dev`.

use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::Signal;

use credence_test_support::Process;

use crate::{CREDENCE, said};

#[test]
fn dev_runs_a_command_with_an_identity_and_ends_with_its_status() {
    let script = "test -S \"${SPIFFE_ENDPOINT_SOCKET#unix://}\" && \"$0\" agent api fetch x509 \
                  -socketPath \"${SPIFFE_ENDPOINT_SOCKET#unix://}\" && exit 7";
    let output = Command::new(CREDENCE)
        .args(["dev", "--", "sh", "-c", script, CREDENCE])
        .output()
        .expect("run dev");
    assert_eq!(output.status.code(), Some(7), "{}", said(&output));
    assert!(
        String::from_utf8_lossy(&output.stdout).contains("spiffe://"),
        "{}",
        said(&output)
    );
}

#[test]
fn dev_says_what_it_issued_and_cleans_up() {
    let log = tempfile::NamedTempFile::new().expect("make a log");
    let mut command = Command::new(CREDENCE);
    command.args(["dev", "--json", "--trust-domain", "first.minute", "--ttl", "1m"]);
    let mut dev = Process::spawn(command, log.path());
    dev.wait_for_line("\"socket\"", 1);
    let text = dev.output();
    let line = text
        .lines()
        .find(|line| line.contains("\"socket\""))
        .expect("a line of JSON");
    let said: serde_json::Value = serde_json::from_str(line).expect("one line is one JSON object");
    assert!(
        said["spiffe_id"]
            .as_str()
            .is_some_and(|id| id.starts_with("spiffe://first.minute/")),
        "{said}"
    );
    let dir = said["dir"].as_str().expect("a folder").to_owned();
    let mode = std::fs::metadata(&dir)
        .expect("the folder exists")
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o700);
    dev.signal(Signal::SIGINT);
    assert!(dev.wait(Duration::from_secs(10)).success());
    assert!(!std::path::Path::new(&dir).exists(), "{dir} was left behind");
}

#[test]
fn a_kept_folder_keeps_its_authority() {
    let keep = tempfile::tempdir().expect("make a folder");
    let dir = keep.path().join("dev").display().to_string();
    let bundle = || {
        let output = Command::new(CREDENCE)
            .args([
                "dev",
                "--dir",
                &dir,
                "--",
                "sh",
                "-c",
                "\"$0\" server bundle show -socketPath \"$1\"",
                CREDENCE,
            ])
            .arg(format!("{dir}/server.sock"))
            .output()
            .expect("run dev");
        assert!(output.status.success(), "{}", said(&output));
        output.stdout
    };
    let first = bundle();
    assert!(!first.is_empty());
    assert_eq!(bundle(), first);
}
