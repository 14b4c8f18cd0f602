//! Command lines as Go's `flag` package takes them, read by clap.
//!
//! Go takes `-name value`, `-name=value` and both with two dashes; a boolean flag takes a value only after `=`; a flag
//! given twice counts the last time. [`parse`] writes such a line the way clap wants it.
//!
//! Two habits of Go's would lose what the user asked for. `-admin true` leaves `true` as an argument, and everything
//! after it unread: here the `true` is dropped and reading goes on. `-admin false` means true there: here it is
//! refused.

use std::any::TypeId;

use clap::{
    ArgAction, Command, CommandFactory, FromArgMatches, Parser,
    error::{Error, ErrorKind},
};

use crate::Console;

/// Exit status of a command line that cannot be read.
pub const USAGE: u8 = 1;
/// Exit status where the first word is no command, or there is none.
pub const UNKNOWN_COMMAND: u8 = 127;

/// Reads `arguments` (without the program's name) as `T`, shown to the user as `program`.
///
/// # Errors
/// The exit status, after help, version or the fault has been written.
pub fn parse<T: Parser>(program: &str, arguments: &[String], console: &mut Console<'_>) -> Result<T, u8> {
    parse_as(prepare(T::command()), program, arguments, console)
}

/// As [`parse`], by a `command` that was made of `T` by [`command`], and changed in what it says only.
pub fn parse_as<T: FromArgMatches>(
    command: Command,
    program: &str,
    arguments: &[String],
    console: &mut Console<'_>,
) -> Result<T, u8> {
    let command = command.bin_name(program);
    let line = match rewrite(&command, arguments) {
        Ok(line) => line,
        Err(fault) => return Err(tell(console, &fault)),
    };
    for stray in &line.stray {
        let (name, out) = (stray.as_str(), &mut *console.err);
        // Nothing better can be done when stderr is gone.
        drop(writeln!(out, "Warning: argument {name:?} is ignored"));
    }
    let version = command.get_version().unwrap_or_default().to_owned();
    let arguments = std::iter::once(program.to_owned()).chain(line.words.iter().cloned());
    let matches = command.try_get_matches_from(arguments);
    matches
        .and_then(|matches| T::from_arg_matches(&matches))
        .map_err(|error| explain(&error, &version, line.in_command, console))
}

fn tell(console: &mut Console<'_>, fault: &str) -> u8 {
    drop(writeln!(console.err, "Error: {fault}"));
    USAGE
}

fn explain(error: &Error, version: &str, in_command: bool, console: &mut Console<'_>) -> u8 {
    let (text, status) = match error.kind() {
        ErrorKind::DisplayVersion => (format!("{version}\n"), 0),
        ErrorKind::DisplayHelp => (error.render().to_string(), 0),
        // A group that lacks its command is a fault of use; only the program itself answers 127.
        _ if in_command => (error.render().to_string(), USAGE),
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
        | ErrorKind::InvalidSubcommand
        | ErrorKind::MissingSubcommand => (error.render().to_string(), UNKNOWN_COMMAND),
        _ => (error.render().to_string(), USAGE),
    };
    let stream = if status == 0 {
        &mut console.out
    } else {
        &mut console.err
    };
    drop(write!(stream, "{text}"));
    status
}

/// The command line of `T` with Go's rules, as help, completion and tests look at it.
pub fn command<T: CommandFactory>() -> Command {
    prepare(T::command())
}

/// Gives clap Go's rules: the last of a repeated flag counts, and booleans take a value.
fn prepare(command: Command) -> Command {
    command
        .args_override_self(true)
        .disable_help_subcommand(true)
        .mut_args(|argument| match argument.get_action() {
            ArgAction::SetTrue => argument
                .action(ArgAction::Set)
                .num_args(0..=1)
                .require_equals(true)
                .value_name("BOOL")
                .default_missing_value("true")
                .default_value("false")
                .hide_default_value(true),
            _ => argument,
        })
        .mut_subcommands(prepare)
}

/// A line as clap wants it.
#[derive(Debug, Default, Eq, PartialEq)]
struct Line {
    words: Vec<String>,
    /// Arguments no command takes. Go's programs don't look at them.
    stray: Vec<String>,
    /// Whether the first word was a command.
    in_command: bool,
}

fn rewrite(command: &Command, arguments: &[String]) -> Result<Line, String> {
    let mut command = command;
    let mut line = Line::default();
    let mut positional = 0;
    let mut rest = arguments.iter().peekable();
    while let Some(word) = rest.next() {
        let Some((name, value)) = split(word) else {
            if let Some(subcommand) = command.find_subcommand(word) {
                command = subcommand;
                line.in_command = true;
                line.words.push(word.clone());
            } else if takes_arguments(command) > positional {
                positional += 1;
                line.words.push(word.clone());
            } else if command.has_subcommands() || word == "--" {
                // Clap says what is wrong with it, or takes what follows as it is.
                line.words.push(word.clone());
                line.words.extend(rest.by_ref().cloned());
            } else {
                line.stray.push(word.clone());
            }
            continue;
        };
        let flag = command.get_arguments().find(|flag| {
            let aliases = flag.get_all_aliases().unwrap_or_default();
            flag.get_long() == Some(name) || aliases.contains(&name)
        });
        match (flag, value) {
            (None, value) => {
                let name = match name {
                    "h" => "help",
                    "v" => "version",
                    name => name,
                };
                let value = value.map(|value| format!("={value}")).unwrap_or_default();
                line.words.push(format!("--{name}{value}"));
            }
            (Some(flag), value) if flag.get_value_parser().type_id() == TypeId::of::<bool>() => {
                let value = match value {
                    Some(value) => boolean(name, value)?,
                    None => {
                        bare_boolean(name, rest.peek().map(|next| next.as_str()))?;
                        rest.next_if(|next| *next == "true");
                        true
                    }
                };
                line.words.push(format!("--{name}={value}"));
            }
            (Some(_), Some(value)) => line.words.push(format!("--{name}={value}")),
            (Some(_), None) => {
                let value = rest
                    .next()
                    .ok_or_else(|| format!("flag needs an argument: -{name}"))?;
                line.words.push(format!("--{name}={value}"));
            }
        }
    }
    Ok(line)
}

/// How many arguments a command takes that stand before a `--`.
fn takes_arguments(command: &Command) -> usize {
    command.get_positionals().filter(|one| !one.is_last_set()).count()
}

/// The name and value of a flag; nothing for an argument, `-` and `--`.
fn split(word: &str) -> Option<(&str, Option<&str>)> {
    let name = word.strip_prefix("--").or_else(|| word.strip_prefix('-'))?;
    match name.split_once('=') {
        _ if name.is_empty() => None,
        Some((name, value)) => Some((name, Some(value))),
        None => Some((name, None)),
    }
}

fn boolean(name: &str, value: &str) -> Result<bool, String> {
    match value {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("invalid boolean value {value:?} for -{name}")),
    }
}

fn bare_boolean(name: &str, next: Option<&str>) -> Result<(), String> {
    match next {
        Some("false") => Err(format!(
            "write -{name}=false: with a space the value would not be read"
        )),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
