//! The commands of the agent's program: running it, and what a workload can ask it over its socket.
//!
//! Owns the texts and exit statuses, which are SPIRE's. Never touches the cache: it sees of a running agent what any
//! workload sees. Each command is a function of a channel and a [`Console`], so that tests need no process.

mod api;
mod healthcheck;
mod run;

use clap::{Parser, Subcommand};
use credence_command::{CommandError, Console, address::Defaults, flags};

const SOCKET: Defaults = Defaults {
    path: "/tmp/spire-agent/public/api.sock",
    variable: "SPIRE_AGENT_PUBLIC_SOCKET",
    template: "SPIRE_AGENT_PUBLIC_SOCKET_TEMPLATE",
};

/// The agent of a node, and what workloads can ask it.
#[derive(Debug, Parser)]
#[command(version = credence_runtime::VERSION, subcommand_required = true, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the agent
    Run(run::Flags),
    /// Validates an agent configuration file
    Validate(run::Flags),
    /// Determines agent health status
    Healthcheck(healthcheck::Healthcheck),
    /// The Workload API
    #[command(subcommand)]
    Api(api::Command),
}

/// Runs the program's command line (without its name) to its end and returns the exit status.
///
/// `program` is the name that usage texts show. Blocks; makes its own tokio runtime.
pub fn main(program: &str, arguments: &[String], console: &mut Console<'_>) -> u8 {
    let program = match flags::parse::<Program>(program, arguments, console) {
        Ok(program) => program,
        Err(status) => return status,
    };
    let outcome = match &program.command {
        Command::Validate(flags) => return run::validate(flags, console),
        Command::Run(flags) => run::run(flags),
        command => remote(command, console),
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            // Without a prefix, unlike the server's commands: scripts compare the text. Nothing better can be done when
            // stderr is gone.
            drop(writeln!(console.err, "{error}"));
            1
        }
    }
}

fn remote(command: &Command, console: &mut Console<'_>) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match command {
            Command::Run(_) | Command::Validate(_) => Ok(()),
            Command::Healthcheck(command) => command.call(console).await,
            Command::Api(command) => command.call(console).await,
        }
    })
}

#[cfg(test)]
mod tests;
