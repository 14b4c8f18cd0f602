//! The configuration file of `run` and `validate`.

use std::fmt::Display;
use std::path::{Path, PathBuf, absolute};

use crate::Console;

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

/// Reads a configuration by `load` from the file that `-config` names, or else from `default`.
///
/// # Errors
/// The texts of all faults.
pub fn load_config<T, F: Display>(
    given: &str,
    default: &str,
    load: impl FnOnce(&Path) -> Result<T, Vec<F>>,
) -> Result<T, Vec<String>> {
    let path = config_file(given, default).map_err(|fault| vec![fault])?;
    load(&path).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

/// What `validate` says of the configuration of a `program`; returns the exit status.
pub fn say_validity<T>(
    program: &str,
    loaded: Result<(T, Vec<impl Display>), Vec<String>>,
    console: &mut Console<'_>,
) -> u8 {
    let (status, written) = match loaded {
        Ok((_, warnings)) => {
            for warning in warnings {
                // Nothing better can be done when the streams are gone.
                drop(writeln!(console.err, "Warning: {warning}"));
            }
            let written = writeln!(console.out, "SPIRE {program} configuration file is valid.");
            (0, written)
        }
        Err(faults) => (1, writeln!(console.err, "{}", invalid(program, &faults))),
    };
    if written.is_ok() { status } else { 1 }
}

fn invalid(program: &str, faults: &[String]) -> String {
    match faults {
        [fault] => format!("SPIRE {program} configuration file is invalid: {fault}"),
        faults => format!(
            "SPIRE {program} configuration file is invalid.\nValidation errors:\n\t{}",
            faults.join("\n\t")
        ),
    }
}
