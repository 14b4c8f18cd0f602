//! What is on disk: right, whole at any moment, and by nobody but its owner.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use credence_test_support::{Lab, counterparts, wait_until};
use nix::sys::signal::Signal;
use serde_json::Value;

use super::{Helper, SOON, TRIO, generation, lab_with_identity, openssl_accepts};
use crate::{CREDENCE, said};

/// Lifetime of the SVIDs of tests that wait for renewals, in seconds.
const SHORT: &str = "4";

#[test]
fn files_are_written_once_as_spiffe_helper_writes_them() {
    let (lab, _server, _agent) = lab_with_identity(&[]);
    let more = format!(
        "{TRIO}svid_combined_file_name = \"all.pem\"\njwt_bundle_file_name = \"jwt_bundle.json\"\n\
         jwt_svids = [{{jwt_audience=\"a\", jwt_extra_audiences=[\"b\"], jwt_svid_file_name=\"jwt_svid.token\"}}]\n\
         cert_file_mode = 0640\nkey_file_mode = 0400\ndaemon_mode = false\n"
    );
    let helper = Helper::new(&lab, "once", &more);
    let output = helper.run(&[]);
    assert!(output.status.success(), "{}", said(&output));
    assert!(output.stdout.is_empty(), "{}", said(&output));
    let path = |name: &str| helper.dir.join(name);
    openssl_accepts(&path("svid.pem"), &path("svid_key.pem"), &path("svid_bundle.pem"));
    openssl_accepts(&path("all.pem"), &path("all.pem"), &path("svid_bundle.pem"));
    let mode = |name: &str| fs::metadata(path(name)).expect("a file").mode() & 0o7777;
    assert_eq!(
        [
            "svid.pem",
            "svid_key.pem",
            "all.pem",
            "jwt_bundle.json",
            "jwt_svid.token"
        ]
        .map(mode),
        [0o640, 0o400, 0o400, 0o600, 0o600]
    );
    let token = helper.read("jwt_svid.token");
    for audience in ["a", "b"] {
        let line = ["api", "validate", "jwt", "-audience", audience, "-svid", &token];
        let validated = lab.agent_cli("node", &line);
        assert!(validated.status.success(), "{}", said(&validated));
    }
    let bundles: Value = serde_json::from_str(&helper.read("jwt_bundle.json")).expect("JSON");
    let keys = base64::Engine::decode(
        &base64::engine::general_purpose::STANDARD,
        bundles["example.org"].as_str().expect("a set"),
    );
    let keys: Value = serde_json::from_slice(&keys.expect("Base64")).expect("JSON");
    assert!(keys["keys"][0]["kid"].is_string(), "{keys}");
    // Nothing is left of the way there.
    let names = fs::read_dir(&helper.dir).expect("a folder").count();
    assert_eq!(
        names,
        3 + 2 + 3,
        "links, the generation with its link, single files"
    );

    // Whoever may write into the folder can't lead the writer elsewhere.
    let elsewhere = lab.dir().join("elsewhere");
    fs::write(&elsewhere, "untouched").expect("write");
    for name in ["svid.pem", "jwt_svid.token"] {
        fs::remove_file(path(name)).expect("remove");
        symlink(&elsewhere, path(name)).expect("link");
    }
    let output = helper.run(&["-daemon-mode=false"]);
    assert!(output.status.success(), "{}", said(&output));
    assert_eq!(fs::read_to_string(&elsewhere).expect("read"), "untouched");
    openssl_accepts(&path("svid.pem"), &path("svid_key.pem"), &path("svid_bundle.pem"));
    symlink(&helper.dir, lab.dir().join("way")).expect("link");
    let text = fs::read_to_string(&helper.conf).expect("read");
    let way = lab.dir().canonicalize().expect("a path").join("way");
    fs::write(
        &helper.conf,
        text.replace(&helper.dir.display().to_string(), &way.display().to_string()),
    )
    .expect("write");
    let output = helper.run(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("way is a symbolic link or no folder"),
        "{}",
        said(&output)
    );
}

#[test]
fn without_an_identity_nothing_is_written() {
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let _agent = lab.agent("node");
    let helper = Helper::new(&lab, "none", &format!("{TRIO}hint = \"other\"\n"));
    let mut running = helper.start(&[]);
    running.wait_for_line("Unable to watch the Workload API; trying again", 1);
    running.wait_for_line("no identity issued", 1);
    lab.entry("node", "first", &[]);
    running.wait_for_line("none of the identities of this process has that hint", 1);
    lab.entry("node", "second", &["-hint", "other"]);
    running.wait_for_line("X.509 certificates updated", 1);
    let shown = Command::new("openssl")
        .args(["x509", "-noout", "-ext", "subjectAltName", "-in"])
        .arg(helper.dir.join("svid.pem"))
        .output()
        .expect("run openssl");
    assert!(
        said(&shown).contains("spiffe://example.org/second"),
        "{}",
        said(&shown)
    );
    assert!(running.stop().success());
}

/// Key stores, judged by OpenSSL and by Java.
#[test]
fn key_stores_are_read_by_openssl_and_java() {
    let (lab, _server, _agent) = lab_with_identity(&[]);
    let password = lab.dir().join("password");
    fs::write(&password, "change it\n").expect("write");
    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o600)).expect("chmod");
    let more = format!(
        "{TRIO}pkcs12_file_name = \"store.p12\"\njks_file_name = \"java/store.jks\"\nkeystore_password_file = \"{}\"\n\
         daemon_mode = false\n",
        password.display()
    );
    let helper = Helper::new(&lab, "stores", &more);
    fs::create_dir(helper.dir.join("java")).expect("make a folder");
    let output = helper.run(&[]);
    assert!(output.status.success(), "{}", said(&output));
    let (p12, jks) = (helper.dir.join("store.p12"), helper.dir.join("java/store.jks"));
    let expected = fs::read_to_string(helper.dir.join("svid_key.pem")).expect("the key");
    let key_in = |store: &Path| {
        let mut command = Command::new("openssl");
        command
            .args(["pkcs12", "-nodes", "-passin", "pass:change it", "-in"])
            .arg(store);
        let output = command.output().expect("run openssl");
        assert!(output.status.success(), "{}", said(&output));
        String::from_utf8(output.stdout).expect("text")
    };
    let opened = key_in(&p12);
    assert!(opened.contains(&expected), "another key");
    assert_eq!(
        opened.matches("BEGIN CERTIFICATE").count(),
        2,
        "leaf and authority"
    );
    assert!(opened.contains("friendlyName: svid"), "{opened}");

    if counterparts::installed("keytool", "keytool") {
        let list = |store: &Path| {
            let mut command = Command::new("keytool");
            command
                .args(["-list", "-storepass", "change it", "-keystore"])
                .arg(store);
            let output = command.output().expect("run keytool");
            assert!(output.status.success(), "{}", said(&output));
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        for (store, form) in [(&p12, "PKCS12"), (&jks, "JKS")] {
            let listed = list(store);
            assert!(listed.contains(&format!("Keystore type: {form}")), "{listed}");
            assert!(
                listed.contains("svid, ") && listed.contains("PrivateKeyEntry"),
                "{listed}"
            );
            assert!(
                listed.contains("authority-1, ") && listed.contains("trustedCertEntry"),
                "{listed}"
            );
        }
        // What Java gets out of the one it writes into another, where OpenSSL finds it.
        let copy = helper.dir.join("copy.p12");
        let mut command = Command::new("keytool");
        command.args([
            "-importkeystore",
            "-noprompt",
            "-srcstorepass",
            "change it",
            "-srckeystore",
        ]);
        command.arg(&jks).args([
            "-deststoretype",
            "PKCS12",
            "-deststorepass",
            "change it",
            "-destkeystore",
        ]);
        let output = command.arg(&copy).output().expect("run keytool");
        assert!(output.status.success(), "{}", said(&output));
        assert!(key_in(&copy).contains(&expected), "another key");
        counterparts::record("keytool", "ran");
    }

    fs::set_permissions(&password, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("chmod");
    let output = helper.run(&[]);
    assert_eq!(output.status.code(), Some(1), "{}", said(&output));
    assert!(
        said(&output).contains("that others have no rights to"),
        "{}",
        said(&output)
    );
}

/// The three files of a generation, read at once; none if it is gone.
fn copied(generation: &Path, to: &Path) -> Option<[PathBuf; 3]> {
    let names = ["svid.pem", "svid_key.pem", "svid_bundle.pem"];
    let read = names.map(|name| fs::read(generation.join(name)));
    let mut paths = Vec::new();
    for (name, bytes) in names.into_iter().zip(read) {
        let path = to.join(name);
        fs::write(&path, bytes.ok()?).expect("write a copy");
        paths.push(path);
    }
    paths.try_into().ok()
}

/// A writer that dies at any moment, while a reader looks all the time: the pair in the folder is always one.
#[test]
fn a_writer_killed_at_random_never_shows_a_torn_or_mixed_generation() {
    let (lab, _server, _agent) = lab_with_identity(&["-x509SVIDTTL", SHORT]);
    let helper = Helper::new(
        &lab,
        "killed",
        &format!("{TRIO}svid_combined_file_name = \"all.pem\"\n"),
    );
    let began = Instant::now();
    let first = helper.run(&["-daemon-mode=false"]);
    assert!(first.status.success(), "{}", said(&first));
    // As long as a whole run takes on this machine now: the kills fall into its second half and shortly after it.
    let run = began.elapsed().min(Duration::from_millis(500));
    let over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let copies = lab.dir().join("copies");
        fs::create_dir(&copies).expect("make a folder");
        let (helper, over) = (&helper, &over);
        let reader = scope.spawn(move || {
            let mut seen = std::collections::BTreeSet::new();
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let current = generation(&helper.dir).expect("there is always one that counts");
                // One that was swapped away twice meanwhile is gone, which only a reader as slow as OpenSSL sees.
                let Some([svid, key, bundle]) = copied(&current, &copies) else {
                    continue;
                };
                openssl_accepts(&svid, &key, &bundle);
                let all = copies.join("all.pem");
                fs::copy(helper.dir.join("all.pem"), &all).expect("the combined file is always there");
                openssl_accepts(&all, &all, &bundle);
                seen.insert(current);
            }
            seen.len()
        });
        for round in 0..40 {
            let before = generation(&helper.dir);
            let mut running = helper
                .command(&[])
                .stderr(std::process::Stdio::null())
                .spawn()
                .expect("run files");
            if round % 5 == 4 {
                // One of them gets through, however busy the machine is, and dies in the middle of what follows.
                wait_until("another generation", SOON, || {
                    (generation(&helper.dir) != before).then_some(())
                });
            } else {
                std::thread::sleep(run.mul_f64(0.5) + run.mul_f64(f64::from(round * 37 % 100) / 100.0));
            }
            running.kill().expect("kill it");
            running.wait().expect("reap it");
        }
        over.store(true, std::sync::atomic::Ordering::Relaxed);
        assert!(reader.join().expect("the reader") > 3);
    });
    let last = helper.run(&["-daemon-mode=false"]);
    assert!(last.status.success(), "{}", said(&last));
    let left = fs::read_dir(&helper.dir).expect("a folder").count();
    assert!(
        left <= 3 + 1 + 1 + 2,
        "{left} names: what the dead ones left must be gone"
    );
}

#[test]
fn a_full_disk_keeps_the_old_pair_and_is_reported() {
    let (lab, _server, _agent) = lab_with_identity(&["-x509SVIDTTL", SHORT]);
    let port = std::net::TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("a free port")
        .port();
    let helper = Helper::new(
        &lab,
        "full",
        &format!(
            "{TRIO}health_checks {{ listener_enabled = true bind_port = {port} bind_address = \"127.0.0.1\" }}\n"
        ),
    );
    let Some(_disk) = crate::faults::SmallDisk::mount(&helper.dir) else {
        counterparts::record("tmpfs", "SKIPPED: mounting is not installed for this user");
        return;
    };
    let mut running = helper.start(&[]);
    helper.wait_for("svid.pem");
    let probe = |path: &str| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connect");
        std::io::Write::write_all(&mut stream, format!("GET {path} HTTP/1.1\r\n\r\n").as_bytes())
            .expect("ask");
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).expect("an answer");
        answer
    };
    assert!(
        probe("/ready").starts_with("HTTP/1.1 200 OK"),
        "{}",
        probe("/ready")
    );
    assert!(
        probe("/live").ends_with(
            r#"{"health":{"file_write_statuses":{"jwt_write_status":{},"x509_write_status":"written"}},"status":"OK"}"#
        ),
        "{}",
        probe("/live")
    );
    let hog = helper.dir.join("hog");
    drop(
        Command::new("dd")
            .args(["if=/dev/zero", "bs=4k"])
            .arg(format!("of={}", hog.display()))
            .output(),
    );
    let before = generation(&helper.dir).expect("a generation");
    running.wait_for_line("Unable to write files; those that were there stay", 1);
    assert!(
        running.output().contains("o space left on device"),
        "{}",
        running.output()
    );
    assert_eq!(generation(&helper.dir), Some(before.clone()));
    openssl_accepts(
        &helper.dir.join("svid.pem"),
        &helper.dir.join("svid_key.pem"),
        &helper.dir.join("svid_bundle.pem"),
    );
    for path in ["/live", "/ready"] {
        assert!(probe(path).starts_with("HTTP/1.1 503 "), "{}", probe(path));
        assert!(
            probe(path).contains(r#""x509_write_status":"failed""#),
            "{}",
            probe(path)
        );
    }
    fs::remove_file(&hog).expect("make room");
    wait_until("the newest pair is there", SOON, || {
        (generation(&helper.dir) != Some(before.clone())).then_some(())
    });
    wait_until("all is well again", SOON, || {
        probe("/live").starts_with("HTTP/1.1 200 ").then_some(())
    });
    assert!(running.stop().success());
    counterparts::record("tmpfs", "ran");
}

/// The agent writes for software of another user, without attesting anybody, and not before there is an entry.
#[test]
fn a_block_of_the_agent_keeps_files_of_another_user() {
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let dir = lab.dir().canonicalize().expect("a real path").join("theirs");
    fs::create_dir(&dir).expect("make the target folder");
    let root = nix::unistd::geteuid().is_root();
    let (uid, owner) = match root {
        true => (4_000_000, "owner = \"4000000:4000001\""),
        false => (nix::unistd::geteuid().as_raw(), ""),
    };
    if root {
        std::os::unix::fs::chown(&dir, Some(uid), None).expect("chown");
    }
    let told = dir.join("told");
    let block = format!(
        "files \"database\" {{\n spiffe_id = \"spiffe://example.org/database\"\n cert_dir = \"{}\"\n {owner}\n {TRIO}\
         jwt_svids = [{{jwt_audience=\"a\", jwt_svid_file_name=\"token\"}}]\n jwt_bundle_file_name = \"keys.json\"\n\
         cmd = \"sh\"\n cmd_args = \"-c \\\"(id -u; id -G; env) >> {}\\\"\"\n }}",
        dir.display(),
        told.display()
    );
    let printed = lab.ok(&["token", "generate", "-spiffeID", "spiffe://example.org/node/node"]);
    let token = printed.split_whitespace().nth(1).expect("a token");
    let audit = lab.dir().join("audit.json");
    let more = format!(
        "join_token = \"{token}\"\naudit_log_enabled = true\naudit_log {{ path = \"{}\" }}\n{block}",
        audit.display()
    );
    drop(lab.agent_config("node", "NodeAttestor \"join_token\" { plugin_data {} }", &more));
    let mut agent = lab.agent_again("node");
    agent.wait_for_line("No entry of this agent has the SPIFFE ID of its files", 1);
    assert_eq!(fs::read_dir(&dir).expect("a folder").count(), 0);

    // Selectors that no process of this host has: nobody is attested.
    drop(lab.ok(&[
        "entry",
        "create",
        "-parentID",
        "spiffe://example.org/node/node",
        "-spiffeID",
        "spiffe://example.org/database",
        "-selector",
        "unix:uid:3999999999",
        "-x509SVIDTTL",
        SHORT,
    ]));
    let began = Instant::now();
    for name in ["svid.pem", "token", "keys.json"] {
        wait_until(&format!("{name} is written"), SOON, || {
            dir.join(name).exists().then_some(())
        });
        assert_eq!(fs::metadata(dir.join(name)).expect("a file").uid(), uid, "{name}");
    }
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    openssl_accepts(
        &dir.join("svid.pem"),
        &dir.join("svid_key.pem"),
        &dir.join("svid_bundle.pem"),
    );
    let recorded = wait_until("both are recorded", SOON, || {
        let text = fs::read_to_string(&audit).unwrap_or_default();
        let both = [r#""svid_type":"jwt""#, r#""svid_type":"x509""#]
            .iter()
            .all(|kind| text.contains(kind));
        both.then_some(text)
    });
    assert!(
        recorded.contains(r#""method":"database""#) && recorded.contains(r#""service":"files""#),
        "{recorded}"
    );
    let token = fs::read_to_string(dir.join("token")).expect("the token");
    assert!(!recorded.contains(&token), "the audit log has a token");
    let lines = wait_until("the command ran twice", SOON, || {
        let text = fs::read_to_string(&told).unwrap_or_default();
        (text.matches("PATH=").count() >= 2).then_some(text)
    });
    if root {
        assert!(lines.starts_with("4000000\n4000001\n"), "{lines}");
    }
    assert!(
        !lines.contains("CARGO"),
        "the command got the agent's environment: {lines}"
    );

    // A folder that is not theirs to write to, and one that everybody is.
    agent.signal(Signal::SIGTERM);
    agent.wait(SOON);
    fs::set_permissions(&dir, std::os::unix::fs::PermissionsExt::from_mode(0o777)).expect("chmod");
    let before = generation(&dir);
    let mut agent = lab.agent_again("node");
    agent.wait_for_line("may be written to by every user", 1);
    assert_eq!(generation(&dir), before);
    assert!(agent.stop().success());
}

/// The user whose files a root agent writes does all to lead it elsewhere, and to have it signal others.
#[test]
fn a_hostile_owner_gains_nothing() {
    if !nix::unistd::geteuid().is_root() {
        counterparts::record(
            "another user",
            "SKIPPED: acting as one is not installed for this user",
        );
        return;
    }
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let root = lab.dir().canonicalize().expect("a real path");
    let (dir, outside) = (root.join("theirs"), root.join("outside"));
    for dir in [&dir, &outside] {
        fs::create_dir(dir).expect("make a folder");
    }
    std::os::unix::fs::chown(&dir, Some(4_000_000), None).expect("chown");
    fs::write(outside.join("victim"), "untouched").expect("write");
    let mut victim = Command::new("sleep").arg("120").spawn().expect("run a process");
    let pid_file = root.join("pid");
    fs::write(&pid_file, victim.id().to_string()).expect("write");
    let block = format!(
        "files \"theirs\" {{\n spiffe_id = \"spiffe://example.org/web\"\n cert_dir = \"{}\"\n owner = \"4000000:4000001\"\n \
         {TRIO} svid_combined_file_name = \"victim\"\n renew_signal = \"SIGTERM\"\n pid_file_name = \"{}\"\n }}",
        dir.display(),
        pid_file.display()
    );
    let printed = lab.ok(&["token", "generate", "-spiffeID", "spiffe://example.org/node/node"]);
    let token = printed.split_whitespace().nth(1).expect("a token");
    let more = format!("join_token = \"{token}\"\n{block}");
    drop(lab.agent_config("node", "NodeAttestor \"join_token\" { plugin_data {} }", &more));
    let mut agent = lab.agent_again("node");
    lab.entry("node", "web", &["-x509SVIDTTL", SHORT]);
    wait_until("the files are there", SOON, || {
        dir.join("victim").exists().then_some(())
    });

    let script = "while :; do for name in .svid* svid* victim; do mv -T $name moved.$name; ln -s $1 $name; \
                  rm -rf moved.*; ln -sf $1/victim victim; done; done";
    let mut hostile = Command::new("sh");
    hostile
        .args(["-c", script, "sh"])
        .arg(&outside)
        .current_dir(&dir)
        .stderr(std::process::Stdio::null());
    std::os::unix::process::CommandExt::uid(&mut hostile, 4_000_000);
    let mut hostile = hostile.spawn().expect("run a hostile owner");
    agent.wait_for("several writes, or failures of them", || {
        let output = agent_output(&lab);
        output.matches("X.509 certificates updated").count() + output.matches("Unable to write files").count()
            >= 4
    });
    hostile.kill().expect("stop the hostile owner");
    hostile.wait().expect("reap it");
    assert_eq!(
        fs::read_to_string(outside.join("victim")).expect("read"),
        "untouched"
    );
    assert_eq!(
        fs::read_dir(&outside).expect("a folder").count(),
        1,
        "something was written outside"
    );
    agent.wait_for_line("is of uid 0, not of the owner of the files", 1);
    assert!(
        victim.try_wait().expect("ask").is_none(),
        "another user's process was signalled"
    );
    victim.kill().expect("kill");
    victim.wait().expect("reap");

    // Left alone, it is well again at the next renewal.
    let whole = || {
        let current = generation(&dir)?;
        ["svid.pem", "svid_key.pem", "svid_bundle.pem"]
            .iter()
            .all(|name| current.join(name).exists() && current.starts_with(&dir))
            .then_some(())
    };
    wait_until("the files are whole again", SOON, whole);
    assert!(agent.stop().success());
}

fn agent_output(lab: &Lab) -> String {
    fs::read_to_string(lab.dir().join("node.log")).unwrap_or_default()
}
