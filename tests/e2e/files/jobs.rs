//! What follows a renewal: a signal, a command, a URL; and a command for whose sake it all is.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::Duration;

use credence_test_support::wait_until;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::{Helper, SOON, TRIO, lab_with_identity};
use crate::said;

const SHORT: &str = "4";

#[test]
fn renewals_signal_processes_run_commands_and_call_urls() {
    let (lab, _server, _agent) = lab_with_identity(&["-x509SVIDTTL", SHORT]);
    let listener = TcpListener::bind("127.0.0.1:0").expect("listen");
    let url = format!("http://{}/-/reload", listener.local_addr().expect("an address"));
    let called = std::thread::spawn(move || {
        // The first call fails, and is made again.
        let mut requests = Vec::new();
        for answer in ["500 Internal Server Error", "204 No Content"] {
            let (mut stream, _) = listener.accept().expect("a call");
            let mut request = [0; 1024];
            let length = stream.read(&mut request).expect("a request");
            requests.push(String::from_utf8_lossy(&request[..length]).into_owned());
            let answer = format!("HTTP/1.1 {answer}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).expect("answer");
        }
        requests
    });
    let (log, pid_file) = (lab.dir().join("told"), lab.dir().join("pid"));
    let script = lab.dir().join("loop.sh");
    let text = format!(
        "trap 'echo $1 told >> {0}' USR1\necho $1 began >> {0}\necho $$ > {0}.$1\nwhile :; do sleep 0.05; done\n",
        log.display()
    );
    fs::write(&script, text).expect("write");
    let script = script.display();
    let mut other = Command::new("sh")
        .args([&script.to_string(), "other"])
        .stdout(Stdio::null())
        .spawn()
        .expect("run a process");
    fs::write(&pid_file, format!("{}\n", other.id())).expect("write");
    let more = format!(
        "{TRIO}cmd = \"sh\"\ncmd_args = \"{script} own\"\nrenew_signal = \"SIGUSR1\"\npid_file_name = \"{}\"\n\
         renew_url = \"{url}\"\n",
        pid_file.display()
    );
    let helper = Helper::new(&lab, "hooks", &more);
    let running = helper.start(&[]);
    let lines = wait_until("both were told twice", SOON, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        let told = |who: &str| text.matches(&format!("{who} told")).count() >= 2;
        (told("own") && told("other")).then_some(text)
    });
    assert_eq!(
        lines.matches("own began").count(),
        1,
        "a running command is signalled, not started again: {lines}"
    );
    let requests = called.join().expect("the listener");
    assert!(
        requests
            .iter()
            .all(|request| request.starts_with("POST /-/reload HTTP/1.1")),
        "{requests:?}"
    );
    other.kill().expect("kill");
    other.wait().expect("reap");
    // The command goes on when this program ends, as with spiffe-helper.
    assert!(running.stop().success());
    let own = fs::read_to_string(log.with_extension("own")).expect("its number");
    let own = Pid::from_raw(own.trim().parse().expect("a number"));
    kill(own, Signal::SIGKILL).expect("it still runs");
}

/// A short command is started anew at each renewal.
#[test]
fn a_command_that_has_ended_is_run_again() {
    let (lab, _server, _agent) = lab_with_identity(&["-x509SVIDTTL", SHORT]);
    let log = lab.dir().join("ran");
    let more = format!(
        "{TRIO}cmd = \"sh\"\ncmd_args = \"-c \\\"echo ran >> {}\\\"\"\nrenew_signal = \"\"\n",
        log.display()
    );
    let helper = Helper::new(&lab, "again", &more);
    let running = helper.start(&[]);
    wait_until("it ran three times", SOON, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        (text.matches("ran").count() >= 3).then_some(())
    });
    assert!(running.stop().success());
}

#[test]
fn a_job_starts_with_its_files_and_ends_with_its_status() {
    let (lab, _server, _agent) = lab_with_identity(&["-x509SVIDTTL", SHORT]);
    let helper = Helper::new(&lab, "job", &format!("{TRIO}renew_signal = \"SIGHUP\"\n"));
    let dir = helper.dir.display();
    let mut job = helper.command(&[
        "--",
        "sh",
        "-c",
        &format!("cat; test -s {dir}/svid_key.pem && exit 42"),
    ]);
    let mut job = job
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("run the job");
    job.stdin
        .take()
        .expect("its input")
        .write_all(b"passed on")
        .expect("write");
    let output = job.wait_with_output().expect("its end");
    assert_eq!(
        (output.status.code(), output.stdout.as_slice()),
        (Some(42), &b"passed on"[..]),
        "{}",
        said(&output)
    );

    // Signals reach it, and a renewal is one of them.
    let script =
        "trap 'echo renewed' HUP; trap 'echo ending; exit 7' TERM; echo began; while :; do sleep 0.05; done";
    let mut running = helper.start(&["--", "sh", "-c", script]);
    running.wait_for_line("began", 1);
    running.wait_for_line("renewed", 2);
    running.signal(Signal::SIGTERM);
    assert_eq!(running.wait(SOON).code(), Some(7), "{}", running.output());
    let killed = helper.run(&["--", "sh", "-c", "kill -9 $$"]);
    assert_eq!(killed.status.code(), Some(137), "{}", said(&killed));
    let missing = helper.run(&["--", "no-such-program"]);
    assert_eq!(missing.status.code(), Some(1), "{}", said(&missing));
    assert!(
        said(&missing).contains("unable to start the command"),
        "{}",
        said(&missing)
    );
}

/// A signal before the files are there ends the wait.
#[test]
fn a_job_that_has_not_begun_can_be_ended() {
    let lab = credence_test_support::Lab::new(crate::CREDENCE);
    let helper = Helper::new(&lab, "waiting", TRIO);
    let mut running = helper.start(&["--", "sh", "-c", "echo never"]);
    running.wait_for_line("trying again", 1);
    let pid = Pid::from_raw(i32::try_from(running.pid()).expect("a pid"));
    kill(pid, Signal::SIGTERM).expect("signal it");
    assert_eq!(running.wait(Duration::from_secs(5)).code(), Some(143));
    assert!(!running.output().contains("never"));
}
