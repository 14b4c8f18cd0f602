//! Help that teaches: the help of a command ends with lines that can be typed as they stand.
//!
//! Invariant: each command has such a line, and each line is one that its command takes. Tests of the programs see to it.

use clap::Command;

/// A command, without the program's name, and what may follow it. A command may have several.
pub type Example = (&'static str, &'static str);

/// Puts the examples under the help of their commands, as `program` is called.
pub fn teach(command: Command, program: &str, examples: &[Example]) -> Command {
    below(command, "", program, examples)
}

fn below(command: Command, path: &str, program: &str, examples: &[Example]) -> Command {
    let mut lines = String::new();
    for (_, flags) in examples.iter().filter(|(of, _)| *of == path && !path.is_empty()) {
        let line = format!("{program} {path} {flags}");
        lines.push_str("\n  ");
        lines.push_str(line.trim_end());
    }
    let command = match lines.as_str() {
        "" => command,
        lines => command.after_help(format!("Example:{lines}")),
    };
    command.mut_subcommands(|sub| {
        let path = format!("{path} {}", sub.get_name());
        below(sub, path.trim_start(), program, examples)
    })
}

/// All commands that do something, by the words that call them; groups of commands are not among them.
pub fn commands(program: &Command) -> Vec<(String, &Command)> {
    fn walk<'a>(command: &'a Command, path: &str, found: &mut Vec<(String, &'a Command)>) {
        for sub in command.get_subcommands() {
            let path = format!("{path} {}", sub.get_name());
            let path = path.trim_start();
            if !sub.is_subcommand_required_set() {
                found.push((path.to_owned(), sub));
            }
            walk(sub, path, found);
        }
    }
    let mut found = Vec::new();
    walk(program, "", &mut found);
    found
}
