//! `run` and `validate`: the agent itself, by one reading of the configuration.

use clap::Args;
use credence_command::{CommandError, Console, load_config, say_validity};

use crate::{
    app,
    config::{AgentConfig, AgentOverrides, Warning},
};

const DEFAULT_CONFIG: &str = "conf/agent/agent.conf";

/// Flags win over the file; an empty value counts as none.
#[derive(Args)]
pub(super) struct Flags {
    /// The configuration file
    #[arg(long = "config", value_name = "FILE", default_value = DEFAULT_CONFIG)]
    config: String,
    /// Expands $VARIABLES in the configuration file
    #[arg(long = "expandEnv")]
    expand_env: bool,
    /// Folder for what the agent keeps
    #[arg(long = "dataDir", value_name = "DIR")]
    data_dir: Option<String>,
    /// A join token of the server
    #[arg(long = "joinToken", value_name = "TOKEN")]
    join_token: Option<String>,
    /// File with a join token of the server
    #[arg(long = "joinTokenFile", value_name = "FILE")]
    join_token_file: Option<String>,
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
    /// IP address or name of the server
    #[arg(long = "serverAddress", value_name = "ADDRESS")]
    server_address: Option<String>,
    /// Port of the server
    #[arg(long = "serverPort", value_name = "PORT")]
    server_port: Option<String>,
    /// Path of the Workload API's socket
    #[arg(long = "socketPath", value_name = "PATH")]
    socket_path: Option<String>,
    /// The trust domain that the agent belongs to
    #[arg(long = "trustDomain", value_name = "NAME")]
    trust_domain: Option<String>,
    /// File with the server's CA bundle
    #[arg(long = "trustBundle", value_name = "FILE")]
    trust_bundle: Option<String>,
    /// URL of the server's CA bundle
    #[arg(long = "trustBundleUrl", value_name = "URL")]
    trust_bundle_url: Option<String>,
    /// Form of that bundle: pem or spiffe
    #[arg(long = "trustBundleFormat", value_name = "FORMAT")]
    trust_bundle_format: Option<String>,
    /// Trusts whatever server answers the first time
    #[arg(long = "insecureBootstrap", value_name = "BOOL")]
    insecure_bootstrap: Option<bool>,
    /// Whether to bootstrap anew when the server is not trusted: never, auto or always
    #[arg(long = "rebootstrapMode", value_name = "MODE")]
    rebootstrap_mode: Option<String>,
    /// How long to wait before that
    #[arg(long = "rebootstrapDelay", value_name = "DURATION")]
    rebootstrap_delay: Option<String>,
    /// Bundles for callers without an identity
    #[arg(long = "allowUnauthenticatedVerifiers", value_name = "BOOL")]
    allow_unauthenticated_verifiers: Option<bool>,
    /// Serves no Workload API
    #[arg(long = "disableWorkloadAPI", value_name = "BOOL")]
    disable_workload_api: Option<bool>,
    /// Serves no Envoy SDS API
    #[arg(long = "disableSDSAPI", value_name = "BOOL")]
    disable_sds_api: Option<bool>,
}

impl std::fmt::Debug for Flags {
    /// Without the join token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flags")
            .field("config", &self.config)
            .finish_non_exhaustive()
    }
}

impl Flags {
    fn load(&self) -> Result<(AgentConfig, Vec<Warning>), Vec<String>> {
        load_config(&self.config, DEFAULT_CONFIG, |path| {
            AgentConfig::load(path, &self.overrides(), self.expand_env)
        })
    }

    fn overrides(&self) -> AgentOverrides {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        AgentOverrides {
            data_dir: given(&self.data_dir),
            join_token: given(&self.join_token),
            join_token_file: given(&self.join_token_file),
            log_file: given(&self.log_file),
            log_format: given(&self.log_format),
            log_level: given(&self.log_level),
            log_source_location: self.log_source_location,
            server_address: given(&self.server_address),
            server_port: given(&self.server_port),
            socket_path: given(&self.socket_path),
            trust_domain: given(&self.trust_domain),
            trust_bundle_path: given(&self.trust_bundle),
            trust_bundle_url: given(&self.trust_bundle_url),
            trust_bundle_format: given(&self.trust_bundle_format),
            insecure_bootstrap: self.insecure_bootstrap,
            rebootstrap_mode: given(&self.rebootstrap_mode),
            rebootstrap_delay: given(&self.rebootstrap_delay),
            allow_unauthenticated_verifiers: self.allow_unauthenticated_verifiers,
            disable_workload_api: self.disable_workload_api,
            disable_sds_api: self.disable_sds_api,
        }
    }
}

/// Runs the agent until it is told to stop. What it dies of is in its log too.
pub(super) fn run(flags: &Flags) -> Result<(), CommandError> {
    let (config, warnings) = flags
        .load()
        .map_err(|faults| CommandError::new(faults.join("\n")))?;
    // One thread: a call takes less than handing it to another core, and whatever blocks runs beside it.
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let ended = runtime.block_on(app::run(config, &warnings));
    ended.map_err(|error| CommandError::chain(&error))
}

/// Says whether `run` would take the configuration, and names all its faults.
pub(super) fn validate(flags: &Flags, console: &mut Console<'_>) -> u8 {
    say_validity("agent", flags.load(), console)
}
