//! `credence explain`: why a workload has no identity, asked of the agent of this node or of the server.
//!
//! Owns the command line and whom it asks. Where nobody answers it says what is wrong instead. Never asks the Workload API.

mod ask;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use credence_command::output::Output;
use credence_command::{CommandError, Console, flags};

/// Exit status where the question couldn't be answered.
const NO_ANSWER: u8 = 2;

/// Why a workload has no identity, and what to do about it.
///
/// Ends with status 0 if nothing is wrong, 1 if a fault was named, 2 if there was no answer.
#[derive(Debug, Parser)]
#[command(name = "explain", subcommand_required = true, arg_required_else_help = true)]
struct Explain {
    #[command(subcommand)]
    question: Question,
}

#[derive(Debug, Subcommand)]
enum Question {
    /// On a node: why a process has no identity
    ///
    /// Example: credence explain pid 4711 -config conf/agent/agent.conf
    Pid {
        /// The number of the process
        #[arg(value_name = "PID")]
        pid: i32,
        /// The identity that is missed, if it is one of several
        #[arg(long = "spiffeID", value_name = "ID", default_value = "")]
        spiffe_id: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        output: Output,
    },
    /// On the server: why an entry reaches no workload
    ///
    /// Example: credence explain entry web -agentID spiffe://example.org/spire/agent/join_token/4bd5…
    Entry {
        /// The entry's ID
        #[arg(value_name = "ID")]
        id: String,
        /// The agent that should serve it
        #[arg(long = "agentID", value_name = "ID", default_value = "")]
        agent_id: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        output: Output,
    },
    /// On the server: why no workload gets a SPIFFE ID, or why an agent has no entries
    ///
    /// Example: credence explain spiffe-id spiffe://example.org/web
    SpiffeId {
        /// The SPIFFE ID
        #[arg(value_name = "ID")]
        id: String,
        /// The agent that should serve it
        #[arg(long = "agentID", value_name = "ID", default_value = "")]
        agent_id: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        output: Output,
    },
    /// On both: why a call was refused, by the request id of its metadata or of the log
    ///
    /// Example: credence explain request 5b0e7c1e-3f6f-4a0c-9d5e-0a7a6cbb1a53
    Request {
        /// The number in the metadata credence-request-id, or after request_id= in the log
        #[arg(value_name = "ID")]
        id: String,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        output: Output,
    },
}

/// Where to ask.
#[derive(Args, Clone, Debug)]
struct Place {
    /// The socket to ask: explain.sock in the agent's data_dir, or the server's own
    #[arg(long = "socketPath", value_name = "PATH")]
    socket_path: Option<PathBuf>,
    /// The agent's configuration file, which says where its socket is
    #[arg(long = "config", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Expands $VARIABLES in the configuration file
    #[arg(long = "expandEnv")]
    expand_env: bool,
}

/// The command line, for completion.
pub(crate) fn command() -> clap::Command {
    flags::command::<Explain>()
}

/// Runs the command line (without its name) and returns the exit status.
pub(crate) fn main(arguments: &[String], console: &mut Console<'_>) -> u8 {
    let Explain { question } = match flags::parse("credence explain", arguments, console) {
        Ok(explain) => explain,
        Err(status) => return status,
    };
    match answer(&question, console) {
        Ok(status) => status,
        Err(error) => {
            // Nothing better can be done when stderr is gone.
            drop(writeln!(console.err, "Error: {error}"));
            NO_ANSWER
        }
    }
}

fn answer(question: &Question, console: &mut Console<'_>) -> Result<u8, CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(ask::ask(question, console))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(line: &[&str]) -> (u8, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            input: &mut std::io::empty(),
            out: &mut out,
            err: &mut err,
            terminal: None,
        };
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let status = main(&line, &mut console);
        (
            status,
            String::from_utf8(out).unwrap() + &String::from_utf8(err).unwrap(),
        )
    }

    #[test]
    fn what_is_wrong_with_the_place_is_explained_instead() {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("agent.conf");
        let (status, text) = run(&["pid", "1", "-config", &config.display().to_string()]);
        assert_eq!(status, 1, "{text}");
        assert!(text.contains("[config-missing]"), "{text}");
        std::fs::write(&config, "agent {\n trust_domian = \"x\"\n}\n").unwrap();
        let (status, text) = run(&["pid", "1", "-config", &config.display().to_string()]);
        assert_eq!(status, 1, "{text}");
        assert!(
            text.contains("[config-invalid]") && text.contains("trust_domian"),
            "{text}"
        );
        let socket = dir.path().join("explain.sock").display().to_string();
        let (status, text) = run(&["pid", "1", "-output", "json", "-socketPath", &socket]);
        assert_eq!(status, 1, "{text}");
        assert!(text.contains("\"cause\":\"agent-not-running\""), "{text}");
        let (status, text) = run(&["entry", "x", "-socketPath", &socket]);
        assert_eq!(status, 1, "{text}");
        assert!(text.contains("[server-not-running]"), "{text}");
    }

    #[test]
    fn a_question_needs_what_it_asks_about() {
        assert_eq!(run(&[]).0, 127);
        assert_eq!(run(&["pid"]).0, 1);
        assert_eq!(run(&["pid", "x"]).0, 1);
    }
}
