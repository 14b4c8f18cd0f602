//! Command lines and configuration files.

use std::fs;
use std::process::{Output, Stdio};

use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::{Programs, Site};

/// Runs a command line of the server or of the agent; the transcript is its exit status and what it printed.
pub(super) async fn run(
    programs: &Programs,
    site: &Site,
    agent: bool,
    words: &[String],
    input: &str,
) -> Value {
    let program = if agent { &programs.agent } else { &programs.server };
    let mut command = Command::new(program);
    command.current_dir(site.folder());
    if words.first().is_some_and(|word| word == "wit") {
        // Without it SPIRE has no such command.
        command.env("SPIRE_SERVER_FFLAGS", "wit-svid");
    }
    let local = ["run", "validate", "-version", "--version", "version"];
    let first = words.first().map_or("", String::as_str);
    // The words of a command: what comes after them are its flags.
    let length = match first {
        "healthcheck" => 1,
        "localauthority" | "upstreamauthority" => 3,
        "api" if words.get(1).is_some_and(|word| word != "watch") => 3,
        _ => 2,
    };
    let names = words.iter().take_while(|word| !word.starts_with('-'));
    let (of_command, flags) = words.split_at(names.count().min(length));
    command.args(of_command);
    let bare = flags.iter().any(|word| word == "-socketPath");
    if !bare && !local.contains(&first) && of_command.len() > usize::from(first != "healthcheck") {
        let socket = match (agent, first) {
            (false, _) => site.server_socket(),
            (true, "debug" | "logger") => site.admin_socket("agent"),
            (true, _) => site.agent_socket("agent"),
        };
        command.arg("-socketPath").arg(socket);
    }
    command.args(flags);
    let output = finish(command, input).await;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    json!({
        "exit": output.status.code(),
        "stdout": printed(&stdout),
        "stderr": plain(&without_doubts(&stderr)),
    })
}

/// Without the warnings about new entries that SPIRE hasn't got.
fn without_doubts(text: &str) -> String {
    const DOUBTS: [&str; 3] = [
        "Warning: no agent and no entry has the parent ID ",
        "Warning: no workload attestor makes selectors ",
        "Warning: no attested agent has selectors ",
    ];
    let is_doubt = |line: &&str| DOUBTS.iter().any(|doubt| line.starts_with(doubt));
    text.split_inclusive('\n')
        .filter(|line| !is_doubt(line))
        .collect()
}

/// JSON as what it says, other output as its text.
fn printed(text: &str) -> Value {
    if text.starts_with(['{', '['])
        && let Ok(value) = serde_json::from_str::<Value>(text)
    {
        return value;
    }
    plain(text)
}

/// A usage text may teach more than SPIRE's, and how a flag is refused is the affair of the library: that it is, counts.
fn plain(text: &str) -> Value {
    let refused = [
        "flag provided",
        "flag needs",
        "invalid value",
        "invalid boolean",
        "error: ",
    ];
    if refused.iter().any(|words| text.starts_with(words)) && !text.contains("subcommand") {
        return json!("(refuses a flag)");
    }
    if text.contains("Usage") {
        return json!("(usage)");
    }
    Value::from(text)
}

/// Writes a configuration file and has it validated.
///
/// `block` is `server`, `agent`, or one of them with `.plugins` or `.top`; `lines` go into it, and a line `-key` takes a
/// key of the base away.
pub(super) async fn validate(programs: &Programs, site: &Site, block: &str, lines: &str) -> Value {
    let (program, block) = match block.split_once('.') {
        Some((program, block)) => (program, block),
        None => (block, "main"),
    };
    let agent = program == "agent";
    let dir = site.folder().display();
    let mut main = if agent {
        vec![
            "trust_domain = \"example.org\"".to_owned(),
            "server_address = \"127.0.0.1\"".into(),
            "server_port = 8081".into(),
            format!("data_dir = \"{dir}/validated\""),
            format!("trust_bundle_path = \"{}\"", site.certificates().root.display()),
        ]
    } else {
        vec![
            "trust_domain = \"example.org\"".to_owned(),
            format!("data_dir = \"{dir}/validated\""),
        ]
    };
    let mut plugins = if agent {
        vec![
            "KeyManager \"memory\" { plugin_data {} }".to_owned(),
            "NodeAttestor \"join_token\" { plugin_data {} }".into(),
            "WorkloadAttestor \"unix\" { plugin_data {} }".into(),
        ]
    } else {
        vec![
            format!(
                "DataStore \"sql\" {{ plugin_data {{ database_type = \"sqlite3\" connection_string = \
                 \"{dir}/validated.sqlite3\" }} }}"
            ),
            "KeyManager \"memory\" { plugin_data {} }".into(),
        ]
    };
    let mut top: Vec<String> = Vec::new();
    let target = match block {
        "main" => &mut main,
        "plugins" => &mut plugins,
        "top" => &mut top,
        other => panic!("no block {other}"),
    };
    for line in lines.split(" ;; ").filter(|line| !line.is_empty()) {
        match line.strip_prefix('-') {
            Some(key) => target.retain(|line| !line.starts_with(key)),
            None => target.push(line.to_owned()),
        }
    }
    let added: Vec<&str> = lines
        .split(" ;; ")
        .filter(|line| !line.is_empty() && !line.starts_with('-'))
        .collect();
    let text = format!(
        "{program} {{\n{}\n}}\nplugins {{\n{}\n}}\n{}\n",
        main.join("\n"),
        plugins.join("\n"),
        top.join("\n")
    );
    let file = site.folder().join(format!("validate-{program}.conf"));
    fs::write(&file, &text).expect("write a configuration file");
    let places: Vec<usize> = (1..)
        .zip(text.lines())
        .filter(|(_, line)| added.contains(line))
        .map(|(number, _)| number)
        .collect();
    let mut command = Command::new(if agent { &programs.agent } else { &programs.server });
    command
        .args(["validate", "-config"])
        .arg(&file)
        .current_dir(site.folder());
    let output = finish(command, "").await;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return json!({"exit": 0, "stdout": text.lines().last().unwrap_or_default()});
    }
    let text = text + &String::from_utf8_lossy(&output.stderr);
    json!({"exit": output.status.code(), "fault": text, "added": places})
}

async fn finish(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("run the command line");
    let mut stdin = child.stdin.take().expect("a pipe");
    // A command that doesn't read its input may have ended by now.
    drop(stdin.write_all(input.as_bytes()).await);
    drop(stdin);
    child.wait_with_output().await.expect("wait for the command line")
}
