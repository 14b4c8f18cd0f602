//! The commands of the server's program: running it, and administering a running one over its local socket.
//!
//! Owns the texts and exit statuses, which are SPIRE's. Never touches the registry or the store: all it knows of a
//! running server comes through the API that any other client has. Each command is a function of a channel and a
//! [`Console`], so that tests need no process.

mod agent;
mod bundle;
mod debug;
mod entry;
mod examples;
mod federation;
mod healthcheck;
mod jwt;
mod localauthority;
mod logger;
mod request;
mod run;
mod token;
mod wit;
mod x509;

use std::time::Duration;

use clap::{Args, Parser, Subcommand};
use credence_command::{
    CommandError, Console,
    address::{Defaults, SocketFlags},
    error::in_time,
    flags, help,
};
use tonic::transport::Channel;

/// Deadline of all calls of one command together. The largest lists come in pages well within it.
const DEADLINE: Duration = Duration::from_secs(120);

const SOCKET: Defaults = Defaults {
    path: "/tmp/spire-server/private/api.sock",
    variable: "SPIRE_SERVER_PRIVATE_SOCKET",
    template: "SPIRE_SERVER_PRIVATE_SOCKET_TEMPLATE",
};

/// The server of a trust domain, and its administration.
#[derive(Debug, Parser)]
#[command(version = credence_runtime::VERSION, subcommand_required = true, arg_required_else_help = true)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Runs the server
    Run(run::Flags),
    /// Validates a server configuration file
    Validate(run::Flags),
    /// Determines server health status
    Healthcheck(Remote<healthcheck::Healthcheck>),
    /// Registration entries
    #[command(subcommand)]
    Entry(entry::Command),
    /// Attested nodes
    #[command(subcommand)]
    Agent(agent::Command),
    /// Join tokens
    #[command(subcommand)]
    Token(token::Command),
    /// Trust bundles
    #[command(subcommand)]
    Bundle(bundle::Command),
    /// Federation relationships with other trust domains
    #[command(subcommand)]
    Federation(federation::Command),
    /// X509-SVIDs without an entry
    #[command(subcommand)]
    X509(x509::Command),
    /// Facts about the running server
    #[command(subcommand)]
    Debug(debug::Command),
    /// The level of the running server's log
    #[command(subcommand)]
    Logger(logger::Command),
    /// JWT-SVIDs without an entry
    #[command(subcommand)]
    Jwt(jwt::Command),
    /// WIT-SVIDs without an entry
    #[command(subcommand)]
    Wit(wit::Command),
    /// Rotation of the authorities by hand
    #[command(subcommand)]
    Localauthority(localauthority::Command),
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
    let outcome = match program.command {
        Command::Validate(flags) => return run::validate(&flags, console),
        Command::Run(flags) => run::run(&flags),
        command => remote(command, console),
    };
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            // Nothing better can be done when stderr is gone.
            drop(writeln!(console.err, "Error: {error}"));
            1
        }
    }
}

fn remote(command: Command, console: &mut Console<'_>) -> Result<(), CommandError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(in_time(DEADLINE, async {
        match command {
            Command::Run(_) | Command::Validate(_) => Ok(()),
            Command::Healthcheck(command) => command.call(console).await,
            Command::Entry(command) => command.call(console).await,
            Command::Agent(command) => command.call(console).await,
            Command::Token(token::Command::Generate(command)) => command.call(console).await,
            Command::Bundle(command) => command.call(console).await,
            Command::Federation(command) => command.call(console).await,
            Command::X509(x509::Command::Mint(command)) => command.call(console).await,
            Command::Debug(debug::Command::Getinfo(command)) => command.call(console).await,
            Command::Logger(command) => command.call(console).await,
            Command::Jwt(jwt::Command::Mint(command)) => command.call(console).await,
            Command::Wit(wit::Command::Mint(command)) => command.call(console).await,
            Command::Localauthority(command) => command.call(console).await,
        }
    }))
}

/// A command that talks to a running server.
trait RemoteCommand {
    async fn run(&self, channel: Channel, console: &mut Console<'_>) -> Result<(), CommandError>;

    /// What it means to this command that nobody listens on the socket.
    fn unreachable(&self, error: CommandError, _: &mut Console<'_>) -> CommandError {
        error
    }
}

/// Such a command with the flags that say where the server is.
#[derive(Args, Debug)]
struct Remote<C: Args> {
    #[command(flatten)]
    socket: SocketFlags,
    #[command(flatten)]
    command: C,
}

impl<C: Args + RemoteCommand> Remote<C> {
    async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        match self.socket.connect(&SOCKET).await {
            Ok(channel) => self.command.run(channel, console).await,
            Err(error) => Err(self.command.unreachable(error, console)),
        }
    }
}

#[cfg(test)]
mod tests;
