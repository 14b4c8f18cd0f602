//! What each command prints, kept in files: `tests/golden/PROGRAM/COMMAND.txt`. Identifiers, times and keys are replaced
//! by what they are. `UPDATE_GOLDEN=1` writes the files anew.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use credence_command::help::commands;
use credence_test_support::{Lab, Process, Settings};
use regex::{Captures, Regex};
use serde_json::Value;

use crate::{CREDENCE, said};

const FORMS: [&str; 3] = ["pretty", "json", "yaml"];

/// What is different in each run, and what stands in the files instead. The first that fits wins.
const VARIABLE: [(&str, &str); 14] = [
    (
        r"-----BEGIN ([A-Z ]+)-----[A-Za-z0-9+/=\s]+-----END [A-Z ]+-----",
        "(PEM of a $1)",
    ),
    (r"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*", "(token)"),
    (
        r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        "(uuid)",
    ),
    (r"\b\d{4}-\d\d-\d\d \d\d:\d\d:\d\d \+0000 UTC", "(time UTC)"),
    (r"\b\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", "(time Z)"),
    (r"\bafter [0-9.]+(ns|µs|ms|s)\b", "after (a while)"),
    (r"(?P<name>uptime\W+)\d+", "$name(seconds)"),
    (r"(?P<name>Uptime: +)[0-9hms.]+", "$name(a while)"),
    (r"(?P<name>sequence(_number)?\W+)\d+", "$name(number)"),
    (r"\b[0-9a-f]{40}\b", "(key id)"),
    (r"\b\d{30,50}\b", "(serial)"),
    (r"[A-Za-z0-9+/_-]{43,}={0,2}", "(base64)"),
    (r"\b[12]\d{9}\b", "(seconds)"),
    (r"\b[A-Za-z0-9]{32}\b", "(name of 32)"),
];

/// One trust domain, and what its commands have printed so far.
struct Golden<'a> {
    lab: &'a Lab,
    variable: Vec<(Regex, &'static str)>,
    /// By the file's path below the folder.
    printed: BTreeMap<PathBuf, String>,
    /// Program, command and form.
    run: BTreeSet<(&'static str, String, &'static str)>,
}

impl<'a> Golden<'a> {
    fn new(lab: &'a Lab) -> Self {
        let variable = VARIABLE.map(|(pattern, name)| (Regex::new(pattern).expect("a pattern"), name));
        Self {
            lab,
            variable: variable.into(),
            printed: BTreeMap::new(),
            run: BTreeSet::new(),
        }
    }

    /// Runs a command in each form that it has; `{form}` in the flags is the form's name.
    fn server(&mut self, path: &str, flags: &str) {
        for form in forms(&credence_server::cli::command("server"), path) {
            self.step("server", path, form, flags);
        }
    }

    fn agent(&mut self, path: &str, flags: &str) {
        for form in forms(&credence_agent::cli::command("agent"), path) {
            self.step("agent", path, form, flags);
        }
    }

    /// Runs a command in one form, keeps what it printed, and returns its standard output.
    fn step(&mut self, program: &'static str, path: &str, form: &'static str, flags: &str) -> String {
        let flags = flags.replace("{form}", form);
        let line: Vec<&str> = path.split(' ').chain(flags.split_whitespace()).collect();
        let mut command = self.command(program, path, &line);
        if form != "pretty" {
            command.args(["-output", form]);
        }
        let output = command.output().expect("run a command");
        let out = String::from_utf8(output.stdout).expect("UTF-8");
        let err = String::from_utf8(output.stderr).expect("UTF-8");
        let shown = match form {
            "pretty" => line.join(" "),
            form => format!("{} -output {form}", line.join(" ")),
        };
        let mut text = format!("$ spire-{program} {shown}\n{out}");
        if !err.is_empty() {
            text += &format!("--- stderr\n{err}");
        }
        text += &format!("--- status {}\n\n", output.status.code().expect("a status"));
        self.keep(program, path, form, &text);
        out
    }

    fn command(&self, program: &str, path: &str, line: &[&str]) -> Command {
        let mut command = Command::new(CREDENCE);
        command.arg(program).args(line).current_dir(self.lab.dir());
        let socket = match (program, path.split(' ').next()) {
            (_, Some("run" | "validate")) => return command,
            ("server", _) => self.lab.server_socket(),
            (_, Some("debug" | "logger")) => self.lab.dir().join("node/admin.sock"),
            _ => self.lab.agent_socket("node"),
        };
        command.arg("-socketPath").arg(socket);
        command
    }

    fn keep(&mut self, program: &'static str, path: &str, form: &'static str, text: &str) {
        let mut text = text.replace(&self.lab.dir().display().to_string(), "(folder)");
        text = text.replace(&format!("unix:uid:{}", nix::unistd::geteuid()), "unix:uid:(own)");
        text = text.replace(credence_runtime::VERSION, "(version)");
        for (pattern, name) in &self.variable {
            let replaced = pattern.replace_all(&text, |found: &Captures<'_>| {
                let mut with = String::new();
                found.expand(name, &mut with);
                with
            });
            text = replaced.into_owned();
        }
        let file = Path::new(program).join(format!("{}.txt", path.replace(' ', "-")));
        self.printed.entry(file).or_default().push_str(&text);
        self.run.insert((program, path.to_owned(), form));
    }

    /// `api watch` runs until it is stopped; its first update is kept.
    fn watch(&mut self) {
        let mut command = self.command("agent", "api watch", &["api", "watch"]);
        let mut watch = command.stdout(Stdio::piped()).spawn().expect("run watch");
        let mut out = watch.stdout.take().expect("its output");
        let (mut text, mut part) = (String::new(), [0; 4096]);
        while !text.ends_with("\n\n") || !text.contains("CA #1") {
            let length = out.read(&mut part).expect("read its output");
            assert!(length > 0, "{text}");
            text += &String::from_utf8_lossy(part.get(..length).unwrap_or_default());
        }
        watch.kill().expect("stop watching");
        watch.wait().expect("reap it");
        self.keep(
            "agent",
            "api watch",
            "pretty",
            &format!("$ spire-agent api watch\n{text}"),
        );
    }

    /// Each command has printed in each of its forms, and what its file says.
    fn compare(self) {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden");
        let programs = [
            ("server", credence_server::cli::command("server")),
            ("agent", credence_agent::cli::command("agent")),
        ];
        let mut faults = Vec::new();
        for (program, tree) in &programs {
            for (path, _) in commands(tree) {
                for form in forms(tree, &path) {
                    if !self.run.contains(&(*program, path.clone(), form)) {
                        faults.push(format!(
                            "{program} {path} has no golden file for {form}: add a step"
                        ));
                    }
                }
            }
        }
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            for program in ["server", "agent"] {
                drop(fs::remove_dir_all(folder.join(program)));
                fs::create_dir_all(folder.join(program)).expect("make a folder");
            }
            for (file, text) in &self.printed {
                fs::write(folder.join(file), text).expect("write a golden file");
            }
        }
        for (file, text) in &self.printed {
            let kept = fs::read_to_string(folder.join(file)).unwrap_or_default();
            if kept != *text {
                let file = file.display();
                faults.push(format!(
                    "{file} differs (UPDATE_GOLDEN=1 rewrites it)\n--- kept\n{kept}\n--- printed\n{text}"
                ));
            }
        }
        for program in ["server", "agent"] {
            for entry in fs::read_dir(folder.join(program)).into_iter().flatten().flatten() {
                if !self
                    .printed
                    .contains_key(&Path::new(program).join(entry.file_name()))
                {
                    faults.push(format!("{} belongs to no command", entry.path().display()));
                }
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    }
}

/// The forms of a command's output.
fn forms(tree: &clap::Command, path: &str) -> Vec<&'static str> {
    let found = commands(tree).into_iter().find(|(known, _)| known == path);
    let (_, command) = found.expect("a command of the program");
    if command
        .get_arguments()
        .any(|flag| flag.get_long() == Some("output"))
    {
        FORMS.into()
    } else {
        vec!["pretty"]
    }
}

fn agent_ids(lab: &Lab) -> Vec<String> {
    let listed: Value = serde_json::from_str(&lab.ok(&["agent", "list", "-output", "json"])).expect("JSON");
    let agents = listed["agents"].as_array().expect("agents");
    let paths = agents
        .iter()
        .map(|agent| agent["id"]["path"].as_str().expect("a path"));
    paths.map(|path| format!("spiffe://example.org{path}")).collect()
}

fn agent(lab: &Lab) -> Process {
    let printed = lab.ok(&["token", "generate", "-spiffeID", "spiffe://example.org/node/node"]);
    let token = printed.split_whitespace().nth(1).expect("a token");
    let more = format!(
        "join_token = \"{token}\"\n  admin_socket_path = \"{}\"",
        lab.dir().join("node/admin.sock").display()
    );
    drop(lab.agent_config("node", "NodeAttestor \"join_token\" { plugin_data {} }", &more));
    let mut agent = lab.agent_again("node");
    agent.wait_for("the agent to have its SVID", || {
        let fetched = lab.agent_cli("node", &["api", "fetch", "jwt", "-audience", "warm"]);
        fetched.status.success()
    });
    agent
}

/// What an agent holds and serves, and its own commands.
fn of_the_agent(golden: &mut Golden<'_>) {
    let conf = golden.lab.dir().join("node/agent.conf").display().to_string();
    golden.agent("run", "-config missing/agent.conf");
    golden.agent("validate", &format!("-config {conf}"));
    golden.agent("healthcheck", "-verbose");
    golden.agent("api fetch", "");
    golden.agent("api fetch x509", "");
    golden.agent("api fetch jwt", "-audience a,b");
    let line = ["api", "fetch", "jwt", "-audience", "a", "-output", "json"];
    let fetched = golden.lab.agent_cli("node", &line);
    let fetched: Value = serde_json::from_slice(&fetched.stdout).expect("JSON");
    let token = fetched[0]["svids"][0]["svid"].as_str().expect("a token");
    golden.agent("api validate jwt", &format!("-audience a -svid {token}"));
    golden.watch();
    golden.agent("files", "-config missing/helper.conf");
    golden.agent("logger get", "");
    golden.agent("logger set", "-level warn");
    golden.agent("logger reset", "");
    golden.agent("debug getinfo", "");
}

fn entries(golden: &mut Golden<'_>) {
    let identity =
        "-parentID spiffe://example.org/node/node -spiffeID spiffe://example.org/{form} -selector unix:uid:7";
    let more = "-selector unix:gid:7 -x509SVIDTTL 600 -dns web -hint first -admin -downstream";
    golden.server(
        "entry create",
        &format!("-entryID web-{{form}} {identity} {more}"),
    );
    golden.server(
        "entry create",
        &format!("-entryID again-{{form}} {identity} {more}"),
    );
    golden.server("entry show", "-selector unix:uid:7");
    golden.server("entry show", "-entryID missing");
    golden.server("entry count", "-selector unix:uid:7");
    golden.server(
        "entry update",
        &format!("-entryID web-{{form}} {identity} -jwtSVIDTTL 60"),
    );
    golden.server("entry delete", "-entryID web-{form}");
    golden.server("entry delete", "-entryID web-{form}");
}

fn federation(golden: &mut Golden<'_>) {
    let bundle = golden.lab.dir().join("bundle.pem").display().to_string();
    golden.server("bundle set", &format!("-id {{form}}.test -path {bundle}"));
    golden.server("bundle show", "");
    golden.server("bundle show", "-format spiffe");
    golden.server("bundle list", "");
    golden.server("bundle count", "");
    golden.server("bundle delete", "-id {form}.test");
    let web = "-trustDomain {form}.test -bundleEndpointURL https://{form}.test:8443 -bundleEndpointProfile https_web";
    golden.server("federation create", web);
    golden.server("federation list", "");
    golden.server("federation show", "-trustDomain {form}.test");
    golden.server("federation update", &web.replace("8443", "8444"));
    golden.server("federation delete", "-id {form}.test");
}

/// A rotation in each form, in the order in which it must be done.
fn authorities(golden: &mut Golden<'_>) {
    for kind in ["x509", "jwt"] {
        let path = |step: &str| format!("localauthority {kind} {step}");
        let state = |golden: &Golden<'_>| -> Value {
            let shown = golden
                .lab
                .ok(&["localauthority", kind, "show", "-output", "json"]);
            serde_json::from_str(&shown).expect("JSON")
        };
        for form in FORMS {
            golden.step("server", &path("prepare"), form, "");
            golden.step("server", &path("show"), form, "");
            let before = state(golden);
            let id = |of: &str| before[of]["authority_id"].as_str().expect("an ID").to_owned();
            let flags = format!("-authorityID {}", id("prepared"));
            golden.step("server", &path("activate"), form, &flags);
            let flags = format!("-authorityID {} -force", id("active"));
            golden.step("server", &path("taint"), form, &flags);
            golden.step("server", &path("revoke"), form, &flags);
        }
    }
}

#[test]
fn each_command_prints_what_its_golden_file_says() {
    let settings = Settings {
        server: "experimental { feature_flags = [\"wit-svid\"] }".to_owned(),
        ..Settings::default()
    };
    let lab = Lab::with(CREDENCE, settings);
    let server = lab.server();
    let mut golden = Golden::new(&lab);
    let conf = lab.server_config().display().to_string();
    golden.server("run", "-config missing/server.conf");
    golden.server("validate", &format!("-config {conf}"));
    golden.server("healthcheck", "-verbose");
    golden.server("token generate", "-spiffeID spiffe://example.org/nodes");
    golden.server("agent list", "");
    lab.entry("node", "workload", &["-hint", "first"]);
    let running = agent(&lab);
    of_the_agent(&mut golden);
    entries(&mut golden);
    federation(&mut golden);
    golden.server("debug getinfo", "");
    golden.server("logger get", "");
    golden.server("logger set", "-level warn");
    golden.server("logger reset", "");
    let identity = "-spiffeID spiffe://example.org/operator -ttl 60s";
    golden.server("x509 mint", identity);
    golden.server("jwt mint", &format!("{identity} -audience a"));
    golden.server("wit mint", identity);

    let ids = agent_ids(&lab);
    let id = format!("-spiffeID {}", ids.first().expect("an agent"));
    golden.server("agent list", "");
    golden.server("agent count", "");
    golden.server("agent show", &id);
    golden.server("agent purge", "");
    assert!(running.stop().success());
    golden.server("agent ban", &id);
    golden.server("agent evict", &id);
    authorities(&mut golden);
    assert!(server.stop().success());
    golden.compare();
}

#[test]
fn an_instance_takes_its_place_in_the_template_of_the_environment() {
    let lab = Lab::new(CREDENCE);
    let _server = lab.server();
    let _agent = lab.agent("blue");
    let dir = lab.dir().display();
    for (program, variable, template, instance) in [
        (
            "server",
            "SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE",
            "%i/private/api.sock",
            "server",
        ),
        (
            "agent",
            "SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE",
            "%i/run/spire/public/api.sock",
            "blue",
        ),
    ] {
        let check = |instance: &str| {
            let mut command = Command::new(CREDENCE);
            command.args([program, "healthcheck", "-instance", instance]);
            command.env(variable, format!("{dir}/{template}"));
            command.output().expect("run healthcheck")
        };
        credence_test_support::wait_until("healthy", Duration::from_secs(10), || {
            check(instance).status.success().then_some(())
        });
        let other = check("green");
        assert_eq!(other.status.code(), Some(1), "{}", said(&other));
    }
}
