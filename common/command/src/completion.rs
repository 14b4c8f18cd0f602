//! Scripts that let a shell complete a program's command line.

use clap::Command;
use clap_complete::{Generator, Shell};

use crate::CommandError;

/// The script for a shell: `bash`, `zsh` or `fish`. `program` is the name that is typed.
pub fn script(mut command: Command, program: &str, shell: &str) -> Result<String, CommandError> {
    let shell = match shell {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        "fish" => Shell::Fish,
        other => {
            return Err(CommandError::new(format!(
                "no completion for shell {other:?}: it must be bash, zsh or fish"
            )));
        }
    };
    // The script for bash finds no command of a program with a hyphen in its name; so only its last lines get one.
    let plain = match shell {
        Shell::Bash => program.replace('-', "_"),
        _ => program.to_owned(),
    };
    command.set_bin_name(&plain);
    command.build();
    let mut script = Vec::new();
    shell.try_generate(&command, &mut script)?;
    let script = String::from_utf8(script).map_err(|error| CommandError::chain(&error))?;
    let (own, wanted) = (
        format!(" -o default {plain}\n"),
        format!(" -o default {program}\n"),
    );
    Ok(script.replace(&own, &wanted))
}
