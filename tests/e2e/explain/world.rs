//! The working set-up in which one thing is changed at a time.

use std::cell::RefCell;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use credence_test_support::{Lab, Process, Settings, counterparts, wait_until};
use serde_json::Value;

use super::agents::Working;
use crate::{CREDENCE, said};

/// How long a cause may take to show: an agent that starts, or the next attempt of one that failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// A server and an agent `node` with which everything is well.
pub(super) struct World {
    pub(super) lab: Lab,
    pub(super) server: Option<Process>,
    pub(super) node: Option<Process>,
    pub(super) skipped: Vec<String>,
    /// The agent that is changed.
    pub(super) working: Option<Working>,
    /// Another trust domain of the same name.
    pub(super) other: Option<Box<World>>,
}

/// A process of its own executable, by whose path an entry can mean it alone.
pub(super) struct Workload {
    child: Child,
    pub(super) path: PathBuf,
}

impl Workload {
    pub(super) fn pid(&self) -> String {
        self.child.id().to_string()
    }

    /// The selector that no other process has.
    pub(super) fn selector(&self) -> String {
        format!("unix:path:{}", self.path.display())
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(super) fn own_uid() -> String {
    format!("unix:uid:{}", nix::unistd::geteuid())
}

impl World {
    pub(super) fn new() -> Self {
        Self::around(Lab::with(
            CREDENCE,
            Settings {
                server: "experimental { agent_spiffe_id_as_selector = true }".into(),
                ..Settings::default()
            },
        ))
    }

    pub(super) fn around(lab: Lab) -> Self {
        let server = lab.server();
        let node = lab.agent("node");
        Self {
            lab,
            server: Some(server),
            node: Some(node),
            skipped: Vec::new(),
            working: None,
            other: None,
        }
    }

    /// A copy of `sleep` that runs.
    pub(super) fn workload(&self, name: &str) -> Workload {
        self.workload_with(name, |command| command)
    }

    pub(super) fn workload_with(
        &self,
        name: &str,
        change: impl FnOnce(&mut Command) -> &mut Command,
    ) -> Workload {
        let folder = self.lab.dir().join("workloads").join(name);
        fs::create_dir_all(&folder).expect("make a folder");
        let path = folder.join("sleep");
        if !path.exists() {
            // By another process: a child that one of our threads starts meanwhile would hold the copy open for writing,
            // and what is open for writing can't be run.
            let copied = Command::new("cp").arg("/bin/sleep").arg(&path).status();
            assert!(copied.expect("run cp").success(), "copy a program");
        }
        let mut command = Command::new(&path);
        command.arg("600").stdin(Stdio::null());
        let child = change(&mut command).spawn().expect("run a workload");
        Workload { child, path }
    }

    /// The SPIFFE ID of a name.
    pub(super) fn id(name: &str) -> String {
        format!("spiffe://example.org/{name}")
    }

    pub(super) fn entry(&self, name: &str, parent: &str, selectors: &[&str], more: &[&str]) {
        self.put_entry("create", name, parent, selectors, more);
    }

    pub(super) fn update(&self, name: &str, parent: &str, selectors: &[&str], more: &[&str]) {
        self.put_entry("update", name, parent, selectors, more);
    }

    fn put_entry(&self, command: &str, name: &str, parent: &str, selectors: &[&str], more: &[&str]) {
        let (id, parent) = (Self::id(name), Self::id(parent));
        let mut arguments = vec![
            "entry",
            command,
            "-entryID",
            name,
            "-spiffeID",
            &id,
            "-parentID",
            &parent,
        ];
        for selector in selectors {
            arguments.extend(["-selector", selector]);
        }
        arguments.extend(more);
        drop(self.lab.ok(&arguments));
    }

    pub(super) fn delete(&self, name: &str) {
        drop(self.lab.ok(&["entry", "delete", "-entryID", name]));
    }

    /// The agent ID of an attested agent whose alias is `/node/NAME`.
    pub(super) fn agent_id(&self, name: &str) -> String {
        let shown = self
            .lab
            .ok(&["entry", "show", "-spiffeID", &Self::id(&format!("node/{name}"))]);
        let parent = shown
            .lines()
            .find(|line| line.starts_with("Parent ID"))
            .expect("a parent");
        parent.split_once(": ").expect("a value").1.to_owned()
    }

    fn explain(&self, arguments: &[&str]) -> Output {
        Command::new(CREDENCE)
            .arg("explain")
            .args(arguments)
            .args(["-output", "json"])
            .output()
            .expect("run explain")
    }

    /// Asks until the first cause is this one.
    fn expect(&self, case: &str, cause: &str, arguments: &[&str]) {
        let last = RefCell::new(String::new());
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            wait_until(case, PATIENCE, || {
                let output = self.explain(arguments);
                *last.borrow_mut() = said(&output);
                let causes = causes(&output);
                let done = match cause {
                    "" => output.status.code() == Some(0) && causes.is_empty(),
                    cause => {
                        output.status.code() == Some(1) && causes.first().is_some_and(|first| first == cause)
                    }
                };
                if !done {
                    std::thread::sleep(Duration::from_millis(40));
                }
                done.then_some(())
            });
        }));
        let wanted = if cause.is_empty() { "no fault" } else { cause };
        assert!(
            found.is_ok(),
            "{case}: wanted {wanted} of {arguments:?}, got {}",
            last.borrow()
        );
    }

    fn config(&self, agent: &str) -> String {
        self.lab
            .dir()
            .join(agent)
            .join("agent.conf")
            .display()
            .to_string()
    }

    /// What the agent says of the process.
    pub(super) fn of_process(
        &self,
        case: &str,
        cause: &str,
        agent: &str,
        workload: &Workload,
        more: &[&str],
    ) {
        self.of_pid(case, cause, agent, &workload.pid(), more);
    }

    /// What the agent says of the process with this number.
    pub(super) fn of_pid(&self, case: &str, cause: &str, agent: &str, pid: &str, more: &[&str]) {
        let config = self.config(agent);
        let mut arguments = vec!["pid", pid, "-config", &config];
        arguments.extend(more);
        self.expect(case, cause, &arguments);
    }

    /// What the server says of the SPIFFE ID.
    pub(super) fn of_id(&self, case: &str, cause: &str, id: &str, more: &[&str]) {
        let socket = self.lab.server_socket().display().to_string();
        let mut arguments = vec!["spiffe-id", id, "-socketPath", &socket];
        arguments.extend(more);
        self.expect(case, cause, &arguments);
    }

    /// What agent or server says of a call that it refused.
    pub(super) fn of_request(&self, case: &str, cause: &str, agent: &str, request: &str) {
        let config = self.config(agent);
        self.expect(case, cause, &["request", request, "-config", &config]);
    }

    /// Stops the server and starts it with the configuration of this moment.
    pub(super) fn restart_server(&mut self) {
        if let Some(server) = self.server.take() {
            assert!(server.stop().success());
        }
        self.server = Some(self.lab.server());
    }

    pub(super) fn skip(&mut self, case: &str, why: &str) {
        counterparts::record(&format!("explain: {case}"), &format!("SKIPPED: {why}"));
        self.skipped.push(case.to_owned());
    }
}

fn causes(output: &Output) -> Vec<String> {
    let said: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
    let findings = said
        .get("findings")
        .and_then(Value::as_array)
        .into_iter()
        .flatten();
    let causes = findings.filter_map(|finding| finding.get("cause")?.as_str());
    causes.map(str::to_owned).collect()
}

/// The configuration with one thing changed, which must have been there.
pub(super) fn replaced(config: &str, from: &str, to: &str) -> String {
    assert!(config.contains(from), "no {from:?} in {config}");
    config.replacen(from, to, 1)
}

pub(super) fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("read a file")
}
