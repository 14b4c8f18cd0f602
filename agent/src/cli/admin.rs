//! `debug` and `logger`: commands that ask the agent's admin socket.

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use credence_command::running::{LevelFlag, ShownCertificate, print_chain, show_logger};
use credence_command::{CommandError, Console, GoDuration, address::connect, date, output::Output};
use credence_identity::Timestamp;
use credence_proto::spire::agent::debug::v1::{GetInfoRequest, GetInfoResponse, debug_client::DebugClient};
use credence_proto::spire::api::agent::logger::v1::{
    GetLoggerRequest, ResetLogLevelRequest, SetLogLevelRequest, logger_client::LoggerClient,
};
use tonic::transport::Channel;

const SOCKET: &str = "/tmp/spire-agent/private/admin.sock";

#[derive(Debug, Subcommand)]
pub(super) enum Debug {
    /// Prints debug information about the agent
    Getinfo(GetInfo),
}

#[derive(Debug, Subcommand)]
pub(super) enum Logger {
    /// Gets the logger details
    Get(Get),
    /// Sets the log level
    Set(Set),
    /// Resets the log level to that of the launch
    Reset(Reset),
}

/// Where the agent's admin socket is; unlike the public one's, its path is in no variable.
#[derive(Args, Debug)]
struct Admin {
    /// Path of the agent's admin socket
    #[arg(long = "socketPath", value_name = "PATH", default_value = SOCKET)]
    socket_path: PathBuf,
    #[command(flatten)]
    output: Output,
}

impl Admin {
    async fn channel(&self) -> Result<Channel, CommandError> {
        let given = self.socket_path.as_path();
        connect(if given.as_os_str().is_empty() {
            Path::new(SOCKET)
        } else {
            given
        })
        .await
    }
}

#[derive(Args, Debug)]
pub(super) struct GetInfo {
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args, Debug)]
pub(super) struct Get {
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args, Debug)]
pub(super) struct Set {
    #[command(flatten)]
    level: LevelFlag,
    #[command(flatten)]
    admin: Admin,
}

#[derive(Args, Debug)]
pub(super) struct Reset {
    #[command(flatten)]
    admin: Admin,
}

impl Debug {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        let Self::Getinfo(GetInfo { admin }) = self;
        let mut client = DebugClient::new(admin.channel().await?);
        let info = client.get_info(GetInfoRequest {}).await?.into_inner();
        if admin.output.print_data(console, &info)? {
            return Ok(());
        }
        print_info(console, &info)
    }
}

fn print_info(console: &mut Console<'_>, info: &GetInfoResponse) -> Result<(), CommandError> {
    let out = &mut *console.out;
    let uptime = std::time::Duration::from_secs(u64::try_from(info.uptime).unwrap_or_default());
    let last_sync = match info.last_sync_success {
        0 => "(never)".to_owned(),
        at => date::rfc3339(Timestamp::from_unix_seconds(at)),
    };
    writeln!(out, "Agent Debug Info:")?;
    let mut line = |label: &str, value: &dyn std::fmt::Display| writeln!(out, "  {label:<33}{value}");
    line("Uptime:", &GoDuration::from(uptime))?;
    line("Last Sync Success:", &last_sync)?;
    line("Cached X.509 SVIDs:", &info.cached_x509_svids_count)?;
    line("Cached JWT SVIDs:", &info.cached_jwt_svids_count)?;
    line(
        "Cached SVID Store X.509 SVIDs:",
        &info.cached_svidstore_x509_svids_count,
    )?;
    let chain = info.svid_chain.iter().map(|certificate| ShownCertificate {
        id: certificate.id.as_ref(),
        subject: &certificate.subject,
        expires_at: certificate.expires_at,
    });
    Ok(print_chain(out, chain)?)
}

impl Logger {
    pub(super) async fn call(&self, console: &mut Console<'_>) -> Result<(), CommandError> {
        let (admin, logger) = match self {
            Self::Get(Get { admin }) => {
                let mut client = LoggerClient::new(admin.channel().await?);
                let answer = client.get_logger(GetLoggerRequest {}).await;
                (
                    admin,
                    answer.map_err(|error| failed("error fetching logger", error)),
                )
            }
            Self::Set(Set { level, admin }) => {
                let new_level = level.number()?;
                let mut client = LoggerClient::new(admin.channel().await?);
                let answer = client.set_log_level(SetLogLevelRequest { new_level }).await;
                (
                    admin,
                    answer.map_err(|error| failed("failed to set log level", error)),
                )
            }
            Self::Reset(Reset { admin }) => {
                let mut client = LoggerClient::new(admin.channel().await?);
                let answer = client.reset_log_level(ResetLogLevelRequest {}).await;
                (
                    admin,
                    answer.map_err(|error| failed("failed to reset logger", error)),
                )
            }
        };
        show_logger(console, admin.output, logger?.get_ref())
    }
}

fn failed(what: &str, status: tonic::Status) -> CommandError {
    CommandError::from(status).context(what)
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[test]
    fn information_reads_as_spires() {
        let info = GetInfoResponse {
            uptime: 3_661,
            cached_x509_svids_count: 2,
            ..GetInfoResponse::default()
        };
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            input: &mut io::empty(),
            out: &mut out,
            err: &mut err,
            terminal: None,
        };
        print_info(&mut console, &info).unwrap();
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "Agent Debug Info:\n  Uptime:                          1h1m1s\n  Last Sync Success:               (never)\n  \
             Cached X.509 SVIDs:              2\n  Cached JWT SVIDs:                0\n  Cached SVID Store X.509 SVIDs:   \
             0\n"
        );
    }
}
