//! The worked example in `deploy/examples/feature-store`, run by its one command: every cell of its table, what stands on
//! the machine meanwhile, and that nothing is left of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use credence_test_support::{counterparts, wait_until};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, geteuid};

use crate::CREDENCE;

const NAME: &str = "feature store";

/// `closed`: the connection ends without a word. `required` and `unknown`: TLS's alerts `certificate_required` and
/// `certificate_unknown`. Numbers are HTTP's. `NOPERM` is Redis's answer to the user that stands for the reading door.
const TABLE: &str = "
caller               write     read      write by read  mtls    sidecar   jwt  model
ingester             yes       yes       NOPERM         403     403       403  403
trainer              closed    yes       NOPERM         403     403       403  403
inference            closed    yes       NOPERM         403     403       403  yes
checkout             closed    closed    closed         yes     yes       yes  403
batch                closed    closed    closed         403     403       403  403
stolen keys          yes       yes       NOPERM         yes     yes       yes  yes
no certificate       required  required  required       closed  required  401  401
expired              unknown   unknown   unknown        closed  unknown   401  401
other trust domain   unknown   unknown   unknown        closed  unknown   401  401
token: audience      -         -         -              -       -         401  401
token: alg none      -         -         -              -       -         401  401
token: replayed      -         -         -              -       -         401  401
";

/// Splits the columns of a table where two spaces are.
fn cells(line: &str) -> Vec<&str> {
    line.split("  ")
        .map(str::trim)
        .filter(|cell| !cell.is_empty())
        .collect()
}

type Answers = BTreeMap<String, BTreeMap<String, String>>;

fn expected() -> Answers {
    let mut lines = TABLE.trim().lines().map(cells);
    let head = lines.next().expect("a head");
    lines
        .map(|row| {
            let answers = head.iter().zip(&row).skip(1).filter(|(_, cell)| **cell != "-");
            let answers = answers.map(|(door, cell)| {
                let cell = match *cell {
                    "required" | "unknown" => format!("certificate {cell}"),
                    other => other.to_owned(),
                };
                ((*door).to_owned(), cell)
            });
            (row[0].to_owned(), answers.collect())
        })
        .collect()
}

/// The example while it runs.
struct Example {
    child: Child,
    errors: PathBuf,
}

impl Example {
    fn start(folder: &Path) -> Self {
        let errors = folder.join("errors");
        let child =
            Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples/feature-store/run"))
                .args(["--json", "--stay"])
                .env("CREDENCE", CREDENCE)
                .env("TMPDIR", folder)
                .stdin(Stdio::null())
                .stdout(Stdio::piped())
                .stderr(File::create(&errors).expect("make a file"))
                .spawn()
                .expect("start the example");
        Self { child, errors }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.errors).expect("read what it said")
    }

    fn house(folder: &Path) -> Option<PathBuf> {
        let mut found = fs::read_dir(folder).expect("list the folder").flatten();
        found
            .find(|entry| entry.file_name().to_string_lossy().starts_with("feature-store-"))
            .map(|entry| entry.path())
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let pid = Pid::from_raw(self.child.id().try_into().expect("a pid"));
        let runs = self.child.try_wait().is_ok_and(|status| status.is_none());
        if runs && kill(pid, Signal::SIGTERM).is_ok() {
            drop(self.child.wait());
        }
    }
}

/// The processes whose command line names `folder`, with their users.
fn processes(folder: &Path) -> Vec<(u32, String)> {
    let needle = folder.display().to_string();
    let processes = fs::read_dir("/proc").expect("list processes").flatten();
    processes
        .filter_map(|entry| {
            let line = fs::read(entry.path().join("cmdline")).ok()?;
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            let uid = entry.metadata().ok()?.uid();
            line.contains(&needle).then_some((uid, line))
        })
        .collect()
}

#[test]
fn each_cell_of_the_example_is_as_its_table_says_and_nothing_is_left_of_it() {
    if !geteuid().is_root() {
        counterparts::record(
            NAME,
            "SKIPPED: acting as another user is not installed for this user",
        );
        return;
    }
    let folder = tempfile::Builder::new()
        .prefix("example-")
        .tempdir()
        .expect("make a folder");
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o711)).expect("chmod");
    let mut example = Example::start(folder.path());
    let mut table = String::new();
    let mut output = BufReader::new(example.child.stdout.take().expect("its output"));
    output.read_line(&mut table).expect("read its output");
    let said = example.said();
    if table.is_empty() {
        let missing = said.lines().find(|line| line.contains("is not installed"));
        let missing = missing.unwrap_or_else(|| panic!("{said}"));
        counterparts::record(NAME, &format!("SKIPPED: {missing}"));
        return;
    }
    let answers: Answers = serde_json::from_str(&table).expect("JSON");
    assert_eq!(answers, expected(), "{said}");

    wait_until("the example stays", Duration::from_secs(10), || {
        example.said().contains("up until Ctrl-C").then_some(())
    });
    let house = Example::house(folder.path()).expect("its folder");
    owners(&house);
    kill(
        Pid::from_raw(example.child.id().try_into().expect("a pid")),
        Signal::SIGINT,
    )
    .expect("press Ctrl-C");
    let began = Instant::now();
    let status = example.child.wait().expect("its end");
    assert_eq!(status.code(), Some(130), "{}", example.said());
    assert!(
        began.elapsed() < Duration::from_secs(60),
        "took {:?} to go",
        began.elapsed()
    );
    assert!(!house.exists(), "its folder stays");
    assert_eq!(processes(&house), [], "processes stay");
    let mut rest = String::new();
    output.read_to_string(&mut rest).expect("read its output");
    assert_eq!(rest, "");
    counterparts::record(NAME, "ran");
}

/// Each service has a user of its own, only the Envoy in front opens a socket, and secrets are their owner's.
fn owners(house: &Path) {
    let running = processes(house);
    let mut users: Vec<u32> = running.iter().map(|(uid, _)| *uid).collect();
    users.sort_unstable();
    users.dedup();
    // Server, agent, Redis, its door, trainer, inference, its sidecar, and the other trust domain's server; inference
    // runs three times. The command itself doesn't have the folder in its command line.
    assert_eq!((users.len(), running.len()), (8, 10), "{running:?}");
    assert!(!users.contains(&0), "something runs as root: {running:?}");

    let stat = |path: &str| fs::metadata(house.join(path)).expect(path);
    let uid = |needle: &str| {
        running
            .iter()
            .find(|(_, line)| line.contains(needle))
            .expect(needle)
            .0
    };
    let (door, sidecar) = (uid("door.yaml"), uid("sidecar.yaml"));
    for (socket, owner, group) in [
        ("redis/redis.sock", uid("redis-server"), door),
        ("inference/http.sock", uid("inference.py"), sidecar),
    ] {
        let socket = stat(socket);
        assert!(socket.file_type().is_socket());
        assert_eq!(
            (socket.uid(), socket.gid(), socket.mode() & 0o007),
            (owner, group, 0)
        );
    }
    for name in ["door/writer.password", "door/reader.password"] {
        assert_eq!(
            (stat(name).uid(), stat(name).mode() & 0o777),
            (door, 0o400),
            "{name}"
        );
    }
    for name in ["server", "agent", "door", "log"] {
        assert_eq!(stat(name).mode() & 0o077, 0, "{name} is open");
    }
}
