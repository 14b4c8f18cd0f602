//! Clients, tools and servers that we did not write: how a test gets them, and the record of which of them ran.
//!
//! Invariant: a test that can't run its counterpart says so here, never by passing in silence. The record is a file
//! that the gate reads: one that is installed but was skipped fails it.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// Appends one line to the record that `CREDENCE_COUNTERPARTS` names, and says it on standard error: past the test
/// runner's capture, which would swallow what a passing test prints, and a skipped test passes.
pub fn record(name: &str, outcome: &str) {
    // Nothing better can be done when stderr is gone.
    drop(writeln!(std::io::stderr(), "counterpart {name}: {outcome}"));
    if let Some(path) = std::env::var_os("CREDENCE_COUNTERPARTS") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("open the record");
        // In one write, since tests run side by side.
        let line = format!("{name}\t{outcome}\n");
        file.write_all(line.as_bytes()).expect("write the record");
    }
}

/// True if `program` can be started; a missing one is recorded as skipped.
#[must_use]
pub fn installed(name: &str, program: &str) -> bool {
    if Command::new(program).arg("--version").output().is_ok() {
        return true;
    }
    record(name, &format!("SKIPPED: {program} is not installed"));
    false
}

/// The folder `tests/clients` of the source tree.
fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../clients")
}

/// Runs a set-up step; its failure is recorded and returned as `None`.
fn step(name: &str, command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) if output.status.success() => Some(output),
        Ok(output) => {
            // Some tools complain on standard output; the record holds a line for each counterpart.
            let said = [output.stderr, output.stdout].concat();
            let said = String::from_utf8_lossy(&said).trim().replace('\n', " ");
            record(name, &format!("SKIPPED: {command:?}: {said}"));
            None
        }
        Err(error) => {
            record(name, &format!("SKIPPED: {command:?}: {error}"));
            None
        }
    }
}

/// The Python of a virtual environment that holds py-spiffe (gRPC C-core), made under `cache` on first use.
pub fn python_spiffe(cache: &Path) -> Option<PathBuf> {
    static READY: OnceLock<Option<PathBuf>> = OnceLock::new();
    READY
        .get_or_init(|| python("python spiffe", cache, "python"))
        .clone()
}

/// Envoy itself, out of a Python package that carries the program, set up under `cache` on first use.
pub fn envoy(cache: &Path) -> Option<PathBuf> {
    static READY: OnceLock<Option<PathBuf>> = OnceLock::new();
    READY
        .get_or_init(|| {
            const NAME: &str = "envoy";
            let python = python(NAME, cache, NAME)?;
            // The package's own `envoy` is a script that outlives what it is told to stop.
            let find =
                "import envoy, os; print(os.path.join(os.path.dirname(envoy.__file__), '_bin', 'envoy'))";
            let found = step(NAME, Command::new(python).args(["-c", find]))?;
            let program = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim());
            installed(NAME, &program.display().to_string()).then_some(program)
        })
        .clone()
}

/// The Python of a virtual environment with what `tests/clients/FOLDER/requirements.txt` names.
fn python(name: &str, cache: &Path, folder: &str) -> Option<PathBuf> {
    if !installed(name, "python3") {
        return None;
    }
    let venv = cache.join(folder);
    let python = venv.join("bin/python");
    let requirements = clients().join(folder).join("requirements.txt");
    let stamp = venv.join("requirements.txt");
    if fs::read(&stamp).ok() != fs::read(&requirements).ok() {
        step(name, Command::new("python3").args(["-m", "venv"]).arg(&venv))?;
        let mut install = Command::new(&python);
        install.args(["-m", "pip", "install", "-q", "-r"]);
        step(name, install.arg(&requirements))?;
        fs::copy(&requirements, &stamp).expect("stamp the environment");
    }
    Some(python)
}

/// The class path of the java-spiffe client, built by Maven under `cache` on first use.
pub fn java_spiffe(cache: &Path) -> Option<String> {
    static READY: OnceLock<Option<String>> = OnceLock::new();
    READY
        .get_or_init(|| {
            const NAME: &str = "java-spiffe";
            if !installed(NAME, "mvn") || !installed(NAME, "java") {
                return None;
            }
            let build = cache.join("java");
            let jars = build.join("lib");
            let stamp = build.join("done");
            if !stamp.exists() {
                fs::create_dir_all(&build).expect("make the build folder");
                step(
                    NAME,
                    Command::new("mvn")
                        .args(["-q", "-B", "compile", "dependency:copy-dependencies"])
                        .arg(format!("-DoutputDirectory={}", jars.display()))
                        .arg(format!("-Dbuild.folder={}", build.display()))
                        .current_dir(clients().join("java")),
                )?;
                fs::write(&stamp, "").expect("stamp the build");
            }
            Some(format!(
                "{}:{}/*",
                build.join("classes").display(),
                jars.display()
            ))
        })
        .clone()
}

/// The go-spiffe client, built under `cache` on first use.
pub fn go_spiffe(cache: &Path) -> Option<PathBuf> {
    static READY: OnceLock<Option<PathBuf>> = OnceLock::new();
    READY
        .get_or_init(|| go_program("go-spiffe", "go", &cache.join("go/workload")))
        .clone()
}

/// The client made of Istio's own generated code, built under `cache` on first use.
pub fn istio_api(cache: &Path) -> Option<PathBuf> {
    static READY: OnceLock<Option<PathBuf>> = OnceLock::new();
    READY
        .get_or_init(|| go_program("istio.io/api", "istio", &cache.join("go/istio")))
        .clone()
}

/// Builds the Go module of that folder of `tests/clients`.
fn go_program(name: &str, folder: &str, program: &Path) -> Option<PathBuf> {
    if !installed(name, "go") {
        return None;
    }
    step(
        name,
        Command::new("go")
            .args(["build", "-mod=readonly", "-o"])
            .arg(program)
            .arg(".")
            .current_dir(clients().join(folder)),
    )?;
    Some(program.to_owned())
}
