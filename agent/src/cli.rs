//! The commands of the agent's program: running it, and what a workload can ask it over its socket.
//!
//! Owns the texts and exit statuses, which are SPIRE's. Never touches the cache: it sees of a running agent what any
//! workload sees. Each command is a function of a channel and a [`Console`], so that tests need no process.

mod admin;
mod api;
mod examples;
mod files;
mod healthcheck;
mod run;

use std::time::Duration;

use clap::{Parser, Subcommand};
use credence_command::{CommandError, Console, address::Defaults, error::in_time, flags, help};

/// What a call of the admin socket may take.
const DEADLINE: Duration = Duration::from_secs(30);

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
    /// Facts about the running agent
    #[command(subcommand)]
    Debug(admin::Debug),
    /// The level of the running agent's log
    #[command(subcommand)]
    Logger(admin::Logger),
    /// The Workload API
    #[command(subcommand)]
    Api(api::Command),
    /// Keeps certificates, keys and tokens in files, as spiffe-helper does
    Files(files::Files),
}

/// The command line, for completion and for tests; `program` is the name that help shows.
pub fn command(program: &str) -> clap::Command {
    help::teach(flags::command::<Program>(), program, examples::EXAMPLES)
}

/// Runs the program's command line (without its name) to its end and returns the exit status.
///
/// `program` is the name that usage texts show. Blocks; makes its own tokio runtime.
pub fn main(program: &str, arguments: &[String], console: &mut Console<'_>) -> u8 {
    let program = match flags::parse_as::<Program>(command(program), program, arguments, console) {
        Ok(program) => program,
        Err(status) => return status,
    };
    let outcome = match &program.command {
        Command::Validate(flags) => return run::validate(flags, console),
        Command::Run(flags) => run::run(flags).map(|()| 0),
        Command::Files(files) => files.run(),
        command => remote(command, console).map(|()| 0),
    };
    match outcome {
        Ok(status) => status,
        Err(error) => {
            // Only those of the admin socket have the prefix that all commands of the server have: scripts compare the
            // text. Nothing better can be done when stderr is gone.
            drop(match &program.command {
                Command::Debug(_) | Command::Logger(_) => writeln!(console.err, "Error: {error}"),
                _ => writeln!(console.err, "{error}"),
            });
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
            Command::Run(_) | Command::Validate(_) | Command::Files(_) => Ok(()),
            Command::Healthcheck(command) => command.call(console).await,
            Command::Api(command) => command.call(console).await,
            Command::Debug(command) => in_time(DEADLINE, command.call(console)).await,
            Command::Logger(command) => in_time(DEADLINE, command.call(console)).await,
        }
    })
}

#[cfg(test)]
mod tests;
