//! `run` and `validate`: the server itself, by one reading of the configuration.

use clap::Args;
use credence_command::{CommandError, Console, load_config, say_validity};

use crate::{
    app,
    config::{ServerConfig, ServerOverrides, Warning},
};

const DEFAULT_CONFIG: &str = "conf/server/server.conf";

/// Flags win over the file; an empty value counts as none.
#[derive(Args, Debug)]
pub(super) struct Flags {
    /// The configuration file
    #[arg(long = "config", value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: String,
    /// Expands $VARIABLES in the configuration file
    #[arg(long = "expandEnv")]
    expand_env: bool,
    /// IP address of the TCP endpoint
    #[arg(long = "bindAddress", value_name = "ADDRESS")]
    bind_address: Option<String>,
    /// Port of the TCP endpoint
    #[arg(long = "serverPort", value_name = "PORT")]
    server_port: Option<String>,
    /// Folder for what the server keeps
    #[arg(long = "dataDir", value_name = "DIR")]
    data_dir: Option<String>,
    /// File to write the log to
    #[arg(long = "logFile", value_name = "FILE")]
    log_file: Option<String>,
    /// Form of the log: text or json
    #[arg(long = "logFormat", value_name = "FORMAT")]
    log_format: Option<String>,
    /// Level of the log: debug, info, warn or error
    #[arg(long = "logLevel", value_name = "LEVEL")]
    log_level: Option<String>,
    /// Names the source of each log line
    #[arg(long = "logSourceLocation", value_name = "BOOL")]
    log_source_location: Option<bool>,
    /// The trust domain that the server issues for
    #[arg(long = "trustDomain", value_name = "NAME")]
    trust_domain: Option<String>,
    /// Path of the API socket
    #[arg(long = "socketPath", value_name = "PATH")]
    socket_path: Option<String>,
}

impl Flags {
    fn load(&self) -> Result<(ServerConfig, Vec<Warning>), Vec<String>> {
        load_config(&self.config, DEFAULT_CONFIG, |path| {
            ServerConfig::load(path, &self.overrides(), self.expand_env)
        })
    }

    fn overrides(&self) -> ServerOverrides {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        ServerOverrides {
            bind_address: given(&self.bind_address),
            bind_port: given(&self.server_port),
            data_dir: given(&self.data_dir),
            log_file: given(&self.log_file),
            log_format: given(&self.log_format),
            log_level: given(&self.log_level),
            log_source_location: self.log_source_location,
            trust_domain: given(&self.trust_domain),
            socket_path: given(&self.socket_path),
        }
    }
}

/// Runs the server until it is told to stop.
pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let (config, warnings) = flags
        .load()
        .map_err(|faults| CommandError::new(faults.join("\n")))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(app::run(config, &warnings)).map_err(|error| {
        let error = CommandError::chain(&error);
        tracing::error!(%error, "Server crashed");
        error
    })
}

/// Says whether `run` would take the configuration, and names all its faults.
pub(super) fn validate(flags: &Flags, console: &mut Console<'_>) -> u8 {
    say_validity("server", flags.load(), console)
}
