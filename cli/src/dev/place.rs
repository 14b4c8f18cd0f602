//! Where a dev trust domain lives: one folder that only this user can enter, with the two configuration files that an
//! operator would write.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use credence_runtime::fs::{ensure_dir, refuse_foreign_tmp, write_atomic};
use tempfile::TempDir;

/// The folder, and whether it outlives the run.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Removes the folder on drop unless the user named it.
    _fresh: Option<TempDir>,
}

impl Place {
    /// A fresh folder, or `keep`, which is made if it is missing. Mode 0700 either way.
    pub(super) fn new(keep: Option<&Path>) -> Result<Self> {
        let Some(keep) = keep else {
            let fresh = tempfile::Builder::new()
                .prefix("credence-dev-")
                .permissions(fs::Permissions::from_mode(0o700))
                .tempdir()
                .context("make a folder")?;
            return Ok(Self {
                path: fresh.path().to_owned(),
                _fresh: Some(fresh),
            });
        };
        let path = std::path::absolute(keep).context("resolve --dir")?;
        refuse_foreign_tmp(&path)?;
        ensure_dir(&path, 0o700)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o700))
            .with_context(|| format!("make {} private", path.display()))?;
        Ok(Self { path, _fresh: None })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn log(&self) -> PathBuf {
        self.path.join("dev.log")
    }

    pub(super) fn server_socket(&self) -> PathBuf {
        self.path.join("server.sock")
    }

    pub(super) fn agent_socket(&self) -> PathBuf {
        self.path.join("agent.sock")
    }

    pub(super) fn bundle(&self) -> PathBuf {
        self.path.join("bundle.pem")
    }

    pub(super) fn server_config(&self) -> PathBuf {
        self.path.join("server.conf")
    }

    pub(super) fn agent_config(&self) -> PathBuf {
        self.path.join("agent.conf")
    }

    /// Writes `server.conf`: any free port of 127.0.0.1.
    pub(super) fn write_server_config(&self, trust_domain: &str, ttl: &str) -> Result<()> {
        let dir = self.quotable()?;
        let text = format!(
            r#"server {{
    trust_domain = "{trust_domain}"
    bind_address = "127.0.0.1"
    bind_port = 0
    data_dir = "{dir}/server"
    socket_path = "{dir}/server.sock"
    default_x509_svid_ttl = "{ttl}"
}}

plugins {{
    DataStore "sql" {{
        plugin_data {{
            database_type = "sqlite3"
            connection_string = "{dir}/server/datastore.sqlite3"
        }}
    }}
    KeyManager "disk" {{
        plugin_data {{
            keys_path = "{dir}/server/keys.json"
        }}
    }}
}}
"#
        );
        Ok(write_atomic(&self.server_config(), text.as_bytes(), 0o600)?)
    }

    /// Writes `agent.conf` for a server on `port`.
    pub(super) fn write_agent_config(&self, trust_domain: &str, port: u16, token: &str) -> Result<()> {
        let dir = self.quotable()?;
        let text = format!(
            r#"agent {{
    trust_domain = "{trust_domain}"
    server_address = "127.0.0.1"
    server_port = {port}
    data_dir = "{dir}/agent"
    socket_path = "{dir}/agent.sock"
    trust_bundle_path = "{dir}/bundle.pem"
    join_token = "{token}"
}}

plugins {{
    NodeAttestor "join_token" {{
        plugin_data {{}}
    }}
    KeyManager "disk" {{
        plugin_data {{
            directory = "{dir}/agent"
        }}
    }}
    WorkloadAttestor "unix" {{
        plugin_data {{
            discover_workload_path = true
        }}
    }}
}}
"#
        );
        Ok(write_atomic(&self.agent_config(), text.as_bytes(), 0o600)?)
    }

    /// The folder as it may stand between quotes in a configuration file.
    fn quotable(&self) -> Result<&str> {
        match self.path.to_str() {
            Some(text) if !text.contains(['"', '\\', '\n', '$']) => Ok(text),
            _ => bail!(
                "{} can't stand in a configuration file: choose a plainer --dir",
                self.path.display()
            ),
        }
    }
}
