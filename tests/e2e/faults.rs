//! What the pair survives: `kill -9` at any moment, a server that is away, a locked store, a full disk.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use credence_test_support::{Lab, Settings, counterparts, wait_until};

use crate::{CREDENCE, said};

/// A pause whose length differs from round to round, so that the kill meets another moment each time.
fn pause(round: u64) {
    std::thread::sleep(Duration::from_millis(40 + round * 37 % 160));
}

/// The X.509 authorities that the server publishes.
fn authorities(lab: &Lab) -> BTreeSet<String> {
    lab.ok(&["bundle", "show"])
        .split_inclusive("-----END CERTIFICATE-----")
        .map(|pem| pem.trim().to_owned())
        .filter(|pem| !pem.is_empty())
        .collect()
}

fn fetches(lab: &Lab, id: &str) -> bool {
    let fetched = lab.agent_cli("node", &["api", "fetch", "x509"]);
    String::from_utf8_lossy(&fetched.stdout).contains(id)
}

fn wait_for_identity(lab: &Lab, id: &str, limit: Duration) {
    wait_until(&format!("{id} arrives"), limit, || fetches(lab, id).then_some(()));
}

#[test]
fn a_server_killed_under_load_loses_nothing_it_acknowledged() {
    let lab = Lab::new(CREDENCE);
    let mut server = lab.server();
    let mut agent = lab.agent("node");
    let published = authorities(&lab);
    let acknowledged = Mutex::new(BTreeSet::new());
    for round in 0..12 {
        let over = AtomicBool::new(false);
        let before = acknowledged.lock().expect("no poison").len();
        std::thread::scope(|scope| {
            for writer in 0..3 {
                let (lab, over, acknowledged) = (&lab, &over, &acknowledged);
                scope.spawn(move || {
                    let mut n = 0;
                    while !over.load(Ordering::Relaxed) {
                        n += 1;
                        let name = format!("w-{round}-{writer}-{n}");
                        let id = format!("spiffe://example.org/{name}");
                        let parent = "spiffe://example.org/node/node";
                        let created = lab.cli(&[
                            "entry",
                            "create",
                            "-entryID",
                            &name,
                            "-parentID",
                            parent,
                            "-spiffeID",
                            &id,
                            "-selector",
                            "unix:uid:4000000000",
                        ]);
                        if created.status.success() {
                            acknowledged.lock().expect("no poison").insert(name);
                        }
                    }
                });
            }
            // A busy machine takes longer than the pause for a command.
            wait_until("an entry is acknowledged", Duration::from_secs(30), || {
                let count = acknowledged.lock().expect("no poison").len();
                (count > before).then_some(())
            });
            pause(round);
            server.kill();
            over.store(true, Ordering::Relaxed);
            server = lab.server();
        });
        let shown = lab.ok(&["entry", "show", "-output", "json"]);
        for name in acknowledged.lock().expect("no poison").iter() {
            assert!(
                shown.contains(&format!("\"{name}\"")),
                "round {round}: {name} was acknowledged and is gone"
            );
        }
        assert!(
            lab.ok(&["agent", "count"]).starts_with("1 attested agent"),
            "the node is gone"
        );
        assert_eq!(authorities(&lab), published, "an authority was lost or replaced");
    }
    lab.entry("node", "after", &[]);
    wait_for_identity(&lab, "spiffe://example.org/after", Duration::from_secs(30));
    assert!(agent.is_running());
    assert_eq!(
        agent.output().matches("Starting node attestation").count(),
        1,
        "the agent attested again"
    );
}

#[test]
fn a_killed_agent_carries_on_with_its_saved_svid() {
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let mut agent = lab.agent("node");
    lab.entry("node", "web", &[]);
    wait_for_identity(&lab, "spiffe://example.org/web", Duration::from_secs(10));
    for round in 0..8 {
        pause(round);
        agent.kill();
        agent = lab.agent_again("node");
        agent.wait_for_line("Starting agent APIs", 1);
        wait_for_identity(&lab, "spiffe://example.org/web", Duration::from_secs(10));
        assert!(
            !agent.output().contains("Starting node attestation"),
            "{}",
            agent.output()
        );
    }
}

#[test]
fn what_is_cached_is_served_while_the_server_is_away() {
    let lab = Lab::new(CREDENCE);
    let mut server = lab.server();
    let mut agent = lab.agent("node");
    lab.entry("node", "web", &[]);
    wait_for_identity(&lab, "spiffe://example.org/web", Duration::from_secs(10));
    let token = lab.agent_cli("node", &["api", "fetch", "jwt", "-audience", "a"]);
    assert!(token.status.success(), "{}", said(&token));
    server.kill();
    assert!(fetches(&lab, "spiffe://example.org/web"));
    let token = lab.agent_cli("node", &["api", "fetch", "jwt", "-audience", "a"]);
    assert!(token.status.success(), "{}", said(&token));
    let other = lab.agent_cli(
        "node",
        &["api", "fetch", "jwt", "-audience", "b", "-timeout", "2s"],
    );
    assert!(!other.status.success(), "{}", said(&other));
    let _server = lab.server();
    lab.entry("node", "later", &[]);
    wait_for_identity(&lab, "spiffe://example.org/later", Duration::from_secs(30));
    assert!(agent.is_running());
}

#[test]
fn lost_keys_leave_the_old_authority_in_the_bundle() {
    let lab = Lab::with(
        CREDENCE,
        Settings {
            key_manager: "memory",
            ..Settings::default()
        },
    );
    let server = lab.server();
    let before = authorities(&lab);
    assert!(server.stop().success());
    let _server = lab.server();
    let after = authorities(&lab);
    assert!(
        after.is_superset(&before) && after.len() == 2,
        "{} then {}",
        before.len(),
        after.len()
    );
}

#[test]
fn a_locked_store_degrades_and_recovers() {
    if !counterparts::installed("python sqlite3", "python3") {
        return;
    }
    let lab = Lab::new(CREDENCE);
    let mut server = lab.server();
    let _agent = lab.agent("node");
    lab.entry("node", "web", &[]);
    let script = "import sqlite3,sys,time\nc=sqlite3.connect(sys.argv[1],isolation_level=None,timeout=30)\n\
                  c.execute('BEGIN EXCLUSIVE')\nprint('locked',flush=True)\ntime.sleep(float(sys.argv[2]))\n";
    let store = lab.server_data().join("datastore.sqlite3");
    let mut holder = Command::new("python3")
        .args(["-c", script, &store.display().to_string(), "60"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("run python");
    let mut line = [0; 7];
    std::io::Read::read_exact(holder.stdout.as_mut().expect("a pipe"), &mut line).expect("the lock is held");
    let refused = lab.cli(&[
        "entry",
        "create",
        "-parentID",
        "spiffe://example.org/node/node",
        "-spiffeID",
        "spiffe://example.org/x",
        "-selector",
        "unix:uid:1",
    ]);
    assert!(!refused.status.success(), "{}", said(&refused));
    // Reads and signatures go on from memory, and health says what is wrong.
    assert_eq!(lab.ok(&["entry", "count"]).trim(), "2 registration entries");
    wait_for_identity(&lab, "spiffe://example.org/web", Duration::from_secs(10));
    let health = lab.cli(&["healthcheck"]);
    assert_eq!(health.status.code(), Some(1), "{}", said(&health));
    holder.kill().expect("release the lock");
    holder.wait().expect("reap");
    lab.entry("node", "y", &[]);
    wait_until("health returns", Duration::from_secs(10), || {
        lab.cli(&["healthcheck"]).status.success().then_some(())
    });
    assert!(server.is_running());
    counterparts::record("python sqlite3", "ran");
}

/// A small file system, unmounted on drop. Mounting needs root.
pub(crate) struct SmallDisk<'a>(&'a Path);

impl<'a> SmallDisk<'a> {
    pub(crate) fn mount(at: &'a Path) -> Option<Self> {
        std::fs::create_dir_all(at).expect("make the mount point");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=1m,mode=0750", "tmpfs"])
            .arg(at)
            .output();
        mounted
            .is_ok_and(|output| output.status.success())
            .then_some(Self(at))
    }
}

impl Drop for SmallDisk<'_> {
    fn drop(&mut self) {
        drop(Command::new("umount").arg("-l").arg(self.0).output());
    }
}

#[test]
fn a_full_disk_loses_no_authority() {
    let lab = Lab::new(CREDENCE);
    let data = lab.server_data().to_owned();
    let Some(_disk) = SmallDisk::mount(&data) else {
        counterparts::record("tmpfs", "SKIPPED: mounting is not installed for this user");
        return;
    };
    let mut server = lab.server();
    let published = authorities(&lab);
    lab.entry("node", "before", &[]);
    let hog = data.join("hog");
    // dd ends with an error once the disk is full, which is what is wanted.
    drop(
        Command::new("dd")
            .args(["if=/dev/zero", "bs=4k"])
            .arg(format!("of={}", hog.display()))
            .output(),
    );
    let mut refusals = 0;
    for n in 0..40 {
        let id = format!("spiffe://example.org/full-{n}");
        let output = lab.cli(&[
            "entry",
            "create",
            "-parentID",
            "spiffe://example.org/node/node",
            "-spiffeID",
            &id,
            "-selector",
            "a:b",
        ]);
        refusals += usize::from(!output.status.success());
    }
    assert!(refusals > 0, "the disk never was full");
    assert!(server.is_running(), "{}", server.output());
    assert_eq!(authorities(&lab), published);
    std::fs::remove_file(&hog).expect("make room");
    lab.entry("node", "after", &[]);
    server.kill();
    let _server = lab.server();
    assert_eq!(authorities(&lab), published);
    let shown = lab.ok(&["entry", "show"]);
    assert!(shown.contains("/before") && shown.contains("/after"), "{shown}");
    counterparts::record("tmpfs", "ran");
}
