//! Plugins whose data is in a file of its own: read again at each SIGUSR1, as SPIRE does.
//!
//! Owns the comparison with what was read before. What a plugin does with new data is its own business. Invariant: data
//! that can't be read or doesn't make sense changes nothing.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use credence_crypto::digest::{hex, sha256};
use tokio::signal::unix::{SignalKind, signal};

use super::{Document, Fault, read_text};
use crate::supervisor::Supervisor;

/// What becomes of new data: the faults are logged, and the plugin goes on as before.
pub type Apply = Box<dyn Fn(&Document) -> Result<(), Vec<Fault>> + Send + Sync>;

/// One plugin with a data file.
pub struct Reconfigurable {
    kind: &'static str,
    name: &'static str,
    file: PathBuf,
    hash: String,
    apply: Apply,
}

impl Reconfigurable {
    /// A plugin that was configured by what is in `file` now.
    pub fn new(kind: &'static str, name: &'static str, file: &Path, apply: Apply) -> Self {
        Self {
            kind,
            name,
            file: file.to_owned(),
            hash: read_text(file).map(|text| hash_of(&text)).unwrap_or_default(),
            apply,
        }
    }

    /// Reads the file again and hands it to the plugin if it has changed. Returns whether it was.
    fn reconfigure(&mut self) -> bool {
        let read = read_text(&self.file).map_err(|fault| vec![fault]);
        let outcome = read.and_then(|text| {
            let hash = hash_of(&text);
            if hash != self.hash {
                let name = self.file.display().to_string();
                let document = Document::parse(&name, &text).map_err(|fault| vec![fault])?;
                (self.apply)(&document)?;
            }
            Ok(hash)
        });
        let (plugin_name, plugin_type) = (self.name, self.kind);
        match outcome {
            Ok(hash) if hash == self.hash => {
                tracing::info!(
                    hash,
                    plugin_name,
                    plugin_type,
                    subsystem_name = "catalog",
                    "Plugin not reconfigured since the config is unchanged"
                );
                false
            }
            Ok(new_hash) => {
                let old_hash = std::mem::replace(&mut self.hash, new_hash.clone());
                tracing::info!(
                    old_hash,
                    new_hash,
                    plugin_name,
                    plugin_type,
                    subsystem_name = "catalog",
                    "Plugin reconfigured"
                );
                true
            }
            Err(faults) => {
                let error = faults.iter().map(Fault::to_string).collect::<Vec<_>>().join("; ");
                tracing::error!(
                    error,
                    plugin_name,
                    plugin_type,
                    subsystem_name = "catalog",
                    "Failed to reconfigure plugin"
                );
                false
            }
        }
    }
}

/// Reconfigures plugins at each SIGUSR1 until shutdown. Without any, the signal does nothing, but doesn't kill either.
///
/// # Errors
/// If the kernel or the runtime refuses the handler.
pub fn reconfigure_on_signal(mut plugins: Vec<Reconfigurable>, supervisor: &Supervisor) -> io::Result<()> {
    let mut signals = signal(SignalKind::user_defined1())?;
    supervisor.spawn("plugin-reconfiguration", async move {
        while signals.recv().await.is_some() {
            for plugin in &mut plugins {
                plugin.reconfigure();
            }
        }
        Ok::<(), io::Error>(())
    });
    Ok(())
}

/// As short as SPIRE's in the log.
fn hash_of(text: &str) -> String {
    let mut hash = hex(&sha256(text.as_bytes()));
    hash.truncate(32);
    hash
}

impl fmt::Debug for Reconfigurable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reconfigurable")
            .field("kind", &self.kind)
            .field("name", &self.name)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::sync::{Arc, Mutex};

    use super::*;
    use crate::config::{Report, UnknownKeys};

    #[test]
    fn a_plugin_is_configured_anew_by_what_changed_and_makes_sense() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("plugin.conf");
        fs::write(&file, "size = 1").unwrap();
        let seen: Arc<Mutex<Vec<i64>>> = Arc::default();
        let sizes = seen.clone();
        let apply = move |document: &Document| {
            let report = Report::new();
            let root = document.root(&report);
            let size = root.integer("size");
            root.finish(UnknownKeys::Fatal);
            let (size, _) = report.finish("plugin.conf", size)?;
            sizes.lock().unwrap().push(size);
            Ok(())
        };
        let mut plugin = Reconfigurable::new("NodeAttestor", "x", &file, Box::new(apply));
        assert!(!plugin.reconfigure(), "nothing changed");
        for (text, taken) in [
            ("size = 2", true),
            ("size = [", false),
            ("sise = 3", false),
            ("size = 2", false),
            ("size = 4", true),
        ] {
            fs::write(&file, text).unwrap();
            assert_eq!(plugin.reconfigure(), taken, "{text}");
        }
        fs::remove_file(&file).unwrap();
        assert!(!plugin.reconfigure(), "the file is gone");
        assert_eq!(*seen.lock().unwrap(), [2, 4]);
    }
}
