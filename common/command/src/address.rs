//! Which socket a command talks to, and the connection to it.
//!
//! As SPIRE decides: the flag, else the template of the environment with the instance's name, else the socket of the
//! environment, else the default. A flag that names the default counts as no flag.

use std::{
    error::Error,
    io,
    path::{Path, PathBuf},
};

use clap::Args;
use credence_runtime::grpc::{ConnectError, connect_unix};
use tonic::{Status, transport::Channel};

use crate::{CommandError, error::io_text};

/// The flags that name a socket.
#[derive(Args, Clone, Debug, Default)]
pub struct SocketFlags {
    /// Path of the API socket
    #[arg(long = "socketPath", value_name = "PATH")]
    socket_path: Option<String>,
    /// Name that replaces %i in the socket template of the environment
    #[arg(long = "instance", value_name = "NAME")]
    instance: Option<String>,
}

/// Where a socket is when no flag says so.
#[derive(Clone, Copy, Debug)]
pub struct Defaults {
    /// The path.
    pub path: &'static str,
    /// The variable that replaces it.
    pub variable: &'static str,
    /// The variable that holds a path with `%i` in it.
    pub template: &'static str,
}

impl SocketFlags {
    /// Whether the command line says anything about the socket.
    pub fn is_given(&self) -> bool {
        [&self.socket_path, &self.instance]
            .into_iter()
            .flatten()
            .any(|text| !text.is_empty())
    }

    /// The path of the socket. `environment` looks a variable up.
    pub fn resolve(
        &self,
        defaults: &Defaults,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<PathBuf, CommandError> {
        let set = |variable| environment(variable).filter(|value| !value.is_empty());
        let instance = self.instance.as_deref().filter(|name| !name.is_empty());
        // A broken template is told of even when the flag makes it irrelevant, as SPIRE does.
        let from_template = match instance {
            Some(name) => Some(expand(defaults.template, set(defaults.template), name)?),
            None => None,
        };
        let flag = self.socket_path.clone().filter(|path| path != defaults.path);
        let path = flag
            .or(from_template)
            .or_else(|| set(defaults.variable))
            .unwrap_or_else(|| defaults.path.to_owned());
        Ok(PathBuf::from(path))
    }

    /// Connects to the socket that the flags and the process's environment name.
    pub async fn connect(&self, defaults: &Defaults) -> Result<Channel, CommandError> {
        let path = self.resolve(defaults, |variable| std::env::var(variable).ok())?;
        connect(&path).await
    }
}

fn expand(variable: &str, template: Option<String>, instance: &str) -> Result<String, CommandError> {
    let template = template
        .ok_or_else(|| CommandError::new(format!("you must define {variable} to use the instance flag")))?;
    if !template.contains("%i") {
        return Err(CommandError::new(format!("failed to find %i in {variable}")));
    }
    Ok(template.replace("%i", instance))
}

/// Connects to the gRPC server on a Unix socket.
pub async fn connect(path: &Path) -> Result<Channel, CommandError> {
    connect_unix(path)
        .await
        .map_err(|error| Status::unavailable(refusal(path, &error)).into())
}

/// Go's words for a socket nobody listens on, as far as the cause is an I/O error.
fn refusal(path: &Path, error: &ConnectError) -> String {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(error) = error.downcast_ref::<io::Error>() {
            let (path, error) = (path.display(), io_text(error));
            return format!(
                "connection error: desc = \"transport: Error while dialing: dial unix {path}: connect: {error}\""
            );
        }
        cause = error.source();
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: Defaults = Defaults {
        path: "/tmp/x/api.sock",
        variable: "X_SOCKET",
        template: "X_SOCKET_TEMPLATE",
    };

    fn resolve(flag: &str, instance: &str, environment: &[(&str, &str)]) -> Result<String, String> {
        let some = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
        let flags = SocketFlags {
            socket_path: some(flag),
            instance: some(instance),
        };
        let look_up = |name: &str| {
            let found = environment.iter().find(|(variable, _)| *variable == name);
            found.map(|(_, value)| (*value).to_owned())
        };
        flags
            .resolve(&DEFAULTS, look_up)
            .map(|path| path.display().to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_flag_goes_before_the_environment_and_that_before_the_default() {
        let both = [("X_SOCKET", "/e"), ("X_SOCKET_TEMPLATE", "/t/%i/a")];
        assert_eq!(resolve("", "", &[]), Ok("/tmp/x/api.sock".into()));
        assert_eq!(resolve("", "", &[("X_SOCKET", "")]), Ok("/tmp/x/api.sock".into()));
        assert_eq!(resolve("", "", &both), Ok("/e".into()));
        assert_eq!(resolve("", "blue", &both), Ok("/t/blue/a".into()));
        assert_eq!(resolve("/f", "blue", &both), Ok("/f".into()));
        assert_eq!(resolve("/tmp/x/api.sock", "", &both), Ok("/e".into()));
    }

    #[test]
    fn an_instance_needs_a_template() {
        assert_eq!(
            resolve("", "blue", &[]),
            Err("you must define X_SOCKET_TEMPLATE to use the instance flag".into())
        );
        assert_eq!(
            resolve("", "blue", &[("X_SOCKET_TEMPLATE", "/t")]),
            Err("failed to find %i in X_SOCKET_TEMPLATE".into())
        );
    }

    #[tokio::test]
    async fn a_missing_socket_reads_as_in_go() {
        let error = connect(Path::new("/nonexistent/api.sock")).await.unwrap_err();
        assert_eq!(
            error.to_string(),
            "rpc error: code = Unavailable desc = connection error: desc = \"transport: Error while dialing: \
             dial unix /nonexistent/api.sock: connect: no such file or directory\""
        );
    }
}
