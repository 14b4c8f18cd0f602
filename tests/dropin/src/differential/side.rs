//! One side: a server, and an agent if the table wants one, of one make.

use std::collections::BTreeMap;
use std::time::Duration;

use credence_runtime::grpc::connect_unix;
use credence_test_support::Process;
use serde_json::Value;
use tonic::transport::Channel;

use super::audit::AuditLog;
use super::cast::Cast;
use super::fixtures::FIXTURES;
use super::normal::Normal;
use super::steps::{Action, Step, Table};
use super::{call, command, metrics, prove, talk};
use crate::certificates::Issued;
use crate::{Programs, Site};

/// How long a step is repeated, and how often.
const PATIENCE: Duration = Duration::from_secs(20);
const PAUSE: Duration = Duration::from_millis(200);

/// A running side, and what it said that later steps use.
#[derive(Debug)]
pub(super) struct Side {
    programs: Programs,
    commands: Programs,
    site: Site,
    agent: Option<String>,
    processes: Vec<Process>,
    outcasts: bool,
    cast: Option<Cast>,
    nodes: BTreeMap<String, Issued>,
    audit: Option<AuditLog>,
    /// Where programs show their metrics, by `server` and `agent`.
    metrics: BTreeMap<&'static str, u16>,
    channels: BTreeMap<String, Channel>,
    captured: BTreeMap<String, String>,
    steps: usize,
}

impl Side {
    /// Starts the server.
    ///
    /// `commands` are the programs whose command lines are typed: those of either make administer either.
    pub(super) fn start(programs: &Programs, commands: &Programs, table: &Table) -> Self {
        let site = Site::new(&table.server);
        let mut ports = BTreeMap::new();
        if table.metrics {
            let (port, block) = metrics::endpoint();
            site.append("server.conf", &block);
            ports.insert("server", port);
        }
        let server = site.start_server(programs);
        Self {
            programs: programs.clone(),
            commands: commands.clone(),
            site,
            agent: table.agent.clone(),
            processes: vec![server],
            outcasts: table.outcasts,
            cast: None,
            nodes: BTreeMap::new(),
            audit: table.audit.then(AuditLog::default),
            metrics: ports,
            channels: BTreeMap::new(),
            captured: BTreeMap::new(),
            steps: 0,
        }
    }

    /// Assembles the callers, and starts the agent if the table wants one.
    pub(super) async fn raise(&mut self) {
        let local = self.channel("local").await;
        self.cast = Some(Cast::assemble(&local, self.site.port(), self.outcasts).await);
        if let Some(lines) = &self.agent {
            self.site.configure_joining(&self.programs, "agent", lines);
            if !self.metrics.is_empty() {
                let (port, block) = metrics::endpoint();
                self.site.append("agent/agent.conf", &block);
                self.metrics.insert("agent", port);
            }
            let agent = self.site.start_agent(&self.programs, "agent");
            self.processes.push(agent);
        }
        if let Some(audit) = &mut self.audit {
            drop(audit.events(&self.site.server_log()).await);
        }
    }

    async fn channel(&mut self, caller: &str) -> Channel {
        if let Some(channel) = self.channels.get(caller) {
            return channel.clone();
        }
        let socket = match caller {
            "local" => Some(self.site.server_socket()),
            "public" | "headerless" => Some(self.site.agent_socket("agent")),
            "adminsocket" => Some(self.site.admin_socket("agent")),
            _ => None,
        };
        let channel = match (socket, &self.cast) {
            (Some(socket), _) => connect_unix(&socket).await.expect("connect to a socket"),
            (None, Some(cast)) => cast.connect(caller).await,
            (None, None) => panic!("{caller} calls before the callers are there"),
        };
        self.channels.insert(caller.to_owned(), channel.clone());
        channel
    }

    /// Does one step and returns its transcript.
    pub(super) async fn execute(&mut self, step: &Step) -> Value {
        self.steps += 1;
        let mut said = self.attempt(step).await;
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while step.until.is_some_and(|until| !reached(&said, until)) && tokio::time::Instant::now() < deadline
        {
            tokio::time::sleep(PAUSE).await;
            said = self.attempt(step).await;
        }
        for (name, path) in &step.captures {
            let pointer = format!("/{}", path.replace('.', "/"));
            let found = said.pointer(&pointer).map(|value| match value {
                Value::String(text) => text.clone(),
                other => other.to_string(),
            });
            // The comparison says so when only one side has it.
            let found = found.unwrap_or_else(|| format!("no-{name}"));
            self.captured.insert(name.clone(), found);
        }
        if matches!(step.action, Action::Metrics(_)) {
            // Long names look like keys.
            return said;
        }
        if let (Some(audit), Value::Object(members)) = (&mut self.audit, &mut said) {
            let events = audit.events(&self.site.server_log()).await;
            members.insert("audit".into(), Value::from(events));
        }
        Normal::new(self.known()).transcript(said)
    }

    async fn attempt(&mut self, step: &Step) -> Value {
        match &step.action {
            Action::Call {
                caller,
                method,
                request,
            } => {
                let request = self.fill(&request.to_string());
                let request = serde_json::from_str(&request)
                    .unwrap_or_else(|error| panic!("{} {error}: {request}", step.place));
                let header = caller != "headerless";
                let channel = self.channel(caller).await;
                call::call(channel, method, &request, header).await
            }
            Action::Command { agent, words, input } => {
                let words: Vec<String> = words.iter().map(|word| self.fill(word)).collect();
                let input = self.fill(input).replace("\\n", "\n");
                command::run(&self.commands, &self.site, *agent, &words, &input).await
            }
            Action::Prove {
                caller,
                certificate,
                fault,
            } => {
                let channel = self.channel(caller).await;
                let certificates = self.site.certificates();
                let node = self
                    .nodes
                    .entry(certificate.clone())
                    .or_insert_with(|| certificates.issue(certificate));
                let csr = FIXTURES.get("csr").expect("a CSR");
                prove::attest(channel, node, csr, fault).await
            }
            Action::Talk {
                caller,
                method,
                messages,
            } => {
                let channel = self.channel(caller).await;
                talk::talk(channel, method, messages).await
            }
            Action::Metrics(program) => {
                let port = self.metrics.get(program.as_str());
                metrics::series(*port.expect("@metrics, and @agent for the agent's")).await
            }
            Action::Pause(milliseconds) => {
                tokio::time::sleep(Duration::from_millis(*milliseconds)).await;
                Value::Null
            }
            Action::Validate { block, lines } => {
                command::validate(&self.commands, &self.site, block, &self.fill(lines)).await
            }
        }
    }

    /// Puts in captured values, fixtures, places and the number of the step.
    fn fill(&self, text: &str) -> String {
        if !text.contains('$') {
            return text.to_owned();
        }
        let mut text = text
            .replace("$n", &self.steps.to_string())
            .replace("${dir}", &self.site.folder().display().to_string());
        for (name, value) in &self.captured {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        for (name, value) in FIXTURES.iter() {
            text = text.replace(&format!("${{{name}}}"), value);
        }
        text
    }

    /// What is this side's own in an answer: captured values and places.
    fn known(&self) -> Vec<(String, String)> {
        let captured = self
            .captured
            .iter()
            .filter(|(_, value)| value.len() > 5)
            .map(|(name, value)| (value.clone(), format!("${{{name}}}")));
        let folder = self.site.folder().display().to_string();
        let port = format!("127.0.0.1:{}", self.site.port());
        captured
            .chain([(folder, "${dir}".into()), (port, "${address}".into())])
            .collect()
    }
}

/// Whether an answer has a list of `items` or more, or a command exited with that.
fn reached(said: &Value, items: usize) -> bool {
    let lists = said.pointer("/answers/0").and_then(Value::as_object);
    let long = lists.is_some_and(|members| {
        members
            .values()
            .filter_map(Value::as_array)
            .any(|list| list.len() >= items)
    });
    long || said.get("exit").and_then(Value::as_u64) == Some(items as u64)
}
