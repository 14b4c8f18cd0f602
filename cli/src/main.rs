//! The binary `credence`: hands its command line to the program that is asked for.

mod completion;
mod dev;
mod explain;
mod program;

use std::{env, io, process::ExitCode};

use credence_command::Console;

fn main() -> ExitCode {
    let mut arguments = env::args_os().map(|argument| argument.to_string_lossy().into_owned());
    let name = arguments.next().unwrap_or_default();
    let arguments: Vec<String> = arguments.collect();
    let mut console = Console {
        input: &mut io::stdin(),
        out: &mut io::stdout(),
        err: &mut io::stderr(),
        terminal: terminal_size::terminal_size_of(io::stdout()).map(|(width, _)| width.0),
    };
    ExitCode::from(program::run(&name, &arguments, &mut console))
}
