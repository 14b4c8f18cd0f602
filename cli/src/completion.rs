//! `completion`: scripts that let a shell complete command lines, of all programs or of the one that was called.

use clap::builder::PossibleValuesParser;
use clap::{Arg, Command, Parser};
use credence_command::{CommandError, Console, completion::script, flags};

use crate::{dev, explain};

const SHELLS: [&str; 3] = ["bash", "zsh", "fish"];

/// A script that lets a shell complete command lines
#[derive(Debug, Parser)]
#[command(
    name = "completion",
    after_help = "Example:\n  source <(credence completion bash)\n  spire-server completion zsh > _spire-server\n  credence \
                  completion fish > ~/.config/fish/completions/credence.fish"
)]
struct Completion {
    /// bash, zsh or fish
    #[arg(value_name = "SHELL", value_parser = PossibleValuesParser::new(SHELLS))]
    shell: String,
}

/// Runs the command line (without its name) and returns the exit status. `called` is the program's file name.
pub(crate) fn main(called: &str, arguments: &[String], console: &mut Console<'_>) -> u8 {
    let program = format!("{called} completion");
    let Completion { shell } = match flags::parse(&program, arguments, console) {
        Ok(completion) => completion,
        Err(status) => return status,
    };
    let written = script(tree(called), called, &shell)
        .and_then(|script| write!(console.out, "{script}").map_err(CommandError::from));
    match written {
        Ok(()) => 0,
        Err(error) => {
            // Nothing better can be done when stderr is gone.
            drop(writeln!(console.err, "Error: {error}"));
            1
        }
    }
}

/// All that can be typed after the program's name.
fn tree(called: &str) -> Command {
    let own = Command::new("completion").arg(Arg::new("shell").value_parser(SHELLS));
    match called {
        "spire-server" | "credence-server" => credence_server::cli::command(called).subcommand(own),
        "spire-agent" | "credence-agent" => credence_agent::cli::command(called).subcommand(own),
        _ => Command::new("credence")
            .subcommand(credence_server::cli::command("credence server").name("server"))
            .subcommand(credence_agent::cli::command("credence agent").name("agent"))
            .subcommand(explain::command())
            .subcommand(dev::command().name("dev"))
            .subcommand(own),
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command as Process;

    use credence_command::help::commands;

    use super::*;

    fn run(called: &str, line: &[&str]) -> (u8, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            input: &mut std::io::empty(),
            out: &mut out,
            err: &mut err,
            terminal: None,
        };
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let status = main(called, &line, &mut console);
        (status, String::from_utf8(out).unwrap())
    }

    #[test]
    fn each_shell_gets_the_commands_of_the_program_that_was_called() {
        for shell in SHELLS {
            let (status, script) = run("credence", &[shell]);
            assert_eq!(status, 0);
            for word in ["getinfo", "spiffe-id", "trust-domain"] {
                assert!(script.contains(word), "{shell}: {word}");
            }
            // The script for fish knows the flags of two words deep, as under SPIRE's names.
            let deep = if shell == "fish" {
                "spire-server"
            } else {
                "credence"
            };
            assert!(run(deep, &[shell]).1.contains("x509SVIDTTL"), "{shell}");
            let (_, script) = run("spire-agent", &[shell]);
            assert!(script.contains("spire-agent") && script.contains("joinTokenFile"));
            assert!(!script.contains("localauthority"));
        }
        assert_eq!(run("credence", &["tcsh"]).0, 1);
        assert_eq!(run("credence", &[]).0, 1);
    }

    #[test]
    fn bash_completes_a_line() {
        let (_, script) = run("spire-server", &["bash"]);
        let ask = "COMP_WORDS=(spire-server entry cr); COMP_CWORD=2; _spire_server spire-server cr entry; echo ${COMPREPLY[@]}";
        assert!(script.contains("complete -F _spire_server -o bashdefault -o default spire-server\n"));
        let bash = Process::new("bash")
            .args(["-c", &format!("{script}\n{ask}")])
            .output();
        let Ok(bash) = bash else {
            return;
        };
        assert_eq!(String::from_utf8_lossy(&bash.stdout), "create\n", "{bash:?}");
    }

    #[test]
    fn each_command_of_each_program_has_an_example() {
        for (path, mut command) in commands(&tree("credence"))
            .into_iter()
            .map(|(path, found)| (path, found.clone()))
        {
            let help = command.render_long_help().to_string();
            assert!(path == "completion" || help.contains("Example"), "{path}: {help}");
        }
    }
}
