//! Which program a command line is for.
//!
//! Linked under the names of SPIRE's programs, or of ours, the binary is that program; else its first word says which.

use std::path::Path;

use credence_command::{Console, flags::UNKNOWN_COMMAND};
use credence_runtime::VERSION;

use crate::completion;

const USAGE: &str = "\
Usage: credence <PROGRAM>

Programs:
  server  The server of a trust domain, and its administration
  agent   The agent of a node, and what workloads can ask it
  explain Why a workload has no identity, and what to do about it
  dev     A trust domain on this machine in one command, to try or to test with

Commands:
  completion  A script that lets bash, zsh or fish complete command lines

Options:
  -h, --help     Print help
  -v, --version  Print version
";

/// Runs the program and returns its exit status. `called` is the path the binary was called by.
pub(crate) fn run(called: &str, arguments: &[String], console: &mut Console<'_>) -> u8 {
    let name = Path::new(called).file_name().and_then(|name| name.to_str());
    if let (Some(name), [word, rest @ ..]) = (name, arguments)
        && word == "completion"
    {
        return completion::main(name, rest, console);
    }
    match name {
        Some(name @ ("credence-server" | "spire-server")) => {
            return credence_server::cli::main(name, arguments, console);
        }
        Some(name @ ("credence-agent" | "spire-agent")) => {
            return credence_agent::cli::main(name, arguments, console);
        }
        _ => {}
    }
    let (word, rest) = match arguments.split_first() {
        Some((word, rest)) => (word.as_str(), rest),
        None => ("", arguments),
    };
    match word {
        "server" => credence_server::cli::main("credence server", rest, console),
        "explain" => crate::explain::main(rest, console),
        "dev" => crate::dev::main(called, rest, console),
        "agent" => credence_agent::cli::main("credence agent", rest, console),
        "-h" | "-help" | "--help" => answer(console, USAGE),
        "-v" | "-version" | "--version" => answer(console, &format!("{VERSION}\n")),
        _ => {
            // Nothing better can be done when stderr is gone.
            drop(write!(console.err, "{USAGE}"));
            UNKNOWN_COMMAND
        }
    }
}

fn answer(console: &mut Console<'_>, text: &str) -> u8 {
    match write!(console.out, "{text}") {
        Ok(()) => 0,
        Err(_) => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(name: &str, line: &[&str]) -> (u8, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut console = Console {
            input: &mut std::io::empty(),
            out: &mut out,
            err: &mut err,
            terminal: None,
        };
        let line: Vec<String> = line.iter().map(|word| (*word).to_owned()).collect();
        let status = run(name, &line, &mut console);
        (status, String::from_utf8(out).unwrap())
    }

    #[test]
    fn the_name_or_the_first_word_says_which_program() {
        for (name, line) in [
            ("/opt/spire/bin/spire-server", &["token", "generate", "-h"][..]),
            ("credence-server", &["token", "generate", "-h"]),
            ("./credence", &["server", "token", "generate", "-h"]),
        ] {
            let (status, out) = status(name, line);
            assert_eq!(status, 0, "{name}");
            assert!(
                out.contains("Usage: ") && out.contains(" token generate "),
                "{out}"
            );
        }
        for (name, line) in [
            ("spire-agent", &["api", "watch", "-h"][..]),
            ("x", &["agent", "api", "watch", "-h"]),
        ] {
            let (status, out) = status(name, line);
            assert_eq!(status, 0, "{name}");
            assert!(out.contains(" api watch "), "{out}");
        }
    }

    #[test]
    fn versions_stand_alone() {
        for (name, line) in [
            ("spire-server", &["--version"][..]),
            ("spire-agent", &["-version"]),
            ("credence", &["server", "--version"]),
            ("credence", &["-v"]),
        ] {
            let version = format!("{VERSION}\n");
            assert_eq!(status(name, line), (0, version), "{name} {line:?}");
        }
    }

    #[test]
    fn an_unknown_word_or_none_is_127() {
        for (name, line) in [
            ("credence", &[][..]),
            ("credence", &["nope"]),
            ("spire-server", &["server"]),
            ("spire-agent", &[]),
        ] {
            assert_eq!(status(name, line).0, UNKNOWN_COMMAND, "{name} {line:?}");
        }
    }
}
