//! The configuration file of `run` and `validate`.

use std::path::{Path, PathBuf, absolute};

/// The file that `-config` names, or else `default`.
///
/// # Errors
/// SPIRE's text, if there is no such file.
pub fn config_file(given: &str, default: &str) -> Result<PathBuf, String> {
    let path = Path::new(if given.is_empty() { default } else { given });
    if path.exists() {
        return Ok(path.to_owned());
    }
    let path = absolute(path).unwrap_or_else(|_| path.to_owned());
    let path = path.display();
    Err(format!(
        "could not find config file {path}: please use the -config flag"
    ))
}
